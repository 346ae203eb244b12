/**
 * The run loop: one function that holds every instruction's handler and dispatches on predecoded slots through one
 * branch table. Registers live in memory, the slot pointer and the budget in locals.
 */
import { type Accesses, width, type Width } from './access.ts';
import { access, tlbIndex } from './address-space.ts';
import { type EngineImports } from './imports.ts';
import { firstTranslation, slot, slotsPerPage, tlbBytes } from './layout.ts';
import type { EngineState } from './state.ts';
import { fastLoad, fastStore, isMisaligned, type Tier } from './tier.ts';
import { continues, regionType } from './region.ts';
import type { FunctionReference, I32, I64, Label, Local, Locals, Statement } from './wasm.ts';
import type { ModuleBuilder } from './wasm-module.ts';
import {
  after,
  block,
  br,
  brTable,
  call,
  callIndirect,
  choose,
  i32,
  i64,
  label,
  loop,
  ret,
  unreachable,
  when,
} from './wasm.ts';

type Returns<T> = FunctionReference & { result: T };

/** What the instruction set gives the run loop. */
export interface Supervision {
  /** Looks up: interrupts, timers, budget; sets `left` anew. Not 0 = leave `run` with this reason. */
  readonly boundary: Returns<'i32'>;
  /** Takes the trap that `fault` announced; `state.pc` is the instruction's. */
  readonly raise: Returns<'void'>;
}

/** Handlers 0 and up to `firstHandler` belong to the engine. */
export const engineHandlers = { undecoded: 0, crossing: 1, pageEnd: 2, translated: 3 } as const;
export const firstHandler = 4;

const k = i32.const;

/** What a handler is written in terms of. */
export class Execution implements Tier {
  readonly inlines = false;
  readonly locals: Locals;
  readonly #state: EngineState;
  readonly #accesses: Accesses;
  readonly ip: Local<'i32'>;
  readonly left: Local<'i32'>;
  readonly bank: Local<'i32'>;
  readonly pageIp: Local<'i32'>;
  readonly pcPage: Local<'i64'>;
  readonly target: Local<'i64'>;
  readonly handler: Local<'i32'>;
  readonly labels: Readonly<
    Record<'arrive' | 'next' | 'dispatch' | 'far' | 'farRelative' | 'trap' | 'boundary' | 'enter', Label>
  >;

  constructor(locals: Locals, state: EngineState, accesses: Accesses) {
    this.locals = locals;
    this.#state = state;
    this.#accesses = accesses;
    this.ip = locals.local('i32');
    this.left = locals.local('i32');
    this.bank = locals.local('i32');
    this.pageIp = locals.local('i32');
    this.handler = locals.local('i32');
    this.pcPage = locals.local('i64');
    this.target = locals.local('i64');
    this.labels = {
      arrive: label('arrive'),
      next: label('next'),
      dispatch: label('dispatch'),
      far: label('far'),
      farRelative: label('farRelative'),
      trap: label('trap'),
      boundary: label('boundary'),
      enter: label('enter'),
    };
  }

  /** An operand of the slot. */
  field(name: 'a' | 'b' | 'c'): I32 {
    return i32.load16u(this.ip.get, slot[name]);
  }
  get imm(): I32 {
    return i32.load(this.ip.get, slot.imm);
  }
  /** Address of the instruction. */
  get pc(): I64 {
    return i64.add(this.pcPage.get, i64.extendU(i32.shrU(i32.sub(this.ip.get, this.pageIp.get), k(3))));
  }
  /** To the instruction behind this one. */
  advance(bytes: number): Statement {
    return [this.ip.set(i32.add(this.ip.get, k(bytes * 8))), br(this.labels.next)];
  }
  /** To any address. */
  jump(target: I64): Statement {
    return [this.target.set(target), br(this.labels.far)];
  }
  /** By the slot's immediate, which is eight times the distance in bytes. */
  jumpRelative(): Statement {
    return this.locals.scope(() => {
      const to = this.locals.local('i32');
      return [
        to.set(i32.add(this.ip.get, this.imm)),
        when(i32.geU(i32.sub(to.get, this.pageIp.get), k(slotsPerPage * slot.bytes)), br(this.labels.farRelative)),
        this.ip.set(to.get),
        br(this.labels.arrive),
      ];
    });
  }
  raise(announce: Statement): Statement {
    return [announce, br(this.labels.trap)];
  }

