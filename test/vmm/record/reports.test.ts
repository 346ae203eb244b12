import { expect, it } from 'vitest';
import { guestReports, reportLines } from '#vmm/record/reports';

const console = [
  'step: begin',
  'process: name=a bytes=1024',
  'process: name=longer bytes=1',
  'process: attempt="with spaces" status=x',
  'process: nothing that is a pair',
  'histogram: name=a below_2us=3',
].join('\n');

it('reads what a guest reports, quoted values and nonsense too', () => {
  expect(guestReports(console)).toEqual({
    process: [
      { name: 'a', bytes: '1024' },
      { name: 'longer', bytes: '1' },
      { attempt: '"with spaces"', status: 'x' },
      {},
    ],
    histogram: [{ name: 'a', below_2us: '3' }],
  });
});
it('makes a table a kind, with a new head where the keys change', () => {
  const lines = reportLines(console);
  expect(lines.slice(0, 4)).toEqual(['Processes', '  name    bytes', '  a        1024', '  longer      1']);
  expect(lines).toContain('  name  below 2us');
});
it('says nothing where nothing is reported', () => expect(reportLines('hello\n')).toEqual([]));
