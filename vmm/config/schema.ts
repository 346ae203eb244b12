/**
 * What a machine is made of: one schema for the library, the configuration file and the command line.
 * The words are those of libvirt and cloud-hypervisor where they have one.
 */
import * as v from 'valibot';
import { extensionNames, optionalExtensions, type OptionalExtension } from '#vmm/base/isa-extensions';
import { choice, duration, flag, integer, mac, size, slot, text } from './values.ts';

const doc = <const T extends v.GenericSchema>(words: string, schema: T) => v.pipe(schema, v.description(words));

const MiB = 2 ** 20;
const maxHotPlugPorts = 16;
const identifier = () =>
  text({
    max: 32,
    what: 'a name of 1 to 32 letters, digits, - and _',
    placeholder: 'name',
    pattern: /^[A-Za-z0-9_-]+$/,
  });
const path = (what: string) => text({ max: 4096, what, placeholder: 'path' });

const endpoint = () =>
  text({
    max: 256,
    what: 'host:port (a numeric address, 127.0.0.1:5000 or [::1]:5000) or, for a stream, the path of a Unix socket',
    placeholder: 'host:port',
    pattern: /^(?:[0-9.]{7,15}:\d{1,5}|\[[0-9a-fA-F:.]+\]:\d{1,5}|[./].*)$/,
  });

const extension = (name: OptionalExtension) =>
  v.optional(doc(optionalExtensions[name].doc, flag()), optionalExtensions[name].isDefault);

const cpu = v.object({
  mips: v.optional(
    doc('instructions per virtual microsecond: how fast virtual time advances', integer({ min: 1, max: 100_000 })),
    1000,
  ),
  translate: v.optional(doc('translate code that runs often; the run is the same either way', flag()), true),
  'translate-after': v.optional(
    doc('how often a jump must lead to code before it is translated', integer({ min: 1, max: 16_000 })),
    4000,
  ),
  ...(Object.fromEntries(extensionNames.map((name) => [name, extension(name)])) as Record<
    OptionalExtension,
    ReturnType<typeof extension>
  >),
});

const viommu = v.object({
  model: v.optional(doc('which IOMMU the guest sees', choice(['riscv', 'none'])), 'riscv'),
  bus: v.optional(
    doc('where the guest finds it: a platform device, or a function on PCI Express', choice(['platform', 'pci'])),
    'platform',
  ),
  address: v.optional(doc('PCI device number on bus 0, for bus=pci (default: the first free one)', slot())),
});

const disk = v.object({
  path: doc('image file, a whole number of 512-byte sectors', path('the path of a disk image')),
  readonly: v.optional(doc('refuse writes', flag()), false),
  overlay: v.optional(doc('keep writes in memory and leave the file as it is', flag()), false),
  serial: v.optional(
    doc(
      'serial number that the guest reads',
      text({ max: 20, what: '1 to 20 printable ASCII characters', placeholder: 'text', pattern: /^[\x20-\x7e]+$/ }),
    ),
  ),
  id: v.optional(doc('name in traces and tables (default nvme0, nvme1, …)', identifier())),
  'pasid-bits': v.optional(
    doc('let its queues carry PASIDs of so many bits: a vendor extension (0: none)', integer({ min: 0, max: 20 })),
    0,
  ),
  iommu: v.optional(doc('put its DMA behind the vIOMMU', flag()), true),
  address: v.optional(doc('PCI device number on bus 0 (default: the next free one)', slot())),
});

const nic = v.object({
  backend: v.optional(
    doc('what the other end of the wire is', choice(['hub', 'loopback', 'stream', 'dgram', 'none'])),
    'hub',
  ),
  id: v.optional(doc('name in traces and tables (default net0, net1, …)', identifier())),
  mac: v.optional(doc('station address (default 52:54:00:12:34:56, counting up)', mac())),
  hub: v.optional(doc('which hub, for backend=hub', identifier()), 'hub0'),
  local: v.optional(doc('for backend=stream: where to listen; for dgram: our end', endpoint())),
  remote: v.optional(doc('for backend=stream: where to connect; for dgram: the other end', endpoint())),
  iommu: v.optional(doc('put its DMA behind the vIOMMU', flag()), true),
  address: v.optional(doc('PCI device number on bus 0 (default: the next free one)', slot())),
});

const exerciser = v.object({
  id: v.optional(doc('name in traces and tables (default exerciser0, exerciser1, …)', identifier())),
  'pasid-bits': v.optional(doc('width of its PASIDs', integer({ min: 1, max: 20 })), 20),
  iommu: v.optional(doc('put its DMA behind the vIOMMU', flag()), true),
  address: v.optional(doc('PCI device number on bus 0 (default: the next free one)', slot())),
});

/** What one device of each list is. */
export const deviceSchemas = { disks: disk, nics: nic, exercisers: exerciser } as const;

