import { beforeEach, describe, expect, it } from 'vitest';
import { flag, pageFlag } from '#devices/exerciser/descriptors';
import { TestDriver, bits, everything, status } from './driver.ts';

const noPasid = -1;
const pasid = 5;
const ats = bits.ATS | bits.PASID;
let d: TestDriver;
beforeEach(() => {
  d = new TestDriver();
  d.port.map(pasid, 0x100, { to: 0x200, read: true, write: true });
  d.port.map(pasid, 0x101, { to: 0x300, read: true, write: false, execute: true });
  d.enable();
});
const fill = (page = 0x100, extra = {}) =>
  ({ opcode: 'FILL', destination: BigInt(page) << 12n, destination_mode: ats, destination_pasid: pasid, length: 8, operand: 0x11n, ...extra }) as const; // prettier-ignore
const read = (page = 0x100, extra = {}) =>
  ({ opcode: 'READ', source: BigInt(page) << 12n, source_mode: ats, source_pasid: pasid, length: 8, ...extra }) as const; // prettier-ignore

describe('PASID and rights', () => {
  it('travel with untranslated requests as told', () => {
    d.port.map(pasid, 0x102, { to: 0x3f0, read: true, write: true, privileged: true, execute: true });
    const source_mode = bits.PASID | bits.PRIVILEGED | bits.EXECUTE;
    const done = d.do(
      read(0x102, { source_mode }),
      read(0x102, { source_mode: bits.PASID }),
      read(0x100, { source_mode: bits.PASID | bits.EXECUTE }),
      read(0x100, { source_mode: 0 }),
    );
    const ur = status.UNSUPPORTED_REQUEST;
    expect(done.map((c) => c.status)).toEqual([0, ur, ur, ur]);
    expect(d.port.of('access').map(({ pasid, privileged, execute }) => [pasid, privileged, execute])).toEqual([
      [5, true, true],
      [5, false, false],
      [5, false, true],
      [noPasid, false, false],
    ]);
  });

  it.each([
    ['PASID', { pasid: false, pasidExecute: false, pasidPrivileged: false }, bits.PASID],
    ['privileged', { pasidPrivileged: false }, bits.PASID | bits.PRIVILEGED],
    ['execute', { pasidExecute: false }, bits.PASID | bits.EXECUTE],
    ['ATS', { ats: false }, bits.ATS],
    ['ATS', { ats: false }, bits.TRANSLATED],
  ])('nothing leaves without %s enabled, unless UNCHECKED', (_, off, source_mode) => {
    d.device.translation({ ...everything, ...off });
    expect(d.do(read(0x100, { source_mode }))).toMatchObject([{ status: status.NOT_ENABLED }]);
    expect(d.port.sent).toEqual([]);
    d.set('CONTROL', 2);
    d.do(read(0x100, { source_mode }));
    expect(d.port.sent.length).toBeGreaterThan(0);
  });
});

