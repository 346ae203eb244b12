/**
 * The control and status registers: one row each. A row without `read` is a stored value; a row without `write` takes
 * the bits of `mask` and keeps the rest (WARL), 0 = read-only by value. Whether an access is legal at all follows from
 * the number (privileged ISA §2.1) and the row's `guard`.
 */
import type { Extensions } from '#vmm/base/isa-extensions';
import type { Accesses } from '../engine/access.ts';
import type { Cell } from '../engine/cells.ts';
import type { FunctionReference, I32, I64, Local, Statement } from '../engine/wasm.ts';
import type { ModuleBuilder } from '../engine/wasm-module.ts';
import { block, brTable, call, drop, i32, i64, label, ret, select, when } from '../engine/wasm.ts';
import { environmentBits, environmentMask } from './environment.ts';
import { isSet, pmpEntries } from './mmu.ts';
import { type HartState, status } from './state.ts';

type Returns<T> = FunctionReference & { result: T };

/** JavaScript's side of the AIA's indirect registers and of the IMSIC. Values pass through `state.busValue`. */
export interface ImsicImports {
  /** (select) → 0 = illegal. */
  readonly imsicRead: Returns<'i32'>;
  readonly imsicWrite: Returns<'i32'>;
  readonly imsicTop: Returns<'i32'>;
  readonly imsicClaim: Returns<'void'>;
}

/** What rows are written in terms of. */
export interface CsrContext {
  readonly state: HartState;
  readonly accesses: Accesses;
  readonly imsic: ImsicImports;
  /** () → ticks of the 10 MHz timebase. */
  readonly ticks: Returns<'i64'>;
  /** () → mip. */
  readonly pending: Returns<'i64'>;
  /** Access rights follow mstatus and priv. */
  readonly updateModes: Returns<'void'>;
  /** () → stopi. */
  readonly topInterrupt: Returns<'i64'>;
  readonly supervisorOnly: boolean;
  readonly extensions: Extensions;
  readonly hartId: number;
  /** The stored value of a row. */
  stored(name: string): Cell<'i64'>;
}

export interface Csr {
  readonly name: string;
  readonly number: number;
  readonly spec: string;
  readonly mask?: bigint;
  readonly read?: (c: CsrContext) => I64;
  readonly write?: (c: CsrContext, value: Local<'i64'>) => Statement;
  /** Further condition for access. */
  readonly guard?: (c: CsrContext) => I32;
  /** Value at reset, by entry mode. */
  readonly reset?: { readonly m: bigint; readonly s: bigint };
}

const c = i64.const;
const k = i32.const;
const all = (1n << 64n) - 1n;
const bits = (value: I64, mask: bigint): I64 => i64.and(value, c(mask));
/** `old` with the bits of `mask` taken from `value`. */
const merge = (old: I64, value: I64, mask: bigint): I64 => i64.or(bits(old, all ^ mask), bits(value, mask));

const supervisorStatus = status.SIE | status.SPIE | status.SPP | status.FS | status.SUM | status.MXR;
const machineStatus =
  supervisorStatus | status.MIE | status.MPIE | status.MPP | status.MPRV | status.TVM | status.TW | status.TSR;
/** SSI, STI, SEI and their machine counterparts. */
const supervisorInterrupts = 0x222n;
const machineInterrupts = 0xaaan;

const withSd = (value: I64): I64 =>
  i64.or(value, select(i64.eq(bits(value, status.FS), c(status.FS)), c(status.SD), c(0)));
const writeStatus = (ctx: CsrContext, value: Local<'i64'>, mask: bigint): Statement => {
  const { state } = ctx;
  return [
    // MPP is WARL: 2 names no mode.
    when(i64.eq(bits(value.get, status.MPP), c(2n << 11n)), value.set(merge(value.get, state.mstatus.get, status.MPP))),
    when(isSet(i64.xor(value.get, state.mstatus.get), status.MXR), call(ctx.accesses.flushAll)),
    state.mstatus.set(merge(state.mstatus.get, value.get, mask)),
    call(ctx.updateModes),
    call(ctx.accesses.lookUp),
  ];
};

