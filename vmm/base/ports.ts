/**
 * Everything a device may know of the world (house rule: devices import nothing of ours but vmm/base).
 */
import type { Saved } from './saved.ts';

export type AccessBytes = 1 | 2 | 4 | 8;

/**
 * Registers on a bus. `offset` is relative to the region's start and inside it; the access may be misaligned or of a
 * width the device does not have: the device answers as its specification says (usually: reads 0, write ignored),
 * never throws. Reads of 1, 2, 4 bytes return an unsigned number, reads of 8 a bigint; writes carry the same.
 */
export interface MmioDevice {
  read(offset: number, bytes: AccessBytes): number | bigint;
  write(offset: number, bytes: AccessBytes, value: number | bigint): void;
  /** Power-on state. */
  reset(): void;
}

/** A wire (level) or a message source (edge: every `raise` is one message). */
export interface IrqLine {
  raise(): void;
  lower(): void;
}

/** No PASID on the transaction. */
export const noPasid = -1;

/** Why a sub-range could not be reached, as the requester is told (PCIe completion status). */
export type DmaStatus = 'unsupported-request' | 'completer-abort';
export interface DmaFault {
  /** Byte offsets in the request, inclusive. */
  readonly first: number;
  readonly last: number;
  readonly status: DmaStatus;
}

/**
 * One DMA's outcome: segment i is `lengths[i]` bytes at `offsets[i]` of the port's `memory`, in the order of the
 * request. The object belongs to the port and is overwritten by its next call: use it at once, keep nothing.
 * Where `faults` is not empty the segments cover only what was reachable.
 */
export interface DmaResult {
  count: number;
  offsets: Float64Array;
  lengths: Int32Array;
  faults: readonly DmaFault[];
}

/**
 * A device's way to memory. The same whether it sits behind no IOMMU, an IOMMU, with or without ATS.
 * Addresses are two unsigned 32-bit halves.
 */
export interface DmaPort {
  /** The bytes that segment offsets index. Always re-read it: never keep a subarray across calls. */
  readonly memory: Uint8Array;
  /** The device reads memory (PCIe Memory Read). `length` 1 … 2^30 bytes. */
  read(hi: number, lo: number, length: number, pasid?: number): DmaResult;
  /** The device will write memory (PCIe Memory Write): store into the segments after the call. */
  write(hi: number, lo: number, length: number, pasid?: number): DmaResult;
  /** A 4-byte write that may reach an interrupt file: an MSI or MSI-X message. False when it faulted. */
  message(hi: number, lo: number, data: number): boolean;
}

/** What travels in a request's PASID prefix (PCI Express Base 6.0 §6.20). Without a PASID the other two are false. */
export interface RequestAttributes {
  /** `noPasid`, or 0 … 2^20 - 1. */
  pasid: number;
  /** Privileged Mode Requested: the access is made with the rights of a supervisor. */
  privileged: boolean;
  /** Execute Requested: a read, or a translation, that wants to execute what is there. */
  execute: boolean;
}

/**
 * A memory request with its Address Type (§10.2.1). An `atomic` reads and writes one naturally aligned location of 4, 8
 * or 16 bytes (§6.15): it needs both permissions and one segment answers it, which the device then changes in place.
 */
export interface MemoryRequest extends RequestAttributes {
  kind: 'read' | 'write' | 'atomic';
  /** True: the address was, or pretends to be, translated (AT = 10b); false: untranslated (AT = 00b). */
  isTranslated: boolean;
  hi: number;
  lo: number;
  /** Bytes, 1 … 2^30. */
  length: number;
}

/** A Translation Request for the one smallest range that holds an address (§10.2.2). */
export interface TranslationRequest extends RequestAttributes {
  hi: number;
  /** Bits 11:0 are 0. */
  lo: number;
  /** No Write: the function does not ask for write permission now (§10.2.2.5). */
  noWrite: boolean;
}

/** A Translation Completion (§10.2.3). When `status` is not success nothing else in it means anything. */
export interface TranslationCompletion {
  status: 'success' | DmaStatus;
  /** Translated address of the range's first byte, aligned to 2^shift. Meaningless when neither read nor write is set. */
  hi: number;
  lo: number;
  /** log2 bytes of the range, from the S field (§10.2.3.2); 12 … 63. */
  shift: number;
  read: boolean;
  write: boolean;
  /** Only where the request had a PASID and Execute Requested. */
  execute: boolean;
  /** The rights are those of privileged mode (§10.2.3.7). */
  privileged: boolean;
  /** The mapping is the same for every PASID (§10.2.3.8). */
  global: boolean;
  /** The range may be reached with untranslated requests only (§10.2.3.4). */
  untranslatedOnly: boolean;
}

