import { parts, plainMap, type Data } from '#vmm/base/saved';

/** A bounded cache of contexts, oldest out first: what is in it stays until a command invalidates it (§2.8). */
export class ContextCache<T> {
  readonly #entries = new Map<number, { readonly deviceId: number; readonly context: T }>();
  readonly #capacity: number;
  readonly saved = parts({
    entries: plainMap(() => this.#entries as unknown as Map<number, Data>),
  });

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  get size(): number {
    return this.#entries.size;
  }

  get(key: number): T | undefined {
    return this.#entries.get(key)?.context;
  }

  put(key: number, deviceId: number, context: T): void {
    if (this.#entries.size >= this.#capacity && !this.#entries.has(key))
      for (const oldest of this.#entries.keys()) {
        this.#entries.delete(oldest);
        break;
      }
    this.#entries.set(key, { deviceId, context });
  }

  clear(): void {
    this.#entries.clear();
  }

  delete(key: number): void {
    this.#entries.delete(key);
  }

  /** Forgets every entry of one device. */
  deleteDevice(deviceId: number): void {
    for (const [key, entry] of this.#entries) if (entry.deviceId === deviceId) this.#entries.delete(key);
  }
}
