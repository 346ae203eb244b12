/** `iommulab bench`: how fast this machine is, here and now. Wall time, the median of several runs. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { iommu_destroy, iommu_ioas_alloc, iommu_ioas_map, iommu_ioas_unmap, iommufdUapi } from '#iommufd/uapi/iommufd';
import { Kernel } from '#iommufd/kernel/kernel';
import { invariant } from '#vmm/base/invariant';
import { formatCount } from '#vmm/record/bytes';
import { eventFilter as globFilter } from '#vmm/record/catalogue';
import { deviceRate, frameRate, processRate } from './bench-devices.ts';
import { hartRates } from './bench-harts.ts';
import { traceRates } from './bench-trace.ts';
import { lookupRate, pasidRate, translationRate, walkRate } from './bench-translation.ts';
import { CommandError } from './exit.ts';
import { median } from './median.ts';
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

/** What a benchmark guest told at the end of a measurement, and the seconds since its beginning: of the wall, of the CPU. */
type Ended = readonly [fields: ReadonlyMap<string, string>, wall: number, cpu: number];

/** Runs a benchmark guest; one entry for each `bench: event=end` line. */
async function runGuest(image: string, append: string, disk: boolean): Promise<readonly Ended[]> {
  const folder = mkdtempSync(join(tmpdir(), 'iommulab-bench-'));
  try {
    const path = join(folder, 'disk.img');
    if (disk) writeFileSync(path, new Uint8Array(diskBytes));
    const config = readMachine({ timeout: ['300s'] }, { image, append, ...(disk ? { disks: [{ path }] } : {}) });
    const ended: Ended[] = [];
    const decoder = new TextDecoder();
    let line = '';
    let begin = 0;
    let cpu = process.cpuUsage();
    const session = await runSession(prepare(config), {
      unobserved: true,
      console: (bytes) => {
        const lines = (line + decoder.decode(bytes, { stream: true })).split('\n');
        line = lines.pop()!;
        for (const text of lines.filter((one) => one.startsWith('bench: '))) {
          const fields = new Map([...text.matchAll(/(\w+)=(\S+)/g)].map((match) => [match[1]!, match[2]!] as const));
          if (fields.get('event') === 'begin') {
            begin = performance.now();
            cpu = process.cpuUsage();
          } else {
            const { user, system } = process.cpuUsage(cpu);
            ended.push([fields, (performance.now() - begin) / 1000, (user + system) / 1e6]);
          }
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

const medianOf = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1]!;

/**
 * Reads of one block size through the IOMMU and past it: medians of runs after one that warms up. What the IOMMU costs is
 * the median of the pairs, in CPU time, which others on the machine disturb least.
 */
async function nvmePairs(block: string, depth: number, mib: number): Promise<Measured[]> {
  const name = `nvme: ${block} depth ${depth}`;
  const run = async (): Promise<readonly Ended[]> =>
    runGuest('bench-nvme', `block=${block} depth=${depth} mib=${mib}`, true);
  await run();
  const pairs: (readonly Ended[])[] = [];
  for (let i = 0; i < 3; i++) pairs.push(await run());
  const rates = [0, 1].flatMap((which) => {
    const median = (unit: string, rate: (ended: Ended) => number): Measured => ({
      name: `${name} ${pairs[0]![which]![0].get('mode')}`,
      value: medianOf(pairs.map((pair) => rate(pair[which]!))),
      unit,
    });
    return [
      median('MB/s', ([fields, wall]) => Number(fields.get('bytes')) / wall / 1e6),
      median('IOPS', ([fields, wall]) => Number(fields.get('commands')) / wall),
      median('IOPS of CPU time', ([fields, , cpu]) => Number(fields.get('commands')) / cpu),
    ];
  });
  const costs = pairs.map(([through, past]) => (through![2] / past![2] - 1) * 100);
  return [...rates, { name: `${name}: cost of the IOMMU`, value: medianOf(costs), unit: '%' }];
}

/** Seconds a call takes, the median of five rounds after one to warm up. */
function secondsEach(rounds: number, call: (index: number) => void): number {
  const seconds: number[] = [];
  for (let round = 0; round < 6; round++) {
    const start = performance.now();
    for (let i = 0; i < rounds; i++) call(i);
    if (round > 0) seconds.push((performance.now() - start) / 1000 / rounds);
  }
  return median(seconds);
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

/** How often a guest is run for a measurement. */
const guestRuns = 3;

/** The medians of several runs of the same measurements. */
async function medians(run: () => Promise<Measured[]>): Promise<Measured[]> {
  const runs: Measured[][] = [];
  for (let i = 0; i < guestRuns; i++) runs.push(await run());
  return runs[0]!.map((one, i) => ({ ...one, value: median(runs.map((each) => each[i]!.value)) }));
}

const cases: readonly Case[] = [
  {
    name: 'hart: integer loop',
    run: () =>
      medians(async () =>
        (await runGuest('bench-int', 'millions=400', false)).map(([fields, seconds]) => ({
          name: 'hart: integer loop',
          value: Number(fields.get('instructions')) / seconds / 1e6,
          unit: 'MIPS',
        })),
      ),
  },
  { name: 'hart: kernel', run: async () => [...(await hartRates(runGuest))] },
  {
    name: 'nvme: read',
    run: () =>
      medians(async () =>
        (await runGuest('bench-nvme', 'mib=32', true)).flatMap(([fields, seconds]) => {
          const name = `nvme: read ${Number(fields.get('block')) / 1024}K depth ${fields.get('depth')} ${fields.get('mode')}`;
          return [
            { name, value: Number(fields.get('bytes')) / seconds / 1e6, unit: 'MB/s' },
            { name, value: Number(fields.get('commands')) / seconds, unit: 'IOPS' },
          ];
        }),
      ),
  },
  ...(
    [
      ['4K', 1024],
      ['128K', 2048],
    ] as const
  ).map(([block, mib]) => ({ name: `nvme: ${block} depth 32`, run: () => nvmePairs(block, 32, mib) })),
  {
    name: 'nic: frames between two guests',
    run: () => [
      { name: 'nic: frames of 1514 B between two guests', value: frameRate(1514, 100_000), unit: 'frames/s' },
    ],
  },
  ...[1, 16, 256].map((devices) => {
    const name = `dma: reads, ${devices} ${devices === 1 ? 'device' : 'devices'}`;
    return { name, run: () => [{ name, value: deviceRate(devices), unit: '/s' }] };
  }),
  ...[1, 64, 1024, 65_536].map((processes) => {
    const name = `dma: reads, ${formatCount(processes)} ${processes === 1 ? 'PASID' : 'PASIDs'}`;
    return { name, run: () => [{ name, value: processRate(processes), unit: '/s' }] };
  }),
  { name: 'iommu: IOTLB look-up', run: () => [{ name: 'iommu: IOTLB look-up', value: lookupRate(), unit: '/s' }] },
  {
    name: 'iommu: nested walk',
    run: () => [{ name: 'iommu: nested walk, 4 096 pages', value: walkRate(4096), unit: '/s' }],
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
  ...[256, 65_536].map((live) => {
    const name = `iommu: IOTLB hit, 256 of ${formatCount(live)} PASIDs`;
    return { name, run: () => [{ name, value: pasidRate(live), unit: '/s' }] };
  }),
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