/**
 * A Page Request Message (§10.4.1). With `last` set and neither `read` nor `write`, and with a PASID, it is a Stop Marker
 * (§10.4.1.2.1): no more requests of that PASID follow, and nobody answers it.
 */
export interface PageRequestMessage extends RequestAttributes {
  hi: number;
  /** Bits 11:0 are 0. */
  lo: number;
  read: boolean;
  write: boolean;
  /** Last of its group. */
  last: boolean;
  /** Page Request Group Index, 0 … 511. */
  group: number;
}

/** A Page Request Group Response (§10.4.2). */
export interface PageResponseMessage {
  /** `noPasid` where the response carries none. */
  pasid: number;
  group: number;
  /** Response Code as it stands in the message: 0 success, 1 invalid request, 15 response failure; others reserved. */
  code: number;
}

/** An Invalidate Request (§10.3.1). */
export interface InvalidateRequest {
  /** 0 … 31; not used again before it is completed. */
  itag: number;
  pasid: number;
  /** The message's body as it travels: address 63:12, S 11, Global Invalidate 0 (§10.3.1, §10.3.8). */
  hi: number;
  lo: number;
}

/**
 * What a function with an address translation cache is told. The messages belong to the caller, are valid during the
 * call, and may come at any time but during `access` and `translate`, even while `pageRequest` has not returned.
 */
export interface TranslationEndpoint {
  /** Ends in `TransactionPort.invalidationCompleted`, in this call or later, exactly once. */
  invalidate(request: InvalidateRequest): void;
  pageResponse(response: PageResponseMessage): void;
}

/**
 * A way to memory on which a function uses ATS, PRI and PASID itself (PCI Express Base 6.0 chapter 10). A function that
 * can live without is handed either kind; `'translate' in port` tells. Requests belong to the caller, results to the port
 * (as DmaResult), and neither is kept beyond the call. What the configuration space forbids never leaves the function:
 * translation and translated requests without ATS Enable, page requests without PRI Enable, a PASID without PASID
 * Enable; memory and translation requests (not messages) without Bus Master Enable.
 */
export interface TransactionPort extends DmaPort {
  /** Any memory request; `read` and `write` are the untranslated ones with user rights. */
  access(request: MemoryRequest): DmaResult;
  translate(request: TranslationRequest): TranslationCompletion;
  /** A page request or a stop marker. Nothing comes back but, for a `last`, a `pageResponse` of its group. */
  pageRequest(message: PageRequestMessage): void;
  /** Invalidate Completion (§10.3.2): no request in flight, and no entry, uses the range any more. */
  invalidationCompleted(itag: number): void;
  /** Who is told; the function sets it when it is connected. */
  endpoint: TranslationEndpoint | undefined;
}

/** Block storage under a disk controller. Sizes and offsets in bytes. */
export interface StorageBackend {
  readonly bytes: number;
  readonly readOnly: boolean;
  /** Fills `target` from `offset`. Throws StorageError. */
  read(offset: number, target: Uint8Array): void;
  /** Stores `source` at `offset`. Throws StorageError. */
  write(offset: number, source: Uint8Array): void;
  /** `read` for targets that follow each other on the disk; absent: one by one. */
  readVector?(offset: number, targets: readonly Uint8Array[]): void;
  /** `write` for sources that follow each other on the disk; absent: one by one. */
  writeVector?(offset: number, sources: readonly Uint8Array[]): void;
  /** All acknowledged writes are durable when it returns. Throws StorageError. */
  flush(): void;
  /** Makes a range read as zeroes, freeing space where the backend can. Throws StorageError. */
  discard(offset: number, length: number): void;
  close(): void;
  /** What of its content is gone with the process, for snapshots; absent where everything lies outside. */
  readonly saved?: Saved;
}
export type StorageErrorKind = 'read-only' | 'no-space' | 'io' | 'range';
export class StorageError extends Error {
  override readonly name = 'StorageError';
  readonly kind: StorageErrorKind;
  constructor(kind: StorageErrorKind, message: string) {
    super(message);
    this.kind = kind;
  }
}

