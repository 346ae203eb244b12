import { describe, expect, it } from 'vitest';
import { HostMemory } from '#vmm/base/memory';
import { access } from '#iommufd/arch/riscv/ports';
import { BypassPort, Segments } from '#iommufd/host/bypass-port';
import { HostMemoryPort } from '#iommufd/host/memory-port';

const host = (): HostMemory => new HostMemory({ engineBytes: 1 << 20, poolBytes: 2 << 20, guestBytes: 2 << 20 });
const file = (stored: number[]) => ({ read: () => 0, write: (_o: number, _b: number, value: number | bigint) => void stored.push(Number(value)), reset: () => {} }); // prettier-ignore

describe('a device behind no IOMMU', () => {
  it('reaches RAM as it lies, and nothing else', () => {
    const memory = host();
    const port = new BypassPort(memory);
    const { count, offsets, lengths } = port.read(0, memory.guestBase + 5, 5000);
    expect([count, offsets[0], lengths[0]]).toEqual([1, memory.guestBase + 5, 5000]);
    expect(port.memory).toBe(memory.bytes);
    expect(port.write(0, 0x1000, 4).faults).toEqual([{ first: 0, last: 3, status: 'unsupported-request' }]);
    expect(port.write(5, 0, 4).faults).toHaveLength(1);
    expect(port.write(0, memory.end - 2, 4).faults).toHaveLength(1);
  });

  it('sends messages to RAM and to interrupt files', () => {
    const memory = host();
    const stored: number[] = [];
    const page = memory.attachMmio(file(stored));
    const port = new BypassPort(memory);
    expect([port.message(Math.floor(page / 2 ** 32), page | 0, 9), port.message(0, memory.guestBase, 8), port.message(9, 0, 1)]).toEqual([true, true, false]); // prettier-ignore
    expect([stored, memory.view.getUint32(memory.guestBase, true)]).toEqual([[9], 8]);
  });
});

describe('segments', () => {
  it('merge neighbours, grow, and join faults of one kind', () => {
    const segments = new Segments();
    for (let i = 0; i < 40; i++) segments.add(i * 8192, 4096);
    segments.add(39 * 8192 + 4096, 10);
    expect([segments.count, segments.lengths[39], segments.offsets[20]]).toEqual([40, 4106, 20 * 8192]);
    segments.fault(0, 9, 'unsupported-request');
    segments.fault(10, 19, 'unsupported-request');
    segments.fault(20, 29, 'completer-abort');
    expect(segments.faults).toEqual([
      { first: 0, last: 19, status: 'unsupported-request' },
      { first: 20, last: 29, status: 'completer-abort' },
    ]);
    segments.clear();
    expect([segments.count, segments.faults]).toEqual([0, []]);
  });
});

describe('host memory as an IOMMU reaches it', () => {
  it('is RAM beyond the engine, and 4-byte stores to devices', () => {
    const memory = host();
    const stored: number[] = [];
    const page = BigInt(memory.attachMmio(file(stored)));
    const port = new HostMemoryPort(memory);
    const eight = new Uint8Array(8).fill(7);
    expect(port.store(BigInt(memory.guestBase), eight)).toBe(access.ok);
    const back = new Uint8Array(8);
    expect(port.load(BigInt(memory.guestBase), back)).toBe(access.ok);
    expect(back).toEqual(eight);
    expect(port.load(0x1000n, back)).toBe(access.fault);
    expect(port.load(1n << 55n, back)).toBe(access.fault);
    expect(port.store(page, eight)).toBe(access.fault);
    expect(port.store(page, Uint8Array.of(1, 2, 3, 0xff))).toBe(access.ok);
    expect(port.store(page + 0x5000n, Uint8Array.of(1, 2, 3, 4))).toBe(access.fault);
    expect(stored).toEqual([0xff030201]);
  });
});
