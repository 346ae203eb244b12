import { errno } from '#vmm/base/errno';
import { quiet, type Trace } from '#vmm/base/events';
import type { HostMemory } from '#vmm/base/memory';
import { type MmioDevice, noPasid } from '#vmm/base/ports';
import { faultRecord } from '#iommufd/arch/riscv/faults';
import type { Capabilities } from '#iommufd/arch/riscv/registers';
import { encodeDeviceContext, dcTc } from '#iommufd/arch/riscv/tables';
import type { DeviceCapabilities, Domain, Errno, HostDevice, IommuCore, IommuDevice, IommuDriver, NestedDomain, PagingDomain, ReservedRegion, UserData, Viommu, ViommuCore } from '#iommufd/kernel/iommu-ops'; // prettier-ignore
import { extensionUapi, iommu_hw_info_riscv } from '#iommufd/uapi/extensions';
import { iommufdUapi as uapi } from '#iommufd/uapi/iommufd';
import { Hardware } from './hardware.ts';
import { allocNested, RiscvNested } from './nested.ts';
import { RiscvPaging } from './paging.ts';
import { RiscvViommu } from './viommu.ts';

/** What the driver knows of one probed device. */
export interface RiscvDevice extends IommuDevice {
  /** Set while a vDEVICE names the device: whose faults they are. */
  viommu: RiscvViommu | undefined;
}

export interface RiscvIommuDriverOptions {
  /** The silicon's register page. */
  readonly registers: MmioDevice;
  readonly memory: HostMemory;
  /** Runs work later, as an interrupt handler's thread would; never synchronously. */
  readonly defer: (work: () => void) => void;
  readonly trace?: Trace;
}

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
  readonly #defer: (work: () => void) => void;
  readonly #trace: Trace;
  readonly #devices = new Map<number, RiscvDevice>();
  readonly #groups = new Set<number>();
  #drainDue = false;

  constructor({ registers, memory, defer, trace = quiet }: RiscvIommuDriverOptions) {
    this.memory = memory;
    this.#defer = defer;
    this.#trace = trace;
    this.hardware = new Hardware(registers, memory);
    this.features = this.hardware.features;
  }

  start(_core: IommuCore): void {}

  /** A wire of the silicon changed. Every cause shares vector 0 (icvec stays at reset). */
  interrupt(_vector: number, isHigh: boolean): void {
    if (!isHigh || this.#drainDue) return;
    this.#drainDue = true;
    this.#defer(() => {
      this.#drainDue = false;
      this.hardware.drainFaults((record) => this.#report(record));
    });
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
    const device: RiscvDevice = { host, maxPasids: bits === 0 ? 0 : 2 ** bits, viommu: undefined };
    this.#devices.set(host.rid, device);
    return device;
  }

  capabilities(device: IommuDevice): DeviceCapabilities {
    return { cacheCoherency: true, dirtyTracking: false, ats: this.features.ATS === 1 && device.host.ats };
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
    if (domain) this.#groups.add(gscid);
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
    const words = domain ? this.#contextWords(domain) : undefined;
    if (!this.hardware.setDeviceContext(device.host.rid, words)) return errno.ENOMEM;
    // §6.3, changing a device context: forget what was cached under the old one.
    const stage2 = old instanceof RiscvNested ? old.parent : old instanceof RiscvPaging ? old : undefined;
    if (stage2) {
      this.hardware.command('IOTINVAL.VMA', { GV: 1n, GSCID: BigInt(stage2.gscid) });
      this.hardware.fence();
    }
    return 0;
  }

  #contextWords(domain: Domain): readonly bigint[] {
    const isExtended = this.features.MSI_FLAT === 1;
    if (domain instanceof RiscvPaging)
      return encodeDeviceContext({ tc: { V: 1n } as never, iohgatp: domain.iohgatp }, isExtended);
    const { parent, guest } = domain as RiscvNested;
    const words = encodeDeviceContext({ iohgatp: parent.iohgatp }, isExtended);
    words[0] = guest.tc | dcTc.mask('V');
    words[2] = guest.ta;
    words[3] = guest.fsc;
    if (isExtended) words.splice(4, 3, guest.msiptp, guest.msi_addr_mask, guest.msi_addr_pattern);
    return words;
  }

  /** Page request group response towards the device (§3.1.4, ATS.PRGR). */
  pageResponse(device: IommuDevice, pasid: number, grpid: number, code: number): void {
    const pcieCode = code === 0 ? 0n : code === 1 ? 1n : 15n;
    this.hardware.command('ATS.PRGR', {
      ...(pasid === noPasid ? {} : { PV: 1n, PID: BigInt(pasid) }),
      RID: BigInt(device.host.rid),
      PAYLOAD: (BigInt(device.host.rid) << 48n) | (pcieCode << 44n) | (BigInt(grpid) << 32n),
    });
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
