import type { Scheduled } from '#vmm/base/clock';
import { errno } from '#vmm/base/errno';
import { quiet, type Trace } from '#vmm/base/events';
import type { HostMemory } from '#vmm/base/memory';
import { type MmioDevice, noPasid } from '#vmm/base/ports';
import { type Data, field, listOf, part, parts, SavedError, timer } from '#vmm/base/saved';
import { faultRecord, pageRequestPayload, pageRequestRecord, pageResponseCode, pageResponseMessage } from '#iommufd/arch/riscv/faults'; // prettier-ignore
import type { Operands } from '#iommufd/arch/riscv/commands';
import type { Capabilities } from '#iommufd/arch/riscv/registers';
import { encodeDeviceContext, dcTc } from '#iommufd/arch/riscv/tables';
import { type DeviceCapabilities, type Domain, type Errno, type HostDevice, type IommuCore, type IommuDevice, type IommuDriver, type NestedDomain, pageResponse, type PagingDomain, type ReservedRegion, type UserData, type Viommu, type ViommuCore } from '#iommufd/kernel/iommu-ops'; // prettier-ignore
import { extensionUapi, iommu_hw_info_riscv } from '#iommufd/uapi/extensions';
import { iommufdUapi as uapi } from '#iommufd/uapi/iommufd';
import { Hardware, type QueueReader } from './hardware.ts';
import { type AskedCommand, type InvalidationMonitor, Invalidations } from './invalidations.ts';
import { allocNested, RiscvNested } from './nested.ts';
import { RiscvPaging } from './paging.ts';
import { RiscvViommu } from './viommu.ts';

/** What the driver knows of one probed device. */
export interface RiscvDevice extends IommuDevice {
  /** Set while a vDEVICE names the device: whose faults they are. */
  viommu: RiscvViommu | undefined;
  /** The nesting parent under its context while the context has EN_ATS. */
  atsParent: RiscvPaging | undefined;
}

export interface RiscvIommuDriverOptions {
  /** The silicon's register page. */
  readonly registers: MmioDevice;
  readonly memory: HostMemory;
  /** Runs work later, as an interrupt handler's thread would; never synchronously. */
  readonly defer: (work: () => void) => Scheduled;
  /** How invalidations of devices ended; without it no device is allowed ATS. */
  readonly invalidations?: InvalidationMonitor;
  readonly trace?: Trace;
}

const record = {
  DID: pageRequestRecord.reader('DID'),
  PID: pageRequestRecord.reader('PID'),
  PV: pageRequestRecord.reader('PV'),
  PRIV: pageRequestRecord.reader('PRIV'),
  EXEC: pageRequestRecord.reader('EXEC'),
};
const [isRead, isWrite] = [pageRequestPayload.reader('R'), pageRequestPayload.reader('W')];
const payload = {
  /** R and W, where the uAPI's permissions have them too. */
  RW: (lo: number, hi: number): number => isRead(lo, hi) | (isWrite(lo, hi) << 1),
  L: pageRequestPayload.reader('L'),
  PRGI: pageRequestPayload.reader('PRGI'),
};

const join = (hi: number, lo: number): bigint => (BigInt(hi) << 32n) | BigInt(lo);

const { success, invalidRequest, responseFailure } = pageResponseCode;
const responseCodes: Readonly<Record<number, number>> = {
  [pageResponse.success]: success,
  [pageResponse.invalid]: invalidRequest,
};
/** PAYLOAD of an ATS.INVAL for everything: S, and every address bit but the highest (PCI Express Base 6.0 §10.2.3.2). */
const wholeSpace = 0x7fff_ffff_ffff_f800n;
/** Global Invalidate (§10.3.8): whatever the PASID. */
const everyPasid = 1n;

/**
 * The host kernel's driver of a RISC-V IOMMU. Upstream's (Linux 7.2) attaches paging domains only.
 * Deviation: nesting, vIOMMU, raw invalidation and fault events, in SMMUv3's shape (iommufd/uapi/extensions.ts).
 */