describe('translation requests', () => {
  it('are answered with rights, range and address', () => {
    d.port.map(pasid, 0x203, { to: 0x603, read: true, write: true, shift: 21, global: true });
    const ask = { opcode: 'TRANSLATE', source_mode: ats, source_pasid: pasid, flags: flag.FENCE.value } as const;
    const done = d.do(
      { ...ask, source: 0x10_0123n },
      { ...ask, source: 0x10_1000n, source_mode: ats | bits.EXECUTE },
      { ...ask, source: 0x20_3456n },
      { ...ask, source: 0x10_0000n, flags: flag.FENCE.value | flag.NO_WRITE.value },
      { ...ask, source: 0xdead_0000n },
    );
    expect(done.map((c) => [c.status, c.rights, c.translated, c.range_shift])).toEqual([
      [0, 3, 0x20_0123n, 12],
      [0, 5, 0x30_0000n, 12],
      [0, 3 | 16, 0x60_3456n, 21],
      [0, 1, 0x20_0000n, 12],
      [0, 0, 0n, 12],
    ]);
    expect(done[0]!.latency_ns).toBe(300n);
    expect(d.get('ATC_VALID')).toBe(3);
    d.port.aborting.add(0x100);
    expect(d.do({ ...ask, source: 0x10_0000n })).toMatchObject([{ status: status.COMPLETER_ABORT }]);
  });

  it('fill the cache: the second access needs none, and goes out translated', () => {
    const done = d.do(fill(), fill(0x100, { flags: flag.FENCE.value, operand: 0x22n }));
    expect(done.map((c) => [c.status, c.latency_ns, c.translations, c.translated])).toEqual([
      [0, 500n, 1, 0x20_0000n],
      [0, 200n, 0, 0x20_0000n],
    ]);
    expect(d.port.of('translate').length).toBe(1);
    expect(d.port.of('access').map(({ isTranslated, lo }) => [isTranslated, lo])).toEqual([[true, 0x20_0000], [true, 0x20_0000]]); // prettier-ignore
    // The PASID stays behind: it has done its work in the translation.
    expect(d.port.of('access').every(({ pasid }) => pasid === noPasid)).toBe(true);
    expect(d.port.memory[0x20_0000]).toBe(0x22);
    expect(d.get('COUNT_ATC_HITS')).toBe(1);
  });

  it('a read does not ask to write; the write after it asks again', () => {
    d.do(read(), fill(0x100, { flags: flag.FENCE.value }), read(0x100, { flags: flag.FENCE.value }));
    expect(d.port.of('translate').map(({ noWrite }) => noWrite)).toEqual([true, false]);
  });

  it('keeps PASIDs and modes apart', () => {
    d.port.map(6, 0x100, { to: 0x280, read: true, write: true });
    const done = d.do(
      fill(),
      fill(0x100, { destination_pasid: 6, flags: flag.FENCE.value }),
      fill(0x100, { destination_mode: bits.ATS, flags: flag.FENCE.value }),
      fill(0x100, { destination_mode: ats | bits.PRIVILEGED, flags: flag.FENCE.value }),
    );
    expect(done.map((c) => [c.status, c.translated])).toEqual([
      [0, 0x20_0000n],
      [0, 0x28_0000n],
      [status.NO_PERMISSION, 0n],
      [0, 0x20_0000n],
    ]);
    expect(d.port.of('translate').length).toBe(4);
  });

  it('without the permission there is no access', () => {
    const swap = { opcode: 'SWAP', destination: 0x10_1000n, destination_mode: ats, destination_pasid: pasid, operand_bytes: 4 } as const; // prettier-ignore
    const done = d.do(fill(0x101), fill(0x999), swap, read(0x100, { source_mode: ats | bits.EXECUTE }));
    expect(done.map((c) => c.status)).toEqual(Array.from({ length: 4 }, () => status.NO_PERMISSION));
    expect(d.port.of('access')).toEqual([]);
  });

  it('untranslated-only ranges are reached with untranslated requests and not cached', () => {
    d.port.map(pasid, 0x104, { to: 0x204, read: true, write: true, untranslatedOnly: true });
    expect(d.do(fill(0x104), fill(0x104, { flags: flag.FENCE.value })).map((c) => c.status)).toEqual([0, 0]);
    expect(d.port.of('access').map(({ isTranslated, lo }) => [isTranslated, lo])).toEqual([[false, 0x10_4000], [false, 0x10_4000]]); // prettier-ignore
    expect(d.get('ATC_VALID')).toBe(0);
  });

  it('forged translated addresses go out as they stand', () => {
    d.do(fill(0x3f0, { destination_mode: bits.TRANSLATED }));
    expect(d.port.sent).toMatchObject([{ type: 'access', isTranslated: true, lo: 0x3f_0000, pasid: noPasid }]);
    expect(d.port.memory[0x3f_0000]).toBe(0x11);
    d.do(fill(0x3f0, { destination_mode: bits.TRANSLATED | bits.PASID | bits.PRIVILEGED }));
    expect(d.port.sent.at(-1)).toMatchObject({ isTranslated: true, pasid, privileged: true });
  });

  it('the cache is bounded', () => {
    d = new TestDriver({ cacheEntries: 8 });
    d.enable();
    for (let i = 0; i < 40; i++) d.do(fill(0x100 + i));
    expect(d.get('ATC_VALID')).toBeLessThanOrEqual(8);
    expect(d.get('ATC_ENTRIES')).toBe(8);
    d.set('ATC_CONTROL', 1);
    expect(d.get('ATC_VALID')).toBe(0);
  });
});

