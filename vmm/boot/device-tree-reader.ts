import { fdt } from './device-tree.ts';

/** A node as it was read: values are the raw bytes. */
export interface ReadNode {
  readonly name: string;
  readonly properties: ReadonlyMap<string, Uint8Array>;
  readonly children: readonly ReadNode[];
}

/** Reads a flattened device tree. @throws RangeError where it is malformed. */
export function decodeDeviceTree(blob: Uint8Array): ReadNode {
  const view = new DataView(blob.buffer, blob.byteOffset, blob.byteLength);
  if (view.getUint32(0) !== fdt.magic) throw new RangeError('not a flattened device tree');
  if (view.getUint32(4) > blob.length) throw new RangeError('the device tree is truncated');
  const stringsAt = view.getUint32(12);
  let at = view.getUint32(8);
  const cell = (): number => {
    const value = view.getUint32(at);
    at += 4;
    return value;
  };
  const textAt = (start: number): string => {
    const end = blob.indexOf(0, start);
    if (end < 0) throw new RangeError('a text without its end');
    return new TextDecoder().decode(blob.subarray(start, end));
  };
  const align = (): void => void (at = Math.ceil(at / 4) * 4);
  const token = (): number => {
    for (;;) {
      const value = cell();
      if (value !== fdt.nop) return value;
    }
  };
  const node = (): ReadNode => {
    const name = textAt(at);
    at += name.length + 1;
    align();
    const properties = new Map<string, Uint8Array>();
    const children: ReadNode[] = [];
    for (;;) {
      const kind = token();
      if (kind === fdt.endNode) return { name, properties, children };
      if (kind === fdt.beginNode) children.push(node());
      else if (kind === fdt.property) {
        const length = cell();
        const property = textAt(stringsAt + cell());
        if (at + length > blob.length) throw new RangeError(`property ${property} is truncated`);
        properties.set(property, blob.slice(at, at + length));
        at += length;
        align();
      } else throw new RangeError(`token ${kind} inside node ${name}`);
    }
  };
  if (token() !== fdt.beginNode) throw new RangeError('no root node');
  return node();
}
