/** The real command line, as a user runs it: the bundle, in a process of its own. */
import { spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { threadId } from 'node:worker_threads';
import { bundle } from '../../build.ts';

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Test files run in threads of their own; the bundle must lie in a folder beside guest-images/. */
const file = join('.cache', `iommulab-test-${threadId}.js`);
let built: Promise<void> | undefined;

/** The bundle itself, for those who run it in a way of their own. */
export async function bundlePath(): Promise<string> {
  mkdirSync('.cache', { recursive: true });
  await (built ??= bundle('cmd/main.ts', file));
  return file;
}

/** Runs it to its end; `onOutput` sees stdout as it comes, `onStart` the beginning, and each may send signals. */
export async function iommulab(
  args: readonly string[],
  onOutput?: (text: string, kill: (signal: NodeJS.Signals) => void) => void,
  onStart?: (kill: (signal: NodeJS.Signals) => void) => void,
): Promise<Ended> {
  await bundlePath();
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [file, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, NO_COLOR: '1', FORCE_COLOR: '' },
    });
    onStart?.((signal) => child.kill(signal));
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
      onOutput?.(text, (signal) => child.kill(signal));
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, stdout, stderr }));
  });
}