const floatOn = (ctx: CsrContext): I32 => isSet(ctx.state.mstatus.get, status.FS);
const floatDirty = ({ state }: CsrContext): Statement => state.mstatus.set(i64.or(state.mstatus.get, c(status.FS)));
const counter =
  (bit: number) =>
  (ctx: CsrContext): I32 => {
    const enabled = (cell: string): I32 => isSet(ctx.stored(cell).get, 1n << BigInt(bit));
    const priv = ctx.state.priv.get;
    return i32.or(
      i32.eq(priv, k(3)),
      i32.and(enabled('mcounteren'), i32.or(i32.eq(priv, k(1)), enabled('scounteren'))),
    );
  };
/** Instructions retired before the present one. */
const retired = ({ state }: CsrContext): I64 => i64.sub(i64.sub(state.sliceEnd.get, i64.extendU(state.left.get)), c(1));
const cycle = (ctx: CsrContext): I64 => i64.add(retired(ctx), ctx.state.cycleOffset.get);
const instret = (ctx: CsrContext): I64 => i64.add(retired(ctx), ctx.state.instretOffset.get);
/** The next instruction reads what was written. */
const offsetFor = (ctx: CsrContext, value: Local<'i64'>): I64 => i64.sub(i64.sub(value.get, retired(ctx)), c(1));
const lookUp = (ctx: CsrContext): Statement => call(ctx.accesses.lookUp);
const zero = (): I64 => c(0);
const ignore = (): Statement => [];
/** With the Sstc extension, S-mode's use of stimecmp needs menvcfg.STCE and mcounteren.TM. */
const sstc = (ctx: CsrContext): I32 =>
  i32.or(
    i32.eq(ctx.state.priv.get, k(3)),
    i32.and(isSet(ctx.state.menvcfg.get, 1n << 63n), isSet(ctx.stored('mcounteren').get, 2n)),
  );
/** siselect names no register that exists, or the interrupt file refuses. */
const indirect = (ctx: CsrContext): I32 => i32.wrap(ctx.stored('siselect').get);

const rows: Csr[] = [];
const row = (number: number, name: string, spec: string, rest: Omit<Csr, 'number' | 'name' | 'spec'> = {}): void => {
  rows.push({ number, name, spec, ...rest });
};
const constant = (number: number, name: string, spec: string, value = 0n): void =>
  row(number, name, spec, { read: () => c(value), write: ignore });

