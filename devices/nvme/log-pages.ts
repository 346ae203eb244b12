import type { Controller } from './controller.ts';
import type { Command } from './queues.ts';
import { status } from './status.ts';

interface LogRow {
  readonly lid: number;
  readonly spec: string;
  readonly build: (c: Controller) => Uint8Array;
}

/** Slot 1 is active and holds the one revision there is (§5.14.1.3). */
const firmwareSlots = (c: Controller): Uint8Array => {
  const log = new Uint8Array(512);
  log[0] = 0x01;
  for (let i = 0; i < 8; i++) log[8 + i] = c.setup.firmware.charCodeAt(i) || 0x20;
  return log;
};

/** Changed since the last look, in ascending order; reading clears it (§5.14.1.4). */
const changedNamespaces = (c: Controller): Uint8Array => {
  const log = new Uint8Array(4096);
  const view = new DataView(log.buffer);
  [...c.changedNamespaces].sort((a, b) => a - b).forEach((nsid, i) => view.setUint32(i * 4, nsid, true));
  return log;
};

/** Critical warning: bit 1, the temperature is beyond a threshold (§5.14.1.2). */
const smart = (c: Controller): Uint8Array => {
  const [over, under] = c.features.thresholds;
  const isBeyond = c.health.temperature >= over! || c.health.temperature <= under!;
  const isReadOnly = c.setup.namespaces.length > 0 && c.setup.namespaces.every((ns) => ns.backend.readOnly);
  return c.health.smart((isBeyond ? 2 : 0) | (isReadOnly ? 8 : 0));
};

// prettier-ignore
export const logPages = {
  ERROR_INFORMATION: { lid: 0x01, spec: '§5.14.1.1', build: (c) => c.health.errorLog() },
  SMART:             { lid: 0x02, spec: '§5.14.1.2', build: smart },
  FIRMWARE_SLOT:     { lid: 0x03, spec: '§5.14.1.3', build: firmwareSlots },
  CHANGED_NAMESPACES:{ lid: 0x04, spec: '§5.14.1.4', build: changedNamespaces },
  COMMAND_EFFECTS:   { lid: 0x05, spec: '§5.14.1.5', build: (c) => c.effectsLog() },
} as const satisfies Record<string, LogRow>;
const byId = new Map<number, LogRow>(Object.values(logPages).map((row) => [row.lid, row]));

/** Get Log Page (§5.14). */
export const getLogPage = (c: Controller, command: Command): number => {
  const dw10 = command.dw[10]!;
  const row = byId.get(dw10 & 0xff);
  if (!row) return status.INVALID_LOG_PAGE;
  const bytes = ((dw10 >>> 16) + (command.dw[11]! & 0xffff) * 2 ** 16 + 1) * 4;
  const offset = (command.dw[12]! >>> 0) + (command.dw[13]! >>> 0) * 2 ** 32;
  // SMART is kept for the whole controller (Identify Controller, LPA bit 0 = 0).
  if (row.lid === logPages.SMART.lid && command.nsid !== 0 && command.nsid !== 0xffff_ffff) return status.INVALID_FIELD;
  if (offset % 4 !== 0 || bytes > c.maxTransfer) return status.INVALID_FIELD;
  const page = row.build(c);
  if (offset >= page.length) return status.INVALID_FIELD;
  const sent = c.send(command, page.subarray(offset, Math.min(offset + bytes, page.length)));
  if (sent === status.SUCCESS && (dw10 & 0x8000) === 0) {
    if (row.lid === logPages.CHANGED_NAMESPACES.lid) c.changedNamespaces.clear();
    c.clearEvents(row.lid);
  }
  return sent;
};
