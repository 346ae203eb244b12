/**
 * iommufd for VMM authors: typed calls over anything that opens, ioctls, reads, writes, polls, mmaps and closes; and the
 * simulated kernel that answers as Linux 7.2 does.
 */
export { Iommufd } from './client/iommufd.ts';
export type { DriverData, IovaRange, PageFault, Permissions, Vevent } from './client/iommufd.ts';
export { VfioDevice } from './client/vfio-device.ts';
export type { IommufdHost, SharedMemory } from './client/host.ts';
export { describeHostError } from './client/result.ts';
export type { HostError, Result } from './client/result.ts';
export { LinuxHost } from './linux/host.ts';
export { loadLibc } from './linux/libc.ts';
export type { Libc } from './linux/libc.ts';
export { Kernel } from './kernel/kernel.ts';
export type { DeviceRegistration, KernelOptions } from './kernel/kernel.ts';
export type * from './kernel/iommu-ops.ts';
export { iommufdUapi } from './uapi/iommufd.ts';
export { vfioUapi } from './uapi/vfio.ts';
export { extensionUapi } from './uapi/extensions.ts';
