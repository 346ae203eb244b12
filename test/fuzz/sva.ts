import { noPasid } from '#vmm/base/ports';
import { encodeDirectoryEntry, encodeProcessContext, fsc, iosatpMode, pdi, pdtpMode } from '#iommufd/arch/riscv/tables';
import { offsets, pqcsr } from '#iommufd/arch/riscv/registers';
import type { AtsFunction } from '../viommu/riscv/ats-function.ts';
import { atsDeviceId, Driver } from '../viommu/riscv/harness.ts';
import { layout } from '#vmm/machine/layout';

/** What a careless kernel would forget; each must be found. */
export const leaks = [
  'a page',
  'a table',
  'an answer',
  'the process context',
  'the translation',
  'the device',
] as const;
type Leak = (typeof leaks)[number];

/** What was done, by kind of step. */
interface SvaSoak {
  readonly steps: number;
  readonly binds: number;
  readonly kills: number;
  readonly faults: number;
  readonly accesses: number;
  readonly reclaims: number;
  readonly overflows: number;
}

const pageBytes = 4096;
const deviceCount = 2;
/** PASIDs in use are few, so that each is soon used again. */
const mostProcesses = 24;
const pagesOfProcess = 12;
const heap = 0x4000_0000n;
/** Guest RAM of the test: process directory (root and leaf), then pages that are handed out. */
const root = layout.ram.base + 0x20_0000;
const leaf = root + pageBytes;
const firstPage = root + 16 * pageBytes;
const pageCount = 600;
const pteFlags = 0xd7n;
/** Everything is brought to rest and counted after so many steps. */
const stepsOfRound = 2000;
/** DC.tc: V, EN_ATS, EN_PRI, PDTV, PRPR. */
const control = 0x67n;

interface Process {
  readonly pasid: number;
  readonly root: number;
  readonly tables: readonly number[];
  /** By index of the page in the heap: guest-physical address. */
  readonly pages: Map<number, number>;
  isKilled: boolean;
  /** Groups that its devices wait for. */
  waiting: number;
}
/** What a device was told by ATS, by PASID and page. */
type Atc = Map<number, number>;
const atcKey = (pasid: number, index: number): number => pasid * 64 + index;

class Kernel {
  readonly driver = new Driver(1, deviceCount);
  readonly #seed: number;
  readonly #leak: Leak | undefined;
  #state: number;
  #free: number[] = [];
  readonly #processes = new Map<number, Process>();
  /** By device and group index. */
  readonly #groups = new Map<number, { readonly process: Process; readonly index: number }>();
  readonly #atcs: Atc[] = Array.from({ length: deviceCount }, () => new Map());
  #todo: { deviceId: number; pasid: number; payload: bigint }[] = [];
  #nextGroup = 0;
  step = 0;
  readonly counts = { binds: 0, kills: 0, faults: 0, accesses: 0, reclaims: 0, overflows: 0 };

