/**
 * The GDB remote serial protocol for a machine (GDB manual, appendix E): every hart is a thread, all of them stop
 * together. It speaks bytes; whoever has the socket passes them on, and runs the machine through `run`.
 */
import type { Hart } from '../cpu/riscv/hart.ts';
import type { Machine, RunResult, Until } from '../machine/machine.ts';
import { Breakpoints } from './breakpoints.ts';
import { ramPieces } from './guest-view.ts';
import { monitor } from './monitor.ts';
import { hex, maxPacketBytes, Packets, unhex } from './packets.ts';
import { readGeneral, readRegister, targetXml, writeGeneral, writeRegister } from './registers.ts';

const sigint = 2;
const sigtrap = 5;
const sigabrt = 6;
const ok = 'OK';
/** Bad arguments; an address where nothing is. */
const errors = { invalid: 'E16', fault: 'E0e' } as const;

/** While a breakpoint waits for its address to be mapped, how far to run between two tries. */
const pendingSlice = 1000;
/** How long a new value of satp is worth single steps. */
const watchedInstructions = 5000;
/** Turns in which the hart that is to step may do nothing, because it waits for an interrupt. */
const stepTurns = 100_000;

const features = `PacketSize=${maxPacketBytes.toString(16)};QStartNoAckMode+;qXfer:features:read+;vContSupported+;swbreak+`;
const text = (hexadecimal: string): string | undefined => {
  const bytes = unhex(hexadecimal);
  return bytes && new TextDecoder().decode(bytes);
};
const toHex = (said: string): string => hex(new TextEncoder().encode(said));
const number = (hexadecimal: string | undefined): bigint | undefined =>
  hexadecimal !== undefined && /^[0-9a-f]{1,16}$/i.test(hexadecimal) ? BigInt(`0x${hexadecimal}`) : undefined;

type Command = readonly [prefix: string, run: (self: Debugger, rest: string) => string | undefined];
/** By the beginning of the packet; the first match counts. Filled in by the class, whose private state they use. */
let commands: readonly Command[];

type Mode = 'stopped' | 'running' | 'stepping';

export class Debugger {
  readonly #packets: Packets;
  #machine: Machine;
  #breakpoints: Breakpoints;
  #mode: Mode;
  #isConnected = false;
  #isKilled = false;
  /** Hart of register and memory commands, and the one that steps. */
  #selected = 0;
  #stepping = 0;
  #isPhysical = false;
  /** What hart 0 was last seen to translate with, and since which instruction. */
  #satp = { value: 0n, since: 0 };
  #lastStop = `T0${sigtrap}thread:1;`;

  /** `isWaiting`: the guest does not start before GDB says so. */
  constructor(machine: Machine, send: (bytes: Uint8Array) => void, isWaiting: boolean) {
    this.#machine = machine;
    this.#breakpoints = new Breakpoints(machine);
    this.#mode = isWaiting ? 'stopped' : 'running';
    this.#packets = new Packets(send, { packet: (data) => this.#packet(data), interrupt: () => this.#stop(sigint) });
  }

  get isStopped(): boolean {
    return this.#mode === 'stopped';
  }
  /** GDB's `kill`. */
  get isKilled(): boolean {
    return this.#isKilled;
  }

  /** GDB is there: the machine stops. */
  connect(): void {
    this.#isConnected = true;
    this.#packets.acknowledges = true;
    this.#mode = 'stopped';
    this.#catch(true);
  }

  /** GDB is gone: the machine goes on without breakpoints. */
  disconnect(): void {
    this.#isConnected = false;
    this.#breakpoints.clear();
    this.#catch(false);
    this.#mode = 'running';
  }

  receive(bytes: Uint8Array): void {
    this.#packets.receive(bytes);
  }

  /** A reset made a new machine of the old one. Breakpoints were in its RAM. */
  replace(machine: Machine): void {
    this.#machine = machine;
    this.#breakpoints = new Breakpoints(machine);
    this.#catch(this.#isConnected);
  }

