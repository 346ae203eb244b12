import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { PageRequestMessage, TransactionPort } from '#vmm/base/ports';
import { type PageOutcome, PageRequests, responseCode } from '#devices/ats/page-requests';

const message = (group: number, last = true, pasid = 1): PageRequestMessage => ({
  hi: 0,
  lo: 0x1000,
  read: true,
  write: false,
  last,
  group,
  pasid,
  privileged: false,
  execute: false,
});
const build = (capacity = 8, allocation = 8): { pages: PageRequests; sent: PageRequestMessage[] } => {
  const sent: PageRequestMessage[] = [];
  const pages = new PageRequests(capacity);
  pages.port = { pageRequest: (m: PageRequestMessage) => sent.push({ ...m }) } as unknown as TransactionPort;
  pages.configure(true, allocation);
  return { pages, sent };
};

it('never has more outstanding than the allocation and the capacity, and loses no credit', () => {
  const step = fc.oneof(
    fc.record({ do: fc.constant('send' as const), group: fc.integer({ min: 0, max: 5 }), last: fc.boolean(), pasid: fc.integer({ min: 1, max: 2 }) }),
    fc.record({ do: fc.constant('respond' as const), group: fc.integer({ min: 0, max: 6 }), pasid: fc.integer({ min: -1, max: 2 }), code: fc.constantFrom(0, 0, 0, 1) }),
    fc.record({ do: fc.constant('allocate' as const), allocation: fc.integer({ min: 0, max: 20 }) }),
  ); // prettier-ignore
  fc.assert(
    fc.property(fc.array(step, { maxLength: 100 }), (steps) => {
      const { pages, sent } = build(8, 4);
      let allocation = 4;
      let unexpected = 0;
      pages.status = { pageResponseFailed() {}, unexpectedPageGroup: () => unexpected++, transactionsPending() {} };
      let asked = 0;
      for (const s of steps) {
        const before = pages.outstanding;
        if (s.do === 'send') {
          const outcome = pages.send(message(s.group, s.last, s.pasid));
          expect(outcome).toBe(before < allocation ? 'sent' : 'no-credits');
          if (outcome === 'sent') asked++;
        } else if (s.do === 'respond') {
          const earlier = unexpected;
          pages.respond(s);
          expect(pages.outstanding < before).toBe(unexpected === earlier);
        } else {
          allocation = Math.min(8, s.allocation);
          pages.configure(true, s.allocation);
        }
        expect(sent.length).toBe(asked);
        expect(pages.credits).toBe(Math.max(0, allocation - pages.outstanding));
      }
      for (let group = 0; group < 6; group++)
        for (let n = 0; n < 100; n++) pages.respond({ pasid: -1, group, code: 0 });
      expect(pages.outstanding).toBe(0);
    }),
  );
});

it('tells the listener of the group, once', () => {
  const { pages } = build();
  const heard: PageOutcome[] = [];
  pages.send(message(3, false));
  pages.send(message(3), { pageAnswered: (outcome) => heard.push(outcome) });
  pages.send(message(3), { pageAnswered: (outcome) => heard.push(outcome) });
  pages.respond({ pasid: 1, group: 3, code: responseCode.success });
  expect(heard).toEqual(['success']);
  expect(pages.outstanding).toBe(1);
  pages.respond({ pasid: 1, group: 3, code: responseCode.invalid });
  pages.respond({ pasid: 1, group: 3, code: responseCode.invalid });
  expect(heard).toEqual(['success', 'invalid']);
});

it('off, failed and on again', () => {
  const { pages, sent } = build();
  const heard: PageOutcome[] = [];
  const listener = { pageAnswered: (outcome: PageOutcome) => void heard.push(outcome) };
  pages.send(message(1), listener);
  pages.send(message(2), listener);
  pages.respond({ pasid: 1, group: 1, code: responseCode.failure });
  expect(pages.send(message(4))).toBe('disabled');
  expect(pages.stopMarker(1)).toBe(false);
  pages.configure(false, 8);
  expect(heard).toEqual(['failure', 'disabled']);
  pages.configure(true, 8);
  expect([pages.outstanding, pages.credits]).toEqual([0, 8]);
  expect(pages.stopMarker(6)).toBe(true);
  expect(sent.at(-1)).toMatchObject({ pasid: 6, last: true, read: false, write: false });
});

it('gives out group indices that no outstanding group has', () => {
  const { pages } = build(600, 600);
  for (let n = 0; n < 512; n++) {
    const index = pages.freeIndex();
    pages.send(message(index));
  }
  expect(pages.outstanding).toBe(512);
  expect(pages.freeIndex()).toBe(-1);
  pages.respond({ pasid: 1, group: 77, code: 0 });
  expect(pages.freeIndex()).toBe(77);
});
