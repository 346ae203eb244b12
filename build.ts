/**
 * Bundles the command line into dist/iommulab.js: `tsx build.ts`. The bundle finds the guests in guest-images/ beside
 * its folder, as the sources do.
 */
import { chmodSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

/** Writes the bundle; it runs on Node alone. */
export async function bundle(outfile: string): Promise<void> {
  await build({
    entryPoints: [fileURLToPath(new URL('cmd/main.ts', import.meta.url))],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20.19',
    minifySyntax: true,
    minifyWhitespace: true,
    legalComments: 'none',
    logLevel: 'warning',
    // Our CommonJS dependencies ask for Node's modules with `require`, which an ES module does not have.
    banner: {
      js: "import{createRequire as __createRequire}from'node:module';const require=__createRequire(import.meta.url);",
    },
  });
  chmodSync(outfile, 0o755);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const outfile = 'dist/iommulab.js';
  await bundle(outfile);
  process.stdout.write(`${outfile}  ${(statSync(outfile).size / 1024).toFixed(0)} KiB\n`);
}
