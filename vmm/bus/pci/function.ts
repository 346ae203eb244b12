import { type Rid, rid as toRid, wide } from '#vmm/base/address';
import type { Trace } from '#vmm/base/events';
import { invariant } from '#vmm/base/invariant';
import type { BarSpec, DmaPort, FunctionStatus, IrqLine, MmioDevice, PciFunction } from '#vmm/base/ports';
import { field, part, parts, type Saved } from '#vmm/base/saved';
import { type DevicePortType, initiateFlr, maxPayloadField, msixControlBits } from './capabilities.ts';
import { type PlacedCapability, placeCapabilities } from './capability-list.ts';
import { ConfigSpace } from './config-space.ts';
import { priStatusBits, translationBlocking } from './extended-capabilities.ts';
import { gate, type GatedPort } from './gate.ts';
import { barRows, commandBits, commonHeader, type0Header, type1Header, type1Reset } from './header.ts';
import { Msi } from './msi.ts';
import { Msix, MsixBar } from './msix.ts';
import { offeredCapabilities } from './offered.ts';
import type { DecodedBar } from './routes.ts';
import { Translation } from './translation.ts';

export type AddressSpace = 'memory' | 'io';

/** What lets a function's requests through on their way up. */
export interface Upstream {
  readonly isMastering: boolean;
  /** ACS Translation Blocking. */
  readonly blocksTranslated: boolean;
}

export interface SlotOptions {
  readonly rid: Rid;
  readonly function: PciFunction;
  /** A host bridge is a conventional function: it has no capabilities. */
  readonly type: DevicePortType | 'hostBridge';
  readonly port: DmaPort;
  readonly trace: Trace;
  /** What the function decodes may have changed. */
  readonly decodeChanged: () => void;
  readonly upstream?: Upstream;
  /** Number of a root port's hot-plug slot. */
  readonly hotPlugSlot?: number;
}

/** Highest address a BAR can hold and still be compared exactly; nothing decodes above it. */
const highestAddressHigh = 0x20_0000;
const transactionsPendingBit = 1 << 5;
/** In the place of a capability that the function does not have. */
const stateless = { saved: parts({}) };

