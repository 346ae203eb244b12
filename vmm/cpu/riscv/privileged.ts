/**
 * Traps, interrupts, returns from them, and what else belongs to the privileged architecture, as generated code
 * (privileged ISA §3.1.6–3.1.9, §3.3, §12.2; AIA §5.2.3 for stopi).
 */
import { zeroBlockBytes } from '#vmm/base/isa-extensions';
import { type Accesses } from '../engine/access.ts';
import { access } from '../engine/address-space.ts';
import type { FunctionReference, I32, I64, Statement } from '../engine/wasm.ts';
import type { ModuleBuilder } from '../engine/wasm-module.ts';
import { block, br, brIf, call, choose, fill, i32, i64, label, ret, select, when } from '../engine/wasm.ts';
import type { CsrContext } from './csr.ts';
import { isSet, type Mmu, superBit, superByte } from './mmu.ts';
import type { PrivilegedName } from './semantics.ts';
import { environmentBits } from './environment.ts';
import { causes, type HartState, status, stopCode, superBits } from './state.ts';

type Returns<T> = FunctionReference & { result: T };

export interface Privileged {
  readonly boundary: Returns<'i32'>;
  readonly raise: Returns<'void'>;
  readonly operations: Readonly<Record<PrivilegedName, FunctionReference>>;
}

const k = i32.const;
const c = i64.const;
/** Interrupts in the order in which they are taken (§3.1.9). */
const machineOrder = [11, 3, 7, 9, 1, 5] as const;
const supervisorOrder = [9, 1, 5] as const;
/** A hart that traps this often in a row without retiring anything will do so for ever. */
const trapLimit = 8;
const never = c((1n << 63n) - 1n);

/** Retired instructions, of which the present one is counted while it runs. */
const retired = (state: HartState): I64 => i64.sub(state.sliceEnd.get, i64.extendU(state.left.get));

/** Virtual time in ns; the functions that CSR rows call. */
export const emitClock = (
  module: ModuleBuilder,
  state: HartState,
): { nanoseconds: Returns<'i64'>; ticks: Returns<'i64'>; pending: Returns<'i64'> } => {
  const nanoseconds = module.function('nanoseconds', [], 'i64', () =>
    i64.add(state.timeBase.get, i64.mul(i64.sub(retired(state), state.timeFrom.get), state.nsPerInstruction.get)),
  );
  const ticks = module.function('ticks', [], 'i64', () => i64.divU(call(nanoseconds), c(100)), true);
  const pending = module.function(
    'pending',
    [],
    'i64',
    () =>
      i64.or(
        i64.or(state.softPending.get, state.wiredPending.get),
        select(i32.and(isSet(state.menvcfg.get, 1n << 63n), i64.geU(call(ticks), state.stimecmp.get)), c(0x20), c(0)),
      ),
    true,
  );
  return { nanoseconds, ticks, pending };
};

/** stopi: of the interrupts pending and enabled for S-mode the first; priority 1, since none is configurable. */
export const emitTopInterrupt = (
  module: ModuleBuilder,
  state: HartState,
  mideleg: I64,
  pending: Returns<'i64'>,
): Returns<'i64'> =>
  module.function('topInterrupt', [], 'i64', (locals) => {
    const ready = locals.local('i64');
    return [
      ready.set(i64.and(i64.and(call(pending), state.mie.get), mideleg)),
      supervisorOrder.map((bit) => when(isSet(ready.get, 1n << BigInt(bit)), ret(c((bit << 16) | 1)))),
      c(0),
    ];
  });

export const emitUpdateModes = (
  module: ModuleBuilder,
  state: HartState,
  tlbs: { readonly data: number; readonly fetch: number; readonly bankBytes: number; readonly tlbBytes: number },
): Returns<'void'> =>
  module.function(
    'updateModes',
    [],
    'void',
    (locals) => {
      const priv = locals.local('i32');
      const mstatus = state.mstatus.get;
      // One bank for U, S without and with SUM, and M.
      const bank = select(i32.eq(priv.get, k(1)), i32.add(k(1), isSet(mstatus, status.SUM)), priv.get);
      return [
        priv.set(state.priv.get),
        state.fetchBank.set(i32.add(k(tlbs.fetch), i32.mul(priv.get, k(tlbs.tlbBytes)))),
        when(
          i32.and(i32.eq(priv.get, k(3)), isSet(mstatus, status.MPRV)),
          priv.set(i32.wrap(i64.and(i64.shrU(mstatus, c(11)), c(3)))),
        ),
        state.bank.set(i32.add(k(tlbs.data), i32.mul(bank, k(tlbs.bankBytes)))),
      ];
    },
    true,
  );

