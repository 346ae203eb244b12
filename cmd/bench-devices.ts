/** Frames between two rings, and what a transaction costs among many devices and many processes. */
import { hub } from '#devices/backends/packet/hub';
import { nic } from '#devices/nic/device';
import { pageBytes } from '#vmm/base/address';
import { Clock } from '#vmm/base/clock';
import { quiet } from '#vmm/base/events';
import { invariant } from '#vmm/base/invariant';
import { type DmaPort, type MmioDevice, noPasid } from '#vmm/base/ports';
import { Fabric, firstIova } from './bench-fabric.ts';

const samples = 7;
/** Median rate of calls that return how much they did. */
function medianRate(call: () => number): number {
  call();
  const rates = Array.from({ length: samples }, () => {
    const start = performance.now();
    const count = call();
    return (count / (performance.now() - start)) * 1000;
  });
  return rates.toSorted((a, b) => a - b)[samples >> 1]!;
}

// Registers of the 82574L (datasheet §10.2).
const register = { CTRL: 0, RCTL: 0x100, TCTL: 0x400, RFCTL: 0x5008, RDBAL: 0x2800, RDLEN: 0x2808, RDT: 0x2818, TDBAL: 0x3800, TDLEN: 0x3808, TDT: 0x3818, TARC: 0x3840 } as const; // prettier-ignore
const enableReceive = (1 << 1) | (1 << 15) | (1 << 26);
const enableTransmit = 0x1003_f0fa;
const setLinkUp = 1 << 6;
const extendedDescriptors = 1 << 15;
const ringEntries = 256;
const bufferBytes = 2048;
const receiveRing = firstIova;
const transmitRing = firstIova + pageBytes;
const receiveBuffers = firstIova + 2 * pageBytes;
const transmitBuffers = receiveBuffers + ringEntries * bufferBytes;
const adapterPages = (transmitBuffers - firstIova + ringEntries * bufferBytes) / pageBytes;

/** One end: an adapter behind the IOMMU, and its driver, which stands where the guest would. */
class End {
  readonly fabric = new Fabric();
  readonly #bar: MmioDevice;
  #sent = 0;
  #received = 0;

  constructor(clock: Clock, backend: ReturnType<typeof hub>[number], n: number) {
    const mac = Uint8Array.of(2, 0, 0, 0, 0, n);
    const device = nic({ name: `nic${n}`, clock, trace: quiet, backend, mac, bitsPerSecond: Infinity });
    device.connect(this.fabric.device(8 * n, adapterPages), []);
    device.busMaster(true);
    this.#bar = device.bars[0]!.device!;
    this.#write(register.CTRL, setLinkUp);
    this.#write(register.RFCTL, extendedDescriptors);
    this.#write(register.RDBAL, receiveRing);
    this.#write(register.RDLEN, ringEntries * 16);
    this.#write(register.TDBAL, transmitRing);
    this.#write(register.TDLEN, ringEntries * 16);
    for (let i = 0; i < ringEntries; i++) this.#offer(i);
    this.#write(register.RCTL, enableReceive);
    this.#write(register.RDT, ringEntries - 1);
    this.#write(register.TCTL, enableTransmit);
  }

  #write(offset: number, value: number): void {
    this.#bar.write(offset, 4, value);
  }

  #offer(index: number): void {
    const { view } = this.fabric.memory;
    const at = this.fabric.at(receiveRing) + index * 16;
    view.setUint32(at, receiveBuffers + index * bufferBytes, true);
    view.setUint32(at + 4, 0, true);
    view.setUint32(at + 8, 0, true);
    view.setUint32(at + 12, 0, true);
  }

  /** Sends the same frame `count` times, with one doorbell. */
  send(count: number, bytes: number): void {
    const { view } = this.fabric.memory;
    for (let i = 0; i < count; i++) {
      const at = this.fabric.at(transmitRing) + this.#sent * 16;
      view.setUint32(at, transmitBuffers + this.#sent * bufferBytes, true);
      view.setUint32(at + 4, 0, true);
      // A data descriptor: EOP, IFCS, RS, DEXT.
      view.setUint32(at + 8, bytes | 0x2b10_0000, true);
      view.setUint32(at + 12, 0, true);
      this.#sent = (this.#sent + 1) % ringEntries;
    }
    this.#write(register.TDT, this.#sent);
  }

  /** Frames that arrived; their descriptors are given back, with one doorbell. */
  receive(bytes: number): number {
    const { view } = this.fabric.memory;
    let count = 0;
    for (;;) {
      const at = this.fabric.at(receiveRing) + this.#received * 16;
      if ((view.getUint32(at + 8, true) & 1) === 0) break;
      invariant(view.getUint16(at + 12, true) === bytes, 'a frame of another length');
      this.#offer(this.#received);
      this.#received = (this.#received + 1) % ringEntries;
      count++;
    }
    if (count > 0) this.#write(register.RDT, (this.#received + ringEntries - 1) % ringEntries);
    return count;
  }

  /** Puts a frame to everybody into every transmit buffer. */
  fill(bytes: number): void {
    const { bytes: memory } = this.fabric.memory;
    for (let i = 0; i < ringEntries; i++) {
      const at = this.fabric.at(transmitBuffers + i * bufferBytes);
      for (let k = 0; k < bytes; k++) memory[at + k] = k < 6 ? 0xff : i + k;
    }
  }
}

/** Frames a second between the rings of two guests on one hub, each behind two stages. */
export function frameRate(bytes: number, count: number): number {
  const clock = new Clock();
  const [a, b] = hub(2).map((backend, i) => new End(clock, backend, i + 1)) as [End, End];
  // Auto-negotiation.
  clock.advance(1_000_000);
  for (const end of [a, b]) end.fill(bytes);
  const batch = 64;
  return medianRate(() => {
    let arrived = 0;
    while (arrived < count) {
      a.send(batch, bytes);
      b.send(batch, bytes);
      clock.advance(2000);
      const now = a.receive(bytes) + b.receive(bytes);
      invariant(now > 0, 'no frame arrives any more');
      arrived += now;
    }
    return arrived;
  });
}

function roundRate(count: number, access: (index: number) => boolean): number {
  const round = Math.max(count, 20_000);
  return medianRate(() => {
    for (let i = 0, index = 0; i < round; i++) {
      invariant(access(index), 'a transaction of the bench faulted');
      if (++index === count) index = 0;
    }
    return round;
  });
}

const succeeds = (port: DmaPort, pasid: number): boolean => {
  const result = port.read(0, firstIova, 64, pasid);
  return result.count === 1 && result.faults.length === 0;
};

/** Reads of 64 bytes a second, going round so many devices. */
export function deviceRate(devices: number): number {
  const fabric = new Fabric();
  const ports = Array.from({ length: devices }, (_, i) => fabric.device(i + 1, 1));
  return roundRate(devices, (i) => succeeds(ports[i]!, noPasid));
}

/** Reads of 64 bytes a second by one device, going round so many PASIDs. */
export function processRate(processes: number): number {
  const port = new Fabric().deviceOfProcesses(1, processes);
  return roundRate(processes, (i) => succeeds(port, i + 1));
}
