/** Nonsense for the exerciser: registers, descriptors, enables, invalidations, responses, resets, at random but from a seed. */
import type { MemoryRequest, PageRequestMessage, TranslationRequest } from '#vmm/base/ports';
import { noPasid } from '#vmm/base/ports';
import { type QueueSetup, TestDriver, everything, place } from '../devices/exerciser/driver.ts';

/** xorshift32: the same run for the same seed. */
const random = (seed: number): ((below: number) => number) => {
  let state = seed >>> 0 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state % below;
  };
};

export interface FuzzReport {
  readonly seed: number;
  readonly operations: number;
  readonly transactions: number;
  readonly requests: number;
  readonly translations: number;
  readonly invalidations: number;
  readonly pageRequests: number;
  /** Longest single operation, in milliseconds of the wall clock. */
  readonly slowestMs: number;
}

const pageShift = 12;
/** Untranslated pages that are sometimes mapped, and the pages they lead to; forged addresses are kept off the latter. */
const firstPage = 0x140;
const pages = 48;
const firstTarget = 0x200;
const targets = 64;
const capacity = 24;
const pasids = [noPasid, 1, 2];

/**
 * Throws nonsense for `milliseconds` (or `operations`, whichever ends first). Throws when the device throws, hangs (one
 * operation above 2 s), sends what its enables or its allocation forbid, uses a translation after the completion of its
 * invalidation, completes an invalidation twice or never, or does not work after a reset.
 */
