import { field, parts, plainList, SavedError } from '#vmm/base/saved';

/** More free ids below one that is asked for are nobody's. */
const mostBelow = 1 << 20;

/** Lowest free number first, as the kernel's xarray allocates: O(log n) with n freed numbers outstanding. */
export class LowestIds {
  readonly #limit: number;
  #next: number;
  /** Binary min-heap of freed ids below `#next`. */
  readonly #free: number[] = [];
  readonly saved = parts({
    next: field(
      () => this.#next,
      (value) => (this.#next = value),
    ),
    free: plainList(() => this.#free),
  });

  constructor(first: number, limit = 2 ** 31) {
    this.#next = first;
    this.#limit = limit;
  }

  /** The id, or -1 when all are taken. */
  take(): number {
    const heap = this.#free;
    if (heap.length === 0) return this.#next < this.#limit ? this.#next++ : -1;
    const lowest = heap[0]!;
    const last = heap.pop()!;
    if (heap.length > 0) {
      let i = 0;
      for (;;) {
        let child = 2 * i + 1;
        if (child >= heap.length) break;
        if (child + 1 < heap.length && heap[child + 1]! < heap[child]!) child++;
        if (last <= heap[child]!) break;
        heap[i] = heap[child]!;
        i = child;
      }
      heap[i] = last;
    }
    return lowest;
  }

  /** What `run` takes first is `id`; free ids below it stay free. @throws SavedError where `id` is not free */
  giving<T>(id: number, run: () => T): T {
    const below: number[] = [];
    try {
      for (;;) {
        const one = this.take();
        if (one >= 0) below.push(one);
        if (one === id) break;
        if (one < 0 || one > id || below.length > mostBelow) throw new SavedError(`number ${id} is taken already`);
      }
      this.free(below.pop()!);
      return run();
    } finally {
      for (const one of below) this.free(one);
    }
  }

  free(id: number): void {
    const heap = this.#free;
    let i = heap.push(id) - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (heap[parent]! <= id) break;
      heap[i] = heap[parent]!;
      i = parent;
    }
    heap[i] = id;
  }
}
