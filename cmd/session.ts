/** One run, from a machine's configuration to its result. */
import { type Listener, Recollection, type TraceSink } from '#vmm/base/events';
import { isLinuxImage } from '#vmm/boot/linux-image';
import type { StaleFinding } from '#iommufd/host/riscv/stale-translations';
import { SnapshotError } from '#vmm/snapshot/container';
import type { Snapshot } from '#vmm/machine/snapshot';
import type { MachineConfig } from '#vmm/config/schema';
import type { MachineHost, RunResult } from '#vmm/machine/machine';
import { Machine } from '#vmm/machine/machine';
import { MachineError } from '#vmm/machine/machine-error';
import { formatBytes, formatCount, formatTime } from '#vmm/record/bytes';
import { eventFilter } from '#vmm/record/catalogue';
import { JsonLines } from '#vmm/record/jsonl';
import { textLine } from '#vmm/record/text';
import { ConsoleText } from './console.ts';
import type { ControlServer } from './control-server.ts';
import { checkDisks } from './disks.ts';
import type { Ending } from './exit.ts';
import { CommandError } from './exit.ts';
import { OutputFile } from './files.ts';
import type { GdbServer } from './gdb-server.ts';
import { KernelPanic } from './kernel-panic.ts';
import { EventLog, openLog } from './logging.ts';
import { Networks } from './networks.ts';
import { stderr } from './output.ts';
import { PerfettoFile } from './perfetto-file.ts';
import { Pace } from './pace.ts';
import { Progress } from './progress.ts';
import type { Prepared } from './prepare.ts';
import { type GuestNote, noteOf, type SavedFile, saveSnapshot } from './snapshot-file.ts';
import type { SnapshotPoint } from './snapshot-point.ts';
import { openDisk } from './storage.ts';
import type { ConsoleInput } from './terminal.ts';

/** Instructions between two looks at the clock and at Ctrl-C: some 20 ms. */
const sliceInstructions = 5_000_000;
/** The same for a guest that sleeps. */
const sliceNs = 1e9;
/** The same where virtual time is held back: nobody sees it jump so far. */
const pacedSliceNs = 1e7;
/** The same with wires to other processes, whose frames are taken in between. */
const wiredSliceNs = 1e6;
/** Between two looks at Ctrl-C and the deadline while nothing is to be done. */
const longestWaitMs = 100;
const rememberedEvents = 24;
/** More console text than this is passed on but not kept. */
const keptConsoleBytes = 16 << 20;

export interface Watch {
  /** Bytes of the guest's console, as they come. */
  readonly console: (bytes: Uint8Array) => void;
  /** The guest is paused for a moment: what was collected of its console can be shown. */
  readonly pause?: () => void;
  /** What is typed on the guest's console. */
  readonly input?: ConsoleInput;
  /** A debugger that decides when the machine runs. */
  readonly gdb?: GdbServer;
  /** Sees every event. */
  readonly sink?: TraceSink;
  /** Show every event on stderr. */
  readonly verbose?: boolean;
  /** Write the run for Perfetto. */
  readonly perfetto?: string | undefined;
  /** Clients that may stop the run, look at it and end it. */
  readonly control?: ControlServer;
  /** Save the machine at some point. */
  readonly snapshot?: SnapshotPoint | undefined;
  /** Nobody listens to the trace, for measurements. */
  readonly unobserved?: boolean;
  /** False: no line on stderr about how far the run has come. */
  readonly hasProgress?: boolean;
  /** What was wanted of the run is there: it ends at the next look. */
  readonly isDone?: () => boolean;
  /** The run is over; the machine is as it was left. */
  readonly ended?: (machine: Machine) => void;
  /** The machine exists and is about to run. */
  readonly started?: (machine: Machine) => void;
}

/** A machine that was saved, instead of a guest to boot. */
export interface Resumed {
  readonly config: MachineConfig;
  readonly path: string;
  readonly snapshot: Snapshot;
  readonly plugged: Snapshot['plugged'];
  readonly guest: GuestNote;
}

export interface Session {
  readonly ending: Ending;
  readonly result: RunResult;
  readonly machine: Machine;
  /** All that the guest wrote to its console. */
  readonly console: string;
  readonly wallNs: number;
  /** The machine was saved here. */
  readonly saved?: SavedFile;
  /** A Linux kernel panicked. */
  readonly panic?: { readonly sentence: string; readonly lastLines: readonly string[] };
  /** What `--check stale-translations` found. */
  readonly findings: readonly StaleFinding[];
  /** The end of the trace, for the report of a guest that did not end well. */
  readonly lastEvents: readonly string[];
}

/** How a result of the machine ends the command. */
const endings: Readonly<Record<RunResult['outcome'], Ending>> = {
  passed: 'passed',
  failed: 'failed',
  crashed: 'crashed',
  timeout: 'timeout',
  limit: 'timeout',
  reset: 'reset',
  met: 'bug',
  breakpoint: 'bug',
};