// prettier-ignore
{
  row(0x001, 'fflags', 'F §20.2', { guard: floatOn, read: ({ state }) => i64.extendU(state.fflags.get), write: (ctx, v) => [ctx.state.fflags.set(i32.and(i32.wrap(v.get), k(31))), floatDirty(ctx)] });
  row(0x002, 'frm',    'F §20.2', { guard: floatOn, read: ({ state }) => i64.extendU(state.frm.get), write: (ctx, v) => [ctx.state.frm.set(i32.and(i32.wrap(v.get), k(7))), floatDirty(ctx)] });
  row(0x003, 'fcsr',   'F §20.2', { guard: floatOn, read: ({ state }) => i64.extendU(i32.or(state.fflags.get, i32.shl(state.frm.get, k(5)))),
    write: (ctx, v) => [ctx.state.fflags.set(i32.and(i32.wrap(v.get), k(31))), ctx.state.frm.set(i32.and(i32.shrU(i32.wrap(v.get), k(5)), k(7))), floatDirty(ctx)] });
  row(0xc00, 'cycle',   'Zicntr', { guard: counter(0), read: cycle });
  row(0xc01, 'time',    'Zicntr', { guard: counter(1), read: (ctx) => call(ctx.ticks) });
  row(0xc02, 'instret', 'Zicntr', { guard: counter(2), read: instret });
  for (let n = 3; n < 32; n++) row(0xc00 + n, `hpmcounter${n}`, 'Zihpm', { guard: counter(n), read: zero });

  row(0x100, 'sstatus', '§12.1.1', { read: ({ state }) => withSd(bits(state.mstatus.get, supervisorStatus | status.UXL)), write: (ctx, v) => writeStatus(ctx, v, supervisorStatus) });
  row(0x104, 'sie', '§12.1.3', { read: (ctx) => i64.and(ctx.state.mie.get, ctx.stored('mideleg').get),
    write: (ctx, v) => [ctx.state.mie.set(i64.or(i64.and(ctx.state.mie.get, i64.xor(ctx.stored('mideleg').get, c(-1))), i64.and(v.get, ctx.stored('mideleg').get))), lookUp(ctx)] });
  row(0x105, 'stvec', '§12.1.2', { mask: all ^ 2n });
  row(0x106, 'scounteren', '§12.1.5', { mask: 7n });
  row(0x10a, 'senvcfg', '§12.1.10', { write: (ctx, v) => ctx.stored('senvcfg').set(bits(v.get, 1n | (environmentMask(ctx.extensions) & environmentBits.zicboz))) });
  row(0x140, 'sscratch', '§12.1.6', { mask: all });
  row(0x141, 'sepc', '§12.1.7', { mask: all ^ 1n });
  row(0x142, 'scause', '§12.1.8', { mask: all });
  row(0x143, 'stval', '§12.1.9', { mask: all });
  row(0x144, 'sip', '§12.1.3', { read: (ctx) => i64.and(call(ctx.pending), ctx.stored('mideleg').get),
    write: (ctx, v) => [ctx.state.softPending.set(i64.or(bits(ctx.state.softPending.get, all ^ 2n), i64.and(bits(v.get, 2n), ctx.stored('mideleg').get))), lookUp(ctx)] });
  row(0x14d, 'stimecmp', 'Sstc §2.1', { guard: sstc, read: ({ state }) => state.stimecmp.get, write: (ctx, v) => [ctx.state.stimecmp.set(v.get), lookUp(ctx)] });
  row(0x150, 'siselect', 'AIA §2.2', { mask: 0xfffn });
  row(0x151, 'sireg', 'AIA §2.2', { guard: (ctx) => call(ctx.imsic.imsicRead, indirect(ctx)), read: ({ state }) => state.busValue.get,
    write: (ctx, v) => [ctx.state.busValue.set(v.get), drop(call(ctx.imsic.imsicWrite, indirect(ctx))), lookUp(ctx)] });
  row(0x15c, 'stopei', 'AIA §3.10', { read: (ctx) => i64.extendU(call(ctx.imsic.imsicTop)), write: (ctx) => [call(ctx.imsic.imsicClaim), lookUp(ctx)] });
  row(0xdb0, 'stopi', 'AIA §5.2.3', { read: (ctx) => call(ctx.topInterrupt) });
  row(0x180, 'satp', '§12.1.11', { guard: ({ state }) => i32.or(i32.eq(state.priv.get, k(3)), i32.eqz(isSet(state.mstatus.get, status.TVM))), read: ({ state }) => state.satp.get,
    write: (ctx, v) => [
      // MODE is WARL: a write with an unknown mode has no effect at all. Bare keeps nothing else.
      when(i64.eqz(i64.shrU(v.get, c(60))), v.set(c(0))),
      when(i32.or(i64.eqz(v.get), i64.leU(i64.sub(i64.shrU(v.get, c(60)), c(8)), c(2))), [
        when(i64.ne(v.get, ctx.state.satp.get), call(ctx.accesses.flushAll)),
        ctx.state.satp.set(v.get), lookUp(ctx)]),
    ] });

  constant(0xf11, 'mvendorid', '§3.1.2');
  constant(0xf12, 'marchid', '§3.1.3');
  constant(0xf13, 'mimpid', '§3.1.4');
  row(0xf14, 'mhartid', '§3.1.5', { read: (ctx) => c(ctx.hartId) });
  constant(0xf15, 'mconfigptr', '§3.1.17');
  row(0x300, 'mstatus', '§3.1.6', { read: ({ state }) => withSd(state.mstatus.get), write: (ctx, v) => writeStatus(ctx, v, machineStatus) });
  // RV64 with A, C, D, F, I, M, S, U.
  constant(0x301, 'misa', '§3.1.1', (2n << 62n) | 0x14112dn);
  row(0x302, 'medeleg', '§3.1.8', { mask: 0xb3ffn, reset: { m: 0n, s: 0xb1ffn } });
  row(0x303, 'mideleg', '§3.1.8', { mask: supervisorInterrupts, write: (ctx, v) => [ctx.stored('mideleg').set(bits(v.get, supervisorInterrupts)), lookUp(ctx)], reset: { m: 0n, s: supervisorInterrupts } });
  row(0x304, 'mie', '§3.1.9', { read: ({ state }) => state.mie.get, write: (ctx, v) => [ctx.state.mie.set(bits(v.get, machineInterrupts)), lookUp(ctx)] });
  row(0x305, 'mtvec', '§3.1.7', { mask: all ^ 2n });
  row(0x306, 'mcounteren', '§3.1.11', { mask: 7n, reset: { m: 0n, s: 7n } });
  row(0x30a, 'menvcfg', '§3.1.18', { read: ({ state }) => state.menvcfg.get,
    write: (ctx, v) => [ctx.state.menvcfg.set(bits(v.get, (1n << 63n) | environmentMask(ctx.extensions) | 1n)), call(ctx.accesses.flushAll), lookUp(ctx)] });
  constant(0x320, 'mcountinhibit', '§3.1.12');
  row(0x340, 'mscratch', '§3.1.13', { mask: all });
  row(0x341, 'mepc', '§3.1.14', { mask: all ^ 1n });
  row(0x342, 'mcause', '§3.1.15', { mask: all });
  row(0x343, 'mtval', '§3.1.16', { mask: all });
  row(0x344, 'mip', '§3.1.9', { read: (ctx) => call(ctx.pending), write: (ctx, v) => [
    // STIP is the timer's while menvcfg.STCE is set (Sstc §2.2).
    when(isSet(ctx.state.menvcfg.get, 1n << 63n), v.set(bits(v.get, all ^ 0x20n))),
    ctx.state.softPending.set(bits(v.get, supervisorInterrupts)), lookUp(ctx)] });
  row(0xb00, 'mcycle', '§3.1.10', { read: cycle, write: (ctx, v) => ctx.state.cycleOffset.set(offsetFor(ctx, v)) });
  row(0xb02, 'minstret', '§3.1.10', { read: instret, write: (ctx, v) => ctx.state.instretOffset.set(offsetFor(ctx, v)) });
  for (let n = 3; n < 32; n++) {
    constant(0xb00 + n, `mhpmcounter${n}`, '§3.1.10');
    constant(0x320 + n, `mhpmevent${n}`, '§3.1.10');
  }
  // Triggers: none (Debug §5.2: tselect reads back other than written, tdata1.type = 0).
  for (const [number, name] of [[0x7a0, 'tselect'], [0x7a1, 'tdata1'], [0x7a2, 'tdata2'], [0x7a3, 'tdata3']] as const) constant(number, name, 'Debug §5.2');
}

