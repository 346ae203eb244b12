import { describe, expect, it } from 'vitest';
import { memoryStorage } from '#devices/backends/storage/memory';
import { readOnlyStorage } from '#devices/backends/storage/read-only';
import { adminCommands, nvmCommands } from '#devices/nvme/commands';
import { features } from '#devices/nvme/features';
import { logPages } from '#devices/nvme/log-pages';
import { statusTable } from '#devices/nvme/status';
import { StorageError } from '#vmm/base/ports';
import { type Sqe, pattern, ready } from './driver.ts';

const code = (name: keyof typeof statusTable): number => (statusTable[name].sct << 8) | statusTable[name].sc;
const page = 0x20000;
/** toEqual takes seconds for a megabyte. */
const isSame = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;
const features_ = Object.entries(features);

describe('tables', () => {
  it.each([
    ['admin', Object.values(adminCommands)],
    ['NVM', Object.values(nvmCommands)],
  ] as const)('%s opcodes are distinct and cite their section', (_kind, rows) => {
    expect(new Set(rows.map((row) => row.opcode)).size).toBe(rows.length);
    for (const row of rows) expect(row.spec).toMatch(/^§[56]\.\d+$/);
  });

  it('the effects log says which commands there are', () => {
    const d = ready();
    d.expectOk({ opcode: 0x02, nsid: 0xffff_ffff, prp1: page, cdw: [0x03ff_0005] });
    const log = new Uint32Array(d.peek(page, 2048).buffer);
    for (let opcode = 0; opcode < 256; opcode++) {
      expect(log[opcode]! & 1).toBe(Object.values(adminCommands).some((row) => row.opcode === opcode) ? 1 : 0);
      expect(log[256 + opcode]! & 1).toBe(Object.values(nvmCommands).some((row) => row.opcode === opcode) ? 1 : 0);
    }
    for (let opcode = 0; opcode < 256; opcode++) {
      if ((log[opcode]! & 1) === 0) expect(d.admin({ opcode }).code).toBe(code('INVALID_OPCODE'));
      if ((log[256 + opcode]! & 1) === 0) expect(d.command(1, { opcode, nsid: 1 }).code).toBe(code('INVALID_OPCODE'));
    }
  });
});

