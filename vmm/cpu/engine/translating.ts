/**
 * The translator's side of an instruction's meaning: templates (template.ts) over the locals of a region. A memory
 * access becomes a look-up in the software TLB with the whole instruction behind it twice, once with the access in
 * RAM and once with the slow path, so that only the latter has to look whether the slice ended.
 */
import { invariant } from '#vmm/base/invariant';
import { type Accesses, width, type Width } from './access.ts';
import { access, tlbIndex } from './address-space.ts';
import { tlbBytes } from './layout.ts';
import { interprets } from './region.ts';
import type { EngineState } from './state.ts';
import { hole, Template } from './template.ts';
import { fastLoad, fastStore, isMisaligned, type Tier } from './tier.ts';
import type { I32, I64, Statement } from './wasm.ts';
import { after, br, brIf, call, i32, i64, label, Local, Locals, type ValueType, when } from './wasm.ts';

const scratch = { i64: 8, i32: 6 } as const;
/** Locals of every region: the parameter, then 64-bit ones, then 32-bit ones, then registers. */
const fixed: readonly ValueType[] = ['i64', 'i64', 'i32', 'i32', 'i32', 'i32'];
const types: readonly ValueType[] = [
  ...(['i64', 'i64'] as const),
  ...Array.from({ length: scratch.i64 }, () => 'i64' as const),
  ...(['i32', 'i32', 'i32', 'i32'] as const),
  ...Array.from({ length: scratch.i32 }, () => 'i32' as const),
];
invariant(types.length === fixed.length + scratch.i64 + scratch.i32, 'the locals of a region');
const at = { page: 0, exitPc: 1, hart: 2 + scratch.i64 } as const;

export const regionLocals = {
  /** Virtual address of the page in which the region begins. */
  page: new Local('i64', at.page),
  /** Where to go on behind the region. */
  exitPc: new Local('i64', at.exitPc),
  /** Where the hart's state begins. */
  hart: new Local('i32', at.hart),
  /** Instructions left of the slice, behind the present block. */
  left: new Local('i32', at.hart + 1),
  bank: new Local('i32', at.hart + 2),
  /** What the region returns, or `chains`. */
  outcome: new Local('i32', at.hart + 3),
  /** 64-bit ones but for the parameter, and 32-bit ones. */
  counts: [1 + scratch.i64, 4 + scratch.i32],
  firstRegister: types.length,
} as const;
/** The outcome of a region that goes on at `exitPc` in whatever translation is there. */
export const chains = 2;
/** Leaves the region: registers go back to memory. */
export const exit = label('exit');
/** The same when the instruction at `state.pc` faulted, and when the slice ended behind it, by its length. */
export const faulted = label('faulted');
export const ended = { 2: label('ended 2'), 4: label('ended 4') } as const;

const k = i32.const;
const { page, exitPc, left, bank, outcome } = regionLocals;

/** Address of the instruction behind the present one. */
export const nextPc: I64 = i64.add(page.get, hole.offset('next'));

interface Access {
  readonly address: I64;
  readonly mask: number;
  readonly tlb: number;
}

class Translating implements Tier {
  readonly inlines = true;
  readonly locals: Locals;
  readonly #state: EngineState;
  readonly #accesses: Accesses;
  readonly #slow: boolean;
  readonly #virtual: Local<'i64'>;
  readonly #host: Local<'i32'>;
  access: Access | undefined;
  /** The slice may have ended. */
  isOutside = false;

  constructor(
    locals: Locals,
    state: EngineState,
    accesses: Accesses,
    slow: boolean,
    virtual: Local<'i64'>,
    host: Local<'i32'>,
  ) {
    this.locals = locals;
    this.#state = state;
    this.#accesses = accesses;
    this.#slow = slow;
    this.#virtual = virtual;
    this.#host = host;
  }

