import { describe, expect, it } from 'vitest';
import type { CommandName, Operands } from '#iommufd/arch/riscv/commands';
import { encodeProcessContext, iohgatpMode, iosatpMode, pdtpMode } from '#iommufd/arch/riscv/tables';
import type { StaleTranslations } from '#iommufd/host/riscv/stale-translations';
import { staleRules } from '#iommufd/host/riscv/stale-rules';
import { PageTable } from '#iommufd/pagetable/map';
import { sv39x4 } from '#iommufd/pagetable/formats/riscv';
import { GuestPages, GuestTable, guestGpa, Rig } from './rig.ts';

const iova = 0x1000_0000;
const target = guestGpa / 4096 + 1024;
const pasid = 7;

/** One device, two stages, a process directory with one process; everything was used once and is cached. */
class Scene {
  readonly rig = new Rig();
  readonly pages = new GuestPages(this.rig.memory);
  readonly table = new GuestTable(this.rig.memory, this.pages);
  readonly other = new GuestTable(this.rig.memory, this.pages);
  readonly processes = this.pages.take();
  readonly root = this.pages.take();
  readonly check: StaleTranslations;
  now = 0;

  constructor(graceNs = 0) {
    const { rig, table, other } = this;
    this.check = rig.iommu.checkStaleTranslations({ graceNs, now: () => this.now });
    for (let i = 0; i < 4; i++) {
      table.map(iova + i * 4096, target + i);
      other.map(iova + i * 4096, target + 16 + i);
    }
    this.setProcess(table);
    this.set(this.root, 0, (BigInt(guestGpa / 4096 + this.processes) << 10n) | 1n);
    this.setDevice();
    this.use();
  }

  set(page: number, index: number, value: bigint): void {
    this.rig.set64(this.pages.host(page) + 8 * index, value);
  }
  setProcess(table: GuestTable, pscid = 5n): void {
    const words = encodeProcessContext({
      ta: { V: 1n, PSCID: pscid },
      fsc: { MODE: BigInt(iosatpMode.Sv39), PPN: BigInt(table.rootGpa / 4096) },
    });
    words.forEach((word, i) => this.set(this.processes, 2 * pasid + i, word));
  }
  setDevice(stage2 = this.rig.stage2, dtf = 0n): void {
    this.rig.setContext(this.rig.rid, {
      tc: { V: 1n, PDTV: 1n, DTF: dtf },
      iohgatp: { MODE: BigInt(iohgatpMode.Sv39x4), GSCID: 1n, PPN: BigInt(stage2.root / 4096) },
      fsc: { MODE: BigInt(pdtpMode.PD17), PPN: BigInt(guestGpa / 4096 + this.root) },
    });
  }
  /** The host address that the device reaches. */
  use(page = 0): number {
    const result = this.rig.port.read(0, iova + page * 4096, 64, pasid);
    return result.count === 0 ? -1 : result.offsets[0]!;
  }
  /** Entry of the first stage's leaf for page i. */
  get leaves(): number {
    const at = (table: number, level: number): number => {
      const raw = this.rig.memory.view.getBigUint64(this.pages.host(table) + (Math.floor(iova / 2 ** (12 + 9 * level)) & 511) * 8, true); // prettier-ignore
      return Number(raw >> 10n) - guestGpa / 4096;
    };
    return at(at(this.table.root, 2), 1);
  }
}

const vm = { GV: 1n, GSCID: 1n } as const;
const process = { ...vm, PSCV: 1n, PSCID: 5n } as const;
const device = { DV: 1n, DID: 0x18n } as const;
type Fix = readonly (readonly [CommandName, Partial<Operands>])[];

interface Bug {
  readonly name: string;
  /** The driver changes a table. */
  readonly change: (scene: Scene) => void;
  /** What it should have sent. */
  readonly fix: Fix;
  /** What it sends instead, beyond nothing. */
  readonly instead?: Fix;
  readonly cache: string;
  readonly table: string;
  readonly missing: string;
}

