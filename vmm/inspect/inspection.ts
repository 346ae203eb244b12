import type { FieldKind, FieldValue } from '#vmm/base/events';
import type { Machine } from '#vmm/machine/machine';

export type InspectionRow = Readonly<Record<string, FieldValue>>;

/** One thing that can be looked at: a table whose columns are declared as those of trace events are. */
export interface Inspection {
  /** One sentence. */
  readonly doc: string;
  /** Column → how its values are shown; every row has exactly these. */
  readonly columns: Readonly<Record<string, FieldKind>>;
  /** Reads the state, and changes none of it. Without a machine: what is the same for every machine. */
  readonly read: (machine: Machine | undefined) => readonly InspectionRow[];
  /** Tells nothing without a machine. */
  readonly needsRun: boolean;
  /** How people see it, where that is not a table. */
  readonly text?: (machine: Machine) => readonly string[];
}

/** The declaration of an inspection that looks at a machine. */
export const ofMachine = (
  inspection: Pick<Inspection, 'doc' | 'columns'> & {
    readonly read: (machine: Machine) => readonly InspectionRow[];
    readonly text?: (machine: Machine) => readonly string[];
  },
): Inspection => ({
  ...inspection,
  needsRun: true,
  read: (machine) => (machine ? inspection.read(machine) : []),
});

/** `r-x`, of a sum of read 1, write 2, execute 4. */
export const rightsText = (rights: number): string =>
  `${rights & 1 ? 'r' : '-'}${rights & 2 ? 'w' : '-'}${rights & 4 ? 'x' : '-'}`;
