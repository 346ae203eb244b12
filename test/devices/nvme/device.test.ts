import { describe, expect, it } from 'vitest';
import { memoryStorage } from '#devices/backends/storage/memory';
import { Driver, pattern, ready, translationOff } from './driver.ts';

const read = 0x02;
const write = 0x01;
const flush = 0x00;
const identify = 0x06;

describe('registers and life cycle', () => {
  it('shows version 1.4 and its capabilities, in dwords and quadwords', () => {
    const d = new Driver();
    expect(d.reg(0x08)).toBe(0x0001_0400);
    expect(d.reg(0x00) & 0xffff).toBe(2047);
    expect((d.reg(0x00) >>> 16) & 1).toBe(1);
    expect(d.device.read(0, 8)).toBe((BigInt(d.reg(4)) << 32n) | BigInt(d.reg(0)));
    expect(d.device.read(9, 1)).toBe(4);
    expect(d.reg(0x1000)).toBe(0);
    expect(d.reg(0x800)).toBe(0);
  });

  it('becomes ready some time after CC.EN, and not ready at once when it is cleared', () => {
    const d = new Driver();
    d.setReg(0x24, 0x000f_000f);
    d.setAddress(0x28, 0x10000);
    d.setAddress(0x30, 0x11000);
    d.setReg(0x14, 0x0046_0001);
    expect(d.reg(0x1c)).toBe(0);
    d.run();
    expect(d.reg(0x1c)).toBe(1);
    d.setReg(0x14, 0x0046_0000);
    expect(d.reg(0x1c)).toBe(0);
    expect(d.reg(0x28)).toBe(0x10000);
    d.device.reset();
    expect([d.reg(0x24), d.reg(0x28), d.reg(0x14)]).toEqual([0, 0, 0]);
  });

  it.each([
    ['an admin queue of one entry', 0x0000_0000, 0x10000, 0x0046_0001],
    ['a page size beyond CAP.MPSMAX', 0x000f_000f, 0x10000, 0x0046_0281],
    ['an arbitration mechanism it lacks', 0x000f_000f, 0x10000, 0x0046_0801],
    ['a command set it lacks', 0x000f_000f, 0x10000, 0x0046_0011],
    ['a queue that is not page aligned', 0x000f_000f, 0x1000, 0x0046_0081],
  ])('reports a fatal status for %s, and recovers by a reset', (_what, aqa, asq, cc) => {
    const d = new Driver();
    d.setReg(0x24, aqa);
    d.setAddress(0x28, asq);
    d.setAddress(0x30, 0x12000);
    d.setReg(0x14, cc);
    d.run();
    expect(d.reg(0x1c)).toBe(2);
    d.setReg(0x14, 0);
    expect(d.reg(0x1c)).toBe(0);
    d.enable();
    expect(d.reg(0x1c)).toBe(1);
  });

  it('flushes at a shutdown notification, enabled or not', () => {
    let flushes = 0;
    const backend = memoryStorage(1 << 20);
    backend.flush = () => void flushes++;
    const d = ready({ backend });
    d.setReg(0x14, 0x0046_4001);
    expect((d.reg(0x1c) >> 2) & 3).toBe(1);
    d.run();
    expect((d.reg(0x1c) >> 2) & 3).toBe(2);
    expect(flushes).toBe(1);
    d.setReg(0x14, 0);
    expect(d.reg(0x1c)).toBe(0);
    d.setReg(0x14, 0x8000);
    d.run();
    expect((d.reg(0x1c) >> 2) & 3).toBe(2);
    expect(flushes).toBe(2);
  });

  it('keeps the interrupt mask registers as one mask', () => {
    const d = new Driver();
    d.setReg(0x0c, 0xf0);
    d.setReg(0x0c, 0x0f);
    d.setReg(0x10, 0x3c);
    expect([d.reg(0x0c), d.reg(0x10)]).toEqual([0xc3, 0xc3]);
  });

  it('ignores accesses of sizes and places the registers do not have', () => {
    const d = ready();
    d.device.write(0x14, 1, 0);
    d.device.write(0x16, 4, 0);
    d.device.write(0x1000, 8, 3n);
    d.device.write(0xffc, 4, 3);
    expect(d.reg(0x1c)).toBe(1);
    expect(d.device.read(0x15, 4)).toBe(0);
    expect(d.device.read(0x3ffc, 8)).toBe(0n);
  });

  it('drops what is in flight at a reset and works again afterwards', () => {
    const d = ready();
    const buffer = d.pages();
    d.submit(1, { opcode: read, nsid: 1, prp1: buffer, cdw: [0, 0, 0] });
    d.run(1000);
    d.setReg(0x14, 0);
    d.run();
    expect(d.reap(1)).toEqual([]);
    expect(d.device.stats.ioCommands).toBe(0);
    d.enable();
    d.createPair(1);
    d.expectOk({ opcode: read, nsid: 1, prp1: buffer, cdw: [0, 0, 0] }, 1);
  });

  it('starts no DMA while it is not bus master, and goes on when it is again', () => {
    const d = ready();
    d.device.busMaster(false);
    const { reads, writes } = d.port;
    const cid = d.submit(1, { opcode: flush, nsid: 1 });
    d.run();
    expect([d.port.reads, d.port.writes]).toEqual([reads, writes]);
    d.device.busMaster(true);
    d.run();
    expect(d.reap(1).map((c) => c.cid)).toEqual([cid]);
  });

  it('sets CSTS.CFS when its queues cannot be reached', () => {
    const d = ready();
    d.port.denied.add(d.pairs[1]!.cq / 4096);
    d.submit(1, { opcode: flush, nsid: 1 });
    d.run();
    expect(d.reg(0x1c)).toBe(3);
    expect(d.events.some((e) => e.name === 'nvme.fatal')).toBe(true);
    d.port.denied.clear();
    d.setReg(0x14, 0);
    d.enable();
    expect(d.reg(0x1c)).toBe(1);
  });
});

