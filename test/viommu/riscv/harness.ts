import { readFileSync } from 'node:fs';
import { type CommandName, encodeCommand } from '#iommufd/arch/riscv/commands';
import { pageRequestRecord, pageResponsePayload } from '#iommufd/arch/riscv/faults';
import { encodeProcessContext, fsc, iosatpMode, pdtpMode } from '#iommufd/arch/riscv/tables';
import type { Operands } from '#iommufd/arch/riscv/commands';
import { cqb, cqcsr, ddtp, ddtpMode, fqb, fqcsr, offsets, pqb, pqcsr } from '#iommufd/arch/riscv/registers';
import { encodeDeviceContext, encodeDirectoryEntry } from '#iommufd/arch/riscv/tables';
import { parseConfig } from '#vmm/config/parse';
import type { MachineConfigInput } from '#vmm/config/schema';
import { layout } from '#vmm/machine/layout';
import { Machine } from '#vmm/machine/machine';
import { AtsFunction } from './ats-function.ts';

const ram = layout.ram.base;
/** Where the test keeps its tables, in guest RAM that no program uses: nothing is ever run. */
// prettier-ignore
export const places = {
  commandQueue: ram + 0x100000, faultQueue: ram + 0x110000, root: ram + 0x120000, middle: ram + 0x121000,
  leaf: ram + 0x122000, stage1: ram + 0x130000, page: ram + 0x140000, pageRequestQueue: ram + 0x150000,
  processes: ram + 0x160000,
} as const;
export const queueEntries = 256;
/** PCI slot and device_id of the first function with ATS, PRI and PASID. */
export const atsSlot = 8;
export const atsDeviceId = atsSlot << 3;
/** What a guest finds in its page-request queue. */
interface QueuedRequest {
  readonly deviceId: number;
  readonly pasid: number;
  readonly payload: bigint;
}

/** A machine with two NICs whose guest is the test: it programs the vIOMMU through its registers and memory. */
export class Driver {
  readonly machine: Machine;
  /** `take` has nothing more from here on, and nobody listens: long runs are faster. */
  readonly stopRecording: () => void;
  /** Names of the host calls since the last `take`. */
  readonly #calls: string[] = [];
  #tail = 0;
  #pageHead = 0;
  #pageEntries = 0;
  /** Functions with ATS, PRI and PASID, by slot from `atsSlot`. */
  readonly functions: readonly AtsFunction[];

  constructor(nics = 2, functions = 0, more: MachineConfigInput = {}) {
    const parsed = parseConfig({ memory: '16M', nics: Array.from({ length: nics }, () => ({})), ...more });
    if (!parsed.ok) throw new Error('bad test configuration');
    const image = readFileSync('guest-images/images/hello.elf');
    const noDisk = () => {
      throw new Error('no disk here');
    };
    this.functions = Array.from({ length: functions }, (_, i) => new AtsFunction(`ats${i}`));
    const devices = () =>
      this.functions.map((fn, i) => ({ id: fn.name, slot: atsSlot + i, iommu: true, function: fn }));
    this.machine = Machine.create(parsed.config, { image, openDisk: noDisk, console: () => {}, devices });
    this.stopRecording = this.machine.trace.listen(({ name, fields }) => {
      if (name === 'iommufd.ioctl') this.#calls.push(String(fields['name']));
      if (name === 'iommufd.write') this.#calls.push('write(fault)');
    });
    for (const i of this.functions.keys()) this.enableFunction(i);
    this.write(offsets.cqb, 8, cqb.encode({ 'LOG2SZ-1': 7n, PPN: BigInt(places.commandQueue / 4096) }));
    this.write(offsets.cqcsr, 4, cqcsr.encode({ cqen: 1n }));
    this.write(offsets.fqb, 8, fqb.encode({ 'LOG2SZ-1': 6n, PPN: BigInt(places.faultQueue / 4096) }));
    this.write(offsets.fqcsr, 4, fqcsr.encode({ fqen: 1n }));
  }