/** An Ethernet segment's end. Frames are without FCS. */
export interface PacketBackend {
  /** The frame's bytes are only valid during the call. */
  send(frame: Uint8Array): void;
  /** Who takes frames that arrive; set by the NIC. Returns false when it had no room and dropped it. */
  onFrame: ((frame: Uint8Array) => boolean) | undefined;
  /** Whether frames that can wait should, as what arrived before them has no place in memory yet; set by the NIC. */
  isHeld?: (() => boolean) | undefined;
  readonly linkUp: boolean;
  /** Told when `linkUp` changed; set by the NIC. Backends whose link is always up need not have it. */
  onLinkChange?: (() => void) | undefined;
}

/** One base address register of a PCI function. */
export interface BarSpec {
  readonly index: 0 | 1 | 2 | 3 | 4 | 5;
  /** A power of two, at least 16; the I/O kind at most 256. */
  readonly bytes: number;
  readonly kind: 'memory32' | 'memory64' | 'io';
  readonly prefetchable?: boolean;
  /** Absent: reads 0, writes ignored (a BAR that holds only the MSI-X table). */
  readonly device?: MmioDevice;
}

/** What a PCI function is; the bus (vmm/bus/pci) builds its configuration space from it. */
export interface PciFunction {
  readonly name: string;
  readonly vendorId: number;
  readonly deviceId: number;
  /** Class code, subclass, programming interface as one 24-bit number. */
  readonly classCode: number;
  readonly revision: number;
  readonly subsystemVendorId: number;
  readonly subsystemId: number;
  readonly bars: readonly BarSpec[];
  readonly msix?: {
    readonly vectors: number;
    readonly tableBar: number;
    readonly tableOffset: number;
    readonly pbaBar: number;
    readonly pbaOffset: number;
  };
  /** Also offers MSI, with 1, 2, 4, 8, 16 or 32 vectors. */
  readonly msi?: { readonly vectors: number };
  /** True: function-level reset offered in the PCI Express capability. */
  readonly flr: boolean;
  /** Offers Address Translation Services: how many invalidations it can queue, 1 … 32. */
  readonly ats?: {
    readonly invalidateQueueDepth: number;
    /** Honours the Global Invalidate bit of invalidate requests (PCI Express Base 6.0 §10.5.1.2). */
    readonly globalInvalidate?: boolean;
  };
  /** Offers the Page Request Interface: how many page requests it can have outstanding. */
  readonly pri?: { readonly capacity: number };
  /** Offers PASIDs of up to `bits` bits (1 … 20). */
  readonly pasid?: { readonly bits: number; readonly execute?: boolean; readonly privileged?: boolean };
  /**
   * The bus hands the function its way to memory, its interrupt vectors (index = MSI-X or MSI vector) and the
   * status bits that only it knows, once.
   */
  connect(port: DmaPort, vectors: readonly IrqLine[], status?: FunctionStatus): void;
  /** Power-on, function-level and bus reset. */
  reset(): void;
  /** Bus Master Enable changed: while false the function must not start a DMA. */
  busMaster(enabled: boolean): void;
  /** The guest changed what the function may do of ATS, PRI and PASID. All off after a reset. */
  translation?(enables: TranslationEnables): void;
  /** Everything in it that changes, for snapshots; a machine with a function that has none cannot be saved. */
  readonly saved?: Saved;
}

/** The enable bits of the ATS, PRI and PASID capabilities. */
export interface TranslationEnables {
  readonly ats: boolean;
  /** log2 bytes of the smallest range that a translation covers. */
  readonly smallestTranslationShift: number;
  readonly pri: boolean;
  /** Page requests that the guest lets it have outstanding. */
  readonly pageRequestAllocation: number;
  readonly pasid: boolean;
  readonly pasidExecute: boolean;
  readonly pasidPrivileged: boolean;
}

/** Status bits in the configuration space that only the function can know. */
export interface FunctionStatus {
  /** A page request group was answered with Response Failure. */
  pageResponseFailed(): void;
  /** A response named a page request group that is not outstanding. */
  unexpectedPageGroup(): void;
  /** Non-posted requests have not been completed yet. */
  transactionsPending(pending: boolean): void;
}