/** stale-translations: a cache served what tables no longer say. */
const checkNames = ['stale-translations'] as const;

const trace = v.object({
  file: v.optional(doc('write events to this file as JSON lines', path('the path of the trace file'))),
  events: v.optional(
    doc(
      'which events: globs over their names',
      v.array(
        text({
          max: 64,
          what: 'an event name or glob such as iommufd.*',
          placeholder: 'glob',
          pattern: /^[a-z0-9_.*?-]+$/i,
        }),
      ),
    ),
    ['*'],
  ),
});

export const machineSchema = v.object({
  image: v.optional(doc('bundled guest to boot', identifier())),
  kernel: v.optional(
    doc('kernel to boot instead: an ELF file or a RISC-V Linux Image, plain or gzip', path('the path of a kernel')),
  ),
  initrd: v.optional(doc('initial RAM disk for the kernel', path('the path of an initial RAM disk'))),
  append: v.optional(
    doc(
      'arguments for the guest: /chosen bootargs of the device tree',
      text({
        max: 2048,
        what: 'up to 2048 printable ASCII characters',
        placeholder: 'text',
        pattern: /^[\x20-\x7e]+$/,
      }),
    ),
  ),
  memory: v.optional(doc('guest RAM', size({ min: 16 * MiB, max: 3072 * MiB, multiple: 2 * MiB })), 128 * MiB),
  smp: v.optional(doc('number of harts', integer({ min: 1, max: 8 })), 1),
  cpu: v.optional(doc('what the harts are like', cpu), {}),
  viommu: v.optional(doc('the IOMMU that the guest programs', viommu), {}),
  disks: v.optional(doc('an NVMe controller with one namespace on a disk image', v.array(disk)), []),
  nics: v.optional(doc('an 82574L network card', v.array(nic)), []),
  exercisers: v.optional(doc('a function that does the DMA it is told', v.array(exerciser)), []),
  'hotplug-ports': v.optional(
    doc(
      'root ports with an empty hot-plug slot each, for device_add while the guest runs',
      integer({ min: 0, max: maxHotPlugPorts }),
    ),
    0,
  ),
  'entry-mode': v.optional(doc('s: with the SBI of the VMM; m: raw machine mode', choice(['s', 'm'])), 's'),
  htif: v.optional(
    doc('let a test program end the run and write through its symbols tohost and fromhost, as riscv-tests do', flag()),
    false,
  ),
  realtime: v.optional(
    doc('keep virtual time from running ahead of the wall clock (always so for Linux on a terminal)', flag()),
    false,
  ),
  reboot: v.optional(doc('boot again when the guest asks for a reset, instead of ending the run', flag()), false),
  timeout: v.optional(doc('stop after this much wall time (default: never)', duration({ min: 0.001, max: 86400 * 7 }))),
  'max-instructions': v.optional(
    doc('stop after this many guest instructions (default: never)', integer({ min: 1, max: 1e15, suffix: true })),
  ),
  seed: v.optional(doc('seed of everything random', integer({ min: 0, max: 0xffff_ffff })), 1),
  capture: v.optional(
    doc('write the frames of all network cards to this file as pcapng', path('the path of the capture file')),
  ),
  trace: v.optional(doc('record events', trace), {}),
  checks: v.optional(
    doc('watch for mistakes of the guest and tell each as a warning', v.array(choice(checkNames))),
    [],
  ),
  'on-finding': v.optional(
    doc('what a finding of a check makes of a guest that passed', choice(['fail', 'warn'])),
    'fail',
  ),
  'log-level': v.optional(
    doc('how much of its own talk the VMM shows', choice(['error', 'warn', 'info', 'debug', 'trace'])),
    'warn',
  ),
});

/** What the schema yields; devices may still lack names and addresses. */
export type SchemaOutput = v.InferOutput<typeof machineSchema>;
type Placed<T> = T & { readonly id: string; readonly address: number };
export type DiskConfig = Placed<SchemaOutput['disks'][number]>;
export type ExerciserConfig = Placed<SchemaOutput['exercisers'][number]>;
export type NicConfig = Placed<SchemaOutput['nics'][number]> & { readonly mac: string };
/** The devices of a machine, by their lists. */
export interface DeviceConfigs {
  readonly disks: readonly DiskConfig[];
  readonly nics: readonly NicConfig[];
  readonly exercisers: readonly ExerciserConfig[];
}
/** A complete machine: every default filled in, sizes in bytes, times in seconds. */
export type MachineConfig = Omit<SchemaOutput, keyof DeviceConfigs> & DeviceConfigs;
/** What may be written to describe one. */
export type MachineConfigInput = v.InferInput<typeof machineSchema>;

/** Devices that fit on bus 0 beside the host bridge. */
export const maxDevices = 31;