describe('invalidations', () => {
  it('drop what they name, and are completed', () => {
    d.do(fill(0x100), read(0x101));
    d.invalidate(3, pasid, 0x10_0000);
    expect(d.port.of('invalidated')).toEqual([{ type: 'invalidated', itag: 3 }]);
    expect(d.get('ATC_VALID')).toBe(1);
    d.invalidate(4, noPasid, 0, 64);
    d.invalidate(5, 6, 0, 64);
    expect(d.get('ATC_VALID')).toBe(1);
    d.invalidate(6, 6, 0x10_0000, 13, true);
    expect(d.get('ATC_VALID')).toBe(0);
    d.do(fill(0x100));
    d.invalidate(7, pasid, 0, 64);
    expect(d.get('ATC_VALID')).toBe(0);
    expect(d.get('COUNT_INVALIDATIONS')).toBe(5);
  });

  it('wait for the request in flight that uses the translation', () => {
    d.do(fill());
    d.submit([fill(0x100, { operand: 0x77n }), read(0x101)]);
    d.run(100);
    d.port.sent.length = 0;
    d.port.map(pasid, 0x100, { to: 0x210, read: true, write: true });
    d.invalidate(9, pasid, 0x10_0000, 13);
    expect(d.port.sent).toEqual([]);
    d.run(99);
    expect(d.port.of('invalidated')).toEqual([]);
    d.run(1);
    expect(d.port.sent.map(({ type }) => type)).toEqual(['access', 'invalidated']);
    expect(d.port.memory[0x20_0000]).toBe(0x77);
    d.run();
    // What was asked for before the invalidation and arrived after it is asked for again.
    expect(d.port.of('translate').map(({ lo }) => lo)).toEqual([0x10_1000]);
    expect(d.take().slice(-1)).toMatchObject([{ stale: 1, translations: 2, status: 0 }]);
    d.do(fill(0x100));
    expect(d.port.memory[0x21_0000]).toBe(0x11);
  });

  it('one waits for all that use it, others for none', () => {
    d.do(fill(), read(0x101));
    d.submit([fill(), fill(), fill()]);
    d.run(150);
    d.invalidate(1, pasid, 0x10_0000);
    d.invalidate(2, pasid, 0x10_1000);
    d.invalidate(3, pasid, 0, 64);
    expect(d.port.of('invalidated').map(({ itag }) => itag)).toEqual([2]);
    d.run();
    expect(d.port.of('invalidated').map(({ itag }) => itag)).toEqual([2, 1, 3]);
  });

  it('a completion that was overtaken is not used', () => {
    d.submit([fill()]);
    d.run(299);
    d.port.map(pasid, 0x100, { to: 0x220, read: true, write: true });
    d.invalidate(0, pasid, 0x10_0000);
    // Nothing is in flight with it: completed at once.
    expect(d.port.of('invalidated').length).toBe(1);
    d.run();
    expect(d.port.memory[0x20_0000]).toBe(0);
    expect(d.port.memory[0x22_0000]).toBe(0x11);
    expect(d.get('COUNT_STALE')).toBe(1);
  });

  it('a large range is not cached when another part of it was invalidated meanwhile', () => {
    d.port.map(pasid, 0x203, { to: 0x203, read: true, write: true, shift: 21 });
    d.submit([fill(0x203)]);
    d.run(200);
    d.invalidate(0, pasid, 0x20_5000);
    d.run();
    expect(d.take()).toMatchObject([{ status: 0, stale: 0 }]);
    expect(d.get('ATC_VALID')).toBe(0);
  });

  it('an endless storm ends in RETRIES', () => {
    d.submit([fill()]);
    for (let i = 0; i < 100; i++) {
      d.run(290);
      d.invalidate(0, pasid, 0x10_0000);
    }
    d.run();
    expect(d.take()).toMatchObject([{ status: status.RETRIES, stale: 65 }]);
  });

  it('HOLD_INVALIDATIONS keeps completions back', () => {
    d.set('CONTROL', 4);
    d.invalidate(31, pasid, 0x10_0000);
    d.invalidate(0, pasid, 0x10_0000);
    d.run();
    expect(d.port.of('invalidated')).toEqual([]);
    d.set('CONTROL', 0);
    expect(d.port.of('invalidated').map(({ itag }) => itag)).toEqual([0, 31]);
  });

  it('are completed by a reset, after which nothing is in flight', () => {
    d.do(fill());
    d.submit([fill(0x100, { operand: 0x99n })]);
    d.run(100);
    d.invalidate(8, pasid, 0x10_0000);
    d.device.reset();
    expect(d.port.of('invalidated')).toEqual([{ type: 'invalidated', itag: 8 }]);
    d.run();
    expect(d.port.memory[0x20_0000]).toBe(0x11);
    expect(d.get('ATC_VALID')).toBe(0);
  });

  it('do not wait for a function without bus mastering, nor for a disabled queue', () => {
    for (const stop of [() => d.device.busMaster(false), () => d.set('QCONTROL', 0)]) {
      d.device.busMaster(true);
      d.enable();
      d.do(fill());
      d.submit([fill()]);
      d.run(100);
      d.port.sent.length = 0;
      d.invalidate(8, pasid, 0x10_0000);
      expect(d.port.sent).toEqual([]);
      stop();
      expect(d.port.sent).toEqual([{ type: 'invalidated', itag: 8 }]);
    }
  });

  it('ATS off empties the cache and stops what is under way', () => {
    d.do(fill());
    d.submit([fill(0x100, { operand: 0x99n })]);
    d.run(100);
    d.device.translation({ ...everything, ats: false });
    expect(d.get('ATC_VALID')).toBe(0);
    d.run();
    expect(d.take()).toMatchObject([{ status: status.NOT_ENABLED }]);
    expect(d.port.memory[0x20_0000]).toBe(0x11);
  });
});

