import type { Scheduled } from '#vmm/base/clock';
import { errno } from '#vmm/base/errno';
import { type Data, parts, plainList, timer } from '#vmm/base/saved';
import type { Errno, NestedDomain, UserData, UserDataArray, Vdevice, Viommu, ViommuCore } from '#iommufd/kernel/iommu-ops'; // prettier-ignore
import { type CommandName, type CommandRow, commands, decodeCommand } from '#iommufd/arch/riscv/commands';
import { faultRecord, pageRequestRecord } from '#iommufd/arch/riscv/faults';
import type { Operands } from '#iommufd/arch/riscv/commands';
import {
  extensionUapi,
  iommu_vevent_riscv_invalidation,
  iommu_vevent_riscv_stop_marker,
  iommu_viommu_riscv_invalidate,
} from '#iommufd/uapi/extensions';
import type { RiscvDevice, RiscvIommuDriver } from './driver.ts';
import type { AskedCommand, InvalidationOwner } from './invalidations.ts';
import { allocNested, restoreNested } from './nested.ts';
import type { RiscvPaging } from './paging.ts';

/** Virtual device ids are RISC-V device_ids: 24 bits (§2.1). */
const deviceIdBits = 24;
/** Device invalidations that may be under way or wait for a tag; a guest's own queue has 32 outstanding at most. */
const mostInvalidations = 1024;

/**
 * What user space may ask for with raw commands, and how its names become the host's; a command without a row is
 * EOPNOTSUPP, because something else does its work or there is nothing to do.
 */
const forwarded: Partial<Record<CommandName, (operands: Operands, viommu: RiscvViommu) => Partial<Operands> | Errno>> =
  {
    // §6.3: behind a second stage every first-stage entry is tagged with the VM's GSCID.
    'IOTINVAL.VMA': (o, viommu) => ({ ...pick('IOTINVAL.VMA', o), GV: 1n, GSCID: BigInt(viommu.parent.gscid) }),
    // A device's own context changes by attaching it; this forgets what of its process directory is cached (§3.1.3).
    'IODIR.INVAL_DDT': (o, viommu) => {
      const device = o.DV ? viommu.core.findDevice(o.DID) : undefined;
      return device ? { DV: 1n, DID: BigInt((device as RiscvDevice).host.rid) } : errno.EIO;
    },
    'IODIR.INVAL_PDT': (o, viommu) => {
      const device = viommu.core.findDevice(o.DID);
      return device ? { ...pick('IODIR.INVAL_PDT', o), DID: BigInt((device as RiscvDevice).host.rid) } : errno.EIO;
    },
  };

/** Only the operands that the command has. */
const pick = (name: CommandName, operands: Operands): Partial<Operands> => {
  const { low, high }: CommandRow = commands[name];
  return Object.fromEntries(Object.entries(operands).filter(([key]) => low.fields.has(key) || high.fields.has(key)));
};