export class RiscvIommuDriver implements IommuDriver {
  readonly name = 'riscv-iommu';
  readonly userPasidTable = true;
  readonly memory: HostMemory;
  readonly hardware: Hardware;
  readonly features: Capabilities;
  /** Flags of IOMMU_HWPT_ALLOC that a nested domain takes. */
  readonly nestedFlags = uapi.IOMMU_HWPT_FAULT_ID_VALID | uapi.IOMMU_HWPT_ALLOC_PASID;
  readonly defer: (work: () => void) => Scheduled;
  readonly #trace: Trace;
  readonly #devices = new Map<number, RiscvDevice>();
  /** By GSCID. */
  readonly #groups = new Map<number, RiscvPaging>();
  readonly #invalidations: Invalidations | undefined;
  #core: IommuCore | undefined;
  #drainDue: Scheduled | undefined;
  /** A page request that is not the last of its group is being reported. */
  #isPartial = false;
  /** Paging domains and which vIOMMU a device belongs to are made before anything is restored. */
  readonly saved = parts({
    hardware: part(() => this.hardware),
    drainDue: timer(
      () => this.#drainDue,
      (event) => (this.#drainDue = event),
      () => this.defer(this.#drain),
    ),
    isPartial: field(
      () => this.#isPartial,
      (value) => (this.#isPartial = value),
    ),
    invalidations: part(() => this.#invalidations ?? { saved: parts({}) }),
    atsParents: {
      save: () => [...this.#devices].map(([rid, { atsParent }]) => [rid, atsParent?.gscid]),
      restore: (data: Data) => {
        for (const item of listOf(data)) {
          const [rid, gscid] = listOf(item);
          const device = this.#devices.get(Number(rid));
          if (!device) throw new SavedError(`there is no device ${Number(rid)} behind the host's IOMMU`);
          device.atsParent = gscid === undefined ? undefined : this.#groups.get(Number(gscid));
        }
      },
    },
  });
  readonly #reader: QueueReader = {
    fault: (record) => this.#report(record),
    pageRequest: (...halves) => this.#reportPageRequest(...halves),
    pageRequestsLost: () => this.#pageRequestsLost(),
  };

  constructor({ registers, memory, defer, invalidations, trace = quiet }: RiscvIommuDriverOptions) {
    this.memory = memory;
    this.defer = defer;
    this.#trace = trace;
    this.hardware = new Hardware(registers, memory);
    this.features = this.hardware.features;
    if (invalidations && this.features.ATS && this.features.T2GPA)
      this.#invalidations = new Invalidations(
        this.hardware,
        invalidations,
        defer,
        (rid) => this.#devices.get(rid)?.viommu,
      );
  }

  start(core: IommuCore): void {
    this.#core = core;
  }

  /** A wire of the silicon changed. Every cause shares vector 0 (icvec stays at reset). */
  interrupt(_vector: number, isHigh: boolean): void {
    if (isHigh) this.#scheduleDrain();
  }

  #scheduleDrain(): void {
    this.#drainDue ??= this.defer(this.#drain);
  }

  readonly #drain = (): void => {
    this.#drainDue = undefined;
    if (!this.hardware.drain(this.#reader)) this.#scheduleDrain();
  };

  #reportPageRequest(headLo: number, headHi: number, payloadLo: number, payloadHi: number): void {
    const rid = record.DID(headLo, headHi);
    const pasid = record.PV(headLo, headHi) ? record.PID(headLo, headHi) : noPasid;
    const permissions = payload.RW(payloadLo, payloadHi);
    const last = payload.L(payloadLo, payloadHi);
    const group = payload.PRGI(payloadLo, payloadHi);
    const device = this.#devices.get(rid);
    // A Stop Marker asks for nothing and nobody answers it; a guest that owns the PASID is told (§3.3).
    const isMarker = permissions === 0 && last === 1;
    if (this.#trace.on)
      this.#trace.emit('host.page-request', {
        rid,
        pasid,
        address: join(payloadHi, (payloadLo & ~0xfff) >>> 0),
        group,
        last,
        marker: isMarker ? 1 : 0,
      });
    if (!device) return;
    if (isMarker) {
      device.viommu?.reportStopMarker(device, join(headHi, headLo), join(payloadHi, payloadLo));
      return;
    }
    this.#isPartial = last === 0;
    this.#core?.reportFault(device, {
      pasid,
      addressHi: payloadHi,
      addressLo: (payloadLo & ~0xfff) >>> 0,
      perm: permissions | (record.EXEC(headLo, headHi) << 2) | (record.PRIV(headLo, headHi) << 3),
      grpid: group,
      last: last === 1,
    });
    this.#isPartial = false;
  }

  /** What is left of groups whose last request may be among the lost ones would never be finished. */
  #pageRequestsLost(): void {
    if (this.#trace.on) this.#trace.emit('host.page-requests-lost', {});
    for (const device of this.#devices.values()) this.#core?.discardPartial(device);
  }

  #report(record: Uint8Array): void {
    const first = new DataView(record.buffer).getBigUint64(0, true);
    const rid = Number(faultRecord.get(first, 'DID'));
    const device = this.#devices.get(rid);
    if (this.#trace.on)
      this.#trace.emit('host.fault', {
        rid,
        cause: Number(faultRecord.get(first, 'CAUSE')),
        guest: device?.viommu ? 1 : 0,
      });
    if (device) device.viommu?.report(device, record);
  }

  probeDevice(host: HostDevice): IommuDevice | Errno {
    if (this.#devices.has(host.rid)) return errno.ENODEV;
    const processIdBits = this.features.PD20 ? 20 : this.features.PD17 ? 17 : this.features.PD8 ? 8 : 0;
    const bits = Math.min(processIdBits, host.pasidBits);
    const device: RiscvDevice = {
      host,
      maxPasids: bits === 0 ? 0 : 2 ** bits,
      viommu: undefined,
      atsParent: undefined,
    };
    this.#devices.set(host.rid, device);
    return device;
  }

  releaseDevice(device: IommuDevice): void {
    this.#devices.delete(device.host.rid);
  }

  /** The silicon and the device can do ATS, and translated addresses can be made to pass stage 2. */
  hasAts(device: IommuDevice): boolean {
    return this.#invalidations !== undefined && device.host.ats;
  }

  capabilities(device: IommuDevice): DeviceCapabilities {
    return { cacheCoherency: true, dirtyTracking: false, ats: this.hasAts(device) };
  }

  hwInfo(_device: IommuDevice, type: number): { readonly type: number; readonly bytes: Uint8Array } | Errno {
    const own = extensionUapi.IOMMU_HW_INFO_TYPE_RISCV;
    if (type !== 0 && type !== own) return errno.EOPNOTSUPP;
    const { capabilities, fctl } = this.hardware;
    const flags = this.features.MSI_FLAT ? extensionUapi.IOMMU_HW_INFO_RISCV_MSI_FLAT : 0;
    return { type: own, bytes: iommu_hw_info_riscv.encode({ flags, fctl, capabilities }) };
  }

  reservedRegions(): readonly ReservedRegion[] {
    return [];
  }

  allocPaging(_device: IommuDevice, flags: number, data: UserData | undefined): PagingDomain | Errno {
    if (data || flags & ~(uapi.IOMMU_HWPT_ALLOC_NEST_PARENT | uapi.IOMMU_HWPT_ALLOC_PASID)) return errno.EOPNOTSUPP;
    const isNestParent = (flags & uapi.IOMMU_HWPT_ALLOC_NEST_PARENT) !== 0;
    let gscid = 1;
    while (this.#groups.has(gscid)) gscid++;
    if (gscid > 0xffff) return errno.ENOMEM;
    const domain = RiscvPaging.create(this, gscid, isNestParent);
    if (domain) this.#groups.set(gscid, domain);
    return domain ?? errno.ENOMEM;
  }

  /** A paging domain is gone; its GSCID may be used again. */
  releaseGroup(gscid: number): void {
    this.#groups.delete(gscid);
  }

  allocNested(_device: IommuDevice, parent: PagingDomain, flags: number, data: UserData): NestedDomain | Errno {
    if (!(parent instanceof RiscvPaging) || !parent.isNestParent) return errno.EINVAL;
    return allocNested(this, parent, flags, data);
  }

  attach(device: IommuDevice, pasid: number, domain: Domain | undefined, old: Domain | undefined): Errno {
    // A PASID's domain would need a process directory of the kernel's own; a guest brings its own with nesting.
    if (pasid !== noPasid) return errno.EOPNOTSUPP;
    if (domain && domain.driver !== this) return errno.EINVAL;
    const words = domain ? this.#contextWords(device, domain) : undefined;
    if (!this.hardware.setDeviceContext(device.host.rid, words)) return errno.ENOMEM;
    const probed = device as RiscvDevice;
    const hadAts = probed.atsParent !== undefined;
    const hasAts = domain instanceof RiscvNested && dcTc.get(words![0]!, 'EN_ATS') === 1n;
    probed.atsParent = hasAts ? domain.parent : undefined;
    // §6.3, changing a device context: forget what was cached under the old one.
    const stage2 = old instanceof RiscvNested ? old.parent : old instanceof RiscvPaging ? old : undefined;
    if (stage2) {
      this.hardware.command('IOTINVAL.VMA', { GV: 1n, GSCID: BigInt(stage2.gscid) });
      this.hardware.fence();
    }
    if (hadAts) {
      this.#invalidateAll(probed);
      // What it asked under the old context is not the new one's to know.
      this.#core?.discardPartial(device);
    }
    return 0;
  }

  /** One ATS.INVAL, host's RID and all; refused nowhere, since only devices with ATS get this far. */
  invalidateDevice(operands: Partial<Operands>, asked: AskedCommand): void {
    this.#invalidations?.send(operands, asked);
  }

  /** Stage 2 changed: nothing that devices remember of it is right any more. */
  invalidateDevices(parent: RiscvPaging): void {
    for (const device of this.#devices.values()) if (device.atsParent === parent) this.#invalidateAll(device);
  }

  /** The kernel does not know which PASIDs a guest's device uses: all at once, and requests without one. */
  #invalidateAll({ host }: RiscvDevice): void {
    const RID = BigInt(host.rid);
    this.#invalidations?.send({ RID, PAYLOAD: wholeSpace });
    if (host.pasidBits > 0) this.#invalidations?.send({ RID, PV: 1n, PID: 0n, PAYLOAD: wholeSpace | everyPasid });
  }

  /** ATS invalidations that devices have not completed, for leak checks. */
  get deviceInvalidations(): number {
    return this.#invalidations?.count ?? 0;
  }

  /**
   * The guest's tc with what the host decides of it. ATS only with T2GPA (§2.1.3.1): the device is then given
   * guest-physical addresses, and each that it comes back with passes stage 2, so that a forged one reaches nothing
   * beyond the VM. PRI only where page requests have somewhere to go.
   */
  #translationControl(device: IommuDevice, { guest, faultCapable }: RiscvNested): bigint {
    const { EN_ATS, EN_PRI, PRPR } = dcTc.decode(guest.tc);
    let tc = guest.tc & ~(dcTc.mask('EN_ATS') | dcTc.mask('EN_PRI') | dcTc.mask('PRPR'));
    if (!EN_ATS || !this.hasAts(device)) return tc;
    tc |= dcTc.mask('EN_ATS') | dcTc.mask('T2GPA');
    if (!EN_PRI || !faultCapable || !device.host.pri) return tc;
    return tc | dcTc.mask('EN_PRI') | (PRPR ? dcTc.mask('PRPR') : 0n);
  }

  #contextWords(device: IommuDevice, domain: Domain): readonly bigint[] {
    const isExtended = this.features.MSI_FLAT === 1;
    if (domain instanceof RiscvPaging)
      return encodeDeviceContext({ tc: { V: 1n } as never, iohgatp: domain.iohgatp }, isExtended);
    const nested = domain as RiscvNested;
    const { parent, guest } = nested;
    const words = encodeDeviceContext({ iohgatp: parent.iohgatp }, isExtended);
    words[0] = this.#translationControl(device, nested) | dcTc.mask('V');
    words[2] = guest.ta;
    words[3] = guest.fsc;
    if (isExtended) words.splice(4, 3, guest.msiptp, guest.msi_addr_mask, guest.msi_addr_pattern);
    return words;
  }

  /** Page request group response towards the device (§3.1.4, ATS.PRGR). */
  pageResponse(device: IommuDevice, pasid: number, grpid: number, code: number): void {
    // The core refuses each request for which it has no queue; a device takes one answer a group, after the last.
    if (this.#isPartial) return;
    const { rid } = device.host;
    const RID = BigInt(rid);
    const PAYLOAD = pageResponseMessage(grpid, responseCodes[code] ?? responseFailure, rid);
    this.hardware.command(
      'ATS.PRGR',
      pasid === noPasid ? { RID, PAYLOAD } : { PV: 1n, PID: BigInt(pasid), RID, PAYLOAD },
    );
  }

  viommuSupports(_device: IommuDevice, type: number): boolean {
    return type === extensionUapi.IOMMU_VIOMMU_TYPE_RISCV;
  }

  viommuInit(
    _device: IommuDevice,
    type: number,
    parent: PagingDomain,
    data: UserData | undefined,
    core: ViommuCore,
  ): Viommu | Errno {
    if (type !== extensionUapi.IOMMU_VIOMMU_TYPE_RISCV) return errno.EOPNOTSUPP;
    if (!(parent instanceof RiscvPaging) || parent.driver !== this || data) return errno.EINVAL;
    return new RiscvViommu(this, parent, core);
  }
}
