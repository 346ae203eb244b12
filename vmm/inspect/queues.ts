import { hex } from '#vmm/base/address';
import { access, type MemoryPort } from '#iommufd/arch/riscv/ports';
import { decodeCommand } from '#iommufd/arch/riscv/commands';
import { causes, faultRecord, faultRecordBytes, pageRequestPayload, pageRequestRecord, pageRequestRecordBytes } from '#iommufd/arch/riscv/faults'; // prettier-ignore
import type { FrontEnd } from '#iommufd/arch/riscv/front-end';
import { cqcsr, fqcsr, offsets, pqcsr } from '#iommufd/arch/riscv/registers';
import { entryAddress, indexMask } from '#iommufd/arch/riscv/record-queue';
import { tableOwners, type TableOwner } from './contexts.ts';
import { ofMachine, type InspectionRow } from './inspection.ts';

/** Entries shown of a queue that holds more. */
const mostEntries = 64;

const causeNames = new Map(Object.values(causes).map(({ cause, name }) => [BigInt(cause), name]));

interface Queue {
  readonly name: string;
  readonly base: number;
  readonly head: number;
  readonly tail: number;
  readonly csr: number;
  readonly status: (value: bigint) => string;
  readonly entryBytes: number;
  readonly tell: (words: readonly bigint[], frontEnd: FrontEnd) => string;
}

const tellCommand = (words: readonly bigint[], frontEnd: FrontEnd): string => {
  const wired = (frontEnd.fctl & 2) !== 0;
  const context = { features: frontEnd.features, wired, deviceIdBits: frontEnd.deviceIdBits };
  const command = decodeCommand(words[0]!, words[1]!, context);
  if (!command) return `not a command: ${hex(words[0]!)}`;
  const operands = Object.entries(command.operands).filter(([, value]) => value !== 0n);
  return `${command.name} ${operands.map(([name, value]) => `${name}=${hex(value as bigint)}`).join(' ')}`.trimEnd();
};

// prettier-ignore
const queues: readonly Queue[] = [
  { name: 'command', base: offsets.cqb, head: offsets.cqh, tail: offsets.cqt, csr: offsets.cqcsr, status: (v) => cqcsr.describe(v), entryBytes: 16,
    tell: tellCommand },
  { name: 'fault', base: offsets.fqb, head: offsets.fqh, tail: offsets.fqt, csr: offsets.fqcsr, status: (v) => fqcsr.describe(v), entryBytes: faultRecordBytes,
    tell: (words) => `${causeNames.get(faultRecord.get(words[0]!, 'CAUSE')) ?? 'no cause of the specification'}: ${faultRecord.describe(words[0]!)} iotval=${hex(words[2]!)} iotval2=${hex(words[3]!)}` },
  { name: 'page-request', base: offsets.pqb, head: offsets.pqh, tail: offsets.pqt, csr: offsets.pqcsr, status: (v) => pqcsr.describe(v), entryBytes: pageRequestRecordBytes,
    tell: (words) => `${pageRequestRecord.describe(words[0]!)} ${pageRequestPayload.describe(words[1]!)}` },
];

function entryAt(memory: MemoryPort, base: bigint, index: number, bytes: number): readonly bigint[] | undefined {
  const entry = new Uint8Array(bytes);
  if (memory.load(entryAddress(base, index, bytes), entry) !== access.ok) return undefined;
  return [...new BigUint64Array(entry.buffer)];
}

function rowsOf({ unit, frontEnd, memory }: TableOwner, queue: Queue): InspectionRow[] {
  const csr = frontEnd.peek(queue.csr, 32);
  const base = frontEnd.peek(queue.base, 64);
  const head = Number(frontEnd.peek(queue.head, 32));
  const tail = Number(frontEnd.peek(queue.tail, 32));
  const mask = indexMask(Number(base & 31n));
  const isOn = (csr & 1n) === 1n;
  const waiting = isOn ? ((tail - head) & mask) >>> 0 : 0;
  const common = { unit, queue: queue.name };
  const address = entryAddress(base, 0, queue.entryBytes);
  const rows: InspectionRow[] = [
    {
      ...common,
      index: '',
      content: isOn
        ? `${waiting} of ${mask} at ${hex(address)}, head ${head}, tail ${tail}; ${queue.status(csr)}`
        : 'off',
    },
  ];
  for (let i = 0; i < Math.min(waiting, mostEntries); i++) {
    const index = ((head + i) & mask) >>> 0;
    const words = entryAt(memory, base, index, queue.entryBytes);
    rows.push({
      ...common,
      index: String(index),
      content: words ? queue.tell(words, frontEnd) : 'memory does not answer',
    });
  }
  if (waiting > mostEntries) rows.push({ ...common, index: '', content: `and ${waiting - mostEntries} more` });
  return rows;
}

export const queueTable = ofMachine({
  doc: 'Command, fault and page-request queues of the vIOMMU and of the host IOMMU, with the entries that wait in them.',
  columns: { unit: 'text', queue: 'text', index: 'text', content: 'text' },
  read: (machine) => tableOwners(machine).flatMap((owner) => queues.flatMap((queue) => rowsOf(owner, queue))),
});
