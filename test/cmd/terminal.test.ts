import { describe, expect, it } from 'vitest';
import { EscapeKeys } from '#cmd/escape-keys';
import { KernelPanic } from '#cmd/kernel-panic';
import { Pace } from '#cmd/pace';

const bytes = (text: string): Uint8Array => Uint8Array.from(text, (c) => c.charCodeAt(0));
const text = (data: Uint8Array): string => String.fromCharCode(...data);

describe('escape keys', () => {
  const setUp = () => {
    const actions: string[] = [];
    const keys = new EscapeKeys((action) => actions.push(action));
    return { actions, type: (typed: string) => text(keys.filter(bytes(typed))) };
  };
  it('what is typed goes to the guest, Ctrl-C as well', () => {
    const { actions, type } = setUp();
    expect(type('ls\u0003\r\u001b[A')).toBe('ls\u0003\r\u001b[A');
    expect(actions).toEqual([]);
  });
  it('Ctrl-A and a key are for iommulab, also in two pieces', () => {
    const { actions, type } = setUp();
    expect(type('a\u0001hb\u0001')).toBe('ab');
    expect(type('xc')).toBe('c');
    expect(type('\u0001X\u0001q')).toBe('');
    expect(actions).toEqual(['help', 'leave', 'leave']);
  });
  it('Ctrl-A itself can be sent', () => {
    const { type } = setUp();
    expect(type('\u0001a\u0001\u0001')).toBe('\u0001\u0001');
    expect(type('\u0001__proto__')).toBe('_proto__');
  });
});

describe('kernel panic', () => {
  const watch = (said: string): KernelPanic => {
    const panic = new KernelPanic();
    for (const byte of bytes(said)) panic.add(Uint8Array.of(byte));
    return panic;
  };
  it('is seen with and without time stamps', () => {
    for (const stamp of ['', '[    0.123456] ', '[    0.123456][    T1] ']) {
      const panic = watch(`${stamp}Kernel panic - not syncing: no init\r\n${stamp}CPU: 0\r\n`);
      expect(panic.sentence).toBe('Kernel panic - not syncing: no init');
      expect(panic.isOver).toBe(false);
      panic.add(bytes(`${stamp}---[ end Kernel panic - not syncing: no init ]---\n`));
      expect(panic.isOver).toBe(true);
    }
  });
  it('is not what somebody prints in passing', () => {
    expect(watch('echo Kernel panic - not syncing: no\n').sentence).toBeUndefined();
  });
  it('keeps the last lines', () => {
    const { lastLines } = watch(Array.from({ length: 50 }, (_, i) => `line ${i}\n`).join(''));
    expect(lastLines).toHaveLength(16);
    expect(lastLines.at(-1)).toBe('line 49');
  });
});

describe('pace', () => {
  it('waits for the wall clock, and does not catch up', () => {
    const pace = new Pace(1000);
    expect(pace.ahead(50e6, 1010)).toBe(40);
    expect(pace.ahead(50e6, 1050)).toBe(0);
    expect(pace.ahead(60e6, 5000)).toBe(0);
    expect(pace.ahead(70e6, 5004)).toBe(6);
  });
});
