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
