import { bdf, type Rid, wide } from '#vmm/base/address';
import type { Trace } from '#vmm/base/events';
import { invariant } from '#vmm/base/invariant';
import type { BarSpec, DmaPort, MmioDevice, PciFunction } from '#vmm/base/ports';
import {
  type CapabilityUse,
  devicePortTypes,
  expressCapability,
  initiateFlr,
  maxPayloadField,
  msixCapability,
  msixControlBits,
  placeCapabilities,
  powerManagement,
} from './capabilities.ts';
import { ConfigSpace } from './config-space.ts';
import { GatedPort } from './gate.ts';
import { barRows, commandBits, commonHeader, type0Header } from './header.ts';
import { Msix, MsixBar } from './msix.ts';
import type { DecodedBar } from './routes.ts';

/** Highest address a BAR can hold and still be compared exactly; nothing decodes above it. */
const highestAddressHigh = 0x20_0000;

/** A PCI function on the bus: its configuration space, and what a store to it sets in motion. */
export class PciSlot {
  readonly rid: Rid;
  readonly function: PciFunction;
  readonly config = new ConfigSpace();
  readonly #port: GatedPort;
  readonly #msix: Msix | undefined;
  readonly #bars: readonly { readonly spec: BarSpec; readonly device: MmioDevice | undefined }[];
  readonly #trace: Trace;
  readonly #decodeChanged: () => void;
  #mastering = false;