export function createMachine(config: MachineConfig, host: MachineHost): Machine {
  try {
    return Machine.create(config, host);
  } catch (error) {
    if (error instanceof RangeError && /allocat/i.test(error.message))
      throw new CommandError('resource', `the host has no memory for a guest of ${formatBytes(config.memory)}`);
    if (!(error instanceof MachineError)) throw error;
    const [first, ...more] = error.problems.map((problem) => `${config.kernel ?? config.image}: ${problem}`);
    throw new CommandError('usage', first ?? error.message, more);
  }
}

function resumeMachine({ config, path, snapshot, plugged }: Resumed, host: Omit<MachineHost, 'image'>): Machine {
  try {
    return Machine.resume(snapshot, { ...host, config, plugged });
  } catch (error) {
    if (error instanceof SnapshotError || error instanceof MachineError)
      throw new CommandError('usage', `${path}: ${error.message}`);
    throw error;
  }
}

/** Ctrl-C once: stop at the next look, with everything written and closed; twice: at once. */
export function onInterrupt(): { readonly seen: () => boolean; readonly end: () => void } {
  let seen = false;
  const handler = (): void => {
    if (seen) process.exit(130);
    seen = true;
    stderr.line('stopping (Ctrl-C again: at once)');
  };
  process.on('SIGINT', handler);
  return { seen: () => seen, end: () => void process.off('SIGINT', handler) };
}

/** So long, or until something is typed. */
const pause = (ms: number, input: ConsoleInput | undefined): Promise<void> =>
  input ? input.wait(ms) : new Promise((resolve) => setTimeout(resolve, ms));

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Saves a machine; what it says to that becomes the command's error. */
function saveMachine(machine: Machine, guest: GuestNote, path: string): SavedFile {
  try {
    return saveSnapshot(machine, guest, path);
  } catch (error) {
    if (error instanceof MachineError) throw new CommandError('failed', error.problems[0]!, error.problems.slice(1));
    throw error;
  }
}

/**
 * Boots the machine that `prepare` has judged, or takes up one that was saved, and runs it to its end, through every
 * reset on the way.
 */
