import {
  type iommu_hwpt_pgfault,
  iommu_destroy,
  iommu_fault_alloc,
  iommu_hw_info,
  iommu_hw_queue_alloc,
  iommu_hwpt_alloc,
  iommu_hwpt_get_dirty_bitmap,
  iommu_hwpt_invalidate,
  iommu_hwpt_page_response,
  iommu_hwpt_pgfault as pgfault,
  iommu_hwpt_set_dirty_tracking,
  iommu_ioas_alloc,
  iommu_ioas_allow_iovas,
  iommu_ioas_change_process,
  iommu_ioas_copy,
  iommu_ioas_iova_ranges,
  iommu_ioas_map,
  iommu_ioas_map_file,
  iommu_ioas_unmap,
  iommu_iova_range,
  iommu_option,
  iommu_vdevice_alloc,
  iommu_veventq_alloc,
  iommu_vfio_ioas,
  iommu_viommu_alloc,
  iommufdUapi as K,
} from '#iommufd/uapi/iommufd';
import { errno } from '#vmm/base/errno';
import { part, parts } from '#vmm/base/saved';
import { Arguments } from './arguments.ts';
import type { IommufdHost } from './host.ts';
import { type Result, refused } from './result.ts';

/** Driver-specific bytes of an allocation, and the `data_type` that says what they are. */
export interface DriverData {
  readonly type: number;
  readonly bytes: Uint8Array;
}
/** How devices may use a mapping; both by default. */
export interface Permissions {
  readonly readable?: boolean;
  readonly writable?: boolean;
}
export type PageFault = ReturnType<(typeof iommu_hwpt_pgfault)['decode']>;

// These pass by for every page that a device asks for: fields at known offsets, rather than whatever a structure has.
const faultAt = {
  flags: pgfault.offset('flags'),
  dev_id: pgfault.offset('dev_id'),
  pasid: pgfault.offset('pasid'),
  grpid: pgfault.offset('grpid'),
  perm: pgfault.offset('perm'),
  reserved: pgfault.offset('__reserved'),
  addr: pgfault.offset('addr'),
  length: pgfault.offset('length'),
  cookie: pgfault.offset('cookie'),
} as const;
const readPageFault = (view: DataView, at: number): PageFault => ({
  flags: view.getUint32(at + faultAt.flags, true),
  dev_id: view.getUint32(at + faultAt.dev_id, true),
  pasid: view.getUint32(at + faultAt.pasid, true),
  grpid: view.getUint32(at + faultAt.grpid, true),
  perm: view.getUint32(at + faultAt.perm, true),
  __reserved: view.getUint32(at + faultAt.reserved, true),
  addr: view.getBigUint64(at + faultAt.addr, true),
  length: view.getUint32(at + faultAt.length, true),
  cookie: view.getUint32(at + faultAt.cookie, true),
});
const answerCookieAt = iommu_hwpt_page_response.offset('cookie');
const answerCodeAt = iommu_hwpt_page_response.offset('code');
/** One event of a vIOMMU event queue. */
export interface Vevent {
  /** Counts every event that happened, lost ones too. */
  readonly sequence: number;
  /** Events were lost before this point; `data` is empty. */
  readonly lost: boolean;
  readonly data: Uint8Array;
}
export interface IovaRange {
  readonly first: bigint;
  readonly last: bigint;
}

const eventBytes = 16 << 10;
const maxUserSize = 0xffff_ffff_ffff_ffffn;

/**
 * An open /dev/iommu: one method an ioctl, named after it. Sizes in bytes, addresses of process memory as numbers,
 * IOVAs as bigints. Every call answers with its results, or with the error that the kernel gave.
 *
 *     const opened = Iommufd.open(host);
 *     if (!opened.ok) throw new Error(describeHostError(opened.error));
 *     const ioas = opened.iommufd.ioasAlloc();
 */