describe('queues', () => {
  it('never completes inside the doorbell write', () => {
    const d = ready();
    const buffer = d.pages();
    const { reads, writes } = d.port;
    d.submit(1, { opcode: read, nsid: 1, prp1: buffer, cdw: [0, 0, 0] });
    expect([d.port.reads, d.port.writes]).toEqual([reads, writes]);
    d.run(5000);
    expect(d.reap(1)).toEqual([]);
    d.run(20_000);
    expect(d.reap(1)).toHaveLength(1);
  });

  it('wraps around with phase tags, reports the submission head, and raises the vector of the queue', () => {
    const d = ready({}, 2, 4);
    d.interrupts.length = 0;
    for (let round = 0; round < 11; round++) {
      const cids = [d.queue(2, { opcode: flush, nsid: 1 }), d.queue(2, { opcode: flush, nsid: 1 })];
      d.ring(2);
      d.run();
      const done = d.reap(2);
      expect(done.map((c) => c.cid)).toEqual(cids);
      expect(done.at(-1)!.sqHead).toBe(d.pairs[2]!.tail);
      expect(done.every((c) => c.sqid === 2 && c.code === 0)).toBe(true);
    }
    expect(new Set(d.interrupts)).toEqual(new Set([2]));
    expect(d.interrupts).toHaveLength(11);
  });

  it('holds completions back while the completion queue is full, without holding up other queues', () => {
    const d = ready({}, 2, 4);
    const first = [0, 1, 2].map(() => d.queue(1, { opcode: flush, nsid: 1 }));
    d.ring(1);
    d.run();
    // Seen, but not acknowledged: the queue is full with 3 of 4 entries.
    expect(d.reap(1, Infinity, false).map((c) => c.cid)).toEqual(first);
    const second = [0, 1].map(() => d.queue(1, { opcode: flush, nsid: 1 }));
    d.ring(1);
    d.run();
    expect(d.reap(1, Infinity, false)).toEqual([]);
    d.expectOk({ opcode: flush, nsid: 1 }, 2);
    d.setReg(0x1004 + 8, d.pairs[1]!.head);
    d.run();
    expect(d.reap(1).map((c) => c.cid)).toEqual(second);
  });

  it('gives every queue its turn', () => {
    const d = ready({ ioQueues: 4 }, 4, 64);
    for (let qid = 1; qid <= 4; qid++) for (let i = 0; i < 60; i++) d.queue(qid, { opcode: flush, nsid: 1 });
    for (let qid = 1; qid <= 4; qid++) d.ring(qid);
    d.run();
    for (let qid = 1; qid <= 4; qid++) expect(d.reap(qid)).toHaveLength(60);
  });

  it('reports bad doorbells as asynchronous events, once until the log is read', () => {
    const d = ready();
    const requests = [0, 1, 2].map(() => d.submit(0, { opcode: 0x0c }));
    d.run();
    expect(d.reap(0)).toEqual([]);
    d.setReg(0x1000 + 8, 999);
    d.setReg(0x1000 + 8 * 5, 0);
    d.run();
    const [event, ...more] = d.reap(0);
    expect(more).toEqual([]);
    expect(event).toMatchObject({ cid: requests[0], result: 0x0001_0100, code: 0 });
    // Reading the error log lets the next one out, and a third waits again.
    const log = d.submit(0, { opcode: 0x02, prp1: d.pages(), nsid: 0xffff_ffff, cdw: [0x000f_0001] });
    d.setReg(0x1004 + 8, 3);
    d.run();
    expect(d.reap(0)).toMatchObject([
      { cid: requests[1], result: 0x0001_0000, code: 0 },
      { cid: log, code: 0 },
    ]);
    d.expectOk({ opcode: flush, nsid: 1 }, 1);
  });

  it('completes what is in flight as aborted when its submission queue is deleted', () => {
    const d = ready();
    const buffer = d.pages();
    const del = d.queue(0, { opcode: 0x00, cdw: [1] });
    d.ring(0);
    d.run(500);
    const cid = d.submit(1, { opcode: read, nsid: 1, prp1: buffer, cdw: [0, 0, 0] });
    d.run();
    expect(d.reap(1)).toMatchObject([{ cid, code: 0x008, dnr: false }]);
    expect(d.reap(0)).toMatchObject([{ cid: del, code: 0 }]);
    expect(d.admin({ opcode: 0x00, cdw: [1] }).code).toBe(0x101);
    d.expectOk({ opcode: 0x04, cdw: [1] });
    d.createPair(1);
    d.expectOk({ opcode: flush, nsid: 1 }, 1);
  });

  it('aborts a command in flight, and an outstanding event request', () => {
    const d = ready();
    const aer = d.submit(0, { opcode: 0x0c });
    d.run();
    const victim = d.submit(1, { opcode: read, nsid: 1, prp1: d.pages(), cdw: [0, 0, 0] });
    d.run(1000);
    const first = d.submit(0, { opcode: 0x08, cdw: [(victim << 16) | 1] });
    d.run();
    expect(d.reap(1)).toMatchObject([{ cid: victim, code: 0x007 }]);
    expect(d.interrupts).toContain(1);
    expect(d.reap(0)).toMatchObject([{ cid: first, code: 0, result: 0 }]);
    const second = d.submit(0, { opcode: 0x08, cdw: [aer << 16] });
    d.run();
    const done = d.reap(0);
    expect(done.find((c) => c.cid === aer)).toMatchObject({ code: 0x007 });
    expect(done.find((c) => c.cid === second)).toMatchObject({ code: 0, result: 0 });
    expect(d.admin({ opcode: 0x08, cdw: [0x1234_0000] })).toMatchObject({ code: 0, result: 1 });
    expect(d.admin({ opcode: 0x08, cdw: [0x1234_0063] }).code).toBe(0x002);
  });
});

