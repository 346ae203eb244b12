import type { Trace } from '#vmm/base/events';
import { type Data, field, listOf, parts } from '#vmm/base/saved';
import { type Command, type CommandContext, decodeCommand } from './commands.ts';
import type { Interrupts } from './interrupts.ts';
import { access, type BackEnd, type CommandOutcome } from './ports.ts';
import type { QueueMemory } from './queue-memory.ts';
import { csr, entryAddress, indexMask } from './record-queue.ts';
import type { RegisterFile } from './register-file.ts';
import { cqcsr, offsets } from './registers.ts';

const cmd_to = Number(cqcsr.mask('cmd_to'));
const cmd_ill = Number(cqcsr.mask('cmd_ill'));
const fence_w_ip = Number(cqcsr.mask('fence_w_ip'));
const stopped = csr.memoryFault | cmd_to | cmd_ill;
/** PCIe: an Invalidate Completion names its requests by a 32-bit vector of tags. */
const tags = 32;
const commandBytes = 16;

/** An ATS invalidation that the device has not yet completed. */
// A type, not an interface: a snapshot holds it as it is.
type Invalidation = {
  readonly rid: number;
  readonly segment: number | undefined;
  completions: number;
};

/** Fetches, checks and executes commands (§3.1): in order, one at a time, so only ATS.INVAL ever stays outstanding. */
export class CommandQueue {
  readonly #registers: RegisterFile;
  readonly #memory: QueueMemory;
  readonly #interrupts: Interrupts;
  readonly #backEnd: BackEnd;
  readonly #context: () => CommandContext;
  readonly #trace: Trace;
  readonly #unit: string;
  readonly #outstanding: (Invalidation | undefined)[] = Array.from({ length: tags });
  readonly #words: bigint[] = [0n, 0n];
  /** A fence at cqh waits for outstanding invalidations. */
  #fencing = false;
  /** No fence has told of it yet. It outlives a restart of the queue (§5.15 clears only what the queue shows). */
  #timedOut = false;
  #running = false;
  readonly saved = parts({
    outstanding: {
      save: () => this.#outstanding,
      restore: (data: Data) => {
        for (const [itag, one] of listOf(data).entries()) this.#outstanding[itag] = one as Invalidation | undefined;
      },
    },
    fencing: field(
      () => this.#fencing,
      (value) => (this.#fencing = value),
    ),
    timedOut: field(
      () => this.#timedOut,
      (value) => (this.#timedOut = value),
    ),
  });

  constructor(
    registers: RegisterFile,
    memory: QueueMemory,
    interrupts: Interrupts,
    backEnd: BackEnd,
    context: () => CommandContext,
    trace: Trace,
    unit: string,
  ) {
    this.#registers = registers;
    this.#memory = memory;
    this.#interrupts = interrupts;
    this.#backEnd = backEnd;
    this.#context = context;
    this.#trace = trace;
    this.#unit = unit;
  }

  reset(): void {
    this.#outstanding.fill(undefined);
    this.#fencing = false;
    this.#timedOut = false;
  }

  /** True while a fence keeps the queue busy. */
  get waiting(): boolean {
    return this.#fencing;
  }

  /** Runs until the queue is empty, stopped by an error bit, or waits for devices. */
  run(): void {
    // A command's effects may reach back here (an invalidation that completes at once): the outer loop goes on.
    if (this.#running) return;
    this.#running = true;
    while (this.#step());
    this.#running = false;
    const { words } = this.#registers;
    if (!this.#fencing && words[offsets.cqcsr >>> 2]! & csr.busy) {
      // cqen was cleared while a fence waited: the queue goes off now (§5.15).
      words[offsets.cqcsr >>> 2]! &= ~(csr.busy | csr.on);
    }
  }

  #step(): boolean {
    const { words } = this.#registers;
    const status = words[offsets.cqcsr >>> 2]!;
    if (!(status & csr.on) || status & stopped) return false;
    if (!(status & csr.enable) && !this.#fencing) return false;
    const head = words[offsets.cqh >>> 2]!;
    if (head === words[offsets.cqt >>> 2]! && !this.#fencing) return false;
    const base = this.#registers.get64(offsets.cqb);
    const pair = this.#words;
    if (this.#memory.load(entryAddress(base, head, commandBytes), pair) !== access.ok)
      return this.#stop(csr.memoryFault);
    const command = decodeCommand(pair[0]!, pair[1]!, this.#context());
    const outcome = command ? this.#execute(command) : 'illegal';
    if (this.#trace.on && outcome !== undefined) this.#tell(command, outcome);
    if (outcome === undefined) return false;
    if (outcome === 'illegal') return this.#stop(cmd_ill);
    if (outcome === 'memory-fault') return this.#stop(csr.memoryFault);
    if (outcome === 'timeout') return this.#stop(cmd_to);
    words[offsets.cqh >>> 2] = (head + 1) & indexMask(words[offsets.cqb >>> 2]!);
    return true;
  }

  #stop(error: number): false {
    this.#fencing = false;
    this.#registers.words[offsets.cqcsr >>> 2]! |= error;
    this.#interrupts.updateLevels();
    return false;
  }

  #tell(command: Command | undefined, outcome: CommandOutcome): void {
    const first = this.#words[0]!;
    this.#trace.tellLater('iommu.command', () => {
      const operands: string[] = [];
      for (const [name, value] of Object.entries(command?.operands ?? {}) as [string, bigint][])
        if (value !== 0n && name !== 'opcode' && name !== 'func3') operands.push(`${name}=0x${value.toString(16)}`);
      return {
        unit: this.#unit,
        command: command?.name ?? `0x${first.toString(16)}`,
        operands: operands.join(' '),
        outcome,
      };
    });
  }

  /** Undefined: the command stays at cqh until something completes. 'timeout' is only a fence's. */
  #execute(command: Command): CommandOutcome | undefined {
    if (command.name === 'IOFENCE.C') return this.#fence(command);
    if (command.name !== 'ATS.INVAL') return this.#settle(this.#backEnd.execute(command, 0));
    const itag = this.#outstanding.indexOf(undefined);
    if (itag < 0) return undefined;
    const { operands } = command;
    this.#outstanding[itag] = {
      rid: Number(operands.RID),
      segment: operands.DSV ? Number(operands.DSEG) : undefined,
      completions: 0,
    };
    const outcome = this.#backEnd.execute(command, itag);
    if (outcome === 'waiting') return 'done';
    this.#outstanding[itag] = undefined;
    return this.#settle(outcome);
  }

  /** A timeout is only reported by the next fence (§3.1.4). */
  #settle(outcome: CommandOutcome): CommandOutcome {
    if (outcome !== 'timeout') return outcome;
    this.#timedOut = true;
    return 'done';
  }

  #fence(command: Command): CommandOutcome | undefined {
    const { operands } = command;
    this.#fencing = this.#outstanding.some((o) => o !== undefined);
    if (this.#fencing) return undefined;
    if (this.#timedOut) {
      this.#timedOut = false;
      return 'timeout';
    }
    const outcome = this.#backEnd.execute(command, 0);
    if (outcome !== 'done') return outcome;
    if (operands.AV && this.#memory.store32(operands.ADDR << 2n, Number(operands.DATA)) !== access.ok)
      return 'memory-fault';
    if (operands.WSI) {
      this.#registers.words[offsets.cqcsr >>> 2]! |= fence_w_ip;
      this.#interrupts.updateLevels();
    }
    return 'done';
  }

  /**
   * An Invalidate Completion of a device arrived (PCIe ATS): `count` is its completion count, 0 standing for 8.
   * False when it matches no outstanding request: an Unexpected Completion.
   */
  completed(rid: number, segment: number | undefined, itagVector: number, count: number): boolean {
    for (let itag = 0; itag < tags; itag++) {
      if (!((itagVector >>> itag) & 1)) continue;
      const one = this.#outstanding[itag];
      if (!one || one.rid !== rid || (one.segment !== undefined && one.segment !== segment)) return false;
      one.completions++;
      if ((one.completions & 7) === (count & 7)) this.#outstanding[itag] = undefined;
    }
    this.run();
    return true;
  }

  /** The protocol's timer ran out for these requests. */
  timedOut(itagVector: number): void {
    for (let itag = 0; itag < tags; itag++) if ((itagVector >>> itag) & 1) this.#outstanding[itag] = undefined;
    this.#timedOut = true;
    this.run();
  }
}
