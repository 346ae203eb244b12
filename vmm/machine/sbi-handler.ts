import type { Hart } from '../cpu/riscv/hart.ts';
import { hartStates, type SbiHandler } from '../cpu/riscv/sbi.ts';
import type { Scheduler } from './scheduler.ts';

export interface SbiSources {
  readonly harts: () => readonly Hart[];
  readonly scheduler: () => Scheduler;
  readonly write: (bytes: Uint8Array) => void;
  readonly end: (ending: { readonly outcome: 'passed' | 'failed' | 'reset'; readonly code?: number }) => void;
}

/** What the machine does for a guest's environment calls (the calls themselves: vmm/cpu/riscv/sbi). */
export const sbiHandler = ({ harts, scheduler, write, end }: SbiSources): SbiHandler => ({
  get hartCount() {
    return harts().length;
  },
  putchar: write,
  shutdown: (isFailure) => end(isFailure ? { outcome: 'failed', code: 1 } : { outcome: 'passed' }),
  reset: () => end({ outcome: 'reset' }),
  hartStart: (id, pc, opaque) => {
    if (scheduler().isStarted(id)) return 'SBI_ERR_ALREADY_AVAILABLE';
    scheduler().start(id);
    harts()[id]!.reset(pc, id, opaque);
    return 'SBI_SUCCESS';
  },
  hartStop: (id) => {
    scheduler().stop(id);
    harts()[id]!.halt();
  },
  hartState: (id) => (scheduler().isStarted(id) ? hartStates.STARTED : hartStates.STOPPED),
  sendIpi: (id) => {
    harts()[id]!.setInterrupt(1, true);
    scheduler().wake(id);
  },
  remoteFence: (id, kind) => {
    if (kind === 'translations') harts()[id]!.flushTranslations();
    else harts()[id]!.fenceCode();
  },
});