describe('queues with a PASID', () => {
  const pasid = 7;
  const far = 0x40_0000_0000;
  /** A queue pair of a process: every address that the process hands over is `far` beyond the memory. */
  const userPair = (d: Driver): void => {
    d.port.spaces.set(pasid, -far);
    const tag = 0x8000_0000 + pasid;
    const [sq, cq] = [d.pages(), d.pages()];
    d.expectOk({ opcode: 0x05, prp1: far + cq, cdw: [(15 << 16) | 2, (2 << 16) | 3, tag] });
    d.expectOk({ opcode: 0x01, prp1: far + sq, cdw: [(15 << 16) | 2, (2 << 16) | 1, tag] });
    d.pairs[2] = { id: 2, size: 16, sq, cq, tail: 0, head: 0, phase: 1 };
  };

  it('fetch, move data and complete in the address space of the process', () => {
    const d = ready({ pasidBits: 20, backend: memoryStorage(pattern(1 << 20, 4)) });
    expect(d.device.pasid).toEqual({ bits: 20 });
    const page = d.pages();
    d.expectOk({ opcode: identify, prp1: page, cdw: [1] });
    expect(d.peek(page + 3072, 1)[0]).toBe(1);
    userPair(d);
    d.expectOk({ opcode: read, nsid: 1, prp1: far + page, cdw: [0, 0, 7] }, 2);
    expect(d.peek(page, 4096)).toEqual(pattern(4096, 4));
    expect(d.command(2, { opcode: read, nsid: 1, prp1: page, cdw: [0, 0, 7] }).code).toBe(0x004);
    expect(d.command(1, { opcode: read, nsid: 1, prp1: far + page, cdw: [0, 0, 7] }).code).toBe(0x004);
  });

  it('stop alone when the process takes their memory away', () => {
    const d = ready({ pasidBits: 20 });
    userPair(d);
    const aer = d.submit(0, { opcode: 0x0c });
    d.submit(2, { opcode: flush, nsid: 1 });
    d.run(5000);
    d.port.spaces.clear();
    d.submit(2, { opcode: flush, nsid: 1 });
    d.run();
    expect(d.reg(0x1c)).toBe(1);
    expect(d.reap(0)).toMatchObject([{ cid: aer, result: 0x0001_0400 }]);
    d.expectOk({ opcode: flush, nsid: 1 }, 1);
    d.expectOk({ opcode: 0x00, cdw: [2] });
    d.expectOk({ opcode: 0x04, cdw: [2] });
    userPair(d);
    d.expectOk({ opcode: flush, nsid: 1 }, 2);
  });

  it('send nothing while PASID Enable is off', () => {
    const d = ready({ pasidBits: 20 });
    userPair(d);
    d.device.translation(translationOff);
    const { reads } = d.port;
    d.submit(2, { opcode: flush, nsid: 1 });
    d.run();
    expect(d.port.reads).toBe(reads);
    expect(d.reap(2)).toEqual([]);
    d.expectOk({ opcode: flush, nsid: 1 }, 1);
  });

  it('are not made where they are not offered', () => {
    const d = ready();
    expect(d.device.pasid).toBeUndefined();
    const page = d.pages();
    d.expectOk({ opcode: 0x05, prp1: page, cdw: [(15 << 16) | 2, (2 << 16) | 3, 0x8000_0007] });
    d.expectOk({ opcode: 0x04, cdw: [2] });
  });
});

