import { bdf } from '#vmm/base/address';
import type { MachineStats } from '../record/summary.ts';
import type { Machine } from './machine.ts';

/** Reads every counter; nothing is reset. */
export const collectStats = (machine: Machine): MachineStats => {
  const { silicon, kernel, devices } = machine.host;
  const { statistics } = silicon;
  let hostFaults = 0;
  const rows = devices.map(({ placed, port }) => {
    const { reads, writes, messages, bytesRead, bytesWritten, faults } = port.counters;
    hostFaults += faults;
    return {
      id: placed.id,
      address: bdf(placed.slot << 3),
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
