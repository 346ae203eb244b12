/** What a hart's AIA registers ask of its S-level interrupt file (AIA §2.2, §3.8–3.10). */
export interface ImsicPort {
  /** sireg at a siselect of 0x70 … 0xff; undefined = no such register. */
  readIndirect(select: number): bigint | number | undefined;
  /** False = no such register. */
  writeIndirect(select: number, value: bigint | number): boolean;
  /** stopei: identity in bits 26:16 and 10:0 of the highest-priority interrupt, or 0. */
  topei(): number;
  /** A write to stopei: the interrupt that `topei` names is no longer pending. */
  claim(): void;
}
