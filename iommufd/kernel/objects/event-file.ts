import { OpenFile, pollEvents } from '../file.ts';
import type { KernelObject } from './object.ts';

/** The file of a fault queue or event queue: it keeps its object and the context alive until it is closed. */
export abstract class EventFile extends OpenFile {
  readonly object: KernelObject;
  readonly #also: number;

  /** `also`: poll events that are always there. */
  constructor(object: KernelObject, also: number) {
    super();
    this.object = object;
    this.#also = also;
    object.users++;
    object.context.get();
  }
  protected abstract readonly pending: boolean;

  override poll(): number {
    return this.#also | (this.pending ? pollEvents.in | pollEvents.rdnorm : 0);
  }
  /** Something arrived. */
  notify(): void {
    this.wake();
  }
  protected override release(): void {
    const { context } = this.object;
    this.object.users--;
    context.put();
  }
}
