/** What a scenario file says: a machine, and the steps of a test of it. One table of steps, as of injections. */
import * as v from 'valibot';
import { doc, eventFields, hex64, hexBytes, virtualTime } from '../config/more-values.ts';
import { deviceSchemas, machineSchema } from '../config/schema.ts';
import { choice, flag, integer, text } from '../config/values.ts';
import type { DeviceDriver } from '../machine/devices.ts';
import { type InjectionKind, injections } from '../machine/inject.ts';

const longestNs = 1e13;
const within = () =>
  v.optional(
    doc('give up after so much virtual time (default: at the end of the run)', virtualTime({ min: 1, max: longestNs })),
  );
const words = (what: string) => text({ max: 4096, what, placeholder: 'text', pattern: /^[^\0]+$/s });
const eventName = () =>
  doc(
    'name of the event (iommulab trace list)',
    text({ max: 64, what: 'the name of an event', placeholder: 'event', pattern: /^[a-z0-9.-]+$/ }),
  );
const where = () => v.optional(doc('what its fields are: numbers, or globs', eventFields()), {});

const expectConsole = v.object({
  text: v.optional(doc('text that comes, behind what the expect-console before it found', words('text'))),
  pattern: v.optional(doc('the same as a regular expression', words('a regular expression'))),
  within: within(),
});

const expectEvent = v.object({
  event: eventName(),
  where: where(),
  times: v.optional(doc('how often it has to come', integer({ min: 1, max: 1e6 })), 1),
  since: v.optional(
    doc(
      'which events count: those behind the last one that was expected, or those from this step on',
      choice(['last', 'here']),
    ),
    'last',
  ),
  within: within(),
});

const expectNoEvent = v.object({
  event: eventName(),
  where: where(),
  for: v.optional(
    doc('watch so much virtual time (default: to the end of the run)', virtualTime({ min: 1, max: longestNs })),
  ),
  since: v.optional(
    doc('which events count: those from this step on, or all since power-on', choice(['here', 'boot'])),
    'here',
  ),
});

const dma = v.object({
  device: doc('id of the device', text({ max: 32, what: 'the id of a device', placeholder: 'id' })),
  address: doc('where, as the device sees memory', hex64()),
  length: v.optional(doc('bytes to read', integer({ min: 1, max: 1 << 20 })), 4),
  write: v.optional(doc('write these bytes instead of reading', hexBytes(4096))),
  pasid: v.optional(doc('PASID of the transaction', integer({ min: 0, max: 0xf_ffff }))),
  times: v.optional(doc('do it so often', integer({ min: 1, max: 1e5 })), 1),
  result: v.optional(doc('how it must end', choice(['done', 'fault'])), 'done'),
  bytes: v.optional(doc('what a read must yield', hexBytes(4096))),
});

const advance = v.object({
  time: v.optional(doc('run for so much virtual time', virtualTime({ min: 1, max: longestNs }))),
  instructions: v.optional(doc('run for so many instructions', integer({ min: 1, max: 1e12, suffix: true }))),
  address: v.optional(doc('run until a hart comes to this pc', hex64())),
});

const snapshotName = (what: string) =>
  doc(what, text({ max: 64, what: 'a name', placeholder: 'name', pattern: /^[A-Za-z0-9_-]+$/ }));
const snapshot = v.object({ name: snapshotName('what to call it') });
const resume = v.object({ name: snapshotName('what the snapshot step before called it') });

