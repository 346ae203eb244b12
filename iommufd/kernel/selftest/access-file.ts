import { errno } from '#vmm/base/errno';
import { OpenFile } from '../file.ts';
import type { Access } from '../objects/access.ts';
import { ulongMax } from '../iova/hole.ts';

interface Item {
  readonly id: number;
  readonly iova: bigint;
  readonly length: bigint;
}

/** The fd that IOMMU_TEST_OP_CREATE_ACCESS returns: an access, and what it has pinned. */
export class AccessFile extends OpenFile {
  access: Access | undefined;
  #items: Item[] = [];
  #nextId = 0;

  /** Remembers a range that was pinned; its id. */
  add(iova: bigint, length: bigint): number {
    const id = this.#nextId++;
    this.#items.push({ id, iova, length });
    return id;
  }
  remove(id: number): number {
    const item = this.#items.find((i) => i.id === id);
    if (!item) return errno.ENOENT;
    this.#drop(item);
    return 0;
  }
  #drop(item: Item): void {
    this.#items = this.#items.filter((i) => i !== item);
    this.access!.unpin(item.iova, item.length);
  }
  /** Something of the range is about to be unmapped: lets go of all that touches it. */
  unmap(start: bigint, length: bigint): void {
    const last = start + length - 1n;
    for (const item of this.#items) if (start <= item.iova + item.length - 1n && last >= item.iova) this.#drop(item);
  }
  protected override release(): void {
    const { access } = this;
    if (!access) return;
    this.unmap(0n, ulongMax);
    access.context.objects.destroyOwned(access);
  }
}
