/** The disk image that the `dma` guest expects; its first bytes say where everything is. */

/** The layout: header at byte 0 (little-endian, see {@link encodeDiskHeader}), data, write-back area. */
export const diskLayout = {
  bytes: 24 << 20,
  headerBytes: 4096,
  dataOffset: 1 << 20,
  dataBytes: 8 << 20,
  writebackOffset: 16 << 20,
  writebackBytes: 1 << 20,
} as const;

/** What the guest writes into the write-back area: the little-endian xorshift32 words that follow this seed. */
export const writebackSeed = 0x1f2e3d4c;

const MAGIC = 'IOMMULAB';
const VERSION = 1;

export interface DiskHeader {
  readonly dataOffset: number;
  readonly dataBytes: number;
  /** CRC-32 of the data area, as in zlib. */
  readonly dataCrc32: number;
  readonly writebackOffset: number;
  readonly writebackBytes: number;
}

let crcTable: Uint32Array | undefined;

/** CRC-32 as in Ethernet and zlib (polynomial 0xedb88320, reflected), as an unsigned number. */
export function crc32(bytes: Uint8Array): number {
  crcTable ??= Uint32Array.from({ length: 256 }, (_, index) => {
    let value = index;
    for (let bit = 0; bit < 8; bit++) value = (value >>> 1) ^ (value & 1 ? 0xedb88320 : 0);
    return value;
  });
  let crc = -1;
  for (let i = 0; i < bytes.length; i++) crc = (crcTable[(crc ^ (bytes[i] as number)) & 0xff] as number) ^ (crc >>> 8);
  return ~crc >>> 0;
}

/** Fills `words` with what xorshift32 (shifts 13, 17, 5) gives after `seed`, which must not be 0. */
function fillXorshift32(words: DataView, seed: number): void {
  let x = seed | 0;
  for (let at = 0; at < words.byteLength; at += 4) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    words.setInt32(at, x, true);
  }
}

/** The bytes that the guest leaves in the write-back area. */
export function expectedWriteback(): Uint8Array {
  const bytes = new Uint8Array(diskLayout.writebackBytes);
  fillXorshift32(new DataView(bytes.buffer), writebackSeed);
  return bytes;
}

// Offsets are those of struct disk_header in programs/dma/disk-header.h.
export function encodeDiskHeader(header: DiskHeader): Uint8Array {
  const bytes = new Uint8Array(diskLayout.headerBytes);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < MAGIC.length; i++) view.setUint8(i, MAGIC.charCodeAt(i));
  view.setUint32(8, VERSION, true);
  view.setBigUint64(16, BigInt(header.dataOffset), true);
  view.setBigUint64(24, BigInt(header.dataBytes), true);
  view.setUint32(32, header.dataCrc32, true);
  view.setBigUint64(40, BigInt(header.writebackOffset), true);
  view.setBigUint64(48, BigInt(header.writebackBytes), true);
  return bytes;
}

/** Reads the header at the start of `bytes`; undefined when there is none of this version. */
export function decodeDiskHeader(bytes: Uint8Array): DiskHeader | undefined {
  if (bytes.length < diskLayout.headerBytes) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let i = 0; i < MAGIC.length; i++) if (view.getUint8(i) !== MAGIC.charCodeAt(i)) return undefined;
  if (view.getUint32(8, true) !== VERSION) return undefined;
  return {
    dataOffset: Number(view.getBigUint64(16, true)),
    dataBytes: Number(view.getBigUint64(24, true)),
    dataCrc32: view.getUint32(32, true),
    writebackOffset: Number(view.getBigUint64(40, true)),
    writebackBytes: Number(view.getBigUint64(48, true)),
  };
}

/** A 24 MiB disk image for the `dma` guest; the same seed gives the same bytes. */
export function makeDiskImage(seed: number): Uint8Array {
  const image = new Uint8Array(diskLayout.bytes);
  const data = image.subarray(diskLayout.dataOffset, diskLayout.dataOffset + diskLayout.dataBytes);
  // xorshift32 stays at 0 for ever.
  fillXorshift32(new DataView(data.buffer, data.byteOffset, data.byteLength), seed | 0 || 1);
  const { dataOffset, dataBytes, writebackOffset, writebackBytes } = diskLayout;
  const header = { dataOffset, dataBytes, dataCrc32: crc32(data), writebackOffset, writebackBytes };
  image.set(encodeDiskHeader(header), 0);
  return image;
}
