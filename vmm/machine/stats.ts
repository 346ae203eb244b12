import type { TranslatorStats } from '../cpu/engine/translator.ts';
import type { MachineStats } from '../record/summary.ts';
import { guestAddress } from './host-side.ts';
import type { Machine } from './machine.ts';

export interface TranslationStats extends TranslatorStats {
  /** Instructions that ran translated, of all harts since they were reset. */
  readonly retired: number;
}

/** Reads every counter; nothing is reset. */
export const collectStats = (machine: Machine): MachineStats => {
  const { silicon, kernel, devices, goneFaults } = machine.host;
  const { statistics } = silicon;
  let hostFaults = goneFaults();
  const rows = devices.map((device) => {
    const { placed, port } = device;
    const { reads, writes, messages, bytesRead, bytesWritten, faults } = port.counters;
    hostFaults += faults;
    return {
      id: placed.id,
      address: guestAddress(device),
      readBytes: bytesRead,
      reads,
      writtenBytes: bytesWritten,
      writes,
      messages,
      faults,
    };
  });
  const commands: Record<string, number> = {};
  for (const [name, count] of Object.entries(machine.assignment.viommu?.commandCounts ?? {}))
    commands[name] = count ?? 0;
  return {
    instructions: machine.instructions,
    virtualNs: machine.clock.now,
    devices: rows,
    translations: statistics.passed + statistics.hits + statistics.misses,
    iotlbHits: statistics.hits,
    iotlbMisses: statistics.misses,
    walks: statistics.fastWalks + statistics.plainWalks,
    walkLoads: silicon.memoryReferences,
    hostFaults,
    commands,
    ioctls: kernel.ioctlsByName(),
  };
};
