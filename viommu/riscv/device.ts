import type { Trace } from '#vmm/base/events';
import { quiet } from '#vmm/base/events';
import type { AccessBytes, MmioDevice } from '#vmm/base/ports';
import { type Data, part, parts, recordOf } from '#vmm/base/saved';
import { FrontEnd } from '#iommufd/arch/riscv/front-end';
import type { Command } from '#iommufd/arch/riscv/commands';
import type { CommandOutcome, MemoryPort, MessageSink } from '#iommufd/arch/riscv/ports';
import { capabilities, decodeCapabilities } from '#iommufd/arch/riscv/registers';
import { Bridge } from './bridge.ts';
import { commands } from './commands.ts';
import { DeviceInvalidations } from './device-invalidations.ts';
import type { AssignedDevice, Host } from './host.ts';
import { type After, PageRequests } from './page-requests.ts';

export interface RiscvViommuOptions {
  readonly host: Host;
  /** The physical IOMMU's capabilities register, from IOMMU_GET_HW_INFO. */
  readonly hostCapabilities: bigint;
  /** Width of guest-physical addresses: what the nesting parent can translate. */
  readonly guestAddressBits: number;
  readonly devices: readonly AssignedDevice[];
  /** Guest memory, where the queues and the device directory lie; a 4-byte store may reach an interrupt file. */
  readonly memory: MemoryPort;
  /** Sends its messages where it is a PCI Express function, by MSI-X. */
  readonly messages?: MessageSink;
  /** Virtual time, for groups of page requests that the guest never answers; without it they wait for ever. */
  readonly after?: After;
  /** How long the guest may take; default 1 s. */
  readonly responseNs?: number;
  readonly trace?: Trace;
}

/**
 * What of the physical IOMMU a guest is offered. First-stage modes, hardware A/D updates and the non-leaf and
 * range invalidations and process directories pass through, since silicon walks the guest's tables; the rest would need
 * calls that iommufd does not have (counters, debug translation, a second stage of the guest's own and with it T2GPA,
 * MSI page tables). Not Svpbmt: harts have it only when asked to, and Linux fails to map an interrupt file for its
 * devices where the IOMMU has it and the harts do not.
 */
const passedThrough = ['Sv39', 'Sv48', 'Sv57', 'AMO_HWAD', 'PD8', 'PD17', 'PD20', 'NL', 'S'] as const;

export const guestCapabilities = (host: bigint, guestAddressBits: number): bigint => {
  let value = capabilities.encode({ version: 0x10n, IGS: 0n, PAS: BigInt(guestAddressBits) });
  for (const name of passedThrough) value |= host & capabilities.mask(name);
  // The host gives devices of a guest ATS only under T2GPA, which its silicon must have; the guest need not know.
  if (host & capabilities.mask('T2GPA')) value |= host & capabilities.mask('ATS');
  return value;
};

/**
 * The guest's IOMMU: the architecture's front end over a back end that calls iommufd. It never translates a DMA; it
 * tells the host which tables to walk, and when to forget.
 */
export class RiscvViommu implements MmioDevice {
  readonly frontEnd: FrontEnd;
  readonly bridge: Bridge;
  /** Commands executed so far, by name. */
  readonly commandCounts: Partial<Record<string, number>> = {};
  readonly saved = parts({
    frontEnd: part(() => this.frontEnd),
    bridge: part(() => this.bridge),
    commandCounts: {
      save: () => ({ ...this.commandCounts }),
      restore: (data: Data) => void Object.assign(this.commandCounts, recordOf(data)),
    },
  });
  readonly #host: Host;
  readonly #trace: Trace;

  constructor(options: RiscvViommuOptions) {
    const { host, memory, devices, trace = quiet } = options;
    const offered = guestCapabilities(options.hostCapabilities, options.guestAddressBits);
    this.#host = host;
    this.#trace = trace;
    const extended = decodeCapabilities(offered).MSI_FLAT === 1;
    const { after, responseNs } = options;
    const pageRequests = new PageRequests({
      host,
      devices,
      queue: (deviceId, request) => this.frontEnd.queuePageRequest(deviceId, request),
      ...(after ? { after } : {}),
      ...(responseNs === undefined ? {} : { responseNs }),
      trace,
    });
    const invalidations = new DeviceInvalidations(host, () => this.frontEnd);
    this.bridge = new Bridge({ host, devices, memory, extended, pageRequests, invalidations, trace });
    this.frontEnd = new FrontEnd({
      capabilities: offered,
      memory,
      trace,
      unit: 'viommu',
      ...(options.messages ? { messages: options.messages } : {}),
      // One page of records at the least, 2^16 commands at the most: what the guest may make us look through.
      maxQueueLog2: 16,
      backEnd: {
        execute: (command, itag) => this.#execute(command, itag),
        // Only the front end's own answers to requests that it looked up a context for: ours come by queuePageRequest.
        respond: () => {},
        directoryChanged: (mode, ppn) => this.bridge.directoryChanged(mode, ppn),
      },
    });
  }

  #execute(command: Command, itag: number): CommandOutcome {
    this.commandCounts[command.name] = (this.commandCounts[command.name] ?? 0) + 1;
    return commands[command.name].run(this.bridge, command, itag) ?? 'done';
  }

  /** Passes page requests on to the guest; call when the fault queue's fd polls readable. */
  readPageRequests(): void {
    this.bridge.pageRequests.read();
  }

  /** Passes Stop Markers on to the guest; call when their fd polls readable. */
  readStopMarkers(): void {
    this.bridge.pageRequests.readStopMarkers();
  }

  /** Lets fences go on; call when the fd of invalidation events polls readable. */
  readInvalidations(): void {
    this.bridge.invalidations.readEnded();
  }

  /** Passes on what the host's fault event queue holds; call when its fd polls readable. */
  readEvents(): void {
    this.#host.readEvents(
      (record) => {
        const report = this.bridge.guestFault(record);
        if (!report) return;
        this.frontEnd.reportFault(report);
        if (this.#trace.on) {
          const { deviceId, cause, iotval } = report;
          this.#trace.emit('viommu.fault', { rid: deviceId, cause: cause.cause, name: cause.name, iova: iotval });
        }
      },
      (sequence) => {
        if (this.#trace.on) this.#trace.emit('viommu.events-lost', { sequence });
        this.frontEnd.faultsLost();
      },
    );
  }

  /** A device that came while the guest runs; from now on the guest may use it by its device_id. */
  addDevice(device: AssignedDevice): void {
    this.bridge.addDevice(device);
  }

  /** The device goes, or is called something else from now on. Everything about it that was under way ends. */
  removeDevice(deviceId: number): void {
    // Its faults are told under its name, not under that of whoever has it next.
    this.readEvents();
    this.bridge.removeDevice(deviceId);
  }

  read(offset: number, bytes: AccessBytes): number | bigint {
    return this.frontEnd.read(offset, bytes);
  }

  write(offset: number, bytes: AccessBytes, value: number | bigint): void {
    this.frontEnd.write(offset, bytes, value);
  }

  reset(): void {
    // Turns every device off, with which the kernel answers what page requests are outstanding.
    this.bridge.invalidations.reset();
    this.frontEnd.reset();
  }
}