/** A PCI function on the bus: its configuration space, and what a store to it sets in motion. */
export class PciSlot implements Upstream {
  /** Changes where the guest numbers the buses of a function behind a bridge. */
  rid: Rid;
  readonly function: PciFunction;
  readonly config = new ConfigSpace();
  readonly capabilities: readonly PlacedCapability[];
  readonly #port: GatedPort;
  readonly #msix: Msix | undefined;
  readonly #msi: Msi | undefined;
  readonly #translation: Translation;
  readonly #bars: readonly { readonly spec: BarSpec; readonly device: MmioDevice | undefined }[];
  readonly #trace: Trace;
  readonly #decodeChanged: () => void;
  readonly #upstream: Upstream | undefined;
  #mastering = false;
  readonly saved: Saved = parts({
    rid: field(
      () => this.rid as number,
      (value) => (this.rid = toRid(value)),
    ),
    config: part(() => this.config),
    port: part(() => this.#port),
    msix: part(() => this.#msix ?? stateless),
    msi: part(() => this.#msi ?? stateless),
    translation: part(() => this.#translation),
    mastering: field(
      () => this.#mastering,
      (value) => (this.#mastering = value),
    ),
    function: { save: () => this.function.saved?.save(), restore: (data) => this.function.saved?.restore(data) },
  });

  constructor({ rid, function: fn, type, port, trace, decodeChanged, upstream, hotPlugSlot }: SlotOptions) {
    this.rid = rid;
    this.function = fn;
    this.#trace = trace;
    this.#decodeChanged = decodeChanged;
    this.#upstream = upstream;
    this.#port = gate(port);
    const send = (vector: number, hi: number, lo: number, data: number): boolean =>
      this.#sendMessage(vector, hi, lo, data);
    if (fn.msix) this.#msix = new Msix(fn.msix.vectors, send);
    this.#bars = fn.bars.map((spec) => ({ spec, device: this.#barDevice(spec) }));
    this.#placeHeader(type === 'rootPort');
    const offered = type === 'hostBridge' ? [] : offeredCapabilities(fn, type, hotPlugSlot);
    this.capabilities = placeCapabilities(this.config, offered);
    if (fn.msi) this.#msi = new Msi(fn.msi.vectors, this.config, send);
    this.#translation = new Translation(this.config, fn, ({ pasid }) => void (this.#port.allowsPasid = pasid));
    this.#placeHooks();
    fn.connect(this.#port, this.#lines(), this.#status());
  }

  /** Bus Master Enable and D0, here and above. */
  get isMastering(): boolean {
    return this.#mastering;
  }

  get blocksTranslated(): boolean {
    return this.config.has('acs_control') && (this.config.get('acs_control') & translationBlocking) !== 0;
  }

  /** D0. */
  get isOn(): boolean {
    return !this.config.has('pm_control') || (this.config.get('pm_control') & 3) === 0;
  }

  /** Whether it answers, and a bridge forwards, requests in this space. */
  decodes(space: AddressSpace): boolean {
    const enable = space === 'memory' ? commandBits.memorySpace : commandBits.ioSpace;
    return (this.config.get('command') & enable) !== 0 && this.isOn;
  }

  /** The BARs that answer now, by ascending index. */
  decoded(space: AddressSpace): DecodedBar[] {
    if (!this.decodes(space)) return [];
    const decoded: DecodedBar[] = [];
    for (const { spec, device } of this.#bars) {
      if (!device || (spec.kind === 'io') !== (space === 'io')) continue;
      const address = this.#barAddress(spec);
      if (address === undefined) continue;
      const name = `${this.function.name}.bar${spec.index}`;
      decoded.push({ rid: this.rid, name, index: spec.index, address, bytes: spec.bytes, device });
    }
    return decoded;
  }

  /** Power-on state, as after a machine or hot reset. */
  reset(): void {
    this.config.reset();
    this.#msix?.reset();
    // Before the function's own reset, so that it starts with its DMA forbidden.
    this.applyMastering();
    this.#translation.apply();
    this.function.reset();
    this.#decodeChanged();
  }

  /** Taken off the bus: its requests in flight are dropped, and nothing of it leaves any more, messages included. */
  remove(): void {
    this.#port.isGone = true;
    this.reset();
  }

  /** Looks again at which requests may leave, here or above. */
  applyMastering(): void {
    const isEnabled = (this.config.get('command') & commandBits.busMaster) !== 0;
    const now = isEnabled && this.isOn && !this.#port.isGone && (this.#upstream?.isMastering ?? true);
    this.#port.isOpen = now;
    this.#port.blocksTranslated = this.#upstream?.blocksTranslated ?? false;
    if (now !== this.#mastering) {
      this.#mastering = now;
      this.#tell('pci.bus-master', { enabled: now ? 1 : 0 });
      this.function.busMaster(now);
    }
    this.#applyMsix();
    this.#msi?.allow(now);
  }

  /** What the guest put into a BAR; undefined for addresses beyond 2^53. */
  #barAddress({ index, kind }: BarSpec): number | undefined {
    const low = this.config.get(`bar${index}`);
    if (kind === 'io') return low - (low & 3);
    const high = kind === 'memory64' ? this.config.get(`bar${index}_high`) : 0;
    return high < highestAddressHigh ? high * 2 ** 32 + (low - (low & 15)) : undefined;
  }

  #barDevice(spec: BarSpec): MmioDevice | undefined {
    const { msix } = this.function;
    if (!msix || !this.#msix) return spec.device;
    const table = msix.tableBar === spec.index ? msix.tableOffset : undefined;
    const pending = msix.pbaBar === spec.index ? msix.pbaOffset : undefined;
    if (table === undefined && pending === undefined) return spec.device;
    const fits = (offset: number | undefined, bytes: number): boolean =>
      offset === undefined || (offset % 8 === 0 && offset + bytes <= spec.bytes);
    invariant(
      fits(table, this.#msix.tableBytes) && fits(pending, this.#msix.pendingBytes),
      `${this.function.name}: the MSI-X structures do not fit BAR ${spec.index}`,
    );
    return new MsixBar(spec.device, this.#msix, {
      ...(table === undefined ? {} : { table }),
      ...(pending === undefined ? {} : { pending }),
    });
  }

  #placeHeader(isBridge: boolean): void {
    const fn = this.function;
    const reset: Record<string, number> = {
      vendor_id: fn.vendorId,
      device_id: fn.deviceId,
      revision_id: fn.revision,
      prog_if: fn.classCode & 0xff,
      subclass: (fn.classCode >>> 8) & 0xff,
      base_class: (fn.classCode >>> 16) & 0xff,
      ...(isBridge ? type1Reset : { subsystem_vendor_id: fn.subsystemVendorId, subsystem_id: fn.subsystemId }),
    };
    for (const entry of [...commonHeader, ...(isBridge ? type1Header : type0Header)])
      this.config.place(entry, 0, reset[entry.name] ?? 0);
    for (const spec of fn.bars) {
      const { rows, reset: type } = barRows(spec);
      rows.forEach((entry, index) => this.config.place(entry, 0, index === 0 ? type : 0));
    }
  }

  #placeHooks(): void {
    const { config } = this;
    const memoryAndIo = commandBits.memorySpace | commandBits.ioSpace;
    config.onWrite('command', (now, old) => {
      this.applyMastering();
      if (((now ^ old) & memoryAndIo) === 0) return;
      this.#decodeChanged();
      for (const { spec } of this.#bars) this.#tellBar(spec);
    });
    for (const { spec } of this.#bars) {
      const moved = (now: number, old: number): void => {
        if (now === old) return;
        this.#decodeChanged();
        this.#tellBar(spec);
      };
      config.onWrite(`bar${spec.index}`, moved);
      if (spec.kind === 'memory64') config.onWrite(`bar${spec.index}_high`, moved);
    }
    if (this.#msix) config.onWrite('msix_control', () => this.#applyMsix());
    if (this.capabilities.length === 0) return;
    config.onWrite('device_control', (now) => this.#functionLevelReset(now));
    config.onWrite('pm_control', (now, old) => {
      const state = now & 3;
      // §7.5.2.2: a store of a state that is not supported completes and changes nothing.
      if (state === 1 || state === 2) config.set('pm_control', (now & ~3) | (old & 3));
      this.applyMastering();
      this.#decodeChanged();
    });
  }

  #functionLevelReset(control: number): void {
    if (!this.function.flr || (control & initiateFlr) === 0) return;
    this.reset();
    // §6.6.2: Max_Payload_Size survives, since changing it in mid-flight would break the link.
    const kept = this.config.get('device_control') & ~maxPayloadField;
    this.config.set('device_control', kept | (control & maxPayloadField));
    this.#tell('pci.reset', { cause: 'function-level reset' });
  }

  #applyMsix(): void {
    if (!this.#msix) return;
    const control = this.config.get('msix_control');
    const { enable, functionMask } = msixControlBits;
    this.#msix.control((control & enable) !== 0, (control & functionMask) !== 0, this.#mastering);
  }

  /** MSI-X where it is enabled, else MSI; without either an edge is lost, since this machine has no wires. */
  #lines(): IrqLine[] {
    const { msix, msi } = this.function;
    const raise = (vector: number): void =>
      this.#msix?.isEnabled === true ? this.#msix.raise(vector) : this.#msi?.raise(vector);
    return Array.from({ length: Math.max(msix?.vectors ?? 0, msi?.vectors ?? 0) }, (_, vector) => ({
      raise: () => raise(vector),
      lower: () => {},
    }));
  }

  #status(): FunctionStatus {
    const setBit = (name: string, bit: number, on: boolean): void => {
      if (!this.config.has(name)) return;
      const value = this.config.get(name);
      this.config.set(name, on ? value | bit : value & ~bit);
    };
    return {
      pageResponseFailed: () => setBit('pri_status', priStatusBits.responseFailure, true),
      unexpectedPageGroup: () => setBit('pri_status', priStatusBits.unexpectedGroup, true),
      transactionsPending: (pending) => setBit('device_status', transactionsPendingBit, pending),
    };
  }

  #sendMessage(vector: number, hi: number, lo: number, data: number): boolean {
    const delivered = this.#port.message(hi, lo, data);
    if (this.#trace.on)
      this.#tell('pci.message', { vector, address: wide(hi, lo), data, delivered: delivered ? 1 : 0 });
    return delivered;
  }

  #tellBar({ index, kind }: BarSpec): void {
    if (!this.#trace.on) return;
    const bar = this.decoded(kind === 'io' ? 'io' : 'memory').find((decoded) => decoded.index === index);
    if (bar) this.#tell('pci.bar', { bar: index, address: bar.address, bytes: bar.bytes });
  }

  #tell(event: string, fields: Readonly<Record<string, number | bigint | string>>): void {
    if (this.#trace.on) this.#trace.emit(event, { function: this.rid, name: this.function.name, ...fields });
  }
}
