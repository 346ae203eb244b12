import { beforeEach, describe, expect, it } from 'vitest';
import { flag, pageFlag } from '#devices/exerciser/descriptors';
import { exerciserEvents } from '#devices/exerciser/events';
import type { EventTable } from '#vmm/base/events';
import { operations } from '#devices/exerciser/operations';
import { TestDriver, bits, status } from './driver.ts';

let d: TestDriver;
beforeEach(() => {
  d = new TestDriver();
  d.enable();
});

const pattern = (length: number, seed = 1): Uint8Array => Uint8Array.from({ length }, (_, i) => (i * 7 + seed) & 0xff);

describe('identity and registers', () => {
  it('tells what it is and has', () => {
    expect(d.get('ID')).toBe(0x5245_5845);
    expect(d.get('SHAPE')).toBe(16 | (64 << 8));
    expect(d.get('STATUS') & 0x3e).toBe(0x3e);
    expect(d.device.ats.invalidateQueueDepth).toBe(32);
  });

  it('legalises, ignores strange widths and shows bytes of words', () => {
    d.set('CHUNK_BYTES', 1000);
    expect(d.get('CHUNK_BYTES')).toBe(512);
    d.set('REQUEST_NS', 0);
    expect(d.get('REQUEST_NS')).toBe(10);
    d.bar.write(d.offset('REQUEST_NS'), 2, 500);
    expect(d.get('REQUEST_NS')).toBe(10);
    expect(d.bar.read(1, 1)).toBe(0x58);
    expect(d.bar.read(0, 8)).toBe(0x1_5245_5845n);
    expect(d.bar.read(2, 4)).toBe(0);
    expect(d.bar.read(0x1_fffc, 8)).toBe(0n);
    d.run(5_000_000_000);
    expect(d.get('TIME_LO') + d.get('TIME_HI') * 2 ** 32).toBe(d.clock.now);
  });

  it('keeps a queue’s settings while it is enabled', () => {
    const before = d.get('QCONTROL');
    d.set('QCONTROL', 1 | (3 << 16));
    expect(d.get('QCONTROL')).toBe(before);
  });
});