// prettier-ignore
const bugs: readonly Bug[] = [
  { name: 'first-stage leaf unmapped', change: (s) => s.set(s.leaves, 0, 0n),
    fix: [['IOTINVAL.VMA', { ...process, AV: 1n, ADDR: 0x10000n }]], cache: 'IOTLB', table: 'stage 1 level 0', missing: 'IOTINVAL.VMA GV=1, GSCID=1, AV=1, PSCV=1, PSCID=5, ADDR=0x10000' },
  { name: 'first-stage leaf moved, another page invalidated', change: (s) => s.table.map(iova, target + 9),
    fix: [['IOTINVAL.VMA', { ...process, AV: 1n, ADDR: 0x10000n }]], instead: [['IOTINVAL.VMA', { ...process, AV: 1n, ADDR: 0x10001n }]],
    cache: 'IOTLB', table: 'stage 1 level 0', missing: 'IOTINVAL.VMA GV=1, GSCID=1, AV=1, PSCV=1, PSCID=5, ADDR=0x10000' },
  { name: 'first-stage leaf made read-only, another process invalidated', change: (s) => s.table.map(iova, target, 0xd3),
    fix: [['IOTINVAL.VMA', process]], instead: [['IOTINVAL.VMA', { ...vm, PSCV: 1n, PSCID: 6n }]],
    cache: 'IOTLB', table: 'stage 1 level 0', missing: 'IOTINVAL.VMA GV=1, GSCID=1, AV=1, PSCV=1, PSCID=5, ADDR=0x10000' },
  { name: 'dirty bit cleared', change: (s) => s.table.map(iova, target, 0x57),
    fix: [['IOTINVAL.VMA', process]], cache: 'IOTLB', table: 'stage 1 level 0', missing: 'IOTINVAL.VMA GV=1, GSCID=1, AV=1, PSCV=1, PSCID=5, ADDR=0x10000' },
  { name: 'first-stage table cut off', change: (s) => s.set(s.table.root, 0, 0n),
    fix: [['IOTINVAL.VMA', process]], cache: 'IOTLB', table: 'stage 1 level 2', missing: 'IOTINVAL.VMA GV=1, GSCID=1, AV=0, PSCV=1, PSCID=5' },
  { name: 'second-stage leaf unmapped', change: (s) => s.rig.stage2.unmap(target, 512),
    fix: [['IOTINVAL.GVMA', { ...vm, AV: 1n, ADDR: BigInt(target) }]], cache: 'IOTLB', table: 'stage 2 level 1', missing: `IOTINVAL.GVMA GV=1, GSCID=1, AV=1, ADDR=0x${target.toString(16)}` },
  { name: 'second-stage table cut off', change: (s) => s.rig.set64(s.rig.stage2.root + 8 * (guestGpa / 2 ** 30), 0n),
    fix: [['IOTINVAL.GVMA', vm]], cache: 'IOTLB', table: 'stage 2 level 2', missing: 'IOTINVAL.GVMA GV=1, GSCID=1, AV=0' },
  { name: 'process context changed', change: (s) => s.setProcess(s.other),
    fix: [['IODIR.INVAL_PDT', { ...device, PID: 7n }], ['IOTINVAL.VMA', process]], cache: 'process context', table: 'PC', missing: 'IODIR.INVAL_PDT DV=1, DID=0x18, PID=7' },
  { name: 'process context changed, translations kept', change: (s) => s.setProcess(s.other),
    fix: [['IODIR.INVAL_PDT', { ...device, PID: 7n }], ['IOTINVAL.VMA', process]], instead: [['IODIR.INVAL_PDT', { ...device, PID: 7n }]],
    cache: 'IOTLB', table: 'PC', missing: 'IOTINVAL.VMA GV=1, GSCID=1, AV=0, PSCV=1, PSCID=5' },
  { name: 'process directory cut off', change: (s) => s.set(s.root, 0, 0n),
    fix: [['IODIR.INVAL_DDT', device], ['IOTINVAL.VMA', process]], cache: 'process context', table: 'PDT level 1', missing: 'IODIR.INVAL_DDT DV=1, DID=0x18' },
  { name: 'device context changed', change: (s) => s.setDevice(s.rig.stage2, 1n),
    fix: [['IODIR.INVAL_DDT', device]], cache: 'device context', table: 'DC', missing: 'IODIR.INVAL_DDT DV=1, DID=0x18' },
  { name: 'device context changed, translations kept', change: (s) => {
      const stage2 = PageTable.create({ format: sv39x4(), allocator: s.rig.memory, words: s.rig.memory.i32 })!;
      stage2.map(guestGpa / 4096, s.rig.memory.guestBase, 1024, 3);
      s.setDevice(stage2);
    },
    fix: [['IODIR.INVAL_DDT', device], ['IOTINVAL.VMA', vm], ['IOTINVAL.GVMA', vm]], instead: [['IODIR.INVAL_DDT', device]],
    cache: 'IOTLB', table: 'DC', missing: 'IOTINVAL.VMA GV=1, GSCID=1, AV=0, PSCV=0' },
  { name: 'device directory cut off', change: (s) => s.rig.set64(s.rig.directory, 0n),
    fix: [['IODIR.INVAL_DDT', {}]], cache: 'device context', table: 'DDT level 2', missing: 'IODIR.INVAL_DDT DV=0' },
];

