/** `npm run linux [-- options of iommulab run]`: makes the Linux guest and boots it on this terminal. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { makeLinux } from './make.ts';
import { NoPackages } from './packages.ts';

const say = (line: string): void => void process.stderr.write(`${line}\n`);
try {
  const { kernel, initrd, version } = makeLinux(say);
  const options = ['--kernel', kernel, '--initrd', initrd, '--memory', '512M', '--append', 'quiet', '--nic', 'hub'];
  say(`booting Linux ${version} (Ctrl-A x leaves)`);
  const main = fileURLToPath(new URL('../../dist/iommulab.js', import.meta.url));
  const { status } = spawnSync(process.execPath, [main, 'run', ...options, ...process.argv.slice(2)], {
    stdio: 'inherit',
  });
  process.exitCode = status ?? 1;
} catch (error) {
  if (!(error instanceof NoPackages)) throw error;
  say(`no kernel through apt: ${error.message}`);
  say('Pass your own to: iommulab run --kernel IMAGE --initrd FILE --append "quiet"');
  say('  IMAGE  Linux 6.13 or later for riscv64 (Debian: /usr/lib/modules/*/vmlinuz of linux-binary-…-riscv64)');
  say('  FILE   a cpio archive with /init and the modules nvme, e1000e and what they depend on');
  process.exitCode = 6;
}
