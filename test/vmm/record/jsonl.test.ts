import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { JsonLines, jsonLine } from '#vmm/record/jsonl';

const fieldValue = fc.oneof(
  fc.double(),
  fc.integer(),
  fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
  fc.string({ unit: 'binary' }),
);

describe('JSON lines', () => {
  it('keeps the order of the fields and spells 64-bit values as text', () => {
    const fields = { device: 'nvme0', address: 0xffff_ffff_ffff_f000n, bytes: 4096, what: 'a "b"\n\\' };
    expect(jsonLine({ time: 1200, name: 'nvme.command', fields })).toBe(
      String.raw`{"time":1200,"event":"nvme.command","properties":{"device":"nvme0","address":"0xfffffffffffff000","bytes":4096,"what":"a \"b\"\n\\"}}`,
    );
    expect(jsonLine({ time: 0, name: 'a.b', fields: {} })).toBe('{"time":0,"event":"a.b","properties":{}}');
  });

  it('is JSON on one line, whatever a guest makes up', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.stringMatching(/^[a-z_]{1,8}$/), fieldValue), { maxLength: 6 }), (pairs) => {
        const fields = Object.fromEntries(pairs);
        const line = jsonLine({ time: 5, name: 'x.y', fields });
        expect(line).not.toMatch(/[\n\r]/);
        const read = JSON.parse(line) as { properties: Record<string, unknown> };
        const expected = Object.entries(fields).map(([key, value]) => [
          key,
          typeof value === 'bigint'
            ? `0x${value.toString(16)}`
            : typeof value === 'number'
              ? Number.isFinite(value)
                ? value + 0
                : null
              : value,
        ]);
        expect(JSON.stringify(read.properties)).toBe(JSON.stringify(Object.fromEntries(expected)));
      }),
    );
  });

  it('hands on large pieces and holds none back at the end', () => {
    const pieces: string[] = [];
    const lines = new JsonLines(
      (text) => pieces.push(text),
      (name) => name !== 'no',
    );
    for (let i = 0; i < 5000; i++) lines.sink({ time: i, name: i % 5 === 0 ? 'no' : 'yes', fields: { i } });
    expect(Math.max(...pieces.map((piece) => piece.length))).toBeLessThan(70_000);
    lines.flush();
    lines.flush();
    expect(lines.events).toBe(4000);
    expect(pieces.join('').split('\n')).toHaveLength(4001);
    expect(pieces.length).toBeLessThan(6);
  });
});
