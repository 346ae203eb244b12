import { describe, expect, it } from 'vitest';
import { type EventKind, Recollection, Trace, type TraceEvent } from '#vmm/base/events';

const kind = (name: string, built: { count: number } = { count: 0 }): EventKind => ({
  name,
  fields: ({ subject, detail, value, a, b, c, d, e, f, g, h }) => {
    built.count++;
    return { subject, detail, value, a, b, c, d, e, f, g, h };
  },
});
const numbers = { value: 1, a: 2, b: 3, c: 4, d: 5, e: 6, f: 7, g: 8, h: 9 };
const traceAt = (): { readonly trace: Trace; readonly at: (ns: number) => void } => {
  let now = 0;
  return { trace: new Trace(() => now), at: (ns) => void (now = ns) };
};

describe('a trace', () => {
  it('is off until somebody listens or remembers', () => {
    const { trace } = traceAt();
    expect(trace.on).toBe(false);
    const stop = trace.listen(() => {});
    expect(trace.on).toBe(true);
    stop();
    expect(trace.on).toBe(false);
    trace.remember(new Recollection(1));
    expect(trace.on).toBe(true);
    trace.listen(() => {})();
    expect(trace.on).toBe(true);
  });

  it('gives each listener the events that it wants, whichever way they are told', () => {
    const { trace, at } = traceAt();
    const all: TraceEvent[] = [];
    const some: TraceEvent[] = [];
    trace.listen((event) => void all.push(event));
    const stop = trace.listen(
      (event) => void some.push(event),
      (name) => name.startsWith('b.'),
    );
    const say = (): void => {
      at(5);
      trace.emit('a.whole', { x: 1 });
      trace.tell(kind('b.parts'), 's', 'd', 1, 2, 3, 4, 5, 6, 7, 8, 9);
      at(7);
      trace.tellLater('b.later', () => ({ y: 2n }));
    };
    say();
    const whole = { time: 5, name: 'a.whole', fields: { x: 1 } };
    const told = { time: 5, name: 'b.parts', fields: { subject: 's', detail: 'd', ...numbers } };
    const later = { time: 7, name: 'b.later', fields: { y: 2n } };
    expect(all).toEqual([whole, told, later]);
    expect(some).toEqual([told, later]);
    stop();
    say();
    expect(all).toHaveLength(6);
    expect(some).toHaveLength(2);
  });

  it('builds nothing that nobody asked for', () => {
    const { trace } = traceAt();
    const built = { count: 0 };
    const often = kind('a.often', built);
    trace.listen(
      () => {},
      (name) => name === 'a.warning',
    );
    const memory = new Recollection(4);
    trace.remember(memory);
    for (let i = 0; i < 100; i++) {
      trace.tell(often, '', '', i);
      trace.tellLater('a.long', () => ({ built: built.count++ }));
    }
    expect(built.count).toBe(0);
    expect(memory.list()).toHaveLength(4);
    expect(built.count).toBe(4);
  });
});

describe('what is remembered', () => {
  it('is the last events, oldest first, without those of one subject', () => {
    const { trace, at } = traceAt();
    const memory = new Recollection(3, 'uart');
    expect(memory.list()).toEqual([]);
    trace.remember(memory);
    const row = kind('a.b');
    for (let i = 0; i < 9; i++) {
      at(i);
      if (i % 3 === 0) trace.emit('c.d', { value: i });
      else if (i % 3 === 1) trace.tell(row, 'x', '', i);
      else trace.tellLater('e.f', () => ({ value: i }));
      trace.tell(row, 'uart', '', -1);
      const list = memory.list();
      expect(list.map(({ fields }) => fields['value'])).toEqual([i - 2, i - 1, i].filter((n) => n >= 0));
      expect(list.map(({ time }) => time)).toEqual(list.map(({ fields }) => fields['value']));
    }
  });

  it('keeps 64-bit values, and what was kept once stays what it was', () => {
    const { trace } = traceAt();
    const memory = new Recollection(2);
    trace.remember(memory);
    trace.tell(kind('a.b'), '', '', 2n ** 63n);
    const [first] = memory.list();
    trace.tell(kind('a.b'), '', '', 1);
    trace.tell(kind('a.b'), '', '', 2);
    expect(first!.fields['value']).toBe(2n ** 63n);
  });
});