describe('queue management', () => {
  const createCq = (qid: number, size: number, flags = 3, vector = 0): Sqe => ({
    opcode: 0x05,
    prp1: page,
    cdw: [qid | ((size - 1) << 16), flags | (vector << 16)],
  });
  const createSq = (qid: number, size: number, cqid: number, flags = 1): Sqe => ({
    opcode: 0x01,
    prp1: page,
    cdw: [qid | ((size - 1) << 16), flags | (cqid << 16)],
  });

  it.each<[string, Sqe, keyof typeof statusTable]>([
    ['a completion queue 0', createCq(0, 16), 'INVALID_QUEUE_IDENTIFIER'],
    ['a completion queue that exists', createCq(1, 16), 'INVALID_QUEUE_IDENTIFIER'],
    ['a completion queue beyond the number allowed', createCq(9, 16), 'INVALID_QUEUE_IDENTIFIER'],
    ['a completion queue of one entry', createCq(2, 1), 'INVALID_QUEUE_SIZE'],
    ['a completion queue beyond CAP.MQES', createCq(2, 2049), 'INVALID_QUEUE_SIZE'],
    ['a scattered completion queue', createCq(2, 16, 2), 'INVALID_FIELD'],
    ['a completion queue with an offset', { ...createCq(2, 16), prp1: page + 64 }, 'PRP_OFFSET_INVALID'],
    ['a vector that is not there', createCq(2, 16, 3, 9), 'INVALID_INTERRUPT_VECTOR'],
    ['a submission queue 0', createSq(0, 16, 1), 'INVALID_QUEUE_IDENTIFIER'],
    ['a submission queue that exists', createSq(1, 16, 1), 'INVALID_QUEUE_IDENTIFIER'],
    ['a submission queue on no completion queue', createSq(2, 16, 2), 'COMPLETION_QUEUE_INVALID'],
    ['a submission queue on the admin completion queue', createSq(2, 16, 0), 'INVALID_QUEUE_IDENTIFIER'],
    ['a submission queue of one entry', createSq(2, 1, 1), 'INVALID_QUEUE_SIZE'],
    ['a scattered submission queue', createSq(2, 16, 1, 0), 'INVALID_FIELD'],
    ['deleting the admin submission queue', { opcode: 0, cdw: [0] }, 'INVALID_QUEUE_IDENTIFIER'],
    ['deleting a submission queue that is not there', { opcode: 0, cdw: [7] }, 'INVALID_QUEUE_IDENTIFIER'],
    ['deleting the admin completion queue', { opcode: 4, cdw: [0] }, 'INVALID_QUEUE_IDENTIFIER'],
    ['deleting a completion queue in use', { opcode: 4, cdw: [1] }, 'INVALID_QUEUE_DELETION'],
    ['a queue that wraps around the address space', { ...createCq(2, 2048), prp1: 2 ** 64 }, 'INVALID_FIELD'],
  ])('refuses %s', (what, sqe, name) => {
    const d = ready();
    if (what.includes('wraps')) {
      const cid = d.queue(0, sqe);
      d.port.view.setBigUint64(d.pairs[0]!.sq + (d.pairs[0]!.tail - 1) * 64 + 24, 2n ** 64n - 4096n, true);
      d.ring(0);
      d.run();
      expect(d.reap(0)).toMatchObject([{ cid, code: code(name) }]);
    } else expect(d.admin(sqe).code).toBe(code(name));
    d.expectOk({ opcode: 0, nsid: 1 }, 1);
  });

  it('offers up to 64 pairs, and as many as were asked for', () => {
    const d = ready({ ioQueues: 64 }, 0);
    expect(d.device.msix.vectors).toBe(65);
    const set = (n: number): Sqe => ({ opcode: 0x09, cdw: [0x07, (n << 16) | n] });
    expect(d.expectOk(set(99)).result).toBe((63 << 16) | 63);
    expect(d.expectOk(set(2)).result).toBe((2 << 16) | 2);
    expect(d.admin(set(0xffff)).code).toBe(code('INVALID_FIELD'));
    d.createPair(3);
    expect(d.admin(createCq(4, 16)).code).toBe(code('INVALID_QUEUE_IDENTIFIER'));
    expect(d.admin(set(5)).code).toBe(code('COMMAND_SEQUENCE_ERROR'));
    expect(d.expectOk({ opcode: 0x0a, cdw: [0x07] }).result).toBe((2 << 16) | 2);
  });

  it('wants entry sizes in CC before I/O queues', () => {
    const d = ready({}, 0);
    d.setReg(0x14, 0);
    d.enable(16, 1);
    expect(d.admin(createCq(1, 16)).code).toBe(code('INVALID_QUEUE_SIZE'));
  });

  it('lets several submission queues share a completion queue', () => {
    const d = ready();
    d.expectOk({ ...createSq(2, 16, 1), prp1: page });
    const { size, cq } = d.pairs[1]!;
    d.pairs[2] = { id: 2, size, sq: page, cq, tail: 0, head: 0, phase: 1 };
    d.submit(2, { opcode: 0, nsid: 1 });
    d.submit(1, { opcode: 0, nsid: 1 });
    d.run();
    expect(new Set(d.reap(1).map((c) => c.sqid))).toEqual(new Set([1, 2]));
    expect(d.admin({ opcode: 4, cdw: [1] }).code).toBe(code('INVALID_QUEUE_DELETION'));
  });
});

