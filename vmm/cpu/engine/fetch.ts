/** The way to code: from a virtual address to a slot of a predecoded page that is as current as fence.i asks. */
import { pageBytes } from '#vmm/base/address';
import { access, type AddressSpace, type Place, tagMask, tlbIndex } from './address-space.ts';
import type { EngineImports } from './imports.ts';
import type { EngineLayout } from './layout.ts';
import { bankBytes, banks, codeCopy, codePageBytes, firstTranslation, slot, slotsPerPage, tlbBytes } from './layout.ts';
import { continues, regionType } from './region.ts';
import type { EngineState } from './state.ts';
import type { FunctionReference, I32 } from './wasm.ts';
import { block, br, brIf, call, copy, fill, i32, i64, label, loop, ret, returnCallIndirect, when } from './wasm.ts';
import type { ModuleBuilder } from './wasm-module.ts';

type Returns<T> = FunctionReference & { result: T };

export interface Fetches {
  /** `state.pc` → slot address, with `pageIp` and `pcPage` set; 0 = faulted. */
  readonly fetch: Returns<'i32'>;
  /** (slot) → handler index of the instruction that begins there and ends on the next page; fault flag as usual. */
  readonly crossing: Returns<'i32'>;
  /** (virtual) → what a region returns: goes on in the translation that begins there, if one does. */
  readonly chain: Returns<'i32'>;
  /** Code decoded from pages that were written since is decoded anew. */
  readonly fenceCode: Returns<'void'>;
}

const k = i32.const;

