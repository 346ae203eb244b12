/** How the end of a run is told. */
import { bdf, hex } from '#vmm/base/address';
import { noPasid } from '#vmm/base/ports';
import type { StaleFinding } from '#iommufd/host/riscv/stale-translations';
import { formatCount, formatTime } from '#vmm/record/bytes';
import { exitCodes } from './exit.ts';
import { stderr } from './output.ts';
import type { Session } from './session.ts';
import { savedSentence } from './snapshot-file.ts';

/** `--json`: everything that the human report says. */
export function resultData(session: Session): Record<string, unknown> {
  const { result, ending } = session;
  return {
    outcome: ending,
    exitCode: exitCodes[ending].code,
    ...(result.code === undefined ? {} : { guestCode: result.code }),
    ...(result.trap === undefined
      ? {}
      : { trap: result.trap, registers: session.machine.harts.map(({ id }) => session.machine.registers(id)) }),
    ...(session.findings.length === 0 ? {} : { findings: session.findings.map(findingData) }),
    ...(session.panic ? { panic: session.panic.sentence } : {}),
    ...(ending === 'passed' ? {} : { lastEvents: session.lastEvents }),
    ...(session.saved ? { snapshot: session.saved } : {}),
    stats: session.machine.stats(),
    wallNs: Math.round(session.wallNs),
    console: session.console,
  };
}

const findingData = ({
  cache,
  rid,
  pasid,
  iova,
  served,
  now,
  table,
  at,
  was,
  is,
  writer,
  missing,
  rule,
}: StaleFinding) => ({
  check: 'stale-translations',
  cache,
  device: bdf(rid),
  ...(pasid === noPasid ? {} : { pasid }),
  iova: hex(iova),
  served,
  now,
  entry: { table, hpa: hex(at), was: hex(was), is: hex(is) },
  ...(writer
    ? {
        writer: { who: writer.who, ...(writer.pc === undefined ? {} : { pc: hex(writer.pc) }), virtualNs: writer.time },
      }
    : {}),
  missing,
  rule: rule.spec,
});

/** Findings shown; the rest are counted. */
const mostShown = 10;

/** One sentence each. */
export const findingLines = (findings: readonly StaleFinding[]): string[] => [
  ...findings.slice(0, mostShown).map(({ cache, rid, pasid, iova, served, now, table, writer, missing, rule }) => {
    const who = `${bdf(rid)}${pasid === noPasid ? '' : ` PASID ${pasid}`}`;
    const by = writer ? `, by ${writer.who}${writer.pc === undefined ? '' : ` at pc ${hex(writer.pc)}`}` : '';
    return `stale ${cache} entry served to ${who} for ${hex(iova)}: ${served}, tables say ${now}; ${rule.name} (${table}${by}); missing: ${missing} (${rule.spec})`;
  }),
  ...(findings.length > mostShown ? [`and ${findings.length - mostShown} more`] : []),
];

/** Four registers a line. */
function registerLines(registers: Readonly<Record<string, bigint>>): string[] {
  const cells = Object.entries(registers).map(([name, value]) => `${name.padStart(5)} ${hex(value, 16)}`);
  const lines: string[] = [];
  for (let i = 0; i < cells.length; i += 4) lines.push(`  ${cells.slice(i, i + 4).join(' ')}`);
  return lines;
}

const sentences: Readonly<Record<Session['ending'], (session: Session) => string>> = {
  passed: () => 'the guest passed',
  failed: ({ result, findings }) =>
    result.outcome === 'passed'
      ? `the guest passed, but ${findings.length} stale ${findings.length === 1 ? 'translation was' : 'translations were'} served`
      : `the guest failed${result.code === undefined ? '' : ` with code ${result.code}`}`,
  crashed: ({ result, panic }) =>
    `the guest crashed: ${panic?.sentence ?? (result.trap ? trapText(result.trap) : 'no trap')}`,
  timeout: ({ result }) =>
    result.outcome === 'timeout'
      ? 'the guest waits for an interrupt, and none can ever come'
      : 'the guest did not end within its time or instruction limit',
  reset: () => 'the guest asked for a reset',
  interrupted: () => 'interrupted',
  usage: () => '',
  resource: () => '',
  bug: () => '',
};

const trapText = (trap: NonNullable<Session['result']['trap']>): string =>
  `${trap.name} at pc ${hex(trap.pc)}, tval ${hex(trap.tval)}`;

/** The guest itself ended the run. */
const isEnd = ({ outcome }: Session['result']): boolean => outcome !== 'met' && outcome !== 'limit';

/** On stderr: one line, and for a guest that did not pass what a person needs to see why. */
export function reportEnd(session: Session): void {
  const { ending, result, wallNs } = session;
  const { colors } = stderr;
  const paint = ending === 'passed' ? colors.green : colors.red;
  const cost = `${formatCount(result.instructions)} instructions, ${formatTime(result.virtualNs)} virtual, ${formatTime(wallNs)} wall`;
  if (session.panic) {
    stderr.line(colors.bold('last console lines'));
    for (const line of session.panic.lastLines) stderr.line(`  ${line}`);
  } else if (ending === 'crashed' || ending === 'timeout') {
    const { harts } = session.machine;
    for (const { id } of harts) {
      stderr.line(colors.bold(harts.length === 1 ? 'registers' : `registers of hart ${id}`));
      for (const line of registerLines(session.machine.registers(id))) stderr.line(line);
    }
    stderr.line(colors.bold('last events'));
    for (const line of session.lastEvents) stderr.line(`  ${line}`);
    if (session.lastEvents.length === 0) stderr.line('  none');
  }
  for (const line of findingLines(session.findings)) stderr.line(colors.yellow(line));
  if (session.saved) stderr.line(savedSentence(session.saved));
  const isStopped = session.saved !== undefined && !isEnd(result);
  stderr.line(`${isStopped ? 'stopped there' : paint(sentences[ending](session))} (${cost})`);
}