describe('operations', () => {
  it('reads into local memory, with the CRC of the data', () => {
    d.port.memory.set(new TextEncoder().encode('123456789'), 0x3ffc);
    const [done] = d.do({ opcode: 'READ', source: 0x3ffcn, destination: 0x100n, length: 9, tag: 77 });
    expect(done).toMatchObject({ status: status.SUCCESS, tag: 77, bytes_done: 9, value: 0xcbf4_3926n, opcode: 1 });
    expect(new TextDecoder().decode(d.fromLocal(0x100, 9))).toBe('123456789');
    // Across a page: two requests.
    expect(d.port.of('access').map(({ lo, length }) => [lo, length])).toEqual([[0x3ffc, 4], [0x4000, 5]]); // prettier-ignore
    expect(done!.latency_ns).toBe(400n);
  });

  it('writes, fills, copies and compares in chunks', () => {
    d.set('CHUNK_BYTES', 256);
    const data = pattern(3000);
    d.local(0x40, data);
    const done = d.do(
      { opcode: 'WRITE', source: 0x40n, destination: 0x2123n, length: 3000, flags: flag.FENCE.value },
      { opcode: 'COPY', source: 0x2123n, destination: 0x8ff1n, length: 3000, flags: flag.FENCE.value },
      { opcode: 'COMPARE', source: 0x2123n, destination: 0x8ff1n, length: 3000, flags: flag.FENCE.value },
      { opcode: 'FILL', destination: 0xa001n, length: 20, operand: 0x8877_6655_4433_2211n, flags: flag.FENCE.value },
      { opcode: 'COMPARE', source: 0x2123n, destination: 0x8ff1n, length: 3000, flags: flag.FENCE.value },
    );
    expect(done.map((c) => c.status)).toEqual([0, 0, 0, 0, status.SUCCESS]);
    expect(d.port.memory.slice(0x2123, 0x2123 + 3000)).toEqual(data);
    expect(d.port.memory.slice(0x8ff1, 0x8ff1 + 3000)).toEqual(data);
    expect(Array.from(d.port.memory.slice(0xa000, 0xa00b))).toEqual([0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x11, 0x22]); // prettier-ignore
    expect(d.port.of('access').every(({ length }) => length <= 256)).toBe(true);
    d.port.memory[0x8ff1 + 2500]! ^= 0xff;
    const [differs] = d.do({ opcode: 'COMPARE', source: 0x2123n, destination: 0x8ff1n, length: 3000 });
    const left = data[2500]!;
    expect(differs).toMatchObject({ status: status.MISMATCH, fault_offset: 2500, value: BigInt(left | ((left ^ 0xff) << 8)) }); // prettier-ignore
  });

  it('does atomics of 4 and 8 bytes', () => {
    d.port.view.setUint32(0x1000, 0xffff_fff0, true);
    d.port.view.setBigUint64(0x1008, 0x1_ffff_ffffn, true);
    const flags = flag.FENCE.value;
    const done = d.do(
      { opcode: 'FETCH_ADD', destination: 0x1000n, operand_bytes: 4, operand: 0x20n, flags },
      { opcode: 'FETCH_ADD', destination: 0x1008n, operand_bytes: 8, operand: 1n, flags },
      { opcode: 'SWAP', destination: 0x1000n, operand_bytes: 4, operand: 0x1_2345_6789n, flags },
      { opcode: 'COMPARE_SWAP', destination: 0x1008n, operand_bytes: 8, operand: 5n, compare: 0x2_0000_0000n, flags },
      { opcode: 'COMPARE_SWAP', destination: 0x1008n, operand_bytes: 8, operand: 6n, compare: 7n, flags },
    );
    expect(done.map((c) => [c.status, c.value])).toEqual([
      [0, 0xffff_fff0n],
      [0, 0x1_ffff_ffffn],
      [0, 0x10n],
      [0, 0x2_0000_0000n],
      [status.MISMATCH, 5n],
    ]);
    expect(d.port.view.getUint32(0x1000, true)).toBe(0x2345_6789);
    expect(d.port.view.getBigUint64(0x1008, true)).toBe(5n);
    expect(d.port.view.getUint32(0x1004, true)).toBe(0);
    expect(d.port.of('access').every(({ kind }) => kind === 'atomic')).toBe(true);
  });

  it('an atomic needs both permissions', () => {
    d.port.map(-1, 1, { to: 1, read: true, write: false });
    const [c] = d.do({ opcode: 'SWAP', destination: 0x1000n, operand_bytes: 4 });
    expect(c!.status).toBe(status.UNSUPPORTED_REQUEST);
  });

  it('NOP waits for its delay', () => {
    const [c] = d.do({ opcode: 'NOP', delay_ns: 12_345, tag: 9 });
    expect(c).toMatchObject({ status: 0, tag: 9, started_ns: 12_345n, latency_ns: 0n });
  });

  it('tells where it could not go on', () => {
    d.port.map(-1, 1, { to: 1, read: true, write: true });
    d.port.map(-1, 2, { to: 2, read: true, write: false });
    d.port.aborting.add(3);
    d.port.map(-1, 3, { to: 3, read: true, write: true });
    const done = d.do(
      { opcode: 'FILL', destination: 0x1800n, length: 0x1000, tag: 1 },
      { opcode: 'READ', source: 0x2800n, length: 0x1000, tag: 2 },
      { opcode: 'READ', source: 0x9000_0000_0000n, length: 4, tag: 3 },
    );
    const byTag = done.toSorted((a, b) => a.tag - b.tag);
    expect(byTag.map((c) => [c.status, c.bytes_done, c.fault_offset])).toEqual([
      [status.UNSUPPORTED_REQUEST, 0x800, 0x800],
      [status.COMPLETER_ABORT, 0x800, 0x800],
      [status.UNSUPPORTED_REQUEST, 0, 0],
    ]);
    expect(d.get('COUNT_ERRORS')).toBe(3);
  });
});

