/** The vocabulary of a translation: what is asked, what comes back, what goes wrong. */
import { type Cause, causes, ttyp } from '#iommufd/arch/riscv/faults';

export interface TranslationRequest {
  readonly deviceId: number;
  readonly processIdValid: boolean;
  readonly processId: number;
  /** Supervisor privilege requested; counts only with a process_id. */
  readonly supervisor: boolean;
  readonly execute: boolean;
  /** Write or AMO; never of an ATS request. */
  readonly write: boolean;
  readonly type: 'untranslated' | 'translated' | 'ats';
  /** ATS: No Write flag. */
  readonly noWrite: boolean;
  readonly iova: bigint;
}

export interface Translation {
  readonly ok: true;
  readonly pa: bigint;
  /** log2 of the range around the IOVA for which this holds. */
  readonly shift: number;
  /** Resolved page-based memory type: 0 PMA, 1 NC, 2 IO. */
  readonly pbmt: number;
  /** Rights that both stages grant; writable only where the dirty bits are set. */
  readonly read: boolean;
  readonly write: boolean;
  readonly execute: boolean;
  /** The first stage's mapping is global. */
  readonly global: boolean;
  readonly isMsi: boolean;
  /** The MSI goes to a memory-resident interrupt file: `pa` is the notice address. */
  readonly mrif: { readonly address: bigint; readonly nid: number } | undefined;
  /** Address between the stages. */
  readonly gpa: bigint;
  /** Tags for caches; -1 where the stage is Bare. */
  readonly gscid: number;
  readonly pscid: number;
  /** DC.tc.T2GPA and DC.tc.DTF. */
  readonly t2gpa: boolean;
  readonly dtf: boolean;
}

export interface TranslationFault {
  readonly ok: false;
  readonly cause: Cause;
  readonly iotval2: bigint;
  /** DC.tc.DTF, once there is a device context. */
  readonly dtf: boolean;
}

/** What a transaction needs of a page. */
export interface Need {
  readonly read: boolean;
  readonly write: boolean;
  readonly execute: boolean;
  /** False for ATS: a missing right is answered, not a fault (§2.6). */
  readonly strict: boolean;
}

export const needOf = (request: TranslationRequest): Need => {
  const ats = request.type === 'ats';
  // Execute means something only with a PASID, except that other buses may execute untranslated (§2.3).
  const execute = request.execute && !request.write && (request.type === 'untranslated' || request.processIdValid);
  return {
    execute,
    read: ats || (!request.write && !execute),
    write: ats ? !request.noWrite : request.write,
    strict: !ats,
  };
};

/** Causes come in threes: by original access type. */
const pick = (need: Need, execute: Cause, read: Cause, write: Cause): Cause =>
  need.execute ? execute : need.read ? read : write;
export const pageFault = (need: Need): Cause =>
  pick(need, causes.instructionPageFault, causes.readPageFault, causes.writePageFault);
export const guestPageFault = (need: Need): Cause =>
  pick(need, causes.instructionGuestPageFault, causes.readGuestPageFault, causes.writeGuestPageFault);
export const accessFault = (need: Need): Cause =>
  pick(need, causes.instructionAccessFault, causes.readAccessFault, causes.writeAccessFault);

/** TTYP of a request (§3.2). */
export const ttypOf = (request: TranslationRequest): number => {
  if (request.type === 'ats') return ttyp.atsTranslation;
  const translated = request.type === 'translated' ? ttyp.translatedExecute - ttyp.untranslatedExecute : 0;
  if (request.write) return ttyp.untranslatedWrite + translated;
  return translated + (needOf(request).execute ? ttyp.untranslatedExecute : ttyp.untranslatedRead);
};
