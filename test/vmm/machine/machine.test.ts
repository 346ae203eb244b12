import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { makeDiskImage } from '#guest-images/disk-image';
import { memoryStorage } from '#devices/backends/storage/memory';
import { JsonLines } from '#vmm/record/jsonl';
import { Machine, MachineError, type MachineConfigInput, parseConfig } from '../../../index.ts';

const build = (
  guest: string,
  keys: MachineConfigInput = {},
  disk?: Uint8Array,
): { machine: Machine; text: () => string } => {
  const parsed = parseConfig(keys);
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.issues));
  let console = '';
  const machine = Machine.create(parsed.config, {
    image: readFileSync(`guest-images/images/${guest}.elf`),
    openDisk: () => memoryStorage(disk ?? 1 << 20),
    console: (bytes) => {
      console += new TextDecoder().decode(bytes);
    },
  });
  return { machine, text: () => console };
};

describe('run', () => {
  it('ends with what the guest said', () => {
    const { machine, text } = build('hello');
    const { outcome, instructions, virtualNs } = machine.run();
    expect(outcome).toBe('passed');
    expect(text()).toContain('128 MiB');
    expect(text().trimEnd().endsWith('passed')).toBe(true);
    expect(virtualNs).toBeGreaterThanOrEqual(instructions);
    expect(build('fail').machine.run()).toMatchObject({ outcome: 'failed', code: 3 });
    expect(build('reset').machine.run()).toMatchObject({ outcome: 'reset' });
  });

  it('stops at console text, at an event, at an instruction count and at a virtual time, and goes on', () => {
    const { machine, text } = build('hello');
    expect(machine.run({ instructions: 1000 })).toMatchObject({ outcome: 'limit', instructions: 1000 });
    expect(machine.run({ console: 'SBI 2.0' }).outcome).toBe('met');
    expect(text()).not.toContain('timebase');
    const before = machine.clock.now;
    const { outcome, virtualNs } = machine.run({ virtualNs: 5000 });
    expect(outcome).toBe('limit');
    expect(virtualNs - before).toBeGreaterThanOrEqual(5000);
    expect(machine.run({ event: 'mmio.write' }).outcome).toBe('met');
    expect(machine.run().outcome).toBe('passed');
  });

  it('tells the trap of a guest that crashed, and its registers', () => {
    const { machine } = build('crash');
    const { outcome, trap } = machine.run();
    expect(outcome).toBe('crashed');
    expect(trap).toMatchObject({ name: 'load access fault', cause: 5n, tval: 0x7fff_0000_dead_0000n });
    expect(machine.registers()).toMatchObject({ stvec: 0n, scause: expect.anything() });
  });

  it('a guest that hangs is stopped by a limit, not by luck', () => {
    const { machine } = build('hang');
    expect(machine.run({ instructions: 2_000_000 }).outcome).toBe('limit');
  });

  it('runs several harts in turn', () => {
    const { machine, text } = build('smp', { smp: 3 });
    expect(machine.run().outcome).toBe('passed');
    expect(text()).toContain('harts: count=3');
  });
});

describe('memory', () => {
  it('is read and written by guest-physical address, and only where RAM is', () => {
    const { machine } = build('hello');
    machine.writeMemory(0x8400_0000, Uint8Array.of(1, 2, 3));
    expect([...machine.readMemory(0x8400_0000, 4)]).toEqual([1, 2, 3, 0]);
    expect(() => machine.readMemory(0x7fff_ffff, 2)).toThrow(RangeError);
    expect(() => machine.writeMemory(0x8800_0000 - 1, Uint8Array.of(1, 2))).toThrow(RangeError);
  });
});

describe('a guest or a machine that cannot be', () => {
  const create = (image: Uint8Array, keys: MachineConfigInput = {}) => {
    const parsed = parseConfig(keys);
    if (!parsed.ok) throw new Error('unexpected');
    return () => Machine.create(parsed.config, { image, openDisk: () => memoryStorage(512), console: () => {} });
  };
  const elf = readFileSync('guest-images/images/hello.elf');
  it.each([
    ['not an ELF file', new Uint8Array(100)],
    ['for x86-64', Uint8Array.from(elf, (byte, i) => (i === 18 ? 62 : byte))],
    ['truncated', elf.subarray(0, 5000)],
  ])('%s is one sentence', (sentence, image) => {
    expect(create(image)).toThrow(MachineError);
    expect(create(image)).toThrow(sentence);
  });
});

describe('the whole path', () => {
  const disk = makeDiskImage(1);
  const keys: MachineConfigInput = { disks: [{ path: 'in memory' }], nics: [{}, {}] };

  it('the same run twice gives the same trace to the byte', () => {
    const record = (): string[] => {
      const { machine } = build('dma', keys, disk.slice());
      const pieces: string[] = [];
      const lines = new JsonLines(
        (text) => pieces.push(text),
        () => true,
      );
      machine.trace.listen(lines.sink);
      expect(machine.run().outcome).toBe('passed');
      lines.flush();
      machine.close();
      return pieces.join('').split('\n');
    };
    const first = record();
    const second = record();
    expect(first.length).toBeGreaterThan(10_000);
    expect(second.length).toBe(first.length);
    expect(second.findIndex((line, i) => line !== first[i])).toBe(-1);
  });

  it('leaves the host as it found it', () => {
    const { machine } = build('dma', keys, disk.slice());
    const { memory, host } = machine;
    expect(machine.run().outcome).toBe('passed');
    const stats = machine.stats();
    expect(stats.devices.map(({ faults }) => faults)).toEqual([1, 1, 1]);
    expect(stats.devices[0]!.writtenBytes).toBeGreaterThanOrEqual(9 << 20);
    expect(stats.iotlbHits + stats.iotlbMisses).toBe(stats.translations);
    machine.close();
    expect(host.kernel.physical.pinned).toBe(0);
    // The driver's own: directory levels, queues.
    expect(memory.pagesUsed).toBeLessThan(20);
  });
});
