/** Intel 82574L gigabit Ethernet controller, as Linux's e1000e driver and the datasheet (revision 3.4) see it. */
import type { Clock } from '#vmm/base/clock';
import type { Trace } from '#vmm/base/events';
import type { BarSpec, DmaPort, IrqLine, PacketBackend, PciFunction, TranslationEnables } from '#vmm/base/ports';
import { field, part, parts } from '#vmm/base/saved';
import { Dma } from './dma.ts';
import { Interrupts } from './interrupts.ts';
import { Nvm } from './nvm.ts';
import { bars, identity, ioWindow, msix } from './pci.ts';
import { Phy, accessCause } from './phy.ts';
import { Receiver } from './receive.ts';
import { type HookTable, RegisterFile } from './register-file.ts';
import { CTRL, CTRL_EXT, ICR, RCTL, STATUS, SWSM, at } from './registers.ts';
import { countSent, readHighAndClear } from './statistics.ts';
import { Transmitter } from './transmit.ts';

export interface NicOptions {
  /** Names the device in traces. */
  readonly name: string;
  readonly clock: Clock;
  readonly trace: Trace;
  readonly backend: PacketBackend;
  /** Six bytes; the first must be even (not a group address). */
  readonly mac: Uint8Array;
  /** Speed of the wire in virtual time; Infinity takes no time at all. Default 10^9. */
  readonly bitsPerSecond?: number;
}

/** Counters since power-on, for reports; software's own are in the statistics registers. */
export interface NicStatistics {
  framesSent: number;
  bytesSent: number;
  framesReceived: number;
  bytesReceived: number;
  /** Given up in either direction: no room, faults, malformed. Frames for somebody else do not count. */
  framesDropped: number;
  dmaFaults: number;
  interrupts: number;
}

/** A network adapter to put on the bus. The backend's `onFrame` and `onLinkChange` belong to it from here on. */
export const nic = (options: NicOptions): Nic => new Nic(options);

export class Nic implements PciFunction {
  readonly name: string;
  readonly vendorId = identity.vendorId;
  readonly deviceId = identity.deviceId;
  readonly classCode = identity.classCode;
  readonly revision = identity.revision;
  readonly subsystemVendorId = identity.subsystemVendorId;
  readonly subsystemId = identity.subsystemId;
  readonly bars: readonly BarSpec[];
  readonly msix = msix;
  readonly msi = { vectors: 1 };
  readonly flr = true;
  /** Deviation: the part has no PASIDs; see RXPASID and TXPASID. */
  readonly pasid = { bits: 20 };

