import { hpa } from '#vmm/base/address';
import type { HostMemory } from '#vmm/base/memory';
import { type DmaPort, type DmaResult, noPasid } from '#vmm/base/ports';
import { type Data, field, listOf, parts, type Saved } from '#vmm/base/saved';
import type { PerformanceMonitor } from '#iommufd/arch/riscv/hpm';
import { hpmEvent } from '#iommufd/arch/riscv/registers';
import { iohgatpMode, iosatpMode } from '#iommufd/arch/riscv/tables';
import { Segments } from '../bypass-port.ts';
import { processTag, right, spaceTag } from '../iotlb.ts';
import type { WalkRoots } from './fast-walk.ts';
import type { RiscvIommu } from './iommu.ts';
import { storeMrif } from './mrif.ts';
import { needOf, type TranslationRequest } from './translation.ts';
import type { AddressSpace } from './translator.ts';

/** What a port remembers of one PASID while the IOMMU's epoch stands still. */
class Remembered {
  epoch = -1;
  pasid = noPasid;
  /** No translation: addresses are physical. */
  isPhysical = false;
  space = 0;
  process = 0;
  roots: WalkRoots | undefined;
}
/** PASIDs a port remembers, by their low bits; as many as the IOTLB has entries, since no more can have hits. */
const remembered = 4096;
/** In the place of one that was never needed. */
const nothingRemembered = new Remembered();
const levelsOf = (mode: number): number => (mode === 0 ? 0 : mode - 5);

/** One device's way to memory through the IOMMU: pages are looked up, walked where needed, and neighbours merged. */
export class RiscvPort implements DmaPort {
  readonly rid: number;
  readonly #iommu: RiscvIommu;
  readonly #host: HostMemory;
  readonly #monitor: PerformanceMonitor;
  readonly #result = new Segments();
  /** Where RAM that DMA may reach begins and ends. */
  readonly #first: number;
  readonly #end: number;
  readonly #spaces = Array.from({ length: remembered }, () => nothingRemembered);
  /** DMA of this device so far. */
  readonly counters = { reads: 0, writes: 0, messages: 0, bytesRead: 0, bytesWritten: 0, faults: 0 };
  /** What is remembered only while it is current. */
  readonly saved: Saved = parts({
    counters: field(
      () => this.counters,
      (value) => void Object.assign(this.counters, value),
    ),
    spaces: { save: () => this.#saveSpaces(), restore: (data: Data) => this.#restoreSpaces(listOf(data)) },
  });
  // Answer of #miss.
  #address = 0;
  #mask = 0;
  #mrif: { readonly address: bigint; readonly nid: number } | undefined;
  /** The page before this one in the same request faulted for this cause: one record stands for both (§3.2). */
  #lastCause = 0;

  constructor(iommu: RiscvIommu, host: HostMemory, rid: number) {
    this.#iommu = iommu;
    this.#host = host;
    this.#monitor = iommu.frontEnd.monitor;
    this.#first = host.poolBase;
    this.#end = host.end;
    this.rid = rid;
  }

  #saveSpaces(): Data {
    const current = this.#spaces.filter((space) => space !== nothingRemembered && space.epoch === this.#iommu.epoch);
    return current.map(({ pasid, space, process, roots }) => ({ pasid, space, process, roots }));
  }