/** The rule that a finding falls under, by what it is called in the specification's guidelines. */
const found = new Set<string>();

describe('a planted bug of a driver', () => {
  it.each(bugs)('$name: told at the next use, once', (bug) => {
    const scene = new Scene();
    bug.change(scene);
    for (const [name, operands] of bug.instead ?? []) scene.rig.command(name, operands);
    scene.use();
    const [finding] = scene.check.findings;
    expect(finding).toMatchObject({ cache: bug.cache, table: bug.table, missing: bug.missing, rid: 0x18 });
    expect(finding!.pasid).toBe(bug.cache === 'device context' ? -1 : pasid);
    found.add(finding!.rule.name);
    const said = scene.check.findings.length;
    scene.use();
    expect(scene.check.findings).toHaveLength(said);
  });

  it.each(bugs)('$name: nothing is told where the driver is right', (bug) => {
    const scene = new Scene();
    bug.change(scene);
    for (const [name, operands] of bug.fix) scene.rig.command(name, operands);
    scene.use();
    scene.use(1);
    scene.check.review(true);
    expect(scene.check.findings).toEqual([]);
  });
});

describe('interrupt files behind an MSI page table', () => {
  it('one that moved without its IOTINVAL.GVMA is told of, and with it is not', () => {
    for (const isSent of [false, true]) {
      const scene = new Scene();
      const { rig, table } = scene;
      const files = [0, 1].map(() => rig.memory.attachMmio({ read: () => 0, write: () => {}, reset: () => {} }));
      const entries = rig.memory.allocatePages()!;
      const put = (file: number): void => rig.set64(entries, (BigInt(file / 4096) << 10n) | 7n);
      put(files[0]!);
      table.map(0xfee0_0000, 0x28000);
      rig.nest(table.rootGpa, { msiptp: { MODE: 1n, PPN: BigInt(entries / 4096) }, msi_addr_pattern: 0x28000n });
      rig.command('IODIR.INVAL_DDT', device);
      rig.command('IOTINVAL.VMA', vm);
      expect(rig.port.message(0, 0xfee0_0000, 1)).toBe(true);
      put(files[1]!);
      if (isSent) rig.command('IOTINVAL.GVMA', { ...vm, AV: 1n, ADDR: 0x28000n });
      rig.port.message(0, 0xfee0_0000, 1);
      const [finding] = scene.check.findings;
      if (isSent) expect(finding).toBeUndefined();
      else {
        expect(finding).toMatchObject({ cache: 'IOTLB', table: 'MSI', missing: 'IOTINVAL.GVMA GV=1, GSCID=1, AV=1, ADDR=0x28000' }); // prettier-ignore
        found.add(finding!.rule.name);
      }
    }
  });

  it('with which every rule has had its planted bug, but for the devices’ own caches', () => {
    // Those are planted where there are devices that have one: test/viommu/riscv/stale-translations.test.ts.
    const { deviceAtc, ...others } = staleRules;
    expect(deviceAtc.spec).toBe('§6.3.7');
    expect([...found].toSorted()).toEqual(Object.values(others).map(({ name }) => name).toSorted()); // prettier-ignore
  });
});

