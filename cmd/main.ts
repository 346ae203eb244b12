#!/usr/bin/env node
/** The command line. Only this folder touches process, argv and stdout. */
import { isMainThread } from 'node:worker_threads';
import { stderr } from './output.ts';
import { explain, program } from './program.ts';

if (isMainThread)
  try {
    await program().parseAsync();
  } catch (error) {
    const { sentences, code } = explain(error);
    for (const sentence of sentences) stderr.line(`${stderr.colors.red('iommulab:')} ${sentence}`);
    process.exitCode = code;
  }
// A thread of `iommulab test`: the bundle is one file, so that its threads begin here too.
else (await import('./test-worker.ts')).serve();
