import { describe, expect, it } from 'vitest';
import { PhysicalMemory } from '#iommufd/kernel/memory/physical';
import { ProcessMemory, RunList } from '#iommufd/kernel/memory/process-memory';
import { errno } from '#vmm/base/errno';
import { HostMemory } from '#vmm/base/memory';

describe('process memory', () => {
  const host = new HostMemory({ engineBytes: 1, poolBytes: 1, guestBytes: 4 << 20 });
  const physical = new PhysicalMemory(host);

  it('copies across pages and says how much was missing', () => {
    const memory = new ProcessMemory(physical);
    const address = memory.map({ bytes: 3 * 4096 });
    const data = Uint8Array.from({ length: 9000 }, (_, i) => i % 251);
    expect(memory.write(address + 100, data)).toBe(0);
    const back = new Uint8Array(9000);
    expect(memory.read(address + 100, back)).toBe(0);
    expect(back).toEqual(data);
    expect(memory.write(address + 3 * 4096 - 10, data)).toBe(8990);
    expect(memory.read(0, back)).toBe(9000);
    expect(memory.readU32(address + 100)).toBe(data[0]! + data[1]! * 256 + data[2]! * 65536 + data[3]! * 16_777_216);
    expect(memory.readU32(address + 3 * 4096 - 2)).toBe(-1);
  });

  it('enforces protection', () => {
    const memory = new ProcessMemory(physical);
    const { address, bytes } = memory.scratch(4096);
    bytes[0] = 7;
    memory.protect(address, 4096, 1);
    expect(memory.readU32(address)).toBe(7);
    expect(memory.write(address, new Uint8Array(4))).toBe(4);
    expect(memory.resolve(address, 1, false, new RunList())).toBe(errno.EFAULT); // scratch is the caller's
  });

  it('unmaps the middle of a mapping, and tells when nothing is left', () => {
    const memory = new ProcessMemory(physical);
    let closed = 0;
    const address = memory.map({ bytes: 4 * 4096, closed: () => closed++ });
    memory.unmap(address + 4096, 2 * 4096);
    const byte = new Uint8Array(1);
    expect([0, 1, 2, 3].map((i) => memory.read(address + i * 4096, byte))).toEqual([0, 1, 1, 0]);
    expect(closed).toBe(0);
    memory.unmap(address, 4 * 4096);
    expect(closed).toBe(1);
  });

  it('shows guest RAM in one run, anonymous pages one by one, huge pages in blocks', () => {
    const memory = new ProcessMemory(physical);
    const runs = new RunList();
    const ram = memory.map({ bytes: host.guestBytes, hpa: host.guestBase });
    expect(memory.resolve(ram + 4096, 5, true, runs)).toBe(0);
    expect([runs.hpa, runs.pages]).toEqual([[host.guestBase + 4096], [5]]);
    memory.write(ram, new Uint8Array([42]));
    expect(host.bytes[host.guestBase]).toBe(42);
    runs.clear();
    memory.resolve(memory.map({ bytes: 3 * 4096 }), 3, true, runs);
    expect(runs.pages).toEqual([1, 1, 1]);
    runs.clear();
    const huge = memory.map({ bytes: 4 << 20, huge: true });
    expect(huge % (2 << 20)).toBe(0);
    memory.resolve(huge + 4096, 1023, true, runs);
    expect(runs.pages).toEqual([511, 512]);
  });

  it('refuses device registers unless they were mapped to be shared', () => {
    const memory = new ProcessMemory(physical);
    const device = host.attachMmio({ read: () => 0, write() {}, reset() {} });
    const runs = new RunList();
    expect(memory.resolve(memory.map({ bytes: 4096, mmio: device }), 1, true, runs)).toBe(errno.EFAULT);
    expect(memory.resolve(memory.map({ bytes: 4096, mmio: device, pinnable: true }), 1, true, runs)).toBe(0);
    expect(runs.hpa).toEqual([device]);
  });
});