  constructor(rid: Rid, fn: PciFunction, port: DmaPort, trace: Trace, decodeChanged: () => void) {
    this.rid = rid;
    this.function = fn;
    this.#trace = trace;
    this.#decodeChanged = decodeChanged;
    this.#port = new GatedPort(port);
    if (fn.msix)
      this.#msix = new Msix(fn.msix.vectors, (vector, hi, lo, data) => this.#sendMessage(vector, hi, lo, data));
    this.#bars = fn.bars.map((spec) => ({ spec, device: this.#barDevice(spec) }));
    this.#placeHeader();
    placeCapabilities(this.config, this.#capabilities());
    this.#placeHooks();
    fn.connect(this.#port, this.#msix?.lines ?? []);
  }

  /** The BARs that answer now, by ascending index. */
  decoded(space: 'memory' | 'io'): DecodedBar[] {
    const enable = space === 'memory' ? commandBits.memorySpace : commandBits.ioSpace;
    if ((this.config.get('command') & enable) === 0 || !this.#isOn) return [];
    const decoded: DecodedBar[] = [];
    for (const { spec, device } of this.#bars) {
      if (!device || (spec.kind === 'io') !== (space === 'io')) continue;
      const address = this.barAddress(spec);
      if (address !== undefined)
        decoded.push({ name: `${this.function.name}.bar${spec.index}`, address, bytes: spec.bytes, device });
    }
    return decoded;
  }

  /** What the guest put into a BAR; undefined for addresses beyond 2^53. */
  barAddress({ index, kind }: BarSpec): number | undefined {
    const low = this.config.get(`bar${index}`);
    if (kind === 'io') return low - (low & 3);
    const high = kind === 'memory64' ? this.config.get(`bar${index}_high`) : 0;
    return high < highestAddressHigh ? high * 2 ** 32 + (low - (low & 15)) : undefined;
  }

  /** Power-on state, as after a machine or hot reset. */
  reset(): void {
    this.config.reset();
    this.#msix?.reset();
    // Before the function's own reset, so that it starts with its DMA forbidden.
    this.#applyMastering();
    this.function.reset();
    this.#decodeChanged();
  }

  get #isOn(): boolean {
    return (this.config.get('pm_control') & 3) === 0;
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

  #placeHeader(): void {
    const fn = this.function;
    const reset: Record<string, number> = {
      vendor_id: fn.vendorId,
      device_id: fn.deviceId,
      revision_id: fn.revision,
      prog_if: fn.classCode & 0xff,
      subclass: (fn.classCode >>> 8) & 0xff,
      base_class: (fn.classCode >>> 16) & 0xff,
      subsystem_vendor_id: fn.subsystemVendorId,
      subsystem_id: fn.subsystemId,
    };
    for (const entry of [...commonHeader, ...type0Header]) this.config.place(entry, 0, reset[entry.name] ?? 0);
    for (const spec of fn.bars) {
      const { rows, reset: type } = barRows(spec);
      rows.forEach((entry, index) => this.config.place(entry, 0, index === 0 ? type : 0));
    }
  }

  #capabilities(): CapabilityUse[] {
    const { msix, flr } = this.function;
    const uses: CapabilityUse[] = [
      // Version 3, no D1, no D2, no PME; configuration survives D3hot.
      { capability: powerManagement, reset: { pm_capabilities: 3, pm_control: 1 << 3 } },
      {
        capability: expressCapability,
        reset: {
          pcie_capabilities: 2 | (devicePortTypes.rootComplexIntegratedEndpoint << 4),
          device_capabilities: (1 << 15) | (flr ? 1 << 28 : 0),
          // Max_Read_Request_Size 512 bytes, relaxed ordering and no snoop on: the defaults of §7.5.3.4.
          device_control: (0b010 << 12) | (1 << 11) | (1 << 4),
        },
      },
    ];
    if (msix)
      uses.push({
        capability: msixCapability,
        reset: {
          msix_control: msix.vectors - 1,
          msix_table: msix.tableOffset | msix.tableBar,
          msix_pba: msix.pbaOffset | msix.pbaBar,
        },
      });
    return uses;
  }

  #placeHooks(): void {
    const { config, function: fn } = this;
    const memoryAndIo = commandBits.memorySpace | commandBits.ioSpace;
    config.onWrite('command', (now, old) => {
      this.#applyMastering();
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
    config.onWrite('pm_control', (now, old) => {
      const state = now & 3;
      // §7.5.2.2: a store of a state that is not supported completes and changes nothing.
      if (state === 1 || state === 2) config.set('pm_control', (now & ~3) | (old & 3));
      this.#applyMastering();
      this.#decodeChanged();
    });
    config.onWrite('device_control', (now) => {
      if (!fn.flr || (now & initiateFlr) === 0) return;
      const payload = now & maxPayloadField;
      // §6.6.2: Max_Payload_Size survives, since changing it in mid-flight would break the link.
      this.reset();
      config.set('device_control', (config.get('device_control') & ~maxPayloadField) | payload);
      if (this.#trace.on)
        this.#trace.emit('pci.reset', { function: this.rid, name: fn.name, cause: 'function-level reset' });
    });
    if (this.#msix) config.onWrite('msix_control', () => this.#applyMsix());
  }

  #applyMastering(): void {
    const enabled = (this.config.get('command') & commandBits.busMaster) !== 0 && this.#isOn;
    this.#port.open = enabled;
    if (enabled !== this.#mastering) {
      this.#mastering = enabled;
      if (this.#trace.on)
        this.#trace.emit('pci.bus-master', {
          function: this.rid,
          name: this.function.name,
          enabled: enabled ? 1 : 0,
        });
      this.function.busMaster(enabled);
    }
    this.#applyMsix();
  }

  #applyMsix(): void {
    if (!this.#msix) return;
    const control = this.config.get('msix_control');
    const { enable, functionMask } = msixControlBits;
    this.#msix.control((control & enable) !== 0, (control & functionMask) !== 0, this.#mastering);
  }

  #sendMessage(vector: number, hi: number, lo: number, data: number): boolean {
    const delivered = this.#port.message(hi, lo, data);
    if (this.#trace.on)
      this.#trace.emit('pci.message', {
        function: this.rid,
        name: this.function.name,
        vector,
        address: wide(hi, lo),
        data,
        delivered: delivered ? 1 : 0,
      });
    return delivered;
  }

  #tellBar(spec: BarSpec): void {
    if (!this.#trace.on) return;
    const bar = this.decoded(spec.kind === 'io' ? 'io' : 'memory').find(
      ({ name }) => name === `${this.function.name}.bar${spec.index}`,
    );
    if (bar)
      this.#trace.emit('pci.bar', {
        function: this.rid,
        name: this.function.name,
        bar: spec.index,
        address: bar.address,
        bytes: bar.bytes,
      });
  }

  /** `00:01.0 nvme`, for errors. */
  toString(): string {
    return `${this.function.name} at ${bdf(this.rid)}`;
  }
}
