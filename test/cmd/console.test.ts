import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ConsoleText, LineBuffer } from '#cmd/console';

describe('console', () => {
  it('keeps every byte up to its bound, across pieces', () => {
    const kept = new ConsoleText(3 << 16);
    expect(kept.toString()).toBe('');
    const line = new TextEncoder().encode(`${'é'.repeat(499)}\n`);
    for (let i = 0; i < 180; i++) kept.add(line);
    expect(kept.toString()).toBe(`${'é'.repeat(499)}\n`.repeat(180));
    for (let i = 0; i < 1000; i++) kept.add(line);
    expect(new TextEncoder().encode(kept.toString()).length).toBeLessThanOrEqual((3 << 16) + 3);
  });

  it('passes on whole lines, and the rest when asked', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 50 })), (pieces) => {
        const got: number[] = [];
        const ends: (number | undefined)[] = [];
        const buffer = new LineBuffer((bytes) => {
          got.push(...bytes);
          ends.push(bytes.at(-1));
        });
        for (const piece of pieces) buffer.add(piece);
        expect(ends.every((byte) => byte === 10)).toBe(true);
        buffer.flush();
        buffer.flush();
        expect(got).toEqual(pieces.flatMap((piece) => [...piece]));
      }),
    );
  });

  it('does not wait for a line that never ends', () => {
    const sizes: number[] = [];
    const buffer = new LineBuffer((bytes) => sizes.push(bytes.length));
    buffer.add(new Uint8Array(10_000).fill(65));
    expect(sizes).toEqual([4096, 4096]);
  });
});