describe('data', () => {
  it('reads and writes through every shape of PRP', () => {
    const content = pattern(1 << 20, 7);
    const d = ready({ backend: memoryStorage(content.slice()), mdts: 9 });
    for (const [offset, blocks] of [
      [0, 1],
      [512, 7],
      [512, 8],
      [0, 16],
      [2048, 13],
      [4, 16],
      [0, 256],
      [1536, 1024],
      [0, 1100],
    ] as const) {
      const bytes = blocks * 512;
      const pages = Math.ceil((offset + bytes) / 4096);
      const buffers = Array.from({ length: pages }, () => d.pages(2)).reverse();
      let prp2 = buffers[1] ?? 0;
      if (pages > 2) {
        // A list that starts 16 bytes before its page ends, and goes on in the next list pages.
        const lists = [d.pages(), d.pages(), d.pages()];
        let list = 0;
        let slot = 510;
        prp2 = lists[0]! + slot * 8;
        buffers.slice(1).forEach((buffer, i, all) => {
          if (slot === 511 && i < all.length - 1) {
            d.setU64(lists[list]! + 511 * 8, lists[list + 1]!);
            list++;
            slot = 0;
          }
          d.setU64(lists[list]! + slot * 8, buffer);
          slot++;
        });
      }
      const lba = 3;
      const collect = (): Uint8Array => {
        const all = new Uint8Array(pages * 4096);
        buffers.forEach((buffer, i) => all.set(d.peek(buffer, 4096), i * 4096));
        return all.subarray(offset, offset + bytes);
      };
      d.expectOk({ opcode: read, nsid: 1, prp1: buffers[0]! + offset, prp2, cdw: [lba, 0, blocks - 1] }, 1);
      expect(Buffer.from(collect()).equals(Buffer.from(content.subarray(lba * 512, lba * 512 + bytes)))).toBe(true);
      const fresh = pattern(pages * 4096, blocks);
      buffers.forEach((buffer, i) => d.poke(buffer, fresh.subarray(i * 4096, (i + 1) * 4096)));
      d.expectOk({ opcode: write, nsid: 1, prp1: buffers[0]! + offset, prp2, cdw: [lba, 0, blocks - 1] }, 1);
      content.set(fresh.subarray(offset, offset + bytes), lba * 512);
      const image = new Uint8Array(1 << 20);
      d.backend.read(0, image);
      expect(Buffer.from(image).equals(Buffer.from(content))).toBe(true);
    }
  });

  it.each([0, 1, 2, 3, 4])('takes pages of 2^(12 + %i) bytes from CC.MPS', (mps) => {
    const content = pattern(1 << 20, 9);
    const d = new Driver({ backend: memoryStorage(content), mdts: 6 });
    const bytes = 4096 << mps;
    // Page by page where the large ones begin.
    const aligned = (): number => {
      for (;;) {
        const at = d.pages();
        if (at % bytes === 0) return at;
      }
    };
    const [sq, cq, list, first, second, third] = Array.from({ length: 6 }, aligned) as [
      number,
      number,
      number,
      number,
      number,
      number,
    ];
    d.setReg(0x24, 0x000f_000f);
    d.setAddress(0x28, sq);
    d.setAddress(0x30, cq);
    d.setReg(0x14, 0x0046_0001 | (mps << 7));
    d.run();
    d.pairs[0] = { id: 0, size: 16, sq, cq, tail: 0, head: 0, phase: 1 };
    const [ioSq, ioCq] = [aligned(), aligned()];
    d.expectOk({ opcode: 0x05, prp1: ioCq, cdw: [(15 << 16) | 1, (1 << 16) | 3] });
    d.expectOk({ opcode: 0x01, prp1: ioSq, cdw: [(15 << 16) | 1, (1 << 16) | 1] });
    d.pairs[1] = { id: 1, size: 16, sq: ioSq, cq: ioCq, tail: 0, head: 0, phase: 1 };
    d.setU64(list + bytes - 8, list);
    d.setU64(list, third);
    d.setU64(list + 8, second);
    const blocks = (2 * bytes + 1024) / 512;
    d.expectOk(
      { opcode: read, nsid: 1, prp1: first + bytes - 1024, prp2: list + bytes - 8, cdw: [0, 0, blocks - 1] },
      1,
    );
    const got = Buffer.concat([d.peek(first + bytes - 1024, 1024), d.peek(third, bytes), d.peek(second, bytes)]);
    expect(Buffer.compare(got, content.subarray(0, got.length))).toBe(0);
    const wrong = { opcode: read, nsid: 1, prp1: first, prp2: second + bytes / 2, cdw: [0, 0, bytes / 512] };
    expect(d.command(1, wrong).code).toBe(0x013);
  });

  it.each([
    ['PRP1 that is not dword aligned', { prp1: 0x20002, blocks: 1 }, 0x013],
    ['PRP2 as a page with an offset', { prp1: 0x20000, prp2: 0x21200, blocks: 16 }, 0x013],
    ['a list that is not qword aligned', { prp1: 0x20000, prp2: 0x21004, blocks: 64 }, 0x013],
    ['a list entry with an offset', { prp1: 0x20000, prp2: 0x30000, blocks: 24, entry: 0x21010 }, 0x013],
    ['a chain pointer with an offset', { prp1: 0x20000, prp2: 0x30ff8, blocks: 24, last: 0x31008 }, 0x013],
    ['PRP1 that faults', { prp1: 2 ** 40, blocks: 1 }, 0x004],
    ['PRP1 at the end of the address space', { prp1: 2 ** 52 - 4096, blocks: 1 }, 0x004],
    ['a list that faults', { prp1: 0x20000, prp2: 2 ** 40, blocks: 64 }, 0x004],
    ['a list entry that faults', { prp1: 0x20000, prp2: 0x30000, blocks: 24, entry: 2 ** 33 }, 0x004],
    ['more than MDTS', { prp1: 0x20000, prp2: 0x30000, blocks: 1025 }, 0x002],
    ['a range that starts inside and ends beyond', { prp1: 0x20000, blocks: 2, lba: 2047 }, 0x080],
    ['an LBA with its upper half set', { prp1: 0x20000, blocks: 1, lbaHi: 0xffff_ffff, lba: 0xffff_ffff }, 0x080],
    ['namespace 0', { prp1: 0x20000, blocks: 1, nsid: 0 }, 0x00b],
    ['a namespace that is not there', { prp1: 0x20000, blocks: 1, nsid: 2 }, 0x00b],
    ['the broadcast namespace', { prp1: 0x20000, blocks: 1, nsid: 0xffff_ffff }, 0x00b],
    ['a fused command', { prp1: 0x20000, blocks: 1, flags: 0x100 }, 0x002],
    ['an opcode that does not exist', { prp1: 0x20000, blocks: 1, opcode: 0x7f }, 0x001],
  ] as const)('refuses %s', (_what, c: Record<string, number>, code) => {
    const d = ready();
    if (c.entry !== undefined) {
      d.setU64(0x30000, c.entry);
      d.setU64(0x30008, c.entry);
    }
    if (c.last !== undefined) d.setU64(0x30ff8, c.last);
    const before = d.peek(0x20000, 4096);
    for (const opcode of c.opcode === undefined ? [read, write] : [c.opcode]) {
      const done = d.command(1, {
        opcode,
        nsid: c.nsid ?? 1,
        prp1: c.prp1!,
        prp2: c.prp2 ?? 0,
        flags: c.flags ?? 0,
        cdw: [c.lba ?? 0, c.lbaHi ?? 0, c.blocks! - 1],
      });
      expect(done.code).toBe(code);
      expect(done.dnr).toBe(code !== 0x004);
    }
    expect(d.peek(0x20000, 4096)).toEqual(before);
    expect(d.device.stats.errors).toBeGreaterThan(0);
    d.expectOk({ opcode: flush, nsid: 1 }, 1);
  });

  it('is deterministic: the same run gives the same events', () => {
    const once = (): string => {
      const d = ready({}, 2);
      for (let i = 0; i < 20; i++) {
        d.queue(1 + (i & 1), { opcode: read, nsid: 1, prp1: 0x40000 + i * 4096, cdw: [i, 0, i & 7] });
        if (i % 5 === 0) d.ring(1);
        if (i % 7 === 0) d.ring(2);
        d.run(3000);
      }
      return JSON.stringify(d.events, (_key, value: unknown) => (typeof value === 'bigint' ? value.toString() : value));
    };
    expect(once()).toBe(once());
  });

  it('puts the members of Identify Controller where the specification has them', () => {
    const d = ready({ ioQueues: 3 });
    const page = d.pages();
    d.expectOk({ opcode: identify, prp1: page, cdw: [1] });
    const { view } = d.port;
    const members: readonly [string, number, 1 | 2 | 4, number][] = [
      ['vid', 0, 2, 0x1b36],
      ['ssvid', 2, 2, 0x1af4],
      ['rab', 72, 1, 4],
      ['mdts', 77, 1, 7],
      ['ver', 80, 4, 0x1_0400],
      ['oaes', 92, 4, 0x100],
      ['cntrltype', 111, 1, 1],
      ['oacs', 256, 2, 2],
      ['acl', 258, 1, 3],
      ['aerl', 259, 1, 3],
      ['frmw', 260, 1, 3],
      ['lpa', 261, 1, 6],
      ['elpe', 262, 1, 63],
      ['wctemp', 266, 2, 343],
      ['cctemp', 268, 2, 373],
      ['tnvmcap', 280, 4, 1 << 20],
      ['sqes', 512, 1, 0x66],
      ['cqes', 513, 1, 0x44],
      ['nn', 516, 4, 1],
      ['oncs', 520, 2, 0xdd],
      ['vwc', 525, 1, 7],
      ['sgls', 536, 4, 0x5_0001],
      ['psd0.mp', 2048, 2, 2500],
      ['vs', 3072, 1, 0],
    ];
    const read = { 1: 'getUint8', 2: 'getUint16', 4: 'getUint32' } as const;
    for (const [name, offset, bytes, value] of members)
      expect([name, view[read[bytes]](page + offset, true)]).toEqual([name, value]);
  });

  it('identifies controller, namespaces, lists and descriptors', () => {
    const d = ready({
      namespaces: [{ backend: memoryStorage(1 << 20) }, { backend: memoryStorage(3 << 20), blockBytes: 4096 }],
    });
    const page = d.pages(2) + 512;
    const next = page - 512 + 4096;
    const get = (cns: number, nsid = 0): DataView => {
      d.expectOk({ opcode: identify, nsid, prp1: page, prp2: next, cdw: [cns] });
      return new DataView(d.peek(page, 4096).buffer);
    };
    const controller = get(1);
    expect(controller.getUint16(0, true)).toBe(0x1b36);
    expect(Buffer.from(controller.buffer, 4, 20).toString()).toBe('TEST0001'.padEnd(20));
    expect(controller.getUint8(77)).toBe(7);
    expect(controller.getUint32(80, true)).toBe(0x1_0400);
    expect(controller.getUint8(512)).toBe(0x66);
    expect(controller.getUint8(513)).toBe(0x44);
    expect(controller.getUint32(516, true)).toBe(2);
    expect(Buffer.from(controller.buffer, 768, 4).toString()).toBe('nqn.');
    const ns2 = get(0, 2);
    expect(ns2.getBigUint64(0, true)).toBe(768n);
    expect(ns2.getUint8(26)).toBe(1);
    expect([ns2.getUint8(128 + 2), ns2.getUint8(128 + 6)]).toEqual([9, 12]);
    const active = get(2, 1);
    expect([active.getUint32(0, true), active.getUint32(4, true)]).toEqual([2, 0]);
    const ids = get(3, 1);
    expect([ids.getUint8(0), ids.getUint8(1), ids.getUint8(12), ids.getUint8(13), ids.getUint8(32)]).toEqual([
      1, 8, 2, 16, 0,
    ]);
    expect(Buffer.from(ids.buffer, 4, 8).equals(Buffer.from(get(0, 1).buffer, 120, 8))).toBe(true);
    expect(d.admin({ opcode: identify, nsid: 3, prp1: page, prp2: next, cdw: [0] }).code).toBe(0x00b);
    expect(d.admin({ opcode: identify, prp1: page, prp2: next, cdw: [0x77] }).code).toBe(0x002);
    expect(d.admin({ opcode: identify, prp1: 2 ** 40, prp2: next, cdw: [1] }).code).toBe(0x004);
    d.expectOk({ opcode: read, nsid: 2, prp1: 0x80000, cdw: [767, 0, 0] }, 1);
    expect(d.command(1, { opcode: read, nsid: 2, prp1: 0x80000, cdw: [768, 0, 0] }).code).toBe(0x080);
  });
});
