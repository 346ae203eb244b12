import { errnoName } from '#vmm/base/errno';

/** A call that the kernel refused. */
export interface HostError {
  /** `IOMMU_HWPT_ALLOC`, `read(fault)` … */
  readonly ioctl: string;
  /** Positive errno. */
  readonly errno: number;
  /** The argument most likely at fault, as `data_type=7`. */
  readonly field?: string;
}
export type Result<T = object> = ({ readonly ok: true } & T) | { readonly ok: false; readonly error: HostError };

/** `IOMMU_HWPT_ALLOC: EINVAL (data_type=7)`. */
export const describeHostError = ({ ioctl, errno, field }: HostError): string =>
  `${ioctl}: ${errnoName(errno)}${field ? ` (${field})` : ''}`;

export const refused = (ioctl: string, result: number, field?: string): { ok: false; error: HostError } => ({
  ok: false,
  error: field === undefined ? { ioctl, errno: -result } : { ioctl, errno: -result, field },
});