export const emitPrivileged = (
  module: ModuleBuilder,
  ctx: CsrContext,
  mmu: Mmu,
  accesses: Accesses,
  nanoseconds: Returns<'i64'>,
  sbi: Returns<'void'>,
  place: { readonly guestBase: number; readonly ramBase: number },
): Privileged => {
  const { state } = ctx;
  const illegal: Statement = call(mmu.fault, k(causes.illegal), c(0));
  const refuse: Statement = [illegal, ret()];
  const stop = (reason: 'wfi' | 'crash' | 'breakpoint'): Statement => [
    state.stop.set(k(stopCode(reason))),
    call(accesses.lookUp),
  ];
  const field = (bits: bigint): I32 => isSet(state.mstatus.get, bits);
  const clearSet = (clear: bigint, set: I64): Statement =>
    state.mstatus.set(i64.or(i64.and(state.mstatus.get, c(~clear)), set));
  const move = (from: bigint, shift: number): I64 => {
    const taken = i64.and(state.mstatus.get, c(from));
    return shift > 0 ? i64.shl(taken, c(shift)) : i64.shrU(taken, c(-shift));
  };

  /** (cause with bit 63 for interrupts, value): enters the handler; `state.pc` is where it happened. */
  const deliver = module.function('deliver', ['i64', 'i64'], 'void', (locals) => {
    const [cause, value] = [locals.param('i64', 0), locals.param('i64', 1)];
    const bit = i64.shl(c(1), i64.and(cause.get, c(63)));
    const interrupt = i64.ltS(cause.get, c(0));
    const delegated = select(interrupt, ctx.stored('mideleg').get, ctx.stored('medeleg').get);
    const priv = state.priv.get;
    const vector = (base: I64): I64 =>
      i64.add(
        i64.and(base, c(~3n)),
        select(i32.and(interrupt, isSet(base, 1n)), i64.shl(i64.and(cause.get, c(63)), c(2)), c(0)),
      );
    return [
      when(
        i32.and(i32.leU(priv, k(1)), i64.ne(i64.and(delegated, bit), c(0))),
        [
          ctx.stored('scause').set(cause.get),
          ctx.stored('stval').set(value.get),
          ctx.stored('sepc').set(state.pc.get),
          clearSet(
            status.SPIE | status.SIE | status.SPP,
            i64.or(move(status.SIE, 4), i64.shl(i64.extendU(priv), c(8))),
          ),
          state.priv.set(k(1)),
          state.pc.set(vector(ctx.stored('stvec').get)),
        ],
        [
          ctx.stored('mcause').set(cause.get),
          ctx.stored('mtval').set(value.get),
          ctx.stored('mepc').set(state.pc.get),
          clearSet(
            status.MPIE | status.MIE | status.MPP,
            i64.or(move(status.MIE, 4), i64.shl(i64.extendU(priv), c(11))),
          ),
          state.priv.set(k(3)),
          state.pc.set(vector(ctx.stored('mtvec').get)),
        ],
      ),
      call(ctx.updateModes),
    ];
  });

  /** (physical offset in RAM is not needed: the code was just fetched) 16 bits of code at a virtual address, or 0. */
  const codeHalf = module.function('codeHalf', ['i64'], 'i64', (locals) => {
    const at = locals.local('i64');
    return [
      at.set(i64.sub(call(mmu.translate, locals.param('i64', 0).get, k(access.fetch)), c(place.ramBase))),
      when(state.fault.get, [state.fault.set(k(0)), ret(c(0))]),
      i64.load16u(i32.add(i32.wrap(at.get), k(place.guestBase))),
    ];
  });

  const raise = module.function('raise', [], 'void', (locals) => {
    const [cause, value] = [locals.local('i64'), locals.local('i64')];
    return [
      state.fault.set(k(0)),
      cause.set(state.cause.get),
      value.set(state.tval.get),
      when(i32.and(i64.eq(cause.get, c(causes.breakpoint)), state.catchesBreakpoints.get), [stop('breakpoint'), ret()]),
      when(i64.eq(cause.get, c(causes.illegal)), [
        value.set(call(codeHalf, state.pc.get)),
        when(
          i64.eq(i64.and(value.get, c(3)), c(3)),
          value.set(i64.or(value.get, i64.shl(call(codeHalf, i64.add(state.pc.get, c(2))), c(16)))),
        ),
      ]),
      when(i64.eq(retired(state), state.trapRetired.get), state.trapCount.set(i32.add(state.trapCount.get, k(1))), [
        state.trapCount.set(k(0)),
        state.trapRetired.set(retired(state)),
        state.crashCause.set(cause.get),
        state.crashValue.set(value.get),
        state.crashPc.set(state.pc.get),
      ]),
      when(i32.gtU(state.trapCount.get, k(trapLimit)), [stop('crash'), ret()]),
      call(deliver, cause.get, value.get),
    ];
  });

  const boundary = module.function('boundary', [], 'i32', (locals) => {
    const [ready, local, wanted, deadline] = [
      locals.local('i64'),
      locals.local('i64'),
      locals.local('i64'),
      locals.local('i64'),
    ];
    const reason = locals.local('i32');
    const [taken, untimed] = [label('taken'), label('untimed')];
    const priv = state.priv.get;
    const mideleg = ctx.stored('mideleg').get;
    const take = (bit: number): Statement =>
      when(isSet(local.get, 1n << BigInt(bit)), [call(deliver, c((1n << 63n) | BigInt(bit)), c(0)), br(taken)]);
    const now = state.sliceEnd.get;
    return [
      reason.set(state.stop.get),
      when(reason.get, [state.stop.set(k(0)), ret(reason.get)]),
      when(i64.geU(now, state.runEnd.get), ret(k(stopCode('budget')))),
      block(
        taken,
        ready.set(i64.and(call(ctx.pending), state.mie.get)),
        brIf(taken, i64.eqz(ready.get)),
        when(i32.or(i32.ltU(priv, k(3)), field(status.MIE)), [
          local.set(i64.and(ready.get, i64.xor(mideleg, c(-1)))),
          machineOrder.map(take),
        ]),
        when(i32.or(i32.eqz(priv), i32.and(i32.eq(priv, k(1)), field(status.SIE))), [
          local.set(i64.and(ready.get, mideleg)),
          supervisorOrder.map(take),
        ]),
      ),
      wanted.set(i64.sub(state.runEnd.get, now)),
      // The slice ends where stimecmp is reached, so that the interrupt comes at exactly that instruction.
      block(
        untimed,
        deadline.set(state.stimecmp.get),
        brIf(untimed, i64.geU(deadline.get, i64.const(1n << 56n))),
        deadline.set(i64.sub(i64.mul(deadline.get, c(100)), call(nanoseconds))),
        brIf(untimed, i64.leS(deadline.get, c(0))),
        deadline.set(
          i64.divU(i64.add(deadline.get, i64.sub(state.nsPerInstruction.get, c(1))), state.nsPerInstruction.get),
        ),
        wanted.set(choose('i64', i64.ltU(deadline.get, wanted.get), deadline.get, wanted.get)),
      ),
      state.left.set(i32.wrap(wanted.get)),
      state.sliceEnd.set(i64.add(now, wanted.get)),
      k(0),
    ];
  });

  const ecall = module.function('ecall', [], 'void', () => [
    ctx.supervisorOnly
      ? when(i32.eq(state.priv.get, k(1)), [
          state.pc.set(i64.add(state.pc.get, c(4))),
          call(sbi),
          call(accesses.lookUp),
          ret(),
        ])
      : [],
    call(mmu.fault, i32.add(k(causes.ecall), state.priv.get), c(0)),
  ]);
  const mret = module.function('mret', [], 'void', (locals) => {
    const to = locals.local('i32');
    return [
      when(i32.ne(state.priv.get, k(3)), refuse),
      to.set(i32.wrap(i64.and(i64.shrU(state.mstatus.get, c(11)), c(3)))),
      clearSet(status.MIE | status.MPIE | status.MPP, i64.or(move(status.MPIE, -4), c(status.MPIE))),
      when(i32.ne(to.get, k(3)), clearSet(status.MPRV, c(0))),
      state.priv.set(to.get),
      state.pc.set(ctx.stored('mepc').get),
      call(ctx.updateModes),
      call(accesses.lookUp),
    ];
  });
  const sret = module.function('sret', [], 'void', (locals) => {
    const to = locals.local('i32');
    return [
      when(i32.eqz(state.priv.get), refuse),
      when(i32.and(i32.eq(state.priv.get, k(1)), field(status.TSR)), refuse),
      to.set(field(status.SPP)),
      clearSet(status.SIE | status.SPIE | status.SPP | status.MPRV, i64.or(move(status.SPIE, -4), c(status.SPIE))),
      state.priv.set(to.get),
      state.pc.set(ctx.stored('sepc').get),
      call(ctx.updateModes),
      call(accesses.lookUp),
    ];
  });
  const wfi = module.function('wfi', [], 'void', () => [
    when(i32.or(i32.eqz(state.priv.get), i32.and(i32.ne(state.priv.get, k(3)), field(status.TW))), refuse),
    when(i64.eqz(i64.and(call(ctx.pending), state.mie.get)), stop('wfi')),
  ]);
  const sfenceVma = module.function('sfenceVma', ['i64', 'i64', 'i32', 'i32'], 'void', (locals) => {
    const [address, asid] = [locals.param('i64', 0), locals.param('i64', 1)];
    const [byAddress, byAsid] = [locals.param('i32', 2), locals.param('i32', 3)];
    const current = i64.and(i64.shrU(state.satp.get, c(44)), c(0xffff));
    return [
      when(i32.or(i32.eqz(state.priv.get), i32.and(i32.eq(state.priv.get, k(1)), field(status.TVM))), refuse),
      // Only translations of the present address space are ever cached.
      when(i32.and(i32.ne(byAsid.get, k(0)), i64.ne(i64.and(asid.get, c(0xffff)), current)), ret()),
      when(
        i32.and(
          i32.ne(byAddress.get, k(0)),
          i32.and(
            i32.or(i64.ltU(address.get, state.superFirst.get), i64.gtU(address.get, state.superLast.get)),
            i32.eqz(i32.and(i32.load8u(superByte(address.get), state.superMap), superBit(address.get))),
          ),
        ),
        call(accesses.flushPage, address.get),
        [
          call(accesses.flushAll),
          state.superFirst.set(never),
          state.superLast.set(c(0)),
          fill(k(state.superMap), k(0), k(superBits / 8)),
        ],
      ),
      call(accesses.lookUp),
    ];
  });

  const zeroBlock = module.function('zeroBlock', ['i64'], 'void', (locals) => {
    const [address, host] = [locals.param('i64', 0), locals.local('i32')];
    const lacks = (value: I64): I32 => i64.eqz(i64.and(value, c(environmentBits.zicboz)));
    return [
      // CBZE of menvcfg, and in U-mode of senvcfg as well (privileged ISA §3.1.18, §12.1.10).
      when(i32.and(i32.ltU(state.priv.get, k(3)), lacks(state.menvcfg.get)), refuse),
      when(i32.and(i32.eqz(state.priv.get), lacks(ctx.stored('senvcfg').get)), refuse),
      host.set(call(accesses.ramAddress, i64.and(address.get, c(-zeroBlockBytes)), k(access.write))),
      when(state.fault.get, ret()),
      Array.from({ length: zeroBlockBytes / 8 }, (_, i) => i64.store(host.get, c(0), 8 * i)),
    ];
  });

  return { boundary, raise, operations: { zeroBlock, ecall, mret, sret, wfi, sfenceVma, fenceI: accesses.fenceCode } };
};
