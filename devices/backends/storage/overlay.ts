import type { StorageBackend } from '#vmm/base/ports';
import { map, parts } from '#vmm/base/saved';
import { checkRange } from './memory.ts';

const clusterBytes = 65536;
/** A cluster that reads as zeroes and has no bytes of its own. */
const hole = new Uint8Array(0);

/** Copy on write: changes stay in memory, the disk below is only read. `flush` has nothing to make durable. */
class OverlayStorage implements StorageBackend {
  readonly readOnly = false;
  readonly #below: StorageBackend;
  readonly #clusters = new Map<number, Uint8Array>();
  readonly saved = parts({
    clusters: map(
      () => this.#clusters,
      (cluster) => cluster,
      (data) => (data instanceof Uint8Array && data.length > 0 ? data : hole),
    ),
  });

  constructor(below: StorageBackend) {
    this.#below = below;
  }
  get bytes(): number {
    return this.#below.bytes;
  }

  read(offset: number, target: Uint8Array): void {
    checkRange(this, offset, target.length);
    for (let at = 0; at < target.length;) {
      const position = offset + at;
      const within = position % clusterBytes;
      const length = Math.min(clusterBytes - within, target.length - at);
      const part = target.subarray(at, at + length);
      const cluster = this.#clusters.get((position - within) / clusterBytes);
      if (!cluster) this.#below.read(position, part);
      else if (cluster === hole) part.fill(0);
      else part.set(cluster.subarray(within, within + length));
      at += length;
    }
  }

  write(offset: number, source: Uint8Array): void {
    checkRange(this, offset, source.length);
    for (let at = 0; at < source.length;) {
      const position = offset + at;
      const within = position % clusterBytes;
      const length = Math.min(clusterBytes - within, source.length - at);
      this.#own((position - within) / clusterBytes).set(source.subarray(at, at + length), within);
      at += length;
    }
  }

  discard(offset: number, length: number): void {
    checkRange(this, offset, length);
    for (let at = 0; at < length;) {
      const position = offset + at;
      const within = position % clusterBytes;
      const index = (position - within) / clusterBytes;
      const part = Math.min(clusterBytes - within, length - at);
      if (part === clusterBytes) this.#clusters.set(index, hole);
      else this.#own(index).fill(0, within, within + part);
      at += part;
    }
  }

  /** The cluster's own bytes, copied from below at the first write. */
  #own(index: number): Uint8Array {
    const existing = this.#clusters.get(index);
    if (existing && existing !== hole) return existing;
    const cluster = new Uint8Array(clusterBytes);
    const start = index * clusterBytes;
    if (!existing) this.#below.read(start, cluster.subarray(0, Math.min(clusterBytes, this.bytes - start)));
    this.#clusters.set(index, cluster);
    return cluster;
  }

  flush(): void {}
  close(): void {
    this.#clusters.clear();
    this.#below.close();
  }
}

export const overlayStorage = (below: StorageBackend): StorageBackend => new OverlayStorage(below);
