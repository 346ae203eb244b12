/** A file of an archive that a kernel unpacks as its first root file system. */
export interface CpioEntry {
  readonly name: string;
  /** File type and permissions (stat.h). */
  readonly mode: number;
  readonly content?: Uint8Array;
  /** Of a device node. */
  readonly device?: { readonly major: number; readonly minor: number };
}

export const fileTypes = { folder: 0o040000, file: 0o100000, link: 0o120000, character: 0o020000 } as const;

/** Linux, Documentation/driver-api/early-userspace/buffer-format.rst: "newc". */
const magic = '070701';
const trailer = 'TRAILER!!!';

/** Owned by root, dated 1970, in the given order: the same entries give the same bytes. */
export function encodeCpio(entries: readonly CpioEntry[]): Buffer {
  const pieces: Uint8Array[] = [];
  const pad = (length: number): Buffer => Buffer.alloc((4 - (length % 4)) % 4);
  [...entries, { name: trailer, mode: 0 } as CpioEntry].forEach(({ name, mode, content, device }, index) => {
    const size = content?.length ?? 0;
    const nameBytes = Buffer.from(`${name}\0`);
    // prettier-ignore
    const fields = [
      index + 1 /* ino */, mode, 0 /* uid */, 0 /* gid */, 1 /* nlink */, 0 /* mtime */, size, 0, 0,
      device?.major ?? 0, device?.minor ?? 0, nameBytes.length, 0 /* check */,
    ];
    const header = Buffer.concat([
      Buffer.from(magic + fields.map((field) => field.toString(16).padStart(8, '0')).join('')),
      nameBytes,
    ]);
    pieces.push(header, pad(header.length));
    if (content) pieces.push(content, pad(size));
  });
  return Buffer.concat(pieces);
}