  /** Runs the machine unless it is stopped; undefined where GDB has the word. */
  run(until: Until): RunResult | undefined {
    if (this.#mode === 'stopped') return undefined;
    const result = this.#mode === 'stepping' ? this.#step() : this.#continue(until);
    if (result === undefined || result.outcome === 'limit') return result;
    const { hit } = this.#breakpoints;
    if (result.outcome === 'met' && hit) {
      this.#breakpoints.hit = undefined;
      this.#stop(sigtrap, hit.hart, `watch:${hit.address.toString(16)};`);
    } else if (result.outcome === 'breakpoint') this.#breakpoint(result.hart!);
    else {
      this.#ended(result);
      return result;
    }
    return undefined;
  }

  #continue(until: Until): RunResult {
    if (!this.#breakpoints.arePending) return this.#machine.run(until);
    this.#breakpoints.insertPending();
    let left = until.instructions ?? pendingSlice;
    for (;;) {
      const slice = Math.min(left, this.#isMappingSoon() ? 1 : pendingSlice);
      const result = this.#machine.run({ ...until, instructions: slice });
      left -= slice;
      this.#breakpoints.insertPending();
      if (result.outcome !== 'limit' || left <= 0 || !this.#breakpoints.arePending) return result;
    }
  }

  /**
   * Before translation is on, and for a while behind a change of tables, the address that a breakpoint waits for may
   * be mapped any moment and used at once: then no instruction may pass unseen.
   */
  #isMappingSoon(): boolean {
    const { instructions } = this.#machine;
    const satp = this.#machine.harts[0]!.csr('satp') ?? 0n;
    if (satp !== this.#satp.value) this.#satp = { value: satp, since: instructions };
    return satp === 0n || instructions - this.#satp.since < watchedInstructions;
  }

  #step(): RunResult | undefined {
    const hart = this.#machine.harts[this.#stepping]!;
    const before = hart.instret;
    let result: RunResult | undefined;
    for (let turn = 0; turn < stepTurns && hart.instret === before; turn++) {
      result = this.#machine.run({ instructions: 1 });
      if (result.outcome !== 'limit') return result;
    }
    this.#stop(sigtrap, this.#stepping);
    return undefined;
  }

  /** An ebreak that GDB did not put there is the guest's own. */
  #breakpoint(id: number): void {
    const hart = this.#machine.harts[id]!;
    if (this.#breakpoints.isAt(hart.pc)) return this.#stop(sigtrap, id, 'swbreak:;');
    hart.catchBreakpoints(false);
    this.#machine.run({ instructions: 1 });
    hart.catchBreakpoints(true);
    if (this.#mode === 'stepping' && id === this.#stepping) this.#stop(sigtrap, id);
  }

  #catch(on: boolean): void {
    for (const hart of this.#machine.harts) hart.catchBreakpoints(on);
  }

  #stop(signal: number, hart = this.#selected, why = ''): void {
    if (this.#mode === 'stopped') return;
    this.#mode = 'stopped';
    this.#selected = hart;
    this.#lastStop = `T0${signal}thread:${hart + 1};${why}`;
    if (this.#isConnected) this.#packets.reply(this.#lastStop);
  }

  /** `W`: the guest ended; a crash is a signal. */
  #ended(result: RunResult): void {
    if (!this.#isConnected) return;
    const code = ((result.code ?? (result.outcome === 'failed' ? 1 : 0)) & 0xff).toString(16).padStart(2, '0');
    this.#packets.reply(result.outcome === 'crashed' ? `X0${sigabrt}` : `W${code}`);
  }

  #packet(data: string): void {
    const reply = this.#answer(data);
    if (reply !== undefined) this.#packets.reply(reply);
    if (data === 'QStartNoAckMode') this.#packets.acknowledges = false;
  }

  get #hart(): Hart {
    return this.#machine.harts[this.#selected]!;
  }

  /** The reply; undefined where it comes when the machine stops. An empty one means: not known. */
  #answer(data: string): string | undefined {
    const row = commands.find(([prefix]) => data.startsWith(prefix));
    return row ? row[1](this, data.slice(row[0].length)) : '';
  }

  static {
    const hartOf = (self: Debugger, id: string): number | undefined => {
      const thread = Number.parseInt(id, 16);
      if (id === '-1' || thread === 0) return self.#selected;
      return thread >= 1 && thread <= self.#machine.harts.length ? thread - 1 : undefined;
    };
    const resume = (self: Debugger, mode: Mode, hart: number): undefined => {
      self.#mode = mode;
      self.#stepping = hart;
    };
    const memory = (self: Debugger, place: string): readonly Uint8Array[] | undefined => {
      const [address, length] = place.split(',').map(number);
      if (address === undefined || length === undefined || length > BigInt(maxPacketBytes)) return undefined;
      return ramPieces(self.#hart, address, Number(length), self.#isPhysical);
    };
    const writeMemory = (self: Debugger, place: string, bytes: Uint8Array | undefined): string => {
      if (!bytes) return errors.invalid;
      return self.#breakpoints.aside(() => {
        const pieces = memory(self, place);
        if (!pieces) return errors.fault;
        let at = 0;
        for (const piece of pieces) {
          piece.set(bytes.subarray(at, at + piece.length));
          at += piece.length;
        }
        return ok;
      }, true);
    };
    const point =
      (isAdding: boolean) =>
      (self: Debugger, rest: string): string => {
        const [kind, address, bytes] = [rest[0], ...rest.slice(2).split(/[,;]/)];
        const [at, length] = [number(address), Number.parseInt(bytes ?? '', 16)];
        if (at === undefined || !Number.isInteger(length)) return errors.invalid;
        const points = self.#breakpoints;
        if (kind === '0' || kind === '1')
          return !isAdding ? (points.remove(at), ok) : points.add(at, length) ? ok : errors.invalid;
        if (kind === '2') return !isAdding ? (points.unwatch(at), ok) : points.watch(at, length) ? ok : errors.fault;
        return '';
      };
    const tell = (self: Debugger, command: string | undefined): string => {
      const physical = /^physical (on|off)$/.exec(command?.trim() ?? '')?.[1];
      if (physical !== undefined) {
        self.#isPhysical = physical === 'on';
        return toHex(`memory commands take ${self.#isPhysical ? 'guest-physical' : 'virtual'} addresses\n`);
      }
      return command === undefined ? errors.invalid : toHex(monitor(self.#machine, command.trim()));
    };
    const xml = targetXml();

    // prettier-ignore
    commands = [
      ['qSupported',        () => features],
      ['QStartNoAckMode',   () => ok],
      ['qXfer:features:read:target.xml:', (_, rest) => {
        const [at, length] = rest.split(',').map((digits) => Number.parseInt(digits, 16));
        const piece = xml.slice(at, at! + length!);
        return `${at! + piece.length < xml.length ? 'm' : 'l'}${piece}`;
      }],
      ['qfThreadInfo',      (self) => `m${self.#machine.harts.map(({ id }) => (id + 1).toString(16)).join(',')}`],
      ['qsThreadInfo',      () => 'l'],
      ['qThreadExtraInfo,', (_, id) => toHex(`hart ${Number.parseInt(id, 16) - 1}`)],
      ['qC',                (self) => `QC${self.#selected + 1}`],
      ['qAttached',         () => '1'],
      ['qRcmd,',            (self, command) => tell(self, text(command))],
      ['qqemu.PhyMemMode',  (self) => (self.#isPhysical ? '1' : '0')],
      ['Qqemu.PhyMemMode:', (self, on) => ((self.#isPhysical = on === '1'), ok)],
      ['?',                 (self) => self.#lastStop],
      ['H',                 (self, rest) => {
        const hart = hartOf(self, rest.slice(1));
        if (hart === undefined) return errors.invalid;
        self.#selected = hart;
        return ok;
      }],
      ['T',                 (self, id) => (hartOf(self, id) === undefined ? errors.invalid : ok)],
      ['g',                 (self) => readGeneral(self.#hart)],
      ['G',                 (self, rest) => (writeGeneral(self.#hart, rest) ? ok : errors.invalid)],
      ['p',                 (self, id) => readRegister(self.#hart, Number.parseInt(id, 16)) ?? errors.invalid],
      ['P',                 (self, rest) => {
        const [id, value] = rest.split('=');
        return writeRegister(self.#hart, Number.parseInt(id!, 16), value ?? '') ? ok : errors.invalid;
      }],
      ['m',                 (self, rest) =>
        self.#breakpoints.aside(() => memory(self, rest)?.map((piece) => hex(piece)).join(''), false) ?? errors.fault],
      ['M',                 (self, rest) => writeMemory(self, rest.split(':')[0]!, unhex(rest.split(':')[1] ?? 'x'))],
      ['X',                 (self, rest) => {
        const colon = rest.indexOf(':');
        return writeMemory(self, rest.slice(0, colon), Uint8Array.from(rest.slice(colon + 1), (c) => c.charCodeAt(0)));
      }],
      ['Z',                 point(true)],
      ['z',                 point(false)],
      ['vCont?',            () => 'vCont;c;C;s;S'],
      ['vCont;',            (self, rest) => {
        const step = rest.split(';').find((action) => /^s/i.test(action));
        if (step === undefined) return resume(self, 'running', self.#selected);
        const hart = hartOf(self, step.split(':')[1] ?? '0');
        return hart === undefined ? errors.invalid : resume(self, 'stepping', hart);
      }],
      ['c',                 (self) => resume(self, 'running', self.#selected)],
      ['s',                 (self) => resume(self, 'stepping', self.#selected)],
      ['D',                 (self) => (self.disconnect(), ok)],
      ['vKill',             (self) => ((self.#isKilled = true), ok)],
      ['k',                 (self) => void (self.#isKilled = true)],
    ];
  }
}
