import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { encodeCommand } from '#iommufd/arch/riscv/commands';
import { cqb, cqcsr, offsets } from '#iommufd/arch/riscv/registers';
import { layout } from '#vmm/machine/layout';
import { Machine, parseConfig } from '../../../index.ts';

const slot = 7;
const config = layout.ecam.base + (slot << 15);
const registers = layout.pci32.base;
const queue = layout.ram.base + 0x100000;
const cell = layout.ram.base + 0x110000;
const identity = 77;

/** A machine whose guest is the test: the IOMMU is function 00:07.0, its registers at the start of the 32-bit window. */
class Rig {
  readonly machine: Machine;
  readonly messages: number[] = [];
  #tail = 0;

  constructor() {
    const parsed = parseConfig({ memory: '16M', nics: [{}], viommu: { bus: 'pci', address: slot } });
    if (!parsed.ok) throw new Error(JSON.stringify(parsed.issues));
    const noDisk = (): never => {
      throw new Error('no disk here');
    };
    const image = readFileSync('guest-images/images/hello.elf');
    this.machine = Machine.create(parsed.config, { image, openDisk: noDisk, console: () => {} });
    this.machine.trace.listen(({ name, fields }) => {
      if (name === 'imsic.message') this.messages.push(Number(fields['identity']));
    });
  }

  write(address: number, bytes: 1 | 2 | 4 | 8, value: number | bigint): void {
    expect(this.machine.bus.write(address, bytes, value)).toBe(true);
  }
  read(address: number, bytes: 1 | 2 | 4 | 8): number {
    return Number(this.machine.bus.read(address, bytes));
  }

  /** Places BAR 0 and lets it answer; with or without Bus Master Enable. */
  enable(isMaster: boolean): void {
    this.write(config + 0x10, 4, registers);
    this.write(config + 0x14, 4, 0);
    this.write(config + 0x04, 2, isMaster ? 6 : 2);
  }
  /** MSI-X entry 0 to hart 0's interrupt file. */
  route(masked: boolean): void {
    this.write(registers + 0x300, 8, BigInt(layout.imsic.base));
    this.write(registers + 0x308, 4, identity);
    this.write(registers + 0x30c, 4, masked ? 1 : 0);
    this.write(config + this.capability(0x11) + 2, 2, 0x8000);
  }
  capability(id: number): number {
    for (let at = this.read(config + 0x34, 1); at !== 0; at = this.read(config + at + 1, 1))
      if (this.read(config + at, 1) === id) return at;
    throw new Error(`no capability ${id}`);
  }
  openQueue(): void {
    this.write(registers + offsets.cqb, 8, cqb.encode({ 'LOG2SZ-1': 7n, PPN: BigInt(queue / 4096) }));
    this.write(registers + offsets.cqcsr, 4, Number(cqcsr.encode({ cqen: 1n, cie: 1n })));
  }
  command(words: readonly bigint[]): void {
    const bytes = new Uint8Array(16);
    words.forEach((word, i) => new DataView(bytes.buffer).setBigUint64(8 * i, word, true));
    this.machine.writeMemory(queue + 16 * this.#tail++, bytes);
    this.write(registers + offsets.cqt, 4, this.#tail);
  }
  fence(data: number): void {
    this.command(encodeCommand('IOFENCE.C', { AV: 1n, DATA: BigInt(data), ADDR: BigInt(cell) >> 2n }));
  }
  get stored(): number {
    return new DataView(this.machine.readMemory(cell, 4).buffer).getUint32(0, true);
  }
  get csr(): number {
    return this.read(registers + offsets.cqcsr, 4);
  }
}
const illegal = [0x7fn, 0n];
const cmdIll = Number(cqcsr.mask('cmd_ill'));
const cqmf = Number(cqcsr.mask('cqmf'));

describe('the IOMMU as a PCI Express function', () => {
  it('is the function that drivers look for, with its MSI-X table where msi_cfg_tbl is', () => {
    const rig = new Rig();
    expect(rig.read(config, 4)).toBe(0x0014_1b36);
    expect(rig.read(config + 8, 4) >>> 8).toBe(0x08_06_00);
    rig.write(config + 0x10, 4, 0xffff_ffff);
    expect(rig.read(config + 0x10, 4)).toBe(0xffff_e004);
    const msix = rig.capability(0x11);
    expect(rig.read(config + msix + 2, 2) & 0x7ff).toBe(15);
    expect([rig.read(config + msix + 4, 4), rig.read(config + msix + 8, 4)]).toEqual([0x300, 0x1000]);
    // Nothing is where the platform device would be.
    expect(rig.machine.bus.read(layout.iommu.base, 8)).toBeUndefined();
  });

  it('reaches memory only with Bus Master Enable', () => {
    const rig = new Rig();
    rig.enable(false);
    rig.openQueue();
    rig.fence(0x1234);
    expect(rig.csr & cqmf).not.toBe(0);
    expect(rig.stored).toBe(0);
    rig.write(config + 0x04, 2, 6);
    rig.write(registers + offsets.cqcsr, 4, rig.csr);
    expect(rig.csr & cqmf).toBe(0);
    expect(rig.stored).toBe(0x1234);
  });

  it('sends its interrupts by MSI-X, and holds back what is masked', () => {
    const rig = new Rig();
    rig.enable(true);
    rig.route(false);
    rig.openQueue();
    rig.command(illegal);
    expect(rig.csr & cmdIll).not.toBe(0);
    expect(rig.messages).toEqual([identity]);

    const masked = new Rig();
    masked.enable(true);
    masked.route(true);
    masked.openQueue();
    masked.command(illegal);
    expect(masked.messages).toEqual([]);
    expect(masked.read(registers + 0x1000, 4)).toBe(1);
    masked.write(registers + 0x30c, 4, 0);
    expect(masked.messages).toEqual([identity]);
    expect(masked.read(registers + 0x1000, 4)).toBe(0);
  });

  it('answers no access that leaves its registers', () => {
    const rig = new Rig();
    rig.enable(true);
    for (const [offset, bytes] of [
      [0x1008, 4],
      [0x1ff8, 8],
      [0xffc, 8],
      [0x1ffc, 4],
    ] as const) {
      // prettier-ignore
      rig.write(registers + offset, bytes, bytes === 8 ? 0xffff_ffff_ffff_ffffn : 0xffff_ffff);
      expect(rig.read(registers + offset, bytes)).toBe(0);
    }
  });
});
