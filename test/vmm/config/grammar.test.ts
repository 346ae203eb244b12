import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatOption, parseOption } from '#vmm/config/grammar';
import { machineKeys } from '#vmm/config/keys';

const disks = machineKeys.find((key) => key.name === 'disks')!;
const diskKeys = disks.shape.kind === 'list' && disks.shape.item.kind === 'group' ? disks.shape.item.keys : [];

const read = (text: string): unknown => {
  const parsed = parseOption(text, diskKeys);
  return parsed.ok ? parsed.value : `${parsed.column}: ${parsed.message}`;
};

describe('option grammar', () => {
  it.each<[string, unknown]>([
    ['path=a.img', { path: 'a.img' }],
    ['a.img', { path: 'a.img' }],
    ['a.img,readonly', { path: 'a.img', readonly: true }],
    ['a.img,readonly=off,serial=X', { path: 'a.img', readonly: 'off', serial: 'X' }],
    ['"a,b=c.img",id=d0', { path: 'a,b=c.img', id: 'd0' }],
    [String.raw`path="say \"hi\" \\"`, { path: 'say "hi" \\' }],
    ['path=a=b', { path: 'a=b' }],
    ['events=[iommu.*,nvme.*]', { events: ['iommu.*', 'nvme.*'] }],
    ['events=[]', { events: [] }],
    ['events=["a,b",[c]]', { events: ['a,b', ['c']] }],
    ['path=', { path: '' }],
    // A word of the language, not of ours: an ordinary value of the first key.
    ['__proto__=1', { path: '__proto__=1' }],
    ['', '1: nothing given'],
    ['a.img,', '7: an empty item between commas'],
    ['a.img,,readonly', '7: an empty item between commas'],
    ['path="a', '6: a quote that is not closed'],
    ['events=[a', '8: a list that is not closed with ]'],
    ['events=[a,]', '11: an empty item in a list'],
    ['a.img,path=b.img', '7: path given twice'],
    ['a.img,"b"', '7: a value without its key'],
    ['path="a"b', '9: "b" where a comma was expected'],
    ['a]b', '2: "]" where a comma was expected'],
  ])('%s', (text, expected) => {
    expect(read(text)).toEqual(expected);
  });

  it('does not recurse without bound', () => {
    expect(read(`path=${'['.repeat(10_000)}`)).toBe('14: lists nested deeper than 8');
  });

  const scalar = fc.oneof(
    fc.string({ maxLength: 12 }),
    fc.string({ unit: fc.constantFrom(...'",[]=\\ab '.split('')) }),
  );
  const value = fc.oneof(
    scalar,
    fc.constant(true as const),
    fc.array(
      scalar.filter((text) => text !== ''),
      { maxLength: 4 },
    ),
  );
  const key = fc.stringMatching(/^[a-z][a-z0-9-]{0,10}$/);

  it('reads back what it writes', () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.tuple(key, value), { minLength: 1, maxLength: 6, selector: ([name]) => name }),
        (pairs) => {
          const values = Object.fromEntries(pairs);
          const first = pairs[0]![0];
          const expected = values[first] === true ? { ...values, [first]: 'on' } : values;
          expect(read(formatOption(values))).toEqual(expected);
        },
      ),
    );
  });

  it('never throws, and points into the text', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'ab=,"[]\\ -'.split('')) }), (text) => {
        const parsed = parseOption(text, diskKeys);
        if (!parsed.ok) {
          expect(parsed.column).toBeGreaterThanOrEqual(1);
          expect(parsed.column).toBeLessThanOrEqual(text.length + 1);
        }
      }),
    );
  });
});
