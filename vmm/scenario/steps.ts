/** What each kind of step does. A row that returns holds; it throws StepFailure where it does not. */
import { hex } from '#vmm/base/address';
import { injections, type InjectionKind } from '../machine/inject.ts';
import { checks } from './checks.ts';
import type { PlacedStep } from './parse.ts';
import { type ScenarioRun, StepFailure } from './under-way.ts';
import type { StepKind, StepOptions } from './schema.ts';

type RunStep<K extends StepKind> = (run: ScenarioRun, options: StepOptions<K>, index: number) => void;

const shownText = (text: string): string => JSON.stringify(text.length > 200 ? `…${text.slice(-200)}` : text);
const whereText = (where: object): string =>
  Object.entries(where)
    .map(([key, value]) => ` ${key}=${String(value)}`)
    .join('');

const expectConsole: RunStep<'expect-console'> = (run, { text, pattern, within }) => {
  const wanted = text ?? new RegExp(pattern!, 'm');
  const { isThere, end } = run.console.wait(wanted);
  const isFound = run.until(isThere, within);
  end();
  if (!isFound)
    throw new StepFailure(
      typeof wanted === 'string'
        ? `${shownText(wanted)} on the console`
        : `a line that matches ${String(wanted)} on the console`,
      `${run.state()}, whose console ends with ${shownText(run.console.text.trimEnd().split('\n').at(-1) ?? '')}`,
    );
};

const expectEvent: RunStep<'expect-event'> = (run, { event, where, times, since, within }, index) => {
  const { events } = run;
  const from = since === 'here' ? events.position : events.cursor;
  const isDone = (): boolean => events.hits(index, from).length >= times;
  events.wait(isDone);
  const isFound = run.until(isDone, within);
  events.wait(undefined);
  const hits = events.hits(index, from);
  if (!isFound)
    throw new StepFailure(
      `${times === 1 ? '' : `${times} times `}the event ${event}${whereText(where)}`,
      `${hits.length === 0 ? 'none' : hits.length}, and ${run.state()}`,
    );
  events.cursor = hits[times - 1]!;
};

const expectNoEvent: RunStep<'expect-no-event'> = (run, { event, where, for: ns, since }, index) => {
  const { events } = run;
  const from = since === 'boot' ? 0 : events.position;
  const isDone = (): boolean => events.hits(index, from).length > 0;
  events.wait(isDone);
  const came = run.until(isDone, ns);
  events.wait(undefined);
  if (came) throw new StepFailure(`no event ${event}${whereText(where)}`, events.example(index));
};

const inject: RunStep<'inject'> = (run, options) => {
  for (const kind of Object.keys(injections) as InjectionKind[])
    if (options[kind] !== undefined) run.machine.inject(kind, options[kind] as never);
};

const bytesText = (bytes: Uint8Array): string =>
  Array.from(bytes.subarray(0, 32), (byte) => byte.toString(16).padStart(2, '0')).join(' ') +
  (bytes.length > 32 ? ' …' : '');

const dma: RunStep<'dma'> = (run, { device, address, length, write, pasid, times, result, bytes }) => {
  for (let i = 0; i < times; i++) {
    const report = run.machine.dma({
      device,
      address,
      length,
      ...(write ? { write } : {}),
      ...(pasid === undefined ? {} : { pasid }),
    });
    const [fault] = report.faults;
    const said = fault ? `bytes ${fault.first} to ${fault.last} refused: ${fault.status}` : 'all of it done';
    if ((fault !== undefined) !== (result === 'fault'))
      throw new StepFailure(`a DMA of ${device} at ${hex(address)} that ends in: ${result}`, said);
    if (bytes && bytesText(report.bytes) !== bytesText(bytes))
      throw new StepFailure(`${device} to read ${bytesText(bytes)} at ${hex(address)}`, bytesText(report.bytes));
  }
};

const advance: RunStep<'advance'> = (run, { time, instructions, address }) => {
  const { outcome } = run.run({
    ...(time === undefined ? {} : { virtualNs: time }),
    ...(instructions === undefined ? {} : { instructions }),
    ...(address === undefined ? {} : { address }),
  });
  if (address !== undefined && outcome !== 'met') throw new StepFailure(`a hart at pc ${hex(address)}`, run.state());
  if (outcome !== 'limit' && outcome !== 'met') throw new StepFailure('the guest to run on', run.state());
};

const type: RunStep<'type'> = (run, { text }) => {
  const taken = run.machine.type(text);
  if (taken < new TextEncoder().encode(text).length)
    throw new StepFailure(`the console to take ${shownText(text)}`, `${taken} bytes taken`);
};

const deviceAdd: RunStep<'device-add'> = (run, options) => {
  for (const [driver, keys] of Object.entries(options)) run.machine.deviceAdd(driver, keys);
};

/** THE table. */
const steps: { readonly [K in StepKind]: RunStep<K> } = {
  'expect-console': expectConsole,
  'expect-event': expectEvent,
  'expect-no-event': expectNoEvent,
  inject,
  dma,
  advance,
  'device-add': deviceAdd,
  'device-del': (run, { id, surprise }) => run.machine.deviceDel(id, { surprise }),
  snapshot: (run, { name }) => {
    run.keep(name);
    run.goBack(name);
  },
  resume: (run, { name }) => run.goBack(name),
  check: (run, options) => {
    for (const one of checks) one(run, options);
  },
  type,
};

export function runStep(run: ScenarioRun, { kind, step }: PlacedStep, index: number): void {
  (steps[kind] as RunStep<StepKind>)(run, step[kind]!, index);
}
