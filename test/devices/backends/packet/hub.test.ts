import { expect, test } from 'vitest';
import { hub } from '#devices/backends/packet/hub';
import { loopback } from '#devices/backends/packet/loopback';

test('a frame reaches every port but its own, in order', () => {
  const ports = hub(3);
  const seen: string[] = [];
  for (const [i, port] of ports.entries()) port.onFrame = (frame) => seen.push(`${i}:${frame.join()}`) > 0;
  ports[1]!.send(Uint8Array.of(1, 2));
  ports[0]!.send(Uint8Array.of(3));
  expect(seen).toEqual(['0:1,2', '2:1,2', '1:3', '2:3']);
  expect(ports.every((port) => port.linkUp)).toBe(true);
});

test('a port that nobody took swallows frames', () => {
  const ports = hub(2);
  expect(() => ports[0]!.send(Uint8Array.of(1))).not.toThrow();
});

test('loopback returns what it is given', () => {
  const backend = loopback();
  const seen: Uint8Array[] = [];
  backend.send(Uint8Array.of(1));
  backend.onFrame = (frame) => seen.push(frame) > 0;
  backend.send(Uint8Array.of(2));
  expect(seen).toEqual([Uint8Array.of(2)]);
});