describe('page requests at will', () => {
  const group = (extra = {}) =>
    ({
      opcode: 'PAGE_REQUEST',
      source: 0x7f_e123n,
      source_mode: bits.PASID,
      source_pasid: pasid,
      pages: 3,
      group: 17,
      page_flags: pageFlag.READ.value | pageFlag.LAST.value,
      ...extra,
    }) as const;

  it('have the shape they are told, and wait for the response', () => {
    d.submit([group({ source_mode: bits.PASID | bits.PRIVILEGED | bits.EXECUTE })]);
    d.run();
    expect(d.port.of('page').map(({ lo, read, write, last, group, pasid, privileged, execute }) => [lo, read, write, last, group, pasid, privileged, execute])).toEqual([
      [0x7f_e000, true, false, false, 17, 5, true, true],
      [0x7f_f000, true, false, false, 17, 5, true, true],
      [0x80_0000, true, false, true, 17, 5, true, true],
    ]); // prettier-ignore
    expect(d.get('PAGE_OUTSTANDING')).toBe(3);
    expect(d.get('PAGE_CREDITS')).toBe(13);
    expect(d.take()).toEqual([]);
    d.respond(pasid, 17);
    d.run();
    expect(d.take()).toMatchObject([{ status: 0, page_requests: 3, group: 17 }]);
    expect(d.get('PAGE_OUTSTANDING')).toBe(0);
  });

  it.each([
    ['success', 0, status.SUCCESS],
    ['invalid request', 1, status.PAGE_INVALID],
    ['response failure', 15, status.PAGE_FAILURE],
    ['a reserved code', 7, status.PAGE_FAILURE],
  ])('%s', (_, code, expected) => {
    d.submit([group()]);
    d.run();
    d.respond(pasid, 17, code);
    d.run();
    expect(d.take()).toMatchObject([{ status: expected }]);
    expect(d.status.failed).toBe(expected === status.PAGE_FAILURE ? 1 : 0);
  });

  it('a response failure turns the interface off until it is enabled anew', () => {
    d.submit([group(), group({ group: 18 })]);
    d.run();
    d.respond(pasid, 17, 15);
    expect(d.do(group({ group: 19 })).map((c) => c.status)).toEqual([status.PAGE_FAILURE, status.NOT_ENABLED]);
    expect(d.get('PAGE_CREDITS')).toBe(0);
    d.respond(pasid, 18, 0);
    d.run();
    expect(d.take()).toMatchObject([{ status: 0 }]);
    d.device.translation({ ...everything, pri: false });
    d.device.translation(everything);
    expect(d.get('PAGE_CREDITS')).toBe(16);
  });

  it('a group without LAST is sent and stays open', () => {
    expect(d.do(group({ page_flags: pageFlag.WRITE.value }))).toMatchObject([{ status: 0, page_requests: 3 }]);
    expect(d.port.of('page').some(({ last }) => last)).toBe(false);
    expect(d.get('PAGE_OUTSTANDING')).toBe(3);
    // The rest of the group, with Last; one response answers all four.
    d.submit([group({ pages: 1 })]);
    d.run();
    expect(d.get('PAGE_OUTSTANDING')).toBe(4);
    d.respond(pasid, 17);
    expect(d.get('PAGE_OUTSTANDING')).toBe(0);
  });

  it('waits for credits, or with NO_WAIT fails', () => {
    d.device.translation({ ...everything, pageRequestAllocation: 4 });
    d.submit([group(), group({ group: 18, tag: 2 })]);
    d.run();
    expect(d.port.of('page').length).toBe(4);
    expect(d.get('PAGE_CREDITS')).toBe(0);
    expect(d.do(group({ group: 19, flags: flag.NO_WAIT.value, tag: 3 }))).toMatchObject([
      { status: status.NO_CREDITS, tag: 3, page_requests: 0 },
    ]);
    d.respond(pasid, 17);
    d.run();
    expect(d.take()).toMatchObject([{ status: 0, tag: 0 }]);
    expect(d.port.of('page').length).toBe(6);
    d.respond(pasid, 18);
    d.run();
    expect(d.take()).toMatchObject([{ status: 0, tag: 2, page_requests: 3 }]);
  });

  it('more credits in mid-wait let it go on', () => {
    d.device.translation({ ...everything, pageRequestAllocation: 1 });
    d.submit([group()]);
    d.run();
    d.device.translation({ ...everything, pageRequestAllocation: 2 });
    d.run();
    expect(d.port.of('page').length).toBe(2);
    d.device.translation({ ...everything, pri: false });
    d.run();
    expect(d.take()).toMatchObject([{ status: status.NOT_ENABLED }]);
  });

  it('unexpected and repeated responses are reported, not believed', () => {
    d.submit([group()]);
    d.run();
    d.respond(pasid, 16);
    d.respond(6, 17);
    expect(d.status.unexpected).toBe(2);
    d.respond(pasid, 17);
    d.respond(pasid, 17);
    expect(d.status.unexpected).toBe(3);
    d.submit([group()]);
    d.run();
    d.device.reset();
    d.respond(pasid, 17);
    expect(d.status.unexpected).toBe(4);
    expect(d.get('PAGE_OUTSTANDING')).toBe(0);
  });

  it('a response without PASID answers by the index alone', () => {
    d.submit([group()]);
    d.run();
    d.respond(noPasid, 17);
    d.run();
    expect(d.take()).toMatchObject([{ status: 0 }]);
  });

  it('an answer that comes before the request returns is taken', () => {
    d.port.onPageRequest = ({ last, pasid, group }) => {
      if (last) d.respond(pasid, group, 1);
    };
    expect(d.do(group())).toMatchObject([{ status: status.PAGE_INVALID, page_requests: 3 }]);
    expect(d.do(fill(0x777, { destination_mode: ats | bits.PAGE_REQUEST }))).toMatchObject([{ status: status.PAGE_INVALID }]); // prettier-ignore
  });

  it('a disabled queue’s requests stay outstanding until they are answered', () => {
    d.submit([group()]);
    d.run();
    d.set('QCONTROL', 0);
    expect(d.get('PAGE_OUTSTANDING')).toBe(3);
    d.respond(pasid, 17);
    expect([d.get('PAGE_OUTSTANDING'), d.status.unexpected]).toEqual([0, 0]);
    d.run();
  });

  it('stop markers', () => {
    d.device.translation({ ...everything, pageRequestAllocation: 0 });
    expect(d.do({ opcode: 'STOP_MARKER', source_mode: bits.PASID, source_pasid: 9 })).toMatchObject([{ status: 0 }]);
    expect(d.port.of('page')).toMatchObject([{ pasid: 9, last: true, read: false, write: false }]);
    expect(d.get('PAGE_OUTSTANDING')).toBe(0);
    d.device.translation({ ...everything, pri: false });
    expect(d.do({ opcode: 'STOP_MARKER', source_mode: bits.PASID, source_pasid: 9 })).toMatchObject([{ status: status.NOT_ENABLED }]); // prettier-ignore
  });

  it('PRI off: nothing leaves, unless UNCHECKED, and then no more than the capacity', () => {
    d = new TestDriver({ pageRequests: 64 });
    d.enable();
    d.device.translation({ ...everything, pri: false });
    expect(d.do(group())).toMatchObject([{ status: status.NOT_ENABLED }]);
    d.set('CONTROL', 2);
    expect(d.do(group({ pages: 100, page_flags: 1, flags: flag.NO_WAIT.value }))).toMatchObject([
      { status: status.NO_CREDITS, page_requests: 64 },
    ]);
  });
});