const pmpChanged = (ctx: CsrContext): Statement => [call(ctx.accesses.flushAll), lookUp(ctx)];
for (const half of [0, 1]) {
  row(0x3a0 + 2 * half, `pmpcfg${2 * half}`, '§3.7.1', {
    read: ({ state }) => i64.load(k(0), state.pmpcfg + 8 * half),
    write: (ctx, v) => [
      Array.from({ length: 8 }, (_, i): Statement => {
        const at = ctx.state.pmpcfg + 8 * half + i;
        const wanted = i32.and(i32.wrap(i64.shrU(v.get, c(8 * i))), k(0x9f));
        // NA4 is not there (a page is the grain), and write without read is reserved.
        const noNa4 = select(i32.eq(i32.and(wanted, k(0x18)), k(0x10)), i32.and(wanted, k(0x87)), wanted);
        const legal = select(i32.eq(i32.and(noNa4, k(3)), k(2)), i32.and(noNa4, k(0x9d)), noNa4);
        return when(i32.eqz(i32.and(i32.load8u(k(0), at), k(0x80))), i32.store8(k(0), legal, at));
      }),
      pmpChanged(ctx),
    ],
  });
}
for (let i = 0; i < pmpEntries; i++) {
  row(0x3b0 + i, `pmpaddr${i}`, '§3.7.1', {
    read: ({ state }) => {
      const value = i64.load(k(0), state.pmpaddr + 8 * i);
      const napot = i32.and(i32.load8u(k(0), state.pmpcfg + i), k(0x10));
      return select(napot, i64.or(value, c(0x1ff)), bits(value, all ^ 0x3ffn));
    },
    write: (ctx, v) => {
      const { pmpcfg, pmpaddr } = ctx.state;
      const locked = i32.and(i32.load8u(k(0), pmpcfg + i), k(0x80));
      // A locked TOR entry locks the address below it too.
      const next = i < pmpEntries - 1 ? i32.eq(i32.and(i32.load8u(k(0), pmpcfg + i + 1), k(0x98)), k(0x88)) : k(0);
      return when(i32.eqz(i32.or(locked, next)), [
        i64.store(k(0), bits(v.get, (1n << 54n) - 1n), pmpaddr + 8 * i),
        pmpChanged(ctx),
      ]);
    },
  });
}

