/** Kinds of table entries, as the specification calls them (RISC-V IOMMU v1.0.1 chapter 2). */
export type TableKind = 'DDT' | 'DC' | 'PDT' | 'PC' | 'stage 1' | 'stage 2' | 'MSI';

/** Who looks on while tables are walked. */
export interface WalkObserver {
  /**
   * An entry was read at the host-physical address `hpa`: its doublewords, or undefined where memory did not answer.
   * `gpa`: the guest-physical address it was asked for by, of the second stage the address being translated, of an MSI
   * page-table entry the message's. `level` counts down to 0.
   */
  read(
    table: TableKind,
    level: number,
    gpa: bigint | undefined,
    hpa: bigint,
    words: readonly bigint[] | undefined,
  ): void;
  /** Why a walk ends here, or what it does besides reading. */
  note(words: string): void;
}
