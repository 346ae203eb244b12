import { type Data, parts, recordOf } from '#vmm/base/saved';
import type { IommufdHost, SharedMemory } from './host.ts';

interface Layout {
  readonly size: number;
  encodeInto(target: Uint8Array, values: object): void;
}

/** Where the data that a structure points to begins, after the structure. */
const dataOffset = 256;

/** Builds ioctl structures in one piece of memory that is used again for every call: nothing is allocated per call. */
export class Arguments {
  readonly host: IommufdHost;
  #memory: SharedMemory;
  #view: DataView;
  #dataView: DataView;
  /** Where it lies, since traces show addresses of arguments; its bytes mean nothing between calls. */
  readonly saved = parts({
    place: {
      save: () => ({ address: this.#memory.address, bytes: this.#memory.bytes.length }),
      restore: (data: Data) => {
        const { address, bytes } = recordOf(data);
        if (address !== this.#memory.address) this.#take(this.host.scratch(Number(bytes), Number(address)));
      },
    },
  });

  /** `at`: where it lay in a process that is taken up again. */
  constructor(host: IommufdHost, at?: number) {
    this.host = host;
    this.#memory = host.scratch(64 << 10, at);
    const { buffer, byteOffset, byteLength } = this.#memory.bytes;
    this.#view = new DataView(buffer, byteOffset, byteLength);
    this.#dataView = new DataView(buffer, byteOffset + dataOffset, byteLength - dataOffset);
  }

  get address(): number {
    return this.#memory.address;
  }
  /** Address of the data area. */
  get data(): number {
    return this.#memory.address + dataOffset;
  }
  /** The same bytes as `room`'s, from its first on. */
  get dataView(): DataView {
    return this.#dataView;
  }
  /** Data area of at least `bytes`. Keep nothing of it across calls. */
  room(bytes: number): Uint8Array {
    if (dataOffset + bytes > this.#memory.bytes.length) this.#take(this.host.scratch(dataOffset + bytes));
    return this.#memory.bytes.subarray(dataOffset, dataOffset + bytes);
  }
  #take(memory: SharedMemory): void {
    this.#memory = memory;
    const { buffer, byteOffset, byteLength } = memory.bytes;
    this.#view = new DataView(buffer, byteOffset, byteLength);
    this.#dataView = new DataView(buffer, byteOffset + dataOffset, byteLength - dataOffset);
  }
  /** Puts bytes into the data area; their address. */
  put(bytes: Uint8Array): bigint {
    this.room(bytes.length).set(bytes);
    return BigInt(this.data);
  }

  /** One ioctl with a structure; members that are not given are zero. */
  call(fd: number, request: number, layout: Layout, values: object): number {
    const { bytes, address } = this.#memory;
    bytes.fill(0, 0, layout.size);
    layout.encodeInto(bytes, values);
    return this.host.ioctl(fd, request, address);
  }
  /** Members of the structure after the call, by offset. */
  u8(offset: number): number {
    return this.#view.getUint8(offset);
  }
  u32(offset: number): number {
    return this.#view.getUint32(offset, true);
  }
  u64(offset: number): bigint {
    return this.#view.getBigUint64(offset, true);
  }
}
