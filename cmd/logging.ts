import { pino } from 'pino';
import type { Logger } from 'pino';
import pretty from 'pino-pretty';
import type { TraceSink } from '#vmm/base/events';
import { catalogue } from '#vmm/record/catalogue';
import type { MachineConfig } from '#vmm/config/schema';
import { stderr } from './output.ts';

/** The VMM's own talk, on stderr. As a stream in this process: a pino transport would look for files beside the bundle. */
export function openLog(level: MachineConfig['log-level']): Logger {
  const stream = pretty({
    destination: 2,
    sync: true,
    colorize: stderr.colors.isColorSupported,
    ignore: 'pid,hostname,time',
    singleLine: true,
  });
  return pino({ level, base: null, timestamp: false }, stream);
}

const levels = { warning: 'warn', info: 'info', debug: 'debug' } as const;

/** Each event at its level of the catalogue: what guests do wrong shows by default. */
export class EventLog {
  readonly #log: Logger;

  constructor(log: Logger) {
    this.#log = log;
  }

  /** Whether events of this name are shown at all. */
  readonly wants = (name: string): boolean => this.#log.isLevelEnabled(levelOf(name));

  readonly sink: TraceSink = (event) => {
    const fields = Object.entries(event.fields).map(([key, value]) => [
      key,
      typeof value === 'bigint' ? `0x${value.toString(16)}` : value,
    ]);
    this.#log[levelOf(event.name)]({ ...Object.fromEntries(fields), virtual_ns: event.time }, event.name);
  };
}

const levelOf = (name: string): 'warn' | 'info' | 'debug' => levels[catalogue.get(name)?.level ?? 'debug'];