const outcomes = ['passed', 'failed', 'crashed', 'reset', 'timeout', 'limit'] as const;
const check = v.object({
  outcome: v.optional(doc('run to the end; it must be this', choice(outcomes))),
  code: v.optional(doc('the code with which the guest failed', integer({ min: 0, max: 0xffff_ffff }))),
  trap: v.optional(doc('glob of the trap that it crashed with', words('a glob'))),
  console: v.optional(doc('text that is somewhere in all of the console', words('text'))),
  'no-console': v.optional(doc('text that is nowhere on the console', words('text'))),
  register: v.optional(doc('a register of hart 0, compared with equals', words('the name of a register'))),
  stat: v.optional(
    doc(
      'a number of the statistics (hostFaults, ioctls.IOMMU_HWPT_ALLOC, devices.nvme0.reads …)',
      words('the path of a number'),
    ),
  ),
  equals: v.optional(doc('what the register or the number is', hex64())),
  min: v.optional(doc('the least that the number may be', integer({ min: 0, max: 2 ** 52 }))),
  max: v.optional(doc('the most that the number may be', integer({ min: 0, max: 2 ** 52 }))),
  memory: v.optional(doc('guest-physical address of RAM, compared with bytes', hex64())),
  disk: v.optional(
    doc(
      'id of a disk, compared with bytes at offset, or with another disk’s whole content',
      text({ max: 32, what: 'the id of a disk', placeholder: 'id' }),
    ),
  ),
  offset: v.optional(doc('byte of the disk', integer({ min: 0, max: 2 ** 52 })), 0),
  bytes: v.optional(doc('what must be there', hexBytes(4096))),
  crc32: v.optional(doc('CRC-32 of the disk’s bytes from offset, length of them', hex64())),
  length: v.optional(doc('bytes under crc32', integer({ min: 1, max: 1 << 30 })), 512),
  golden: v.optional(
    doc(
      'file, beside the scenario, that the console or the trace so far equals (--update-goldens writes it)',
      text({ max: 4096, what: 'the path of a file', placeholder: 'path' }),
    ),
  ),
  of: v.optional(doc('what the golden file holds', choice(['console', 'trace'])), 'console'),
});

/** The keys of a device's list in the configuration, but for the address, which the guest chooses. */
const deviceAdd = v.object({
  nvme: v.optional(doc('an NVMe controller', v.omit(deviceSchemas.disks, ['address']))),
  nic: v.optional(doc('a network card', v.omit(deviceSchemas.nics, ['address']))),
  exerciser: v.optional(doc('an exerciser', v.omit(deviceSchemas.exercisers, ['address']))),
} satisfies Record<DeviceDriver, unknown>);

const deviceDel = v.object({
  id: doc('which device', text({ max: 32, what: 'the id of a device', placeholder: 'id' })),
  surprise: v.optional(doc('tear it out, instead of asking the guest for it', flag()), false),
});

const injectionEntries = Object.fromEntries(
  Object.entries(injections).map(([kind, row]) => [kind, v.optional(doc(row.doc, row.schema as v.GenericSchema))]),
) as unknown as { readonly [K in InjectionKind]: v.OptionalSchema<(typeof injections)[K]['schema'], undefined> };

/** Every kind of step. A step is a group with one of these keys; a plain value stands for the first key of the kind. */
export const stepSchemas = {
  'expect-console': v.optional(doc('run until the guest writes this', expectConsole)),
  'expect-event': v.optional(
    doc('run until this event has come, behind the one of the expect-event before it', expectEvent),
  ),
  'expect-no-event': v.optional(doc('run on, and fail when this event comes', expectNoEvent)),
  inject: v.optional(doc('make something go wrong from here on', v.object(injectionEntries))),
  dma: v.optional(doc('let a device do a DMA, whatever its program does', dma)),
  advance: v.optional(doc('run for a while', advance)),
  snapshot: v.optional(
    doc('keep the machine as it is, and go on with a new one that is made from what was kept', snapshot),
  ),
  resume: v.optional(doc('go back to a machine that was kept; console and events go on', resume)),
  'device-add': v.optional(doc('plug a device into a free hot-plug port', deviceAdd)),
  'device-del': v.optional(doc('ask the guest for a device that was plugged in', deviceDel)),
  check: v.optional(doc('look at the machine, or run it to its end', check)),
  type: v.optional(doc('type on the console', v.object({ text: doc('what', words('text')) }))),
} as const;

const step = v.object(stepSchemas);

export const scenarioSchema = v.object({
  ...machineSchema.entries,
  name: v.optional(doc('what the scenario is called (default: its file)', words('text'))),
  claim: v.optional(doc('the sentence that it shows to be true', words('text'))),
  skip: v.optional(doc('do not run it, and say so', flag()), false),
  steps: v.optional(doc('what is done and expected, in this order', v.array(step)), []),
});

export type Step = v.InferOutput<typeof step>;
export type StepKind = keyof typeof stepSchemas;
export type StepOptions<K extends StepKind> = NonNullable<Step[K]>;
/** What may be written to describe a scenario. */
export type ScenarioInput = v.InferInput<typeof scenarioSchema>;
