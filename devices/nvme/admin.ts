import { noPasid } from '#vmm/base/ports';
import type { Controller } from './controller.ts';
import { featureFor, features } from './features.ts';
import {
  type Command,
  CompletionQueue,
  type QueueBase,
  SubmissionQueue,
  completionEntryBytes,
  isWithinAddressSpace,
  submissionEntryBytes,
} from './queues.ts';
import { asyncEvent } from './health.ts';
import { logPages } from './log-pages.ts';
import { blockShifts } from './namespaces.ts';
import { maxQueueEntries } from './registers.ts';
import { status } from './status.ts';

const showQueue = (c: Controller, what: string, qid: number, entries: number, hi: number, lo: number): void => {
  if (c.trace.on)
    c.trace.emit('nvme.queue', { device: c.setup.name, what, qid, entries, address: (BigInt(hi) << 32n) | BigInt(lo) });
};

/** What Create I/O Submission Queue and Create I/O Completion Queue check alike; a status field. */
const checkQueue = (
  c: Controller,
  command: Command,
  existing: readonly unknown[],
  allowed: number,
  entryBytes: number,
): number => {
  const qid = command.dw[10]! & 0xffff;
  const size = (command.dw[10]! >>> 16) + 1;
  if (qid === 0 || qid > allowed || existing[qid] !== undefined) return status.INVALID_QUEUE_IDENTIFIER;
  if (size < 2 || size > maxQueueEntries) return status.INVALID_QUEUE_SIZE;
  // CAP.CQR: queues are physically contiguous.
  if ((command.dw[11]! & 1) === 0) return status.INVALID_FIELD;
  if (command.dw[6]! & ((1 << c.pageShift) - 1)) return status.PRP_OFFSET_INVALID;
  if (!isWithinAddressSpace(command.dw[7]! >>> 0, command.dw[6]! >>> 0, size * entryBytes)) return status.INVALID_FIELD;
  // CC.IOSQES and CC.IOCQES come first (§7.6.1).
  return c.areEntrySizesSet ? status.SUCCESS : status.INVALID_QUEUE_SIZE;
};

/**
 * Deviation: where the controller offers user queues (Identify Controller, byte 3072), dword 12 of both Create commands
 * holds bit 31 "PASID valid" and a PASID in 19:0: queue and data addresses are then of that address space.
 */
const queueBase = (c: Controller, command: Command): QueueBase => ({
  id: command.dw[10]! & 0xffff,
  size: (command.dw[10]! >>> 16) + 1,
  hi: command.dw[7]! >>> 0,
  lo: command.dw[6]! >>> 0,
  pasid: c.setup.areUserQueuesOffered && command.dw[12]! < 0 ? command.dw[12]! & 0xf_ffff : noPasid,
});

/** Create I/O Completion Queue (NVMe 1.4 §5.3). */
export const createCompletionQueue = (c: Controller, command: Command): number => {
  const checked = checkQueue(c, command, c.engine.completions, c.features.completions, completionEntryBytes);
  if (checked !== status.SUCCESS) return checked;
  const vector = command.dw[11]! >>> 16;
  if (vector >= c.setup.ioQueues + 1) return status.INVALID_INTERRUPT_VECTOR;
  const base = queueBase(c, command);
  const areInterruptsOn = (command.dw[11]! & 2) !== 0;
  c.engine.completions[base.id] = new CompletionQueue(base, areInterruptsOn ? vector : -1);
  showQueue(c, 'completion queue created', base.id, base.size, base.hi, base.lo);
  return status.SUCCESS;
};

/** Create I/O Submission Queue (§5.4). */
export const createSubmissionQueue = (c: Controller, command: Command): number => {
  const cqid = command.dw[11]! >>> 16;
  const completions = c.engine.completions[cqid];
  if (cqid === 0 || cqid > c.features.completions) return status.INVALID_QUEUE_IDENTIFIER;
  if (!completions) return status.COMPLETION_QUEUE_INVALID;
  const checked = checkQueue(c, command, c.engine.submissions, c.features.submissions, submissionEntryBytes);
  if (checked !== status.SUCCESS) return checked;
  const base = queueBase(c, command);
  c.engine.submissions[base.id] = new SubmissionQueue(base, completions);
  completions.users++;
  showQueue(c, 'submission queue created', base.id, base.size, base.hi, base.lo);
  return status.SUCCESS;
};

/** Delete I/O Submission Queue (§5.6). */
export const deleteSubmissionQueue = (c: Controller, command: Command): number => {
  const qid = command.dw[10]! & 0xffff;
  const queue = c.engine.submissions[qid];
  if (qid === 0 || !queue) return status.INVALID_QUEUE_IDENTIFIER;
  c.engine.deleteSubmissions(queue);
  showQueue(c, 'submission queue deleted', qid, queue.size, queue.hi, queue.lo);
  return status.SUCCESS;
};