/** A guest's slice of the IOMMU: its stage-1 contexts, invalidations and fault records, under one nesting parent. */
export class RiscvViommu implements Viommu, InvalidationOwner {
  readonly core: ViommuCore;
  readonly parent: RiscvPaging;
  readonly #driver: RiscvIommuDriver;
  /** Device invalidations that ended and were not told yet. */
  readonly #ended: (AskedCommand & { readonly status: number })[] = [];
  #tellDue: Scheduled | undefined;
  readonly saved = parts({
    ended: plainList(() => this.#ended),
    tellDue: timer(
      () => this.#tellDue,
      (event) => (this.#tellDue = event),
      () => this.#driver.defer(this.#tellEnded),
    ),
  });
  readonly #entry = new Uint8Array(iommu_viommu_riscv_invalidate.size);

  constructor(driver: RiscvIommuDriver, parent: RiscvPaging, core: ViommuCore) {
    this.#driver = driver;
    this.parent = parent;
    this.core = core;
  }

  allocNested(flags: number, data: UserData): NestedDomain | Errno {
    return allocNested(this.#driver, this.parent, flags, data);
  }

  restoreNested(state: Data): NestedDomain {
    return restoreNested(this.#driver, this.parent, state);
  }

  /** Runs entries in order, up to the first bad one, and returns once the silicon has done them all. */
  cacheInvalidate(array: UserDataArray): Errno {
    array.handled = 0;
    const type = extensionUapi.IOMMU_VIOMMU_INVALIDATE_DATA_RISCV;
    if (array.type !== type) return errno.EINVAL;
    let result: Errno = 0;
    for (let i = 0; i < array.count && result === 0; i++) {
      result = array.copyEntry(i, this.#entry, type, iommu_viommu_riscv_invalidate.size) || this.#invalidateOne();
      if (result === 0) array.handled++;
    }
    if (array.handled > 0) this.#driver.hardware.fence();
    return result;
  }

  #invalidateOne(): Errno {
    const words = iommu_viommu_riscv_invalidate.decode(this.#entry);
    const context = { features: this.#driver.features, wired: false, deviceIdBits };
    const command = decodeCommand(words['cmd[0]'], words['cmd[1]'], context);
    if (!command) return errno.EIO;
    if (command.name === 'ATS.INVAL') return this.#invalidateDevice(command.operands, words);
    const translate = forwarded[command.name];
    if (!translate) return errno.EOPNOTSUPP;
    const operands = translate(command.operands, this);
    if (typeof operands === 'number') return operands;
    this.#driver.hardware.command(command.name, operands);
    return 0;
  }

  /** The device answers when it can; an event tells. EIO where no device with ATS has that RID. */
  #invalidateDevice(operands: Operands, words: AskedCommand): Errno {
    // A device_id is a RID, with the segment above it where there are several (§2.1).
    const device = this.core.findDevice(operands.RID | (operands.DSV ? operands.DSEG << 16n : 0n)) as
      RiscvDevice | undefined;
    if (!device || !this.#driver.hasAts(device)) return errno.EIO;
    if (this.#driver.deviceInvalidations >= mostInvalidations) return errno.ENOMEM;
    const own = { ...pick('ATS.INVAL', operands), RID: BigInt(device.host.rid), DSV: 0n, DSEG: 0n };
    this.#driver.invalidateDevice(own, words);
    return 0;
  }

  invalidationEnded(asked: AskedCommand, isDone: boolean): void {
    this.#ended.push({ ...asked, status: isDone ? 0 : 1 });
    if (this.#ended.length === 1) this.#tellDue = this.#driver.defer(this.#tellEnded);
  }

  readonly #tellEnded = (): void => {
    for (const event of this.#ended.splice(0))
      this.core.reportVevent(
        extensionUapi.IOMMU_VEVENTQ_TYPE_RISCV_INVALIDATION,
        iommu_vevent_riscv_invalidation.encode(event),
      );
  };

  vdeviceInit(vdevice: Vdevice): Errno {
    if (vdevice.virtId >> BigInt(deviceIdBits)) return errno.EINVAL;
    (vdevice.device as RiscvDevice).viommu = this;
    return 0;
  }

  vdeviceDestroy(vdevice: Vdevice): void {
    (vdevice.device as RiscvDevice).viommu = undefined;
  }

  /** A record of the silicon's fault queue about one of our devices, told under the guest's name for it. */
  report(device: RiscvDevice, record: Uint8Array): void {
    const virtId = this.core.virtualId(device);
    if (virtId === undefined) return;
    const view = new DataView(record.buffer, record.byteOffset, record.byteLength);
    view.setBigUint64(0, faultRecord.set(view.getBigUint64(0, true), 'DID', virtId), true);
    this.core.reportVevent(extensionUapi.IOMMU_VEVENTQ_TYPE_RISCV, record);
  }

  /** A device stops using a PASID: `head` and `payload` are what the silicon's page-request queue held. */
  reportStopMarker(device: RiscvDevice, head: bigint, payload: bigint): void {
    const virtId = this.core.virtualId(device);
    if (virtId === undefined) return;
    const record = { 'record[0]': pageRequestRecord.set(head, 'DID', virtId), 'record[1]': payload };
    this.core.reportVevent(
      extensionUapi.IOMMU_VEVENTQ_TYPE_RISCV_STOP_MARKER,
      iommu_vevent_riscv_stop_marker.encode(record),
    );
  }
}
