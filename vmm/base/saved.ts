/**
 * What a snapshot holds of a part, declared once: each row says how a piece of state is read and how it is put back.
 * Code, caches of code and what follows from other state are not in it; a test holds every mutable field of a part
 * against its declaration.
 */
import type { Due, Scheduled } from './clock.ts';

export type SavedArray = Uint8Array | Uint16Array | Uint32Array | Int32Array | Float64Array | BigUint64Array;

/** Plain data, as a snapshot carries it. */
export type Data =
  undefined | boolean | number | bigint | string | SavedArray | readonly Data[] | { readonly [name: string]: Data };

/** A piece of state. What `save` returns may be the state itself: it is written down before anything goes on. */
export interface Saved {
  save(): Data;
  /** @throws SavedError for data that `save` cannot have returned on an equal part */
  restore(data: Data): void;
}

/** The data does not fit the part: of another machine, or of another version. */
export class SavedError extends Error {
  override readonly name = 'SavedError';
  readonly path: readonly string[];
  readonly why: string;
  constructor(why: string, path: readonly string[] = []) {
    super(`${path.length === 0 ? '' : `${path.join('.')}: `}${why}`);
    this.path = path;
    this.why = why;
  }
}

const kindOf = (data: unknown): string =>
  Array.isArray(data) ? 'a list' : ArrayBuffer.isView(data) ? data.constructor.name : typeof data;

/** Data that must be an object. */
export const recordOf = (data: Data): { readonly [name: string]: Data } => {
  if (kindOf(data) !== 'object') throw new SavedError(`expected an object, found ${kindOf(data)}`);
  return data as { readonly [name: string]: Data };
};
/** Data that must be a list. */
export const listOf = (data: Data): readonly Data[] => {
  if (!Array.isArray(data)) throw new SavedError(`expected a list, found ${kindOf(data)}`);
  return data as readonly Data[];
};

/** One variable. Its kind must be what it is now, except that either may be undefined. */
export const field = <T extends Data>(get: () => T, set: (value: T) => void): Saved => ({
  save: get,
  restore: (data) => {
    const now = get();
    if (data !== undefined && now !== undefined && kindOf(data) !== kindOf(now))
      throw new SavedError(`expected ${kindOf(now)}, found ${kindOf(data)}`);
    set(data as T);
  },
});

/** An array whose length never changes, filled in place. */
export const array = (get: () => SavedArray): Saved => ({
  save: get,
  restore: (data) => {
    const now = get();
    if (kindOf(data) !== kindOf(now) || (data as SavedArray).length !== now.length)
      throw new SavedError(`expected ${kindOf(now)} of ${now.length} elements`);
    (now as Uint8Array).set(data as Uint8Array);
  },
});

/** Properties of an object, by name. */
export const properties = <T extends object>(of: () => T, names: readonly (keyof T & string)[]): Saved => ({
  save: () => {
    const object = of();
    return Object.fromEntries(names.map((name) => [name, object[name] as Data]));
  },
  restore: (data) => {
    const object = of();
    const record = recordOf(data);
    for (const name of names)
      field(
        () => object[name] as Data,
        (value) => void (object[name] = value as T[typeof name]),
      ).restore(record[name]);
  },
});

/** A list that is emptied and filled again, of things made from data. */
export const list = <T>(get: () => T[], save: (item: T) => Data, make: (data: Data) => T): Saved => ({
  save: () => get().map(save),
  restore: (data) => {
    const items = get();
    items.length = 0;
    for (const item of listOf(data)) items.push(make(item));
  },
});

/** A list of plain data. */
export const plainList = <T extends Data>(get: () => T[]): Saved =>
  list(
    get,
    (item) => item,
    (data) => data as T,
  );

/** A map in the order of its entries, which is part of the state. */
export const map = <K extends Data, V>(
  get: () => Map<K, V>,
  save: (value: V) => Data,
  make: (data: Data) => V,
): Saved => ({
  save: () => [...get()].map(([key, value]) => [key, save(value)]),
  restore: (data) => {
    const target = get();
    target.clear();
    for (const item of listOf(data)) {
      const [key, value] = listOf(item);
      target.set(key as K, make(value));
    }
  },
});
/** A map of plain data. */
export const plainMap = <K extends Data, V extends Data>(get: () => Map<K, V>): Saved =>
  map(
    get,
    (value) => value,
    (data) => data as V,
  );
/** A set of plain data. */
export const plainSet = <T extends Data>(get: () => Set<T>): Saved => ({
  save: () => [...get()],
  restore: (data) => {
    const target = get();
    target.clear();
    for (const item of listOf(data)) target.add(item as T);
  },
});

