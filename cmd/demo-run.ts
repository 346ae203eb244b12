/** `iommulab demo`: a bundled guest on a machine made for it, told as it happens, and checked from outside. */
import { PageRequestSteps } from '#vmm/record/page-request-steps';
import { guestReports, reportLines } from '#vmm/record/reports';
import { summaryLines } from '#vmm/record/summary';
import type { Layer } from '#vmm/record/narration';
import type { StoryLine } from '#vmm/record/narrate';
import { Narrator, storyText } from '#vmm/record/narrate';
import type { Ending } from './exit.ts';
import { exitCodes } from './exit.ts';
import { checkHost, type Demo, type DemoName, demos, newDisk } from './demos.ts';
import { readMachine } from './options.ts';
import { prepare } from './prepare.ts';
import { printJson, stderr, stdout } from './output.ts';
import { namesOf } from './perfetto-file.ts';
import { reportEnd, resultData } from './report.ts';
import { runSession } from './session.ts';

export interface DemoOptions {
  readonly disk?: string | undefined;
  readonly keep?: true | undefined;
  readonly trace?: string | undefined;
  readonly tracePerfetto?: string | undefined;
  readonly seed?: string | undefined;
  readonly timeout?: string | undefined;
  readonly json?: true | undefined;
  readonly verbose?: true | undefined;
}

/** Runs the demo; the exit code. */
export async function runDemo(name: DemoName, options: DemoOptions): Promise<number> {
  const demo: Demo = demos[name];
  const made = options.disk === undefined;
  const keys = {
    ...(options.seed === undefined ? {} : { seed: [options.seed] }),
    ...(options.timeout === undefined ? {} : { timeout: [options.timeout] }),
  };
  const plain = readMachine(keys, { image: demo.image });
  const disk = made ? newDisk(plain.seed) : { path: options.disk!, remove: () => {} };
  // A second Ctrl-C leaves no way but this one.
  if (made && !options.keep) process.once('exit', disk.remove);
  try {
    const config = readMachine(keys, {
      image: demo.image,
      ...demo.machine,
      disks: [{ path: disk.path, serial: 'IOMMULAB-DEMO', ...demo.disk }],
      ...(options.trace === undefined ? {} : { trace: { file: options.trace } }),
    });
    const prepared = prepare(config, { '--trace-perfetto': options.tracePerfetto });
    if (!made) demo.prepareDisk?.(disk.path);
    const story: StoryLine[] = [];
    const decoder = new TextDecoder();
    const tell = (line: StoryLine): void => {
      if (options.json) story.push(line);
      else stdout.line(paint(line));
    };
    // Nothing is told of a machine that cannot be made, or whose files cannot be written.
    let held: StoryLine[] | undefined = [];
    const narrator = new Narrator(
      (line) => {
        if (held) held.push(line);
        else tell(line);
      },
      (bytes) => decoder.decode(bytes, { stream: true }),
    );
    const pageRequests = new PageRequestSteps();
    narrator.step('power on: the VMM sets up iommufd, and the guest boots');
    const session = await runSession(prepared, {
      console: (bytes) => narrator.console(bytes),
      sink: (event) => {
        narrator.sink(event);
        pageRequests.sink(event);
      },
      started: (machine) => {
        narrator.stats = () => machine.stats();
        pageRequests.instructions = () => machine.instructions;
        narrator.nameOf = namesOf(machine);
        for (const line of held ?? []) tell(line);
        held = undefined;
      },
      perfetto: options.tracePerfetto,
      verbose: options.verbose === true,
    });
    narrator.finish();
    const checks = session.ending === 'passed' ? [...demo.checks(disk.path), ...checkHost(session.machine)] : [];
    const ending: Ending = checks.every((check) => check.passed) ? session.ending : 'failed';
    if (options.json) {
      printJson({
        ...resultData(session),
        outcome: ending,
        exitCode: exitCodes[ending].code,
        checks,
        ...guestReports(session.console),
        pageRequests: pageRequests.report(),
        story,
      });
    } else {
      stdout.line();
      for (const line of summaryLines(session.machine.stats(), session.wallNs))
        stdout.line(/^\S/.test(line) ? stdout.colors.bold(line) : line);
      stdout.line();
      for (const line of [...reportLines(session.console), ...pageRequests.lines()])
        stdout.line(/^\S/.test(line) ? stdout.colors.bold(line) : line);
      for (const { what, passed } of checks)
        stdout.line(
          `${passed ? stdout.colors.green('✔') : stdout.colors.red('✘')} ${passed ? '' : 'NOT TRUE: '}${what}`,
        );
    }
    if (made && options.keep) stderr.line(`disk image: ${disk.path}`);
    reportEnd(session);
    return exitCodes[ending].code;
  } finally {
    if (made && !options.keep) disk.remove();
  }
}

/** A story line in the colour of its layer. */
function paint(line: StoryLine): string {
  const c = stdout.colors;
  // prettier-ignore
  const byLayer: Readonly<Record<Layer, (text: string) => string>> = {
    device: c.reset, viommu: c.cyan, effect: c.cyan, iommufd: c.magenta, hardware: c.green,
  };
  // prettier-ignore
  const byKind: Readonly<Record<StoryLine['kind'], (text: string) => string>> = {
    step: c.bold, console: c.dim, warning: c.yellow, total: c.reset, event: line.layer ? byLayer[line.layer] : c.reset,
  };
  return byKind[line.kind](storyText(line));
}
