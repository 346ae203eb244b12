import { field, parts, plainList, plainMap } from '#vmm/base/saved';
import type { Controller } from './controller.ts';
import type { Command } from './queues.ts';
import { status } from './status.ts';

/** One feature of NVMe 1.4 §5.21.1. */
interface FeatureRow {
  readonly fid: number;
  readonly spec: string;
  /** Bits of dword 11 that are kept; setting others is ignored, as reserved. */
  readonly mask: number;
  readonly initial: number;
  /** The value belongs to a namespace; Get and Set take an NSID. */
  readonly perNamespace?: true;
  /** More than a dword to keep: checks and stores, and may set the command's result. A status field. */
  readonly set?: (controller: Controller, command: Command, value: number) => number;
  /** Computes the value that Get Features returns, or a negative number where dword 11 selects nothing. */
  readonly get?: (controller: Controller, command: Command, kind: 'current' | 'initial') => number;
  /** Get Features returns a data structure: sends it. A status field. */
  readonly read?: (controller: Controller, command: Command, kind: 'current' | 'initial') => number;
}

const bootTemperatureThreshold = 343;

const setQueues = (c: Controller, command: Command, value: number): number => {
  const submissions = value & 0xffff;
  const completions = value >>> 16;
  if (submissions === 0xffff || completions === 0xffff) return status.INVALID_FIELD;
  if (c.engine.submissions.length > 1 || c.engine.completions.length > 1) return status.COMMAND_SEQUENCE_ERROR;
  c.features.submissions = Math.min(submissions + 1, c.setup.ioQueues);
  c.features.completions = Math.min(completions + 1, c.setup.ioQueues);
  command.result = queueCounts(c);
  return status.SUCCESS;
};
const queueCounts = (c: Controller): number => (c.features.submissions - 1) | ((c.features.completions - 1) << 16);

/** Composite temperature only; THSEL picks over or under (§5.21.1.4). */
const setThreshold = (c: Controller, _command: Command, value: number): number => {
  const sensor = (value >>> 16) & 15;
  const which = (value >>> 20) & 3;
  if ((sensor !== 0 && sensor !== 15) || which > 1) return status.INVALID_FIELD;
  c.features.thresholds[which] = value & 0xffff;
  return status.SUCCESS;
};
const getThreshold = (c: Controller, command: Command, kind: 'current' | 'initial'): number => {
  const which = (command.dw[11]! >>> 20) & 3;
  if (((command.dw[11]! >>> 16) & 15) !== 0 || which > 1) return -1;
  if (kind === 'initial') return which === 0 ? bootTemperatureThreshold : 0;
  return c.features.thresholds[which]!;
};

const setVector = (c: Controller, _command: Command, value: number): number => {
  if ((value & 0xffff) > c.setup.ioQueues) return status.INVALID_FIELD;
  c.features.vectors[value & 0xffff] = (value >>> 16) & 1;
  return status.SUCCESS;
};
const getVector = (c: Controller, command: Command, kind: 'current' | 'initial'): number => {
  const vector = command.dw[11]! & 0xffff;
  if (vector > c.setup.ioQueues) return -1;
  const isDisabled = kind === 'current' ? (c.features.vectors[vector] ?? 0) : 0;
  return vector | (isDisabled << 16);
};

const setTimestamp = (c: Controller, command: Command): number => {
  const received = c.receive(command, 8);
  if (received !== status.SUCCESS) return received;
  const view = new DataView(c.scratch.buffer);
  c.features.timestampMs = view.getUint32(0, true) + view.getUint16(4, true) * 2 ** 32;
  c.features.timestampSetAt = c.clock.now;
  c.features.isTimestampSet = true;
  return status.SUCCESS;
};

/** Milliseconds since the epoch the host set, or since power-on; origin 1 where the host set it. */
const readTimestamp = (c: Controller, command: Command, kind: 'current' | 'initial'): number => {
  const data = new Uint8Array(8);
  const view = new DataView(data.buffer);
  const now = c.features.timestampMs + (c.clock.now - c.features.timestampSetAt) / 1e6;
  if (kind === 'current') {
    view.setBigUint64(0, BigInt.asUintN(48, BigInt(Math.floor(now))), true);
    data[6] = c.features.isTimestampSet ? 2 : 0;
  }
  return c.send(command, data);
};

