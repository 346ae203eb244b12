import { describe, expect, it } from 'vitest';
import { memoryStorage } from '#devices/backends/storage/memory';
import { statusTable } from '#devices/nvme/status';
import { type StorageBackend, StorageError } from '#vmm/base/ports';
import { type Sqe, pattern, ready } from './driver.ts';

const page = 0x40000;
/** Reads of a page each, as many as `blocks`, into pages that are no neighbours. */
const reads = (blocks: readonly number[]): Sqe[] =>
  blocks.map((block, i) => ({ opcode: 0x02, nsid: 1, cid: i + 1, prp1: page + i * 0x2000, cdw: [block * 8, 0, 7] }));

/** A disk on which calls are counted and one block can be bad. */
function watched() {
  const memory = memoryStorage(1 << 20);
  memory.write(0, pattern(1 << 20, 9));
  const calls: number[] = [];
  let bad = -1;
  const read = (offset: number, targets: readonly Uint8Array[]): void => {
    calls.push(targets.length);
    for (const target of targets) {
      if (offset === bad) throw new StorageError('io', 'a bad block');
      memory.read(offset, target);
      offset += target.length;
    }
  };
  const backend: StorageBackend = {
    ...memory,
    bytes: memory.bytes,
    readOnly: false,
    read: (offset, target) => read(offset, [target]),
    readVector: read,
    write: (offset, source) => memory.write(offset, source),
    flush: () => {},
    discard: () => {},
    close: () => {},
  };
  const d = ready({ backend, timing: { bandwidth: 1e6 } }, 1, 64);
  const run = (commands: readonly Sqe[]): number[] => {
    calls.length = 0;
    for (const command of commands) d.queue(1, command);
    d.ring(1);
    d.run();
    return d.reap(1).map(({ cid, code }) => cid * 0x1000 + code);
  };
  const isRead = (i: number, block: number): boolean =>
    Buffer.compare(d.peek(page + i * 0x2000, 4096), pattern(1 << 20, 9).subarray(block * 4096, block * 4096 + 4096)) ===
    0;
  return { d, calls, run, isRead, setBad: (block: number) => (bad = block * 4096) };
}

describe('reads that continue each other', () => {
  it('are served with one call, each with a completion of its own', () => {
    const { d, calls, run, isRead } = watched();
    expect(run(reads([4, 5, 6, 7, 20, 21, 3]))).toEqual([1, 2, 3, 4, 5, 6, 7].map((cid) => cid * 0x1000));
    expect(calls).toEqual([4, 2, 1]);
    for (const [i, block] of [4, 5, 6, 7, 20, 21, 3].entries()) expect(isRead(i, block)).toBe(true);
    expect(d.device.stats).toMatchObject({ reads: 7, bytesRead: 7 * 4096 });
  });

  it('fail one by one: a page that faults, once, and the rest is done', () => {
    const { d, run, isRead } = watched();
    d.port.denied.add((page + 2 * 0x2000) / 4096);
    const writes = d.port.writes;
    const codes = run(reads([4, 5, 6, 7, 8]));
    const fault = statusTable.DATA_TRANSFER_ERROR.sc;
    expect(codes).toEqual([0x1000, 0x2000, 0x3000 + fault, 0x4000, 0x5000]);
    // Five of data, five completions: nothing was asked for twice.
    expect(d.port.writes - writes).toBe(10);
    for (const i of [0, 1, 3, 4]) expect(isRead(i, 4 + i)).toBe(true);
    expect(d.device.stats).toMatchObject({ reads: 4, errors: 1 });
  });

  it('fail one by one: a bad block, and the rest is done', () => {
    const { run, isRead, setBad } = watched();
    for (const bad of [4, 6, 8]) {
      setBad(bad);
      const codes = run(reads([4, 5, 6, 7, 8]));
      expect(codes).toEqual([4, 5, 6, 7, 8].map((block, i) => (i + 1) * 0x1000 + (block === bad ? 0x281 : 0)));
      for (const i of [0, 1, 2, 3, 4]) if (4 + i !== bad) expect(isRead(i, 4 + i)).toBe(true);
    }
  });

  it('keep their place between writes, and stop at Force Unit Access', () => {
    const { d, calls, run } = watched();
    const [a, b, c, e] = reads([4, 5, 6, 7]) as [Sqe, Sqe, Sqe, Sqe];
    d.poke(0x80000, pattern(4096, 1));
    const write: Sqe = { opcode: 0x01, nsid: 1, cid: 9, prp1: 0x80000, cdw: [6 * 8, 0, 7] };
    run([a, b, write, c, { ...e, cdw: [7 * 8, 0, 7 | 0x4000_0000] }]);
    expect(calls).toEqual([2, 1, 1]);
    expect(Buffer.compare(d.peek(page + 2 * 0x2000, 4096), pattern(4096, 1))).toBe(0);
  });
});