/** Delete I/O Completion Queue (§5.5): its submission queues go first. */
export const deleteCompletionQueue = (c: Controller, command: Command): number => {
  const qid = command.dw[10]! & 0xffff;
  const queue = c.engine.completions[qid];
  if (qid === 0 || !queue) return status.INVALID_QUEUE_IDENTIFIER;
  if (queue.users > 0) return status.INVALID_QUEUE_DELETION;
  c.engine.deleteCompletions(queue);
  showQueue(c, 'completion queue deleted', qid, queue.size, queue.hi, queue.lo);
  return status.SUCCESS;
};

/** Abort (§5.1): bit 0 of the result, set by `abortNow`, is 0 where the command was found and aborted. */
export const abort = (c: Controller, command: Command): number => {
  const sqid = command.dw[10]! & 0xffff;
  if (!c.engine.submissions[sqid]) {
    command.result = 0;
    return status.INVALID_FIELD;
  }
  return status.SUCCESS;
};

/** Abort when it is fetched: what it names may still wait for its time then. */
export const abortNow = (c: Controller, command: Command): void => {
  command.result = c.abort(command.dw[10]! & 0xffff, command.dw[10]! >>> 16) ? 0 : 1;
};

/** Asynchronous Event Request (§5.2). */
export const asyncEventRequest = (c: Controller, command: Command): number => c.holdRequest(command);

/** Get Features (§5.9): SEL 0 current, 1 default, 2 saved (the default, none can be saved), 3 capabilities. */
export const getFeatures = (c: Controller, command: Command): number => {
  const row = featureFor(command.dw[10]! & 0xff);
  const select = (command.dw[10]! >>> 8) & 7;
  if (!row || select > 3) return status.INVALID_FIELD;
  if (select === 3) {
    // Changeable is bit 2, namespace specific bit 1, saveable bit 0.
    command.result = 4 | (row.perNamespace ? 2 : 0);
    return status.SUCCESS;
  }
  if (row.perNamespace && !c.namespace(command.nsid)) return status.INVALID_NAMESPACE_OR_FORMAT;
  const kind = select === 0 ? 'current' : 'initial';
  if (row.read) return row.read(c, command, kind);
  const value = row.get
    ? row.get(c, command, kind)
    : kind === 'current'
      ? c.features.get(row, command.nsid)
      : row.initial;
  if (value < 0) return status.INVALID_FIELD;
  command.result = value;
  return status.SUCCESS;
};

/** Set Features (§5.21). */
export const setFeatures = (c: Controller, command: Command): number => {
  const row = featureFor(command.dw[10]! & 0xff);
  if (!row) return status.INVALID_FIELD;
  if (command.dw[10]! < 0) return status.FEATURE_NOT_SAVEABLE;
  const { nsid } = command;
  if (row.perNamespace) {
    if (nsid !== 0xffff_ffff && !c.namespace(nsid)) return status.INVALID_NAMESPACE_OR_FORMAT;
  } else if (nsid !== 0 && nsid !== 0xffff_ffff) {
    return c.namespace(nsid) ? status.FEATURE_NOT_NAMESPACE_SPECIFIC : status.INVALID_NAMESPACE_OR_FORMAT;
  }
  const value = command.dw[11]! >>> 0;
  const outcome = row.set ? row.set(c, command, value) : status.SUCCESS;
  if (outcome !== status.SUCCESS) return outcome;
  if (row.perNamespace && nsid === 0xffff_ffff)
    for (const ns of c.setup.namespaces) c.features.set(row, value, ns.nsid);
  else c.features.set(row, value, nsid);
  return status.SUCCESS;
};

/** Format NVM (§5.23): no metadata, no protection information, no or user-data erase. */
export const formatNvm = (c: Controller, command: Command): number => {
  const dw10 = command.dw[10]!;
  const format = dw10 & 15;
  const areMetadataAsked = (dw10 & 0x1f0) !== 0;
  const erase = (dw10 >>> 9) & 7;
  const isAll = command.nsid === 0xffff_ffff;
  if (!isAll && !c.namespace(command.nsid)) return status.INVALID_NAMESPACE_OR_FORMAT;
  if (format >= blockShifts.length || areMetadataAsked) return status.INVALID_FORMAT;
  if (erase > 1) return status.INVALID_FIELD;
  const all = c.setup.namespaces.filter((ns) => isAll || ns.nsid === command.nsid);
  if (all.some((ns) => ns.backend.readOnly)) return status.NAMESPACE_WRITE_PROTECTED;
  for (const ns of all) {
    ns.backend.discard(0, ns.backend.bytes);
    ns.backend.flush();
    if (ns.format === format) continue;
    ns.setFormat(format);
    c.changedNamespaces.add(ns.nsid);
  }
  const areNoticesOn = (c.features.get(features.ASYNCHRONOUS_EVENT_CONFIGURATION) & 0x100) !== 0;
  if (c.changedNamespaces.size > 0 && areNoticesOn) c.notify(asyncEvent.notice, 0, logPages.CHANGED_NAMESPACES.lid);
  return status.SUCCESS;
};
