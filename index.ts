/** The library: build a machine, load a guest, run it, look at it. */
export { Machine } from './vmm/machine/machine.ts';
export type { MachineHost, RunOutcome, RunResult, Until } from './vmm/machine/machine.ts';
export { MachineError } from './vmm/machine/machine-error.ts';
export type { Trap } from './vmm/machine/trap.ts';
export type { MachineConfig, MachineConfigInput } from './vmm/config/schema.ts';
export { parseConfig } from './vmm/config/parse.ts';
export type { MachineStats } from './vmm/record/summary.ts';
export type { TraceEvent } from './vmm/base/events.ts';
export { fileStorage } from './devices/backends/storage/file.ts';
export { memoryStorage } from './devices/backends/storage/memory.ts';
export { overlayStorage } from './devices/backends/storage/overlay.ts';
export { guestImages } from './guest-images/manifest.ts';
export type { GuestImage } from './guest-images/manifest.ts';
