/** The generated module of a hart: everything that it executes, except for what is translated later. */
import { emitAccesses } from '../engine/access.ts';
import { importEngine } from '../engine/imports.ts';
import { Arena, type Cell } from '../engine/cells.ts';
import { emitRun, type Execution } from '../engine/interpreter.ts';
import { bankBytes, tlbBytes } from '../engine/layout.ts';
import { regionLocals } from '../engine/translating.ts';
import { Translator } from '../engine/translator.ts';
import { call, i32, i64 } from '../engine/wasm.ts';
import { ModuleBuilder } from '../engine/wasm-module.ts';
import { invariant } from '#vmm/base/invariant';
import { type CsrContext, emitCsrs } from './csr.ts';
import { handled } from './decoder.ts';
import { emitFloat } from './float.ts';
import type { HartGroup } from './hart.ts';
import { interpreted } from './interpreted.ts';
import type { Runtime } from './meaning.ts';
import { emitMmu } from './mmu.ts';
import { emitMulhu } from './multiply.ts';
import { emitClock, emitPrivileged, emitTopInterrupt, emitUpdateModes } from './privileged.ts';
import { causes, type HartState, hartState } from './state.ts';
import { translated } from './translated.ts';

export interface HartPlan {
  readonly group: HartGroup;
  readonly id: number;
  readonly state: HartState;
  readonly place: { readonly hart: number; readonly ramBase: number; readonly guestBase: number };
  /** Where CSRs live that are storage and nothing else. */
  readonly stored: ReadonlyMap<string, Cell<'i64'>>;
  readonly supervisorOnly: boolean;
}

/** The module, which exports all that translations call; and a translator, unless the group has none. */
export const buildHart = (plan: HartPlan): { module: WebAssembly.Module; translator: Translator | undefined } => {
  const { group, id, state, place, supervisorOnly } = plan;
  const { memory, layout, extensions } = group;
  const module = new ModuleBuilder();
  const imports = importEngine(module);
  const imsic = {
    imsicRead: module.import('imsicRead', ['i32'], 'i32'),
    imsicWrite: module.import('imsicWrite', ['i32'], 'i32'),
    imsicTop: module.import('imsicTop', [], 'i32'),
    imsicClaim: module.import('imsicClaim', [], 'void'),
  };
  const sbi = module.import('sbi', [], 'void');

  const stored = (name: string): Cell<'i64'> => {
    const cell = plan.stored.get(name);
    invariant(cell, `${name} is no stored CSR`);
    return cell;
  };
  const mmu = emitMmu(module, state, layout, place, supervisorOnly, extensions);
  const accesses = emitAccesses(module, state, layout, place, imports, mmu);
  const { nanoseconds, ticks, pending } = emitClock(module, state);
  const ctx: CsrContext = {
    state,
    accesses,
    imsic,
    ticks,
    pending,
    updateModes: emitUpdateModes(module, state, {
      data: place.hart + layout.dataTlb,
      fetch: place.hart + layout.fetchTlb,
      bankBytes,
      tlbBytes,
    }),
    topInterrupt: emitTopInterrupt(module, state, stored('mideleg').get, pending),
    supervisorOnly,
    extensions,
    hartId: id,
    stored,
  };
  const illegal = call(mmu.fault, i32.const(causes.illegal), i64.const(0));
  const csrs = emitCsrs(module, ctx, illegal);
  const privileged = emitPrivileged(module, ctx, mmu, accesses, nanoseconds, sbi, place);
  const mulhu = emitMulhu(module);
  const float = emitFloat(module, state.fflags, mulhu);
  const runtime: Runtime = { state, accesses, mmu, csrs, privileged, mulhu, float };
  emitRun(
    module,
    state,
    accesses,
    imports,
    privileged,
    [
      (x) => x.raise(illegal),
      ...handled.map(
        ({ row, bytes }) =>
          (x: Execution) =>
            interpreted(x, runtime, row, bytes),
      ),
    ],
    { threshold: group.translateAfter },
  );
  let translator: Translator | undefined;
  if (group.translateAfter > 0) {
    module.exportAll();
    if (!group.translator) {
      const own = hartState(new Arena(0, regionLocals.hart.get));
      translator = new Translator({
        memory,
        layout,
        set: translated({ ...runtime, state: own }),
        state: own,
        decode: (ip) => group.code.decode(ip),
        after: group.translateAfter,
        busy: group.onTranslating,
      });
    }
  }
  const pages = memory.buffer.byteLength / 65536;
  const bytes = module.encode({ initial: pages, maximum: pages }, true);
  return { module: new WebAssembly.Module(bytes), translator };
};
