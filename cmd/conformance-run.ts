/** Replays a folder of recordings. Each kind of recording is one row of `kinds`. */
import { gunzipSync } from 'node:zlib';
import { join } from 'node:path';
import type { Scenario } from '#iommufd/conformance/riscv-iommu';
import { replayScenario } from '#iommufd/conformance/riscv-iommu';
import { formatCount } from '#vmm/record/bytes';
import { eventFilter as globFilter } from '#vmm/record/catalogue';
import { CommandError, exitCodes } from './exit.ts';
import { readFile } from './files.ts';
import { printJson, stdout } from './output.ts';

interface Difference {
  /** Which step or call of the case. */
  readonly where: string;
  readonly lines: readonly string[];
}
interface CaseResult {
  readonly name: string;
  readonly steps: number;
  readonly differences: readonly Difference[];
}
interface Kind {
  /** Files that the index names. */
  readonly files: (index: unknown) => readonly string[];
  readonly replay: (text: string, wants: (name: string) => boolean) => Iterable<CaseResult>;
}

const maxBytes = 256 << 20;

function* replayVectors(text: string, wants: (name: string) => boolean): Iterable<CaseResult> {
  for (const line of text.split('\n')) {
    if (line === '') continue;
    const scenario = JSON.parse(line) as Scenario;
    if (!wants(scenario.id)) continue;
    const { steps, failures } = replayScenario(scenario);
    const differences = failures
      .filter((failure) => failure.binding)
      .map(({ step, op, differences: lines }) => ({ where: `step ${step} (${op})`, lines }));
    yield { name: scenario.id, steps, differences };
  }
}

/** By the `kind` of the index. */
const kinds: Readonly<Record<string, Kind>> = {
  'riscv-iommu': {
    files: (index) => (index as { themes: { file: string }[] }).themes.map((theme) => theme.file),
    replay: replayVectors,
  },
};

function readText(path: string): string {
  const bytes = readFile(path, 'a recording', maxBytes);
  try {
    return new TextDecoder().decode(
      path.endsWith('.gz') ? gunzipSync(bytes, { maxOutputLength: maxBytes * 4 }) : bytes,
    );
  } catch {
    throw new CommandError('usage', `${path}: expected a gzip file, found something else`);
  }
}

function openFolder(dir: string): { readonly kind: Kind; readonly files: readonly string[] } {
  const path = join(dir, 'index.json');
  const text = readText(path);
  try {
    const index = JSON.parse(text) as { kind?: string };
    const kind = kinds[index.kind ?? ''];
    if (kind) return { kind, files: kind.files(index).map((file) => join(dir, file)) };
  } catch {
    // Not JSON, or not of the shape that its kind has: said below.
  }
  throw new CommandError(
    'usage',
    `${path}: expected an index of recordings of kind ${Object.keys(kinds).join(' or ')}`,
  );
}

const shownDifferences = 20;

/** Prints results as they come; the exit code: 1 on any difference. */
export function conformance(dir: string, options: { readonly case: string; readonly reporter: string }): number {
  const { kind, files } = openFolder(dir);
  const wants = globFilter([options.case]);
  const failed: CaseResult[] = [];
  let cases = 0;
  let steps = 0;
  for (const file of files) {
    for (const result of kind.replay(readText(file), wants)) {
      cases++;
      steps += result.steps;
      const first = result.differences[0];
      if (!first) continue;
      failed.push(result);
      if (options.reporter === 'pretty' && failed.length <= shownDifferences) {
        stdout.line(`${stdout.colors.red('✘')} ${result.name}: ${first.where}`);
        for (const line of first.lines) stdout.line(`    ${line}`);
      }
    }
  }
  if (cases === 0) throw new CommandError('usage', `${dir}: no case matches ${options.case}`);
  const passed = cases - failed.length;
  if (options.reporter === 'json') printJson({ cases, steps, passed, failed });
  else stdout.line(`${formatCount(passed)} of ${formatCount(cases)} cases agree (${formatCount(steps)} steps)`);
  return failed.length === 0 ? exitCodes.passed.code : exitCodes.failed.code;
}
