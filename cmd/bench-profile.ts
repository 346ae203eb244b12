/** Where the main thread of a run spends its time, from a profile of Node's. */
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

interface Frame {
  readonly functionName: string;
  readonly url: string;
}
interface Profile {
  readonly nodes: readonly { readonly id: number; readonly children?: readonly number[]; readonly callFrame: Frame }[];
  readonly samples: readonly number[];
  /** µs, of each sample. */
  readonly timeDeltas: readonly number[];
}

/** By the source that a frame is of, the first that matches. A program in one piece tells no sources: all is "other". */
const sources: readonly (readonly [what: string, url: RegExp])[] = [
  ['compiling', /\/vmm\/cpu\//],
  ['devices', /\/(?:devices|viommu|iommufd|vmm\/(?:bus|irq|machine))\//],
  ['loading modules', /^node:|\/node_modules\//],
];
const native: Readonly<Record<string, string>> = { '(garbage collector)': 'garbage collection' };
const isIdle = ({ functionName }: Frame): boolean => functionName === '(idle)' || functionName === '(root)';
const isWasm = ({ url }: Frame): boolean => url.startsWith('wasm:');

/** Of the process's first thread; Node numbers them. */
const ofMainThread = /\.0\.\d+\.cpuprofile$/;

/**
 * Seconds of the main thread by what it did. A hart's code runs in the module that holds its run loop (interpreted), which
 * is called from our own code, or in modules made while it ran (translated), which that one calls.
 */
export function shareOf(folder: string): Readonly<Record<string, number>> {
  const file = readdirSync(folder).find((name) => ofMainThread.test(name))!;
  const { nodes, samples, timeDeltas } = JSON.parse(readFileSync(join(folder, file), 'utf8')) as Profile;
  const frames = new Map(nodes.map(({ id, callFrame }) => [id, callFrame]));
  const runLoops = new Set<string>();
  for (const { callFrame, children = [] } of nodes) {
    if (isWasm(callFrame) || callFrame.url === '' || callFrame.url.startsWith('node:')) continue;
    for (const child of children.map((id) => frames.get(id)!)) if (isWasm(child)) runLoops.add(child.url);
  }
  const shares: Record<string, number> = { interpreted: 0, translated: 0, compiling: 0, devices: 0, 'garbage collection': 0, 'loading modules': 0, other: 0 }; // prettier-ignore
  for (const [i, id] of samples.entries()) {
    const frame = frames.get(id)!;
    if (isIdle(frame)) continue;
    const source = (): string => sources.find(([, pattern]) => pattern.test(frame.url))?.[0] ?? 'other';
    const code = runLoops.has(frame.url) ? 'interpreted' : 'translated';
    shares[isWasm(frame) ? code : (native[frame.functionName] ?? source())]! += timeDeltas[i]! / 1e6;
  }
  return shares;
}
