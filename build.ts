/**
 * Builds what `npm start`, the tests and users of the package run: `tsx build.ts` bundles the command line and the
 * libraries into dist/; `tsx build.ts types` adds their declarations. Bundles find the guests in guest-images/ beside
 * dist/, as the sources do.
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = fileURLToPath(new URL('.', import.meta.url));
const typesFolder = 'dist/types';

/** Output file → what it is bundled from. Names are those of `bin` and `exports` in package.json. */
const bundles = {
  'dist/iommulab.js': 'cmd/main.ts',
  'dist/index.js': 'index.ts',
  'dist/iommufd.js': 'iommufd/index.ts',
} as const;

/** Writes one bundle; it runs on Node alone. */
export async function bundle(entry: string, outfile: string): Promise<void> {
  await build({
    entryPoints: [join(root, entry)],
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
}

/** Declarations with subpath imports (`#vmm/…`) made relative: those are private to a package. */
function declarations(): void {
  rmSync(join(root, typesFolder), { recursive: true, force: true });
  const options = [
    '--noEmit',
    'false',
    '--declaration',
    '--emitDeclarationOnly',
    '--outDir',
    typesFolder,
    '-p',
    'tsconfig.types.json',
  ];
  execFileSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), ...options], {
    cwd: root,
    stdio: 'inherit',
  });
  const files = readdirSync(join(root, typesFolder), { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.d.ts'),
  );
  for (const name of files) {
    const path = join(root, typesFolder, name);
    const text = readFileSync(path, 'utf8').replaceAll(/(['"])#([^'"]+)\1/g, (_, quote: string, target: string) => {
      const to = relative(dirname(name), `${target}.js`);
      return `${quote}${to.startsWith('.') ? to : `./${to}`}${quote}`;
    });
    writeFileSync(path, text.replaceAll(/(from ['"]\.[^'"]*)\.ts(['"])/g, '$1.js$2'));
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  if (process.argv[2] === 'types') declarations();
  else
    for (const [outfile, entry] of Object.entries(bundles)) {
      await bundle(entry, join(root, outfile));
      process.stdout.write(`${outfile}  ${(statSync(join(root, outfile)).size / 1024).toFixed(0)} KiB\n`);
    }
  if (process.argv[2] !== 'types') chmodSync(join(root, 'dist/iommulab.js'), 0o755);
}
