import { readFileSync } from 'node:fs';
import { type CommandName, encodeCommand } from '#iommufd/arch/riscv/commands';
import { fsc, iosatpMode } from '#iommufd/arch/riscv/tables';
import type { Operands } from '#iommufd/arch/riscv/commands';
import { cqb, cqcsr, ddtp, ddtpMode, fqb, fqcsr, offsets } from '#iommufd/arch/riscv/registers';
import { encodeDeviceContext, encodeDirectoryEntry } from '#iommufd/arch/riscv/tables';
import { parseConfig } from '#vmm/config/parse';
import { layout } from '#vmm/machine/layout';
import { Machine } from '#vmm/machine/machine';

const ram = layout.ram.base;
/** Where the test keeps its tables, in guest RAM that no program uses: nothing is ever run. */
// prettier-ignore
export const places = {
  commandQueue: ram + 0x100000, faultQueue: ram + 0x110000, root: ram + 0x120000, middle: ram + 0x121000,
  leaf: ram + 0x122000, stage1: ram + 0x130000, page: ram + 0x140000,
} as const;
export const queueEntries = 256;

/** A machine with two NICs whose guest is the test: it programs the vIOMMU through its registers and memory. */
export class Driver {
  readonly machine: Machine;
  /** Names of the host calls since the last `take`. */
  readonly #calls: string[] = [];
  #tail = 0;

  constructor(nics = 2) {
    const parsed = parseConfig({ memory: '16M', nics: Array.from({ length: nics }, () => ({})) });
    if (!parsed.ok) throw new Error('bad test configuration');
    const image = readFileSync('guest-images/images/hello.elf');
    const noDisk = () => {
      throw new Error('no disk here');
    };
    this.machine = Machine.create(parsed.config, { image, openDisk: noDisk, console: () => {} });
    this.machine.trace.listen(({ name, fields }) => {
      if (name === 'iommufd.ioctl') this.#calls.push(String(fields['name']));
    });
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
}
