/**
 * Linux here and on QEMU's `virt`, in turn: its boot, and NVMe and network inside it. The guest is what `npm run linux`
 * leaves in `.cache/linux`, and the kernel that IOMMULAB_LINUX_IMAGE names, whose DMA is translated.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Spent, WatchedGuest } from './bench-console.ts';
import { shareOf } from './bench-profile.ts';
import { linuxRecord, noLinux } from './linux-record.ts';
import { median } from './median.ts';

interface Measured {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  readonly target?: string;
}
interface LinuxGuest {
  readonly name: string;
  readonly kernel: string;
  readonly initrd: string;
  /** QEMU 7.2 has no device tree that the small kernel reads: it names extensions in `riscv,isa` only. */
  readonly onQemu: boolean;
}

const rounds = 3;
const memoryMiB = 512;
const diskMiB = 128;
const append = 'quiet';
const booted = 'init: Linux';
const qemu = 'qemu-system-riscv64';
const downloadBytes = 32 << 20;

const has = (command: string): boolean => spawnSync(command, ['--version'], { stdio: 'ignore' }).status === 0;

/** The guests that are there, and what is not. */
function findGuests(say: (line: string) => void): LinuxGuest[] {
  const made = linuxRecord();
  if (!made) {
    say(`linux: skipped, ${noLinux}`);
    return [];
  }
  const debian = { name: `Debian ${made.version}`, kernel: made.kernel, initrd: made.initrd, onQemu: has(qemu) };
  if (!debian.onQemu) say(`linux: ${qemu} is not installed: nothing beside it`);
  const image = process.env['IOMMULAB_LINUX_IMAGE'];
  if (image === undefined) say('linux: IOMMULAB_LINUX_IMAGE is unset: only a kernel with identity domains');
  return [
    debian,
    ...(image === undefined ? [] : [{ name: 'DMA domains', kernel: image, initrd: made.plainInitrd, onQemu: false }]),
  ];
}

const common = ({ kernel, initrd }: LinuxGuest): string[] => ['--kernel', kernel, '--initrd', initrd];
/** This program again, in the way in which it was started. */
const ours = (guest: LinuxGuest, more: readonly string[], node: readonly string[] = []): WatchedGuest =>
  new WatchedGuest(process.execPath, [
    ...process.execArgv, ...node, process.argv[1]!, 'run', ...common(guest), '--append', append, '--memory', `${memoryMiB}M`, ...more,
  ]); // prettier-ignore
const theirs = ({ kernel, initrd }: LinuxGuest, more: readonly string[]): WatchedGuest =>
  new WatchedGuest(qemu, [
    '-M', 'virt', '-smp', '1', '-m', `${memoryMiB}M`, '-display', 'none', '-serial', 'stdio', '-monitor', 'none',
    '-no-reboot', '-kernel', kernel, '-initrd', initrd, '-append', append, ...more,
  ]); // prettier-ignore

/** One hart, no devices: seconds until `/init` speaks. */
async function bootOf(guest: WatchedGuest): Promise<Spent> {
  try {
    await guest.until(booted);
    return guest.spent();
  } finally {
    await guest.end();
  }
}

async function boots(guest: LinuxGuest): Promise<Measured[]> {
  const name = `linux: boot ${guest.name}`;
  const pairs: { readonly ours: Spent; readonly theirs: Spent | undefined }[] = [];
  for (let i = 0; i < rounds; i++)
    pairs.push({
      ours: await bootOf(ours(guest, [])),
      theirs: guest.onQemu ? await bootOf(theirs(guest, [])) : undefined,
    });
  const middle = (of: (pair: (typeof pairs)[number]) => number): number => median(pairs.map(of));
  const rows: Measured[] = [
    { name, value: middle(({ ours }) => ours.wall), unit: 's' },
    { name, value: middle(({ ours }) => ours.cpu), unit: 's of CPU time' },
  ];
  if (guest.onQemu)
    rows.push(
      { name: `${name}, QEMU`, value: middle(({ theirs }) => theirs!.wall), unit: 's' },
      { name: `${name}, QEMU`, value: middle(({ theirs }) => theirs!.cpu), unit: 's of CPU time' },
      { name, value: middle(({ ours, theirs }) => ours.wall / theirs!.wall), unit: '× QEMU', target: '≤ 1.5' },
      { name, value: middle(({ ours, theirs }) => ours.cpu / theirs!.cpu), unit: '× QEMU, CPU time' },
    );
  return [...rows, ...(await bootShares(guest, name))];
}

