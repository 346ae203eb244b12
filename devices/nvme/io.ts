import type { Controller } from './controller.ts';
import { unfinished } from './engine.ts';
import type { Namespace } from './namespaces.ts';
import type { Command } from './queues.ts';
import { status } from './status.ts';

const broadcast = 0xffff_ffff;
/** Bytes that a command without data transfer works through in one event. */
const stepBytes = 4 << 20;
/** The same for deallocation, which takes a program's start in the file backend. */
const discardStepBytes = 8 << 20;
/** Force Unit Access, dword 12. */
const fua = 1 << 30;

const firstBlock = (command: Command): number => (command.dw[11]! >>> 0) * 2 ** 32 + (command.dw[10]! >>> 0);
const blockCount = (command: Command): number => (command.dw[12]! & 0xffff) + 1;

/** Range against namespace; exact wherever the answer is "inside", since a disk has fewer than 2^53 blocks. */
const isInside = (ns: Namespace, first: number, count: number): boolean => first + count <= ns.blocks;

/** Finds the data and checks size and range: what Read, Write and Compare have in common. A status field. */
const prepare = (c: Controller, command: Command, ns: Namespace, toHost: boolean): number => {
  const count = blockCount(command);
  const bytes = count * ns.blockBytes;
  if (bytes > c.maxTransfer) return status.INVALID_FIELD;
  if (!isInside(ns, firstBlock(command), count)) return status.LBA_OUT_OF_RANGE;
  return c.locate(command, bytes, toHost);
};

/** Read (NVMe 1.4 §6.9). */
export const read = (c: Controller, command: Command): number => {
  const ns = c.namespace(command.nsid);
  if (!ns) return status.INVALID_NAMESPACE_OR_FORMAT;
  if (command.settled >= 0) return command.settled === status.SUCCESS ? countRead(c, command, ns) : command.settled;
  const prepared = prepare(c, command, ns, true);
  if (prepared !== status.SUCCESS) return prepared;
  // Force Unit Access on a read: what is cached is written first (§6.9, figure 366).
  if (command.dw[12]! & fua) ns.backend.flush();
  const collected = c.dma.collect(c.list, true);
  if (collected !== status.SUCCESS) return collected;
  const more = ns.backend.readVector ? collectFollowing(c, command, ns) : 0;
  const offset = firstBlock(command) * ns.blockBytes;
  try {
    c.dma.fill(ns.backend, offset);
  } catch (error) {
    if (more === 0) throw error;
    // Each by itself: only the one that fails is told so.
    for (const next of together) next.settled = -1;
    together.length = 0;
    c.locate(command, blockCount(command) * ns.blockBytes, true);
    const again = c.dma.collect(c.list, true);
    if (again !== status.SUCCESS) return again;
    c.dma.fill(ns.backend, offset);
  }
  together.length = 0;
  return countRead(c, command, ns);
};

const countRead = (c: Controller, command: Command, ns: Namespace): number => {
  c.health.reads++;
  c.health.bytesRead += blockCount(command) * ns.blockBytes;
  return status.SUCCESS;
};

/** Commands whose data the present call to the backend moves too. */
const together: Command[] = [];
const mostTogether = 16;
/** Segments of one call; the system takes 1024. */
const mostSegments = 256;

/**
 * Reads that are due now and continue on the disk where the one before ends: one call to the backend serves them all.
 * How many there are; the first that cannot be done is settled with its status.
 */
const collectFollowing = (c: Controller, command: Command, ns: Namespace): number => {
  let last = command;
  let next = c.engine.following();
  while (next && together.length < mostTogether && c.dma.collected < mostSegments) {
    const isNext =
      (next.dw[0]! & 0x3ff) === (command.dw[0]! & 0x3ff) &&
      next.queue.id !== 0 &&
      next.nsid === command.nsid &&
      (next.dw[12]! & fua) === 0 &&
      firstBlock(next) === firstBlock(last) + blockCount(last);
    if (!isNext) break;
    let outcome = prepare(c, next, ns, true);
    if (outcome === status.SUCCESS) outcome = c.dma.collect(c.list, false);
    next.settled = outcome;
    if (outcome !== status.SUCCESS) break;
    together.push(next);
    last = next;
    next = next.next;
    if (next && next.due > last.due) break;
  }
  return together.length;
};

/** Write (§6.15). */
export const write = (c: Controller, command: Command): number => {
  const ns = c.namespace(command.nsid);
  if (!ns) return status.INVALID_NAMESPACE_OR_FORMAT;
  if (ns.backend.readOnly) return status.NAMESPACE_WRITE_PROTECTED;
  const prepared = prepare(c, command, ns, false);
  if (prepared !== status.SUCCESS) return prepared;
  const outcome = c.dma.drain(c.list, ns.backend, firstBlock(command) * ns.blockBytes);
  if (outcome !== status.SUCCESS) return outcome;
  if ((command.dw[12]! & fua) !== 0 || !c.features.isWriteCacheOn()) ns.backend.flush();
  c.health.writes++;
  c.health.bytesWritten += c.list.bytes;
  return outcome;
};

/** Flush (§6.8): one namespace, or all of them. */
export const flush = (c: Controller, command: Command): number => {
  if (command.nsid === broadcast) {
    for (const ns of c.setup.namespaces) ns.backend.flush();
    return status.SUCCESS;
  }
  const ns = c.namespace(command.nsid);
  if (!ns) return status.INVALID_NAMESPACE_OR_FORMAT;
  ns.backend.flush();
  return status.SUCCESS;
};

