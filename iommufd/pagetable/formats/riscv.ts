import { register } from '#vmm/base/bits';
import { attribute, type Entry, entryKind, type Level, mapProt, type PageTableFormat } from '../format.ts';

/** A page-table entry; Svnapot and Svpbmt included. */
export const pte = register({
  width: 64,
  spec: 'RISC-V Privileged §12.4.1, ch. 13, ch. 14',
  // prettier-ignore
  fields: {
    V: { bits: 0 }, R: { bits: 1 }, W: { bits: 2 }, X: { bits: 3 }, U: { bits: 4 }, G: { bits: 5 }, A: { bits: 6 },
    D: { bits: 7 }, RSW: { bits: [9, 8] }, PPN: { bits: [53, 10] }, rsw60t59b: { bits: [60, 59] },
    PBMT: { bits: [62, 61], values: { 0: 'PMA', 1: 'NC', 2: 'IO' } }, N: { bits: 63 },
  },
});

export interface RiscvPagingFeatures {
  /** Svpbmt: memory types in leaf entries. */
  readonly svpbmt?: boolean;
  /** Svrsw60t59b: bits 60:59 are software's. */
  readonly svrsw60t59b?: boolean;
}

const V = Number(pte.mask('V'));
const R = Number(pte.mask('R'));
const W = Number(pte.mask('W'));
const X = Number(pte.mask('X'));
const U = Number(pte.mask('U'));
const G = Number(pte.mask('G'));
const A = Number(pte.mask('A'));
const D = Number(pte.mask('D'));
const rsw60t59b = pte.mask('rsw60t59b');
const pbmtIo = 2 << 29;
/** A 64 KiB contiguous page: 16 entries, the page number's low four bits say so (Svnapot). */
const napotShift = 16;

const decode = (raw: bigint, level: number, shift: number, features: RiscvPagingFeatures): Entry => {
  const low = Number(raw & 0xffn);
  if (!(low & V)) return { kind: 'empty' };
  const malformed = (why: string): Entry => ({ kind: 'malformed', why });
  if ((low & (R | W)) === W) return malformed('W without R');
  if (raw & pte.reserved) return malformed('reserved bits set');
  if (!features.svrsw60t59b && raw & rsw60t59b) return malformed('reserved bits 60:59 set');
  const memoryType = Number((raw >> 61n) & 3n);
  if (memoryType === 3 || (memoryType !== 0 && !features.svpbmt)) return malformed('reserved PBMT');
  const napot = raw >> 63n !== 0n;
  if (napot && level !== 0) return malformed('N above the last level');
  const base = ((raw >> 10n) & 0xfff_ffff_ffffn) << 12n;
  if (!(low & (R | X))) {
    if (low & (A | D | U)) return malformed('A, D or U in a pointer');
    if (memoryType !== 0) return malformed('PBMT in a pointer');
    if (napot) return malformed('N in a pointer');
    return { kind: 'table', next: base, global: (low & G) !== 0 };
  }
  if (base & ((1n << BigInt(shift)) - 1n)) return malformed('misaligned superpage');
  if (napot && ((raw >> 10n) & 15n) !== 8n) return malformed('reserved NAPOT size');
  let attributes = 0;
  if (low & R) attributes |= attribute.read;
  if (low & W) attributes |= attribute.write;
  if (low & X) attributes |= attribute.execute;
  if (low & U) attributes |= attribute.user;
  if (low & G) attributes |= attribute.global;
  if (low & A) attributes |= attribute.accessed;
  if (low & D) attributes |= attribute.dirty;
  if (!napot) return { kind: 'leaf', base, shift, attributes, memoryType };
  return { kind: 'leaf', base: (base >> 16n) << 16n, shift: napotShift, attributes, memoryType };
};

const sv = (
  name: string,
  spec: string,
  count: number,
  x4: boolean,
): ((features?: RiscvPagingFeatures) => PageTableFormat) => {
  const levels: Level[] = [];
  for (let level = count - 1; level >= 0; level--)
    levels.push({ shift: 12 + 9 * level, bits: x4 && level === count - 1 ? 11 : 9 });
  return (features = {}) => ({
    name,
    spec,
    levels,
    upperBits: x4 ? 'zero' : 'sign-extended',
    rootBytes: x4 ? 16384 : 4096,
    ppnLow: 10,
    ppnBits: 44,
    decode: (raw, level) => decode(raw, level, 12 + 9 * level, features),
    leafFlags: (prot, dirty) => ({
      // The second stage always checks as User (§12.5.1), so its pages are U pages; the first stage's are a device's.
      lo:
        V |
        U |
        A |
        (prot & mapProt.read ? R : 0) |
        (prot & mapProt.write ? R | W : 0) |
        (prot & mapProt.noexec ? 0 : X) |
        (dirty ? D : 0),
      hi: prot & mapProt.mmio && features.svpbmt ? pbmtIo : 0,
    }),
    tableFlags: { lo: V, hi: 0 },
    kind: (lo) => (!(lo & V) ? entryKind.empty : lo & (R | X) ? entryKind.leaf : entryKind.table),
    dirtyLo: D,
  });
};

export const sv39 = sv('Sv39', 'RISC-V Privileged §12.4', 3, false);
export const sv48 = sv('Sv48', 'RISC-V Privileged §12.5', 4, false);
export const sv57 = sv('Sv57', 'RISC-V Privileged §12.6', 5, false);
export const sv39x4 = sv('Sv39x4', 'RISC-V Privileged §15.5.1', 3, true);
export const sv48x4 = sv('Sv48x4', 'RISC-V Privileged §15.5.1', 4, true);
export const sv57x4 = sv('Sv57x4', 'RISC-V Privileged §15.5.1', 5, true);
