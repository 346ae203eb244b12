/** How results of cases are printed: for people, TAP, JUnit and JSON. */
import { formatCount } from '#vmm/record/bytes';
import type { ReporterName } from './conformance.ts';
import type { CaseResult } from './conformance-run.ts';
import { stdout } from './output.ts';

export interface Reporter {
  result(result: CaseResult): void;
  end(): void;
}
export type Print = (text: string) => void;

/** Failures shown in full to a person; the rest are counted. */
const shownFailures = 20;

function pretty(print: Print): Reporter {
  let cases = 0;
  let steps = 0;
  let failed = 0;
  return {
    result: ({ name, steps: compared, difference }) => {
      cases++;
      steps += compared;
      if (!difference || ++failed > shownFailures) return;
      print(`${stdout.colors.red('✘')} ${name}: ${difference.where}`);
      for (const line of difference.lines) print(`    ${line}`);
    },
    end: () => {
      if (failed > shownFailures) print(`… and ${formatCount(failed - shownFailures)} more`);
      print(
        `${formatCount(cases - failed)} of ${formatCount(cases)} cases agree (${formatCount(steps)} answers compared)`,
      );
    },
  };
}

/** TAP 14: the plan may come last. */
export function tap(print: Print): Reporter {
  let cases = 0;
  print('TAP version 14');
  return {
    result: ({ name, difference, isSkipped }) => {
      cases++;
      const directive = isSkipped ? ' # SKIP' : '';
      print(`${difference ? 'not ok' : 'ok'} ${cases} - ${name.replaceAll(/[\\#]/g, String.raw`\$&`)}${directive}`);
      if (!difference) return;
      print(
        [
          '  ---',
          `  at: ${JSON.stringify(difference.where)}`,
          `  differences: ${JSON.stringify(difference.lines)}`,
          '  ...',
        ].join('\n'),
      );
    },
    end: () => print(`1..${cases}`),
  };
}

const xml = (text: string): string =>
  text
    // eslint-disable-next-line no-control-regex -- XML 1.0 has no way to write these
    .replaceAll(/[\u0000-\u0008\u000b\u000c\u000e-\u001f]/g, '?')
    .replaceAll(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);

export function junit(print: Print, suite = 'conformance'): Reporter {
  const rows: string[] = [];
  let failures = 0;
  let skipped = 0;
  return {
    result: ({ name, difference, isSkipped }) => {
      const open = `    <testcase classname="${xml(suite)}" name="${xml(name)}"`;
      if (isSkipped) {
        skipped++;
        rows.push(`${open}><skipped/></testcase>`);
        return;
      }
      if (!difference) {
        rows.push(`${open}/>`);
        return;
      }
      failures++;
      const said = xml([difference.where, ...difference.lines].join('\n'));
      rows.push(`${open}><failure message="${xml(difference.where)}">${said}</failure></testcase>`);
    },
    end: () =>
      print(
        [
          '<?xml version="1.0" encoding="UTF-8"?>',
          `<testsuites tests="${rows.length}" failures="${failures}" skipped="${skipped}">`,
          `  <testsuite name="${xml(suite)}" tests="${rows.length}" failures="${failures}" skipped="${skipped}">`,
          ...rows,
          '  </testsuite>',
          '</testsuites>',
        ].join('\n'),
      ),
  };
}

function json(print: Print): Reporter {
  const results: CaseResult[] = [];
  return {
    result: (result) => void results.push(result),
    end: () => {
      const failed = results.filter((result) => result.difference).length;
      print(JSON.stringify({ cases: results.length, passed: results.length - failed, failed, results }, null, 2));
    },
  };
}

export const reporters: Readonly<Record<ReporterName, (print: Print) => Reporter>> = { pretty, tap, junit, json };