/** A part with a declaration of its own; found when it is needed, since it may not be made yet. */
export const part = (of: () => { readonly saved: Saved }): Saved => ({
  save: () => of().saved.save(),
  restore: (data) => of().saved.restore(data),
});
/** Parts of a number that never changes. */
export const partList = (of: () => readonly { readonly saved: Saved }[]): Saved => ({
  save: () => of().map(({ saved }) => saved.save()),
  restore: (data) => {
    const all = of();
    const items = listOf(data);
    if (items.length !== all.length) throw new SavedError(`expected ${all.length}, found ${items.length}`);
    for (const [i, { saved }] of all.entries()) within(String(i), () => saved.restore(items[i]));
  },
});

/** Runs what may refuse data, which is called `name` then. */
export const within = (name: string, run: () => void): void => {
  try {
    run();
  } catch (error) {
    if (error instanceof SavedError) throw new SavedError(error.why, [name, ...error.path]);
    throw error;
  }
};

/** The declaration of a part: its pieces by name. `restored` runs when all of them are back. */
export const parts = (table: Readonly<Record<string, Saved>>, restored?: () => void): Saved => ({
  save: () => Object.fromEntries(Object.entries(table).map(([name, piece]) => [name, piece.save()])),
  restore: (data) => {
    const record = recordOf(data);
    for (const name of Object.keys(record))
      if (!Object.hasOwn(table, name)) throw new SavedError(`there is no ${name} here`);
    for (const [name, piece] of Object.entries(table)) {
      if (!Object.hasOwn(record, name)) throw new SavedError(`${name} is missing`);
      within(name, () => piece.restore(record[name]));
    }
    restored?.();
  },
});

/** Undefined: there is none. `over`: it has happened or was cancelled, and its handle is still held. */
type SavedTimer = undefined | 'over' | Due;

/** What is saved of a handle of the event queue. */
export const saveTimer = (scheduled: Pick<Scheduled, 'due'> | undefined): SavedTimer =>
  scheduled === undefined ? undefined : (scheduled.due?.() ?? 'over');

const over: Scheduled = { cancel: () => {} };

/** The handle again; `schedule` puts the event into the queue, at whatever time: it is moved to its own. */
export const restoreTimer = (data: Data, schedule: () => Scheduled): Scheduled | undefined => {
  if (data === undefined) return undefined;
  if (data === 'over') return over;
  const { at, order } = recordOf(data);
  if (typeof at !== 'number' || typeof order !== 'number') throw new SavedError('expected the time of an event');
  const scheduled = schedule();
  scheduled.place?.({ at, order });
  return scheduled;
};

/** An event in the queue that runs the same function whenever it is due. */
export const timer = (
  get: () => Scheduled | undefined,
  set: (scheduled: Scheduled | undefined) => void,
  schedule: () => Scheduled,
): Saved => ({
  save: () => saveTimer(get()),
  restore: (data) => set(restoreTimer(data, schedule)),
});

const pageBytes = 4096;
const isZero = (words: Int32Array): boolean => {
  for (let i = 0; i < words.length; i++) if (words[i] !== 0) return false;
  return true;
};

/**
 * Much memory, of which pages of zeroes are left out: `pages` are the numbers of those in `bytes`, in order. `isClear`: it
 * holds nothing but zeroes when it is restored.
 */
export const sparseBytes = (get: () => Uint8Array, isClear = false): Saved => ({
  save: () => {
    const all = get();
    const kept: number[] = [];
    for (let page = 0; page * pageBytes < all.length; page++) {
      const length = Math.min(pageBytes, all.length - page * pageBytes);
      const at = all.byteOffset + page * pageBytes;
      const hasWords = at % 4 === 0 && length % 4 === 0;
      const isEmpty = hasWords
        ? isZero(new Int32Array(all.buffer, at, length / 4))
        : all.subarray(page * pageBytes, page * pageBytes + length).every((byte) => byte === 0);
      if (!isEmpty) kept.push(page);
    }
    const bytes = new Uint8Array(kept.length * pageBytes);
    for (const [i, page] of kept.entries())
      bytes.set(all.subarray(page * pageBytes, Math.min(all.length, (page + 1) * pageBytes)), i * pageBytes);
    return { length: all.length, pages: Uint32Array.from(kept), bytes };
  },
  restore: (data) => {
    const all = get();
    const { length, pages, bytes } = recordOf(data);
    if (length !== all.length) throw new SavedError(`expected ${all.length} bytes, found another number`);
    if (!(pages instanceof Uint32Array) || !(bytes instanceof Uint8Array) || bytes.length !== pages.length * pageBytes)
      throw new SavedError('expected pages and their bytes');
    if (!isClear) all.fill(0);
    for (const [i, page] of pages.entries()) {
      if (page * pageBytes >= all.length) throw new SavedError(`page ${page} is beyond the end`);
      const count = Math.min(pageBytes, all.length - page * pageBytes);
      all.set(bytes.subarray(i * pageBytes, i * pageBytes + count), page * pageBytes);
    }
  },
});
