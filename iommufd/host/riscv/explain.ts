/** A walk, entry by entry, for people: which entry was read where, what it says, and why the walk ended as it did. */
import { hex } from '#vmm/base/address';
import type { Register } from '#vmm/base/bits';
import type { MemoryPort } from '#iommufd/arch/riscv/ports';
import { dcTa, dcTc, directoryEntry, fsc, iohgatp, msi_addr_mask, msi_addr_pattern, msipteBasic, msipteMode, msipteMrif, msipteNotice, msiptp, pcTa } from '#iommufd/arch/riscv/tables'; // prettier-ignore
import { pte } from '../../pagetable/formats/riscv.ts';
import { type Iotlb, processTag, right, spaceTag } from '../iotlb.ts';
import { Probe } from './probe.ts';
import type { TranslationRequest } from './translation.ts';
import type { Translator } from './translator.ts';
import type { TableKind } from './walk-observer.ts';

/** One entry that the walk read. Addresses and values are hexadecimal text, as JSON has no 64-bit numbers. */
export interface ExplainedStep {
  readonly table: TableKind;
  /** Counts down to 0; absent of contexts. */
  readonly level?: number;
  /** The guest-physical address that the entry was read for; of the second stage, the address being translated. */
  readonly gpa?: string;
  readonly hpa: string;
  /** The entry's doublewords; absent where memory did not answer. */
  readonly words?: readonly string[];
  /** Fields that are not zero, by their names in the specification; flags have the value 1. */
  readonly fields: Readonly<Record<string, string>>;
  /** Why the walk ended here, or what else happened. */
  readonly notes: readonly string[];
}

export interface Explanation {
  readonly device: string;
  readonly pasid?: number;
  readonly iova: string;
  readonly access: 'read' | 'write' | 'execute';
  readonly privileged: boolean;
  readonly steps: readonly ExplainedStep[];
  readonly outcome:
    | {
        readonly kind: 'translated';
        readonly gpa: string;
        readonly hpa: string;
        readonly rights: string;
        /** log2 of the range for which this holds. */
        readonly shift: number;
        readonly memoryType: string;
        readonly isMsi: boolean;
      }
    | {
        readonly kind: 'fault';
        readonly cause: number;
        readonly name: string;
        readonly spec: string;
        readonly iotval2: string;
      };
  /** What the IOTLB would answer instead of walking; absent where it holds nothing for the page. */
  readonly cached?: { readonly hpa: string; readonly rights: string; readonly isStale: boolean };
}

const memoryTypes = ['PMA', 'NC', 'IO'] as const;
const msiLayouts = (low: bigint): readonly Register[] =>
  Number(msipteBasic.get(low, 'M')) === msipteMode.MRIF ? [msipteMrif, msipteNotice] : [msipteBasic];
/** What the doublewords of an entry are. */
const layouts: Readonly<Record<TableKind, (words: readonly bigint[]) => readonly Register[]>> = {
  DDT: () => [directoryEntry],
  DC: () => [dcTc, iohgatp, dcTa, fsc, msiptp, msi_addr_mask, msi_addr_pattern],
  PDT: () => [directoryEntry],
  PC: () => [pcTa, fsc],
  'stage 1': () => [pte],
  'stage 2': () => [pte],
  MSI: ([low = 0n]) => msiLayouts(low),
};
/** Names of the doublewords of a context, which have fields of the same name. */
const wordNames: Readonly<Partial<Record<TableKind, readonly string[]>>> = {
  DC: ['tc', 'iohgatp', 'ta', 'fsc', 'msiptp', 'msi_addr_mask', 'msi_addr_pattern'],
  PC: ['ta', 'fsc'],
};

/** Fields of an entry that are not zero, and reserved bits that are set. */
export const decodeTableEntry = (table: TableKind, words: readonly bigint[]): Readonly<Record<string, string>> => {
  const fields: Record<string, string> = {};
  layouts[table](words).forEach((layout, i) => {
    const word = words[i] ?? 0n;
    const prefix = wordNames[table] ? `${wordNames[table][i]}.` : '';
    for (const [name, { hi, lo, mask, shift, values }] of layout.fields) {
      const value = (word & mask) >> shift;
      if (value !== 0n) fields[prefix + name] = values[Number(value)] ?? (hi === lo ? '1' : hex(value));
    }
    if (word & layout.reserved) fields[`${prefix}reserved`] = hex(word & layout.reserved);
  });
  return fields;
};

const rightsText = (read: boolean, write: boolean, execute: boolean): string =>
  `${read ? 'r' : '-'}${write ? 'w' : '-'}${execute ? 'x' : '-'}`;

