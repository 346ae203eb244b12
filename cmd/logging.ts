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
export function logEvents(log: Logger): TraceSink {
  return (event) => {
    const level = levels[catalogue.get(event.name)?.level ?? 'debug'];
    if (!log.isLevelEnabled(level)) return;
    const fields = Object.entries(event.fields).map(([key, value]) => [
      key,
      typeof value === 'bigint' ? `0x${value.toString(16)}` : value,
    ]);
    log[level]({ ...Object.fromEntries(fields), virtual_ns: event.time }, event.name);
  };
}
