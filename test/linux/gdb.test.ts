/** GDB itself against `run --gdb`. */
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { threadId } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { cachedLinux } from '#guest-images/linux/make';
import { bundle } from '../../build.ts';
import { Guest } from './guest.ts';

const hasGdb = spawnSync('gdb-multiarch', ['--version']).status === 0;
const file = join('.cache', `iommulab-gdb-${threadId}.js`);

/** Runs GDB's commands against a guest that waits for it; what GDB prints, and the guest's end. */
async function debug(
  args: readonly string[],
  commands: readonly string[],
): Promise<{ gdb: string; code: number | null }> {
  mkdirSync('.cache', { recursive: true });
  await bundle('cmd/main.ts', file);
  const child = spawn(process.execPath, [file, 'run', ...args, '--gdb', '0', '--wait'], {
    env: { ...process.env, NO_COLOR: '1' },
  });
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
  try {
    const port = await new Promise<string>((resolve, reject) => {
      let said = '';
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        said += text;
        const found = /listening on \S+:(\d+)/.exec(said)?.[1];
        if (found !== undefined) resolve(found);
      });
      child.on('close', () => reject(new Error(said)));
    });
    const set = [
      'set pagination off',
      'set confirm off',
      'set architecture riscv:rv64',
      `target remote 127.0.0.1:${port}`,
    ];
    const gdb = spawn('gdb-multiarch', ['-nx', '-batch', ...[...set, ...commands].flatMap((line) => ['-ex', line])]);
    let text = '';
    gdb.stdout.setEncoding('utf8').on('data', (piece: string) => (text += piece));
    gdb.stderr.setEncoding('utf8').on('data', (piece: string) => (text += piece));
    await new Promise((resolve) => gdb.on('close', resolve));
    return { gdb: text, code: await ended };
  } finally {
    child.kill('SIGKILL');
  }
}

const timeout = 120_000;
describe.skipIf(!hasGdb)('gdb-multiarch (skipped where it is not installed)', () => {
  it('threads, registers, steps, memory, breakpoints, CSRs, monitor', { timeout }, async () => {
    const { gdb, code } = await debug(['smp', '--smp', '2'], [
      'info threads', 'x/i $pc', 'stepi', 'printf "pc %lx priv %d satp %lx\\n", $pc, $priv, $satp',
      'hbreak *0x80200008', 'continue', 'set var *(int*)0x84000000 = 0x1234', 'x/wx 0x84000000',
      'monitor memory-map', 'delete', 'continue',
    ]); // prettier-ignore
    expect(gdb).toContain('Thread 2 (hart 1)');
    expect(gdb).toMatch(/=> 0x80200000:\s+auipc/);
    expect(gdb).toContain('pc 80200004 priv 1 satp 0');
    expect(gdb).toMatch(/Thread 1 hit Breakpoint 1, 0x0*80200008/);
    expect(gdb).toMatch(/0x84000000:\s+0x00001234/);
    expect(gdb).toContain('supervisor interrupt files');
    expect(gdb).toContain('[Inferior 1 (Remote target) exited normally]');
    expect(code).toBe(0);
  });

  it('a hardware watchpoint stops where the value changes', { timeout }, async () => {
    const { gdb } = await debug(['smp', '--smp', '2'], [
      'stepi 8', 'set $at = $sp - 8', 'watch *(long*)$at', 'print $at', 'watch -l *(long*)$at', 'continue', 'kill',
    ]); // prettier-ignore
    expect(gdb).toContain('Hardware watchpoint');
    expect(gdb).toMatch(/Old value = .*\nNew value = /);
  });

  it('detach lets the guest go on', { timeout }, async () => {
    const { code } = await debug(['hello'], ['hbreak *0x80200010', 'detach']);
    expect(code).toBe(0);
  });

  const image = process.env['IOMMULAB_LINUX_IMAGE'];
  const linux = cachedLinux();
  it.skipIf(image === undefined || !linux)(
    'Linux: a breakpoint at an address that is mapped only later (needs IOMMULAB_LINUX_IMAGE and .cache/linux)',
    { timeout },
    async () => {
      const guest = await Guest.start(['--kernel', image!, '--initrd', linux!.plainInitrd, '--append', 'quiet']);
      await guest.ready();
      const found = /^([0-9a-f]{16}) T start_kernel$/m.exec(await guest.run('grep start_kernel /proc/kallsyms'));
      expect(await guest.leave()).toBe(0);
      const address = found![1]!;
      const { gdb } = await debug(
        ['--kernel', image!, '--append', 'quiet', '--smp', '2'],
        [`hbreak *0x${address}`, 'continue', 'printf "satp mode %d priv %d\\n", ($satp >> 60) & 15, $priv', 'kill'],
      );
      expect(gdb).toContain(`Thread 1 hit Breakpoint 1, 0x${address}`);
      expect(gdb).toContain('satp mode 10 priv 1');
    },
  );
});