// prettier-ignore
export const features = {
  ARBITRATION:                    { fid: 0x01, spec: '§5.21.1.1',  mask: 0xffffff07, initial: 0x07 },
  POWER_MANAGEMENT:               { fid: 0x02, spec: '§5.21.1.2',  mask: 0xff, initial: 0,
                                    set: (_c, _command, value) => (value & 0x1f) === 0 ? status.SUCCESS : status.INVALID_FIELD },
  TEMPERATURE_THRESHOLD:          { fid: 0x04, spec: '§5.21.1.4',  mask: 0x3fffff, initial: bootTemperatureThreshold, set: setThreshold, get: getThreshold },
  ERROR_RECOVERY:                 { fid: 0x05, spec: '§5.21.1.5',  mask: 0xffff, initial: 0, perNamespace: true,
                                    set: (_c, _command, value) => value & 0x10000 ? status.INVALID_FIELD : status.SUCCESS },
  VOLATILE_WRITE_CACHE:           { fid: 0x06, spec: '§5.21.1.6',  mask: 1, initial: 1 },
  NUMBER_OF_QUEUES:               { fid: 0x07, spec: '§5.21.1.7',  mask: 0, initial: 0, set: setQueues, get: queueCounts },
  INTERRUPT_COALESCING:           { fid: 0x08, spec: '§5.21.1.8',  mask: 0xffff, initial: 0 },
  INTERRUPT_VECTOR_CONFIGURATION: { fid: 0x09, spec: '§5.21.1.9',  mask: 0x1ffff, initial: 0, set: setVector, get: getVector },
  WRITE_ATOMICITY_NORMAL:         { fid: 0x0a, spec: '§5.21.1.10', mask: 1, initial: 0 },
  ASYNCHRONOUS_EVENT_CONFIGURATION: { fid: 0x0b, spec: '§5.21.1.11', mask: 0x31f, initial: 0 },
  TIMESTAMP:                      { fid: 0x0e, spec: '§5.21.1.14', mask: 0, initial: 0, set: setTimestamp, read: readTimestamp },
} as const satisfies Record<string, FeatureRow>;

const byId = new Map<number, FeatureRow>(Object.values(features).map((row) => [row.fid, row]));
/** The row of a feature identifier, or undefined where it is not supported. */
export const featureFor = (fid: number): FeatureRow | undefined => byId.get(fid);

/** Current values; a reset of the controller brings back the defaults, since none can be saved. */
export class FeatureValues {
  readonly #offered: number;
  readonly #values = new Map<string, number>();
  /** Over and under temperature threshold, Kelvin. */
  readonly thresholds = [bootTemperatureThreshold, 0];
  /** Coalescing disabled, by interrupt vector. */
  readonly vectors: number[] = [];
  /** I/O queues that may be created. */
  submissions: number;
  completions: number;
  timestampMs = 0;
  timestampSetAt = 0;
  isTimestampSet = false;
  readonly saved = parts({
    values: plainMap(() => this.#values),
    thresholds: plainList(() => this.thresholds),
    vectors: plainList(() => this.vectors),
    submissions: field(
      () => this.submissions,
      (value) => (this.submissions = value),
    ),
    completions: field(
      () => this.completions,
      (value) => (this.completions = value),
    ),
    timestampMs: field(
      () => this.timestampMs,
      (value) => (this.timestampMs = value),
    ),
    timestampSetAt: field(
      () => this.timestampSetAt,
      (value) => (this.timestampSetAt = value),
    ),
    isTimestampSet: field(
      () => this.isTimestampSet,
      (value) => (this.isTimestampSet = value),
    ),
  });

  constructor(ioQueues: number) {
    this.#offered = ioQueues;
    this.submissions = ioQueues;
    this.completions = ioQueues;
  }

  get(row: FeatureRow, nsid = 0): number {
    return this.#values.get(`${row.fid}.${row.perNamespace ? nsid : 0}`) ?? row.initial;
  }
  set(row: FeatureRow, value: number, nsid = 0): void {
    this.#values.set(`${row.fid}.${row.perNamespace ? nsid : 0}`, value & row.mask);
  }
  isWriteCacheOn(): boolean {
    return this.get(features.VOLATILE_WRITE_CACHE) === 1;
  }

  /** The timestamp survives a controller reset (§5.21.1.14). */
  reset(): void {
    this.#values.clear();
    this.thresholds[0] = bootTemperatureThreshold;
    this.thresholds[1] = 0;
    this.vectors.length = 0;
    this.submissions = this.#offered;
    this.completions = this.#offered;
  }
}
