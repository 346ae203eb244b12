/** `iommulab bench`: how fast this machine is, here and now. Wall time, the median of several runs. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { MachineConfigInput } from '#vmm/config/schema';
import { formatCount } from '#vmm/record/bytes';
import { eventFilter as globFilter } from '#vmm/record/catalogue';
import { deviceRate, frameRate, processRate } from './bench-devices.ts';
import { hartRates } from './bench-harts.ts';
import { regionMemory } from './bench-regions.ts';
import { linuxRows } from './bench-linux.ts';
import { callCosts, mapCosts } from './bench-iommufd.ts';
import { snapshotCosts } from './bench-snapshot.ts';
import { traceRates } from './bench-trace.ts';
import { lookupRate, pasidRates, translationRate, walkRate } from './bench-translation.ts';
import { CommandError } from './exit.ts';
import { median } from './median.ts';
import { readMachine } from './options.ts';
import { printJson, stderr, stdout, table } from './output.ts';
import { prepare } from './prepare.ts';
import { Progress } from './progress.ts';
import { runSession } from './session.ts';

interface Measured {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  /** What it is to be, on an idle machine of today. */
  readonly target?: string;
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
async function runGuest(
  image: string,
  append: string,
  disk: boolean,
  more: MachineConfigInput = {},
): Promise<readonly Ended[]> {
  const folder = mkdtempSync(join(tmpdir(), 'iommulab-bench-'));
  try {
    const path = join(folder, 'disk.img');
    if (disk) writeFileSync(path, new Uint8Array(diskBytes));
    const config = readMachine(
      { timeout: ['300s'] },
      { image, append, ...(disk ? { disks: [{ path }] } : {}), ...more },
    );
    const ended: Ended[] = [];
    const decoder = new TextDecoder();
    let line = '';
    let begin = 0;
    let cpu = process.cpuUsage();
    const session = await runSession(prepare(config), {
      unobserved: true,
      hasProgress: false,
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

/**
 * Page requests of a device, the guest's handler, its answers and the retries: the whole way, with the guest in it. Rates
 * are of CPU time, which others on the machine disturb least.
 */
async function pageRequests(): Promise<Measured[]> {
  const ended = await runGuest('bench-vpri', 'rounds=8 pages=4000', false, { exercisers: [{}] });
  return ended.flatMap(([fields, wall, cpu]): Measured[] => {
    const [depth, group] = [fields.get('depth')!, Number(fields.get('group'))];
    const name = `pri: page requests, ${group === 1 ? depth : `${depth} groups of ${group}`} in flight`;
    const requests = Number(fields.get('requests'));
    const isAlone = depth === '1';
    return [
      {
        name,
        value: requests / cpu,
        unit: '/s of CPU time',
        ...(isAlone ? {} : { target: `≥ ${formatCount(50_000)}` }),
      },
      // Alone, most instructions are those with which the process waits for its device.
      ...(isAlone
        ? [
            {
              name: `${name}, to the completed retry`,
              value: (wall / requests) * 1e6,
              unit: 'µs',
              target: '≤ 60',
            },
          ]
        : [
            {
              name,
              value: Number(fields.get('instructions')),
              unit: 'guest instructions each',
              target: `≤ ${formatCount(3000)}`,
            },
          ]),
    ];
  });
}

/** Guests with and without `--check stale-translations`, and what is measured of them together. */
const checkedGuests: readonly (readonly [
  what: string,
  image: string,
  append: string,
  disk: boolean,
  more: MachineConfigInput,
])[] = [
  ['NVMe 4K depth 32', 'bench-nvme', 'block=4K depth=32 mib=64', true, {}],
  ['page requests', 'bench-vpri', 'rounds=2 pages=4000', false, { exercisers: [{}] }],
];

/** How many times as long a guest takes that is checked: the median of pairs, in CPU time, behind a run to warm up. */
async function checkCosts(): Promise<Measured[]> {
  const results: Measured[] = [];
  for (const [what, image, append, disk, more] of checkedGuests) {
    const run = async (checks: MachineConfigInput): Promise<number> =>
      (await runGuest(image, append, disk, { ...more, ...checks })).reduce((sum, [, , cpu]) => sum + cpu, 0);
    await run({});
    const ratios: number[] = [];
    for (let i = 0; i < guestRuns; i++) {
      const off = await run({});
      ratios.push((await run({ checks: ['stale-translations'] })) / off);
    }
    const name = `check: stale-translations, ${what}`;
    results.push({ name, value: median(ratios), unit: 'times as long', target: '≤ 2' });
  }
  return results;
}

function ioctlCosts(): Measured[] {
  const { nothing, pair, invalidation } = callCosts();
  return [
    { name: 'ioctl: DESTROY of nothing', value: nothing, unit: 'µs' },
    { name: 'ioctl: IOAS_ALLOC + DESTROY', value: pair, unit: 'µs' },
    { name: 'ioctl: HWPT_INVALIDATE, an entry of 1 024', value: invalidation, unit: 'µs' },
  ];
}

function mapCost(size: number, order: 'in order' | 'random'): Measured[] {
  const { map, unmap, megabytes } = mapCosts(size, order);
  const among = `4K to ${formatCount(size)}, ${order}`;
  const costs = [
    { name: `ioctl: IOAS_MAP ${among}`, value: map, unit: 'µs' },
    { name: `ioctl: IOAS_UNMAP ${among}`, value: unmap, unit: 'µs' },
  ];
  return size < 1e6 ? costs : [...costs, { name: `ioctl: memory of ${among}`, value: megabytes, unit: 'MB' }];
}

// prettier-ignore
const translations: readonly (readonly [string, number, boolean, boolean])[] = [
  ['IOTLB hit',           1,      true,  true],
  ['IOTLB hit',           1000,   true,  true],
  ['miss, first stage',   65_536, true,  false],
  ['miss, second stage',  65_536, false, true],
  ['miss, nested',        65_536, true,  true],
];

/** 20 ns and 150 ns. */
const hitTarget = `≥ ${formatCount(5e7)}`;
const walkTarget = `≥ ${formatCount(Math.round(1e9 / 150))}`;

/** How often a guest is run for a measurement. */
const guestRuns = 3;

/** The medians of several runs of the same measurements. */
async function medians(run: () => Promise<Measured[]>): Promise<Measured[]> {
  const runs: Measured[][] = [];
  for (let i = 0; i < guestRuns; i++) runs.push(await run());
  return runs[0]!.map((one, i) => ({ ...one, value: median(runs.map((each) => each[i]!.value)) }));
}

/** Why something is not measured. */
const say = (line: string): void => stderr.line(line);

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
  {
    name: 'hart: interpreter alone',
    run: () =>
      medians(async () =>
        (await runGuest('bench-int', 'millions=400', false, { cpu: { translate: false } })).map(
          ([fields, seconds]) => ({
            name: 'hart: interpreter alone, integer loop',
            value: Number(fields.get('instructions')) / seconds / 1e6,
            unit: 'MIPS',
            target: '≥ 250',
          }),
        ),
      ),
  },
  {
    name: 'hart: memory of translated regions',
    run: () => {
      const { megabytes, regions } = regionMemory();
      const name = `hart: memory of translated regions, ${formatCount(regions)} of them`;
      return [{ name, value: megabytes, unit: 'MB', target: '< 300' }];
    },
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
  {
    name: 'iommu: IOTLB look-up',
    run: () => [{ name: 'iommu: IOTLB look-up', value: lookupRate(), unit: '/s', target: hitTarget }],
  },
  {
    name: 'iommu: nested walk',
    run: () => [{ name: 'iommu: nested walk, 4 096 pages', value: walkRate(4096), unit: '/s', target: walkTarget }],
  },
  ...translations.map(([what, pages, first, second]) => {
    const name = `iommu: ${what}, ${formatCount(pages)} ${pages === 1 ? 'page' : 'pages'}`;
    const target = what === 'IOTLB hit' ? { target: hitTarget } : {};
    return { name, run: () => [{ name, value: translationRate(pages, { first, second }), unit: '/s', ...target }] };
  }),
  { name: 'pri: page requests', run: () => medians(pageRequests) },
  { name: 'check: stale-translations', run: checkCosts },
  {
    name: 'trace: events',
    run: () =>
      Object.entries(traceRates(2_000_000)).map(([what, value]) => ({
        name: `trace: events ${what}`,
        value,
        unit: '/s of CPU time',
        target: '≥ 1 000 000',
      })),
  },
  {
    name: 'iommu: IOTLB hit, 256 PASIDs',
    run: () => {
      const { alone, among, cost } = pasidRates(65_536);
      return [
        { name: 'iommu: IOTLB hit, 256 PASIDs of 256 live', value: alone, unit: '/s' },
        { name: 'iommu: IOTLB hit, 256 PASIDs of 65 536 live', value: among, unit: '/s', target: hitTarget },
        { name: 'iommu: cost of 65 536 live PASIDs to hits', value: cost, unit: '%', target: '≤ 10' },
      ];
    },
  },
  { name: 'snapshot: size, save, resume', run: snapshotCosts },
  { name: 'linux: boot', run: () => linuxRows('boot', say) },
  { name: 'linux: NVMe', run: () => linuxRows('storage', say) },
  { name: 'linux: download', run: () => linuxRows('network', say) },
  { name: 'ioctl: DESTROY and IOAS_ALLOC', run: ioctlCosts },
  ...(['in order', 'random'] as const).flatMap((order) =>
    [1, 10, 100, 1000, 10_000, 100_000, 1_000_000].map((size) => ({
      name: `ioctl: IOAS_MAP to ${size}, ${order}`,
      run: () => mapCost(size, order),
    })),
  ),
];

const shown = (value: number): string =>
  value >= 100 ? formatCount(Math.round(value)) : value.toFixed(value < 10 ? 2 : 1);

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
  const progress = new Progress('bench');
  for (const [i, { name, run }] of chosen.entries()) {
    progress.announce(`${i + 1} of ${chosen.length}, ${name}`);
    results.push(...(await run()));
  }
  progress.end();
  if (options.json) printJson({ node: process.version, results });
  else
    stdout.line(
      table(
        [
          ['MEASUREMENT', 'RESULT', 'UNIT', 'TARGET'],
          ...results.map((one) => [one.name, shown(one.value), one.unit, one.target ?? '']),
        ],
        [1],
      ),
    );
}
