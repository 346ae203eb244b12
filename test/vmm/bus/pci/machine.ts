import { rid } from '#vmm/base/address';
import { Trace } from '#vmm/base/events';
import type {
  BarSpec,
  DmaPort,
  FunctionStatus,
  IrqLine,
  MmioDevice,
  PciFunction,
  TranslationEnables,
} from '#vmm/base/ports';
import { Bus } from '#vmm/bus/bus';
import { PciHost } from '#vmm/bus/pci/host';

export const ecamBase = 0x3000_0000;

/** A BAR that reads back `tag` in its top byte and its offset below, and remembers stores. */
export const registers = (tag: number): MmioDevice & { stores: [number, number, number | bigint][] } => {
  const stores: [number, number, number | bigint][] = [];
  return {
    stores,
    read: (offset, bytes) => (bytes === 8 ? BigInt(tag * 2 ** 24 + offset) : tag * 2 ** 24 + offset),
    write: (offset, bytes, value) => void stores.push([offset, bytes, value]),
    reset: () => {},
  };
};

export interface TestFunction extends PciFunction {
  port?: DmaPort;
  vectors: readonly IrqLine[];
  resets: number;
  mastering: boolean[];
  status?: FunctionStatus;
  enables: TranslationEnables[];
}

export function testFunction(over: Partial<PciFunction> & { bars?: readonly BarSpec[] } = {}): TestFunction {
  const fn: TestFunction = {
    name: 'probe',
    vendorId: 0x1234,
    deviceId: 0xabcd,
    classCode: 0x010802,
    revision: 3,
    subsystemVendorId: 0x1af4,
    subsystemId: 0x1100,
    bars: [],
    flr: true,
    vectors: [],
    resets: 0,
    mastering: [],
    enables: [],
    connect(port, vectors, status) {
      fn.port = port;
      fn.vectors = vectors;
      if (status) fn.status = status;
    },
    translation: (enables) => void fn.enables.push(enables),
    reset: () => void fn.resets++,
    busMaster: (enabled) => void fn.mastering.push(enabled),
    ...over,
  };
  return fn;
}

export interface Message {
  address: bigint;
  data: number;
}

/** A bus with a PCI host on it, and helpers that speak to it as a guest does. */
export function pciMachine() {
  const trace = new Trace(() => 0);
  const bus = new Bus(trace);
  const host = new PciHost({
    bus,
    ecam: { base: ecamBase, bytes: 0x1000_0000 },
    windows: {
      io: { base: 0x300_0000, bytes: 0x1_0000 },
      memory32: { base: 0x4000_0000, bytes: 0x4000_0000 },
      memory64: { base: 0x4_0000_0000, bytes: 0x4_0000_0000 },
    },
    trace,
  });
  const messages: Message[] = [];
  const dma = { count: 0, offsets: new Float64Array(0), lengths: new Int32Array(0), faults: [] };
  let requests = 0;
  const port: DmaPort = {
    memory: new Uint8Array(0),
    read: () => (requests++, dma),
    write: () => (requests++, dma),
    message: (hi, lo, data) => {
      messages.push({ address: (BigInt(hi) << 32n) | BigInt(lo), data });
      return true;
    },
  };
  const plug = (slot: number, fn: PciFunction): void => host.plug(rid(slot), fn, port);
  const at = (slot: number, offset: number): number => ecamBase + slot * 4096 + offset;
  const load = (slot: number, offset: number, bytes: 1 | 2 | 4 = 4): number =>
    Number(bus.read(at(slot, offset), bytes));
  const store = (slot: number, offset: number, value: number, bytes: 1 | 2 | 4 = 4): void =>
    void bus.write(at(slot, offset), bytes, value);
  /** Offset of a capability found by walking the list, as a guest would; 0 = not there. */
  const capability = (slot: number, id: number): number => {
    if ((load(slot, 0x06, 2) & 0x10) === 0) return 0;
    for (
      let offset = load(slot, 0x34, 1), steps = 0;
      offset !== 0 && steps < 48;
      offset = load(slot, offset + 1, 1), steps++
    )
      if (load(slot, offset, 1) === id) return offset;
    return 0;
  };
  const extended = (slot: number, id: number): number => {
    for (let offset = 0x100, steps = 0; offset !== 0 && steps < 100; steps++) {
      const header = load(slot, offset);
      if ((header & 0xffff) === id) return offset;
      offset = header >>> 20;
    }
    return 0;
  };
  return { bus, host, port, trace, messages, plug, load, store, capability, extended, requests: () => requests };
}
