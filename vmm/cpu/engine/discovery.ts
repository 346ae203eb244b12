/**
 * Which instructions make a region: from an entry along every branch that has been taken before, into short callees
 * and back, as a graph of basic blocks. Addresses are offsets from the start of the entry's page, so that a region
 * serves wherever its pages are mapped at the same distances.
 */
import { pageBytes } from '#vmm/base/address';
import { engineHandlers } from './interpreter.ts';
import { slot } from './layout.ts';
import type { Operands } from './template.ts';
import type { InstructionSet, Translation } from './translation.ts';

export interface Instruction {
  readonly offset: number;
  readonly operands: Operands;
  readonly translation: Translation;
}
/** Where control goes on: at a block of the region, or out of it. */
export interface Edge {
  readonly offset: number;
  readonly block: Block | undefined;
}
export interface Block {
  readonly offset: number;
  readonly instructions: Instruction[];
  /** How the last instruction leaves; 'interpret': what comes next is not for the translator. */
  flow: Translation['flow'] | 'interpret';
  taken: Edge | undefined;
  next: Edge | undefined;
}
export interface Discovered {
  readonly entry: Block;
  /** Code pages by distance from the entry's page, in pages; 0 = the entry's own. */
  readonly pages: ReadonlyMap<number, number>;
  readonly instructions: number;
}

/**
 * How much a region may hold, in instructions; from `own` on, code that jumps lead to so often that it becomes a region
 * of its own is left to that. Then how long callees are that are followed, calls within calls, and pages.
 */
const limits = { region: 600, own: 100, callee: 60, depth: 2, pages: 8 } as const;

const isPageStart = (offset: number): boolean => offset % pageBytes === 0;

interface Context {
  readonly depth: number;
  /** Where the call that was followed comes back to. */
  readonly returnTo: number;
  readonly outer: Context | undefined;
  readonly id: number;
}

/** A place in the region, reached through certain calls. */
type Way = [number, Context];
type Lead = (offset: number, context: Context) => Way | undefined;

export interface Code {
  /** Address of the slots of a page at a distance from the entry's page, in pages; undefined = not at hand. */
  page(distance: number): number | undefined;
  /** Decodes from the slot on. */
  decode(ip: number): void;
  /** Heat from which on code becomes a region of its own. */
  readonly hot: number;
}

const nothing = {} as Instruction;

class Discovery {
  readonly #view: DataView;
  readonly #set: InstructionSet;
  readonly #code: Code;
  readonly #pages = new Map<number, number | undefined>();
  readonly #contexts: Context[] = [{ depth: 0, returnTo: 0, outer: undefined, id: 0 }];
  readonly #known = new Map<number, Instruction>();
  readonly #callees = new Map<number, boolean>();
  /** Of leaders and of instructions seen, by `#key`. */
  readonly #leaders = new Set<number>();
  readonly #seen = new Set<number>();
  readonly #ends = new Map<number, { taken: Way | undefined; next: Way | undefined }>();
  readonly #blocks = new Map<number, Block>();
  #instructions = 0;

  constructor(view: DataView, set: InstructionSet, code: Code) {
    this.#view = view;
    this.#set = set;
    this.#code = code;
  }

