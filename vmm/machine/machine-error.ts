/** What is wrong with the guest or the machine as configured, one sentence each; nothing was started. */
export class MachineError extends Error {
  override readonly name = 'MachineError';
  readonly problems: readonly string[];
  constructor(problems: readonly string[]) {
    super(problems.join('; '));
    this.problems = problems;
  }
}
