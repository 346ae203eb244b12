import { pageBytes } from '#vmm/base/address';
import type { HostMemory } from '#vmm/base/memory';
import {
  banks,
  bankBytes,
  codeCopy,
  codePageBytes,
  type EngineLayout,
  slot,
  slotsPerPage,
  tlbBytes,
} from './layout.ts';

/** Decodes the instruction at host address `at` into the slot at `to`. */
export interface Decoder {
  /** Returns bytes decoded; `room` is what is left of the page. `upper` replaces the half beyond the page. */
  decode(at: number, to: number, room: number, upper?: number): number;
  /** Handler index of the two slots behind a page. */
  readonly pageEnd: number;
}

/**
 * Pages of predecoded instructions, shared by all harts: one a page of guest RAM that code was fetched from, made on
 * the first fetch, copied then, decoded from the copy slot by slot when first executed, forgotten first-in first-out.
 * Like an instruction cache it may be stale until fence.i, which finds pages that harts stored to in a list, and has
 * all others compared with their copies if DMA may have happened.
 */
export class CodeCache {
  readonly #memory: HostMemory;
  readonly #layout: EngineLayout;
  readonly #decoder: Decoder;
  readonly #forgets: (page: number) => void;
  readonly #map: Uint16Array;
  readonly #owners: Uint32Array;
  #used = 0;
  #hand = 0;
  /** Hart that ran last: another one's turn breaks reservations. */
  lastHart = -1;

  /** @param forgets a code page is about to hold another page of the guest */
  constructor(memory: HostMemory, layout: EngineLayout, decoder: Decoder, forgets: (page: number) => void) {
    this.#forgets = forgets;
    this.#memory = memory;
    this.#layout = layout;
    this.#decoder = decoder;
    this.#map = new Uint16Array(memory.buffer, layout.codeMap, Math.ceil(layout.guestBytes / pageBytes));
    this.#owners = new Uint32Array(memory.buffer, layout.codeOwners, layout.codePages);
  }

  /** Address of the code page for a page of guest RAM (counted from its start), made if need be. */
  page(guestPage: number): number {
    const known = this.#map[guestPage]!;
    if (known !== 0) return this.#layout.codePool + (known - 1) * codePageBytes;
    let index = this.#used;
    if (index < this.#layout.codePages) this.#used++;
    else {
      index = this.#hand;
      this.#hand = (this.#hand + 1) % this.#layout.codePages;
      this.#map[this.#owners[index]!] = 0;
      this.#forgets(index);
      this.#flush('fetch');
    }
    this.#map[guestPage] = index + 1;
    this.#owners[index] = guestPage;
    const at = this.#layout.codePool + index * codePageBytes;
    const end = at + slotsPerPage * slot.bytes;
    this.#memory.bytes.fill(0, at, end);
    this.#memory.view.setUint16(end, this.#decoder.pageEnd, true);
    this.#memory.view.setUint16(end + slot.bytes, this.#decoder.pageEnd, true);
    const source = this.#memory.guestBase + guestPage * pageBytes;
    this.#memory.bytes.copyWithin(at + codeCopy, source, source + pageBytes);
    const { generation } = this.#layout;
    this.#memory.i32[(generation >> 2) + 1 + index] = this.#memory.i32[generation >> 2]!;
    // From now on the first store to this page must be noticed, so that fence.i knows of it.
    this.#flush('write');
    return at;
  }

  /** Decodes from the slot at `ip` on. */
  decode(ip: number): void {
    const { at, room } = this.#source(ip);
    let done = 0;
    for (let i = 0; i < 16 && done < room; i++) {
      const to = ip + (done / 2) * slot.bytes;
      if (i > 0 && this.#memory.view.getUint16(to, true) !== 0) break;
      done += this.#decoder.decode(at + done, to, room - done);
    }
  }

  /** Decodes the instruction that begins in the last slot of its page and ends with `upper` on the next. */
  decodeCrossing(ip: number, upper: number): void {
    const { at } = this.#source(ip);
    const { view } = this.#memory;
    const crossing = view.getUint16(ip + slot.handler, true);
    this.#decoder.decode(at, ip, 2, upper);
    view.setUint16(ip + slot.real, view.getUint16(ip + slot.handler, true), true);
    view.setUint16(ip + slot.handler, crossing, true);
    view.setUint16(ip + slot.upper, upper, true);
  }

  #source(ip: number): { at: number; room: number } {
    const offset = ip - this.#layout.codePool;
    const index = Math.floor(offset / codePageBytes);
    const within = ((offset - index * codePageBytes) / slot.bytes) * 2;
    return { at: ip - (offset - index * codePageBytes) + codeCopy + within, room: pageBytes - within };
  }

  /** The next store to any page takes the slow way. */
  forgetWriteTranslations(): void {
    this.#flush('write');
  }

  #flush(which: 'fetch' | 'write'): void {
    const { bytes } = this.#memory;
    for (let hart = 0; hart < this.#layout.harts; hart++) {
      const block = this.#layout.firstHart + hart * this.#layout.hartStride;
      for (let bank = 0; bank < banks; bank++) {
        const at =
          which === 'fetch'
            ? block + this.#layout.fetchTlb + bank * tlbBytes
            : block + this.#layout.dataTlb + bank * bankBytes + tlbBytes;
        bytes.fill(0xff, at, at + tlbBytes);
      }
    }
  }
}
