/** What is wrong with a configuration, as data: every problem at once. */
export interface ConfigIssue {
  /** `disks[0].serial`; empty for the whole. */
  readonly path: string;
  /** Continues "expected …". */
  readonly expected: string;
  /** What was there, as a person would recognise it. */
  readonly received: string;
  /** The word that was probably meant. */
  readonly suggestion?: string;
  /** 1-based place in the file, when it came from one. */
  readonly line?: number;
  readonly column?: number;
}

export type PathStep = string | number;

export const pathText = (path: readonly PathStep[]): string =>
  path.map((step, i) => (typeof step === 'number' ? `[${step}]` : i === 0 ? step : `.${step}`)).join('');

/** A value as an error shows it: short, on one line. */
export function shown(value: unknown): string {
  if (value === undefined || value === null) return 'nothing';
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (typeof value === 'object') return 'a group of keys';
  if (typeof value === 'string') {
    const quoted = JSON.stringify(value);
    return quoted.length > 62 ? `${quoted.slice(0, 60)}…"` : quoted;
  }
  return typeof value === 'number' || typeof value === 'boolean' || typeof value === 'bigint'
    ? `${value}`
    : `a ${typeof value}`;
}

/** One sentence: `vm.yaml:3:11: memory: expected a size …, found "12Q".` */
export function issueText(issue: ConfigIssue, file = ''): string {
  const place = [file, issue.line, issue.column].filter((part) => part !== undefined && part !== '').join(':');
  const where = [place, issue.path].filter((part) => part !== '').join(': ');
  const hint = issue.suggestion === undefined ? '' : ` (did you mean ${issue.suggestion}?)`;
  return `${where === '' ? '' : `${where}: `}expected ${issue.expected}, found ${issue.received}${hint}`;
}
