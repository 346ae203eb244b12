import type { Scheduled } from '#vmm/base/clock';
import { quiet, type Trace } from '#vmm/base/events';
import { noPasid } from '#vmm/base/ports';
import { type Data, listOf, parts, recordOf, restoreTimer, saveTimer, SavedError } from '#vmm/base/saved';
import type { Operands } from '#iommufd/arch/riscv/commands';
import {
  pageRequestMessage,
  pageRequestRecord,
  pageResponseCode,
  pageResponsePayload,
} from '#iommufd/arch/riscv/faults';
import type { PageRequest } from '#iommufd/arch/riscv/ports';
import type { ProduceResult } from '#iommufd/arch/riscv/record-queue';
import type { PageFault } from '#iommufd/client/iommufd';
import { iommu_vevent_riscv_stop_marker } from '#iommufd/uapi/extensions';
import { iommufdUapi as uapi } from '#iommufd/uapi/iommufd';
import type { AssignedDevice, Host } from './host.ts';

/** Runs work in virtual time, `ns` from now. */
export type After = (ns: number, run: () => void) => Scheduled;

interface PageRequestsOptions {
  readonly host: Host;
  readonly devices: readonly AssignedDevice[];
  /** Puts a record into the guest's page-request queue. */
  readonly queue: (deviceId: number, request: PageRequest) => ProduceResult;
  readonly after?: After;
  /** A group that the guest leaves unanswered for so long is answered Invalid; default 1 s. */
  readonly responseNs?: number;
  /** Most groups that wait for the guest; more are answered Invalid at once. */
  readonly mostGroups?: number;
  readonly trace?: Trace;
}

/** A group that the guest has to answer. */
interface Group {
  readonly device: AssignedDevice;
  /** `noPasid` without. */
  readonly pasid: number;
  readonly index: number;
  readonly cookie: number;
  /** The request that closed it. */
  readonly fault: PageFault;
  timer: Scheduled | undefined;
}

const { IOMMUFD_PAGE_RESP_SUCCESS: success, IOMMUFD_PAGE_RESP_INVALID: invalid } = uapi;
/** Neither PCI Express nor the RISC-V IOMMU bounds the time to answer; a VMM that never did would keep cookies for ever. */
const defaultResponseNs = 1_000_000_000;
const defaultMostGroups = 4096;
const [groupOf, codeOf] = [pageResponsePayload.reader('PRGI'), pageResponsePayload.reader('code')];
/** Groups by who may answer them: device_id is 24 bits, the index 9. */
const keyOf = (deviceId: number, index: number): number => deviceId * 512 + index;

/**
 * Page requests between the host's fault queue and the guest's page-request queue (§2.7, §3.3), and the guest's answers
 * back. What the guest's queue cannot take is answered as its silicon would.
 */