  write(offset: number, bytes: 4 | 8, value: bigint): void {
    this.machine.bus.write(layout.iommu.base + offset, bytes, bytes === 8 ? value : Number(value));
  }
  read(offset: number, bytes: 4 | 8): bigint {
    return BigInt(this.machine.bus.read(layout.iommu.base + offset, bytes)!);
  }
  store(address: number, ...words: readonly bigint[]): void {
    const bytes = new Uint8Array(8 * words.length);
    const view = new DataView(bytes.buffer);
    for (const [i, word] of words.entries()) view.setBigUint64(8 * i, word, true);
    this.machine.writeMemory(address, bytes);
  }

  /** Points ddtp at a 3-level directory (base format) that holds no context yet. */
  enableDirectory(): void {
    this.store(places.root, encodeDirectoryEntry(BigInt(places.middle / 4096)));
    this.store(places.middle, encodeDirectoryEntry(BigInt(places.leaf / 4096)));
    const root = { iommu_mode: BigInt(ddtpMode['3LVL']), PPN: BigInt(places.root / 4096) };
    this.write(offsets.ddtp, 8, ddtp.encode(root));
  }

  /** Writes a device's context into the directory, and nothing else. Device ids below 128. */
  setContext(deviceId: number, words: readonly bigint[]): void {
    this.store(places.leaf + 32 * deviceId, ...words);
  }

  /** A context whose first stage is the (empty) Sv39 table at `places.stage1`. */
  translating(pscid = 1n): readonly bigint[] {
    const words = encodeDeviceContext({ ta: { PSCID: pscid } }, false);
    words[0] = 1n;
    words[3] = fsc.encode({ MODE: BigInt(iosatpMode.Sv39), PPN: BigInt(places.stage1 / 4096) });
    return words;
  }