export async function runSession(source: Prepared | Resumed, watch: Watch): Promise<Session> {
  const { config } = source;
  const kept = new ConsoleText(keptConsoleBytes);
  // A guest's own words are on the console already.
  const last = new Recollection(rememberedEvents, 'uart');
  // Opened only when the machine stands: a guest that cannot be loaded leaves no file behind.
  let traceFile: OutputFile | undefined;
  const openTrace = (path: string): OutputFile => (traceFile ??= new OutputFile(path, 'a trace file'));
  const { file, events } = config.trace;
  const lines = file === undefined ? undefined : new JsonLines((text) => openTrace(file).write(text));
  // What closing the machine does is no part of the run.
  let isOver = false;
  const listeners: Listener[] = [];
  const hear = (sink: TraceSink, wants?: (name: string) => boolean): void =>
    void listeners.push({ sink: (event) => isOver || sink(event), wants });
  if (lines) hear(lines.sink, eventFilter(events));
  const perfetto = watch.perfetto === undefined ? undefined : new PerfettoFile(watch.perfetto);
  if (perfetto) hear(perfetto.sink);
  if (watch.verbose) hear((event) => stderr.line(stderr.colors.dim(textLine(event))));
  if (watch.sink) hear(watch.sink);
  else if (!watch.unobserved) {
    const log = new EventLog(openLog(config['log-level']));
    hear(log.sink, log.wants);
  }
  let captureFile: OutputFile | undefined;
  const { capture } = config;
  const openCapture = (path: string): OutputFile => (captureFile ??= new OutputFile(path, 'a capture file'));
  let hotPlug: Machine['hotPlug'] | undefined;
  const networks = new Networks((message) => stderr.line(message));
  const host: Omit<MachineHost, 'image'> = {
    openDisk: (disk) => {
      // Those of the configuration were judged together, before there was a machine.
      if (hotPlug) checkDisks([...hotPlug.present.disks, disk]);
      return openDisk(disk);
    },
    openNetwork: networks.open,
    closeNetwork: networks.closeOne,
    ...(capture === undefined ? {} : { capture: (bytes) => openCapture(capture).write(bytes) }),
    listeners,
    ...(watch.unobserved ? {} : { recollection: last }),
    console: (bytes) => {
      kept.add(bytes);
      panic?.add(bytes);
      watch.console(bytes);
    },
  };
  const isLinux = 'guest' in source ? source.guest.isLinux : isLinuxImage(source.image);
  const begin = (): Machine =>
    'guest' in source ? resumeMachine(source, host) : createMachine(config, { ...host, ...source });
  const panic = isLinux ? new KernelPanic() : undefined;
  const start = performance.now();
  let machine = begin();
  hotPlug = machine.hotPlug;
  if (file !== undefined) openTrace(file);
  perfetto?.started(machine);
  const interrupt = onInterrupt();
  const deadline = config.timeout === undefined ? Infinity : start + config.timeout * 1000;
  /** Instructions left, over all boots. */
  let left = config['max-instructions'] ?? Infinity;
  let result: RunResult;
  let stopped: Ending | undefined;
  let findings: readonly StaleFinding[] = [];
  let lastEvents: readonly string[] = [];
  let retired = machine.instructions;
  const { input, gdb, control, snapshot } = watch;
  const guest = (): GuestNote => ('guest' in source ? source.guest : noteOf(config, source.image, isLinux));
  let saved: SavedFile | undefined;
  // A person who types sees what the guest does.
  const progress = input?.isTerminal === true || watch.hasProgress === false ? undefined : new Progress('running');
  const state = (): string =>
    `${formatCount(machine.instructions)} instructions, ${formatTime(machine.clock.now)} virtual`;
  const isPaced = config.realtime || (isLinux && input?.isTerminal === true);
  let pace = new Pace(start - machine.clock.now / 1e6);
  /** Linux empties the receiver while it looks for the UART; what comes before it listens would be lost. */
  const feed = (): void => {
    if (!isLinux || machine.uart.isReceiving) input?.offer((bytes) => machine.uart.receive(bytes));
  };
  if (control) control.save = (path) => saveMachine(machine, guest(), path);
  gdb?.attach(machine);
  control?.attach(machine);
  watch.started?.(machine);
  input?.open();
  try {
    for (;;) {
      feed();
      const slice = {
        instructions: Math.min(left, sliceInstructions),
        virtualNs: networks.isOpen ? wiredSliceNs : isPaced ? pacedSliceNs : sliceNs,
        // Where slices end is no part of what happens.
        undisturbed: true,
      };
      const until = snapshot?.narrow(slice, machine) ?? slice;
      result =
        (control?.isStopped ? undefined : gdb ? gdb.run(until) : machine.run(until)) ??
        machine.run({ instructions: 0 });
      watch.pause?.();
      left -= result.instructions - retired;
      retired = result.instructions;
      const isReboot = result.outcome === 'reset' && config.reboot && !('guest' in source);
      const isThere = snapshot?.isThere(result, machine) === true;
      if (snapshot && isThere) {
        saved = saveMachine(machine, guest(), snapshot.path);
        snapshot.isDone = true;
        if (!snapshot.goesOn) stopped = 'passed';
      }
      // A kernel that panicked may reset or stop for good: it crashed either way.
      if (panic?.isOver || (panic?.sentence !== undefined && result.outcome !== 'limit')) stopped = 'crashed';
      if (watch.isDone?.()) stopped = 'passed';
      const isOn = result.outcome === 'limit' || (result.outcome === 'met' && isThere);
      if (stopped !== undefined || (!isOn && !isReboot)) break;
      progress?.show(state);
      await nextTurn();
      if (gdb?.isStopped) await gdb.wait(longestWaitMs);
      if (control?.isStopped) await control.wait(longestWaitMs);
      const ahead = isPaced ? pace.ahead(machine.clock.now, performance.now()) : 0;
      if (ahead >= 1) await pause(Math.min(ahead, longestWaitMs), input);
      if (interrupt.seen() || input?.isLeaving || gdb?.isKilled || control?.isQuit) stopped = 'interrupted';
      else if (left <= 0 || performance.now() >= deadline) stopped = 'timeout';
      if (stopped !== undefined) break;
      if (!isReboot) continue;
      machine.close();
      networks.close();
      hotPlug = undefined;
      machine = begin();
      hotPlug = machine.hotPlug;
      gdb?.attach(machine);
      control?.attach(machine);
      watch.started?.(machine);
      retired = 0;
      pace = new Pace(performance.now());
    }
    if (snapshot?.isAtEnd) saved = saveMachine(machine, guest(), snapshot.path);
    watch.ended?.(machine);
  } finally {
    // Tells what waited for an invalidation that never came, before the trace ends.
    findings = machine.staleTranslations();
    progress?.end();
    interrupt.end();
    input?.close();
    gdb?.close();
    control?.close();
    isOver = true;
    lastEvents = last.list().map(textLine);
    try {
      lines?.flush();
    } finally {
      perfetto?.close();
      traceFile?.close();
      captureFile?.close();
      networks.close();
      machine.close();
    }
  }
  const ending = stopped ?? endings[result.outcome];
  const isSpoiled = ending === 'passed' && findings.length > 0 && config['on-finding'] === 'fail';
  return {
    ending: isSpoiled ? 'failed' : ending,
    findings,
    result,
    machine,
    console: kept.toString(),
    wallNs: (performance.now() - start) * 1e6,
    lastEvents,
    ...(saved ? { saved } : {}),
    ...(panic?.sentence === undefined ? {} : { panic: { sentence: panic.sentence, lastLines: panic.lastLines } }),
  };
}
