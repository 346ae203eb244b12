/** THE table of what a descriptor can ask for. `advance` begins the next piece of work, or says that there is none. */
import { noPasid } from '#vmm/base/ports';
import { groupIndices } from '../ats/page-requests.ts';
import type { AtomicOperation } from './access.ts';
import { addressTypeMask, flag, flagBits, mode, modeBits, pageFlag, pageFlagBits, statuses } from './descriptors.ts';
import { localBytes } from './local-memory.ts';
import type { Transaction } from './transaction.ts';

/** What an operand of a descriptor is: nothing, an address in memory, or an offset in local memory. */
type Place = 'none' | 'memory' | 'local';

export interface Operation {
  readonly name: string;
  readonly opcode: number;
  readonly doc: string;
  readonly source: Place;
  readonly destination: Place;
  /** What `length` means. */
  readonly length: 'bytes' | 'none';
  /** Status of a descriptor that cannot be, beyond the rules of `faultOf`. */
  readonly check?: (t: Transaction) => number;
  /** Called at the start, and whenever what it had begun ended well. False: it is done. */
  readonly advance: (t: Transaction) => boolean;
  /** Of an atomic: what becomes of the bytes. */
  readonly change?: Change;
}

/** Longest transaction, bytes. */
const mostBytes = 1 << 24;
const mostPages = 512;

const crcTable = new Uint32Array(256);
for (let n = 0; n < 256; n++) {
  let c = n;
  for (let k = 0; k < 8; k++) c = (c & 1) !== 0 ? (c >>> 1) ^ 0xedb8_8320 : c >>> 1;
  crcTable[n] = c >>> 0;
}
/** CRC-32 (IEEE 802.3) of `bytes[from … from + length - 1]` after `crc`, which starts as 0. */
const crc32 = (crc: number, bytes: Uint8Array, from: number, length: number): number => {
  let c = ~crc;
  for (let i = from; i < from + length; i++) c = crcTable[(c ^ bytes[i]!) & 0xff]! ^ (c >>> 8);
  return ~c >>> 0;
};

/** A chunk was moved; true while there is more. */
const moved = (t: Transaction): boolean => {
  if (t.stage === 1) t.progress += t.chunk;
  t.stage = 1;
  return t.progress < t.length;
};

const read = (t: Transaction): boolean => {
  if (t.stage === 1) t.valueLo = crc32(t.valueLo, t.link.local.bytes, t.destinationLo + t.progress, t.chunk);
  if (!moved(t)) return false;
  t.request('read', 'source', t.chunkAt(t.sourceLo), t.link.local.bytes, t.destinationLo + t.progress);
  return true;
};

const write = (t: Transaction): boolean => {
  if (!moved(t)) return false;
  t.request('write', 'destination', t.chunkAt(t.destinationLo), t.link.local.bytes, t.sourceLo + t.progress);
  return true;
};

const fill = (t: Transaction): boolean => {
  if (!moved(t)) return false;
  const length = t.chunkAt(t.destinationLo);
  for (let i = 0; i < length; i++) t.first[i] = t.operands[(t.progress + i) & 7]!;
  t.request('write', 'destination', length, t.first);
  return true;
};

/** Both operands of a chunk lie in one page each. */
const chunkOfBoth = (t: Transaction): number => Math.min(t.chunkAt(t.sourceLo), t.chunkAt(t.destinationLo));

const copy = (t: Transaction): boolean => {
  if (t.stage === 1) {
    t.stage = 2;
    t.request('write', 'destination', t.chunk, t.first);
    return true;
  }
  if (t.stage === 2) t.progress += t.chunk;
  t.stage = 1;
  if (t.progress >= t.length) return false;
  t.request('read', 'source', chunkOfBoth(t), t.first);
  return true;
};

const compare = (t: Transaction): boolean => {
  if (t.stage === 1) {
    t.stage = 2;
    t.request('read', 'destination', t.chunk, t.second);
    return true;
  }
  if (t.stage === 2) {
    for (let i = 0; i < t.chunk; i++)
      if (t.first[i] !== t.second[i]) {
        t.status = statuses.MISMATCH.value;
        t.faultOffset = t.progress + i;
        t.valueLo = t.first[i]! | (t.second[i]! << 8);
        return false;
      }
    t.progress += t.chunk;
  }
  t.stage = 1;
  if (t.progress >= t.length) return false;
  t.request('read', 'source', chunkOfBoth(t), t.first);
  return true;
};