export class Iommufd {
  readonly host: IommufdHost;
  readonly fd: number;
  readonly #args: Arguments;
  readonly saved = parts({ arguments: part(() => this.#args) });

  private constructor(host: IommufdHost, fd: number) {
    this.host = host;
    this.fd = fd;
    this.#args = new Arguments(host);
  }

  static open(host: IommufdHost, path = '/dev/iommu'): Result<{ readonly iommufd: Iommufd }> {
    const fd = host.open(path);
    return fd < 0 ? refused(`open(${path})`, fd) : { ok: true, iommufd: new Iommufd(host, fd) };
  }
  close(): void {
    this.host.close(this.fd);
  }

  #call(
    name: keyof typeof K,
    layout: { readonly size: number; encodeInto(target: Uint8Array, values: object): void },
    values: object,
  ): number {
    return this.#args.call(this.fd, K[name] as number, layout, { size: layout.size, ...values });
  }

  /** Ends any object; EBUSY while another one needs it. */
  destroy(id: number): Result {
    const rc = this.#call('IOMMU_DESTROY', iommu_destroy, { id });
    return rc < 0 ? refused('IOMMU_DESTROY', rc, `id=${id}`) : { ok: true };
  }

  // ── I/O address spaces ──────────────────────────────────────────────────────────────────────────────────────────

  ioasAlloc(): Result<{ readonly ioasId: number }> {
    const rc = this.#call('IOMMU_IOAS_ALLOC', iommu_ioas_alloc, {});
    if (rc < 0) return refused('IOMMU_IOAS_ALLOC', rc);
    return { ok: true, ioasId: this.#args.u32(iommu_ioas_alloc.offset('out_ioas_id')) };
  }

  #mapFlags(iova: bigint | undefined, { readable = true, writable = true }: Permissions): number {
    return (
      (iova === undefined ? 0 : K.IOMMU_IOAS_MAP_FIXED_IOVA) |
      (readable ? K.IOMMU_IOAS_MAP_READABLE : 0) |
      (writable ? K.IOMMU_IOAS_MAP_WRITEABLE : 0)
    );
  }

  /** Maps process memory; without `iova` the kernel chooses one. */
  ioasMap(
    request: Permissions & {
      readonly ioasId: number;
      readonly address: number;
      readonly bytes: bigint;
      readonly iova?: bigint;
    },
  ): Result<{ readonly iova: bigint }> {
    const rc = this.#call('IOMMU_IOAS_MAP', iommu_ioas_map, {
      flags: this.#mapFlags(request.iova, request),
      ioas_id: request.ioasId,
      user_va: BigInt(request.address),
      length: request.bytes,
      iova: request.iova ?? 0n,
    });
    if (rc < 0) return refused('IOMMU_IOAS_MAP', rc, `iova=0x${(request.iova ?? 0n).toString(16)}`);
    return { ok: true, iova: this.#args.u64(iommu_ioas_map.offset('iova')) };
  }

  /** Maps a part of a memfd or dmabuf. */
  ioasMapFile(
    request: Permissions & {
      readonly ioasId: number;
      readonly fd: number;
      readonly start: bigint;
      readonly bytes: bigint;
      readonly iova?: bigint;
    },
  ): Result<{ readonly iova: bigint }> {
    const rc = this.#call('IOMMU_IOAS_MAP_FILE', iommu_ioas_map_file, {
      flags: this.#mapFlags(request.iova, request),
      ioas_id: request.ioasId,
      fd: request.fd,
      start: request.start,
      length: request.bytes,
      iova: request.iova ?? 0n,
    });
    if (rc < 0) return refused('IOMMU_IOAS_MAP_FILE', rc, `fd=${request.fd}`);
    return { ok: true, iova: this.#args.u64(iommu_ioas_map_file.offset('iova')) };
  }

