import type { PciFunction, TranslationEnables } from '#vmm/base/ports';
import { field, parts } from '#vmm/base/saved';
import type { ConfigSpace } from './config-space.ts';
import { atsControl, pasidControl, priControl, priStatusBits } from './extended-capabilities.ts';

const allOff: TranslationEnables = {
  ats: false,
  smallestTranslationShift: 12,
  pri: false,
  pageRequestAllocation: 0,
  pasid: false,
  pasidExecute: false,
  pasidPrivileged: false,
};

/** The enable bits of ATS, PRI and PASID, from the configuration space to the function. */
export class Translation {
  readonly #config: ConfigSpace;
  readonly #fn: PciFunction;
  readonly #changed: (enables: TranslationEnables) => void;
  #told = allOff;
  readonly saved = parts({
    told: field(
      () => ({ ...this.#told }),
      (told) => (this.#told = told),
    ),
  });

  /** `changed` hears of every change, before the function does. */
  constructor(config: ConfigSpace, fn: PciFunction, changed: (enables: TranslationEnables) => void) {
    this.#config = config;
    this.#fn = fn;
    this.#changed = changed;
    if (fn.ats) config.onWrite('ats_control', () => this.apply());
    if (fn.pri) {
      config.onWrite('pri_control', (now) => this.#controlPageRequests(now));
      config.onWrite('pri_allocation', () => this.apply());
    }
    if (fn.pasid) config.onWrite('pasid_control', (now) => this.#controlPasid(now));
  }

  /** Tells the function when what it may do has changed, as after a reset. */
  apply(): void {
    const now = this.#read();
    const keys = Object.keys(allOff) as (keyof TranslationEnables)[];
    if (keys.every((key) => now[key] === this.#told[key])) return;
    this.#told = now;
    this.#changed(now);
    this.#fn.translation?.(now);
  }

  #read(): TranslationEnables {
    const { ats, pri, pasid } = this.#fn;
    const control = (name: string, isOffered: boolean): bigint => (isOffered ? BigInt(this.#config.get(name)) : 0n);
    const atsNow = atsControl.decode(control('ats_control', ats !== undefined));
    const priNow = priControl.decode(control('pri_control', pri !== undefined));
    const pasidNow = pasidControl.decode(control('pasid_control', pasid !== undefined));
    return {
      ats: atsNow.enable === 1n,
      smallestTranslationShift: 12 + Number(atsNow.smallest_translation_unit),
      pri: priNow.enable === 1n,
      pageRequestAllocation: pri ? Math.min(this.#config.get('pri_allocation'), pri.capacity) : 0,
      pasid: pasidNow.enable === 1n,
      pasidExecute: pasidNow.enable === 1n && pasidNow.execute_permission_enable === 1n,
      pasidPrivileged: pasidNow.enable === 1n && pasidNow.privileged_mode_enable === 1n,
    };
  }

  #controlPageRequests(now: number): void {
    const control = priControl.decode(BigInt(now));
    const status = this.#config.get('pri_status');
    // §10.5.2.2: Reset counts only while Enable is clear; it forgets what was outstanding.
    const kept = control.reset === 1n && control.enable === 0n ? status & priStatusBits.pasidRequired : status;
    this.#config.set(
      'pri_status',
      control.enable === 1n ? kept & ~priStatusBits.stopped : kept | priStatusBits.stopped,
    );
    this.apply();
  }

  #controlPasid(now: number): void {
    // Capability and control keep execute and privileged at the same bits.
    const supported = this.#config.get('pasid_capability') & 0b110;
    this.#config.set('pasid_control', now & (supported | 1));
    this.apply();
  }
}
