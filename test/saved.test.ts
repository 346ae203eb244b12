/**
 * A field that a snapshot forgets is found here: every class whose objects live as long as a machine says in a declaration
 * `saved` what a snapshot holds, and each of its fields that can change is named there or below.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Arena, Cell } from '#vmm/cpu/engine/cells';
import { hartState, unsavedCells } from '#vmm/cpu/riscv/state';

/** Where state lives. The selftest, process memory that a machine does not use, and tools of tests are not in a machine. */
const folders = [
  'vmm/irq',
  'vmm/bus',
  'devices',
  'iommufd/arch',
  'iommufd/host',
  'iommufd/kernel',
  'viommu',
  'iommufd/client',
  'vmm/machine',
  'vmm/base/memory.ts',
];
const elsewhere = ['iommufd/kernel/selftest', 'devices/backends', 'vmm/machine/lab.ts'];

/** Why fields of classes with a declaration are not in it. `Class.field` */
// prettier-ignore
const unsaved: Readonly<Record<string, readonly string[]>> = {
  'set when the machine is made': [
    'ConfigSpace.placed', 'ConfigSpace.byName', 'ConfigSpace.owner', 'Link.port', 'Link.transactions', 'Exerciser.ats',
    'Exerciser.vectors', 'RegisterFile.hooks', 'RegisterFile.readHooks', 'RegisterFile.writeHooks', 'RegisterFile.rows',
    'Engine.status', 'Engine.vectors', 'PageRequests.port', 'PageRequests.status', 'Uart.divisorLatch',
    'Dma.port', 'Interrupts.vectors', 'Nic.msi', 'Nic.pasid', 'Phy.hooks', 'DeviceLink.silicon', 'DeviceLink.functions',
    'RiscvTransactionPort.endpoint', 'RiscvIommu.ports', 'GatedPort.isGone', 'RiscvIommu.ready', 'RiscvIommu.check', 'Translator.observer', 'Translator.contexts',
    'RiscvIommuDriver.core', 'HostMemory.nextMmio', 'HostMemory.mmio', 'Kernel.selftest', 'Kernel.vfio', 'Kernel.drivers',
    'Kernel.groups', 'Context.groups', 'Context.accountMode', 'Context.vfioIoas',
  ],
  'made by start-up; a guest cannot change it': [
    'Viommu.vdevices', 'Viommu.ids', 'Viommu.queues', 'FaultQueue.file', 'EventQueue.file', 'OpenFile.references', 'OpenFile.watchers',
    'VfioDeviceFile.context', 'VfioDeviceFile.device', 'PhysicalMemory.loose', 'PhysicalMemory.pins',
    'PhysicalMemory.pinned', 'ProcessMemory.regions',
  ],
  'means something only during a call, or is set before each use': [
    'Access.result', 'Engine.isRunning', 'TranslationCache.range', 'Receiver.staging', 'Receiver.filled', 'Transmitter.descriptors',
    'Transmitter.descriptorBytes', 'Transmitter.done', 'Transmitter.frames', 'Transmitter.wireBytes', 'Transmitter.epoch',
    'Offload.frame', 'Controller.scratch', 'Engine.entries', 'Engine.dwords', 'CommandQueue.words', 'CommandQueue.running',
    'WalkMemory.buffer', 'WalkMemory.result', 'RiscvTransactionPort.address', 'RiscvTransactionPort.mask', 'RiscvTransactionPort.lastCause',
    'RiscvPort.address', 'RiscvPort.mask', 'RiscvPort.mrif', 'RiscvPort.lastCause', 'FastWalk.ppn', 'FastWalk.guestPpn', 'FastWalk.shift',
    'FastWalk.rights', 'FastWalk.global', 'FastWalk.flags', 'FastWalk.isAbsent',
    'FastWalk.pscid', 'FastWalk.mode', 'FastWalk.root', 'FastWalk.ens', 'FastWalk.sum', 'RiscvPort.isPhysical', 'Kernel.commands', 'Kernel.depth', 'RiscvViommu.entry', 'Invalidations.isIssuing',
    'ProcessMemory.last', 'ProcessMemory.offset', 'Machine.wantedText', 'Machine.lastWanted', 'Machine.consoleTail', 'Machine.isMet',
    'Machine.isUndisturbed', 'Capture.arriving', 'Scheduler.running', 'Scheduler.runningFrom',
  ],
  'follows from what is saved, or is another view of it': [
    'Access.atomic', 'Translator.decoded', 'Ring.bytes', 'Receiver.views', 'Receiver.sizes', 'Receiver.descriptorCapacity', 'Transmitter.views', 'Namespace.blockBytes',
    'Namespace.blocks', 'RegisterFile.wide', 'Arguments.view', 'Arguments.dataView', 'Transaction.reportView', 'KernelObject.id', 'KernelObject.users',
  ],
  'objects to be used again': ['Queue.free'],
};