  get pc(): I64 {
    return i64.add(page.get, hole.offset('this'));
  }
  jump(target: I64): Statement {
    return [exitPc.set(target), hole.flow()];
  }
  jumpRelative(): Statement {
    return hole.flow();
  }
  outside(statement: Statement): Statement {
    return [this.#state.left.set(this.#leftBehind), this.#state.pc.set(this.pc), this.#outside(statement)];
  }
  get #leftBehind(): I32 {
    return i32.add(left.get, hole.behind(false));
  }
  #outside(statement: Statement): Statement {
    this.isOutside = true;
    return [statement, brIf(faulted, this.#state.fault.get)];
  }
  raise(): Statement {
    // Nothing has been done yet: the interpreter finds the same reason.
    return [exitPc.set(this.pc), left.set(i32.add(left.get, hole.behind(true))), outcome.set(k(interprets)), br(exit)];
  }
  #noted(kind: 'read' | 'write', address: I64, bytes: number): void {
    invariant(!this.access, 'two accesses in one instruction');
    this.access = { address, mask: -4096 | (bytes - 1), tlb: kind === 'write' ? tlbBytes : 0 };
  }
  load(kind: Width, address: I64): I64 {
    if (!this.#slow) {
      this.#noted('read', address, 1 << (width[kind] & 3));
      return fastLoad[kind](this.#host.get);
    }
    const value = this.locals.local('i64');
    return after(
      [
        this.#outside(
          value.set(call(this.#accesses.regionLoad, this.#virtual.get, k(width[kind]), this.#leftBehind, this.pc)),
        ),
      ],
      value.get,
    );
  }
  store(kind: Width, address: I64, value: I64): Statement {
    if (!this.#slow) {
      this.#noted('write', address, 1 << width[kind]);
      return fastStore(kind, this.#host.get, value);
    }
    const { regionStore } = this.#accesses;
    return this.#outside(call(regionStore, this.#virtual.get, value, k(width[kind]), this.#leftBehind, this.pc));
  }
  ramAddress(kind: 'read' | 'write', bytes: 4 | 8, address: I64, misaligned: (address: I64) => Statement): I32 {
    if (!this.#slow) {
      this.#noted(kind, address, bytes);
      return this.#host.get;
    }
    return after(
      [
        when(isMisaligned(this.#virtual.get, bytes), misaligned(this.#virtual.get)),
        this.#outside(
          this.#host.set(
            call(this.#accesses.regionAddress, this.#virtual.get, k(access[kind]), this.#leftBehind, this.pc),
          ),
        ),
      ],
      this.#host.get,
    );
  }
}

/** The template of an instruction whose meaning `build` says; it is asked twice where there is an access to memory. */
export const translate = (
  state: EngineState,
  accesses: Accesses,
  bytes: 2 | 4,
  build: (tier: Tier) => Statement,
): Template => {
  const locals = (): Locals => {
    // Lent from the last backwards: parameters and named locals come before the scratch of their type.
    const all = new Locals(types);
    all.lend(at.exitPc + 1, scratch.i64, 'i64');
    all.lend(regionLocals.outcome.index + 1, scratch.i32, 'i32');
    return all;
  };
  const outer = locals();
  const [virtual, entry, host] = [outer.local('i64'), outer.local('i32'), outer.local('i32')];
  const { fast, slow } = outer.scope(() => {
    const one = (isSlow: boolean): { tier: Translating; code: Statement } => {
      const tier = new Translating(outer, state, accesses, isSlow, virtual, host);
      const code = outer.scope(() => build(tier));
      // What ended the slice did so behind this instruction.
      return { tier, code: tier.isOutside ? [code, brIf(ended[bytes], i32.eqz(state.left.get))] : code };
    };
    return { fast: one(false), slow: one(true) };
  });
  invariant(!outer.hasGrown, 'an instruction needs more scratch locals');
  const { access: seen } = fast.tier;
  if (!seen) return new Template(fast.code);
  return new Template([
    virtual.set(seen.address),
    entry.set(i32.add(bank.get, tlbIndex(virtual.get))),
    when(
      i64.eq(i64.load(entry.get, seen.tlb), i64.and(virtual.get, i64.const(seen.mask))),
      [host.set(i32.add(i32.wrap(virtual.get), i32.load(entry.get, seen.tlb + 8))), fast.code],
      slow.code,
    ),
  ]);
};
