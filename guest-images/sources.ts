/** The C, assembly and linker sources, as one digest: tells without a compiler that an image was not rebuilt. */
import { createHash } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = fileURLToPath(new URL('.', import.meta.url));

/** SHA-256, lower-case hexadecimal, over the names and contents of all files under `lib/` and `programs/`, in order. */
export function sourcesDigest(): string {
  const hash = createHash('sha256');
  for (const folder of ['lib', 'programs']) {
    const files = readdirSync(join(here, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name))
      .map((path) => path.slice(here.length).replaceAll('\\', '/'))
      .sort();
    for (const file of files) hash.update(`${file}\0`).update(readFileSync(join(here, file)));
  }
  return hash.digest('hex');
}