  /** Shows in one IOAS what another one (or the same) has mapped. */
  ioasCopy(
    request: Permissions & {
      readonly toIoasId: number;
      readonly fromIoasId: number;
      readonly fromIova: bigint;
      readonly bytes: bigint;
      readonly iova?: bigint;
    },
  ): Result<{ readonly iova: bigint }> {
    const rc = this.#call('IOMMU_IOAS_COPY', iommu_ioas_copy, {
      flags: this.#mapFlags(request.iova, request),
      dst_ioas_id: request.toIoasId,
      src_ioas_id: request.fromIoasId,
      length: request.bytes,
      dst_iova: request.iova ?? 0n,
      src_iova: request.fromIova,
    });
    if (rc < 0) return refused('IOMMU_IOAS_COPY', rc, `src_iova=0x${request.fromIova.toString(16)}`);
    return { ok: true, iova: this.#args.u64(iommu_ioas_copy.offset('dst_iova')) };
  }

  /** Removes whole mappings within a range; `bytes` of the result is what went. Without a range: everything. */
  ioasUnmap(ioasId: number, iova = 0n, bytes = maxUserSize): Result<{ readonly bytes: bigint }> {
    const rc = this.#call('IOMMU_IOAS_UNMAP', iommu_ioas_unmap, { ioas_id: ioasId, iova, length: bytes });
    if (rc < 0) return refused('IOMMU_IOAS_UNMAP', rc, `iova=0x${iova.toString(16)}`);
    return { ok: true, bytes: this.#args.u64(iommu_ioas_unmap.offset('length')) };
  }

  /** IOVAs that can be mapped now, and the alignment they need. */
  ioasIovaRanges(ioasId: number): Result<{ readonly ranges: readonly IovaRange[]; readonly alignment: bigint }> {
    for (let room = 16; ;) {
      const bytes = this.#args.room(room * iommu_iova_range.size);
      const rc = this.#call('IOMMU_IOAS_IOVA_RANGES', iommu_ioas_iova_ranges, {
        ioas_id: ioasId,
        num_iovas: room,
        allowed_iovas: BigInt(this.#args.data),
      });
      const count = this.#args.u32(iommu_ioas_iova_ranges.offset('num_iovas'));
      if (rc === -errno.EMSGSIZE) {
        room = count;
        continue;
      }
      if (rc < 0) return refused('IOMMU_IOAS_IOVA_RANGES', rc);
      const ranges: IovaRange[] = [];
      for (let i = 0; i < count; i++) {
        const { start, last } = iommu_iova_range.decode(bytes, i * iommu_iova_range.size);
        ranges.push({ first: start, last });
      }
      return { ok: true, ranges, alignment: this.#args.u64(iommu_ioas_iova_ranges.offset('out_iova_alignment')) };
    }
  }

  /** Restricts where the kernel chooses IOVAs; an empty list lifts it. */
  ioasAllowIovas(ioasId: number, ranges: readonly IovaRange[]): Result {
    const bytes = this.#args.room(ranges.length * iommu_iova_range.size);
    for (const [i, { first, last }] of ranges.entries())
      iommu_iova_range.encodeInto(bytes, { start: first, last }, i * iommu_iova_range.size);
    const rc = this.#call('IOMMU_IOAS_ALLOW_IOVAS', iommu_ioas_allow_iovas, {
      ioas_id: ioasId,
      num_iovas: ranges.length,
      allowed_iovas: BigInt(this.#args.data),
    });
    return rc < 0 ? refused('IOMMU_IOAS_ALLOW_IOVAS', rc) : { ok: true };
  }

  /** Hands file-backed mappings over to the calling process. */
  ioasChangeProcess(): Result {
    const rc = this.#call('IOMMU_IOAS_CHANGE_PROCESS', iommu_ioas_change_process, {});
    return rc < 0 ? refused('IOMMU_IOAS_CHANGE_PROCESS', rc) : { ok: true };
  }

  /** Sets IOMMU_OPTION_RLIMIT_MODE (`objectId` 0) or IOMMU_OPTION_HUGE_PAGES (an IOAS). */
  optionSet(option: number, value: bigint, objectId = 0): Result {
    const rc = this.#call('IOMMU_OPTION', iommu_option, {
      option_id: option,
      op: K.IOMMU_OPTION_OP_SET,
      object_id: objectId,
      val64: value,
    });
    return rc < 0 ? refused('IOMMU_OPTION', rc, `option_id=${option}`) : { ok: true };
  }
  optionGet(option: number, objectId = 0): Result<{ readonly value: bigint }> {
    const rc = this.#call('IOMMU_OPTION', iommu_option, {
      option_id: option,
      op: K.IOMMU_OPTION_OP_GET,
      object_id: objectId,
    });
    if (rc < 0) return refused('IOMMU_OPTION', rc, `option_id=${option}`);
    return { ok: true, value: this.#args.u64(iommu_option.offset('val64')) };
  }

  /** Which IOAS the VFIO type1 calls on this fd use; undefined: none. */
  vfioIoasSet(ioasId: number | undefined): Result {
    const op = ioasId === undefined ? K.IOMMU_VFIO_IOAS_CLEAR : K.IOMMU_VFIO_IOAS_SET;
    const rc = this.#call('IOMMU_VFIO_IOAS', iommu_vfio_ioas, { ioas_id: ioasId ?? 0, op });
    return rc < 0 ? refused('IOMMU_VFIO_IOAS', rc) : { ok: true };
  }

  // ── Hardware page tables ────────────────────────────────────────────────────────────────────────────────────────

  /**
   * On an IOAS: a table that the kernel fills (`flags`: IOMMU_HWPT_ALLOC_NEST_PARENT, _DIRTY_TRACKING, _PASID). On a
   * nesting parent or a vIOMMU: stage 1 as `data` describes it. `faultId`: page requests go to that queue.
   */
  hwptAlloc(request: {
    readonly devId: number;
    readonly ptId: number;
    readonly flags?: number;
    readonly data?: DriverData;
    readonly faultId?: number;
  }): Result<{ readonly hwptId: number }> {
    const { data } = request;
    const rc = this.#call('IOMMU_HWPT_ALLOC', iommu_hwpt_alloc, {
      flags: (request.flags ?? 0) | (request.faultId === undefined ? 0 : K.IOMMU_HWPT_FAULT_ID_VALID),
      dev_id: request.devId,
      pt_id: request.ptId,
      data_type: data?.type ?? K.IOMMU_HWPT_DATA_NONE,
      data_len: data?.bytes.length ?? 0,
      data_uptr: data ? this.#args.put(data.bytes) : 0n,
      fault_id: request.faultId ?? 0,
    });
    if (rc < 0)
      return refused('IOMMU_HWPT_ALLOC', rc, data ? `data_type=0x${data.type.toString(16)}` : `pt_id=${request.ptId}`);
    return { ok: true, hwptId: this.#args.u32(iommu_hwpt_alloc.offset('out_hwpt_id')) };
  }

  /**
   * Forwards invalidation requests to a nested table or a vIOMMU. `entries` holds requests of `entryBytes` each.
   * `done` of them were carried out, also when one failed.
   */
  hwptInvalidate(
    id: number,
    type: number,
    entries: Uint8Array,
    entryBytes: number,
  ): Result<{ readonly done: number }> & { readonly done: number } {
    const address = this.#args.put(entries);
    const rc = this.#call('IOMMU_HWPT_INVALIDATE', iommu_hwpt_invalidate, {
      hwpt_id: id,
      data_uptr: address,
      data_type: type,
      entry_len: entryBytes,
      entry_num: Math.floor(entries.length / entryBytes),
    });
    const done = this.#args.u32(iommu_hwpt_invalidate.offset('entry_num'));
    return rc < 0 ? { ...refused('IOMMU_HWPT_INVALIDATE', rc, `entry=${done}`), done } : { ok: true, done };
  }

  hwptSetDirtyTracking(hwptId: number, enable: boolean): Result {
    const flags = enable ? K.IOMMU_HWPT_DIRTY_TRACKING_ENABLE : 0;
    const rc = this.#call('IOMMU_HWPT_SET_DIRTY_TRACKING', iommu_hwpt_set_dirty_tracking, { flags, hwpt_id: hwptId });
    return rc < 0 ? refused('IOMMU_HWPT_SET_DIRTY_TRACKING', rc) : { ok: true };
  }

  /** One bit a page of `pageBytes`, bit 0 of byte 0 first; clears the dirty state unless `keep`. */
  hwptGetDirtyBitmap(request: {
    readonly hwptId: number;
    readonly iova: bigint;
    readonly bytes: bigint;
    readonly pageBytes: bigint;
    readonly keep?: boolean;
  }): Result<{ readonly bitmap: Uint8Array }> {
    const bits = Number((request.bytes + request.pageBytes - 1n) / request.pageBytes);
    const bitmap = this.#args.room(Math.ceil(bits / 64) * 8);
    bitmap.fill(0);
    const rc = this.#call('IOMMU_HWPT_GET_DIRTY_BITMAP', iommu_hwpt_get_dirty_bitmap, {
      hwpt_id: request.hwptId,
      flags: request.keep ? K.IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR : 0,
      iova: request.iova,
      length: request.bytes,
      page_size: request.pageBytes,
      data: BigInt(this.#args.data),
    });
    if (rc < 0) return refused('IOMMU_HWPT_GET_DIRTY_BITMAP', rc);
    return { ok: true, bitmap: bitmap.slice(0, Math.ceil(bits / 8)) };
  }

  /** What the IOMMU behind a device can do; `type` 0: in the driver's own format. */
  getHwInfo(
    devId: number,
    type = 0,
  ): Result<{
    readonly type: number;
    readonly data: Uint8Array;
    readonly maxPasidLog2: number;
    readonly capabilities: bigint;
  }> {
    const bytes = this.#args.room(eventBytes);
    const rc = this.#call('IOMMU_GET_HW_INFO', iommu_hw_info, {
      flags: type === 0 ? 0 : K.IOMMU_HW_INFO_FLAG_INPUT_TYPE,
      dev_id: devId,
      data_len: bytes.length,
      data_uptr: BigInt(this.#args.data),
      out_data_type: type,
    });
    if (rc < 0) return refused('IOMMU_GET_HW_INFO', rc);
    return {
      ok: true,
      type: this.#args.u32(iommu_hw_info.offset('out_data_type')),
      data: bytes.slice(0, this.#args.u32(iommu_hw_info.offset('data_len'))),
      maxPasidLog2: this.#args.u8(iommu_hw_info.offset('out_max_pasid_log2')),
      capabilities: this.#args.u64(iommu_hw_info.offset('out_capabilities')),
    };
  }

  // ── vIOMMU ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** A slice of the device's IOMMU on a nesting parent. `data` in the result: what the driver wrote back. */
  viommuAlloc(request: {
    readonly type: number;
    readonly devId: number;
    readonly hwptId: number;
    readonly data?: Uint8Array;
  }): Result<{ readonly viommuId: number; readonly data: Uint8Array }> {
    const { data } = request;
    const rc = this.#call('IOMMU_VIOMMU_ALLOC', iommu_viommu_alloc, {
      type: request.type,
      dev_id: request.devId,
      hwpt_id: request.hwptId,
      data_len: data?.length ?? 0,
      data_uptr: data ? this.#args.put(data) : 0n,
    });
    if (rc < 0) return refused('IOMMU_VIOMMU_ALLOC', rc, `type=0x${request.type.toString(16)}`);
    const viommuId = this.#args.u32(iommu_viommu_alloc.offset('out_viommu_id'));
    return { ok: true, viommuId, data: this.#args.room(data?.length ?? 0).slice() };
  }

  /** Makes the guest's id of a device known; needed before a nested table of the vIOMMU can be attached to it. */
  vdeviceAlloc(viommuId: number, devId: number, virtId: bigint): Result<{ readonly vdeviceId: number }> {
    const values = { viommu_id: viommuId, dev_id: devId, virt_id: virtId };
    const rc = this.#call('IOMMU_VDEVICE_ALLOC', iommu_vdevice_alloc, values);
    if (rc < 0) return refused('IOMMU_VDEVICE_ALLOC', rc, `virt_id=0x${virtId.toString(16)}`);
    return { ok: true, vdeviceId: this.#args.u32(iommu_vdevice_alloc.offset('out_vdevice_id')) };
  }

  /** Events of one type to a new fd; at most `depth` wait. */
  veventqAlloc(
    viommuId: number,
    type: number,
    depth: number,
  ): Result<{ readonly veventqId: number; readonly fd: number }> {
    const values = { viommu_id: viommuId, type, veventq_depth: depth };
    const rc = this.#call('IOMMU_VEVENTQ_ALLOC', iommu_veventq_alloc, values);
    if (rc < 0) return refused('IOMMU_VEVENTQ_ALLOC', rc, `type=0x${type.toString(16)}`);
    return {
      ok: true,
      veventqId: this.#args.u32(iommu_veventq_alloc.offset('out_veventq_id')),
      fd: this.#args.u32(iommu_veventq_alloc.offset('out_veventq_fd')),
    };
  }

  /** Lets hardware read commands from guest memory. */
  hwQueueAlloc(request: {
    readonly viommuId: number;
    readonly type: number;
    readonly index: number;
    readonly iova: bigint;
    readonly bytes: bigint;
  }): Result<{ readonly hwQueueId: number }> {
    const rc = this.#call('IOMMU_HW_QUEUE_ALLOC', iommu_hw_queue_alloc, {
      viommu_id: request.viommuId,
      type: request.type,
      index: request.index,
      nesting_parent_iova: request.iova,
      length: request.bytes,
    });
    if (rc < 0) return refused('IOMMU_HW_QUEUE_ALLOC', rc, `index=${request.index}`);
    return { ok: true, hwQueueId: this.#args.u32(iommu_hw_queue_alloc.offset('out_hw_queue_id')) };
  }

  // ── Faults and events ───────────────────────────────────────────────────────────────────────────────────────────

  /** Page requests to a new fd. */
  faultQueueAlloc(): Result<{ readonly faultId: number; readonly fd: number }> {
    const rc = this.#call('IOMMU_FAULT_QUEUE_ALLOC', iommu_fault_alloc, {});
    if (rc < 0) return refused('IOMMU_FAULT_QUEUE_ALLOC', rc);
    return {
      ok: true,
      faultId: this.#args.u32(iommu_fault_alloc.offset('out_fault_id')),
      fd: this.#args.u32(iommu_fault_alloc.offset('out_fault_fd')),
    };
  }

  /**
   * All whole page request groups that wait (as many as fit `most` bytes); an empty list when none does. EINVAL: the
   * first one does not fit.
   */
  readFaults(fd: number, most = eventBytes): Result<{ readonly faults: readonly PageFault[] }> {
    const bytes = this.#args.room(Math.floor(most / pgfault.size) * pgfault.size);
    const count = this.host.read(fd, this.#args.data, bytes.length);
    if (count < 0) return refused('read(fault)', count);
    const faults: PageFault[] = [];
    const view = this.#args.dataView;
    for (let at = 0; at < count; at += pgfault.size) faults.push(readPageFault(view, at));
    return { ok: true, faults };
  }

  /** Answers a page request group by its cookie: IOMMUFD_PAGE_RESP_SUCCESS (the page is there now) or _INVALID. */
  respondFault(fd: number, cookie: number, code: number): Result {
    const bytes = this.#args.room(iommu_hwpt_page_response.size);
    const view = this.#args.dataView;
    view.setUint32(answerCookieAt, cookie, true);
    view.setUint32(answerCodeAt, code, true);
    const rc = this.host.write(fd, this.#args.data, bytes.length);
    return rc < 0 ? refused('write(fault)', rc, `cookie=${cookie}`) : { ok: true };
  }

  /** All events that wait, each with `dataBytes` of data. */
  readEvents(fd: number, dataBytes: number): Result<{ readonly events: readonly Vevent[] }> {
    const bytes = this.#args.room(eventBytes);
    const count = this.host.read(fd, this.#args.data, bytes.length);
    if (count < 0) return refused('read(veventq)', count);
    const events: Vevent[] = [];
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let at = 0; at < count;) {
      const lost = (view.getUint32(at, true) & K.IOMMU_VEVENTQ_FLAG_LOST_EVENTS) !== 0;
      const end = at + 8 + (lost ? 0 : dataBytes);
      events.push({ sequence: view.getUint32(at + 4, true), lost, data: bytes.slice(at + 8, end) });
      at = end;
    }
    return { ok: true, events };
  }
}