/** The old value becomes the completion's. */
const keepOld = (t: Transaction, bytes: Uint8Array, length: number): void => {
  t.valueLo = (bytes[0]! | (bytes[1]! << 8) | (bytes[2]! << 16) | (bytes[3]! << 24)) >>> 0;
  if (length === 8) t.valueHi = (bytes[4]! | (bytes[5]! << 8) | (bytes[6]! << 16) | (bytes[7]! << 24)) >>> 0;
};

type Change = (t: Transaction, bytes: Uint8Array, length: number) => boolean;
/** What a transaction's memory request does to the bytes. */
export const atomicOf =
  (t: Transaction, change: Change): AtomicOperation =>
  (bytes, length) => {
    keepOld(t, bytes, length);
    return change(t, bytes, length);
  };
const atomic =
  (change: Change): Operation['advance'] =>
  (t) => {
    if (t.stage === 1) {
      t.progress = t.operandBytes;
      return false;
    }
    t.stage = 1;
    t.access.atomic = atomicOf(t, change);
    t.request('atomic', 'destination', t.operandBytes, t.first);
    return true;
  };

const fetchAdd: Change = (t, bytes, length) => {
  let carry = 0;
  for (let i = 0; i < length; i++) {
    const sum = bytes[i]! + t.operands[i]! + carry;
    bytes[i] = sum;
    carry = sum >>> 8;
  }
  return true;
};
const swap: Change = (t, bytes, length) => {
  for (let i = 0; i < length; i++) bytes[i] = t.operands[i]!;
  return true;
};
const compareSwap: Change = (t, bytes, length) => {
  for (let i = 0; i < length; i++)
    if (bytes[i] !== t.operands[8 + i]) {
      t.stage = 2;
      return false;
    }
  return swap(t, bytes, length);
};
const compareSwapAdvance = atomic(compareSwap);

/** Operand width and natural alignment (PCI Express Base 6.0 §6.15). */
const checkAtomic = ({ operandBytes, destinationLo }: Transaction): number =>
  (operandBytes === 4 || operandBytes === 8) && destinationLo % operandBytes === 0
    ? statuses.SUCCESS.value
    : statuses.INVALID_DESCRIPTOR.value;
/** What looks like a stop marker is one, and is never answered (PCI Express Base 6.0 §10.4.1.2.1). */
const checkPages = ({ pageFlags, pages, group, sourcePasid }: Transaction): number =>
  (pageFlags & ~pageFlagBits) === 0 &&
  (pageFlags !== pageFlag.LAST.value || sourcePasid === noPasid) &&
  pages >= 1 &&
  pages <= mostPages &&
  group < groupIndices
    ? statuses.SUCCESS.value
    : statuses.INVALID_DESCRIPTOR.value;

const atomicPlaces = { source: 'none', destination: 'memory', length: 'none', check: checkAtomic } as const;