async function bootShares(guest: LinuxGuest, name: string): Promise<Measured[]> {
  const folder = mkdtempSync(join(tmpdir(), 'iommulab-bench-'));
  try {
    const run = ours(guest, [], ['--cpu-prof', '--cpu-prof-dir', folder]);
    await run.until(booted);
    const { cpu } = run.spent();
    await run.end('SIGINT');
    // What a program in one piece cannot tell apart is no row.
    const shares = Object.entries(shareOf(folder)).filter(([, seconds]) => seconds > 0);
    const main = shares.reduce((sum, [, seconds]) => sum + seconds, 0);
    return [
      ...shares.map(([what, seconds]) => ({ name: `${name}: ${what}`, value: seconds, unit: 's' })),
      { name: `${name}: other threads`, value: Math.max(0, cpu - main), unit: 's of CPU time' },
    ];
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** What is measured in one boot of a guest. */
interface Place {
  readonly name: string;
  readonly start: (disk: string, wire: string | undefined) => WatchedGuest;
}

const places = (guest: LinuxGuest): Place[] => {
  const here = (name: string, viommu: string): Place => ({
    name,
    start: (disk, wire) =>
      ours(guest, [
        '--disk', disk, '--viommu', viommu, ...(wire === undefined ? [] : ['--nic', `stream,remote=${wire}`, '--realtime']),
      ]), // prettier-ignore
  });
  const there: Place = {
    name: 'QEMU without IOMMU',
    start: (disk, wire) =>
      theirs(guest, [
        '-drive', `file=${disk},if=none,format=raw,id=d`, '-device', 'nvme,drive=d,serial=d',
        ...(wire === undefined ? [] : ['-netdev', `stream,id=n,server=off,addr.type=unix,addr.path=${wire}`, '-device', 'e1000e,netdev=n,romfile=']),
      ]), // prettier-ignore
  };
  return [here('with IOMMU', 'riscv'), here('without IOMMU', 'none'), ...(guest.onQemu ? [there] : [])];
};

const reads = [
  { block: '4k', count: 4096, bytes: 4096 },
  { block: '1M', count: diskMiB, bytes: 1 << 20 },
] as const;

/** O_DIRECT, one command at a time as dd gives them; seen from outside. */
async function storage(guest: LinuxGuest, folder: string): Promise<Measured[]> {
  const rows: Measured[] = [];
  for (const { name, start } of places(guest)) {
    const disk = join(folder, 'disk.img');
    writeFileSync(disk, new Uint8Array(diskMiB << 20));
    const run = start(disk, undefined);
    try {
      for (const { block, count, bytes } of reads) {
        const command = `dd if=/dev/nvme0n1 of=/dev/null bs=${block} count=${count} iflag=direct 2>/dev/null`;
        await run.run(command);
        const times = [];
        for (let i = 0; i < rounds; i++) times.push(await run.run(command));
        const rate = (seconds: number): number => (count * bytes) / seconds / 1e6;
        const row = `linux: ${guest.name}, NVMe read ${block} ${name}`;
        rows.push(
          { name: row, value: rate(median(times.map(({ wall }) => wall))), unit: 'MB/s' },
          { name: row, value: rate(median(times.map(({ cpu }) => cpu))), unit: 'MB/s of CPU time' },
        );
      }
      if (name === 'with IOMMU') {
        await run.run('dd if=/dev/zero of=/tmp/fill bs=1M count=400 2>/dev/null');
        const beyond = run.peakBytes() / 2 ** 20 - memoryMiB;
        rows.push({ name: `linux: ${guest.name}, memory beyond guest RAM`, value: beyond, unit: 'MiB', target: '≤ 500' }); // prettier-ignore
      }
    } finally {
      await run.end();
    }
  }
  return rows;
}

/** A download over passt from this process. */
async function network(guest: LinuxGuest, folder: string, say: (line: string) => void): Promise<Measured[]> {
  if (!has('passt')) {
    say('linux: passt is not installed: no network throughput');
    return [];
  }
  const content = Buffer.alloc(downloadBytes);
  const server = createServer((_, response) => response.end(content));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  // passt, where root starts it, becomes nobody before it makes its socket.
  chmodSync(folder, 0o777);
  const rows: Measured[] = [];
  try {
    for (const { name, start } of places(guest)) {
      const wire = join(folder, `wire-${name.replaceAll(' ', '-')}`);
      const addresses = ['-a', '10.0.2.15', '-n', '255.255.255.0', '-g', '10.0.2.2'];
      const passt: ChildProcess = spawn('passt', ['-q', '-f', '-4', '-1', ...addresses, '-s', wire], {
        stdio: 'ignore',
      });
      while (!existsSync(wire) && passt.exitCode === null) await new Promise((resolve) => setTimeout(resolve, 20));
      if (passt.exitCode !== null) {
        say('linux: passt does not start here: no network throughput');
        return [];
      }
      const disk = join(folder, 'disk.img');
      writeFileSync(disk, new Uint8Array(1 << 20));
      const run = start(disk, wire);
      try {
        await run.run('ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up; sleep 3');
        const times = [];
        for (let i = 0; i < rounds; i++)
          times.push(await run.run(`wget -q -O /dev/null http://10.0.2.2:${port}/ || echo failed`));
        const isWhole = times.every(({ said }) => !/^failed$/m.test(said));
        const row = `linux: ${guest.name}, download ${name}`;
        const rate = (seconds: number): number => (isWhole ? downloadBytes / seconds / 1e6 : NaN);
        rows.push(
          { name: row, value: rate(median(times.map(({ wall }) => wall))), unit: 'MB/s' },
          { name: row, value: rate(median(times.map(({ cpu }) => cpu))), unit: 'MB/s of CPU time' },
        );
      } finally {
        await run.end();
        passt.kill();
      }
    }
    return rows;
  } finally {
    server.close();
    server.closeAllConnections();
  }
}

/** Every measurement of one kind, for each kernel that is there. */
export const linuxRows = async (
  kind: 'boot' | 'storage' | 'network',
  say: (line: string) => void,
): Promise<Measured[]> => {
  const folder = mkdtempSync(join(tmpdir(), 'iommulab-bench-'));
  const rows: Measured[] = [];
  try {
    for (const guest of findGuests(say)) {
      if (kind === 'boot') rows.push(...(await boots(guest)));
      else if (kind === 'storage') rows.push(...(await storage(guest, folder)));
      else rows.push(...(await network(guest, folder, say)));
    }
    return rows;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
};