  #restoreSpaces(items: readonly Data[]): void {
    for (let i = 0; i < remembered; i++) this.#spaces[i] = nothingRemembered;
    for (const item of items) {
      const space = Object.assign(new Remembered(), item, { epoch: this.#iommu.epoch });
      this.#spaces[space.pasid & (remembered - 1)] = space;
    }
  }

  get memory(): Uint8Array {
    return this.#host.bytes;
  }

  read(hi: number, lo: number, length: number, pasid: number = noPasid): DmaResult {
    this.counters.reads++;
    this.counters.bytesRead += length;
    return this.#access(hi, lo, length, pasid, right.read);
  }

  write(hi: number, lo: number, length: number, pasid: number = noPasid): DmaResult {
    this.counters.writes++;
    this.counters.bytesWritten += length;
    return this.#access(hi, lo, length, pasid, right.write);
  }

  /** Where the cached translation of an address without PASID leads; looks, and changes nothing. */
  peek(iova: bigint): { readonly gpa: number; readonly hpa: number } | undefined {
    const space = this.#spaces[noPasid & (remembered - 1)]!;
    if (space.epoch !== this.#iommu.epoch || space.pasid !== noPasid) return undefined;
    const { iotlb } = this.#iommu;
    const lo = Number(iova & 0xffff_ffffn) | 0;
    const at = iotlb.lookup(space.space, space.process, Number(iova >> 32n) | 0, lo);
    if (at < 0) return undefined;
    return { gpa: iotlb.guestPage(at) * 4096 + (lo & iotlb.offsetMask(at)), hpa: iotlb.address(at, lo) };
  }

  message(hi: number, lo: number, data: number): boolean {
    const iommu = this.#iommu;
    this.counters.messages++;
    iommu.statistics.translations++;
    this.#mrif = undefined;
    this.#lastCause = 0;
    const found = this.#locate(hi, lo, noPasid, right.write);
    let done = false;
    if (found) {
      const mrif = this.#mrif as { readonly address: bigint; readonly nid: number } | undefined;
      if (mrif) done = storeMrif(iommu, this.#request(hi, lo, noPasid, right.write), mrif, this.#address, data);
      else done = this.#host.store(hpa(this.#address), 4, data >>> 0);
    }
    if (!done) this.counters.faults++;
    if (iommu.trace.on)
      iommu.trace.emit('dma.message', {
        rid: this.rid,
        iova: join(hi, lo),
        data: data >>> 0,
        hpa: found ? this.#address : 0,
        faults: done ? 0 : 1,
      });
    return done;
  }

  #access(hi: number, lo: number, length: number, pasid: number, need: number): DmaResult {
    const iommu = this.#iommu;
    const { iotlb, statistics } = iommu;
    const result = this.#result;
    const current = this.#spaces[pasid & (remembered - 1)]!;
    if (
      current.epoch === iommu.epoch &&
      current.pasid === pasid &&
      !iommu.trace.on &&
      !this.#monitor.active &&
      iommu.check === undefined
    ) {
      // The common case: one page, which the IOTLB holds.
      const at = iotlb.lookup(current.space, current.process, hi | 0, lo | 0);
      if (at >= 0 && iotlb.rights(at) & need && (lo & iotlb.offsetMask(at)) + length <= iotlb.offsetMask(at) + 1) {
        const address = iotlb.address(at, lo);
        if (address >= this.#first && address + length <= this.#end) {
          statistics.translations++;
          statistics.hits++;
          result.set(address, length);
          return result;
        }
      }
    }
    result.clear();
    const space = this.#space(pasid);
    const hitsBefore = statistics.hits;
    const missesBefore = statistics.misses;
    let high = hi | 0;
    let low = lo | 0;
    let done = 0;
    this.#lastCause = 0;
    do {
      let address: number;
      let mask: number;
      let found = true;
      statistics.translations++;
      const at = space.epoch === iommu.epoch ? iotlb.lookup(space.space, space.process, high, low) : -1;
      if (at >= 0 && iotlb.rights(at) & need) {
        statistics.hits++;
        iommu.check?.served(at, high, low);
        this.#lastCause = 0;
        if (this.#monitor.active) this.#count(pasid);
        mask = iotlb.offsetMask(at);
        address = iotlb.address(at, low);
      } else {
        found = this.#miss(space, high, low, pasid, need);
        address = this.#address;
        mask = this.#mask;
      }
      const room = mask + 1 - (low & mask);
      const chunk = room < length - done ? room : length - done;
      if (!found) result.fault(done, done + chunk - 1, 'unsupported-request');
      else if (address >= this.#first && address + chunk <= this.#end) result.add(address, chunk);
      else result.fault(done, done + chunk - 1, 'completer-abort');
      done += chunk;
      const next = (low >>> 0) + chunk;
      if (next >= 2 ** 32) high = (high + 1) | 0;
      low = next | 0;
    } while (done < length);
    if (result.faults.length > 0) this.counters.faults++;
    if (need === right.write) iommu.check?.written(this.rid, result);
    if (iommu.trace.on)
      iommu.trace.emit(need === right.read ? 'dma.read' : 'dma.write', {
        rid: this.rid,
        pasid,
        iova: join(hi, lo),
        length,
        segments: result.count,
        hits: statistics.hits - hitsBefore,
        misses: statistics.misses - missesBefore,
        faults: result.faults.length,
      });
    return result;
  }

  /** HPM event 1 of a page that the IOTLB held; the plain walk, which alone runs while anybody counts, tells the rest. */
  #count(pasid: number): void {
    this.#monitor.count(hpmEvent.untranslated, { deviceId: this.rid, processId: pasid, gscid: -1, pscid: -1 });
  }

  #locate(hi: number, lo: number, pasid: number, need: number): boolean {
    const { iotlb, statistics, epoch, check } = this.#iommu;
    const space = this.#space(pasid);
    const at = space.epoch === epoch ? iotlb.lookup(space.space, space.process, hi | 0, lo | 0) : -1;
    if (at >= 0 && iotlb.rights(at) & need) {
      statistics.hits++;
      check?.served(at, hi | 0, lo | 0);
      this.#mask = iotlb.offsetMask(at);
      this.#address = iotlb.address(at, lo);
      return true;
    }
    return this.#miss(space, hi | 0, lo | 0, pasid, need);
  }

  /** Where a PASID's requests are translated, from memory while nothing changed; stale (epoch -1) where they fault. */
  #space(pasid: number): Remembered {
    let space = this.#spaces[pasid & (remembered - 1)]!;
    const { check } = this.#iommu;
    check?.deviceUsed(this.rid);
    if (space.epoch === this.#iommu.epoch && space.pasid === pasid) {
      check?.contextsServed(this.rid, pasid);
      return space;
    }
    if (space === nothingRemembered) this.#spaces[pasid & (remembered - 1)] = space = new Remembered();
    space.epoch = -1;
    space.pasid = pasid;
    const request = this.#request(0, 0, pasid, right.read);
    const entered = this.#iommu.translator.enter(request, needOf(request));
    space.isPhysical = 'ok' in entered && entered.ok;
    if (space.isPhysical) space.roots = undefined;
    if ('ok' in entered) return space;
    space.space = spaceTag(entered.gscid, false, false);
    space.process = processTag(entered.pscid);
    space.roots = this.#iommu.fast && !this.#iommu.translator.bigEndian ? rootsOf(entered) : undefined;
    space.epoch = this.#iommu.epoch;
    return space;
  }

  #request(hi: number, lo: number, pasid: number, need: number): TranslationRequest {
    return {
      deviceId: this.rid,
      processIdValid: pasid !== noPasid,
      processId: pasid === noPasid ? 0 : pasid,
      supervisor: false,
      execute: false,
      write: need === right.write,
      type: 'untranslated',
      noWrite: false,
      iova: join(hi, lo),
    };
  }

