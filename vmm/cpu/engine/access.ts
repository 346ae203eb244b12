/**
 * The slow paths of loads and stores: what happens when the software TLB does not know the page. They refill it, split
 * what is misaligned, and take what is not RAM to the bus. All of it is generated code.
 */
import { pageBytes } from '#vmm/base/address';
import type { EngineImports } from './imports.ts';
import { access, type AddressSpace, type Place, tagMask, tlbIndex } from './address-space.ts';
import { emitFetches, type Fetches } from './fetch.ts';
import type { EngineLayout } from './layout.ts';
import { bankBytes, banks, tlbBytes } from './layout.ts';
import type { EngineState } from './state.ts';
import type { FunctionReference, I32, I64, Statement } from './wasm.ts';
import type { ModuleBuilder } from './wasm-module.ts';
import { block, br, brIf, call, choose, fill, i32, i64, label, loop, ret, select, when } from './wasm.ts';

type Returns<T> = FunctionReference & { result: T };

/** Width and extension of a load: log2 of bytes, +4 = zero-extended. Stores use the first four. */
export const width = { s8: 0, s16: 1, s32: 2, d64: 3, u8: 4, u16: 5, u32: 6 } as const;
export type Width = keyof typeof width;

export interface Accesses extends Fetches {
  /** (virtual, width) → value. */
  readonly loadSlow: Returns<'i64'>;
  /** (virtual, value, width). */
  readonly storeSlow: Returns<'void'>;
  /** (virtual, access) → host address in RAM; 0 where it faulted or is no RAM (`state.physical` tells). */
  readonly dataAddress: Returns<'i32'>;
  /** The same, but faults where there is no RAM: for what must be atomic. */
  readonly ramAddress: Returns<'i32'>;
  /**
   * The same for a region, with what it knows before: (…, instructions left behind this one, address of this one).
   * Where `fault` is 0 and `left` is not, it goes on.
   */
  readonly regionLoad: Returns<'i64'>;
  readonly regionStore: Returns<'void'>;
  readonly regionAddress: Returns<'i32'>;
  /** Ends the slice: the run loop looks up after the present instruction. */
  readonly lookUp: Returns<'void'>;
  /** Forgets all translations. */
  readonly flushAll: Returns<'void'>;
  /** (virtual): forgets those of one page of 4 KiB. */
  readonly flushPage: Returns<'void'>;
}

const k = i32.const;

