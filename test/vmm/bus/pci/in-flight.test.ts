import { describe, expect, test } from 'vitest';
import { rid } from '#vmm/base/address';
import { type DmaPort, type MemoryRequest, type TransactionPort, noPasid } from '#vmm/base/ports';
import { Driver, pattern } from '#test/devices/nvme/driver';
import { pciMachine, testFunction } from './machine.ts';

const portSlot = 4 << 3;
const child = 5 << 8;

/** An NVMe controller behind a root port, driven through the bus. */
function controllerOnBus() {
  const machine = pciMachine();
  const { bus, host, store } = machine;
  const d = new Driver();
  host.plugRootPort(rid(portSlot), 'root-port');
  host.plugBehind(rid(portSlot), 0, d.device, d.port);
  let bar = 0x4000_0000;
  const configure = (): void => {
    store(portSlot, 0x18, 0x0005_0500);
    // 1 MiB of memory at each of two places: 0x40000000 … 0x401fffff.
    store(portSlot, 0x20, 0x4010_4000);
    store(portSlot, 4, 7, 2);
    store(child, 0x10, bar);
    store(child, 0x14, 0);
    store(child, 4, 6, 2);
  };
  d.setReg = (offset, value) => void bus.write(bar + offset, 4, value);
  d.reg = (offset) => Number(bus.read(bar + offset, 4));
  const moveBar = (to: number): void => {
    store(child, 0x10, to);
    bar = to;
  };
  const page = 0x30000;
  const read = (cid: number) => ({ opcode: 0x02, nsid: 1, cid, prp1: page, cdw: [8, 0, 7] });
  d.backend.write(4096, pattern(4096, 3));
  const isRead = (): boolean => Buffer.compare(d.peek(page, 4096), pattern(4096, 3)) === 0;
  const start = (): void => {
    d.rewind();
    d.port.memory.fill(0);
    d.enable();
    d.createPair(1);
  };
  configure();
  start();
  return { ...machine, d, configure, start, moveBar, read, isRead, page };
}

describe('with DMA in flight', () => {
  test('a moved BAR changes where registers answer, and no DMA', () => {
    const { d, bus, moveBar, read, isRead } = controllerOnBus();
    const cids = [1, 2, 3, 4].map((cid) => d.submit(1, read(cid)));
    moveBar(0x4010_0000);
    expect(Number(bus.read(0x4000_0008, 4))).toBe(0xffff_ffff);
    expect(d.reg(8)).toBe(0x0001_0400);
    d.run();
    expect(d.reap(1).map(({ cid, code }) => [cid, code])).toEqual(cids.map((cid) => [cid, 0]));
    expect(isRead()).toBe(true);
    // Out of the port's window, in the middle of a command: nothing is lost either.
    d.submit(1, read(9));
    moveBar(0x5000_0000);
    expect(d.reg(8)).toBe(0xffff_ffff);
    d.run();
    moveBar(0x4000_0000);
    expect(d.reap(1).map(({ cid }) => cid)).toEqual([9]);
  });

  test.each([
    [
      'hot reset',
      (m: ReturnType<typeof controllerOnBus>) => (m.store(portSlot, 0x3e, 0x40, 2), m.store(portSlot, 0x3e, 0, 2)),
    ],
    [
      'function-level reset',
      (m: ReturnType<typeof controllerOnBus>) => m.store(child, m.capability(child, 0x10) + 8, 1 << 15, 2),
    ],
    ['D3hot', (m: ReturnType<typeof controllerOnBus>) => m.store(child, m.capability(child, 0x01) + 4, 3, 2)],
    ['Bus Master Enable of the port above', (m: ReturnType<typeof controllerOnBus>) => m.store(portSlot, 4, 3, 2)],
  ])('%s stops every transaction at once, and the controller works again afterwards', (_, stop) => {
    const machine = controllerOnBus();
    const { d, read, isRead, configure, start, store, capability } = machine;
    for (let cid = 1; cid < 8; cid++) d.submit(1, read(cid));
    d.run(2000);
    const before = d.port.memory.slice();
    const accesses = d.port.reads + d.port.writes;
    stop(machine);
    d.run();
    expect(d.port.reads + d.port.writes).toBe(accesses);
    expect(Buffer.compare(d.port.memory, before)).toBe(0);
    store(child, capability(child, 0x01) + 4, 0, 2);
    configure();
    d.setReg(0x14, 0);
    d.run();
    start();
    expect(d.command(1, read(1)).code).toBe(0);
    expect(isRead()).toBe(true);
  });
});

test('ACS Translation Blocking stops translated requests of the functions below, and only those', () => {
  const { host, store, extended } = pciMachine();
  const seen: boolean[] = [];
  const result = { count: 0, offsets: new Float64Array(0), lengths: new Int32Array(0), faults: [] };
  const port = {
    memory: new Uint8Array(0),
    read: () => result,
    write: () => result,
    message: () => true,
    access: ({ isTranslated }: MemoryRequest) => (seen.push(isTranslated), result),
    translate: () => ({}),
    pageRequest: () => {},
    invalidationCompleted: () => {},
    endpoint: undefined,
  } as unknown as DmaPort;
  const fn = testFunction({ ats: { invalidateQueueDepth: 32, globalInvalidate: true } });
  host.plugRootPort(rid(portSlot), 'root-port');
  host.plugBehind(rid(portSlot), 0, fn, port);
  store(portSlot, 0x18, 0x0005_0500);
  store(portSlot, 4, 7, 2);
  store(child, 4, 6, 2);
  const access = (isTranslated: boolean) =>
    (fn.port as TransactionPort).access({ kind: 'read', isTranslated, hi: 0, lo: 0, length: 64, pasid: noPasid, privileged: false, execute: false }).faults; // prettier-ignore
  const control = extended(portSlot, 0x0d) + 6;
  expect(access(true)).toEqual([]);
  store(portSlot, control, 2, 2);
  expect(access(true)).toEqual([{ first: 0, last: 63, status: 'completer-abort' }]);
  expect(access(false)).toEqual([]);
  store(portSlot, control, 0, 2);
  expect(access(true)).toEqual([]);
  expect(seen).toEqual([true, false, true]);
});
