/** What the step `check` compares, one after the other. */
import { hex } from '#vmm/base/address';
import { crc32 } from '#vmm/base/crc32';
import { type ScenarioRun, StepFailure } from './under-way.ts';
import type { StepOptions } from './schema.ts';

type Check = (run: ScenarioRun, options: StepOptions<'check'>) => void;

const endOf = (run: ScenarioRun): void => void run.until(() => false);

const outcome: Check = (run, { outcome: wanted, code, trap }) => {
  if (wanted === undefined && code === undefined && trap === undefined) return;
  endOf(run);
  const { ended, machine } = run;
  const findings = machine.staleTranslations();
  const isSpoiled = ended?.outcome === 'passed' && findings.length > 0 && machine.config['on-finding'] === 'fail';
  const found = isSpoiled ? 'failed' : (ended?.outcome ?? 'limit');
  if (wanted !== undefined && found !== wanted)
    throw new StepFailure(
      `the outcome ${wanted}`,
      `${found}: ${run.state()}${isSpoiled ? `, but ${findings.length} stale translations were served` : ''}`,
    );
  if (code !== undefined && ended?.code !== code) throw new StepFailure(`the guest's code ${code}`, run.state());
  if (trap !== undefined && !new RegExp(`^${trap.replaceAll('*', '.*')}$`).test(ended?.trap?.name ?? ''))
    throw new StepFailure(`the trap ${trap}`, run.state());
};

const text: Check = (run, options) => {
  const { console: wanted, 'no-console': unwanted } = options;
  if (wanted !== undefined && !run.console.text.includes(wanted))
    throw new StepFailure(`${JSON.stringify(wanted)} somewhere on the console`, 'it nowhere');
  if (unwanted === undefined) return;
  const line = run.console.text.split('\n').find((one) => one.includes(unwanted));
  if (line !== undefined)
    throw new StepFailure(`${JSON.stringify(unwanted)} nowhere on the console`, JSON.stringify(line));
};

/** A number of the statistics by its path; items of lists are found by their ids. Counters that never counted are 0. */
function statistic(run: ScenarioRun, path: string): number {
  let value: unknown = run.machine.stats();
  for (const key of path.split('.')) {
    const items: readonly { readonly id?: unknown }[] | undefined = Array.isArray(value) ? value : undefined;
    const group = value as Readonly<Record<string, unknown>> | undefined;
    value = items ? items.find(({ id }) => id === key) : typeof group === 'object' ? group[key] : undefined;
  }
  if (typeof value === 'number') return value;
  if (/^(?:ioctls|commands)\../.test(path)) return 0;
  throw new StepFailure(`a number of the statistics called ${path}`, 'none of that name');
}

const number: Check = (run, { register, stat, equals, min, max }) => {
  if (register === undefined && stat === undefined) return;
  const what = register ?? stat!;
  const registers = register === undefined ? undefined : run.machine.registers();
  if (registers && !Object.hasOwn(registers, register!))
    throw new StepFailure(`a register (${Object.keys(registers).join(', ')})`, what);
  const value = registers ? registers[register!]! : BigInt(Math.trunc(statistic(run, stat!)));
  const show = (one: bigint): string => (register === undefined ? String(one) : hex(one));
  if (equals !== undefined && value !== equals) throw new StepFailure(`${what} ${show(equals)}`, show(value));
  if (min !== undefined && value < BigInt(min)) throw new StepFailure(`${what} of at least ${min}`, show(value));
  if (max !== undefined && value > BigInt(max)) throw new StepFailure(`${what} of at most ${max}`, show(value));
};

const hexText = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(' ');

const content: Check = (run, { memory, disk, offset, bytes, crc32: wanted, length }) => {
  if (memory === undefined && disk === undefined) return;
  const storage = disk === undefined ? undefined : run.machine.disks.get(disk);
  if (disk !== undefined && !storage)
    throw new StepFailure(`the disk ${disk}`, `disks ${[...run.machine.disks.keys()].join(', ') || 'none'}`);
  const found = new Uint8Array(bytes?.length ?? length);
  const where = storage ? `byte ${offset} of ${disk}` : hex(memory!);
  try {
    if (storage) storage.read(offset, found);
    else found.set(run.machine.readMemory(Number(memory), found.length));
  } catch (error) {
    throw new StepFailure(`${found.length} bytes at ${where}`, (error as Error).message);
  }
  if (bytes && hexText(bytes) !== hexText(found))
    throw new StepFailure(`${hexText(bytes)} at ${where}`, hexText(found));
  if (wanted !== undefined && BigInt(crc32(found)) !== wanted)
    throw new StepFailure(`CRC-32 ${hex(wanted)} of ${found.length} bytes at ${where}`, hex(BigInt(crc32(found))));
};

/** The first line that differs, and its number. */
function difference(golden: string, text: string): readonly [string, string] {
  const [wanted, found] = [golden.split('\n'), text.split('\n')];
  const at = wanted.findIndex((line, i) => line !== found[i]);
  const line = at < 0 ? wanted.length : at;
  const show = (one: string | undefined): string => (one === undefined ? 'the end' : JSON.stringify(one));
  return [`line ${line + 1}: ${show(wanted[line])}`, show(found[line])];
}

const golden: Check = (run, { golden: path, of }) => {
  if (path === undefined) return;
  const found = of === 'trace' ? run.trace : run.console.text;
  if (run.host.writeGolden) return run.host.writeGolden(path, found);
  const wanted = run.host.readGolden?.(path);
  if (wanted === undefined)
    throw new StepFailure(`the golden file ${path} (--update-goldens writes it)`, 'no such file');
  if (wanted === found) return;
  const [line, actual] = difference(wanted, found);
  throw new StepFailure(`the ${of} of ${path}, ${line}`, actual);
};

/** The outcome first: it runs the guest to its end, and the rest looks at what that left. */
export const checks: readonly Check[] = [outcome, text, number, content, golden];