it('works as the README says, in a minute', () => {
  d = new TestDriver();
  d.set('QBASE_LO', 0x8000);
  d.set('QCOMPLETION_LO', 0xc000);
  d.set('QCONTROL', 0x0066_0807);
  for (const [offset, value] of [[0, 3], [0x10, 0x1230], [0x18, 64], [0x28, 0x55]] as const) d.localBar.write(0x8000 + offset, 4, value); // prettier-ignore
  d.set('TAIL', 1);
  d.run();
  expect([d.localBar.read(0xc005, 1), d.localBar.read(0xc004, 1)]).toEqual([1, 0]);
  expect([d.port.memory[0x1230], d.port.memory[0x1238], d.port.memory[0x1270]]).toEqual([0x55, 0x55, 0]);
});

describe('malformed descriptors', () => {
  const invalid: Parameters<TestDriver['submit']>[0] = [
    { opcode: 0x80 },
    { opcode: 12 },
    { opcode: 'NOP', flags: 0x80 },
    { opcode: 'READ', length: 0 },
    { opcode: 'READ', length: 0xffff_ffff },
    { opcode: 'READ', length: 8, destination: 0xfffcn },
    { opcode: 'READ', length: 8, destination: 0x1_0000_0000n },
    { opcode: 'READ', length: 8, source: 0xffff_ffff_ffff_fffcn },
    { opcode: 'READ', length: 8, source_mode: 3 },
    { opcode: 'READ', length: 8, source_mode: 0x40 },
    { opcode: 'READ', length: 8, source_mode: bits.PRIVILEGED },
    { opcode: 'READ', length: 8, source_mode: bits.EXECUTE },
    { opcode: 'READ', length: 8, source_mode: bits.PAGE_REQUEST },
    { opcode: 'READ', length: 8, source_mode: bits.PASID, source_pasid: 0x10_0000 },
    { opcode: 'SWAP', operand_bytes: 2 },
    { opcode: 'SWAP', operand_bytes: 8, destination: 4n },
    { opcode: 'PAGE_REQUEST', pages: 0 },
    { opcode: 'PAGE_REQUEST', pages: 513 },
    { opcode: 'PAGE_REQUEST', pages: 1, group: 512 },
    { opcode: 'PAGE_REQUEST', pages: 1, page_flags: 8 },
    { opcode: 'PAGE_REQUEST', pages: 1, page_flags: pageFlag.LAST.value, source_mode: bits.PASID, source_pasid: 1 },
    { opcode: 'STOP_MARKER' },
  ];
  it.each(invalid)('%o', (request) => {
    expect(d.do(request).map((c) => c.status)).toEqual([status.INVALID_DESCRIPTOR]);
    expect(d.port.sent).toEqual([]);
  });
});

