import { errno } from '#vmm/base/errno';
import { invariant } from '#vmm/base/invariant';
import type { Saved } from '#vmm/base/saved';
import type { Context } from '../context.ts';
import { LowestIds } from '../ids.ts';

/**
 * `struct iommufd_object`. `users` counts the references of other objects and open files, plus one for the id itself;
 * user space can destroy an object only while that one is left.
 */
export abstract class KernelObject {
  readonly context: Context;
  id = 0;
  users = 1;
  /** What of it changes besides its users; see saved-context. */
  readonly saved?: Saved;

  constructor(context: Context) {
    this.context = context;
  }
  /** Runs before an in-kernel owner gives the object up. */
  preDestroy(): void {}
  /** Undoes everything the object stands for: its references, its hardware state. */
  abstract destroy(): void;
}

type Constructor<T> = abstract new (...args: never[]) => T;

/** The objects of one context by id: lowest free id first; ids of destroyed objects are used again at once. */
export class ObjectTable {
  /** null: reserved (being made), or a tombstone. */
  readonly #slots = new Map<number, KernelObject | null>();
  readonly #ids = new LowestIds(1);

  /** Every slot in the order of its making, and the allocator of ids, for snapshots. */
  get slots(): ReadonlyMap<number, KernelObject | null> {
    return this.#slots;
  }
  get ids(): LowestIds {
    return this.#ids;
  }
  /** Exactly these from now on; nothing is destroyed. */
  replace(slots: Iterable<readonly [number, KernelObject | null]>): void {
    const all = [...slots];
    this.#slots.clear();
    for (const [id, object] of all) {
      if (object) object.id = id;
      this.#slots.set(id, object);
    }
  }

  /** Gives the object an id that cannot be looked up yet. */
  reserve(object: KernelObject): number {
    const id = this.#ids.take();
    if (id < 0) return errno.EBUSY;
    object.id = id;
    this.#slots.set(id, null);
    return 0;
  }

  /** From now on the id can be looked up. */
  finalize(object: KernelObject): void {
    this.#slots.set(object.id, object);
  }

  /** Undoes `reserve`. */
  abort(object: KernelObject): void {
    this.#free(object.id);
  }
  abortAndDestroy(object: KernelObject): void {
    object.destroy();
    this.#free(object.id);
  }

  #free(id: number): void {
    this.#slots.delete(id);
    this.#ids.free(id);
  }

  get(id: number): KernelObject | undefined {
    return this.#slots.get(id) ?? undefined;
  }

  /** The object if it is one of that kind; anything else is ENOENT to the caller. */
  find<T extends KernelObject>(id: number, kind: Constructor<T>): T | undefined {
    const object = this.#slots.get(id);
    return object instanceof kind ? object : undefined;
  }

  /** No id in use, tombstones included. */
  get empty(): boolean {
    return this.#slots.size === 0;
  }
  /** Finished objects in the order of their ids. */
  all(): KernelObject[] {
    return [...this.#slots.values()].filter((o) => o !== null).sort((a, b) => a.id - b.id);
  }

  /** IOMMU_DESTROY: the one rule for every kind of object. */
  destroy(id: number): number {
    const object = this.#slots.get(id);
    if (!object) return errno.ENOENT;
    return this.#remove(object);
  }

  #remove(object: KernelObject): number {
    if (object.users !== 1) return errno.EBUSY;
    object.users = 0;
    this.#free(object.id);
    if (object.context.vfioIoas === object) object.context.vfioIoas = undefined;
    object.destroy();
    return 0;
  }

  /** Gives up a reference, and destroys the object if that was the last but the id's own. */
  putAndTryDestroy(object: KernelObject): void {
    object.users--;
    this.#remove(object);
  }

  /** An in-kernel owner, who holds a reference, ends the object. The id of a tombstone is never used again. */
  destroyOwned(object: KernelObject, tombstone = false): void {
    object.preDestroy();
    object.users--;
    invariant(object.users === 1, `object ${object.id} still has users`);
    object.users = 0;
    if (tombstone) this.#slots.set(object.id, null);
    else this.#free(object.id);
    object.destroy();
  }

  /** The context's end: leaves first, until nothing is left. */
  clear(): void {
    for (;;) {
      let left = 0;
      let destroyed = 0;
      for (const object of this.all()) {
        left++;
        if (object.users !== 1 || this.#slots.get(object.id) !== object) continue;
        object.users = 0;
        this.#slots.delete(object.id);
        object.destroy();
        destroyed++;
      }
      if (left === 0) break;
      invariant(destroyed > 0, 'objects that hold each other');
    }
    this.#slots.clear();
  }
}