/**
 * Walks for a request as the silicon would now, with nothing cached and nothing changed. `device`: what to call it.
 */
export const explain = (
  translator: Translator,
  iotlb: Iotlb,
  memory: MemoryPort,
  request: TranslationRequest,
  device: string,
): Explanation => {
  const probe = new Probe(translator, memory);
  const { reads, result } = probe.translate(request);
  const steps = reads.map(({ table, level, gpa, hpa, words, notes }): ExplainedStep => ({
    table,
    ...(table === 'DC' || table === 'PC' || table === 'MSI' ? {} : { level }),
    ...(gpa === undefined || (table !== 'stage 2' && gpa === hpa) ? {} : { gpa: hex(gpa) }),
    hpa: hex(hpa),
    ...(words ? { words: words.map((word) => hex(word, 16)) } : {}),
    fields: words ? decodeTableEntry(table, words) : {},
    notes: words ? notes : [...notes, 'memory did not answer'],
  }));
  const cached = lookUp(probe, iotlb, request);
  return {
    device,
    ...(request.processIdValid ? { pasid: request.processId } : {}),
    iova: hex(request.iova),
    access: request.write ? 'write' : request.execute ? 'execute' : 'read',
    privileged: request.supervisor,
    steps,
    outcome: result.ok
      ? {
          kind: 'translated',
          gpa: hex(result.gpa),
          hpa: hex(result.pa),
          rights: rightsText(result.read, result.write, result.execute),
          shift: result.shift,
          memoryType: memoryTypes[result.pbmt] ?? '',
          isMsi: result.isMsi,
        }
      : {
          kind: 'fault',
          cause: result.cause.cause,
          name: result.cause.name,
          spec: result.cause.spec,
          iotval2: hex(result.iotval2),
        },
    ...(cached
      ? {
          cached: {
            hpa: hex(cached.hpa),
            rights: cached.rights,
            isStale: !result.ok || BigInt(cached.hpa) !== result.pa,
          },
        }
      : {}),
  };
};

const lookUp = (
  probe: Probe,
  iotlb: Iotlb,
  request: TranslationRequest,
): { hpa: number; rights: string } | undefined => {
  const space = probe.space(request);
  if (!space) return undefined;
  const [hi, lo] = [Number((request.iova >> 32n) & 0xffff_ffffn) | 0, Number(request.iova & 0xffff_ffffn) | 0];
  const tag = spaceTag(space.gscid, space.supervisor, space.supervisor && space.sum);
  const at = iotlb.lookup(tag, processTag(space.pscid), hi, lo);
  if (at < 0) return undefined;
  const rights = iotlb.rights(at);
  return {
    hpa: iotlb.address(at, lo),
    rights: rightsText((rights & right.read) !== 0, (rights & right.write) !== 0, (rights & right.execute) !== 0),
  };
};

/** The explanation as lines of text. */
export const explanationLines = ({ device, pasid, iova, access, steps, outcome, cached }: Explanation): string[] => {
  const lines = [`${device}${pasid === undefined ? '' : ` PASID ${pasid}`}: ${access} of ${iova}`];
  for (const { table, level, gpa, hpa, words, fields, notes } of steps) {
    const place = gpa === undefined ? `at ${hpa}` : table === 'stage 2' ? `at ${hpa} for GPA ${gpa}` : `at GPA ${gpa}, HPA ${hpa}`; // prettier-ignore
    lines.push(`  ${level === undefined ? table : `${table} level ${level}`} ${place}`);
    const said = Object.entries(fields).map(([name, value]) => (value === '1' ? name : `${name}=${value}`));
    if (words) lines.push(`      ${words.length === 1 ? `${words[0]} ` : ''}${said.join(' ') || 'all zero'}`);
    for (const note of notes) lines.push(`      → ${note}`);
  }
  if (outcome.kind === 'fault')
    lines.push(
      `fault ${outcome.cause}: ${outcome.name} (${outcome.spec})${outcome.iotval2 === '0x0' ? '' : `, iotval2 ${outcome.iotval2}`}`,
    );
  else
    lines.push(
      `GPA ${outcome.gpa}, HPA ${outcome.hpa}, ${outcome.rights}, for ${2 ** (outcome.shift - 10)} KiB${outcome.isMsi ? ', through the MSI page table' : ''}`,
    );
  if (cached)
    lines.push(
      `the IOTLB holds HPA ${cached.hpa}, ${cached.rights}${cached.isStale ? ': stale, tables say otherwise' : ''}`,
    );
  return lines;
};
