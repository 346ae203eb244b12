/** `iommulab bench`: how fast this machine is, here and now. Wall time, best of a few. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { iommu_destroy, iommu_ioas_alloc, iommu_ioas_map, iommu_ioas_unmap, iommufdUapi } from '#iommufd/uapi/iommufd';
import { Kernel } from '#iommufd/kernel/kernel';
import { invariant } from '#vmm/base/invariant';
import { formatCount } from '#vmm/record/bytes';
import { eventFilter as globFilter } from '#vmm/record/catalogue';
import { traceRates } from './bench-trace.ts';
import { translationRate } from './bench-translation.ts';
import { CommandError } from './exit.ts';
import { readMachine } from './options.ts';
import { printJson, stderr, stdout, table } from './output.ts';
import { prepare } from './prepare.ts';
import { runSession } from './session.ts';

interface Measured {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
}
interface Case {
  /** Covers every measurement whose name begins with it. */
  readonly name: string;
  readonly run: () => Measured[] | Promise<Measured[]>;
}

const diskBytes = 64 << 20;

/** Runs a benchmark guest; each `bench: event=end` line with the wall time since its begin. */
async function runGuest(
  image: string,
  append: string,
  disk: boolean,
): Promise<readonly (readonly [ReadonlyMap<string, string>, number])[]> {
  const folder = mkdtempSync(join(tmpdir(), 'iommulab-bench-'));
  try {
    const path = join(folder, 'disk.img');
    if (disk) writeFileSync(path, new Uint8Array(diskBytes));
    const config = readMachine({ timeout: ['300s'] }, { image, append, ...(disk ? { disks: [{ path }] } : {}) });
    const ended: (readonly [ReadonlyMap<string, string>, number])[] = [];
    const decoder = new TextDecoder();
    let line = '';
    let begin = 0;
    const session = await runSession(prepare(config), {
      unobserved: true,
      console: (bytes) => {
        const lines = (line + decoder.decode(bytes, { stream: true })).split('\n');
        line = lines.pop()!;
        for (const text of lines.filter((one) => one.startsWith('bench: '))) {
          const fields = new Map([...text.matchAll(/(\w+)=(\S+)/g)].map((match) => [match[1]!, match[2]!] as const));
          if (fields.get('event') === 'begin') begin = performance.now();
          else ended.push([fields, (performance.now() - begin) / 1000]);
        }
      },
    });
    if (session.ending !== 'passed')
      throw new CommandError('failed', `${image}: ${session.console.trimEnd().split('\n').at(-1) ?? session.ending}`);
    return ended;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Seconds a call takes, best of five rounds. */
function secondsEach(rounds: number, call: (index: number) => void): number {
  let best = Infinity;
  for (let round = 0; round < 5; round++) {
    const start = performance.now();
    for (let i = 0; i < rounds; i++) call(i);
    best = Math.min(best, (performance.now() - start) / 1000 / rounds);
  }
  return best;
}

/** An iommufd of its own, and a typed way to call it. */
function openKernel() {
  const kernel = new Kernel();
  const fd = kernel.open('/dev/iommu');
  const scratch = kernel.scratch(256);
  const call = (request: number): number => kernel.ioctl(fd, request, scratch.address);
  return { kernel, call, bytes: scratch.bytes };
}

function ioctlCosts(): Measured[] {
  const { call, bytes } = openKernel();
  const allocAndDestroy = secondsEach(20_000, () => {
    iommu_ioas_alloc.encodeInto(bytes, { size: iommu_ioas_alloc.size, flags: 0, out_ioas_id: 0 });
    invariant(call(iommufdUapi.IOMMU_IOAS_ALLOC) === 0, 'IOAS_ALLOC failed');
    const id = iommu_ioas_alloc.decode(bytes).out_ioas_id;
    iommu_destroy.encodeInto(bytes, { size: iommu_destroy.size, id });
    invariant(call(iommufdUapi.IOMMU_DESTROY) === 0, 'DESTROY failed');
  });
  iommu_destroy.encodeInto(bytes, { size: iommu_destroy.size, id: 1000 });
  const missing = secondsEach(200_000, () => void call(iommufdUapi.IOMMU_DESTROY));
  return [
    { name: 'ioctl: DESTROY of nothing', value: 1 / missing, unit: '/s' },
    { name: 'ioctl: IOAS_ALLOC + DESTROY', value: 2 / allocAndDestroy, unit: '/s' },
  ];
}

/** MAP and UNMAP of one page in an IOAS that holds `size` mappings already. */
function mapCost(size: number): Measured[] {
  const { kernel, call, bytes } = openKernel();
  const page = 4096n;
  const user = kernel.map({ bytes: 1 << 20 });
  iommu_ioas_alloc.encodeInto(bytes, { size: iommu_ioas_alloc.size, flags: 0, out_ioas_id: 0 });
  call(iommufdUapi.IOMMU_IOAS_ALLOC);
  const ioas_id = iommu_ioas_alloc.decode(bytes).out_ioas_id;
  const flags =
    iommufdUapi.IOMMU_IOAS_MAP_FIXED_IOVA | iommufdUapi.IOMMU_IOAS_MAP_READABLE | iommufdUapi.IOMMU_IOAS_MAP_WRITEABLE;
  const map = (iova: bigint): void => {
    iommu_ioas_map.encodeInto(bytes, {
      size: iommu_ioas_map.size,
      flags,
      ioas_id,
      user_va: BigInt(user),
      length: page,
      iova,
    });
    invariant(call(iommufdUapi.IOMMU_IOAS_MAP) === 0, 'IOAS_MAP failed');
  };
  const unmap = (iova: bigint): void => {
    iommu_ioas_unmap.encodeInto(bytes, { size: iommu_ioas_unmap.size, ioas_id, iova, length: page });
    invariant(call(iommufdUapi.IOMMU_IOAS_UNMAP) === 0, 'IOAS_UNMAP failed');
  };
  // Every other page, so that no two mappings touch.
  for (let i = 0; i < size; i++) map(BigInt(i) * 2n * page);
  const cost = secondsEach(2000, (i) => {
    const iova = (BigInt(i % Math.max(size, 1)) * 2n + 1n) * page;
    map(iova);
    unmap(iova);
  });
  return [{ name: `ioctl: IOAS_MAP + UNMAP 4K among ${formatCount(size)}`, value: 2 / cost, unit: '/s' }];
}

// prettier-ignore
const translations: readonly (readonly [string, number, boolean, boolean])[] = [
  ['IOTLB hit',           1,      true,  true],
  ['IOTLB hit',           1000,   true,  true],
  ['miss, first stage',   65_536, true,  false],
  ['miss, second stage',  65_536, false, true],
  ['miss, nested',        65_536, true,  true],
];

const cases: readonly Case[] = [
  {
    name: 'hart: integer loop',
    run: async () =>
      (await runGuest('bench-int', 'millions=400', false)).map(([fields, seconds]) => ({
        name: 'hart: integer loop',
        value: Number(fields.get('instructions')) / seconds / 1e6,
        unit: 'MIPS',
      })),
  },
  {
    name: 'nvme: read',
    run: async () =>
      (await runGuest('bench-nvme', 'mib=32', true)).flatMap(([fields, seconds]) => {
        const name = `nvme: read ${Number(fields.get('block')) / 1024}K depth ${fields.get('depth')} ${fields.get('mode')}`;
        return [
          { name, value: Number(fields.get('bytes')) / seconds / 1e6, unit: 'MB/s' },
          { name, value: Number(fields.get('commands')) / seconds, unit: 'IOPS' },
        ];
      }),
  },
  ...translations.map(([what, pages, first, second]) => {
    const name = `iommu: ${what}, ${formatCount(pages)} ${pages === 1 ? 'page' : 'pages'}`;
    return { name, run: () => [{ name, value: translationRate(pages, { first, second }), unit: '/s' }] };
  }),
  {
    name: 'trace: events',
    run: () =>
      Object.entries(traceRates(2_000_000)).map(([what, value]) => ({
        name: `trace: events ${what}`,
        value,
        unit: '/s',
      })),
  },
  { name: 'ioctl: DESTROY and IOAS_ALLOC', run: ioctlCosts },
  ...[0, 1000, 100_000].map((size) => ({ name: `ioctl: IOAS_MAP among ${size}`, run: () => mapCost(size) })),
];

const shown = (value: number): string => (value >= 100 ? formatCount(Math.round(value)) : value.toFixed(1));

/** Measures and prints. */
export async function bench(options: {
  readonly json?: true | undefined;
  readonly only?: string | undefined;
}): Promise<void> {
  const wants = globFilter([options.only ?? '*']);
  const chosen = cases.filter((one) => wants(one.name));
  if (chosen.length === 0)
    throw new CommandError(
      'usage',
      `no measurement matches ${options.only}: there are ${cases.map((one) => one.name).join(', ')}`,
    );
  const results: Measured[] = [];
  for (const { name, run } of chosen) {
    if (stderr.isTerminal) stderr.write(`\r\u001b[K${name}`);
    results.push(...(await run()));
  }
  if (stderr.isTerminal) stderr.write('\r\u001b[K');
  if (options.json) printJson({ node: process.version, results });
  else
    stdout.line(
      table([['MEASUREMENT', 'RESULT', 'UNIT'], ...results.map((one) => [one.name, shown(one.value), one.unit])], [1]),
    );
}
