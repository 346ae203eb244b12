/** Scenarios over threads. Results come back in the order of the scenarios, whoever was faster. */
import { Worker } from 'node:worker_threads';
import { type Done, type Job, runJob } from './test-worker.ts';

/** The bundle is one file, in which its threads begin too. The sources, which a loader compiles, have no threads. */
const isBundle = !import.meta.url.endsWith('.ts');

/** Lets the event loop see a Ctrl-C. */
const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

export interface Pool {
  /** Calls `done` for every job in order; resolves when all are done or `stop` was called. */
  run(done: (result: Done) => void): Promise<void>;
  stop(): void;
}

export function pool(jobs: readonly Job[], threads: number): Pool {
  const results: (Done | undefined)[] = jobs.map(() => undefined);
  let told = 0;
  let next = 0;
  let isStopped = false;
  const workers: Worker[] = [];
  let wake = (): void => {};

  const take = (result: Done, done: (result: Done) => void): void => {
    results[result.index] = result;
    while (told < jobs.length && results[told]) done(results[told++]!);
  };

  const inline = async (done: (result: Done) => void): Promise<void> => {
    for (const job of jobs) {
      if (isStopped) return;
      take(runJob(job), done);
      await nextTurn();
    }
  };

  const work = (done: (result: Done) => void): Promise<void> =>
    new Promise((resolve, reject) => {
      const finish = (): void => {
        for (const worker of workers) void worker.terminate();
        resolve();
      };
      wake = finish;
      const give = (worker: Worker): void => {
        const job = jobs[next++];
        // eslint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
        if (job) worker.postMessage(job);
      };
      for (let i = 0; i < Math.min(threads, jobs.length); i++) {
        const worker = new Worker(new URL(import.meta.url));
        workers.push(worker);
        worker.on('message', (result: Done) => {
          if (isStopped) return;
          take(result, done);
          if (told === jobs.length) finish();
          else give(worker);
        });
        worker.on('error', reject);
        give(worker);
      }
    });

  return {
    run: (done) => (!isBundle || threads <= 1 || jobs.length <= 1 ? inline(done) : work(done)),
    stop: () => {
      isStopped = true;
      wake();
    },
  };
}