  /** Puts a command into the queue and rings; it has been executed on return. */
  command(name: CommandName, operands: Partial<Operands> = {}): void {
    this.raw(...encodeCommand(name, operands));
  }
  raw(low: bigint, high: bigint): void {
    this.store(places.commandQueue + 16 * this.#tail, low, high);
    this.#tail = (this.#tail + 1) % queueEntries;
    this.write(offsets.cqt, 4, BigInt(this.#tail));
  }

  /** Host calls since the last time. */
  take(): string[] {
    return this.#calls.splice(0);
  }

  /** Lets interrupts of the host and of the guest's devices happen. */
  settle(): void {
    this.machine.clock.advance(1_000_000);
  }

  /** Records in the guest's fault queue: [first doubleword, iotval, iotval2]. */
  faults(): bigint[][] {
    const tail = Number(this.read(offsets.fqt, 4));
    return Array.from({ length: tail }, (_, i) => {
      const bytes = this.machine.readMemory(places.faultQueue + 32 * i, 32);
      const view = new DataView(bytes.buffer);
      return [view.getBigUint64(0, true), view.getBigUint64(16, true), view.getBigUint64(24, true)];
    });
  }

  /** The way to memory of the NIC in PCI slot `slot`. */
  port(slot: number) {
    return this.machine.host.devices.find(({ placed }) => placed.slot === slot)!.port;
  }

  // ── ATS, PRI and PASID ──────────────────────────────────────────────────────────────────────────────────────────

  /** Bus Master Enable and PASID Enable of a function, as its driver would set them. */
  enableFunction(index: number): void {
    const config = layout.ecam.base + ((atsSlot + index) << 15);
    const { bus } = this.machine;
    bus.write(config + 4, 2, 6);
    for (let at = 0x100; at !== 0;) {
      const header = Number(bus.read(config + at, 4));
      if ((header & 0xffff) === 0x1b) bus.write(config + at + 6, 2, 7);
      if ((header & 0xffff) === 0x0f) bus.write(config + at + 6, 2, 0x8000);
      if ((header & 0xffff) === 0x13) {
        bus.write(config + at + 12, 4, 64);
        bus.write(config + at + 4, 2, 1);
      }
      at = (header >>> 20) & 0xffc;
    }
  }

  /** Turns the page-request queue on, with 2^log2 entries. */
  enablePageRequests(log2 = 6): void {
    this.#pageEntries = 1 << log2;
    this.write(
      offsets.pqb,
      8,
      pqb.encode({ 'LOG2SZ-1': BigInt(log2 - 1), PPN: BigInt(places.pageRequestQueue / 4096) }),
    );
    this.write(offsets.pqcsr, 4, pqcsr.encode({ pqen: 1n }));
    this.#pageHead = 0;
  }

  /** Takes what is in the page-request queue. */
  takePageRequests(): QueuedRequest[] {
    const tail = Number(this.read(offsets.pqt, 4));
    const found: QueuedRequest[] = [];
    for (; this.#pageHead !== tail; this.#pageHead = (this.#pageHead + 1) % this.#pageEntries) {
      const bytes = this.machine.readMemory(places.pageRequestQueue + 16 * this.#pageHead, 16);
      const view = new DataView(bytes.buffer);
      const head = pageRequestRecord.decode(view.getBigUint64(0, true));
      found.push({
        deviceId: Number(head.DID),
        pasid: head.PV ? Number(head.PID) : -1,
        payload: view.getBigUint64(8, true),
      });
    }
    this.write(offsets.pqh, 4, BigInt(this.#pageHead));
    return found;
  }

  /** Answers a group. */
  respond(deviceId: number, pasid: number, group: number, code = 0): void {
    this.command('ATS.PRGR', {
      ...(pasid < 0 ? {} : { PV: 1n, PID: BigInt(pasid) }),
      RID: BigInt(deviceId),
      PAYLOAD: pageResponsePayload.encode({ PRGI: BigInt(group), code: BigInt(code), destination: BigInt(deviceId) }),
    });
  }

  /**
   * A context for a function: ATS and PRI, and a PD8 process directory at `places.processes` with one process, `pasid`,
   * whose first stage is the Sv39 table at `places.stage1`; requests without a PASID are its as well.
   */
  sharing(pasid = 1, more = 0n): readonly bigint[] {
    // V EN_ATS EN_PRI PDTV PRPR; DPE, with process 0 alike.
    const tc = 0x1n | 0x2n | 0x4n | 0x20n | 0x40n | 0x200n | more;
    const mode = { MODE: BigInt(iosatpMode.Sv39), PPN: BigInt(places.stage1 / 4096) };
    for (const [id, PSCID] of [
      [0, 9n],
      [pasid, BigInt(pasid)],
    ] as const)
      // prettier-ignore
      this.store(places.processes + 16 * id, ...encodeProcessContext({ ta: { V: 1n, PSCID }, fsc: mode }));
    return [tc, 0n, 0n, fsc.encode({ MODE: BigInt(pdtpMode.PD8), PPN: BigInt(places.processes / 4096) })];
  }

  /** Maps a page of the table at `places.stage1` (its second and third level right behind it), or unmaps it. */
  map(iova: bigint, flags = 0xd7n, to: number = places.page): void {
    const index = (shift: bigint): number => Number((iova >> shift) & 511n) * 8;
    const entry = (address: number, bits: bigint): bigint => (BigInt(address / 4096) << 10n) | bits;
    this.store(places.stage1 + index(30n), entry(places.stage1 + 4096, 1n));
    this.store(places.stage1 + 4096 + index(21n), entry(places.stage1 + 8192, 1n));
    this.store(places.stage1 + 8192 + index(12n), flags === 0n ? 0n : entry(to, flags));
  }

  /** Lets the command queue go on after a device did not complete an invalidation. */
  recover(): void {
    const { cmd_ill, cmd_to, cqmf } = cqcsr.decode(this.read(offsets.cqcsr, 4));
    if (cmd_ill || cqmf) throw new Error('the command queue stopped at a command that is legal');
    if (cmd_to) this.write(offsets.cqcsr, 4, cqcsr.encode({ cqen: 1n, cmd_to: 1n }));
  }

  /** Nothing outstanding anywhere, or what still is. */
  leftOver(): Record<string, number> {
    const { assignment, host } = this.machine;
    const { bridge } = assignment.viommu!;
    return {
      groups: bridge.pageRequests.outstanding,
      invalidations: bridge.invalidations.outstanding,
      host: host.driver.deviceInvalidations,
      link: host.link.outstanding,
    };
  }
}
