import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { hex, Packets, unhex } from '#vmm/gdb/packets';

const bytes = (text: string): Uint8Array => Uint8Array.from(text, (c) => c.charCodeAt(0));
const setUp = () => {
  const seen: string[] = [];
  let sent = '';
  let interrupts = 0;
  const packets = new Packets((data) => (sent += String.fromCharCode(...data)), {
    packet: (data) => seen.push(data),
    interrupt: () => interrupts++,
  });
  return { packets, seen, sent: () => sent, interrupts: () => interrupts };
};

describe('packets', () => {
  it('takes what has the right checksum and acknowledges it', () => {
    const { packets, seen, sent } = setUp();
    packets.receive(bytes('+$qC#b4$qC#b5'));
    expect(seen).toEqual(['qC']);
    expect(sent()).toBe('+-');
  });

  it('acknowledges nothing once that is agreed', () => {
    const { packets, sent } = setUp();
    packets.acknowledges = false;
    packets.receive(bytes('$qC#b4'));
    expect(sent()).toBe('');
  });

  it('knows Ctrl-C only between packets', () => {
    const { packets, seen, interrupts } = setUp();
    packets.receive(bytes('\u0003$\u0003#03'));
    expect(interrupts()).toBe(1);
    expect(seen).toEqual(['\u0003']);
  });

  it('any reply comes back as it was, in any pieces', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.integer({ min: 1, max: 7 }), (data, step) => {
        const one = setUp();
        const text = String.fromCharCode(...data);
        one.packets.reply(text);
        const wire = bytes(one.sent());
        const other = setUp();
        for (let at = 0; at < wire.length; at += step) other.packets.receive(wire.subarray(at, at + step));
        expect(other.seen).toEqual([text]);
      }),
    );
  });

  it('nonsense neither throws nor grows without bound', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (data) => {
        const { packets } = setUp();
        packets.receive(data);
      }),
    );
    const { packets, seen } = setUp();
    packets.receive(bytes('$'));
    for (let i = 0; i < 100; i++) packets.receive(new Uint8Array(1000).fill(0x61));
    packets.receive(bytes('#00$qC#b4'));
    expect(seen).toEqual(['qC']);
  });

  it('hexadecimal', () => {
    fc.assert(
      fc.property(fc.uint8Array(), (data) => {
        expect(unhex(hex(data))).toEqual(data);
      }),
    );
    expect(unhex('0')).toBeUndefined();
    expect(unhex('0g')).toBeUndefined();
  });
});