// prettier-ignore
const rows = {
  NOP: { opcode: 0, source: 'none', destination: 'none', length: 'none', doc: 'nothing, after `delay_ns`', advance: () => false },
  READ: { opcode: 1, source: 'memory', destination: 'local', length: 'bytes', doc: 'memory to local memory; `value` is the CRC-32 of the data', advance: read },
  WRITE: { opcode: 2, source: 'local', destination: 'memory', length: 'bytes', doc: 'local memory to memory', advance: write },
  FILL: { opcode: 3, source: 'none', destination: 'memory', length: 'bytes', doc: 'the 8 bytes of `operand`, again and again', advance: fill },
  COPY: { opcode: 4, source: 'memory', destination: 'memory', length: 'bytes', doc: 'chunk by chunk, upwards', advance: copy },
  COMPARE: { opcode: 5, source: 'memory', destination: 'memory', length: 'bytes', doc: 'up to the first difference, whose two bytes are `value`', advance: compare },
  FETCH_ADD: { ...atomicPlaces, opcode: 6, doc: 'adds `operand`; `value` is what was there', change: fetchAdd, advance: atomic(fetchAdd) },
  SWAP: { ...atomicPlaces, opcode: 7, doc: 'stores `operand`; `value` is what was there', change: swap, advance: atomic(swap) },
  COMPARE_SWAP: { ...atomicPlaces, opcode: 8, doc: 'stores `operand` where `compare` was; `value` is what was there', change: compareSwap,
    advance: (t) => {
      if (t.stage !== 2) return compareSwapAdvance(t);
      t.status = statuses.MISMATCH.value;
      return false;
    } },
  TRANSLATE: { opcode: 9, source: 'memory', destination: 'none', length: 'none', doc: 'one translation request, whatever is cached; fills the cache',
    advance: (t) => {
      if (t.stage === 1) return false;
      t.stage = 1;
      t.access.noWrite = (t.flags & flag.NO_WRITE.value) !== 0;
      t.request('translate', 'source', 1, t.first);
      return true;
    } },
  PAGE_REQUEST: { opcode: 10, source: 'memory', destination: 'none', length: 'none', doc: 'a group of `pages` page requests of consecutive pages; with LAST waits for the response', check: checkPages,
    advance: (t) => {
      if (t.stage === 1) return false;
      t.stage = 1;
      t.requestPages();
      return true;
    } },
  STOP_MARKER: { opcode: 11, source: 'memory', destination: 'none', length: 'none', doc: 'a stop marker for the PASID of source',
    check: ({ sourcePasid, owner }) =>
      owner ? statuses.FORBIDDEN.value : sourcePasid === noPasid ? statuses.INVALID_DESCRIPTOR.value : statuses.SUCCESS.value,
    advance: (t) => {
      const { link } = t;
      t.status = link.messageRefusal(mode.PASID.value, t.sourcePasid);
      if (t.status !== statuses.SUCCESS.value) return false;
      if (!link.pages.stopMarker(t.sourcePasid, link.isUnchecked)) t.status = statuses.NOT_ENABLED.value;
      else link.counts.pageRequests++;
      return false;
    } },
} as const satisfies Record<string, Omit<Operation, 'name'>>;

export type OperationName = keyof typeof rows;
export const operations = Object.fromEntries(
  Object.entries(rows).map(([name, operation]) => [name, { name, ...operation }]),
) as Readonly<Record<OperationName, Operation>>;

const byOpcode: (Operation | undefined)[] = [];
for (const operation of Object.values(operations)) byOpcode[operation.opcode] = operation;
export const operationOf = (opcode: number): Operation | undefined => byOpcode[opcode];

/** Status of a descriptor that cannot be carried out, or SUCCESS. */
export const faultOf = (operation: Operation, t: Transaction): number => {
  const invalid = statuses.INVALID_DESCRIPTOR.value;
  if ((t.flags & ~flagBits) !== 0) return invalid;
  if (operation.length === 'bytes' && (t.length < 1 || t.length > mostBytes)) return invalid;
  const bytes = operation.length === 'bytes' ? t.length : 1;
  const source = placeFault(t, operation.source, t.sourceMode, t.sourcePasid, t.sourceHi, t.sourceLo, bytes);
  if (source !== statuses.SUCCESS.value) return source;
  const destination = placeFault(t, operation.destination, t.destinationMode, t.destinationPasid, t.destinationHi, t.destinationLo, bytes); // prettier-ignore
  if (destination !== statuses.SUCCESS.value) return destination;
  return operation.check?.(t) ?? statuses.SUCCESS.value;
};

const placeFault = (
  { owner }: Transaction,
  place: Place,
  bits: number,
  pasid: number,
  hi: number,
  lo: number,
  bytes: number,
): number => {
  const invalid = statuses.INVALID_DESCRIPTOR.value;
  if (place === 'none') return statuses.SUCCESS.value;
  if (place === 'local') {
    if (hi !== 0 || lo + bytes > localBytes) return invalid;
    const isOthers = owner && (lo < owner.localFirst || lo + bytes > owner.localFirst + owner.localBytes);
    return isOthers ? statuses.FORBIDDEN.value : statuses.SUCCESS.value;
  }
  const type = bits & addressTypeMask;
  const needPasid = mode.PRIVILEGED.value | mode.EXECUTE.value;
  if ((bits & ~modeBits) !== 0 || type === addressTypeMask || pasid > 0xf_ffff) return invalid;
  if (pasid === noPasid && (bits & needPasid) !== 0) return invalid;
  if ((bits & mode.PAGE_REQUEST.value) !== 0 && type !== mode.ATS.value) return invalid;
  if (hi === 0xffff_ffff && lo + bytes > 2 ** 32) return invalid;
  return owner && type === mode.TRANSLATED.value ? statuses.FORBIDDEN.value : statuses.SUCCESS.value;
};
