/**
 * What the register-and-queue front end is handed: memory for its queues, and the back end behind its registers
 * (silicon that walks tables, or a vIOMMU that calls iommufd).
 */
import type { Command } from './commands.ts';
import type { Cause } from './faults.ts';

/** Outcome of one memory access: nothing is transferred unless it is ok. */
export const access = { ok: 0, fault: 1, corrupt: 2 } as const;
export type AccessResult = (typeof access)[keyof typeof access];

/**
 * Memory as the IOMMU's own accesses reach it, bytes in address order. Addresses are physical for silicon and
 * guest-physical for a vIOMMU; any 64-bit value may come (a guest made it). Lengths are 4 … 64.
 */
export interface MemoryPort {
  load(address: bigint, into: Uint8Array): AccessResult;
  /** A 4-byte store may reach an interrupt file. */
  store(address: bigint, from: Uint8Array): AccessResult;
}

/**
 * done: cqh moves on. illegal: cmd_ill. memory-fault: cqmf. timeout: cmd_to is set by the next fence.
 * waiting (ATS.INVAL only): the fence waits until FrontEnd.invalidationCompleted or …TimedOut.
 */
export type CommandOutcome = 'done' | 'illegal' | 'memory-fault' | 'timeout' | 'waiting';

/** A message towards a device. */
export interface DeviceMessage {
  readonly rid: number;
  /** Destination segment, where valid. */
  readonly segment: number | undefined;
  readonly processId: number | undefined;
  readonly payload: bigint;
}

/** A translation asked for through tr_req_* (§4). */
export interface DebugRequest {
  readonly deviceId: number;
  readonly processIdValid: boolean;
  readonly processId: number;
  readonly supervisor: boolean;
  readonly execute: boolean;
  readonly write: boolean;
  readonly iova: bigint;
}
/** Undefined: it faulted, and the back end reported the fault. `ppn` is encoded with the range size where `s` is 1. */
export type DebugResponse = { readonly pbmt: number; readonly s: number; readonly ppn: bigint } | undefined;

export interface BackEnd {
  /**
   * Executes a decoded, legal command. IOFENCE.C comes here once everything before it is done and before its data
   * is written; ATS.INVAL carries the tag that its completion names.
   */
  execute(command: Command, itag: number): CommandOutcome;
  /** Answers a page request that could not be queued (§2.7): the IOMMU's own Page Request Group Response. */
  respond(message: DeviceMessage): void;
  /** ddtp changed: `mode` is ddtp.iommu_mode, `ppn` its root page. Caches stay: software invalidates them. */
  directoryChanged(mode: number, ppn: bigint): void;
  /** fctl changed (byte order, XLEN). */
  featuresChanged?(fctl: number): void;
  debugTranslate?(request: DebugRequest): DebugResponse;
  /** The device context's bits that page requests need (§2.7), or the cause why there is none. */
  pageRequestContext?(deviceId: number): PageRequestContext;
}

/** `cause`: why there is no device context. */
export type PageRequestContext =
  | { readonly found: true; readonly enPri: boolean; readonly prpr: boolean; readonly dtf: boolean }
  | { readonly found: false; readonly cause: Cause };

/** A Page Request message as it comes from a device. */
export interface PageRequest {
  readonly rid: number;
  readonly segment: number | undefined;
  readonly processIdValid: boolean;
  readonly processId: number;
  readonly supervisor: boolean;
  readonly execute: boolean;
  readonly payload: bigint;
}

/** A level-triggered wire per interrupt vector. */
export type WireSink = (vector: number, level: boolean) => void;

/**
 * Messages by vector, of an IOMMU that is a PCI Express function ("Integrating an IOMMU as a PCIe device"): its MSI-X
 * table lies where msi_cfg_tbl is, and masks and pending bits are those of MSI-X.
 */
export type MessageSink = (vector: number) => void;