  #key(offset: number, context: Context): number {
    return context.id * 2 ** 24 + (offset >> 1) + 2 ** 22;
  }
  #slot(offset: number): number | undefined {
    const distance = Math.floor(offset / pageBytes);
    let at = this.#pages.get(distance);
    if (at === undefined && !this.#pages.has(distance)) {
      const usable = Math.abs(distance) < 256 && [...this.#pages.values()].filter(Boolean).length < limits.pages;
      at = usable ? this.#code.page(distance) : undefined;
      this.#pages.set(distance, at);
    }
    return at === undefined ? undefined : at + ((offset & (pageBytes - 2)) << 3);
  }
  /** What is at an offset, or undefined where the translator has no business. */
  #at(offset: number): Instruction | undefined {
    let known = this.#known.get(offset);
    if (known === undefined) {
      known = this.#read(offset) ?? nothing;
      this.#known.set(offset, known);
    }
    return known === nothing ? undefined : known;
  }
  #read(offset: number): Instruction | undefined {
    const ip = this.#slot(offset);
    if (ip === undefined) return undefined;
    const view = this.#view;
    let handler = view.getUint16(ip, true);
    if (handler === engineHandlers.undecoded) {
      this.#code.decode(ip);
      handler = view.getUint16(ip, true);
    }
    if (handler === engineHandlers.translated) handler = view.getUint16(ip + slot.real, true);
    const operands = {
      a: view.getUint16(ip + slot.a, true),
      b: view.getUint16(ip + slot.b, true),
      c: view.getUint16(ip + slot.c, true),
      imm: view.getInt32(ip + slot.imm, true),
    };
    const translation = this.#set.translation(handler, operands);
    return translation && { offset, operands, translation };
  }
  #heat(offset: number): number {
    const ip = this.#slot(offset);
    return ip === undefined ? 0 : this.#view.getUint16(ip + slot.heat, true);
  }
  /** A jump led there before. */
  #isWarm(offset: number): boolean {
    return this.#heat(offset) > 0;
  }
  #isFull(offset: number, context: Context): boolean {
    if (this.#instructions < limits.own) return false;
    return this.#instructions >= limits.region || (context.depth === 0 && this.#heat(offset) > this.#code.hot);
  }

  /** Whether all of a callee is short enough to be followed. */
  #isShort(start: number): boolean {
    const known = this.#callees.get(start);
    if (known !== undefined) return known;
    const seen = new Set<number>();
    const work = [start];
    while (work.length > 0 && seen.size <= limits.callee) {
      let offset = work.pop()!;
      while (!seen.has(offset) && seen.size <= limits.callee) {
        seen.add(offset);
        const one = this.#at(offset);
        if (!one) break;
        const { flow, bytes } = one.translation;
        const target = offset + this.#set.distance(one.operands);
        if (flow === 'branch' && this.#isWarm(target)) work.push(target);
        if (flow === 'jump' && !this.#set.calls(one.operands)) offset = target;
        else if (flow === 'indirect') break;
        else offset += bytes;
      }
    }
    const short = seen.size <= limits.callee;
    this.#callees.set(start, short);
    return short;
  }

  #callee(from: Instruction, target: number, context: Context): Context | undefined {
    const returnTo = from.offset + from.translation.bytes;
    if (context.depth >= limits.depth || !this.#isShort(target)) return undefined;
    const made = { depth: context.depth + 1, returnTo, outer: context, id: this.#contexts.length };
    this.#contexts.push(made);
    return made;
  }

  /** Where an indirect jump leads as a rule. */
  #foreseen(one: Instruction, before: Instruction | undefined, context: Context, lead: Lead): Way | undefined {
    const { outer, returnTo } = context;
    if (one.translation.returns) return outer && lead(returnTo, outer);
    const from = before && this.#set.target(before.operands, before.translation, one.operands);
    if (from === undefined) return undefined;
    const target = before!.offset + from;
    const inner = this.#set.calls(one.operands) ? this.#callee(one, target, context) : context;
    return inner && lead(target, inner);
  }

  /** Instructions in the order of discovery, and how blocks end. */
  #explore(entry: number): void {
    const work: Way[] = [[entry, this.#contexts[0]!]];
    this.#leaders.add(this.#key(entry, this.#contexts[0]!));
    const lead: Lead = (offset, context) => {
      const key = this.#key(offset, context);
      if (!this.#leaders.has(key)) {
        if (!this.#seen.has(key) && (this.#isFull(offset, context) || !this.#at(offset))) return undefined;
        this.#leaders.add(key);
        if (!this.#seen.has(key)) work.push([offset, context]);
      }
      return [offset, context];
    };
    while (work.length > 0) {
      const [start, context] = work.shift()!;
      let before: Instruction | undefined;
      for (let offset = start; ;) {
        const key = this.#key(offset, context);
        if (this.#seen.has(key)) break;
        const one = this.#at(offset);
        if (!one) break;
        this.#seen.add(key);
        this.#instructions++;
        const { flow, bytes } = one.translation;
        const behind = offset + bytes;
        if (flow === 'next') {
          // The next page may be another one next time: a block of its own begins there.
          if (isPageStart(behind)) lead(behind, context);
          if (isPageStart(behind) || this.#isFull(behind, context)) break;
          offset = behind;
          before = one;
          continue;
        }
        const target = offset + this.#set.distance(one.operands);
        if (flow === 'branch') {
          const next = lead(behind, context);
          this.#ends.set(key, { next, taken: this.#isWarm(target) ? lead(target, context) : undefined });
        } else if (flow === 'jump') {
          const inner = this.#set.calls(one.operands) ? this.#callee(one, target, context) : context;
          this.#ends.set(key, { next: undefined, taken: inner && lead(target, inner) });
        } else {
          this.#ends.set(key, { next: undefined, taken: this.#foreseen(one, before, context, lead) });
        }
        break;
      }
    }
  }

  #block(offset: number, context: Context): Block {
    const key = this.#key(offset, context);
    const known = this.#blocks.get(key);
    if (known) return known;
    const block: Block = { offset, instructions: [], flow: 'next', taken: undefined, next: undefined };
    this.#blocks.set(key, block);
    const edge = (to: Way | undefined, otherwise: number): Edge =>
      to ? { offset: to[0], block: this.#block(...to) } : { offset: otherwise, block: undefined };
    for (let at = offset; ;) {
      const here = this.#key(at, context);
      if (at !== offset && this.#leaders.has(here)) {
        block.next = edge([at, context], at);
        return block;
      }
      const one = this.#seen.has(here) ? this.#at(at) : undefined;
      if (!one) {
        block.flow = isPageStart(at) || this.#at(at) ? 'next' : 'interpret';
        block.next = { offset: at, block: undefined };
        return block;
      }
      block.instructions.push(one);
      const { flow, bytes } = one.translation;
      at += bytes;
      if (flow === 'next') continue;
      const end = this.#ends.get(here);
      block.flow = flow;
      if (flow === 'branch') block.next = edge(end?.next, at);
      if (flow !== 'indirect') block.taken = edge(end?.taken, one.offset + this.#set.distance(one.operands));
      else if (end?.taken) block.taken = edge(end.taken, 0);
      return block;
    }
  }

  run(entry: number): Discovered | undefined {
    if (!this.#at(entry)) return undefined;
    this.#explore(entry);
    const block = this.#block(entry, this.#contexts[0]!);
    const pages = new Map<number, number>();
    for (const [distance, at] of this.#pages) if (at !== undefined) pages.set(distance, at);
    return { entry: block, pages, instructions: this.#instructions };
  }
}

/** The region that begins `entry` bytes into its page; undefined where it would be empty. */
export const discover = (view: DataView, set: InstructionSet, code: Code, entry: number): Discovered | undefined =>
  new Discovery(view, set, code).run(entry);