export class PageRequests {
  readonly #options: PageRequestsOptions;
  readonly #trace: Trace;
  readonly #byDevId = new Map<number, AssignedDevice>();
  /** Oldest first: a device that was reset may use an index again before the guest has answered it. */
  readonly #groups = new Map<number, Group[]>();
  /** Groups that wait for the guest. */
  outstanding = 0;
  readonly saved = parts({
    groups: {
      save: () => [...this.#groups].map(([key, groups]) => [key, groups.map((group) => this.#save(group))]),
      restore: (data: Data) => this.#restore(listOf(data)),
    },
  });

  constructor(options: PageRequestsOptions) {
    this.#options = options;
    this.#trace = options.trace ?? quiet;
    for (const device of options.devices) this.#byDevId.set(device.devId, device);
  }

  /** A device that came while the guest runs. */
  add(device: AssignedDevice): void {
    this.#byDevId.set(device.devId, device);
  }

  /** The device is gone, and with it what it asked. */
  remove(device: AssignedDevice): void {
    this.forget(device.deviceId);
    this.#byDevId.delete(device.devId);
  }

  /** Takes what the host's fault queue holds. Requests of a group come together, the last one last. */
  read(): void {
    this.#options.host.readFaults((faults) => {
      for (const fault of faults) this.#take(fault);
    });
  }

  /** Passes Stop Markers on, behind the requests that came before them. What the guest's queue cannot take is dropped (§2.7). */
  readStopMarkers(): void {
    this.read();
    this.#options.host.readStopMarkers(iommu_vevent_riscv_stop_marker.size, (bytes) => {
      const { 'record[0]': head, 'record[1]': payload } = iommu_vevent_riscv_stop_marker.decode(bytes);
      const { DID, PV, PID, PRIV, EXEC } = pageRequestRecord.decode(head);
      const rid = Number(DID);
      if (![...this.#byDevId.values()].some(({ deviceId }) => deviceId === rid)) return;
      this.#options.queue(rid, {
        rid: rid & 0xffff,
        segment: undefined,
        processIdValid: PV === 1n,
        processId: Number(PID),
        supervisor: PRIV === 1n,
        execute: EXEC === 1n,
        payload,
      });
    });
  }

  #take(fault: PageFault): void {
    const device = this.#byDevId.get(fault.dev_id);
    const isLast = (fault.flags & uapi.IOMMU_PGFAULT_FLAGS_LAST_PAGE) !== 0;
    if (!device) {
      if (isLast) this.#options.host.respondFault(fault.cookie, invalid);
      return;
    }
    if (isLast && this.outstanding >= (this.#options.mostGroups ?? defaultMostGroups)) {
      this.#answer(device, fault, invalid, 'too many');
      return;
    }
    const processIdValid = (fault.flags & uapi.IOMMU_PGFAULT_FLAGS_PASID_VALID) !== 0;
    const may = (bit: number): boolean => (fault.perm & bit) !== 0;
    // Before it is queued: the guest's interrupt may be answered at once.
    const group = isLast ? this.#remember(device, fault, processIdValid ? fault.pasid : noPasid) : undefined;
    const result = this.#options.queue(device.deviceId, {
      rid: device.deviceId & 0xffff,
      segment: undefined,
      processIdValid,
      processId: fault.pasid,
      supervisor: may(uapi.IOMMU_PGFAULT_PERM_PRIV),
      execute: may(uapi.IOMMU_PGFAULT_PERM_EXEC),
      payload: pageRequestMessage(
        Number(fault.addr >> 32n),
        Number(fault.addr & 0xffff_ffffn),
        may(uapi.IOMMU_PGFAULT_PERM_READ),
        may(uapi.IOMMU_PGFAULT_PERM_WRITE),
        isLast,
        fault.grpid,
      ),
    });
    if (result === 'queued' || !group) return;
    // §2.7: a full queue is Success, so that the device asks again; any other reason is a Response Failure.
    // Deviation: the uAPI has no Response Failure; Invalid Request ends the group without shutting the interface.
    this.#forget(group);
    this.#answer(device, fault, result === 'overflow' ? success : invalid, `queue ${result}`);
  }

  #answer(device: AssignedDevice, fault: PageFault, code: number, why: string): void {
    this.#options.host.respondFault(fault.cookie, code);
    if (this.#trace.on)
      this.#trace.emit('viommu.page-response', {
        rid: device.deviceId,
        pasid: (fault.flags & uapi.IOMMU_PGFAULT_FLAGS_PASID_VALID) !== 0 ? fault.pasid : noPasid,
        group: fault.grpid,
        code,
        outcome: why,
      });
  }

  #remember(device: AssignedDevice, fault: PageFault, pasid: number): Group {
    const group: Group = { device, pasid, index: fault.grpid & 511, cookie: fault.cookie, fault, timer: undefined };
    const key = keyOf(device.deviceId, group.index);
    const same = this.#groups.get(key);
    if (same) same.push(group);
    else this.#groups.set(key, [group]);
    this.outstanding++;
    const { after, responseNs = defaultResponseNs } = this.#options;
    group.timer = after?.(responseNs, () => this.#giveUp(group));
    return group;
  }

  #giveUp(group: Group): void {
    this.#forget(group);
    this.#answer(group.device, group.fault, invalid, 'timeout');
  }

  #save({ device, timer, ...group }: Group): Data {
    return { ...group, device: device.devId, timer: saveTimer(timer) };
  }

  #restore(items: readonly Data[]): void {
    this.#groups.clear();
    this.outstanding = 0;
    for (const item of items) {
      const [key, groups] = listOf(item);
      const made = listOf(groups).map((data) => this.#takeUp(data));
      this.#groups.set(Number(key), made);
      this.outstanding += made.length;
    }
  }

  #takeUp(data: Data): Group {
    const { device: devId, timer, ...rest } = recordOf(data);
    const device = this.#byDevId.get(Number(devId));
    if (!device) throw new SavedError(`there is no device ${Number(devId)}`);
    const group = { ...(rest as Omit<Group, 'device' | 'timer'>), device, timer: undefined } as Group;
    const { after } = this.#options;
    if (after) group.timer = restoreTimer(timer, () => after(0, () => this.#giveUp(group)));
    return group;
  }

  #forget(group: Group): void {
    const key = keyOf(group.device.deviceId, group.index);
    const same = this.#groups.get(key);
    const at = same?.indexOf(group) ?? -1;
    if (!same || at < 0) return;
    same.splice(at, 1);
    if (same.length === 0) this.#groups.delete(key);
    this.outstanding--;
    group.timer?.cancel();
  }

  /**
   * The guest's ATS.PRGR: the answer to the oldest group of that device, PASID and index. One that answers nothing (a
   * second answer, a group that was given up) goes no further.
   */
  respond(operands: Operands): void {
    const high = Number(operands.PAYLOAD >> 32n);
    const [index, code] = [groupOf(0, high), codeOf(0, high)];
    const deviceId = Number(operands.RID) | (operands.DSV ? Number(operands.DSEG) << 16 : 0);
    const pasid = operands.PV ? Number(operands.PID) : noPasid;
    const same = this.#groups.get(keyOf(deviceId, index));
    // Without a PASID the index alone names the group (PCI Express Base 6.0 §10.4.2).
    const group = same?.find((one) => pasid === noPasid || one.pasid === pasid);
    // Deviation: IOMMUFD_PAGE_RESP_SUCCESS and _INVALID are all that the uAPI has. A Response Failure, which would turn the
    // device's interface off (PCI Express Base 6.0 §10.4.2.1), ends this group as an Invalid Request does.
    const isSuccess = code === pageResponseCode.success;
    if (group) {
      this.#forget(group);
      this.#options.host.respondFault(group.cookie, isSuccess ? success : invalid);
    }
    if (this.#trace.on)
      this.#trace.emit('viommu.page-response', {
        rid: deviceId,
        pasid,
        group: index,
        code,
        outcome: group ? 'answered' : 'unmatched',
      });
  }

  /** The device's attachment changed: the kernel has answered what was outstanding. */
  forget(deviceId: number): void {
    const groups = [...this.#groups.values()].flat();
    for (const group of groups) if (group.device.deviceId === deviceId) this.#forget(group);
  }
}
