import {
  abort,
  abortNow,
  asyncEventRequest,
  createCompletionQueue,
  createSubmissionQueue,
  deleteCompletionQueue,
  deleteSubmissionQueue,
  formatNvm,
  getFeatures,
  setFeatures,
} from './admin.ts';
import type { Controller, NvmeTiming } from './controller.ts';
import { identify } from './identify.ts';
import { compare, datasetManagement, flush, read, verify, write, writeZeroes } from './io.ts';
import { getLogPage } from './log-pages.ts';
import type { Command } from './queues.ts';

export interface CommandRow {
  readonly opcode: number;
  readonly name: string;
  readonly spec: string;
  /** Which of the configured latencies it takes. */
  readonly latency: keyof Pick<NvmeTiming, 'admin' | 'read' | 'write' | 'flush'>;
  /** Moves logical blocks (dword 12 counts them) and so occupies the data path. */
  readonly data?: true;
  /** Bits of its Commands Supported and Effects entry besides CSUPP: 2 logical blocks change, 4 namespace capabilities change. */
  readonly effects?: number;
  /** What it does as soon as it is fetched, ahead of the commands that wait for their time. */
  readonly atFetch?: (controller: Controller, command: Command) => void;
  /** A status field, `held` or `unfinished`. */
  readonly run: (controller: Controller, command: Command) => number;
}

/** Admin commands, NVMe 1.4 §5. */
// prettier-ignore
export const adminCommands = {
  DELETE_IO_SQ:  { opcode: 0x00, name: 'Delete I/O Submission Queue', spec: '§5.6',  latency: 'admin', run: deleteSubmissionQueue },
  CREATE_IO_SQ:  { opcode: 0x01, name: 'Create I/O Submission Queue', spec: '§5.4',  latency: 'admin', run: createSubmissionQueue },
  GET_LOG_PAGE:  { opcode: 0x02, name: 'Get Log Page',                spec: '§5.14', latency: 'admin', run: getLogPage },
  DELETE_IO_CQ:  { opcode: 0x04, name: 'Delete I/O Completion Queue', spec: '§5.5',  latency: 'admin', run: deleteCompletionQueue },
  CREATE_IO_CQ:  { opcode: 0x05, name: 'Create I/O Completion Queue', spec: '§5.3',  latency: 'admin', run: createCompletionQueue },
  IDENTIFY:      { opcode: 0x06, name: 'Identify',                    spec: '§5.15', latency: 'admin', run: identify },
  ABORT:         { opcode: 0x08, name: 'Abort',                       spec: '§5.1',  latency: 'admin', atFetch: abortNow, run: abort },
  SET_FEATURES:  { opcode: 0x09, name: 'Set Features',                spec: '§5.21', latency: 'admin', run: setFeatures },
  GET_FEATURES:  { opcode: 0x0a, name: 'Get Features',                spec: '§5.9',  latency: 'admin', run: getFeatures },
  ASYNC_EVENT_REQUEST: { opcode: 0x0c, name: 'Asynchronous Event Request', spec: '§5.2', latency: 'admin', run: asyncEventRequest },
  FORMAT_NVM:    { opcode: 0x80, name: 'Format NVM',                  spec: '§5.23', latency: 'admin', effects: 6, run: formatNvm },
} as const satisfies Record<string, CommandRow>;

/** NVM commands, NVMe 1.4 §6. */
// prettier-ignore
export const nvmCommands = {
  FLUSH:         { opcode: 0x00, name: 'Flush',        spec: '§6.8',  latency: 'flush', run: flush },
  WRITE:         { opcode: 0x01, name: 'Write',        spec: '§6.15', latency: 'write', data: true, effects: 2, run: write },
  READ:          { opcode: 0x02, name: 'Read',         spec: '§6.9',  latency: 'read',  data: true, run: read },
  COMPARE:       { opcode: 0x05, name: 'Compare',      spec: '§6.6',  latency: 'read',  data: true, run: compare },
  WRITE_ZEROES:  { opcode: 0x08, name: 'Write Zeroes', spec: '§6.16', latency: 'write', effects: 2, run: writeZeroes },
  DATASET_MANAGEMENT: { opcode: 0x09, name: 'Dataset Management', spec: '§6.7', latency: 'write', effects: 2, run: datasetManagement },
  VERIFY:        { opcode: 0x0c, name: 'Verify',       spec: '§6.14', latency: 'read',  run: verify },
} as const satisfies Record<string, CommandRow>;

const byOpcode = (table: Readonly<Record<string, CommandRow>>): (CommandRow | undefined)[] => {
  const rows = Array.from<CommandRow | undefined>({ length: 256 });
  for (const row of Object.values(table)) rows[row.opcode] = row;
  return rows;
};
const adminRows = byOpcode(adminCommands);
const nvmRows = byOpcode(nvmCommands);

/** The row of a command, by its queue and opcode; undefined where the opcode is not supported. */
export const commandFor = (command: Command): CommandRow | undefined =>
  (command.queue.id === 0 ? adminRows : nvmRows)[command.opcode];

/** Commands Supported and Effects log (§5.14.1.5): 256 admin entries, 256 I/O entries, the rest reserved. */
export const effectsLog = (): Uint8Array => {
  const log = new Uint8Array(4096);
  const view = new DataView(log.buffer);
  for (const [base, table] of [
    [0, adminCommands],
    [1024, nvmCommands],
  ] as const)
    for (const row of Object.values(table) as CommandRow[])
      view.setUint32(base + row.opcode * 4, 1 | (row.effects ?? 0), true);
  return log;
};
