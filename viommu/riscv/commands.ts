/**
 * What each command of the guest's command queue makes the host do: the vIOMMU on one screen. Decoding and legality are
 * the architecture's (iommufd/arch/riscv/commands); a command without a row here is not offered (ATS is not advertised)
 * and never arrives.
 */
import type { Command, CommandName } from '#iommufd/arch/riscv/commands';
import type { Bridge } from './bridge.ts';

/** The kernel calls a vIOMMU may make. */
export type HostCall =
  | 'IOMMU_HWPT_ALLOC'
  | 'IOMMU_HWPT_INVALIDATE'
  | 'IOMMU_DESTROY'
  | 'VFIO_DEVICE_ATTACH_IOMMUFD_PT'
  | 'VFIO_DEVICE_DETACH_IOMMUFD_PT';

export interface GuestCommand {
  /** Section of the RISC-V IOMMU specification. */
  readonly spec: string;
  /** Every call the command can cause, at once or (`deferred`) by the next IOFENCE.C at the latest. */
  readonly issues: readonly HostCall[];
  readonly deferred?: true;
  readonly run: (bridge: Bridge, command: Command) => void;
}

const replaceContext = ['IOMMU_HWPT_ALLOC', 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', 'VFIO_DEVICE_DETACH_IOMMUFD_PT', 'IOMMU_DESTROY'] as const; // prettier-ignore

// prettier-ignore
export const commands = {
  'IOTINVAL.VMA':    { spec: '§3.1.1', issues: ['IOMMU_HWPT_INVALIDATE'], deferred: true, run: (bridge, command) => bridge.queueInvalidation(command) },
  // The guest has no second stage of its own (capabilities offer none), so nothing tagged by one is cached.
  'IOTINVAL.GVMA':   { spec: '§3.1.1', issues: [],                         run: () => {} },
  'IOFENCE.C':       { spec: '§3.1.2', issues: ['IOMMU_HWPT_INVALIDATE'],  run: (bridge) => bridge.flushInvalidations() },
  'IODIR.INVAL_DDT': { spec: '§3.1.3', issues: replaceContext,             run: (bridge, { operands }) => bridge.reloadContexts(operands.DV ? Number(operands.DID) : undefined) },
  'IODIR.INVAL_PDT': { spec: '§3.1.3', issues: ['IOMMU_HWPT_INVALIDATE'], deferred: true, run: (bridge, command) => bridge.queueInvalidation(command) },
} as const satisfies Partial<Record<CommandName, GuestCommand>>;
