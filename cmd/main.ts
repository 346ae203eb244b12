#!/usr/bin/env node
/** The command line. Only this folder touches process, argv and stdout. */
import { stderr } from './output.ts';
import { explain, program } from './program.ts';

try {
  await program().parseAsync();
} catch (error) {
  const { sentences, code } = explain(error);
  for (const sentence of sentences) stderr.line(`${stderr.colors.red('iommulab:')} ${sentence}`);
  process.exitCode = code;
}
