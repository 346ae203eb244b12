/**
 * Bundles the command line into dist/iommulab.js: `tsx build.ts`. The bundle finds the guests in guest-images/ beside
 * dist/, as the sources do.
 */
import { chmodSync, statSync } from 'node:fs';
import { build } from 'esbuild';

const outfile = 'dist/iommulab.js';

await build({
  entryPoints: ['cmd/main.ts'],
  outfile,
  bundle: true,
  platform: 'node',
  format: 'esm',
  target: 'node20.19',
  minifySyntax: true,
  minifyWhitespace: true,
  legalComments: 'none',
  // Our CommonJS dependencies ask for Node's modules with `require`, which an ES module does not have.
  banner: {
    js: "import{createRequire as __createRequire}from'node:module';const require=__createRequire(import.meta.url);",
  },
});
chmodSync(outfile, 0o755);
process.stdout.write(`${outfile}  ${(statSync(outfile).size / 1024).toFixed(0)} KiB\n`);