describe('features', () => {
  it.each(features_)('%s has its default, is not saveable and reports what it can do', (_name, row) => {
    const d = ready();
    const nsid = 'perNamespace' in row ? 1 : 0;
    const capabilities = d.expectOk({ opcode: 0x0a, nsid, prp1: page, cdw: [row.fid | 0x300] }).result;
    expect(capabilities).toBe(nsid ? 6 : 4);
    const initial = d.expectOk({ opcode: 0x0a, nsid, prp1: page, cdw: [row.fid | 0x100] }).result;
    expect(d.expectOk({ opcode: 0x0a, nsid, prp1: page, cdw: [row.fid] }).result).toBe(initial);
    expect(d.admin({ opcode: 0x09, nsid, prp1: page, cdw: [(row.fid | 0x8000_0000) >>> 0, initial] }).code).toBe(
      code('FEATURE_NOT_SAVEABLE'),
    );
  });

  it('keeps what is set, until a reset', () => {
    const d = ready();
    d.expectOk({ opcode: 0x09, cdw: [0x08, 0xffff_0305] });
    expect(d.expectOk({ opcode: 0x0a, cdw: [0x08] }).result).toBe(0x0305);
    d.expectOk({ opcode: 0x09, nsid: 1, cdw: [0x05, 0x12] });
    expect(d.expectOk({ opcode: 0x0a, nsid: 1, cdw: [0x05] }).result).toBe(0x12);
    d.expectOk({ opcode: 0x09, cdw: [0x09, 0x10003] });
    expect(d.expectOk({ opcode: 0x0a, cdw: [0x09, 3] }).result).toBe(0x10003);
    expect(d.expectOk({ opcode: 0x0a, cdw: [0x09, 4] }).result).toBe(4);
    d.setReg(0x14, 0);
    d.enable();
    expect(d.expectOk({ opcode: 0x0a, cdw: [0x08] }).result).toBe(0);
    expect(d.expectOk({ opcode: 0x0a, cdw: [0x09, 3] }).result).toBe(3);
  });

  it.each<[string, Sqe, keyof typeof statusTable]>([
    ['an unknown feature', { opcode: 0x0a, cdw: [0x7f] }, 'INVALID_FIELD'],
    ['a reserved selection', { opcode: 0x0a, cdw: [0x0406] }, 'INVALID_FIELD'],
    ['setting an unknown feature', { opcode: 0x09, cdw: [0x7f] }, 'INVALID_FIELD'],
    ['a power state that is not there', { opcode: 0x09, cdw: [0x02, 1] }, 'INVALID_FIELD'],
    ['a vector that is not there', { opcode: 0x09, cdw: [0x09, 99] }, 'INVALID_FIELD'],
    ['reading a vector that is not there', { opcode: 0x0a, cdw: [0x09, 99] }, 'INVALID_FIELD'],
    ['a sensor that is not there', { opcode: 0x0a, cdw: [0x04, 0x30000] }, 'INVALID_FIELD'],
    ['a namespace on a global feature', { opcode: 0x09, nsid: 1, cdw: [0x06, 1] }, 'FEATURE_NOT_NAMESPACE_SPECIFIC'],
    ['a namespace that is not there', { opcode: 0x09, nsid: 9, cdw: [0x05, 1] }, 'INVALID_NAMESPACE_OR_FORMAT'],
  ])('refuses %s', (_what, sqe, name) => {
    expect(ready().admin(sqe).code).toBe(code(name));
  });

  it('keeps time from the timestamp on', () => {
    const d = ready();
    d.setU64(page, 1_700_000_000_000);
    d.expectOk({ opcode: 0x09, prp1: page, cdw: [0x0e] });
    d.run(5_000_000_000);
    d.expectOk({ opcode: 0x0a, prp1: page + 64, cdw: [0x0e] });
    const at = d.port.view.getBigUint64(page + 64, true);
    expect(Number(at & 0xffff_ffff_ffffn)).toBeGreaterThanOrEqual(1_700_000_004_999);
    expect(Number(at & 0xffff_ffff_ffffn)).toBeLessThan(1_700_000_005_100);
    expect(Number((at >> 48n) & 0xfn)).toBe(2);
  });
});

