import { type DmaPort, type DmaResult, noPasid } from '#vmm/base/ports';

/**
 * A function's way to memory as its configuration space allows it: while Bus Master Enable is off, or the function is
 * not in D0, nothing it asks for leaves it (PCI Express Base 6.0 §7.5.1.1.3), and without PASID Enable nothing with a
 * PASID does (§7.8.9.3), whatever the model does.
 */
export class GatedPort implements DmaPort {
  readonly #port: DmaPort;
  /** Bus Master Enable and D0, here and in the bridge above. */
  isOpen = false;
  allowsPasid = false;

  constructor(port: DmaPort) {
    this.#port = port;
  }

  get memory(): Uint8Array {
    return this.#port.memory;
  }

  read(hi: number, lo: number, length: number, pasid: number = noPasid): DmaResult {
    return this.isOpen && (pasid === noPasid || this.allowsPasid)
      ? this.#port.read(hi, lo, length, pasid)
      : refused(length);
  }

  write(hi: number, lo: number, length: number, pasid: number = noPasid): DmaResult {
    return this.isOpen && (pasid === noPasid || this.allowsPasid)
      ? this.#port.write(hi, lo, length, pasid)
      : refused(length);
  }

  message(hi: number, lo: number, data: number): boolean {
    return this.isOpen && this.#port.message(hi, lo, data);
  }
}

const refused = (length: number): DmaResult => ({
  count: 0,
  offsets: new Float64Array(0),
  lengths: new Int32Array(0),
  faults: [{ first: 0, last: length - 1, status: 'unsupported-request' }],
});
