import type { PageTableFormat } from '#iommufd/pagetable/format';
import { sv39, sv48, sv57 } from '#iommufd/pagetable/formats/riscv';
import { walk } from '#iommufd/pagetable/walk';
import type { Hart } from '../cpu/riscv/hart.ts';

/** satp.MODE (privileged ISA §12.1.11). */
const modes: Readonly<Record<number, PageTableFormat>> = { 8: sv39(), 9: sv48(), 10: sv57() };
const pageBytes = 4096n;

/** Where a hart finds a virtual address now, whatever its rights there are; undefined where nothing is mapped. */
export function physicalOf(hart: Hart, virtual: bigint): bigint | undefined {
  const satp = hart.csr('satp') ?? 0n;
  const format = modes[Number(satp >> 60n)];
  // Bare, or machine mode, which does not translate.
  if (!format || hart.privilege === 3) return virtual;
  const root = (satp & ((1n << 44n) - 1n)) * pageBytes;
  const walked = walk(format, root, virtual, (at) => {
    const entry = hart.guestBytes(at, 8n);
    return entry && new DataView(entry.buffer, entry.byteOffset, 8).getBigUint64(0, true);
  });
  return walked.kind === 'leaf' ? walked.address : undefined;
}

/** The pieces of RAM that a range of virtual (or physical) addresses is; undefined where a part is none. */
export function ramPieces(
  hart: Hart,
  address: bigint,
  length: number,
  isPhysical: boolean,
): readonly Uint8Array[] | undefined {
  const pieces: Uint8Array[] = [];
  const end = address + BigInt(length);
  for (let at = address; at < end;) {
    const next = (at / pageBytes + 1n) * pageBytes;
    const bytes = (next < end ? next : end) - at;
    const physical = isPhysical ? at : physicalOf(hart, at);
    const piece = physical === undefined ? undefined : hart.guestBytes(physical, bytes);
    if (!piece) return undefined;
    pieces.push(piece);
    at += bytes;
  }
  return pieces;
}
