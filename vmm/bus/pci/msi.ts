import { invariant } from '#vmm/base/invariant';
import { field, parts } from '#vmm/base/saved';
import type { ConfigSpace } from './config-space.ts';
import type { SendMessage } from './msix.ts';

/**
 * A function's MSI capability (PCI Express Base 6.0 §6.1.4): up to 32 vectors that share one address, with masks and
 * pending bits in the configuration space.
 */
export class Msi {
  readonly #config: ConfigSpace;
  readonly #send: SendMessage;
  #mayRequest = false;
  readonly saved = parts({
    mayRequest: field(
      () => this.#mayRequest,
      (value) => (this.#mayRequest = value),
    ),
  });

  constructor(vectors: number, config: ConfigSpace, send: SendMessage) {
    invariant([1, 2, 4, 8, 16, 32].includes(vectors), `${vectors} MSI vectors`);
    this.#config = config;
    this.#send = send;
    config.onWrite('msi_control', () => this.#release());
    config.onWrite('msi_mask', () => this.#release());
  }

  get isEnabled(): boolean {
    return (this.#config.get('msi_control') & 1) !== 0;
  }

  /** Whether the function may issue requests (Bus Master Enable, D0); what was held back goes out. */
  allow(mayRequest: boolean): void {
    this.#mayRequest = mayRequest;
    this.#release();
  }

  raise(vector: number): void {
    if (!this.isEnabled) return;
    const bit = this.#alias(vector);
    this.#config.set('msi_pending', (this.#config.get('msi_pending') | (1 << bit)) >>> 0);
    this.#release();
  }

  /** §6.1.4: with fewer messages allocated than wanted, only the low bits of the data may be changed. */
  #alias(vector: number): number {
    const control = this.#config.get('msi_control');
    const capable = (control >>> 1) & 7;
    const enabled = Math.min((control >>> 4) & 7, capable);
    return vector & ((1 << enabled) - 1);
  }

  #release(): void {
    if (!this.isEnabled || !this.#mayRequest) return;
    const config = this.#config;
    let ready = config.get('msi_pending') & ~config.get('msi_mask');
    while (ready !== 0) {
      const vector = 31 - Math.clz32(ready & -ready);
      ready &= ready - 1;
      config.set('msi_pending', (config.get('msi_pending') & ~(1 << vector)) >>> 0);
      this.#send(vector, config.get('msi_address_high'), config.get('msi_address'), config.get('msi_data') | vector);
    }
  }
}
