/** `iommulab demo dma`: the bundled guest on the default machine, told as it happens, and checked from outside. */
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32, decodeDiskHeader, expectedWriteback, makeDiskImage } from '#guest-images/disk-image';
import { summaryLines } from '#vmm/record/summary';
import type { Layer } from '#vmm/record/narration';
import type { StoryLine } from '#vmm/record/narrate';
import { Narrator, storyText } from '#vmm/record/narrate';
import type { Ending } from './exit.ts';
import { CommandError, exitCodes } from './exit.ts';
import { fileError, readFile } from './files.ts';
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

/** One thing that is true after a good run, seen by the host and not by the guest. */
interface Check {
  readonly what: string;
  readonly passed: boolean;
}

const maxDiskBytes = 1 << 30;

function newDisk(seed: number): { readonly path: string; readonly remove: () => void } {
  let folder = tmpdir();
  try {
    folder = mkdtempSync(join(folder, 'iommulab-'));
    const path = join(folder, 'disk.img');
    writeFileSync(path, makeDiskImage(seed));
    const remove = (): void => rmSync(folder, { recursive: true, force: true });
    return { path, remove };
  } catch (error) {
    throw fileError(error, folder, 'a place for a disk image');
  }
}

/** The image as the run left it, read by us and not through the machine. */
function checkDisk(path: string): Check[] {
  const bytes = readFile(path, 'a disk image', maxDiskBytes);
  const header = decodeDiskHeader(bytes);
  const expected = expectedWriteback();
  const part = (at: number, length: number): Uint8Array => bytes.subarray(at, at + length);
  return [
    {
      what: 'the 8 MiB that the guest read are unchanged in the file',
      passed: header !== undefined && crc32(part(header.dataOffset, header.dataBytes)) === header.dataCrc32,
    },
    {
      what: 'the 1 MiB that the guest wrote is in the file',
      passed:
        header !== undefined &&
        header.writebackBytes === expected.length &&
        Buffer.compare(part(header.writebackOffset, header.writebackBytes), expected) === 0,
    },
  ];
}

/** A run on a used image would prove nothing: what the guest is to write is there already. */
function clearWriteback(path: string): void {
  const header = decodeDiskHeader(readFile(path, 'a disk image', maxDiskBytes));
  if (!header)
    throw new CommandError(
      'usage',
      `${path}: expected a disk image of this demo (--keep keeps one), found something else`,
    );
  try {
    const fd = openSync(path, 'r+');
    writeSync(fd, new Uint8Array(expectedWriteback().length), 0, null, header.writebackOffset);
    closeSync(fd);
  } catch (error) {
    throw fileError(error, path, 'a disk image');
  }
}

/** Runs the demo; the exit code. */
export async function demoDma(options: DemoOptions): Promise<number> {
  const made = options.disk === undefined;
  const keys = {
    ...(options.seed === undefined ? {} : { seed: [options.seed] }),
    ...(options.timeout === undefined ? {} : { timeout: [options.timeout] }),
  };
  const plain = readMachine(keys, { image: 'dma' });
  const disk = made ? newDisk(plain.seed) : { path: options.disk!, remove: () => {} };
  // A second Ctrl-C leaves no way but this one.
  if (made && !options.keep) process.once('exit', disk.remove);
  try {
    const config = readMachine(keys, {
      image: 'dma',
      disks: [{ path: disk.path, serial: 'IOMMULAB-DEMO' }],
      nics: [{}, {}],
      ...(options.trace === undefined ? {} : { trace: { file: options.trace } }),
    });
    const prepared = prepare(config, options.tracePerfetto);
    if (!made) clearWriteback(disk.path);
    const story: StoryLine[] = [];
    const decoder = new TextDecoder();
    const narrator = new Narrator(
      (line) => {
        if (options.json) story.push(line);
        else stdout.line(paint(line));
      },
      (bytes) => decoder.decode(bytes, { stream: true }),
    );
    narrator.step('power on: the VMM sets up iommufd, and the guest boots');
    const session = await runSession(prepared, {
      console: (bytes) => narrator.console(bytes),
      sink: narrator.sink,
      started: (machine) => {
        narrator.stats = () => machine.stats();
        narrator.nameOf = namesOf(machine);
      },
      perfetto: options.tracePerfetto,
      verbose: options.verbose === true,
    });
    narrator.finish();
    const checks = session.ending === 'passed' ? checkDisk(disk.path) : [];
    const ending: Ending = checks.every((check) => check.passed) ? session.ending : 'failed';
    if (options.json) {
      printJson({ ...resultData(session), outcome: ending, exitCode: exitCodes[ending].code, checks, story });
    } else {
      stdout.line();
      for (const line of summaryLines(session.machine.stats(), session.wallNs))
        stdout.line(/^\S/.test(line) ? stdout.colors.bold(line) : line);
      stdout.line();
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
