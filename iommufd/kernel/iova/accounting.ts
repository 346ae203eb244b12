import { pageBytes } from '#vmm/base/address';
import { errno } from '#vmm/base/errno';

/** Who pays for pinned pages: nobody (CAP_IPC_LOCK), the user (IOPT_PAGES_ACCOUNT_USER), the process (…_MM). */
export type AccountMode = 'none' | 'user' | 'process';

/** Resource limits and privileges of the process, and the pages it has locked. */
export class Accounting {
  /** RLIMIT_MEMLOCK in bytes. */
  memlock = 8 << 20;
  capIpcLock = true;
  capSysResource = true;
  /** Pages accounted now. */
  user = 0;
  process = 0;

  charge(mode: AccountMode, pages: number): number {
    if (mode === 'none') return 0;
    if (this[mode] + pages > Math.floor(this.memlock / pageBytes)) return errno.ENOMEM;
    this[mode] += pages;
    return 0;
  }
  uncharge(mode: AccountMode, pages: number): void {
    if (mode !== 'none') this[mode] -= pages;
  }
}