describe('log pages', () => {
  it.each(Object.entries(logPages))('%s can be read, whole and from an offset', (_name, row) => {
    const d = ready();
    d.expectOk({ opcode: 0x02, nsid: 0xffff_ffff, prp1: page, cdw: [row.lid | (127 << 16) | 0x8000] });
    const whole = d.peek(page, 512);
    d.expectOk({ opcode: 0x02, nsid: 0xffff_ffff, prp1: page + 4096, cdw: [row.lid | (31 << 16) | 0x8000, 0, 128] });
    expect(d.peek(page + 4096, 128)).toEqual(whole.subarray(128, 256));
  });

  it.each<[string, number[], keyof typeof statusTable]>([
    ['an unknown page', [0x0001_0077], 'INVALID_LOG_PAGE'],
    ['an offset beyond the page', [0x0001_0002, 0, 512], 'INVALID_FIELD'],
    ['an odd offset', [0x0001_0002, 0, 2], 'INVALID_FIELD'],
    ['more than MDTS', [0xffff_0002, 0x00ff], 'INVALID_FIELD'],
  ])('refuses %s', (_what, cdw, name) => {
    expect(ready().admin({ opcode: 0x02, nsid: 0xffff_ffff, prp1: page, cdw }).code).toBe(code(name));
  });

  it('the error log holds the newest error first, and SMART counts', () => {
    const d = ready();
    d.command(1, { opcode: 0x7f, nsid: 1 });
    const bad = d.command(1, { opcode: 0x02, nsid: 1, prp1: page, cdw: [9999, 0, 0] });
    d.expectOk({ opcode: 0x02, nsid: 1, prp1: page, cdw: [0, 0, 7] }, 1);
    d.expectOk({ opcode: 0x02, nsid: 0xffff_ffff, prp1: page, cdw: [0x001f_0001] });
    const { view } = d.port;
    expect(view.getBigUint64(page, true)).toBe(2n);
    expect(view.getUint16(page + 8, true)).toBe(1);
    expect(view.getUint16(page + 10, true)).toBe(bad.cid);
    expect((view.getUint16(page + 12, true) >> 1) & 0x7ff).toBe(code('LBA_OUT_OF_RANGE'));
    expect(view.getBigUint64(page + 16, true)).toBe(9999n);
    expect(view.getBigUint64(page + 64, true)).toBe(1n);
    d.expectOk({ opcode: 0x02, nsid: 0xffff_ffff, prp1: page, cdw: [0x007f_0002] });
    expect(view.getUint16(page + 1, true)).toBe(303);
    expect(view.getBigUint64(page + 64, true)).toBe(1n);
    expect(view.getBigUint64(page + 176, true)).toBe(2n);
  });
});

describe('asynchronous events', () => {
  it('holds as many requests as announced', () => {
    const d = ready();
    for (let i = 0; i < 4; i++) d.submit(0, { opcode: 0x0c });
    expect(d.admin({ opcode: 0x0c }).code).toBe(code('AER_LIMIT_EXCEEDED'));
    expect(
      d.events.filter((e) => e.name === 'nvme.command' && e.fields.name === 'Asynchronous Event Request'),
    ).toHaveLength(1);
  });

  it('tells that a namespace changed its format', () => {
    const d = ready({ backend: memoryStorage(pattern(1 << 20, 3)) });
    d.expectOk({ opcode: 0x09, cdw: [0x0b, 0x100] });
    const aer = d.submit(0, { opcode: 0x0c });
    const format = d.submit(0, { opcode: 0x80, nsid: 1, cdw: [1] });
    d.run();
    expect(d.reap(0)).toMatchObject([
      { cid: format, code: 0 },
      { cid: aer, result: 0x0004_0002 },
    ]);
    d.expectOk({ opcode: 0x02, nsid: 0xffff_ffff, prp1: page, cdw: [0x0001_0004] });
    expect(d.port.view.getUint32(page, true)).toBe(1);
    d.expectOk({ opcode: 0x02, nsid: 0xffff_ffff, prp1: page, cdw: [0x0001_0004] });
    expect(d.port.view.getUint32(page, true)).toBe(0);
    d.expectOk({ opcode: 0x06, nsid: 1, prp1: page, cdw: [0] });
    expect(d.port.view.getBigUint64(page, true)).toBe(256n);
    d.poke(page, new Uint8Array(4096).fill(7));
    d.expectOk({ opcode: 0x02, nsid: 1, prp1: page, cdw: [255, 0, 0] }, 1);
    expect(d.peek(page, 4096).every((b) => b === 0)).toBe(true);
  });

  it.each<[string, Sqe, keyof typeof statusTable]>([
    ['a format that is not there', { opcode: 0x80, nsid: 1, cdw: [2] }, 'INVALID_FORMAT'],
    ['protection information', { opcode: 0x80, nsid: 1, cdw: [0x20] }, 'INVALID_FORMAT'],
    ['a cryptographic erase', { opcode: 0x80, nsid: 1, cdw: [0x400] }, 'INVALID_FIELD'],
    ['a namespace that is not there', { opcode: 0x80, nsid: 5, cdw: [0] }, 'INVALID_NAMESPACE_OR_FORMAT'],
  ])('Format NVM refuses %s', (_what, sqe, name) => {
    const content = pattern(1 << 20, 3);
    const d = ready({ backend: memoryStorage(content) });
    expect(d.admin(sqe).code).toBe(code(name));
    expect(isSame(content, pattern(1 << 20, 3))).toBe(true);
  });
});

