/** Assertions about a machine in a test: for vitest's `expect.extend`, and alone for node:test and everything else. */
import type { EventFields } from '#vmm/base/events';
import { LastEvents, textLine } from '../record/text.ts';
import { matchesEvent } from './events.ts';
import type { Lab } from './lab.ts';
import type { RunOutcome } from './machine.ts';

/** What a matcher of vitest (and jest) returns. */
export interface MatcherResult {
  readonly pass: boolean;
  readonly message: () => string;
}

const shownEvents = 12;
const shownLines = 8;

/** What went before, for every message. */
function story({ console, events }: Lab): string {
  const last = new LastEvents(shownEvents);
  // A guest's own words are on the console already.
  for (const event of events) if (event.fields['region'] !== 'uart') last.sink(event);
  return [
    'last events',
    ...last.list().map((event) => `  ${textLine(event)}`),
    'console',
    ...console
      .split('\n')
      .slice(-shownLines)
      .map((line) => `  ${line}`),
  ].join('\n');
}

const verdict = (lab: Lab, pass: boolean, expected: string, found: string): MatcherResult => ({
  pass,
  message: () => `expected the machine ${pass ? 'not ' : ''}${expected}, found ${found}\n${story(lab)}`,
});

const shown = (fields: object): string =>
  Object.entries(fields)
    .map(([key, value]) => ` ${key}=${String(value)}`)
    .join('');

/** Runs the guest to its end where that has not happened yet. */
function toHaveEnded(lab: Lab, outcome: RunOutcome, code?: number): MatcherResult {
  const before = lab.result;
  const result = !before || before.outcome === 'met' || before.outcome === 'limit' ? lab.run() : before;
  const pass = result.outcome === outcome && (code === undefined || result.code === code);
  const trap = result.trap ? `: ${result.trap.name} at pc 0x${result.trap.pc.toString(16)}` : '';
  const codeText = (value: number | undefined): string => (value === undefined ? '' : ` with code ${value}`);
  return verdict(lab, pass, `to have ${outcome}${codeText(code)}`, `${result.outcome}${codeText(result.code)}${trap}`);
}

/** The matchers; give them to `expect.extend`. */
export const machineMatchers = {
  /** The guest passed; it is run to its end first. */
  toHavePassed: (lab: Lab): MatcherResult => toHaveEnded(lab, 'passed'),
  /** The guest ended in this way, and with this code; it is run to its end first. */
  toHaveEnded,
  /** The guest wrote this. */
  toHaveConsole: (lab: Lab, wanted: string | RegExp): MatcherResult => {
    const { console } = lab;
    const pass = typeof wanted === 'string' ? console.includes(wanted) : wanted.test(console);
    return verdict(
      lab,
      pass,
      `to have written ${typeof wanted === 'string' ? JSON.stringify(wanted) : String(wanted)}`,
      pass ? 'it' : 'it nowhere',
    );
  },
  /** An event with such fields came. */
  toHaveEvent: (lab: Lab, name: string, where: EventFields = {}): MatcherResult => {
    const found = lab.events.find((event) => matchesEvent(event, name, where));
    const others = lab.events.filter((event) => event.name === name).length;
    return verdict(
      lab,
      found !== undefined,
      `to have told of ${name}${shown(where)}`,
      found ? textLine(found).trim() : `${others} of that name, none with such fields`,
    );
  },
  /** Guest memory holds these bytes. */
  toHaveMemory: (lab: Lab, address: number, bytes: Uint8Array): MatcherResult => {
    const found = lab.machine.readMemory(address, bytes.length);
    const text = (all: Uint8Array): string => Array.from(all, (byte) => byte.toString(16).padStart(2, '0')).join(' ');
    return verdict(
      lab,
      text(found) === text(bytes),
      `to hold ${text(bytes)} at 0x${address.toString(16)}`,
      text(found),
    );
  },
};

type Arguments<F> = F extends (lab: Lab, ...args: infer A) => MatcherResult ? A : never;
/**
 * For vitest: `declare module 'vitest' { interface Matchers<T> extends MachineMatchers<T> {} }`.
 */
export type MachineMatchers<R = void> = {
  readonly [K in keyof typeof machineMatchers]: (...args: Arguments<(typeof machineMatchers)[K]>) => R;
};

/** The same assertions without a framework: each throws an Error where it does not hold. */
export function expectMachine(lab: Lab): MachineMatchers & { readonly not: MachineMatchers } {
  const bind = (wanted: boolean): MachineMatchers =>
    Object.fromEntries(
      Object.entries(machineMatchers).map(([name, matcher]) => [
        name,
        (...args: unknown[]) => {
          const { pass, message } = (matcher as (lab: Lab, ...args: unknown[]) => MatcherResult)(lab, ...args);
          if (pass !== wanted) throw new Error(message());
        },
      ]),
    ) as unknown as MachineMatchers;
  return { ...bind(true), not: bind(false) };
}