export const emitAccesses = (
  module: ModuleBuilder,
  state: EngineState,
  layout: EngineLayout,
  place: Place,
  imports: EngineImports,
  space: AddressSpace,
): Accesses => {
  const dataTlb = place.hart + layout.dataTlb;
  const fetchTlb = place.hart + layout.fetchTlb;
  const fault = state.fault.get;
  const ramOffset = (physical: I64): I64 => i64.sub(physical, i64.const(place.ramBase));

  const lookUp = module.function('lookUp', [], 'void', () => [
    state.sliceEnd.set(i64.sub(state.sliceEnd.get, i64.extendU(state.left.get))),
    state.left.set(k(0)),
  ]);

  const codeWritten = module.function('codeWritten', ['i32'], 'void', (locals) => {
    const index = locals.param('i32', 0);
    const count = locals.local('i32');
    return when(i32.eqz(i32.load8u(index.get, layout.codeDirty)), [
      i32.store8(index.get, k(1), layout.codeDirty),
      count.set(i32.load(k(0), layout.dirtyList)),
      i32.store(i32.shl(count.get, k(2)), index.get, layout.dirtyList + 4),
      i32.store(k(0), i32.add(count.get, k(1)), layout.dirtyList),
    ]);
  });

  const dataAddress = module.function('dataAddress', ['i64', 'i32'], 'i32', (locals) => {
    const [address, kind] = [locals.param('i64', 0), locals.param('i32', 1)];
    const [physical, offset] = [locals.local('i64'), locals.local('i64')];
    const [entry, host, code] = [locals.local('i32'), locals.local('i32'), locals.local('i32')];
    const page = i32.wrap(i64.shrU(offset.get, i64.const(12)));
    const write = i32.eq(kind.get, k(access.write));
    return [
      physical.set(call(space.translate, address.get, kind.get)),
      state.physical.set(physical.get),
      when(fault, ret(k(0))),
      offset.set(ramOffset(physical.get)),
      when(i64.geU(offset.get, i64.const(layout.guestBytes)), ret(k(0))),
      host.set(i32.add(i32.wrap(offset.get), k(place.guestBase))),
      entry.set(i32.add(state.bank.get, tlbIndex(address.get))),
      when(write, [
        entry.set(i32.add(entry.get, k(tlbBytes))),
        when(i32.eq(page, state.watchPage.get), ret(host.get)),
        code.set(i32.load16u(i32.shl(page, k(1)), layout.codeMap)),
        when(code.get, call(codeWritten, i32.sub(code.get, k(1)))),
        when(i32.load8u(page, layout.watchMap), [call(imports.storing), ret(host.get)]),
      ]),
      i64.store(entry.get, i64.and(address.get, tagMask)),
      i32.store(entry.get, i32.sub(host.get, i32.wrap(address.get)), 8),
      host.get,
    ];
  });

  const ramAddress = module.function('ramAddress', ['i64', 'i32'], 'i32', (locals) => {
    const [address, kind] = [locals.param('i64', 0), locals.param('i32', 1)];
    const host = locals.local('i32');
    return [
      host.set(call(dataAddress, address.get, kind.get)),
      when(i32.eqz(i32.or(host.get, fault)), call(space.accessFault, address.get, kind.get)),
      host.get,
    ];
  });

  /** The same as `dataAddress`, but asks the TLB first: a misaligned access comes here although the page is known. */
  const hostAddress = module.function('hostAddress', ['i64', 'i32'], 'i32', (locals) => {
    const [address, kind] = [locals.param('i64', 0), locals.param('i32', 1)];
    const entry = locals.local('i32');
    return [
      // `access.write` is 1: the write TLB lies behind the read TLB.
      entry.set(i32.add(i32.add(state.bank.get, tlbIndex(address.get)), i32.mul(kind.get, k(tlbBytes)))),
      when(
        i64.eq(i64.load(entry.get), i64.and(address.get, tagMask)),
        ret(i32.add(i32.wrap(address.get), i32.load(entry.get, 8))),
      ),
      call(dataAddress, address.get, kind.get),
    ];
  });

  /** Host address of byte `index` of an access that begins at `first` and ends at `last`, on another page. */
  const split = (address: I64, index: I32, size: I32, first: I32, last: I32): I32 =>
    select(
      i32.ltU(i32.add(i32.and(i32.wrap(address), k(4095)), index), k(pageBytes)),
      i32.add(first, index),
      i32.sub(last, i32.sub(i32.sub(size, k(1)), index)),
    );
  const lastByte = (address: I64, size: I32): I64 => i64.add(address, i64.extendU(i32.sub(size, k(1))));
  /** Where the part on the second page begins: the address that its fault tells (privileged ISA §3.1.16). */
  const nextPage = (address: I64, size: I32): I64 => i64.and(lastByte(address, size), tagMask);
  const lastOffset = (address: I64, size: I32): I32 => i32.and(i32.wrap(lastByte(address, size)), k(pageBytes - 1));
  const isMisaligned = (address: I64, size: I32): I32 => i32.and(i32.wrap(address), i32.sub(size, k(1)));
  const crosses = (address: I64, size: I32): I32 =>
    i32.gtU(i32.add(i32.and(i32.wrap(address), k(4095)), size), k(pageBytes));
  const bus = (callee: Returns<'i32'>, size: I32): I32 =>
    call(callee, i32.wrap(state.physical.get), i32.wrap(i64.shrU(state.physical.get, i64.const(32))), size);
  const isWatched = (host: I32): I32 => i32.eq(i32.shrU(i32.sub(host, k(place.guestBase)), k(12)), state.watchPage.get);

  const loadSlow = module.function('loadSlow', ['i64', 'i32'], 'i64', (locals) => {
    const [address, kind] = [locals.param('i64', 0), locals.param('i32', 1)];
    const [size, first] = [locals.local('i32'), locals.local('i32')];
    const [last, index] = [locals.local('i32'), locals.local('i32')];
    const [value, shift] = [locals.local('i64'), locals.local('i64')];
    const [bytes, done] = [label('bytes'), label('done')];
    const nothing = ret(i64.const(0));
    const misaligned: Statement = [call(space.misaligned, address.get, k(access.read)), nothing];
    return [
      size.set(i32.shl(k(1), i32.and(kind.get, k(3)))),
      first.set(call(hostAddress, address.get, k(access.read))),
      when(fault, nothing),
      block(
        done,
        when(i32.eqz(first.get), [
          when(isMisaligned(address.get, size.get), misaligned),
          state.foreignWrites.set(k(1)),
          when(i32.eqz(bus(imports.busRead, size.get)), [
            call(space.accessFault, address.get, k(access.read)),
            nothing,
          ]),
          value.set(state.busValue.get),
          br(done),
        ]),
        when(crosses(address.get, size.get), [
          last.set(call(hostAddress, nextPage(address.get, size.get), k(access.read))),
          when(fault, nothing),
          when(i32.eqz(last.get), misaligned),
          last.set(i32.add(last.get, lastOffset(address.get, size.get))),
          value.set(i64.const(0)),
          index.set(size.get),
          loop(
            bytes,
            index.set(i32.sub(index.get, k(1))),
            value.set(
              i64.or(
                i64.shl(value.get, i64.const(8)),
                i64.load8u(split(address.get, index.get, size.get, first.get, last.get)),
              ),
            ),
            brIf(bytes, index.get),
          ),
          br(done),
        ]),
        when(i32.eq(size.get, k(8)), [value.set(i64.load(first.get)), br(done)]),
        when(i32.eq(size.get, k(4)), [value.set(i64.load32u(first.get)), br(done)]),
        when(i32.eq(size.get, k(2)), [value.set(i64.load16u(first.get)), br(done)]),
        value.set(i64.load8u(first.get)),
      ),
      shift.set(i64.extendU(i32.sub(k(64), i32.shl(size.get, k(3))))),
      value.set(i64.shl(value.get, shift.get)),
      choose('i64', i32.and(kind.get, k(4)), i64.shrU(value.get, shift.get), i64.shrS(value.get, shift.get)),
    ];
  });

  const storeSlow = module.function('storeSlow', ['i64', 'i64', 'i32'], 'void', (locals) => {
    const [address, value, kind] = [locals.param('i64', 0), locals.param('i64', 1), locals.param('i32', 2)];
    const [size, first] = [locals.local('i32'), locals.local('i32')];
    const [last, index] = [locals.local('i32'), locals.local('i32')];
    const [bytes, done] = [label('bytes'), label('done')];
    const misaligned: Statement = [call(space.misaligned, address.get, k(access.write)), ret()];
    return [
      size.set(i32.shl(k(1), kind.get)),
      first.set(call(hostAddress, address.get, k(access.write))),
      when(fault, ret()),
      when(i32.eqz(first.get), [
        when(isMisaligned(address.get, size.get), misaligned),
        state.busValue.set(value.get),
        state.foreignWrites.set(k(1)),
        when(i32.eqz(bus(imports.busWrite, size.get)), call(space.accessFault, address.get, k(access.write))),
        ret(),
      ]),
      last.set(first.get),
      block(
        done,
        when(crosses(address.get, size.get), [
          // Both pages are asked before a byte is stored.
          last.set(call(hostAddress, nextPage(address.get, size.get), k(access.write))),
          when(fault, ret()),
          when(i32.eqz(last.get), misaligned),
          last.set(i32.add(last.get, lastOffset(address.get, size.get))),
          loop(
            bytes,
            i64.store8(split(address.get, index.get, size.get, first.get, last.get), value.get),
            value.set(i64.shrU(value.get, i64.const(8))),
            index.set(i32.add(index.get, k(1))),
            brIf(bytes, i32.ltU(index.get, size.get)),
          ),
          br(done),
        ]),
        when(i32.eq(size.get, k(8)), [i64.store(first.get, value.get), br(done)]),
        when(i32.eq(size.get, k(4)), [i64.store32(first.get, value.get), br(done)]),
        when(i32.eq(size.get, k(2)), [i64.store16(first.get, value.get), br(done)]),
        i64.store8(first.get, value.get),
      ),
      when(i32.or(isWatched(first.get), isWatched(last.get)), call(imports.watched)),
    ];
  });

  const known = (left: I32, pc: I64): Statement => [state.left.set(left), state.pc.set(pc)];
  const regionLoad = module.function('regionLoad', ['i64', 'i32', 'i32', 'i64'], 'i64', (locals) => [
    known(locals.param('i32', 2).get, locals.param('i64', 3).get),
    call(loadSlow, locals.param('i64', 0).get, locals.param('i32', 1).get),
  ]);
  const regionStore = module.function('regionStore', ['i64', 'i64', 'i32', 'i32', 'i64'], 'void', (locals) => [
    known(locals.param('i32', 3).get, locals.param('i64', 4).get),
    call(storeSlow, locals.param('i64', 0).get, locals.param('i64', 1).get, locals.param('i32', 2).get),
  ]);
  const regionAddress = module.function('regionAddress', ['i64', 'i32', 'i32', 'i64'], 'i32', (locals) => [
    known(locals.param('i32', 2).get, locals.param('i64', 3).get),
    call(ramAddress, locals.param('i64', 0).get, locals.param('i32', 1).get),
  ]);

  const flushAll = module.function('flushAll', [], 'void', () => [
    fill(k(dataTlb), k(0xff), k(banks * bankBytes)),
    fill(k(fetchTlb), k(0xff), k(banks * tlbBytes)),
  ]);

  const flushPage = module.function('flushPage', ['i64'], 'void', (locals) => {
    const index = locals.local('i32');
    const empty = i64.const(-1);
    return [
      index.set(tlbIndex(locals.param('i64', 0).get)),
      Array.from({ length: 2 * banks }, (_, i): Statement => i64.store(index.get, empty, dataTlb + i * tlbBytes)),
      Array.from({ length: banks }, (_, i): Statement => i64.store(index.get, empty, fetchTlb + i * tlbBytes)),
    ];
  });

  const fetches = emitFetches(module, state, layout, place, imports, space, lookUp);
  return {
    ...fetches,
    loadSlow,
    storeSlow,
    dataAddress,
    ramAddress,
    regionLoad,
    regionStore,
    regionAddress,
    lookUp,
    flushAll,
    flushPage,
  };
};
