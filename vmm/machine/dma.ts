import { type DmaStatus, noPasid } from '#vmm/base/ports';
import type { Machine } from './machine.ts';
import { MachineError } from './machine-error.ts';

/** One transaction of a device, as a test wants it. */
export interface DmaOptions {
  /** Id of the device: `nvme0`, `net0`, `exerciser0` … */
  readonly device: string;
  /** As the device sees memory: an IOVA, or guest-physical where it is not behind the vIOMMU. */
  readonly address: number | bigint;
  /** Bytes to read, 1 … 2^20; with `write`, what it says. */
  readonly length?: number;
  /** Write these bytes instead of reading. */
  readonly write?: Uint8Array;
  readonly pasid?: number;
  /** With a PASID: with the rights of a supervisor. */
  readonly privileged?: boolean;
}

/** What came of it. */
export interface DmaReport {
  /** What was read; empty for a write, and where anything faulted. */
  readonly bytes: Uint8Array;
  /** Inclusive ranges of the request that were refused, and how the device is told. */
  readonly faults: readonly { readonly first: number; readonly last: number; readonly status: DmaStatus }[];
}

const longest = 1 << 20;

/** Does it at once, at the present virtual time. */
export function dmaOf(machine: Machine, options: DmaOptions): DmaReport {
  const { device: id, write, pasid = noPasid, privileged = false } = options;
  const device = machine.host.devices.find(({ placed }) => placed.id === id);
  const ids = machine.host.devices.map(({ placed }) => placed.id).join(', ') || 'none';
  if (!device) throw new MachineError([`dma: expected the id of a device (${ids}), found ${JSON.stringify(id)}`]);
  const length = write?.length ?? options.length ?? 4;
  if (!Number.isInteger(length) || length < 1 || length > longest)
    throw new MachineError([`dma: expected a length from 1 to ${longest}, found ${length}`]);
  const address = BigInt(options.address);
  const { port } = device;
  const result = port.access({
    kind: write ? 'write' : 'read',
    isTranslated: false,
    hi: Number(address >> 32n),
    lo: Number(address & 0xffff_ffffn),
    length,
    pasid,
    privileged,
    execute: false,
  });
  const faults = result.faults.map(({ first, last, status }) => ({ first, last, status }));
  const bytes = new Uint8Array(write || faults.length > 0 ? 0 : length);
  let done = 0;
  for (let i = 0; i < result.count; i++) {
    const at = result.offsets[i]!;
    const count = result.lengths[i]!;
    if (!write && faults.length === 0) bytes.set(port.memory.subarray(at, at + count), done);
    else if (write && faults.length === 0) port.memory.set(write.subarray(done, done + count), at);
    done += count;
  }
  return { bytes, faults };
}