export const emitFetches = (
  module: ModuleBuilder,
  state: EngineState,
  layout: EngineLayout,
  place: Place,
  imports: EngineImports,
  space: AddressSpace,
  lookUp: Returns<'void'>,
): Fetches => {
  const fetchTlb = place.hart + layout.fetchTlb;
  const fault = state.fault.get;

  /** (virtual) → host address of code, 0 = faulted. */
  const codeAddress = module.function('codeAddress', ['i64'], 'i32', (locals) => {
    const address = locals.param('i64', 0);
    const offset = locals.local('i64');
    return [
      offset.set(i64.sub(call(space.translate, address.get, k(access.fetch)), i64.const(place.ramBase))),
      when(fault, ret(k(0))),
      when(i64.geU(offset.get, i64.const(layout.guestBytes)), [
        call(space.accessFault, address.get, k(access.fetch)),
        ret(k(0)),
      ]),
      i32.add(i32.wrap(offset.get), k(place.guestBase)),
    ];
  });

  const codePageAt = (index: I32): I32 => i32.add(k(layout.codePool), i32.mul(index, k(codePageBytes)));
  const guestPageOf = (index: I32): I32 =>
    i32.add(k(place.guestBase), i32.shl(i32.load(i32.shl(index, k(2)), layout.codeOwners), k(12)));
  const generation = i32.load(k(0), layout.generation);
  const isCurrent = (index: I32): I32 => i32.eq(i32.load(i32.shl(index, k(2)), layout.generation + 4), generation);

  /** (code page): forgets its slots, and copies the guest page anew. */
  const renew = module.function('renew', ['i32'], 'void', (locals) => {
    const index = locals.param('i32', 0);
    return [
      when(i32.load8u(index.get, layout.codeTranslated), call(imports.dropTranslations, index.get)),
      fill(codePageAt(index.get), k(0), k(slotsPerPage * slot.bytes)),
      copy(i32.add(codePageAt(index.get), k(codeCopy)), guestPageOf(index.get), k(pageBytes)),
    ];
  });

  /** (code page): renews it if the guest page is no longer what was copied. */
  const validate = module.function('validate', ['i32'], 'void', (locals) => {
    const index = locals.param('i32', 0);
    const [now, then, end] = [locals.local('i32'), locals.local('i32'), locals.local('i32')];
    const [doublewords, same] = [label('doublewords'), label('same')];
    return [
      i32.store(i32.shl(index.get, k(2)), generation, layout.generation + 4),
      now.set(guestPageOf(index.get)),
      then.set(i32.add(codePageAt(index.get), k(codeCopy))),
      end.set(i32.add(now.get, k(pageBytes))),
      block(
        same,
        loop(
          doublewords,
          when(i64.eq(i64.load(now.get), i64.load(then.get)), [
            now.set(i32.add(now.get, k(8))),
            then.set(i32.add(then.get, k(8))),
            brIf(doublewords, i32.ltU(now.get, end.get)),
            br(same),
          ]),
        ),
        call(renew, index.get),
      ),
    ];
  });

  const fetch = module.function('fetch', [], 'i32', (locals) => {
    const [entry, ip, page] = [locals.local('i32'), locals.local('i32'), locals.local('i32')];
    const pc = state.pc.get;
    return [
      entry.set(i32.add(state.fetchBank.get, tlbIndex(pc))),
      when(i64.eq(i64.load(entry.get), i64.and(pc, tagMask)), ip.set(i32.load(entry.get, 8)), [
        page.set(call(codeAddress, pc)),
        when(fault, ret(k(0))),
        page.set(i32.shrU(i32.sub(page.get, k(place.guestBase)), k(12))),
        ip.set(i32.load16u(i32.shl(page.get, k(1)), layout.codeMap)),
        when(
          ip.get,
          [
            ip.set(i32.sub(ip.get, k(1))),
            when(i32.eqz(isCurrent(ip.get)), call(validate, ip.get)),
            ip.set(codePageAt(ip.get)),
          ],
          ip.set(call(imports.codePage, page.get)),
        ),
        i64.store(entry.get, i64.and(pc, tagMask)),
        i32.store(entry.get, ip.get, 8),
      ]),
      state.pageIp.set(ip.get),
      state.pcPage.set(i64.and(pc, tagMask)),
      i32.add(ip.get, i32.shl(i32.and(i32.wrap(pc), k(4094)), k(3))),
    ];
  });

  const crossing = module.function('crossing', ['i32'], 'i32', (locals) => {
    const ip = locals.param('i32', 0);
    const [at, half] = [locals.local('i32'), locals.local('i32')];
    return [
      at.set(call(codeAddress, i64.add(state.pcPage.get, i64.const(pageBytes)))),
      when(fault, ret(k(0))),
      half.set(i32.load16u(at.get)),
      when(
        i32.or(i32.eqz(i32.load16u(ip.get, slot.real)), i32.ne(i32.load16u(ip.get, slot.upper), half.get)),
        call(imports.decodeCrossing, ip.get, half.get),
      ),
      i32.load16u(ip.get, slot.real),
    ];
  });

  const fenceCode = module.function(
    'fenceCode',
    [],
    'void',
    (locals) => {
      const [count, index, hart] = [locals.local('i32'), locals.local('i32'), locals.local('i32')];
      const [pages, harts] = [label('pages'), label('harts')];
      const writeTlb = layout.firstHart + layout.dataTlb + tlbBytes;
      return [
        when(state.foreignWrites.get, [
          state.foreignWrites.set(k(0)),
          i32.store(k(0), i32.add(generation, k(1)), layout.generation),
          // Every page is fetched anew, and compared then.
          fill(k(fetchTlb), k(0xff), k(banks * tlbBytes)),
          call(lookUp),
        ]),
        count.set(i32.load(k(0), layout.dirtyList)),
        when(i32.eqz(count.get), ret()),
        loop(
          pages,
          count.set(i32.sub(count.get, k(1))),
          index.set(i32.load(i32.shl(count.get, k(2)), layout.dirtyList + 4)),
          i32.store8(index.get, k(0), layout.codeDirty),
          call(renew, index.get),
          brIf(pages, count.get),
        ),
        i32.store(k(0), k(0), layout.dirtyList),
        // The next store to such a page must be noticed again.
        loop(
          harts,
          Array.from({ length: banks }, (_, bank) =>
            fill(i32.add(hart.get, k(writeTlb + bank * bankBytes)), k(0xff), k(tlbBytes)),
          ),
          hart.set(i32.add(hart.get, k(layout.hartStride))),
          brIf(harts, i32.ltU(hart.get, k(layout.harts * layout.hartStride))),
        ),
      ];
    },
    true,
  );

  /** (virtual) Tail: the translation that begins there, or 0 = `state.pc` is there. */
  const chain = module.function('chain', ['i64'], 'i32', (locals) => {
    const target = locals.param('i64', 0);
    const entry = locals.local('i32');
    const page = i64.and(target.get, tagMask);
    return [
      entry.set(i32.add(state.fetchBank.get, tlbIndex(target.get))),
      when(i64.eq(i64.load(entry.get), page), [
        entry.set(
          i32.load16u(
            i32.add(i32.load(entry.get, 8), i32.shl(i32.and(i32.wrap(target.get), k(4094)), k(3))),
            slot.heat,
          ),
        ),
        when(
          i32.geU(entry.get, k(firstTranslation)),
          returnCallIndirect(regionType, i32.sub(entry.get, k(firstTranslation)), page),
        ),
      ]),
      state.pc.set(target.get),
      k(continues),
    ];
  });

  return { fetch, crossing, chain, fenceCode };
};
