import { field, parts, plainList } from '#vmm/base/saved';

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
