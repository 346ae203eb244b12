import fc from 'fast-check';
import { expect, it } from 'vitest';
import { Clock } from '#vmm/base/clock';

it('runs events in order of time, then of scheduling, each at its own instant', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(50), { maxLength: 60 }), (delays) => {
      const clock = new Clock();
      const ran: [number, number, number][] = [];
      delays.forEach((d, i) => clock.schedule(d, () => ran.push([clock.now, d, i])));
      clock.advance(100);
      expect(ran.length).toBe(delays.length);
      for (const [at, due] of ran) expect(at).toBe(due);
      expect(ran.map(([, d, i]) => [d, i])).toEqual(
        delays.map((d, i) => [d, i]).sort((a, b) => a[0]! - b[0]! || a[1]! - b[1]!),
      );
    }),
  );
});
it('forgets cancelled events and lets an event schedule another', () => {
  const clock = new Clock();
  const ran: string[] = [];
  clock.schedule(5, () => ran.push('cancelled')).cancel();
  clock.schedule(10, () => clock.schedule(0, () => ran.push(`chained@${clock.now}`)));
  expect(clock.untilNext()).toBe(10);
  clock.advance(20);
  expect(ran).toEqual(['chained@10']);
  expect(clock.untilNext()).toBe(Infinity);
});
it('schedules from where a hart has run ahead to', () => {
  const clock = new Clock();
  const ran: number[] = [];
  clock.runAhead(() => 30);
  clock.schedule(10, () => ran.push(clock.now));
  expect([clock.now, clock.untilNext()]).toEqual([30, 10]);
  clock.runAhead(undefined);
  clock.advance(39);
  expect(ran).toEqual([]);
  clock.advance(1);
  expect(ran).toEqual([40]);
});

it('events that are cancelled by the hundred change nothing in the order of the others', () => {
  const step = fc.record({ delay: fc.nat(50), victim: fc.option(fc.nat(1000)), advance: fc.nat(3) });
  fc.assert(
    fc.property(fc.array(step, { minLength: 300, maxLength: 600 }), (steps) => {
      const clock = new Clock();
      const happened: number[] = [];
      const expected: { readonly at: number; readonly order: number; isCancelled: boolean }[] = [];
      const events = steps.map(({ delay, victim, advance }, order) => {
        expected.push({ at: clock.now + delay, order, isCancelled: false });
        const event = clock.schedule(delay, () => happened.push(order));
        return { event, victim, advance, run: () => clock.advance(advance) };
      });
      for (const [order, { victim, run }] of events.entries()) {
        if (victim !== null && victim < events.length && !happened.includes(victim)) {
          events[victim]!.event.cancel();
          events[victim]!.event.cancel();
          expected[victim]!.isCancelled = true;
        }
        if (order % 16 === 0) run();
      }
      clock.advance(1000);
      const due = expected.filter((one) => !one.isCancelled);
      expect(happened).toEqual(due.sort((a, b) => a.at - b.at || a.order - b.order).map(({ order }) => order));
      expect(clock.untilNext()).toBe(Infinity);
    }),
    { numRuns: 50 },
  );
});