  /** Around a call that may look at the count of instructions, end the slice, change the access rights, or fault. */
  outside(statement: Statement): Statement {
    return [
      this.#state.left.set(this.left.get),
      statement,
      this.left.set(this.#state.left.get),
      this.bank.set(this.#state.bank.get),
      when(this.#state.fault.get, br(this.labels.trap)),
    ];
  }
  /** The slice ends behind this instruction, which has set `state.pc` itself. */
  reenter(): Statement {
    return [this.#state.left.set(this.left.get), br(this.labels.enter)];
  }

  load(kind: Width, address: I64): I64 {
    return this.locals.scope(() => {
      const [at, value] = [this.locals.local('i64'), this.locals.local('i64')];
      const entry = this.locals.local('i32');
      return after(
        [at.set(address), entry.set(i32.add(this.bank.get, tlbIndex(at.get)))],
        choose(
          'i64',
          i64.eq(i64.load(entry.get), i64.and(at.get, i64.const(-4096 | ((1 << (width[kind] & 3)) - 1)))),
          fastLoad[kind](i32.add(i32.wrap(at.get), i32.load(entry.get, 8))),
          after([this.outside(value.set(call(this.#accesses.loadSlow, at.get, k(width[kind]))))], value.get),
        ),
      );
    });
  }

  ramAddress(kind: 'read' | 'write', bytes: 4 | 8, address: I64, misaligned: (address: I64) => Statement): I32 {
    return this.locals.scope(() => {
      const at = this.locals.local('i64');
      const [entry, host] = [this.locals.local('i32'), this.locals.local('i32')];
      const tlb = kind === 'write' ? tlbBytes : 0;
      return after(
        [
          at.set(address),
          entry.set(i32.add(this.bank.get, tlbIndex(at.get))),
          when(
            i64.eq(i64.load(entry.get, tlb), i64.and(at.get, i64.const(-4096 | (bytes - 1)))),
            host.set(i32.add(i32.wrap(at.get), i32.load(entry.get, tlb + 8))),
            [
              when(isMisaligned(at.get, bytes), misaligned(at.get)),
              this.outside([
                kind === 'write' ? this.#state.pc.set(this.pc) : [],
                host.set(call(this.#accesses.ramAddress, at.get, k(access[kind]))),
              ]),
            ],
          ),
        ],
        host.get,
      );
    });
  }

  store(kind: Width, address: I64, value: I64): Statement {
    return this.locals.scope(() => {
      const at = this.locals.local('i64');
      const entry = this.locals.local('i32');
      return [
        at.set(address),
        entry.set(i32.add(this.bank.get, tlbIndex(at.get))),
        when(
          i64.eq(i64.load(entry.get, tlbBytes), i64.and(at.get, i64.const(-4096 | ((1 << width[kind]) - 1)))),
          fastStore(kind, i32.add(i32.wrap(at.get), i32.load(entry.get, tlbBytes + 8)), value),
          this.outside([
            // Who is told of a store asks for it.
            this.#state.pc.set(this.pc),
            call(this.#accesses.storeSlow, at.get, value, k(width[kind])),
          ]),
        ),
      ];
    });
  }
}

/** How often a jump leads to an instruction before it is told to `imports.hot`; 0 = none is. */
export interface Heating {
  readonly threshold: number;
}

/** Emits `run(budget) → reason`; `handlers[i]` is reached through index `firstHandler + i`. */
export const emitRun = (
  module: ModuleBuilder,
  state: EngineState,
  accesses: Accesses,
  imports: EngineImports,
  supervision: Supervision,
  handlers: readonly ((execution: Execution) => Statement)[],
  { threshold }: Heating,
): void => {
  module.function(
    'run',
    ['i32'],
    'i32',
    (locals) => {
      const x = new Execution(locals, state, accesses);
      const { arrive, next, dispatch, far, farRelative, trap, boundary, enter } = x.labels;
      const resume = label('resume');
      const heat = locals.local('i32');
      const arrived: Statement =
        threshold === 0
          ? []
          : [
              heat.set(i32.load16u(x.ip.get, slot.heat)),
              when(i32.leU(heat.get, k(threshold)), [
                i32.store16(x.ip.get, i32.add(heat.get, k(1)), slot.heat),
                when(i32.eq(heat.get, k(threshold)), [state.pcPage.set(x.pcPage.get), call(imports.hot, x.ip.get)]),
              ]),
            ];
      const fetched: Statement = [
        x.ip.set(call(accesses.fetch)),
        when(state.fault.get, [call(supervision.raise), br(enter)]),
        x.left.set(state.left.get),
        x.bank.set(state.bank.get),
        x.pageIp.set(state.pageIp.get),
        x.pcPage.set(state.pcPage.get),
      ];
      /** The translation runs; where it can do nothing with the next instruction, that one is interpreted. */
      const retired = i64.sub(state.sliceEnd.get, i64.extendU(state.left.get));
      const translated: Statement = [
        state.left.set(i32.add(x.left.get, k(1))),
        state.translated.set(i64.sub(state.translated.get, retired)),
        heat.set(
          callIndirect(regionType, i32.sub(i32.load16u(x.ip.get, slot.heat), k(firstTranslation)), x.pcPage.get),
        ),
        state.translated.set(i64.add(state.translated.get, retired)),
        when(state.fault.get, [call(supervision.raise), br(enter)]),
        when(i32.or(i32.eq(heat.get, k(continues)), i32.eqz(state.left.get)), br(enter)),
        fetched,
        x.left.set(i32.sub(x.left.get, k(1))),
        x.handler.set(i32.load16u(x.ip.get)),
        when(i32.eq(x.handler.get, k(engineHandlers.translated)), x.handler.set(i32.load16u(x.ip.get, slot.real))),
        br(dispatch),
      ];
      const reason = locals.local('i32');
      const entry = locals.local('i32');

      const own: Statement[] = [
        // undecoded
        [call(imports.decode, x.ip.get), x.handler.set(i32.load16u(x.ip.get)), br(dispatch)],
        // crossing
        [state.pcPage.set(x.pcPage.get), x.outside(x.handler.set(call(accesses.crossing, x.ip.get))), br(dispatch)],
        // page end: nothing was executed
        [x.left.set(i32.add(x.left.get, k(1))), x.jump(x.pc)],
        threshold === 0 ? unreachable : translated,
      ];
      const bodies = [...own, ...handlers.map((handler) => locals.scope(() => handler(x)))];
      const labels = bodies.map((_, i) => label(`handler ${i}`));
      let dispatched: Statement = brTable(labels, x.handler.get);
      bodies.forEach((body, i) => {
        dispatched = [block(labels[i]!, dispatched), body];
      });

      const entered: Statement = [
        when(i32.eqz(state.left.get), [reason.set(call(supervision.boundary)), when(reason.get, ret(reason.get))]),
        fetched,
      ];
      const executing: Statement = loop(
        arrive,
        arrived,
        loop(
          next,
          when(i32.eqz(x.left.get), br(boundary)),
          x.left.set(i32.sub(x.left.get, k(1))),
          x.handler.set(i32.load16u(x.ip.get)),
          loop(dispatch, dispatched),
        ),
      );
      const jumped: Statement = [
        entry.set(i32.add(state.fetchBank.get, tlbIndex(x.target.get))),
        when(i64.eq(i64.load(entry.get), i64.and(x.target.get, i64.const(-4096))), [
          x.pageIp.set(i32.load(entry.get, 8)),
          x.pcPage.set(i64.and(x.target.get, i64.const(-4096))),
          x.ip.set(i32.add(x.pageIp.get, i32.shl(i32.and(i32.wrap(x.target.get), k(4094)), k(3)))),
          br(resume),
        ]),
        state.pc.set(x.target.get),
        state.left.set(x.left.get),
        br(enter),
      ];
      return [
        state.sliceEnd.set(i64.sub(state.sliceEnd.get, i64.extendU(state.left.get))),
        state.left.set(k(0)),
        state.foreignWrites.set(k(1)),
        state.runEnd.set(i64.add(state.sliceEnd.get, i64.extendU(locals.param('i32', 0).get))),
        loop(
          enter,
          entered,
          loop(
            resume,
            block(
              boundary,
              block(
                trap,
                block(
                  far,
                  block(farRelative, executing),
                  x.target.set(i64.add(x.pc, i64.extendS(i32.shrS(x.imm, k(3))))),
                ),
                jumped,
              ),
              // A trap does not retire.
              state.pc.set(x.pc),
              state.left.set(i32.add(x.left.get, k(1))),
              call(supervision.raise),
              br(enter),
            ),
            state.pc.set(x.pc),
            state.left.set(k(0)),
            br(enter),
          ),
        ),
        unreachable,
      ];
    },
    true,
  );
};
