/** What a guest reports in lines of `kind: key=value …` (guest-images/README.md), as tables and as data. */

export type Report = Readonly<Record<string, string>>;
/** Kinds that the end of a demo shows as tables, with their titles. */
const titles = {
  process: 'Processes',
  histogram: 'Latency of a device’s access to a page that was not there',
} as const;
type Kind = keyof typeof titles;

/** Reports of each kind in the order in which they came. */
export const guestReports = (console: string): Readonly<Record<Kind, readonly Report[]>> => {
  const out: Record<Kind, Report[]> = { process: [], histogram: [] };
  for (const match of console.matchAll(/^(process|histogram): (.*)$/gm))
    out[match[1] as Kind].push(
      Object.fromEntries([...match[2]!.matchAll(/(\w+)=("[^"]*"|\S+)/g)].map(([, key, value]) => [key!, value!])),
    );
  return out;
};

/** One table a kind that has reports; reports with the same keys share a head. */
export const reportLines = (console: string): string[] => {
  const lines: string[] = [];
  for (const [kind, rows] of Object.entries(guestReports(console)) as [Kind, readonly Report[]][]) {
    if (rows.length === 0) continue;
    lines.push(titles[kind]);
    let head = '';
    let widths: number[] = [];
    for (const row of rows) {
      const keys = Object.keys(row);
      if (keys.join(' ') !== head) {
        head = keys.join(' ');
        const alike = rows.filter((other) => Object.keys(other).join(' ') === head);
        widths = keys.map((key) => Math.max(key.length, ...alike.map((other) => other[key]!.length)));
        lines.push(
          cells(
            keys.map((key) => key.replaceAll('_', ' ')),
            widths,
          ),
        );
      }
      lines.push(cells(Object.values(row), widths));
    }
    lines.push('');
  }
  return lines;
};

const cells = (values: readonly string[], widths: readonly number[]): string =>
  `  ${values.map((value, i) => (i === 0 ? value.padEnd(widths[i]!) : value.padStart(widths[i]!))).join('  ')}`.trimEnd();