describe('faulting on demand', () => {
  const demand = ats | bits.PAGE_REQUEST;
  const pageIn = (
    { pasid, lo, group, write }: { pasid: number; lo: number; group: number; write: boolean },
    to: number,
  ): void => {
    // prettier-ignore
    d.port.map(pasid, lo >>> 12, { to, read: true, write });
    d.respond(pasid, group);
  };

  it('asks for the page, and tries again', () => {
    d.submit([fill(0x500, { destination_mode: demand, length: 0x2000, tag: 1 })]);
    d.run();
    const [first] = d.port.of('page');
    expect(first).toMatchObject({ lo: 0x50_0000, read: false, write: true, last: true, pasid });
    pageIn(first!, 0x280);
    d.run();
    expect(d.port.of('page').length).toBe(2);
    pageIn(d.port.of('page')[1]!, 0x291);
    d.run();
    expect(d.take()).toMatchObject([{ tag: 1, status: 0, bytes_done: 0x2000, page_requests: 2, translations: 4 }]);
    expect([d.port.memory[0x28_0000], d.port.memory[0x29_1ff8]]).toEqual([0x11, 0x11]);
  });

  it('many fault at once, each with a group of its own, answered in any order', () => {
    d.enable(0, { parallel: 12 });
    d.submit(Array.from({ length: 12 }, (_, i) => read(0x600 + i, { source_mode: demand, tag: i, length: 4 })));
    d.run();
    const asked = d.port.of('page');
    expect(new Set(asked.map(({ group }) => group)).size).toBe(12);
    for (const message of [...asked].reverse()) {
      pageIn(message, 0x280);
      d.run();
    }
    expect(d.take().map((c) => [c.tag, c.status])).toEqual(Array.from({ length: 12 }, (_, i) => [11 - i, 0]));
  });

  it('with one credit they take turns', () => {
    d.device.translation({ ...everything, pageRequestAllocation: 1 });
    d.submit(Array.from({ length: 5 }, (_, i) => read(0x600 + i, { source_mode: demand, tag: i, length: 4 })));
    for (let i = 0; i < 5; i++) {
      d.run();
      expect(d.port.of('page').length).toBe(i + 1);
      pageIn(d.port.of('page')[i]!, 0x280);
    }
    d.run();
    expect(d.take().map((c) => c.tag)).toEqual([0, 1, 2, 3, 4]);
  });

  it('a handler that says success and maps nothing is asked 16 times, with more and more patience', () => {
    const times: number[] = [];
    d.port.onPageRequest = ({ pasid, group }) => {
      times.push(d.clock.now);
      d.respond(pasid, group);
    };
    d.submit([fill(0x500, { destination_mode: demand })]);
    d.run(10_000_000);
    expect(d.take()).toMatchObject([{ status: status.RETRIES, page_requests: 16 }]);
    const waits = times.slice(1).map((time, i) => time - times[i]!);
    expect(waits.slice(0, 4)).toEqual([300, 1300, 2300, 4300]);
    expect(waits.at(-1)).toBe(1_024_300);
  });

  it('an atomic asks for both rights', () => {
    d.submit([{ opcode: 'SWAP', destination: 0x50_0000n, destination_mode: demand, destination_pasid: pasid, operand_bytes: 8 }]); // prettier-ignore
    d.run();
    expect(d.port.of('page')).toMatchObject([{ read: true, write: true }]);
  });

  it('a ring in pages that are not there', () => {
    d.enable(0, { isLocal: false, attributes: 9 | (demand << 24) });
    d.port.onPageRequest = (message) => d.clock.schedule(5000, () => pageIn({ ...message, write: true }, message.lo >>> 12)); // prettier-ignore
    d.submit([{ opcode: 'NOP', tag: 5 }]);
    d.run();
    expect(d.take()).toMatchObject([{ tag: 5, status: 0 }]);
    expect(d.port.of('page').map(({ lo, write }) => [lo, write])).toEqual([[0x10_0000, false], [0x11_0000, true]]); // prettier-ignore
  });

  it('a reset while it waits for the response', () => {
    d.submit([fill(0x500, { destination_mode: demand })]);
    d.run();
    d.device.reset();
    pageIn(d.port.of('page')[0]!, 0x280);
    d.run();
    expect([d.status.unexpected, d.port.of('access').length, d.port.memory[0x28_0000]]).toEqual([1, 0, 0]);
  });

  it('PRI off while it waits for the response', () => {
    d.submit([fill(0x500, { destination_mode: demand })]);
    d.run();
    d.device.translation({ ...everything, pri: false });
    d.run();
    expect(d.take()).toMatchObject([{ status: status.NOT_ENABLED }]);
    d.respond(pasid, d.port.of('page')[0]!.group);
    expect(d.status.unexpected).toBe(0);
  });
});
