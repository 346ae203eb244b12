/**
 * What each command of the guest's command queue makes the host do: the vIOMMU on one screen. Decoding and legality are
 * the architecture's (iommufd/arch/riscv/commands); every one has its row here.
 */
import type { Command, CommandName } from '#iommufd/arch/riscv/commands';
import type { CommandOutcome } from '#iommufd/arch/riscv/ports';
import type { Bridge } from './bridge.ts';

/** The kernel calls a vIOMMU may make. */
export type HostCall =
  | 'IOMMU_HWPT_ALLOC'
  | 'IOMMU_HWPT_INVALIDATE'
  | 'IOMMU_DESTROY'
  | 'VFIO_DEVICE_ATTACH_IOMMUFD_PT'
  | 'VFIO_DEVICE_DETACH_IOMMUFD_PT'
  | 'write(fault)';

export interface GuestCommand {
  /** Section of the RISC-V IOMMU specification. */
  readonly spec: string;
  /** Every call the command can cause, at once or (`deferred`) by the next IOFENCE.C at the latest. */
  readonly issues: readonly HostCall[];
  readonly deferred?: true;
  /** Done on return, unless it says otherwise. `itag`: what the end of an ATS.INVAL is told by. */
  readonly run: (bridge: Bridge, command: Command, itag: number) => CommandOutcome | void;
}

const replaceContext = ['IOMMU_HWPT_ALLOC', 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', 'VFIO_DEVICE_DETACH_IOMMUFD_PT', 'IOMMU_DESTROY', 'IOMMU_HWPT_INVALIDATE'] as const; // prettier-ignore

// prettier-ignore
export const commands = {
  'IOTINVAL.VMA':    { spec: '§3.1.1', issues: ['IOMMU_HWPT_INVALIDATE'], deferred: true, run: (bridge, command) => bridge.queueInvalidation(command) },
  // The guest has no second stage of its own (capabilities offer none), so nothing tagged by one is cached.
  'IOTINVAL.GVMA':   { spec: '§3.1.1', issues: [],                         run: () => {} },
  'IOFENCE.C':       { spec: '§3.1.2', issues: ['IOMMU_HWPT_INVALIDATE'],  run: (bridge) => bridge.flushInvalidations() },
  'IODIR.INVAL_DDT': { spec: '§3.1.3', issues: replaceContext,             run: (bridge, { operands }) => bridge.reloadContexts(operands.DV ? Number(operands.DID) : undefined) },
  'IODIR.INVAL_PDT': { spec: '§3.1.3', issues: ['IOMMU_HWPT_INVALIDATE'], deferred: true, run: (bridge, command) => bridge.queueInvalidation(command) },
  // The fence behind it waits until an event of the host tells that the device has completed it.
  'ATS.INVAL':       { spec: '§3.1.4', issues: ['IOMMU_HWPT_INVALIDATE'],  run: (bridge, command, itag) => bridge.invalidateDevice(command, itag) },
  'ATS.PRGR':        { spec: '§3.1.4', issues: ['write(fault)'],           run: (bridge, { operands }) => bridge.pageRequests.respond(operands) },
} as const satisfies Record<CommandName, GuestCommand>;
