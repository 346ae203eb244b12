/** Which command each change of a table demands: RISC-V IOMMU v1.0.1 §6.3 as a table. */
import { hex } from '#vmm/base/address';
import type { Translation, TranslationRequest } from './translation.ts';
import type { TableKind } from './walk-observer.ts';

/** Which cache served. The vIOMMU's is what it attached a device to when it last read the guest's context. */
export type StaleCache = 'IOTLB' | 'device ATC' | 'device context' | 'process context' | 'vIOMMU context';

export interface StaleRule {
  readonly name: string;
  readonly spec: string;
  /** The command, from what is known of the entry. */
  readonly command: (facts: Facts) => string;
}
export interface RuleInput {
  /** The guest-physical address that the changed entry was read for. */
  readonly gpa: bigint | undefined;
  readonly request: TranslationRequest;
  /** What was cached; undefined of a context. */
  readonly result: Translation | undefined;
  /** Set where the tables are a guest's that sees no second stage: its name of the device. */
  readonly guestRid: number | undefined;
}
interface Facts {
  readonly did: string;
  readonly pid: string;
  /** `GV=1, GSCID=…` or `GV=0`. */
  readonly vm: string;
  readonly pscid: string;
  readonly page: string;
  readonly guestPage: string;
  readonly rid: string;
  readonly pv: string;
  readonly address: string;
}

const leafOnly = 'AV=1';
// prettier-ignore
export const staleRules = {
  ddtPointer: { name: 'a non-leaf DDT entry changed', spec: '§6.3.1', command: () => 'IODIR.INVAL_DDT DV=0' },
  deviceContext: { name: 'a device context changed', spec: '§6.3.1', command: ({ did }) => `IODIR.INVAL_DDT DV=1, DID=${did}` },
  deviceTranslations: { name: 'a device context changed: its translations', spec: '§6.3.1', command: ({ vm }) => `IOTINVAL.VMA ${vm}, AV=0, PSCV=0` },
  pdtPointer: { name: 'a non-leaf PDT entry changed', spec: '§6.3.2', command: ({ did }) => `IODIR.INVAL_DDT DV=1, DID=${did}` },
  processContext: { name: 'a process context changed', spec: '§6.3.2', command: ({ did, pid }) => `IODIR.INVAL_PDT DV=1, DID=${did}, PID=${pid}` },
  processTranslations: { name: 'a process context changed: its translations', spec: '§6.3.2', command: ({ vm, pscid }) => `IOTINVAL.VMA ${vm}, AV=0, ${pscid}` },
  msi: { name: 'an MSI page-table entry changed', spec: '§6.3.3', command: ({ vm, guestPage }) => `IOTINVAL.GVMA ${vm}, ${leafOnly}, ADDR=${guestPage}` },
  secondLeaf: { name: 'a leaf of the second stage changed', spec: '§6.3.4', command: ({ vm, guestPage }) => `IOTINVAL.GVMA ${vm}, ${leafOnly}, ADDR=${guestPage}` },
  secondPointer: { name: 'a non-leaf entry of the second stage changed', spec: '§6.3.4', command: ({ vm }) => `IOTINVAL.GVMA ${vm}, AV=0` },
  firstLeaf: { name: 'a leaf of the first stage changed', spec: '§6.3.5', command: ({ vm, pscid, page }) => `IOTINVAL.VMA ${vm}, ${leafOnly}, ${pscid}, ADDR=${page}` },
  deviceAtc: { name: 'a table changed under a device’s own translation cache', spec: '§6.3.7', command: ({ rid, pv, address }) => `ATS.INVAL RID=${rid}, ${pv}, PAYLOAD=${address}` },
  firstPointer: { name: 'a non-leaf entry of the first stage changed', spec: '§6.3.5', command: ({ vm, pscid }) => `IOTINVAL.VMA ${vm}, AV=0, ${pscid}` },
} as const satisfies Record<string, StaleRule>;

const directories: ReadonlySet<TableKind> = new Set<TableKind>(['DDT', 'PDT']);
/** An entry that leads to another table (V alone of V, R, W and X; of a directory V). */
export const isPointer = (table: TableKind, entry: bigint): boolean =>
  directories.has(table) ? (entry & 1n) !== 0n : (entry & 0xfn) === 1n;

const { ddtPointer, deviceContext, deviceTranslations, pdtPointer, processContext, processTranslations } = staleRules;
const { msi, secondLeaf, secondPointer, firstLeaf, firstPointer } = staleRules;
/** By the table that changed: the rule of a cached context, of a translation, and of one under a pointer that changed. */
// prettier-ignore
const rules: Readonly<Record<TableKind, readonly [context: StaleRule, leaf: StaleRule, pointer: StaleRule]>> = {
  DDT:       [ddtPointer, deviceTranslations, deviceTranslations],
  DC:        [deviceContext, deviceTranslations, deviceTranslations],
  PDT:       [pdtPointer, processTranslations, processTranslations],
  PC:        [processContext, processTranslations, processTranslations],
  MSI:       [msi, msi, msi],
  'stage 1': [firstLeaf, firstLeaf, firstPointer],
  'stage 2': [secondLeaf, secondLeaf, secondPointer],
};

/** The rule that a changed entry, which was `was`, falls under. */
export const ruleOf = (cache: StaleCache, table: TableKind, was: bigint): StaleRule =>
  cache === 'device ATC' ? staleRules.deviceAtc : rules[table][cache !== 'IOTLB' ? 0 : isPointer(table, was) ? 2 : 1];

export const missingCommand = (rule: StaleRule, { gpa, request, result, guestRid }: RuleInput): string => {
  const inGuest = guestRid !== undefined;
  const page = (address: bigint): string => hex(address >> 12n);
  return rule.command({
    did: hex(guestRid ?? request.deviceId),
    pid: String(request.processId),
    vm: !inGuest && result && result.gscid >= 0 ? `GV=1, GSCID=${result.gscid}` : 'GV=0',
    pscid: result && result.pscid >= 0 && !result.global ? `PSCV=1, PSCID=${result.pscid}` : 'PSCV=0',
    page: page(request.iova),
    rid: hex(guestRid ?? request.deviceId),
    pv: request.processIdValid ? `PV=1, PID=${request.processId}` : 'PV=0',
    address: hex((request.iova >> 12n) << 12n),
    guestPage: page(gpa ?? result?.gpa ?? 0n),
  });
};