  /** A page the IOTLB does not have: walks, keeps the result, and sets #address and #mask. False when it faulted. */
  #miss(space: Remembered, hi: number, lo: number, pasid: number, need: number): boolean {
    const iommu = this.#iommu;
    const { statistics, iotlb, fast, translator } = iommu;
    this.#mask = 4095;
    const write = need === right.write;
    const isCurrent = space.epoch === iommu.epoch;
    if (space.isPhysical && !isCurrent) {
      this.#address = (hi >>> 0) * 2 ** 32 + (lo >>> 0);
      return true;
    }
    statistics.misses++;
    const before = iommu.trace.on ? iommu.memoryReferences : 0;
    let shift: number;
    let guest: number;
    if (isCurrent && fast && space.roots && !this.#monitor.active && fast.walk(space.roots, hi, lo, write)) {
      statistics.fastWalks++;
      ({ shift, guestPpn: guest } = fast);
      const at = iotlb.insert(space.space, space.process, hi, lo, shift, fast.ppn, guest, fast.rights, fast.global);
      iommu.check?.filled(at, this.#request(hi, lo, pasid, need));
      this.#address = fast.ppn * 4096 + (lo & 4095);
    } else {
      statistics.plainWalks++;
      const request = this.#request(hi, lo, pasid, need);
      const found = translator.translate(request);
      if (!found.ok) {
        if (found.cause.cause !== this.#lastCause) iommu.report(request, found);
        this.#lastCause = found.cause.cause;
        return false;
      }
      ({ shift } = found);
      guest = Number(found.gpa >> 12n);
      this.#mrif = found.mrif;
      this.#address = Number(found.pa);
      if (isCurrent && !found.mrif) {
        const rights = (found.read ? right.read : 0) | (found.write ? right.write : 0) | (found.execute ? right.execute : 0); // prettier-ignore
        const ppn = Number(found.pa >> 12n);
        const at = iotlb.insert(space.space, space.process, hi, lo, shift, ppn, guest, rights, found.global);
        iommu.check?.filled(at, request);
      }
    }
    this.#lastCause = 0;
    if (iommu.trace.on)
      iommu.trace.emit('iommu.walk', {
        rid: this.rid,
        pasid,
        iova: join(hi, lo),
        gpa: guest * 4096,
        hpa: this.#address,
        shift,
        references: iommu.memoryReferences - before,
        path: space.roots ? 'two-stage' : 'plain',
      });
    return true;
  }
}

const join = (hi: number, lo: number): bigint => (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0);

/** The roots for the fast walk, or undefined where only the plain walk will do. */
export const rootsOf = (space: AddressSpace): WalkRoots | undefined => {
  const { dc } = space;
  const largest = 1n << 31n;
  if (dc.sbe || space.ppn >= largest || dc.iohgatpPpn >= largest) return undefined;
  const msi = dc.msiptpMode !== 0;
  const low = largest - 1n;
  return {
    firstLevels: levelsOf(space.mode),
    firstRoot: space.mode === iosatpMode.Bare ? 0 : Number(space.ppn),
    secondLevels: levelsOf(dc.iohgatpMode),
    secondRoot: dc.iohgatpMode === iohgatpMode.Bare ? 0 : Number(dc.iohgatpPpn),
    msi,
    msiMaskLo: Number(dc.msiMask & low),
    msiPatternLo: Number(dc.msiPattern & low),
    msiLow: (dc.msiPattern & ~dc.msiMask & ~low) === 0n,
  };
};