describe('commands on blocks', () => {
  const image = (): Uint8Array => pattern(1 << 20, 11);

  it('compares', () => {
    const content = image();
    const d = ready({ backend: memoryStorage(content) });
    d.poke(page, content.subarray(5 * 512, 7 * 512));
    d.expectOk({ opcode: 0x05, nsid: 1, prp1: page, cdw: [5, 0, 1] }, 1);
    d.port.view.setUint8(page + 1023, content[7 * 512 - 1]! ^ 1);
    expect(d.command(1, { opcode: 0x05, nsid: 1, prp1: page, cdw: [5, 0, 1] }).code).toBe(code('COMPARE_FAILURE'));
  });

  it('verifies and writes zeroes, in steps that leave room for others', () => {
    const backend = memoryStorage(pattern(32 << 20, 5));
    const d = ready({ backend }, 2);
    const zeroes = d.submit(1, { opcode: 0x08, nsid: 1, cdw: [1, 0, 0xf000 - 1] });
    d.run(20_000);
    const small = d.submit(2, { opcode: 0x00, nsid: 1 });
    for (let i = 0; i < 2000 && d.reap(2).length === 0; i++) d.run(10_000);
    expect(d.reap(1)).toEqual([]);
    d.run(100_000_000);
    expect(d.reap(1)).toMatchObject([{ cid: zeroes, code: 0 }]);
    expect(small).toBeGreaterThan(0);
    const { content } = backend;
    expect(isSame(content.subarray(512, 512 * (0xf000 + 1)), new Uint8Array(512 * 0xf000))).toBe(true);
    expect(isSame(content.subarray(0, 512), pattern(512, 5))).toBe(true);
    expect(isSame(content.subarray(512 * 0xf001), pattern(32 << 20, 5).subarray(512 * 0xf001))).toBe(true);
    d.expectOk({ opcode: 0x0c, nsid: 1, cdw: [0, 0, 0xffff] }, 1);
    for (const opcode of [0x08, 0x0c])
      expect(d.command(1, { opcode, nsid: 1, cdw: [1, 0, 0xffff] }).code).toBe(code('LBA_OUT_OF_RANGE'));
  });

  it('deallocates ranges, all or none', () => {
    const backend = memoryStorage(image());
    const d = ready({ backend });
    const ranges = [
      [10, 5],
      [0, 0],
      [100, 30],
    ] as const;
    const put = (list: readonly (readonly [number, number])[]): void =>
      list.forEach(([first, count], i) => {
        d.port.view.setUint32(page + i * 16 + 4, count, true);
        d.setU64(page + i * 16 + 8, first);
      });
    put(ranges);
    d.expectOk({ opcode: 0x09, nsid: 1, prp1: page, cdw: [2, 1] }, 1);
    expect(isSame(backend.content, image())).toBe(true);
    d.expectOk({ opcode: 0x09, nsid: 1, prp1: page, cdw: [2, 4] }, 1);
    const expected = image();
    for (const [first, count] of ranges) expected.fill(0, first * 512, (first + count) * 512);
    expect(isSame(backend.content, expected)).toBe(true);
    put([
      [0, 1],
      [2040, 9],
    ]);
    expect(d.command(1, { opcode: 0x09, nsid: 1, prp1: page, cdw: [1, 4] }).code).toBe(code('LBA_OUT_OF_RANGE'));
    expect(isSame(backend.content, expected)).toBe(true);
    expect(d.command(1, { opcode: 0x09, nsid: 1, prp1: 2 ** 40, cdw: [1, 4] }).code).toBe(code('DATA_TRANSFER_ERROR'));
  });

  it('flushes for Flush, Force Unit Access, and every write while the cache is off', () => {
    const backend = memoryStorage(1 << 20);
    let flushes = 0;
    backend.flush = () => void flushes++;
    const d = ready({ backend });
    const count = (sqe: Sqe): number => {
      flushes = 0;
      d.expectOk(sqe, 1);
      return flushes;
    };
    const write = { opcode: 0x01, nsid: 1, prp1: page, cdw: [0, 0, 0] };
    expect(count(write)).toBe(0);
    expect(count({ ...write, cdw: [0, 0, 0x4000_0000] })).toBe(1);
    expect(count({ opcode: 0, nsid: 1 })).toBe(1);
    expect(count({ opcode: 0, nsid: 0xffff_ffff })).toBe(1);
    d.expectOk({ opcode: 0x09, cdw: [0x06, 0] });
    expect(count(write)).toBe(1);
    expect(count({ opcode: 0x08, nsid: 1, cdw: [0, 0, 0] })).toBe(1);
    expect(d.command(1, { opcode: 0, nsid: 7 }).code).toBe(code('INVALID_NAMESPACE_OR_FORMAT'));
  });

  it('shows a read-only disk as write protected', () => {
    const d = ready({ backend: readOnlyStorage(memoryStorage(image())) });
    d.expectOk({ opcode: 0x06, nsid: 1, prp1: page, cdw: [0] });
    expect(d.port.view.getUint8(page + 99)).toBe(1);
    d.expectOk({ opcode: 0x02, nsid: 1, prp1: page, cdw: [0, 0, 0] }, 1);
    for (const opcode of [0x01, 0x08, 0x09])
      expect(d.command(1, { opcode, nsid: 1, prp1: page + 4096, cdw: [0, 4, 0] }).code).toBe(
        code('NAMESPACE_WRITE_PROTECTED'),
      );
    expect(d.admin({ opcode: 0x80, nsid: 1, cdw: [0] }).code).toBe(code('NAMESPACE_WRITE_PROTECTED'));
  });

  it.each([
    ['no-space', 'CAPACITY_EXCEEDED', 'INTERNAL_ERROR'],
    ['io', 'WRITE_FAULT', 'UNRECOVERED_READ_ERROR'],
    ['read-only', 'NAMESPACE_WRITE_PROTECTED', 'INTERNAL_ERROR'],
  ] as const)('turns a backend error %s into a status and one warning', (kind, onWrite, onRead) => {
    const backend = memoryStorage(1 << 20);
    const fail = (): never => {
      throw new StorageError(kind, `it is ${kind}`);
    };
    Object.assign(backend, { read: fail, write: fail, flush: fail, discard: fail });
    const d = ready({ backend });
    for (const opcode of [0x01, 0x00, 0x08]) {
      expect(d.command(1, { opcode, nsid: 1, prp1: page, cdw: [0, 0, 0] }).code).toBe(code(onWrite));
      d.command(1, { opcode, nsid: 1, prp1: page, cdw: [0, 0, 0] });
    }
    for (const opcode of [0x02, 0x05, 0x0c])
      expect(d.command(1, { opcode, nsid: 1, prp1: page, cdw: [0, 0, 0] }).code).toBe(code(onRead));
    expect(d.events.filter((e) => e.name === 'nvme.warning')).toHaveLength(6);
    d.setReg(0x14, 0x0046_4001);
    d.run();
    expect((d.reg(0x1c) >> 2) & 3).toBe(2);
  });
});