describe('order and parallelism', () => {
  it('keeps many under way, starts them in ring order', () => {
    const count = 8;
    d.submit(Array.from({ length: count }, (_, i) => ({ opcode: 'FILL' as const, destination: BigInt(i * 0x1000), length: 64, tag: i }))); // prettier-ignore
    d.run(199);
    expect(d.get('QSTATUS') >>> 8).toBe(count);
    expect(d.get('STATUS') & 1).toBe(1);
    expect(d.port.sent).toEqual([]);
    d.run(1);
    expect(d.port.of('access').map(({ lo }) => lo >>> 12)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(d.take().map((c) => [c.tag, c.latency_ns])).toEqual(Array.from({ length: count }, (_, i) => [i, 200n]));
    expect(d.status.pending).toEqual([true, false]);
  });

  it('goes no further than PARALLEL', () => {
    d.enable(0, { parallel: 2 });
    d.submit(Array.from({ length: 5 }, (_, tag) => ({ opcode: 'FILL' as const, length: 8, tag })));
    d.run(100);
    expect(d.get('QSTATUS') >>> 8).toBe(2);
    d.run(150);
    expect(d.port.of('access').length).toBe(2);
    d.run(10_000);
    expect(d.take().map((c) => c.tag)).toEqual([0, 1, 2, 3, 4]);
  });

  it('completes as it finishes, or with ORDERED as it was told', () => {
    const requests = [
      { opcode: 'FILL' as const, length: 0x3000, tag: 1 },
      { opcode: 'FILL' as const, length: 8, tag: 2 },
      { opcode: 'NOP' as const, tag: 3 },
    ];
    expect(d.do(...requests).map((c) => c.tag)).toEqual([3, 2, 1]);
    d.enable(0, { control: 8 });
    expect(d.do(...requests).map((c) => c.tag)).toEqual([1, 2, 3]);
  });

  it('a fence waits for everything before it', () => {
    const done = d.do(
      { opcode: 'FILL', destination: 0n, length: 0x4000, operand: 1n, tag: 1 },
      { opcode: 'FILL', destination: 0x3ff8n, length: 8, operand: 2n, tag: 2, flags: flag.FENCE.value },
      { opcode: 'NOP', tag: 3, delay_ns: 50, flags: flag.FENCE.value },
    );
    expect(done.map((c) => c.tag)).toEqual([1, 2, 3]);
    expect(d.port.view.getBigUint64(0x3ff8, true)).toBe(2n);
    expect(done.map((c) => c.started_ns)).toEqual([0n, 800n, 1050n]);
  });

  it('shares time between queues', () => {
    for (const queue of [0, 1, 2]) d.enable(queue);
    for (const queue of [2, 0, 1])
      d.submit([{ opcode: 'FILL', destination: BigInt(queue) << 16n, length: 0x2000, flags: flag.INTERRUPT.value }], queue); // prettier-ignore
    d.run();
    expect(d.port.of('access').map(({ lo }) => lo >>> 16)).toEqual([0, 1, 2, 0, 1, 2]);
    expect(d.lines.slice(0, 4).map((line) => line.raised)).toEqual([1, 1, 1, 0]);
  });

  it('the same run twice is the same run', () => {
    const once = (): unknown[] => {
      const driver = new TestDriver();
      const seen: unknown[] = [];
      driver.trace.listen((event) => seen.push(event));
      driver.enable();
      driver.do({ opcode: 'COPY', source: 1n, destination: 0x5003n, length: 9999 }, { opcode: 'FILL', length: 5000 });
      return seen;
    };
    expect(once()).toEqual(once());
  });
});

describe('rings', () => {
  it('in memory, around their end many times, with phase bits', () => {
    d.enable(0, { isLocal: false });
    let tag = 0;
    for (let round = 0; round < 40; round++) {
      d.submit(
        Array.from({ length: 7 }, () => ({ opcode: 'FILL' as const, destination: 0x40n, length: 4, tag: tag++ })),
      );
      d.run();
      expect(d.take().map((c) => [c.status, c.tag])).toEqual(Array.from({ length: 7 }, (_, i) => [0, tag - 7 + i]));
    }
    expect(d.get('COUNT_TRANSACTIONS')).toBe(280);
  });

  it('with the queue’s PASID', () => {
    d.port.map(5, 0x100, { to: 0x180, read: true, write: true });
    d.port.map(5, 0x110, { to: 0x190, read: true, write: true });
    d.enable(0, { isLocal: false, attributes: 5 | (bits.PASID << 24) });
    d.port.memory.set([0, 0, 0, 0, 42], 0x18_0000);
    d.set('TAIL', 1);
    d.run();
    expect(d.get('QLAST_COMPLETION')).toBe(42);
    expect(d.port.view.getUint32(0x19_0000, true)).toBe(42);
  });

  it('stops at a ring it cannot reach, and starts again', () => {
    d.port.map(-1, 0x110, { to: 0x110, read: true, write: true });
    d.enable(0, { isLocal: false });
    d.submit([{ opcode: 'NOP' }]);
    d.run();
    expect(d.get('QSTATUS')).toBe((3 << 4) | (status.UNSUPPORTED_REQUEST << 16));
    d.port.map(-1, 0x100, { to: 0x100, read: true, write: true });
    d.port.map(-1, 0x110, { to: 0x110, read: true, write: false });
    d.enable(0, { isLocal: false });
    d.submit([{ opcode: 'NOP' }]);
    d.run();
    expect(d.get('QSTATUS')).toBe((4 << 4) | (status.UNSUPPORTED_REQUEST << 16));
    d.port.map(-1, 0x110, { to: 0x110, read: true, write: true });
    d.enable(0, { isLocal: false });
    expect(d.do({ opcode: 'NOP', tag: 3 })).toMatchObject([{ tag: 3, status: 0 }]);
  });

  it('no more than there is room for in the completion ring', () => {
    d.submit(Array.from({ length: 60 }, (_, tag) => ({ opcode: 'NOP' as const, tag })));
    d.run();
    d.submit(Array.from({ length: 60 - 1 }, (_, tag) => ({ opcode: 'NOP' as const, tag: 60 + tag })));
    d.run();
    expect(d.get('COMPLETION_TAIL')).toBe(63);
    expect(d.take().length).toBe(63);
    d.run();
    expect(d.take().length).toBe(56);
  });

  it('without a completion ring, the latest is in the registers', () => {
    d.set('QCONTROL', 0);
    d.set('QCONTROL', 3 | (6 << 16));
    d.submit([{ opcode: 'NOP', tag: 0xabcd }]);
    d.set('TAIL', 1);
    d.run();
    expect(d.get('QLAST_COMPLETION')).toBe(0xabcd);
  });

  it.each([
    ['no size', 1],
    ['too large', 1 | (13 << 16)],
    ['beyond local memory', 3 | (12 << 16)],
    ['completions beyond local memory', 5 | (1 << 16) | (12 << 20)],
  ])('a ring that cannot be: %s', (_, control) => {
    d.set('QCONTROL', 0);
    d.set('QCONTROL', control);
    expect(d.get('QSTATUS')).toBe(1 << 4);
    d.set('TAIL', 1);
    d.run();
    expect(d.port.sent).toEqual([]);
  });

  it('a doorbell out of range', () => {
    d.set('TAIL', 64);
    expect(d.get('QSTATUS')).toBe(2 << 4);
    d.enable();
    d.set('COMPLETION_HEAD', 0xffff_ffff);
    expect(d.get('QSTATUS')).toBe(2 << 4);
  });
});

describe('an owned queue', () => {
  const owned = { control: 16, attributes: 7 | (bits.PASID << 24) };
  beforeEach(() => d.enable(1, owned));
  const one = (request: Parameters<TestDriver['submit']>[0][number]): unknown => {
    d.submit([request], 1);
    d.run();
    return d.take(1).map((c) => c.status);
  };

  it('reaches memory as its PASID, whatever the descriptor says', () => {
    d.port.map(7, 1, { to: 9, read: true, write: true });
    d.port.map(8, 1, { to: 8, read: true, write: true });
    const destination_mode = bits.PASID | bits.PRIVILEGED;
    expect(one({ opcode: 'FILL', destination: 0x1000n, destination_mode, destination_pasid: 8, length: 1, operand: 0xeen })).toEqual([0]); // prettier-ignore
    expect([d.port.memory[0x9000], d.port.memory[0x8000]]).toEqual([0xee, 0]);
    expect(d.port.of('access')[0]).toMatchObject({ pasid: 7, privileged: false });
  });

  it('has no translated addresses, stop markers, or others’ local memory', () => {
    expect(one({ opcode: 'FILL', destination_mode: bits.TRANSLATED, length: 1 })).toEqual([status.FORBIDDEN]);
    expect(one({ opcode: 'STOP_MARKER' })).toEqual([status.FORBIDDEN]);
    expect(one({ opcode: 'READ', length: 4, destination: 0xffen })).toEqual([status.FORBIDDEN]);
    expect(one({ opcode: 'READ', length: 4, destination: 0x1ffen })).toEqual([status.FORBIDDEN]);
    d.port.map(7, 0, { to: 0, read: true, write: true });
    expect(one({ opcode: 'READ', length: 4, destination: 0x1ffcn })).toEqual([0]);
  });
});

describe('plain ports', () => {
  it('does without ATS what can be done', () => {
    d = new TestDriver({ plain: true });
    d.enable();
    d.port.view.setUint32(0x100, 41, true);
    const flags = flag.FENCE.value;
    const done = d.do(
      { opcode: 'FETCH_ADD', destination: 0x100n, operand_bytes: 4, operand: 1n, flags },
      { opcode: 'READ', source: 0x100n, source_mode: bits.ATS, length: 4, flags },
      { opcode: 'READ', source: 0x100n, source_mode: bits.TRANSLATED, length: 4, flags },
      { opcode: 'READ', source: 0x100n, source_mode: bits.PASID | bits.PRIVILEGED, length: 4, flags },
      { opcode: 'TRANSLATE', flags },
      { opcode: 'PAGE_REQUEST', pages: 1, page_flags: pageFlag.LAST.value, flags },
      { opcode: 'READ', source: 0x100n, source_mode: bits.PASID, length: 4, flags },
    );
    const no = status.NOT_SUPPORTED;
    expect(done.map((c) => c.status)).toEqual([0, no, no, no, no, no, status.NOT_ENABLED]);
    expect(d.port.view.getUint32(0x100, true)).toBe(42);
    expect(d.get('STATUS') & 0x20).toBe(0);
  });
});

describe('reset and bus mastering', () => {
  it('a reset in flight abandons everything', () => {
    d.port.memory.fill(0xaa, 0, 0x4000);
    d.submit([
      { opcode: 'FILL', length: 0x4000 },
      { opcode: 'NOP', delay_ns: 1e6 },
    ]);
    d.run(450);
    d.device.reset();
    d.run();
    expect(d.port.of('access').length).toBe(2);
    expect(d.port.memory[0x2000]).toBe(0xaa);
    expect(d.get('QCONTROL')).toBe(0);
    expect(d.get('COUNT_TRANSACTIONS')).toBe(0);
    expect(d.status.pending).toEqual([true, false]);
    expect(d.get('STATUS') & 2).toBe(2);
    d.enable();
    expect(d.do({ opcode: 'NOP', tag: 4 })).toMatchObject([{ tag: 4 }]);
  });

  it('CONTROL.RESET does the same', () => {
    d.submit([{ opcode: 'FILL', length: 0x4000 }]);
    d.run(450);
    d.set('CONTROL', 1);
    d.run();
    expect(d.port.of('access').length).toBe(2);
    expect(d.get('CONTROL')).toBe(0);
  });

  it('a disabled queue leaves nothing behind', () => {
    d.submit([{ opcode: 'FILL', length: 0x4000 }]);
    d.run(450);
    d.set('QCONTROL', 0);
    d.run();
    expect(d.port.of('access').length).toBe(2);
    expect(d.get('QSTATUS')).toBe(0);
  });

  it('without bus mastering it waits', () => {
    d.submit([{ opcode: 'FILL', length: 0x2000, tag: 6 }]);
    d.run(250);
    d.device.busMaster(false);
    d.run();
    expect(d.port.of('access').length).toBe(1);
    d.device.busMaster(true);
    d.run();
    expect(d.take()).toMatchObject([{ tag: 6, status: 0, bytes_done: 0x2000 }]);
  });
});

it('every trace event is declared, with its fields', () => {
  const seen = new Set<string>();
  d.trace.listen(({ name, fields }) => {
    seen.add(name);
    const row = (exerciserEvents as EventTable)[name];
    expect(Object.keys(fields).sort(), name).toEqual(Object.keys(row?.fields ?? {}).sort());
  });
  d.do({ opcode: 'READ', source_mode: bits.ATS, length: 1 });
  d.submit([{ opcode: 'PAGE_REQUEST', pages: 1, page_flags: pageFlag.LAST.value | pageFlag.READ.value }]);
  d.run();
  d.respond(-1, 0);
  d.invalidate(0, -1, 0);
  d.set('TAIL', 99);
  d.set('CONTROL', 1);
  d.bar.read(0x3000, 4);
  expect([...seen].sort()).toEqual(Object.keys(exerciserEvents).sort());
});

it('every operation has an opcode of its own', () => {
  const opcodes = Object.values(operations).map(({ opcode }) => opcode);
  expect(new Set(opcodes).size).toBe(opcodes.length);
});