export const fuzzExerciser = (seed: number, milliseconds: number, operations = Infinity): FuzzReport => {
  const below = random(seed);
  const any32 = (): number => (below(65536) * 65536 + below(65536)) >>> 0;
  const fail = (what: string): never => {
    throw new Error(`seed ${seed}: operation ${done}: ${what}`);
  };
  let done = 0;
  const totals = { transactions: 0, requests: 0, translations: 0, invalidations: 0, pageRequests: 0 };

  const d = new TestDriver({ cacheEntries: 16, pageRequests: capacity });
  let enables = everything;
  let isUnchecked = false;
  const open: PageRequestMessage[] = [];
  const pendingItags = new Map<number, number[]>();
  /** Targets whose invalidation was completed and which nothing leads to. */
  const dead = new Set<number>();
  for (let target = firstTarget; target < firstTarget + targets; target++) dead.add(target);
  for (const pasid of pasids)
    for (const ring of [place.ringInMemory, place.completionsInMemory])
      for (let at = ring >>> pageShift; at < (ring >>> pageShift) + 4; at++)
        d.port.map(pasid, at, { to: at, read: true, write: true });

  const { port } = d;
  const checkPrefix = ({
    pasid,
    privileged,
    execute,
  }: {
    pasid: number;
    privileged: boolean;
    execute: boolean;
  }): void => {
    // prettier-ignore
    if (pasid === noPasid && (privileged || execute)) fail('rights without a PASID');
    if (pasid > 0xf_ffff) fail('a PASID of more than 20 bits');
    if (isUnchecked) return;
    if (pasid !== noPasid && !enables.pasid) fail('a PASID that is not enabled');
    if (privileged && !enables.pasidPrivileged) fail('privileged, which is not enabled');
    if (execute && !enables.pasidExecute) fail('execute, which is not enabled');
  };
  const plainAccess = port.access.bind(port);
  port.access = (request: MemoryRequest) => {
    totals.requests++;
    port.sent.length = 0;
    checkPrefix(request);
    if (!isMaster) fail('a request without bus mastering');
    if (request.isTranslated && !enables.ats && !isUnchecked) fail('a translated request without ATS');
    const page = request.lo >>> pageShift;
    if (request.isTranslated && request.hi === 0 && dead.has(page)) fail('a translation was used after its invalidation'); // prettier-ignore
    return plainAccess(request);
  };
  const plainTranslate = port.translate.bind(port);
  port.translate = (request: TranslationRequest) => {
    totals.translations++;
    checkPrefix(request);
    if (!isMaster) fail('a translation request without bus mastering');
    if (!enables.ats && !isUnchecked) fail('a translation request without ATS');
    if ((request.lo & 0xfff) !== 0) fail('a misaligned translation request');
    return plainTranslate(request);
  };
  port.pageRequest = (message: PageRequestMessage) => {
    totals.pageRequests++;
    checkPrefix(message);
    if (!enables.pri && !isUnchecked) fail('a page request without PRI');
    // A stop marker: nobody answers it, and it takes no credit.
    if (message.last && !message.read && !message.write && message.pasid !== noPasid) return;
    const outstanding = d.get('PAGE_OUTSTANDING');
    if (outstanding > capacity || (!isUnchecked && outstanding > enables.pageRequestAllocation))
      fail(`${outstanding} page requests outstanding`);
    if (message.last) open.push({ ...message });
    if (open.length > 200) open.shift();
    if (below(16) === 0) respond();
  };
  port.invalidationCompleted = (itag) => {
    const dying = pendingItags.get(itag) ?? fail(`unexpected completion of invalidation ${itag}`);
    pendingItags.delete(itag);
    for (const target of dying) dead.add(target);
  };

  const freeTarget = (): number | undefined => [...dead][below(dead.size || 1)];
  const page = (): number => firstPage + below(pages);
  const map = (pasid: number, at: number): void => {
    const target = freeTarget();
    if (target === undefined || port.maps.get(pasid)?.has(at)) return;
    dead.delete(target);
    port.map(pasid, at, { to: target, read: below(8) > 0, write: below(4) > 0, execute: below(2) === 0, privileged: below(8) === 0, untranslatedOnly: below(16) === 0 }); // prettier-ignore
  };
  const respond = (): void => {
    const at = below(open.length || 1);
    const message = open[at];
    if (!message) return;
    open.splice(at, 1);
    if (below(4) > 0) map(message.pasid, message.lo >>> pageShift);
    d.respond(below(8) ? message.pasid : noPasid, message.group, [0, 0, 0, 0, 0, 0, 1, 1, 15, below(16)][below(10)]!);
  };
  let isMaster = true;
  const translation = (next: typeof everything): void => {
    enables = next;
    d.device.translation(next);
  };
  const invalidate = (): void => {
    const itag = below(32);
    if (pendingItags.has(itag)) return;
    const pasid = pasids[below(3)]!;
    const isGlobal = below(8) === 0 && pasid !== noPasid;
    const shift = [12, 12, 12, 13, 14, 16, 64][below(7)]!;
    const first = shift === 64 ? 0 : (page() >> (shift - pageShift)) << (shift - pageShift);
    const last = shift === 64 ? Infinity : first + 2 ** (shift - pageShift) - 1;
    const dying: number[] = [];
    for (const [owner, mappings] of port.maps)
      if (owner === pasid || (isGlobal && owner !== noPasid))
        for (const [at, { to }] of mappings)
          if (at >= first && at <= last && at >= firstPage && at < firstPage + pages) {
            mappings.delete(at);
            dying.push(to);
          }
    pendingItags.set(itag, dying);
    totals.invalidations++;
    d.invalidate(itag, pasid, first * 4096, shift, isGlobal);
  };
  const modes = (): number =>
    [0, 1, 4, 5, 5, 5, 0x25, 0x25, 0x25, 0x0d, 0x15, 0x3d, 0x21, 2, 6, below(256)][below(16)]!;
  const address = (mode: number): bigint => {
    // Forged addresses stay off the targets, so that a use after an invalidation can be told from them.
    if ((mode & 3) === 2) return BigInt(below(0x80) * 4096 + below(4096));
    if (below(24) === 0) return (BigInt(any32()) << 32n) | BigInt(any32());
    return BigInt(page() * 4096 + [0, 0, 8, below(4096), 4092][below(5)]!);
  };
  const opened = new Map<number, QueueSetup>();
  const enable = (queue: number): void => {
    const setup = {
      control: [0, 0, 8, 16, below(32) & ~7][below(5)]!,
      attributes: ([0, 0, 4, 5, 0x25, below(256)][below(6)]! << 24) | [1, 2, below(0x10_0000)][below(3)]!,
      parallel: below(80),
      isLocal: below(3) > 0,
    };
    d.enable(queue, setup);
    opened.set(queue, setup);
  };

  const actions: (() => void)[] = [
    () => enable(below(4)),
    ...Array.from({ length: 5 }, () => () => {
      const queue = below(4);
      if (!opened.has(queue)) return;
      const requests = Array.from({ length: 1 + below(6) }, () => {
        const source_mode = modes();
        const destination_mode = modes();
        // Not so long that a forged address runs into the targets.
        const isForged = (source_mode & 3) === 2 || (destination_mode & 3) === 2;
        const opcode = below(20) ? below(12) : below(256);
        return {
          opcode,
          source_mode,
          destination_mode,
          flags: below(12) ? below(16) : below(256),
          tag: any32(),
          source: opcode === 2 ? BigInt(below(0x2000)) : address(source_mode),
          destination: opcode === 1 ? BigInt(below(0x2000)) : address(destination_mode),
          length: [1, 8, 64, 4096, below(20_000), below(20_000), isForged ? 100_000 : any32()][below(7)]!,
          source_pasid: below(20) ? 1 + below(2) : any32(),
          destination_pasid: below(20) ? 1 + below(2) : any32(),
          group: below(20) ? below(4) : below(65536),
          page_flags: below(20) ? below(8) : below(256),
          operand_bytes: [4, 8, 8, below(256)][below(4)]!,
          operand: BigInt(any32()),
          compare: BigInt(below(2)),
          pages: below(20) ? 1 + below(8) : any32(),
          delay_ns: below(4) ? 0 : below(4) ? below(3000) : any32(),
        };
      });
      d.submit(requests, queue);
    }),
    ...Array.from({ length: 6 }, () => () => d.clock.advance(below(1000))),
    () => d.clock.advance(below(200_000)),
    () => {
      const queue = below(4);
      if (opened.has(queue)) d.take(queue);
    },
    ...Array.from({ length: 3 }, () => invalidate),
    ...Array.from({ length: 3 }, () => () => map(pasids[below(3)]!, page())),
    ...Array.from({ length: 3 }, () => respond),
    () => d.respond(below(4) - 1, below(512), below(16)),
    () => {
      // Any register but the RESET bit, which has an action of its own, and what would switch the checks off unseen.
      const offset = [below(0x80) * 4, 0x1000 + below(0x400), 0x1_0000 + below(4) * 0x1000 + below(16), below(0x2_0000)][below(4)]!; // prettier-ignore
      const bytes = ([1, 2, 4, 4, 4, 8] as const)[below(6)]!;
      d.bar.read(offset, bytes);
      const aligned = offset & ~7;
      if (aligned === d.offset('CONTROL') || (aligned === d.offset('VERSION') - 4 && bytes === 8)) return;
      const value = [any32(), below(16), below(65536)][below(3)]!;
      d.bar.write(offset, bytes, bytes === 8 ? BigInt(value) << BigInt(below(32)) : value);
    },
    () => d.localBar.write(below(0x1_0000), ([1, 2, 4] as const)[below(3)]!, any32()),
    () => {
      if (below(8)) return;
      isUnchecked = below(4) === 0;
      d.set('CONTROL', (isUnchecked ? 2 : 0) | (below(4) === 0 ? 4 : 0));
    },
    () => {
      if (below(4)) return;
      isMaster = below(3) > 0;
      d.device.busMaster(isMaster);
    },
    () => {
      if (below(4)) return;
      const pasid = below(4) > 0;
      translation({ ...everything, ats: below(6) > 0, pri: below(5) > 0, pasid, pasidExecute: pasid && below(3) > 0, pasidPrivileged: pasid && below(3) > 0, pageRequestAllocation: below(30) }); // prettier-ignore
    },
    () => {
      if (below(24)) return;
      isUnchecked = false;
      totals.transactions += d.device.counts.transactions;
      if (below(2)) d.device.reset();
      else d.set('CONTROL', 1);
      opened.clear();
    },
  ];

  const began = performance.now();
  let slowest = 0;
  while (done < operations && performance.now() - began < milliseconds) {
    const before = performance.now();
    actions[below(actions.length)]!();
    const took = performance.now() - before;
    if (took > slowest) slowest = took;
    if (took > 2000) fail(`took ${took} ms`);
    done++;
  }

  // Whatever happened, nothing stays pending, and after a reset it works.
  totals.transactions += d.device.counts.transactions;
  isUnchecked = false;
  d.set('CONTROL', 0);
  isMaster = true;
  d.device.busMaster(true);
  d.device.reset();
  if (pendingItags.size > 0) fail(`invalidations never completed: ${[...pendingItags.keys()].join()}`);
  d.device.translation({ ...everything, pri: false });
  translation(everything);
  port.maps.clear();
  dead.clear();
  d.enable(0);
  d.submit([{ opcode: 'FILL', destination: 0x4_0000n, destination_mode: 5, destination_pasid: 3, length: 100, operand: 0x1234_5678n }]); // prettier-ignore
  d.run();
  const [last] = d.take();
  if (last?.status !== 0 || port.view.getUint32(0x4_0008, true) !== 0x1234_5678) fail('broken after a reset');
  return { seed, operations: done, ...totals, slowestMs: slowest };
};
