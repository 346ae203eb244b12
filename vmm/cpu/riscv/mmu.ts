/** Address translation and protection (privileged ISA §3.7 PMP, §12.3–12.5 Sv39, Sv48, Sv57), as generated code. */
import type { Extensions } from '#vmm/base/isa-extensions';
import { access } from '../engine/address-space.ts';
import type { EngineLayout } from '../engine/layout.ts';
import type { FunctionReference, I32, I64, Statement } from '../engine/wasm.ts';
import type { ModuleBuilder } from '../engine/wasm-module.ts';
import { block, br, brIf, call, choose, i32, i64, label, loop, ret, select, when } from '../engine/wasm.ts';
import { environmentBits } from './environment.ts';
import { causes, type HartState, status, superBits } from './state.ts';

type Returns<T> = FunctionReference & { result: T };
export interface Mmu {
  readonly translate: Returns<'i64'>;
  readonly accessFault: Returns<'void'>;
  readonly misaligned: Returns<'void'>;
  /** (cause, value) announces a trap. */
  readonly fault: Returns<'void'>;
}

const pte = { V: 1, R: 2, W: 4, X: 8, U: 16, A: 64, D: 128 } as const;
/** satp.MODE of Sv39; Sv48 and Sv57 follow. */
export const firstMode = 8;
/** Bits 63:54 of an entry; N of Svnapot and PBMT of Svpbmt among them. */
const highBits = 0x3ffn << 54n;
const napotBit = 1n << 63n;
const typeBits = 3n << 61n;
/** The one size of Svnapot: 64 KiB. */
const napotMask = 0xffffn;
const ppnMask = i64.const((1n << 44n) - 1n);
export const pmpEntries = 16;

const k = i32.const;
const c = i64.const;
export const isSet = (value: I64, bits: bigint): I32 => i64.ne(i64.and(value, c(bits)), c(0));

/** Where in `superMap` an address has its bit, and the bit. */
export const superByte = (address: I64): I32 => i32.and(i32.wrap(i64.shrU(address, c(21 + 3))), k(superBits / 8 - 1));
export const superBit = (address: I64): I32 => i32.shl(k(1), i32.and(i32.wrap(i64.shrU(address, c(21))), k(7)));

