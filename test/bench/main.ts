/** `npm run bench`: the measurements of `iommulab bench`, from the sources. `--json` for data. */
import { bench } from '#cmd/bench-cases';

const only = process.argv.find((argument) => argument.startsWith('--only='))?.slice('--only='.length);
await bench({ only, ...(process.argv.includes('--json') ? { json: true as const } : {}) });
