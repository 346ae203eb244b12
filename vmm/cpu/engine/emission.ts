/**
 * A region as the body of one function: blocks nested by dominance, so that every branch is a structured one (Ramsey,
 * "Beyond Relooper"). Registers are in locals between the entry and the one exit. The count of instructions is looked
 * at on entry and at loop heads, for the longest way to the next such place: a slice never ends inside.
 */
import { pageBytes } from '#vmm/base/address';
import { tlbIndex } from './access.ts';
import type { CodeBuffer } from './code-buffer.ts';
import type { Block, Discovered, Edge } from './discovery.ts';
import { dominates, flowGraph, type Node } from './flow-graph.ts';
import { continues, interprets } from './region.ts';
import type { EngineState } from './state.ts';
import { Template, type Filler } from './template.ts';
import { chains, exit, regionLocals } from './translating.ts';
import type { InstructionSet } from './translation.ts';
import type { FunctionReference, Label, Statement } from './wasm.ts';
import { br, globalGet, i32, i64, Local, ret, returnCall, when } from './wasm.ts';

const { page, exitPc, hart, left, bank, outcome, counts, firstRegister } = regionLocals;
const k = i32.const;
const voidType = 0x40;
const opcode = { unreachable: 0x00, block: 0x02, loop: 0x03, when: 0x04, end: 0x0b, br: 0x0c, i64Load: 0x29, i64Store: 0x37, localGet: 0x20, localSet: 0x21 } as const; // prettier-ignore

/** A label that is open: of a node's loop, of the block before a node, or something else. */
type Open = Node | Label | undefined;

/** The fixed pieces of every region, made once for an instruction set. */
export class Emission {
  readonly #set: InstructionSet;
  readonly #state: EngineState;
  readonly #start: Template;
  readonly #enter: Template;

  constructor(set: InstructionSet, state: EngineState) {
    this.#set = set;
    this.#state = state;
    this.#start = new Template([hart.set(globalGet('i32', 0)), left.set(state.left.get)]);
    this.#enter = new Template([bank.set(state.bank.get)]);
  }

  /** Appends the body of the function, locals first. `imported` gives the index of a function of the module. */
  emit(region: Discovered, out: CodeBuffer, imported: (callee: FunctionReference) => number): void {
    new Emitter(this.#set, this.#state, region, out, imported).run(this.#start, this.#enter);
  }
}

class Emitter implements Filler {
  readonly out: CodeBuffer;
  readonly #set: InstructionSet;
  readonly #state: EngineState;
  readonly #region: Discovered;
  readonly imported: (callee: FunctionReference) => number;
  readonly #nodes: readonly Node[];
  readonly #of = new Map<Block, Node>();
  readonly #locals = new Map<number, number>();
  readonly #written = new Set<number>();
  readonly #open: Open[] = [];
  #flow: ((depth: number) => void) | undefined;