/** Classes with fields that change and no declaration of their own. */
// prettier-ignore
const undeclared: Readonly<Record<string, readonly string[]>> = {
  'caches of what is saved elsewhere': ['Bus', 'PciSpace', 'Routes'],
  'lives during a call': ['ReceiveSideScaling', 'ScatterList', 'Segments', 'Command', 'UserArray', 'RunList', 'IovaBitmap', 'Probe', 'Shadow'],
  'saved by its owner': [
    'CommandList', 'CompletionQueue', 'SubmissionQueue', 'QueueMemory', 'PhysicalDevice', 'Igroup', 'ObjectTable', 'HwptNested', 'Hwpt',
    'RiscvNested', 'MasteredMemory', 'Dma', 'FileTable', 'VfioDevice',
  ],
  'made by start-up; a guest cannot change it': [
    'Area', 'Pages', 'IoPageTable', 'ReservedRanges', 'AreaTree', 'PackedAreas', 'Accounting', 'MmapTable', 'PhysicalGroup', 'Vdevice',
    'Ioas', 'Device', 'HwptPaging', 'RiscvPaging', 'Memfd', 'ScatteredBacking',
  ],
  'a machine does not have it': ['DmabufSource', 'Dmabuf', 'Access', 'HwQueue', 'FaultInjection'],
  'a machine that has it is refused': ['StaleTranslations'],
  'made again from what the snapshot says of the devices in ports': ['HotPlug', 'Devices'],
};

interface Class {
  readonly file: string;
  readonly name: string;
  readonly isDeclared: boolean;
  /** Fields that can change and are in no declaration. */
  readonly forgotten: readonly string[];
}

const collection = /^\(?(new (Map|Set|Uint|Int|Float|BigUint|Array)|\[|Array\.from|\{ )/;

const classesOf = (file: string): Class[] => {
  const text = readFileSync(file, 'utf8');
  return [...text.matchAll(/^(?:export )?(?:abstract )?class (\w+)[^{]*\{\n(.*?)^\}/gms)].map(
    ([, name = '', body = '']) => {
      const blocks = body.matchAll(
        /^ {2}(?:override )?(?:readonly )?(?:get )?#?(?:saved|save|restore|queueState|registers|takeUp)\w*\b(?:[^\n]*;\n|.*?^ {2}(?:\}\)?|\));?$)/gms,
      );
      const declared = [...blocks].map(([block]) => block).join('\n');
      const fields = body.matchAll(/^ {2}(?!static )(?:override )?(readonly )?(#?\w+)(?::[^=\n]*)?(?: = (.*?))?;?$/gm);
      const forgotten = [...fields].flatMap(([, isReadonly, field = '', value = '']) => {
        const plain = field.replace('#', '');
        const isState = isReadonly === undefined || collection.test(value);
        return isState && !new RegExp(`\\b${plain}\\b`).test(declared) ? [plain] : [];
      });
      return { file, name, isDeclared: /^ {2}(override )?(readonly |get )#?saved\w*\b/m.test(body), forgotten };
    },
  );
};

const filesOf = (place: string): string[] =>
  place.endsWith('.ts')
    ? [place]
    : readdirSync(place, { recursive: true, encoding: 'utf8' })
        .filter((file) => file.endsWith('.ts'))
        .map((file) => join(place, file));

const classes = folders
  .flatMap(filesOf)
  .filter((file) => !elsewhere.some((place) => file.startsWith(place)))
  .flatMap(classesOf);

describe('what a snapshot holds', () => {
  it('is declared by the classes of every folder with state', () => {
    expect(classes.filter(({ isDeclared }) => isDeclared).length).toBeGreaterThan(55);
  });

  it('leaves out no field that changes, unless there is a reason', () => {
    const known = new Set(Object.values(unsaved).flat());
    const found = classes
      .filter(({ isDeclared }) => isDeclared)
      .flatMap(({ file, name, forgotten }) => forgotten.map((field) => [`${name}.${field}`, file] as const))
      .filter(([field]) => !known.has(field));
    expect(found, 'save these, or say above why not').toEqual([]);
  });

  it('leaves out no class whose objects change, unless there is a reason', () => {
    const known = new Set(Object.values(undeclared).flat());
    const found = classes
      .filter(({ isDeclared, forgotten, name }) => !isDeclared && forgotten.length > 0 && !known.has(name))
      .map(({ file, name, forgotten }) => `${file}: ${name} (${forgotten.join(', ')})`);
    expect(found, 'declare what is saved of these, or say above why nothing is').toEqual([]);
  });

  it('has no reason for a class or a field that is not there', () => {
    const fields = new Set(classes.flatMap(({ name, forgotten }) => forgotten.map((field) => `${name}.${field}`)));
    const names = new Set(classes.map(({ name }) => name));
    expect(Object.values(unsaved).flat().filter((field) => !fields.has(field))).toEqual([]); // prettier-ignore
    expect(Object.values(undeclared).flat().filter((name) => !names.has(name))).toEqual([]); // prettier-ignore
  });

  it('leaves out only cells of a hart that are there', () => {
    const state = hartState(new Arena(4096));
    const cells = Object.entries(state).flatMap(([name, cell]) => (cell instanceof Cell ? [name] : []));
    expect([...unsavedCells].filter((name) => !cells.includes(name))).toEqual([]);
    // Whoever adds one decides whether it is saved: everything is, unless it is named in `unsavedCells`.
    expect(cells.filter((name) => !unsavedCells.has(name))).toMatchInlineSnapshot(`
      [
        "left",
        "sliceEnd",
        "runEnd",
        "pc",
        "stop",
        "priv",
        "fflags",
        "frm",
        "reservation",
        "cause",
        "tval",
        "mstatus",
        "mie",
        "softPending",
        "wiredPending",
        "satp",
        "menvcfg",
        "stimecmp",
        "timeBase",
        "timeFrom",
        "instretOffset",
        "cycleOffset",
        "superFirst",
        "superLast",
        "trapCount",
        "trapRetired",
        "crashCause",
        "crashValue",
        "crashPc",
      ]
    `);
  });
});