export const emitMmu = (
  module: ModuleBuilder,
  state: HartState,
  layout: EngineLayout,
  place: { readonly ramBase: number; readonly guestBase: number },
  supervisorOnly: boolean,
  extensions: Extensions,
): Mmu => {
  const [hasNapot, hasTypes] = [extensions.has('svnapot'), extensions.has('svpbmt')];
  /** Bits of an entry above the page number that mean nothing: reserved. */
  const reservedBits = c(highBits & ~(hasNapot ? napotBit : 0n) & ~(hasTypes ? typeBits : 0n));
  const fault = module.function('fault', ['i32', 'i64'], 'void', (locals) => [
    state.fault.set(k(1)),
    state.cause.set(i64.extendU(locals.param('i32', 0).get)),
    state.tval.set(locals.param('i64', 1).get),
  ]);
  /** The cause for each kind of access. */
  const byAccess = (kind: I32, read: number, write: number, fetch: number): I32 =>
    select(i32.eq(kind, k(access.read)), k(read), select(i32.eq(kind, k(access.write)), k(write), k(fetch)));
  const accessFault = module.function('accessFault', ['i64', 'i32'], 'void', (locals) =>
    call(
      fault,
      byAccess(locals.param('i32', 1).get, causes.loadAccess, causes.storeAccess, causes.fetchAccess),
      locals.param('i64', 0).get,
    ),
  );
  const misaligned = module.function('misaligned', ['i64', 'i32'], 'void', (locals) =>
    call(
      fault,
      byAccess(locals.param('i32', 1).get, causes.loadMisaligned, causes.storeMisaligned, 0),
      locals.param('i64', 0).get,
    ),
  );

  // Granularity is a page (G = 10), so that a page is wholly inside an entry or outside.
  const pmpAllows = module.function('pmpAllows', ['i64', 'i32', 'i32'], 'i32', (locals) => {
    const [address, kind, priv] = [locals.param('i64', 0), locals.param('i32', 1), locals.param('i32', 2)];
    const [index, config] = [locals.local('i32'), locals.local('i32')];
    const [bound, below, ones] = [locals.local('i64'), locals.local('i64'), locals.local('i64')];
    const entries = label('entries');
    if (supervisorOnly) return k(1);
    const page = i64.shrU(address.get, c(12));
    const mode = i32.and(i32.shrU(config.get, k(3)), k(3));
    const inRange = i32.and(i64.geU(page, below.get), i64.ltU(page, i64.shrU(bound.get, c(10))));
    const napot = i64.eqz(
      i64.and(
        i64.xor(i64.shrU(address.get, c(2)), bound.get),
        i64.xor(i64.xor(ones.get, i64.add(ones.get, c(1))), c(-1)),
      ),
    );
    return [
      loop(
        entries,
        config.set(i32.load8u(index.get, state.pmpcfg)),
        bound.set(i64.load(i32.shl(index.get, k(3)), state.pmpaddr)),
        ones.set(i64.or(bound.get, c(0x1ff))),
        when(
          i32.or(i32.and(i32.eq(mode, k(1)), inRange), i32.and(i32.eq(mode, k(3)), napot)),
          ret(
            i32.or(
              i32.and(i32.eq(priv.get, k(3)), i32.eqz(i32.and(config.get, k(0x80)))),
              i32.and(i32.shrU(config.get, kind.get), k(1)),
            ),
          ),
        ),
        below.set(i64.shrU(bound.get, c(10))),
        index.set(i32.add(index.get, k(1))),
        brIf(entries, i32.ltU(index.get, k(pmpEntries))),
      ),
      i32.eq(priv.get, k(3)),
    ];
  });

  /** (virtual, bytes - 1 of the page) keeps in mind that an sfence.vma by address means more than 4 KiB there. */
  const noteSuperpage = module.function('noteSuperpage', ['i64', 'i64'], 'void', (locals) => {
    const [address, reach] = [locals.param('i64', 0), locals.param('i64', 1)];
    const first = i64.and(address.get, i64.xor(reach.get, c(-1)));
    const last = i64.or(address.get, reach.get);
    const least = (a: I64, b: I64): I64 => choose('i64', i64.ltU(a, b), a, b);
    const at = superByte(address.get);
    return when(
      i64.leU(reach.get, c(0x1f_ffff)),
      i32.store8(at, i32.or(i32.load8u(at, state.superMap), superBit(address.get)), state.superMap),
      [
        state.superFirst.set(least(first, state.superFirst.get)),
        state.superLast.set(choose('i64', i64.gtU(last, state.superLast.get), last, state.superLast.get)),
      ],
    );
  });

  const translate = module.function('translate', ['i64', 'i32'], 'i64', (locals) => {
    const [address, kind] = [locals.param('i64', 0), locals.param('i32', 1)];
    const [priv, need] = [locals.local('i32'), locals.local('i32')];
    const [mode, table, shift, at, entry, physical, reach] = [
      locals.local('i64'),
      locals.local('i64'),
      locals.local('i64'),
      locals.local('i64'),
      locals.local('i64'),
      locals.local('i64'),
      locals.local('i64'),
    ];
    const [levels, found, done] = [label('levels'), label('found'), label('done')];
    const mstatus = state.mstatus.get;
    const write = i32.eq(kind.get, k(access.write));
    const fetch = i32.eq(kind.get, k(access.fetch));
    const pageFault: Statement = [
      call(fault, byAccess(kind.get, causes.loadPage, causes.storePage, causes.fetchPage), address.get),
      ret(c(0)),
    ];
    const refused: Statement = [call(accessFault, address.get, kind.get), ret(c(0))];
    const has = (bits: number): I32 => i64.ne(i64.and(entry.get, c(bits)), c(0));
    const entryHost: I32 = i32.add(i32.wrap(at.get), k(place.guestBase));
    const top = i64.sub(c(64), shift.get);
    const needed: I64 = select(write, c(pte.A | pte.D), c(pte.A));
    /** Bits of the address that the leaf does not translate. */
    const low: I64 = reach.get;
    return [
      priv.set(state.priv.get),
      when(
        i32.and(i32.and(i32.eqz(fetch), i32.eq(priv.get, k(3))), isSet(mstatus, status.MPRV)),
        priv.set(i32.wrap(i64.and(i64.shrU(mstatus, c(11)), c(3)))),
      ),
      mode.set(i64.shrU(state.satp.get, c(60))),
      physical.set(address.get),
      block(
        done,
        brIf(done, i32.or(i32.eq(priv.get, k(3)), i64.eqz(mode.get))),
        // Sv39 has 3 levels, each 9 bits.
        shift.set(i64.add(c(12), i64.mul(c(9), i64.sub(mode.get, c(firstMode - 3))))),
        when(i64.ne(i64.shrS(i64.shl(address.get, top), top), address.get), pageFault),
        table.set(i64.shl(i64.and(state.satp.get, ppnMask), c(12))),
        block(
          found,
          loop(
            levels,
            shift.set(i64.sub(shift.get, c(9))),
            at.set(i64.add(table.get, i64.shl(i64.and(i64.shrU(address.get, shift.get), c(511)), c(3)))),
            when(i32.eqz(call(pmpAllows, at.get, k(access.read), k(1))), refused),
            at.set(i64.sub(at.get, c(place.ramBase))),
            when(i64.geU(at.get, c(layout.guestBytes)), refused),
            entry.set(i64.load(entryHost)),
            // Write without read is reserved.
            when(
              i32.or(
                i32.or(i32.eqz(has(pte.V)), i64.eq(i64.and(entry.get, c(pte.R | pte.W)), c(pte.W))),
                i64.ne(i64.and(entry.get, reservedBits), c(0)),
              ),
              pageFault,
            ),
            brIf(found, has(pte.R | pte.X)),
            when(i64.ne(i64.and(entry.get, c(highBits | BigInt(pte.A | pte.D | pte.U))), c(0)), pageFault),
            when(i64.leU(shift.get, c(12)), pageFault),
            table.set(i64.shl(i64.and(i64.shrU(entry.get, c(10)), ppnMask), c(12))),
            br(levels),
          ),
        ),
        hasTypes
          ? when(isSet(entry.get, typeBits), [
              // PBMT 3 is reserved, and all are without menvcfg.PBMTE (Svpbmt).
              when(i64.eq(i64.and(entry.get, c(typeBits)), c(typeBits)), pageFault),
              when(i32.eqz(isSet(state.menvcfg.get, environmentBits.svpbmt)), pageFault),
            ])
          : [],
        need.set(
          select(
            write,
            k(pte.W),
            select(fetch, k(pte.X), select(isSet(mstatus, status.MXR), k(pte.R | pte.X), k(pte.R))),
          ),
        ),
        when(i64.eqz(i64.and(entry.get, i64.extendU(need.get))), pageFault),
        when(
          i32.eqz(priv.get),
          when(i32.eqz(has(pte.U)), pageFault),
          when(i32.and(has(pte.U), i32.or(fetch, i32.eqz(isSet(mstatus, status.SUM)))), pageFault),
        ),
        physical.set(i64.shl(i64.and(i64.shrU(entry.get, c(10)), ppnMask), c(12))),
        reach.set(i64.sub(i64.shl(c(1), shift.get), c(1))),
        hasNapot
          ? when(isSet(entry.get, napotBit), [
              // Of the lowest level only, with ppn[3:0] = 1000 (Svnapot).
              when(i64.ne(shift.get, c(12)), pageFault),
              when(i64.ne(i64.and(physical.get, c(napotMask)), c(0x8000)), pageFault),
              physical.set(i64.xor(physical.get, c(0x8000))),
              reach.set(c(napotMask)),
            ])
          : [],
        when(i64.ne(i64.and(physical.get, low), c(0)), pageFault),
        when(i64.ne(i64.and(entry.get, needed), needed), [
          // Svade unless menvcfg.ADUE asks for Svadu.
          when(i32.eqz(isSet(state.menvcfg.get, 1n << 61n)), pageFault),
          when(i32.eqz(call(pmpAllows, i64.add(at.get, c(place.ramBase)), k(access.write), k(1))), refused),
          i64.store(entryHost, i64.or(entry.get, needed)),
        ]),
        physical.set(i64.or(physical.get, i64.and(address.get, low))),
        when(i64.ne(reach.get, c(0xfff)), call(noteSuperpage, address.get, reach.get)),
      ),
      when(i32.eqz(call(pmpAllows, physical.get, kind.get, priv.get)), refused),
      physical.get,
    ];
  });
  return { translate, accessFault, misaligned, fault };
};