export const csrs: readonly Csr[] = rows;
const indexes = new Map(csrs.map((row, index) => [row.number, index]));
/** Index of a row, which is what predecoded instructions hold. */
export const csrIndex = (number: number): number | undefined => indexes.get(number);

export interface CsrAccess {
  /** (index, does it write) → value; sets `fault` where illegal. */
  readonly read: Returns<'i64'>;
  readonly write: Returns<'void'>;
  /** (index, value read) → what a set or clear starts from. */
  readonly basis: Returns<'i64'>;
}

/** @param illegal announces an illegal instruction */
export const emitCsrs = (module: ModuleBuilder, ctx: CsrContext, illegal: Statement): CsrAccess => {
  const { state } = ctx;
  const table = (index: Local<'i32'>, cases: readonly Statement[], otherwise: Statement): Statement => {
    const labels = cases.map((_, i) => label(`csr ${i}`));
    const none = label('none');
    let body: Statement = brTable([...labels, none], index.get);
    cases.forEach((statement, i) => {
      body = [block(labels[i]!, body), statement];
    });
    return [block(none, body), otherwise];
  };
  const read = module.function(
    'csrRead',
    ['i32', 'i32'],
    'i64',
    (locals) => {
      const [index, writes] = [locals.param('i32', 0), locals.param('i32', 1)];
      const refuse: Statement = [illegal, ret(c(0))];
      const cases = csrs.map((row): Statement => {
        const level = (row.number >>> 8) & 3;
        return [
          level > 0 ? when(i32.ltU(state.priv.get, k(level)), refuse) : [],
          row.number >>> 10 === 3 ? when(writes.get, refuse) : [],
          row.guard ? when(i32.eqz(row.guard(ctx)), refuse) : [],
          ret(row.read ? row.read(ctx) : ctx.stored(row.name).get),
        ];
      });
      return [table(index, cases, refuse), c(0)];
    },
    true,
  );
  const write = module.function(
    'csrWrite',
    ['i32', 'i64'],
    'void',
    (locals) => {
      const [index, value] = [locals.param('i32', 0), locals.param('i64', 1)];
      const cases = csrs.map((row): Statement => {
        if (row.write) return [row.write(ctx, value), ret()];
        if (row.mask === undefined) return ret();
        const cell = ctx.stored(row.name);
        return [cell.set(merge(cell.get, value.get, row.mask)), ret()];
      });
      return table(index, cases, []);
    },
    true,
  );
  // A set or clear of mip starts from the SEIP that software wrote, without the wire's (privileged ISA §3.1.9).
  const basis = module.function('csrBasis', ['i32', 'i64'], 'i64', (locals) => {
    const [index, value] = [locals.param('i32', 0), locals.param('i64', 1)];
    return select(i32.eq(index.get, k(csrIndex(0x344)!)), merge(value.get, state.softPending.get, 0x200n), value.get);
  });
  return { read, write, basis };
};
