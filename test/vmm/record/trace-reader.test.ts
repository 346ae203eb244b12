import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { TraceEvent } from '#vmm/base/events';
import { jsonLine } from '#vmm/record/jsonl';
import { TraceFormatError, TraceReader } from '#vmm/record/trace-reader';

const event = fc.record({
  time: fc.nat(),
  name: fc.constantFrom('a.b', 'dma.read', 'nvme.command'),
  fields: fc.dictionary(fc.stringMatching(/^[a-z_]{1,8}$/), fc.oneof(fc.integer(), fc.string({ unit: 'binary' }))),
});
const read = (text: string, pieces: number): { events: TraceEvent[]; isWhole: boolean } => {
  const events: TraceEvent[] = [];
  const reader = new TraceReader((one) => events.push(one));
  const size = Math.max(1, Math.ceil(text.length / pieces));
  for (let at = 0; at < text.length; at += size) reader.push(text.slice(at, at + size));
  return { events, isWhole: reader.finish() };
};

describe('reading a trace back', () => {
  it('gives what was written, however it is cut', () => {
    fc.assert(
      fc.property(fc.array(event, { maxLength: 20 }), fc.integer({ min: 1, max: 40 }), (events, pieces) => {
        const text = events.map((one) => `${jsonLine(one)}\n`).join('');
        const { events: found, isWhole } = read(text, pieces);
        expect(found.map(jsonLine)).toEqual(events.map(jsonLine));
        expect(isWhole).toBe(true);
      }),
    );
  });

  const good = '{"time":1,"event":"a.b","properties":{}}';
  it.each([
    ['[1]', 3],
    ['{"time":1,"event":"a.b"}', 3],
    [`${good},${good}`, 3],
    ['{"time":1,"event":"a.b","properties":{"x":[', 3],
    ['{"time":1,"event":"a.b","properties":{"x":true}}', 3],
    ['nothing', 3],
  ])('%s is told with its line, behind what was good', (bad, line) => {
    const events: TraceEvent[] = [];
    const reader = new TraceReader((one) => events.push(one));
    let error: unknown;
    try {
      reader.push(`${good}\n\r\n${bad}\n${good}\n]}}\n`);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(TraceFormatError);
    expect((error as TraceFormatError).line).toBe(line);
    expect(events).toHaveLength(1);
  });

  it('says when the last line is not whole', () => {
    expect(read(`${good}\n${good.slice(0, 20)}`, 3)).toMatchObject({ events: [{ name: 'a.b' }], isWhole: false });
  });
});