  constructor(
    set: InstructionSet,
    state: EngineState,
    region: Discovered,
    out: CodeBuffer,
    imported: (callee: FunctionReference) => number,
  ) {
    this.#set = set;
    this.#state = state;
    this.#region = region;
    this.out = out;
    this.imported = imported;
    this.#nodes = flowGraph(region.entry);
    const reads = new Set<number>();
    for (const node of this.#nodes) {
      this.#of.set(node.block, node);
      for (const { operands, translation } of node.block.instructions)
        translation.template.registers(operands, reads, this.#written);
    }
    // What is stored at the exit must have been loaded: not every way writes it.
    for (const register of new Set([...reads, ...this.#written]))
      this.#locals.set(register, firstRegister + this.#locals.size);
  }

  local(register: number): number {
    return this.#locals.get(register)!;
  }
  distance(target: Open): number {
    return this.#open.length - 1 - this.#open.lastIndexOf(target);
  }
  flow(depth: number): void {
    this.#flow!(depth);
  }
  /** Code without operands. */
  #code(statement: Statement): void {
    new Template(statement).fill(this, nowhere);
  }

  run(start: Template, enter: Template): void {
    const { out } = this;
    out.unsigned(3);
    out.two(counts[0]!, 0x7e);
    out.two(counts[1]!, 0x7f);
    out.unsigned(this.#locals.size);
    out.byte(0x7e);
    start.fill(this, nowhere);
    const entry = this.#nodes[0]!;
    const tooLittle = i32.ltS(left.get, k(entry.longest));
    const { offset } = this.#region.entry;
    this.#code(when(tooLittle, [this.#state.pc.set(i64.add(page.get, i64.const(offset))), ret(k(interprets))]));
    enter.fill(this, nowhere);
    for (const [register, local] of this.#locals) {
      out.two(opcode.localGet, hart.index);
      out.two(opcode.i64Load, 3);
      out.unsigned(this.#set.registerAddress(register));
      out.byte(opcode.localSet);
      out.unsigned(local);
    }
    out.two(opcode.block, voidType);
    this.#open.push(exit);
    this.#tree(entry);
    this.#open.pop();
    out.two(opcode.unreachable, opcode.end);
    for (const register of this.#written) {
      out.two(opcode.localGet, hart.index);
      out.byte(opcode.localGet);
      out.unsigned(this.local(register));
      out.two(opcode.i64Store, 3);
      out.unsigned(this.#set.registerAddress(register));
    }
    this.#code([
      this.#state.left.set(left.get),
      when(i32.eq(outcome.get, k(chains)), returnCall(this.#set.chain, exitPc.get)),
      this.#state.pc.set(exitPc.get),
      outcome.get,
    ]);
    out.byte(opcode.end);
  }

  /** A node, and behind it all that it dominates. */
  #tree(node: Node): void {
    const merges = node.children.filter((child) => child.isMerge).sort((a, b) => b.order - a.order);
    if (!node.isLoop) {
      this.#within(node, merges);
      return;
    }
    this.out.two(opcode.loop, voidType);
    this.#open.push(node);
    const short = i32.ltS(left.get, k(node.longest));
    this.#code(when(short, [exitPc.set(i64.add(page.get, i64.const(node.block.offset))), outcome.set(k(interprets)), br(exit)])); // prettier-ignore
    this.#within(node, merges);
    this.#open.pop();
    this.out.two(opcode.end, opcode.unreachable);
  }
  #within(node: Node, merges: readonly Node[]): void {
    const [last, ...before] = merges;
    if (!last) {
      this.#block(node);
      return;
    }
    this.out.two(opcode.block, voidType);
    this.#open.push(last);
    this.#within(node, before);
    this.#open.pop();
    this.out.byte(opcode.end);
    this.#tree(last);
  }

  #block(node: Node): void {
    const { instructions, flow, taken, next } = node.block;
    const count = instructions.length;
    if (count > 0) this.#code(left.set(i32.sub(left.get, k(count))));
    this.#flow = undefined;
    instructions.forEach(({ offset, operands, translation }, i) => {
      if (i === count - 1) this.#flow = (depth) => this.#leave(node, depth);
      const behind = count - 1 - i;
      translation.template.fill(this, { operands, offset, bytes: translation.bytes, behind });
    });
    if (flow === 'interpret') this.#exitTo(next!.offset, interprets);
    else if (flow === 'next' || flow === 'branch') this.#go(node, next!);
    else if (flow === 'indirect' && !taken) return;
  }
  /** Where the template of a block's last instruction says that control goes on elsewhere. */
  #leave(node: Node, depth: number): void {
    const { flow, taken } = node.block;
    for (let i = 0; i < depth; i++) this.#open.push(undefined);
    if (flow !== 'indirect') this.#go(node, taken!);
    else {
      if (taken) {
        // A return to where the call was followed from, as a rule.
        this.#code([exitPc.get, i64.add(page.get, i64.const(taken.offset)), [0x51]]);
        this.out.two(opcode.when, voidType);
        this.#open.push(undefined);
        this.#go(node, taken);
        this.#open.pop();
        this.out.byte(opcode.end);
      }
      this.#code([outcome.set(k(chains)), br(exit)]);
    }
    for (let i = 0; i < depth; i++) this.#open.pop();
  }
  #exitTo(offset: number, how: number): void {
    this.#code([
      exitPc.set(i64.add(page.get, i64.const(offset))),
      how === continues ? [] : outcome.set(k(how)),
      br(exit),
    ]);
  }

  #go(from: Node, { offset, block }: Edge): void {
    const to = block && this.#of.get(block)!;
    if (!to || (to.order <= from.order && !dominates(to, from))) {
      this.#exitTo(offset, chains);
      return;
    }
    this.#guard(from, offset);
    if (to.order <= from.order || to.isMerge) {
      this.out.byte(opcode.br);
      this.out.unsigned(this.distance(to));
    } else this.#tree(to);
  }
  /** Leaves unless the target's page is still the one whose code was read; known of the entry's, and once found so. */
  #guard(from: Node, offset: number): void {
    const target = Math.floor(offset / pageBytes);
    const pageOf = (node: Node): number => Math.floor(node.block.offset / pageBytes);
    if (target === 0) return;
    for (let at = from; ; at = at.dominator) {
      if (pageOf(at) === target) return;
      if (at.order === 0) break;
    }
    const entry = scratchEntry;
    const address = i64.add(page.get, i64.const(target * pageBytes));
    this.#code([
      entry.set(i32.add(this.#state.fetchBank.get, tlbIndex(address))),
      when(
        i32.or(
          i64.ne(i64.load(entry.get), address),
          i32.ne(i32.load(entry.get, 8), k(this.#region.pages.get(target)!)),
        ),
        [exitPc.set(i64.add(page.get, i64.const(offset))), outcome.set(k(chains)), br(exit)],
      ),
    ]);
  }
}

/** A block that ends by running into the next page executes its last instruction on the page before. */
const nowhere = { operands: { a: 0, b: 0, c: 0, imm: 0 }, offset: 0, bytes: 0, behind: 0 } as const;
/** The first of the scratch locals: nothing else is under way at an edge. */
const scratchEntry = new Local('i32', outcome.index + 1);