  constructor(seed: number, leak: Leak | undefined) {
    this.#seed = seed;
    this.#leak = leak;
    this.#state = seed >>> 0 || 1;
    const { driver } = this;
    driver.stopRecording();
    driver.enableDirectory();
    driver.enablePageRequests(4);
    driver.store(root, encodeDirectoryEntry(BigInt(leaf / pageBytes)));
    const directory = fsc.encode({ MODE: BigInt(pdtpMode.PD17), PPN: BigInt(root / pageBytes) });
    for (let i = 0; i < deviceCount; i++) driver.setContext(this.#deviceId(i), [control, 0n, 0n, directory]);
    driver.command('IODIR.INVAL_DDT', {});
    for (let i = 0; i < pageCount; i++) this.#free.push(firstPage + i * pageBytes);
  }

  random(below: number): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return (this.#state >>> 0) % below;
  }

  fail(why: string): never {
    throw new Error(`soakSva(${this.#seed}): step ${this.step}: ${why}`);
  }

  #deviceId(device: number): number {
    return atsDeviceId + 8 * device;
  }
  #function(device: number): AtsFunction {
    return this.driver.functions[device]!;
  }
  #any(): Process | undefined {
    const all = [...this.#processes.values()];
    return all[this.random(Math.max(1, all.length))];
  }

  #takePage(): number {
    const page = this.#free.pop() ?? this.fail('no page is left');
    this.driver.machine.writeMemory(page, empty);
    return page;
  }

  // ── Processes ───────────────────────────────────────────────────────────────────────────────────────────────────────

  #setContext(pasid: number, words: readonly bigint[]): void {
    this.driver.store(leaf + 16 * pdi(pasid, 0), ...words);
    if (this.#leak === 'the process context' && words[0] === 0n) return;
    for (let i = 0; i < deviceCount; i++)
      this.driver.command('IODIR.INVAL_PDT', { DV: 1n, DID: BigInt(this.#deviceId(i)), PID: BigInt(pasid) });
  }

  bind(): void {
    if (this.#processes.size >= mostProcesses) return;
    let pasid = 1;
    while (this.#processes.has(pasid)) pasid++;
    const tables = [this.#takePage(), this.#takePage(), this.#takePage()];
    const pointer = (to: number): bigint => (BigInt(to / pageBytes) << 10n) | 1n;
    this.driver.store(tables[0]! + 8 * Number((heap >> 30n) & 511n), pointer(tables[1]!));
    this.driver.store(tables[1]! + 8 * Number((heap >> 21n) & 511n), pointer(tables[2]!));
    this.#processes.set(pasid, { pasid, root: tables[0]!, tables, pages: new Map(), isKilled: false, waiting: 0 });
    const stage = { MODE: BigInt(iosatpMode.Sv39), PPN: BigInt(tables[0]! / pageBytes) };
    this.#setContext(pasid, encodeProcessContext({ ta: { V: 1n, PSCID: BigInt(pasid) }, fsc: stage }));
    this.counts.binds++;
  }

  /** No more pages for it; it is gone when its devices wait for nothing. */
  kill(): void {
    const process = this.#any();
    if (!process || process.isKilled) return;
    process.isKilled = true;
    this.counts.kills++;
    this.bury();
  }

  /** Unbinds killed processes that nothing waits for any more, and gives back what they had. */
  bury(): void {
    for (const process of this.#processes.values()) {
      if (!process.isKilled || process.waiting > 0) continue;
      this.#setContext(process.pasid, [0n, 0n]);
      this.#invalidate(process, undefined);
      if (this.#leak !== 'a page' || process.pages.size < 3) this.#free.push(...process.pages.values());
      this.#free.push(...(this.#leak === 'a table' ? process.tables.slice(1) : process.tables));
      this.#processes.delete(process.pasid);
    }
  }

  /** One page of a process, or all of them, in the IOMMU and then in the devices. */
  #invalidate({ pasid }: Process, index: number | undefined): void {
    const PSCID = BigInt(pasid);
    const address = heap + BigInt((index ?? 0) * pageBytes);
    const one = index === undefined ? {} : { AV: 1n, ADDR: address >> 12n };
    if (this.#leak !== 'the translation') this.driver.command('IOTINVAL.VMA', { PSCV: 1n, PSCID, ...one });
    const PAYLOAD = index === undefined ? wholeSpace : address;
    if (this.#leak !== 'the device')
      for (let i = 0; i < deviceCount; i++)
        this.driver.command('ATS.INVAL', { RID: BigInt(this.#deviceId(i)), PV: 1n, PID: PSCID, PAYLOAD });
    this.driver.command('IOFENCE.C', {});
    // What was freed may be used again only when the devices have forgotten it.
    for (let turn = 0; this.driver.read(offsets.cqh, 4) !== this.driver.read(offsets.cqt, 4); turn++) {
      if (turn === 100) this.fail('a fence does not complete');
      this.driver.machine.clock.advance(1000);
    }
    for (const [device, atc] of this.#atcs.entries())
      for (const { pasid: of, hi, lo } of this.#function(device).invalidations.splice(0)) {
        const isAll = (lo & 0x800) !== 0;
        const told = Number((((BigInt(hi) << 32n) | BigInt(lo >>> 0)) - heap) >> 12n);
        for (let i = 0; i < pagesOfProcess; i++) if (isAll || i === told) atc.delete(atcKey(of, i));
      }
  }

  reclaim(): void {
    const process = this.#any();
    const [index, page] = [...(process?.pages ?? [])][this.random(pagesOfProcess)] ?? [];
    if (!process || index === undefined || page === undefined) return;
    process.pages.delete(index);
    this.driver.store(process.tables[2]! + 8 * index, 0n);
    this.#invalidate(process, index);
    this.#free.push(page);
    this.counts.reclaims++;
  }

  // ── Devices ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Where a device's access must end, or nowhere. */
  #check(process: Process, index: number, segments: readonly (readonly number[])[], how: string): void {
    const { memory } = this.driver.machine;
    const page = process.pages.get(index);
    const [at] = segments[0] ?? [];
    if (at === undefined) return;
    const gpa = at - memory.guestBase + layout.ram.base;
    if (page === undefined || Math.floor(gpa / pageBytes) * pageBytes !== page)
      this.fail(`PASID ${process.pasid}, page ${index}: ${how} reaches ${gpa.toString(16)}, ${page === undefined ? 'and it has none' : `not ${page.toString(16)}`}`); // prettier-ignore
    this.counts.accesses++;
  }

  /** A device uses a pointer of a process: from its cache, by translation, or by asking for the page. */
  touch(): void {
    const process = this.#any();
    if (!process) return;
    const device = this.random(deviceCount);
    const index = this.random(pagesOfProcess);
    const fn = this.#function(device);
    const atc = this.#atcs[device]!;
    const iova = heap + BigInt(index * pageBytes);
    const { pasid } = process;
    if (this.random(4) === 0) {
      const { segments } = fn.access('write', iova + 64n, 256, pasid);
      if (process.pages.has(index) && segments.length === 0) this.fail(`PASID ${pasid}: page ${index} is not reached`);
      this.#check(process, index, segments, 'an untranslated access');
      return;
    }
    const known = atc.get(atcKey(pasid, index));
    if (known !== undefined) {
      this.#check(process, index, fn.access('write', BigInt(known), 256, noPasid, true).segments, 'the cached address');
      return;
    }
    const found = fn.translate(iova, pasid);
    if (found.status === 'success' && found.read && found.write) {
      atc.set(atcKey(pasid, index), found.hi * 2 ** 32 + found.lo);
      return;
    }
    const group = this.#nextGroup++ % 512;
    const key = device * 512 + group;
    if (this.#groups.has(key)) return;
    this.#groups.set(key, { process, index });
    process.waiting++;
    this.counts.faults++;
    fn.ask(iova, group, { pasid });
  }

  /** The answers that have come: each ends one group. */
  collect(): void {
    for (const device of this.#atcs.keys())
      for (const [pasid, group, code] of this.#function(device).takeResponses()) {
        const key = device * 512 + group;
        const { process } = this.#groups.get(key) ?? this.fail(`an answer to nobody: PASID ${pasid}, group ${group}`);
        if (process.pasid !== pasid) this.fail(`group ${group} of PASID ${process.pasid} is answered to ${pasid}`);
        if (code !== 0 && code !== 1) this.fail(`group ${group} is answered with code ${code}`);
        this.#groups.delete(key);
        process.waiting--;
      }
    this.bury();
  }

  // ── The guest's handler ─────────────────────────────────────────────────────────────────────────────────────────────

  serve(most: number): void {
    this.#todo.push(...this.driver.takePageRequests());
    for (let served = 0; served < most; served++) {
      const request = this.#todo.shift();
      if (!request) break;
      const group = Number((request.payload >> 3n) & 511n);
      const index = Number(((request.payload & ~0xfffn) - heap) >> 12n);
      const process = this.#processes.get(request.pasid);
      const isThere =
        process !== undefined && !process.isKilled && index < pagesOfProcess && this.#give(process, index);
      if (this.#leak === 'an answer' && this.random(50) === 0) continue;
      this.driver.respond(request.deviceId, request.pasid, group, isThere ? 0 : 1);
    }
    const status = pqcsr.decode(this.driver.read(offsets.pqcsr, 4));
    if (!status.pqof) return;
    this.counts.overflows++;
    this.driver.write(offsets.pqcsr, 4, pqcsr.encode({ pqen: 1n, pqof: 1n }));
  }

  #give(process: Process, index: number): boolean {
    if (process.pages.has(index)) return true;
    if (this.#free.length < 64) return false;
    const page = this.#takePage();
    process.pages.set(index, page);
    this.driver.store(process.tables[2]! + 8 * index, (BigInt(page / pageBytes) << 10n) | pteFlags);
    return true;
  }

  // ── Counting ────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Kills everybody, lets everything end, and counts: nothing may be left anywhere. */
  rest(): void {
    for (const process of this.#processes.values()) process.isKilled = true;
    for (let turn = 0; turn < 40 && (this.#groups.size > 0 || this.#todo.length > 0 || turn < 2); turn++) {
      this.driver.machine.clock.advance(20_000);
      this.serve(1000);
      this.driver.machine.clock.advance(20_000);
      this.collect();
    }
    this.bury();
    const { host, clock } = this.driver.machine;
    const { translator, iotlb } = host.silicon;
    const left: Record<string, number> = {
      ...this.driver.leftOver(),
      'groups without an answer': this.#groups.size,
      processes: this.#processes.size,
      'pages of the guest': pageCount - this.#free.length,
      'process contexts in the silicon': translator.processContexts.size,
      'translations of processes in the IOTLB': iotlb.list().filter(({ pscid }) => pscid > 0).length,
      'translations in the devices': this.#atcs.reduce((sum, atc) => sum + atc.size, 0),
      'events that are still due': clock.beginSave().pending - this.#events,
      'pinned pages more than at first': host.kernel.physical.pinned - this.#pinned,
    };
    for (const [what, count] of Object.entries(left)) if (count !== 0) this.fail(`${count} ${what} left`);
  }
  readonly #events = this.driver.machine.clock.beginSave().pending;
  readonly #pinned = this.driver.machine.host.kernel.physical.pinned;
}

const empty = new Uint8Array(pageBytes);
/** PAYLOAD of an ATS.INVAL for everything. */
const wholeSpace = 0x7fff_ffff_ffff_f800n;

/**
 * A kernel with processes that devices share, in random order: bind, touch (from the device's cache, through the IOMMU, or
 * by a page request), serve page requests, reclaim a page, kill with page requests under way. After every access it is
 * held against whose page it is, after each answer whose it was, and every 2000 steps everything is brought to rest
 * and counted. `leak`: what the kernel forgets.
 * @throws Error with the step at which it went wrong
 */
export const soakSva = (seed: number, steps: number, leak?: Leak): SvaSoak => {
  const kernel = new Kernel(seed, leak);
  const { clock } = kernel.driver.machine;
  const actions: readonly [weight: number, run: () => void][] = [
    [60, () => kernel.touch()],
    [14, () => kernel.serve(1 + kernel.random(6))],
    [4, () => kernel.bind()],
    [2, () => kernel.kill()],
    [5, () => kernel.reclaim()],
    [15, () => {
      clock.advance(kernel.random(4000));
      kernel.collect();
    }],
  ]; // prettier-ignore
  const total = actions.reduce((sum, [weight]) => sum + weight, 0);
  for (; kernel.step < steps; kernel.step++) {
    let at = kernel.random(total);
    actions.find(([weight]) => (at -= weight) < 0)![1]();
    if (kernel.step % stepsOfRound === stepsOfRound - 1) kernel.rest();
  }
  kernel.rest();
  kernel.driver.machine.close();
  return { steps, ...kernel.counts };
};

const wantedSteps = 1_000_000;
const stepsOfSeed = 50_000;
/** A million steps, whatever time that takes (some minutes): `soakSva` with one seed after the other. */
export const fuzzSva = (seed: number): SvaSoak => {
  const sum = { steps: 0, binds: 0, kills: 0, faults: 0, accesses: 0, reclaims: 0, overflows: 0 };
  for (let at = seed; sum.steps < wantedSteps; at++) {
    const done = soakSva(at, stepsOfSeed);
    for (const name of Object.keys(sum) as (keyof SvaSoak)[]) sum[name] += done[name];
  }
  return sum;
};