  readonly #trace: Trace;
  readonly #backend: PacketBackend;
  readonly #registers: RegisterFile;
  readonly #words: Uint32Array;
  readonly #window;
  readonly #dma: Dma;
  readonly #interrupts: Interrupts;
  readonly #nvm: Nvm;
  readonly #phy: Phy;
  readonly #receiver: Receiver;
  readonly #transmitter: Transmitter;
  #linkUp = false;
  #framesSent = 0;
  #bytesSent = 0;
  readonly saved = parts({
    registers: part(() => this.#registers),
    window: part(() => this.#window),
    dma: part(() => this.#dma),
    interrupts: part(() => this.#interrupts),
    nvm: part(() => this.#nvm),
    phy: part(() => this.#phy),
    receiver: part(() => this.#receiver),
    transmitter: part(() => this.#transmitter),
    linkUp: field(
      () => this.#linkUp,
      (value) => (this.#linkUp = value),
    ),
    framesSent: field(
      () => this.#framesSent,
      (value) => (this.#framesSent = value),
    ),
    bytesSent: field(
      () => this.#bytesSent,
      (value) => (this.#bytesSent = value),
    ),
  });

  constructor(options: NicOptions) {
    const { name, clock, trace, backend, mac } = options;
    this.name = name;
    this.#trace = trace;
    this.#backend = backend;
    this.#registers = new RegisterFile(name, trace);
    this.#words = this.#registers.words;
    this.#window = ioWindow(this.#registers);
    this.bars = bars(this.#registers, this.#window);
    this.#dma = new Dma(name, this.#words, trace);
    this.#interrupts = new Interrupts(name, this.#words, clock, trace);
    this.#nvm = new Nvm(mac, this.#words);
    this.#phy = new Phy(
      this.#words,
      clock,
      () => backend.linkUp,
      () => this.linkChanged(),
      () => this.#interrupts.cause(accessCause),
    );
    this.#receiver = new Receiver(name, this.#words, trace, this.#dma, this.#interrupts);
    this.#transmitter = new Transmitter(name, this.#words, clock, trace, this.#dma, this.#interrupts, options.bitsPerSecond ?? 1e9, (frame) => this.#send(frame)); // prettier-ignore
    for (const part of [this, this.#interrupts, this.#nvm, this.#phy, this.#receiver, this.#transmitter])
      this.#registers.attach(part.hooks);
    backend.onFrame = (frame) => this.#arrived(frame);
    backend.isHeld = () => this.#receiver.isBehind;
    backend.onLinkChange = () => this.linkChanged();
    this.reset();
  }

  readonly hooks: HookTable = {
    CTRL: { afterWrite: (_, value) => this.#control(value) },
    STATUS: {
      read: () => this.#status(),
      // Only ever cleared by software.
      afterWrite: (index, value, old) => {
        this.#words[index] = old & value & STATUS.PHYRA;
      },
    },
    CTRL_EXT: { afterWrite: () => this.#extendedControl() },
    SWSM: { read: () => this.#semaphore() },
    TORH: { read: (index) => readHighAndClear(this.#words)(index) },
    TOTH: { read: (index) => readHighAndClear(this.#words)(index) },
    GORCH: { read: (index) => readHighAndClear(this.#words)(index) },
    GOTCH: { read: (index) => readHighAndClear(this.#words)(index) },
  };

  connect(port: DmaPort, vectors: readonly IrqLine[]): void {
    this.#dma.port = port;
    this.#interrupts.vectors = vectors;
  }

  /** Power-on, function-level and bus reset: everything, the PHY too. */
  reset(): void {
    this.#dma.pasidEnabled = false;
    this.#phy.reset();
    this.#window.reset();
    this.#resetMac('bus');
  }

  busMaster(enabled: boolean): void {
    this.#dma.busMaster = enabled;
    if (enabled) this.#resume();
  }

  translation(enables: TranslationEnables): void {
    this.#dma.pasidEnabled = enables.pasid;
    if (enables.pasid) this.#resume();
  }

  /** Looks again whether there is a link, and tells software of a change. */
  linkChanged(): void {
    const up = this.#phy.linkUp;
    if (up === this.#linkUp) return;
    this.#linkUp = up;
    if (this.#trace.on) this.#trace.emit('nic.link', { device: this.name, up: up ? 1 : 0 });
    this.#interrupts.cause(ICR.LSC);
    if (up) this.#transmitter.kick();
  }

  get statistics(): NicStatistics {
    return {
      framesSent: this.#framesSent,
      bytesSent: this.#bytesSent,
      framesReceived: this.#receiver.frames,
      bytesReceived: this.#receiver.bytes,
      framesDropped: this.#receiver.dropped + this.#transmitter.dropped,
      dmaFaults: this.#dma.faults,
      interrupts: this.#interrupts.sent,
    };
  }

  /** Everything but the PHY, whose link survives (§4.3). What is scheduled comes to nothing. */
  #resetMac(by: string): void {
    this.#registers.reset();
    this.#interrupts.reset();
    this.#receiver.reset();
    this.#transmitter.reset();
    this.#nvm.loadAddress();
    this.#linkUp = this.#phy.linkUp;
    if (this.#trace.on) this.#trace.emit('nic.reset', { device: this.name, by });
  }

  #resume(): void {
    this.#receiver.resume();
    this.#transmitter.kick();
  }

  #control(value: number): void {
    if ((value & CTRL.RST) !== 0) this.#resetMac('CTRL.RST');
    if ((value & CTRL.PHY_RST) !== 0) {
      // Self-clearing here: a driver sets and clears it around a delay.
      this.#words[at.CTRL]! &= ~CTRL.PHY_RST;
      this.#words[at.STATUS]! |= STATUS.PHYRA;
      this.#phy.restart();
    }
    if ((value & CTRL.GIO_MASTER_DISABLE) === 0) this.#resume();
  }

  #extendedControl(): void {
    const control = this.#words[at.CTRL_EXT]!;
    // EE_RST reloads what the NVM sets, which is the address; both bits clear themselves.
    if ((control & CTRL_EXT.EE_RST) !== 0) this.#nvm.loadAddress();
    this.#words[at.CTRL_EXT] = control & ~(CTRL_EXT.EE_RST | CTRL_EXT.ASDCHK);
  }

  #status(): number {
    const words = this.#words;
    const control = words[at.CTRL]!;
    const speed = (control & CTRL.FRCSPD) !== 0 ? (control & CTRL.SPEED) >>> 8 : 2;
    const fullDuplex = (control & CTRL.FRCDPX) === 0 || (control & CTRL.FD) !== 0;
    let status = words[at.STATUS]! & STATUS.PHYRA;
    if (this.#phy.linkUp && (control & CTRL.SLU) !== 0) status |= STATUS.LU;
    if (fullDuplex) status |= STATUS.FD;
    if ((control & CTRL.GIO_MASTER_DISABLE) === 0) status |= STATUS.GIO_MASTER_ENABLE;
    return status | (speed << 6) | (2 << 8);
  }

  /** The read takes the software semaphore (§10.2.8.12). */
  #semaphore(): number {
    const value = this.#words[at.SWSM]!;
    this.#words[at.SWSM] = value | SWSM.SMBI;
    return value;
  }

  #send(frame: Uint8Array): boolean {
    const loopback = (this.#words[at.RCTL]! & RCTL.LBM) !== 0 || this.#phy.loopback;
    if (!loopback && !this.#phy.linkUp) return false;
    countSent(this.#words, frame);
    this.#framesSent++;
    this.#bytesSent += frame.length;
    if (loopback) this.#receiver.receive(frame);
    else this.#backend.send(frame);
    return true;
  }

  #arrived(frame: Uint8Array): boolean {
    const loopback = (this.#words[at.RCTL]! & RCTL.LBM) !== 0 || this.#phy.loopback;
    return loopback || !this.#phy.linkUp ? false : this.#receiver.receive(frame);
  }
}
