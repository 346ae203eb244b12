/** How the command ends. `--help` and the README print this table. */
// prettier-ignore
export const exitCodes = {
  passed:      { code: 0,   doc: 'the guest passed, or the command did what was asked' },
  failed:      { code: 1,   doc: 'the guest said that it failed, or a check of the result failed' },
  usage:       { code: 2,   doc: 'the command line or the configuration is wrong; nothing was written' },
  crashed:     { code: 3,   doc: 'the guest crashed: a trap that nobody handles, or a kernel panic' },
  timeout:     { code: 4,   doc: '--timeout or --max-instructions was reached' },
  reset:       { code: 5,   doc: 'the guest asked for a reset (--reboot boots it again instead)' },
  resource:    { code: 6,   doc: 'something of the host is missing or refused: space, permission, /dev/iommu' },
  bug:         { code: 70,  doc: 'a bug of iommulab' },
  interrupted: { code: 130, doc: 'Ctrl-C, Ctrl-A x on the console, or quit on the control socket' },
} as const satisfies Record<string, { readonly code: number; readonly doc: string }>;
export type Ending = keyof typeof exitCodes;

/** Ends the command with one sentence and an exit code; thrown anywhere in cmd, shown by main. */
export class CommandError extends Error {
  override readonly name = 'CommandError';
  readonly ending: Ending;
  /** Further sentences, one line each. */
  readonly more: readonly string[];
  constructor(ending: Ending, message: string, more: readonly string[] = []) {
    super(message);
    this.ending = ending;
    this.more = more;
  }
}

/** A table for `--help`. */
export const exitCodeHelp = (): string =>
  ['Exit codes:', ...Object.values(exitCodes).map(({ code, doc }) => `  ${String(code).padStart(3)}  ${doc}`)].join(
    '\n',
  );
