/** One bundled guest program: a folder of that name in `programs/`. */
export interface GuestProgram {
  readonly name: string;
  readonly title: string;
  /** One sentence: what a run that ends with "passed" (or the expected ending) has proved. */
  readonly proves: string;
}

/** The bundled programs, in the order in which they are listed. */
export const programs = [
  {
    name: 'hello',
    title: 'Device tree facts on the console',
    proves: 'The machine boots a guest in S-mode and hands it a device tree that names its devices.',
  },
] as const satisfies readonly GuestProgram[];