let expected = new Uint8Array(65536);
let found = new Uint8Array(65536);

/** Compare (§6.6). */
export const compare = (c: Controller, command: Command): number => {
  const ns = c.namespace(command.nsid);
  if (!ns) return status.INVALID_NAMESPACE_OR_FORMAT;
  const prepared = prepare(c, command, ns, false);
  if (prepared !== status.SUCCESS) return prepared;
  const { bytes } = c.list;
  if (expected.length < bytes) {
    expected = new Uint8Array(bytes);
    found = new Uint8Array(bytes);
  }
  const gathered = c.dma.gather(c.list, expected);
  if (gathered !== status.SUCCESS) return gathered;
  ns.backend.read(firstBlock(command) * ns.blockBytes, found.subarray(0, bytes));
  for (let i = 0; i < bytes; i++) if (expected[i] !== found[i]) return status.COMPARE_FAILURE;
  return status.SUCCESS;
};

/** Bytes of the next step of a command that walks `total` bytes, and keeps its place in `progress`. */
const nextStep = (command: Command, total: number): number => {
  const length = Math.min(stepBytes, total - command.progress);
  command.bytes = length;
  return length;
};

/** Verify (§6.14): the blocks can be read; nothing is transferred. */
export const verify = (c: Controller, command: Command): number => {
  const ns = c.namespace(command.nsid);
  if (!ns) return status.INVALID_NAMESPACE_OR_FORMAT;
  const count = blockCount(command);
  if (!isInside(ns, firstBlock(command), count)) return status.LBA_OUT_OF_RANGE;
  const total = count * ns.blockBytes;
  const length = nextStep(command, total);
  if (found.length < length) {
    found = new Uint8Array(stepBytes);
    expected = new Uint8Array(stepBytes);
  }
  ns.backend.read(firstBlock(command) * ns.blockBytes + command.progress, found.subarray(0, length));
  command.progress += length;
  return command.progress < total ? unfinished : status.SUCCESS;
};

/** Discards the beginning of a range, or all of it where it ends with the disk, which backends can do at once. */
const discardStep = (command: Command, ns: Namespace, offset: number, length: number): number => {
  const isTail = offset + length === ns.backend.bytes;
  const part = isTail ? length : Math.min(discardStepBytes, length);
  command.bytes = Math.min(discardStepBytes, part);
  ns.backend.discard(offset, part);
  return part;
};

/** Write Zeroes (§6.16). */
export const writeZeroes = (c: Controller, command: Command): number => {
  const ns = c.namespace(command.nsid);
  if (!ns) return status.INVALID_NAMESPACE_OR_FORMAT;
  if (ns.backend.readOnly) return status.NAMESPACE_WRITE_PROTECTED;
  const count = blockCount(command);
  if (!isInside(ns, firstBlock(command), count)) return status.LBA_OUT_OF_RANGE;
  const total = count * ns.blockBytes;
  command.progress += discardStep(
    command,
    ns,
    firstBlock(command) * ns.blockBytes + command.progress,
    total - command.progress,
  );
  if (command.progress < total) return unfinished;
  if ((command.dw[12]! & fua) !== 0 || !c.features.isWriteCacheOn()) ns.backend.flush();
  return status.SUCCESS;
};

const rangeBytes = 16;
/** Longest range in bytes (2^32 blocks of 4 KiB); `progress` of Dataset Management counts ranges in units of it. */
const maxRangeBytes = 2 ** 44;

/** Dataset Management (§6.7): deallocates; the hints of integral reads and writes change nothing. */
export const datasetManagement = (c: Controller, command: Command): number => {
  const ns = c.namespace(command.nsid);
  if (!ns) return status.INVALID_NAMESPACE_OR_FORMAT;
  const ranges = (command.dw[10]! & 0xff) + 1;
  const received = c.receive(command, ranges * rangeBytes);
  if (received !== status.SUCCESS) return received;
  if ((command.dw[11]! & 4) === 0) return status.SUCCESS;
  if (ns.backend.readOnly) return status.NAMESPACE_WRITE_PROTECTED;
  const view = new DataView(c.scratch.buffer);
  const blocks = (i: number): number => view.getUint32(i * rangeBytes + 4, true);
  const first = (i: number): number =>
    view.getUint32(i * rangeBytes + 8, true) + view.getUint32(i * rangeBytes + 12, true) * 2 ** 32;
  // All or nothing where a range is wrong. The list is read again in every step, so it is checked again.
  for (let i = 0; i < ranges; i++) if (!isInside(ns, first(i), blocks(i))) return status.LBA_OUT_OF_RANGE;

  let index = Math.floor(command.progress / maxRangeBytes);
  const done = command.progress % maxRangeBytes;
  const length = blocks(index) * ns.blockBytes;
  const part = done < length ? discardStep(command, ns, first(index) * ns.blockBytes + done, length - done) : 0;
  if (done + part >= length) index++;
  command.progress = done + part >= length ? index * maxRangeBytes : index * maxRangeBytes + done + part;
  if (index < ranges) return unfinished;
  if (!c.features.isWriteCacheOn()) ns.backend.flush();
  return status.SUCCESS;
};
