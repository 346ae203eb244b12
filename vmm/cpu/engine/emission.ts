/**
 * A region as the body of one function: blocks nested by dominance, so that every branch is a structured one (Ramsey,
 * "Beyond Relooper"). Registers are in locals between the entry and the one exit. The count of instructions is looked
 * at on entry and at loop heads, for the longest way to the next such place: a slice never ends inside.
 */
import { pageBytes } from '#vmm/base/address';
import { tlbIndex } from './address-space.ts';
import type { CodeBuffer } from './code-buffer.ts';
import type { Block, Discovered, Edge } from './discovery.ts';
import { dominates, flowGraph, type Node } from './flow-graph.ts';
import { interprets } from './region.ts';
import type { EngineState } from './state.ts';
import { type Filler, hole, type Operands, Template } from './template.ts';
import { chains, ended, exit, faulted, regionLocals } from './translating.ts';
import type { InstructionSet } from './translation.ts';
import type { FunctionReference, I64, Label, Statement } from './wasm.ts';
import { br, globalGet, i32, i64, Local, ret, returnCall, when } from './wasm.ts';

const { page, exitPc, hart, left, bank, outcome, counts, firstRegister } = regionLocals;
const k = i32.const;
const voidType = 0x40;
const opcode = { unreachable: 0x00, block: 0x02, loop: 0x03, when: 0x04, end: 0x0b, br: 0x0c, i64Load: 0x29, i64Store: 0x37, localGet: 0x20, localSet: 0x21, i64Eq: 0x51 } as const; // prettier-ignore
/** The first of the scratch locals: nothing else is under way at an edge. */
const scratch = new Local('i32', outcome.index + 1);

/** The pieces of every region that are no instructions. Their operands are numbers in `imm` and `a`. */
const piecesOf = (set: InstructionSet, state: EngineState) => {
  const here: I64 = i64.add(page.get, hole.offset('this'));
  const number = hole.i32(({ imm }) => imm);
  const leave = (how: number): Statement => [exitPc.set(here), outcome.set(k(how)), br(exit)];
  const target: I64 = i64.add(
    page.get,
    hole.i64(({ imm }) => imm),
  );
  const end = (bytes: number): Statement => [exitPc.set(i64.add(state.pc.get, i64.const(bytes))), left.set(k(0))];
  return {
    /** Returns unless there are `imm` instructions left. */
    enter: new Template([
      hart.set(globalGet('i32', 0)),
      left.set(state.left.get),
      when(i32.ltS(left.get, number), [state.pc.set(here), ret(k(interprets))]),
      bank.set(state.bank.get),
    ]),
    loop: new Template(when(i32.ltS(left.get, number), leave(interprets))),
    count: new Template(left.set(i32.sub(left.get, number))),
    chain: new Template(leave(chains)),
    interpret: new Template(leave(interprets)),
    chainOn: new Template([outcome.set(k(chains)), br(exit)]),
    isReturn: new Template([exitPc.get, here, [opcode.i64Eq, opcode.when, voidType]]),
    /** Leaves unless the page `imm` bytes on is the one with the slots at `a`. */
    guard: new Template([
      scratch.set(i32.add(state.fetchBank.get, tlbIndex(target))),
      when(
        i32.or(
          i64.ne(i64.load(scratch.get), target),
          i32.ne(
            i32.load(scratch.get, 8),
            hole.i32(({ a }) => a),
          ),
        ),
        leave(chains),
      ),
    ]),
    /** A trap does not retire. */
    faulted: new Template([exitPc.set(state.pc.get), left.set(i32.add(state.left.get, k(1)))]),
    ended2: new Template(end(2)),
    ended4: new Template(end(4)),
    leave: new Template([
      state.left.set(left.get),
      when(i32.eq(outcome.get, k(chains)), returnCall(set.chain, exitPc.get)),
      state.pc.set(exitPc.get),
      outcome.get,
    ]),
  };
};
type Pieces = ReturnType<typeof piecesOf>;

const noOperands: Operands = { a: 0, b: 0, c: 0, imm: 0 };

/** Emits regions of one instruction set. */
export class Emission {
  readonly #set: InstructionSet;
  readonly #pieces: Pieces;

  constructor(set: InstructionSet, state: EngineState) {
    this.#set = set;
    this.#pieces = piecesOf(set, state);
  }

  /** Appends the body of the function, locals first. `imported` gives the index of a function of the module. */
  emit(region: Discovered, out: CodeBuffer, imported: (callee: FunctionReference) => number): void {
    new Emitter(this.#set, this.#pieces, region, out, imported).run();
  }
}

/** A label that is open: of a node's loop or the block before a node, of an exit, or something else. */
type Open = Node | Label | undefined;

class Emitter implements Filler {
  readonly out: CodeBuffer;
  readonly #set: InstructionSet;
  readonly #pieces: Pieces;
  readonly #region: Discovered;
  readonly imported: (callee: FunctionReference) => number;
  readonly #nodes: readonly Node[];
  readonly #of = new Map<Block, Node>();
  /** By register: its local, or 0; and whether it is written. */
  readonly #locals: Uint8Array;
  readonly #written: Uint8Array;
  readonly #open: Open[] = [];
  #node: Node | undefined;

