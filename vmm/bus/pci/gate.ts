import {
  type DmaPort,
  type DmaResult,
  type DmaStatus,
  type MemoryRequest,
  noPasid,
  type PageRequestMessage,
  type TransactionPort,
  type TranslationCompletion,
  type TranslationEndpoint,
  type TranslationRequest,
} from '#vmm/base/ports';
import { parts, properties } from '#vmm/base/saved';

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
  /** The function was taken off the bus: not even messages leave it. */
  isGone = false;
  /** ACS Translation Blocking of the port above: a translated request is an ACS violation there (§6.12.1.1, §6.12.4). */
  blocksTranslated = false;
  readonly saved = parts({ gate: properties(() => this as GatedPort, ['isOpen', 'allowsPasid', 'blocksTranslated']) });

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

/**
 * The same for a port on which a function uses ATS and PRI. Their enable bits are left to the function: one that ignores
 * them is what the IOMMU behind has to stand. Messages (page requests, completions) need no Bus Master Enable.
 */
class GatedTransactionPort extends GatedPort implements TransactionPort {
  readonly #port: TransactionPort;

  constructor(port: TransactionPort) {
    super(port);
    this.#port = port;
  }

  get endpoint(): TranslationEndpoint | undefined {
    return this.#port.endpoint;
  }
  set endpoint(endpoint: TranslationEndpoint | undefined) {
    this.#port.endpoint = endpoint;
  }

  access(request: MemoryRequest): DmaResult {
    const isAllowed = this.isOpen && (request.pasid === noPasid || this.allowsPasid);
    if (!isAllowed) return refused(request.length);
    if (request.isTranslated && this.blocksTranslated) return refused(request.length, 'completer-abort');
    return this.#port.access(request);
  }

  translate(request: TranslationRequest): TranslationCompletion {
    const isAllowed = this.isOpen && (request.pasid === noPasid || this.allowsPasid);
    return isAllowed ? this.#port.translate(request) : notTranslated;
  }

  pageRequest(message: PageRequestMessage): void {
    if (!this.isGone) this.#port.pageRequest(message);
  }

  invalidationCompleted(itag: number): void {
    if (!this.isGone) this.#port.invalidationCompleted(itag);
  }
}

/** The gate for a port of either kind. */
export const gate = (port: DmaPort): GatedPort =>
  'translate' in port ? new GatedTransactionPort(port as TransactionPort) : new GatedPort(port);

const notTranslated: TranslationCompletion = {
  status: 'unsupported-request',
  hi: 0,
  lo: 0,
  shift: 12,
  read: false,
  write: false,
  execute: false,
  privileged: false,
  global: false,
  untranslatedOnly: false,
};

const refused = (length: number, status: DmaStatus = 'unsupported-request'): DmaResult => ({
  count: 0,
  offsets: new Float64Array(0),
  lengths: new Int32Array(0),
  faults: [{ first: 0, last: length - 1, status }],
});
