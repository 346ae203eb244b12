import type { AccessBytes, IrqLine, MmioDevice } from '#vmm/base/ports';
import { array, field, parts } from '#vmm/base/saved';
import { causes, fcrBits, fifosEnabled, ier, ierBits, lcrDlab, lsrBits, mcr, mcrBits, msrBits } from './registers.ts';

export interface UartOptions {
  /** Takes each byte that the guest sends. */
  readonly write: (byte: number) => void;
  /** Level-triggered; absent on a machine without wires, where the guest polls. */
  readonly irq?: IrqLine;
}

export const uartBytes = 256;
/** Input that the guest has not read yet, beyond which `receive` takes nothing. */
const inputLimit = 4096;
/** Bytes the receive FIFO of a 16550A holds; only loopback can overrun it, since `receive` waits for room. */
const fifoBytes = 16;

/**
 * An NS16550A whose transmitter is always ready. Byte registers, one byte apart; wider accesses reach the first one.
 *
 * Deviation: there is no baud rate: bytes take no time, so the receive-timeout interrupt never differs from the
 * data-available one, and the FIFO trigger level is always one byte.
 */
export class Uart implements MmioDevice {
  readonly #sink: (byte: number) => void;
  readonly #irq: IrqLine | undefined;
  /** A ring: bytes #head … #head + #count. */
  readonly #input = new Uint8Array(inputLimit);
  #head = 0;
  #count = 0;
  #ier = 0;
  #lcr = 0;
  #mcr = 0;
  #scr = 0;
  #divisor = 0;
  #fifos = false;
  #overrun = false;
  /** THRE is an event: it is reported once, until the next byte is sent or ETBEI is set again. */
  #transmitEmptyPending = false;
  #msrDelta = 0;
  #raised = false;
  readonly saved = parts({
    input: array(() => this.#input),
    head: field(
      () => this.#head,
      (value) => (this.#head = value),
    ),
    count: field(
      () => this.#count,
      (value) => (this.#count = value),
    ),
    ier: field(
      () => this.#ier,
      (value) => (this.#ier = value),
    ),
    lcr: field(
      () => this.#lcr,
      (value) => (this.#lcr = value),
    ),
    mcr: field(
      () => this.#mcr,
      (value) => (this.#mcr = value),
    ),
    scr: field(
      () => this.#scr,
      (value) => (this.#scr = value),
    ),
    divisor: field(
      () => this.#divisor,
      (value) => (this.#divisor = value),
    ),
    fifos: field(
      () => this.#fifos,
      (value) => (this.#fifos = value),
    ),
    overrun: field(
      () => this.#overrun,
      (value) => (this.#overrun = value),
    ),
    transmitEmptyPending: field(
      () => this.#transmitEmptyPending,
      (value) => (this.#transmitEmptyPending = value),
    ),
    msrDelta: field(
      () => this.#msrDelta,
      (value) => (this.#msrDelta = value),
    ),
    raised: field(
      () => this.#raised,
      (value) => (this.#raised = value),
    ),
  });

  constructor({ write, irq }: UartOptions) {
    this.#sink = write;
    this.#irq = irq;
  }

  /** Hands over console input; returns how many bytes were taken, the rest may be offered again later. */
  receive(bytes: Uint8Array): number {
    const taken = Math.min(bytes.length, inputLimit - this.#count);
    for (let i = 0; i < taken; i++) this.#push(bytes[i]!);
    this.#update();
    return taken;
  }

  /** The guest has asked to hear of input (IER.erbfi). */
  get isReceiving(): boolean {
    return (this.#ier & ierBits.received) !== 0;
  }

  reset(): void {
    this.#head = 0;
    this.#count = 0;
    this.#ier = 0;
    this.#lcr = 0;
    this.#mcr = 0;
    this.#scr = 0;
    this.#divisor = 0;
    this.#fifos = false;
    this.#overrun = false;
    this.#transmitEmptyPending = false;
    this.#msrDelta = 0;
    this.#update();
  }

  read(offset: number, bytes: AccessBytes): number | bigint {
    const value = this.#register(offset)?.read() ?? 0;
    return bytes === 8 ? BigInt(value) : value;
  }

  write(offset: number, _bytes: AccessBytes, value: number | bigint): void {
    this.#register(offset)?.write(Number(BigInt.asUintN(8, BigInt(value))));
  }

  #register(offset: number): ByteRegister | undefined {
    const isDivisor = (this.#lcr & lcrDlab) !== 0 && offset <= 1;
    return isDivisor ? this.#divisorLatch[offset] : this.#registers[offset];
  }

  /** While LCR.dlab is set these replace the first two. */
  readonly #divisorLatch: readonly ByteRegister[] = [
    { read: () => this.#divisor & 0xff, write: (value) => void (this.#divisor = (this.#divisor & 0xff00) | value) },
    { read: () => this.#divisor >>> 8, write: (value) => void (this.#divisor = (this.#divisor & 0xff) | (value << 8)) },
  ];

  /** By offset: RBR/THR, IER, IIR/FCR, LCR, MCR, LSR, MSR, SCR. */
  readonly #registers: readonly ByteRegister[] = [
    { read: () => this.#receiveByte(), write: (value) => this.#transmitByte(value) },
    { read: () => this.#ier, write: (value) => this.#setInterruptEnable(value) },
    { read: () => this.#identifyInterrupt(), write: (value) => this.#setFifoControl(value) },
    { read: () => this.#lcr, write: (value) => void (this.#lcr = value) },
    { read: () => this.#mcr, write: (value) => this.#setModemControl(value) },
    { read: () => this.#lineStatus(), write: () => {} },
    { read: () => this.#modemStatus(), write: () => {} },
    { read: () => this.#scr, write: (value) => void (this.#scr = value) },
  ];

  #receiveByte(): number {
    if (this.#count === 0) return 0;
    const byte = this.#input[this.#head]!;
    this.#head = (this.#head + 1) % inputLimit;
    this.#count--;
    this.#update();
    return byte;
  }

  #transmitByte(byte: number): void {
    if ((this.#mcr & mcrBits.loop) === 0) this.#sink(byte);
    else if (this.#count < (this.#fifos ? fifoBytes : 1)) this.#push(byte);
    else this.#overrun = true;
    this.#transmitEmptyPending = true;
    this.#update();
  }

  #setInterruptEnable(value: number): void {
    const now = Number(ier.write(BigInt(this.#ier), BigInt(value)));
    if ((now & ~this.#ier & ierBits.transmitEmpty) !== 0) this.#transmitEmptyPending = true;
    this.#ier = now;
    this.#update();
  }

  #identifyInterrupt(): number {
    const cause = this.#cause();
    if (cause === causes.transmitEmpty) this.#transmitEmptyPending = false;
    this.#update();
    return cause | (this.#fifos ? fifosEnabled : 0);
  }

  #setFifoControl(value: number): void {
    const enable = (value & fcrBits.enable) !== 0;
    // Switching the FIFOs clears them; the other bits count only while they are on.
    if (enable !== this.#fifos || (enable && (value & fcrBits.clearReceive) !== 0)) this.#count = 0;
    this.#fifos = enable;
    this.#update();
  }

  #setModemControl(value: number): void {
    const before = this.#modemLines();
    this.#mcr = Number(mcr.write(BigInt(this.#mcr), BigInt(value)));
    const changed = before ^ this.#modemLines();
    // Bits 3:0 tell what changed since the last read; RI counts only when it goes away.
    const ringEnded = (changed & before & msrBits.ri) !== 0 ? msrBits.ri >>> 4 : 0;
    this.#msrDelta |= ((changed & ~msrBits.ri) >>> 4) | ringEnded;
    this.#update();
  }

  #lineStatus(): number {
    const received = (this.#count > 0 ? lsrBits.dataReady : 0) | (this.#overrun ? lsrBits.overrun : 0);
    this.#overrun = false;
    this.#update();
    return lsrBits.transmitHoldingEmpty | lsrBits.transmitterEmpty | received;
  }

  #modemStatus(): number {
    const status = this.#modemLines() | this.#msrDelta;
    this.#msrDelta = 0;
    this.#update();
    return status;
  }

  /** A connected terminal, or in loopback what the modem outputs say. */
  #modemLines(): number {
    if ((this.#mcr & mcrBits.loop) === 0) return msrBits.cts | msrBits.dsr | msrBits.dcd;
    return (
      ((this.#mcr & mcrBits.rts) !== 0 ? msrBits.cts : 0) |
      ((this.#mcr & mcrBits.dtr) !== 0 ? msrBits.dsr : 0) |
      ((this.#mcr & mcrBits.out1) !== 0 ? msrBits.ri : 0) |
      ((this.#mcr & mcrBits.out2) !== 0 ? msrBits.dcd : 0)
    );
  }

  #push(byte: number): void {
    this.#input[(this.#head + this.#count) % inputLimit] = byte;
    this.#count++;
  }

  #cause(): number {
    if ((this.#ier & ierBits.lineStatus) !== 0 && this.#overrun) return causes.lineStatus;
    if ((this.#ier & ierBits.received) !== 0 && this.#count > 0) return causes.received;
    if ((this.#ier & ierBits.transmitEmpty) !== 0 && this.#transmitEmptyPending) return causes.transmitEmpty;
    if ((this.#ier & ierBits.modemStatus) !== 0 && this.#msrDelta !== 0) return causes.modemStatus;
    return causes.none;
  }

  #update(): void {
    const raised = this.#cause() !== causes.none;
    if (raised === this.#raised) return;
    this.#raised = raised;
    if (raised) this.#irq?.raise();
    else this.#irq?.lower();
  }
}

interface ByteRegister {
  read(): number;
  write(value: number): void;
}