describe('what needs no invalidation is not told of', () => {
  // prettier-ignore
  it.each<[string, (scene: Scene) => void]>([
    ['software uses its own bits', (s) => s.table.map(iova, target, 0x3d7)],
    ['rights grow', (s) => s.table.map(iova, target, 0xdf)],
    ['a page nobody used is mapped', (s) => s.table.map(iova + 0x5000, target)],
    ['an invalid context becomes valid', (s) => s.set(s.processes, 16, 1n)],
    ['the accessed bit is set', (s) => s.table.map(iova, target, 0xd7)],
  ])('%s', (_, change) => {
    const scene = new Scene();
    change(scene);
    scene.use();
    expect(scene.check.findings).toEqual([]);
  });

  it('a superpage is split into the pages that it was; what becomes of one of them is told', () => {
    const scene = new Scene();
    const { rig, table } = scene;
    const big = 0x4000_0000;
    const gpfn = guestGpa / 4096 + 512;
    table.map(big, gpfn, 0xd7, 1);
    const read = (page: number): void => void rig.port.read(0, big + page * 4096, 4, pasid);
    read(3);
    const slot = scene.pages.host(Number(rig.memory.view.getBigUint64(scene.pages.host(table.root) + 8, true) >> 10n) - guestGpa / 4096); // prettier-ignore
    const leaves = scene.pages.take();
    for (let i = 0; i < 512; i++) scene.set(leaves, i, (BigInt(gpfn + i) << 10n) | 0xd7n);
    rig.set64(slot, (BigInt(guestGpa / 4096 + leaves) << 10n) | 1n);
    read(3);
    read(9);
    expect(scene.check.findings).toEqual([]);
    scene.set(leaves, 9, 0n);
    read(3);
    expect(scene.check.findings).toEqual([]);
    read(9);
    expect(scene.check.findings).toHaveLength(1);
  });
});

describe('who wrote', () => {
  it('is told with the finding, and a store that the driver is still about to invalidate waits', () => {
    const scene = new Scene(1000);
    const at = scene.pages.host(scene.leaves);
    scene.now = 5000;
    scene.set(scene.leaves, 0, 0n);
    scene.check.stored(at, 'hart 0', 0x8000_1234n);
    scene.now = 5500;
    scene.use();
    expect(scene.check.findings).toEqual([]);
    scene.now = 6000;
    scene.use();
    expect(scene.check.findings[0]).toMatchObject({ writer: { who: 'hart 0', pc: 0x8000_1234n, time: 5000 }, at: BigInt(at) }); // prettier-ignore
  });

  it('an invalidation in time ends the matter', () => {
    const scene = new Scene(1000);
    scene.now = 5000;
    scene.set(scene.leaves, 0, 0n);
    scene.check.stored(scene.pages.host(scene.leaves), 'hart 0', 0x8000_1234n);
    scene.use();
    scene.rig.command('IOTINVAL.VMA', process);
    scene.now = 9000;
    scene.use();
    scene.check.review(true);
    expect(scene.check.findings).toEqual([]);
  });

  it('may be a device', () => {
    const scene = new Scene();
    const { rig } = scene;
    const leaf = scene.leaves;
    scene.table.map(iova + 0x10_0000, guestGpa / 4096 + leaf);
    const result = rig.port.write(0, iova + 0x10_0000, 8, pasid);
    rig.memory.bytes.fill(0, result.offsets[0], result.offsets[0]! + 8);
    scene.use();
    expect(scene.check.findings[0]?.writer?.who).toBe('DMA of 00:03.0');
  });
});
