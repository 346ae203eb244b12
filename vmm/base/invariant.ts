/** A bug of ours, never a guest's or a person's doing; caught only by the command line (exit 70). */
export class InvariantError extends Error {
  override readonly name = 'InvariantError';
}

export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new InvariantError(message);
}