  constructor(
    set: InstructionSet,
    pieces: Pieces,
    region: Discovered,
    out: CodeBuffer,
    imported: (callee: FunctionReference) => number,
  ) {
    this.#set = set;
    this.#pieces = pieces;
    this.#region = region;
    this.out = out;
    this.imported = imported;
    this.#nodes = flowGraph(region.entry);
    this.#locals = new Uint8Array(set.registers);
    this.#written = new Uint8Array(set.registers);
    for (const node of this.#nodes) {
      this.#of.set(node.block, node);
      for (const { operands, translation } of node.block.instructions)
        translation.template.registers(operands, this.#locals, this.#written);
    }
  }

  local(register: number): number {
    return this.#locals[register]!;
  }
  distance(target: Open): number {
    return this.#open.length - 1 - this.#open.lastIndexOf(target);
  }
  #piece(name: keyof Pieces, offset = 0, imm = 0, a = 0): void {
    const operands = imm === 0 && a === 0 ? noOperands : { a, b: 0, c: 0, imm };
    this.#pieces[name].fill(this, operands, { offset, bytes: 0, behind: 0 });
  }
  #begin(kind: 'block' | 'loop', open: Open): void {
    this.out.reserve(2);
    this.out.two(opcode[kind], voidType);
    this.#open.push(open);
  }
  #end(): void {
    this.#open.pop();
    this.out.reserve(2);
    this.out.byte(opcode.end);
  }
  #unreachable(): void {
    this.out.reserve(1);
    this.out.byte(opcode.unreachable);
  }

  run(): void {
    const { out } = this;
    out.reserve(16 * this.#set.registers + 64);
    // What is stored at the exit must have been loaded: not every way writes it.
    let next = firstRegister;
    this.#locals.forEach((used, register) => {
      if (used) this.#locals[register] = next++;
    });
    out.unsigned(3);
    out.two(counts[0]!, 0x7e);
    out.two(counts[1]!, 0x7f);
    out.two(next - firstRegister, 0x7e);
    const entry = this.#nodes[0]!;
    this.#piece('enter', entry.block.offset, entry.longest);
    out.reserve(16 * this.#set.registers);
    this.#locals.forEach((local, register) => {
      if (local === 0) return;
      out.two(opcode.localGet, hart.index);
      out.two(opcode.i64Load, 3);
      out.unsigned(this.#set.registerAddress(register));
      out.two(opcode.localSet, local);
    });
    this.#begin('block', exit);
    this.#begin('block', faulted);
    this.#begin('block', ended[4]);
    this.#begin('block', ended[2]);
    this.#tree(entry);
    this.#unreachable();
    this.#end();
    this.#piece('ended2');
    this.#branch(exit);
    this.#end();
    this.#piece('ended4');
    this.#branch(exit);
    this.#end();
    this.#piece('faulted');
    this.#end();
    out.reserve(16 * this.#set.registers);
    this.#written.forEach((written, register) => {
      if (written === 0) return;
      out.two(opcode.localGet, hart.index);
      out.two(opcode.localGet, this.local(register));
      out.two(opcode.i64Store, 3);
      out.unsigned(this.#set.registerAddress(register));
    });
    this.#piece('leave');
    out.byte(opcode.end);
  }

  /** A node, and behind it all that it dominates. */
  #tree(node: Node): void {
    const merges = node.children.filter((child) => child.isMerge).sort((a, b) => a.order - b.order);
    if (!node.isLoop) {
      this.#within(node, merges);
      return;
    }
    this.#begin('loop', node);
    this.#piece('loop', node.block.offset, node.longest);
    this.#within(node, merges);
    this.#end();
    this.#unreachable();
  }
  /** The last of the merges lies outermost: ways to it lead out of all others. */
  #within(node: Node, merges: readonly Node[]): void {
    for (let i = merges.length - 1; i >= 0; i--) this.#begin('block', merges[i]);
    this.#block(node);
    for (const merge of merges) {
      this.#end();
      this.#tree(merge);
    }
  }

  #block(node: Node): void {
    const { instructions, flow, next } = node.block;
    const count = instructions.length;
    if (count > 0) this.#piece('count', 0, count);
    for (let i = 0; i < count; i++) {
      const { offset, operands, translation } = instructions[i]!;
      // Only the last one may lead elsewhere.
      this.#node = node;
      translation.template.fill(this, operands, { offset, bytes: translation.bytes, behind: count - 1 - i });
    }
    if (flow === 'interpret') this.#piece('interpret', next!.offset);
    else if (next) this.#go(node, next);
  }
  /** Where the template of a block's last instruction says that control goes on elsewhere. */
  flow(depth: number): void {
    const node = this.#node!;
    const { flow, taken } = node.block;
    for (let i = 0; i < depth; i++) this.#open.push(undefined);
    if (flow !== 'indirect') this.#go(node, taken!);
    else {
      if (taken) {
        // To where the call was followed from, as a rule.
        this.#piece('isReturn', taken.offset);
        this.#open.push(undefined);
        this.#go(node, taken);
        this.#end();
      }
      this.#piece('chainOn');
    }
    for (let i = 0; i < depth; i++) this.#open.pop();
  }

  #branch(to: Open): void {
    this.out.reserve(8);
    this.out.byte(opcode.br);
    this.out.unsigned(this.distance(to));
  }
  #go(from: Node, { offset, block }: Edge): void {
    const to = block && this.#of.get(block)!;
    if (!to || (to.order <= from.order && !dominates(to, from))) {
      this.#piece('chain', offset);
      return;
    }
    this.#guard(from, offset);
    if (to.order <= from.order || to.isMerge) this.#branch(to);
    else this.#tree(to);
  }
  /** Leaves unless the target's page is still the one whose code was read; known of the entry's, and once found so. */
  #guard(from: Node, offset: number): void {
    const target = Math.floor(offset / pageBytes);
    if (target === 0) return;
    for (let at = from; ; at = at.dominator) {
      if (Math.floor(at.block.offset / pageBytes) === target) return;
      if (at.order === 0) break;
    }
    this.#piece('guard', offset, target * pageBytes, this.#region.pages.get(target)!);
  }
}
