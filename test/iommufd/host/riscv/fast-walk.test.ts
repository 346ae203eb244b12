import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ddtpMode, decodeCapabilities } from '#iommufd/arch/riscv/registers';
import {
  encodeDeviceContext,
  encodeDirectoryEntry,
  encodeProcessContext,
  pdi,
  pdtpMode,
} from '#iommufd/arch/riscv/tables';
import { HostMemoryPort } from '#iommufd/host/memory-port';
import { FastWalk } from '#iommufd/host/riscv/fast-walk';
import { firstStageModes } from '#iommufd/host/riscv/contexts';
import { levelsOf, rootsOf } from '#iommufd/host/riscv/port';
import { needOf, type TranslationRequest } from '#iommufd/host/riscv/translation';
import { Translator } from '#iommufd/host/riscv/translator';
import { HostMemory } from '#vmm/base/memory';
import { capabilities } from './rig.ts';

const features = decodeCapabilities(capabilities);
const memory = new HostMemory({ engineBytes: 1 << 20, poolBytes: 8 << 20, guestBytes: 2 << 20 });
const directory = memory.allocatePages()!;
/** What guest pages lie on: 2 MiB, aligned. */
const arena = memory.allocatePages(512)! / 4096;
const secondTables = memory.allocatePages(8)! / 4096;
const guestBlock = 0x80000;

interface Case {
  readonly first: number;
  readonly second: number;
  /** Level of each stage's leaf. */
  readonly firstLeaf: number;
  readonly secondLeaf: number;
  readonly firstFlags: number;
  /** Bits 63:61 of the first stage's leaf: Svnapot (with the number of a 64 KiB page), Svpbmt (3 is reserved). */
  readonly firstHigh: number;
  readonly secondFlags: number;
  readonly iova: bigint;
  readonly write: boolean;
  readonly gade: boolean;
  readonly sade: boolean;
  readonly msi: boolean;
  /** Through a process directory of that mode (pdtp.MODE), or 0; undefined process: none sent, process 0 by default. */
  readonly directory: number;
  readonly process: number | undefined;
  /** Bits turned over in entries of the path, and in the process directory's. */
  readonly flips: readonly (readonly [entry: number, bit: number])[];
  readonly contextFlips: readonly (readonly [entry: number, bit: number])[];
}

const flags = fc.constantFrom(0xdf, 0xdf, 0xdf, 0xdf, 0xd7, 0xd3, 0x57, 0xff, 0x1f, 0x9f, 0xcf, 0xd9);
const arbitrary: fc.Arbitrary<Case> = fc.record({
  first: fc.constantFrom(0, 8, 9, 10),
  second: fc.constantFrom(0, 8, 9, 10),
  firstLeaf: fc.constantFrom(0, 0, 0, 1, 2),
  secondLeaf: fc.constantFrom(0, 0, 1),
  firstFlags: flags,
  firstHigh: fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.constantFrom(1, 2, 3, 4, 5) }), // prettier-ignore
  secondFlags: flags,
  iova: fc.oneof({ weight: 5, arbitrary: fc.bigInt(0n, (1n << 38n) - 1n) }, { weight: 1, arbitrary: fc.bigInt(0n, (1n << 64n) - 1n) }), // prettier-ignore
  write: fc.boolean(),
  gade: fc.boolean(),
  sade: fc.boolean(),
  msi: fc.boolean(),
  directory: fc.constantFrom(0, 0, pdtpMode.PD8, pdtpMode.PD17, pdtpMode.PD20),
  process: fc.option(fc.nat(0xf_ffff), { nil: undefined, freq: 4 }),
  flips: fc.oneof({ weight: 3, arbitrary: fc.constant([]) }, { weight: 2, arbitrary: fc.array(fc.tuple(fc.nat(15), fc.nat(63)), { maxLength: 3 }) }), // prettier-ignore
  contextFlips: fc.oneof({ weight: 4, arbitrary: fc.constant([]) }, { weight: 1, arbitrary: fc.array(fc.tuple(fc.nat(3), fc.nat(63)), { maxLength: 2 }) }), // prettier-ignore
});

const put = (at: number, page: number, low: number): void =>
  memory.view.setBigUint64(at, (BigInt(page) << 10n) | BigInt(low), true);

/** log2 of the processes a directory holds, by pdtp.MODE. */
const processBits = [0, 8, 17, 20] as const;
/** Pages of the arena for a process directory, counted as guest pages: root first. */
const directoryPages = [6, 8, 10] as const;

/** Tables that map, then damaged as the case asks. Returns the IOVA to try. */
const build = (c: Case): { translator: Translator; iova: bigint; processId: number | undefined } => {
  memory.bytes.fill(0, arena * 4096, (arena + 64) * 4096);
  memory.bytes.fill(0, secondTables * 4096, (secondTables + 8) * 4096);
  const path: number[] = [];
  const nested = c.second !== 0;
  const base = nested ? guestBlock : arena;
  /** Host page of guest page base + i. */
  const host = (i: number): number => arena + (nested && c.secondLeaf === 0 ? i ^ 1 : i);
  if (nested) {
    let table = secondTables;
    let next = secondTables + 4;
    for (let level = c.second - 6; level > c.secondLeaf; level--) {
      const at = table * 4096 + ((guestBlock / 2 ** (9 * level)) & 511) * 8;
      path.push(at);
      put(at, next, 1);
      table = next++;
    }
    for (let i = 0; i < (c.secondLeaf === 0 ? 64 : 1); i++) {
      const at = table * 4096 + (((guestBlock + i) / 2 ** (9 * c.secondLeaf)) & 511) * 8;
      if (i % 8 === 0) path.push(at);
      put(at, c.secondLeaf === 0 ? arena + (i ^ 1) : arena, i >= 16 ? c.secondFlags : 0xdf);
    }
  }
  let { iova } = c;
  if (c.first === 0) iova = (BigInt(base + 20) << 12n) | (iova & 0xfffn);
  else {
    let table = 1;
    for (let level = c.first - 6; level > c.firstLeaf; level--) {
      const at = host(table) * 4096 + Number((iova >> BigInt(12 + 9 * level)) & 511n) * 8;
      path.push(at);
      put(at, base + table + 1, 1);
      table++;
    }
    const at = host(table) * 4096 + Number((iova >> BigInt(12 + 9 * c.firstLeaf)) & 511n) * 8;
    path.push(at);
    // A NAPOT leaf names 64 KiB: the low four bits of its number are 1000 (Svnapot).
    put(at, c.firstLeaf === 0 ? (c.firstHigh & 4 ? base + 24 : base + 20) : base, c.firstFlags);
    memory.view.setUint32(at + 4, memory.view.getUint32(at + 4, true) | (c.firstHigh << 29), true);
  }
  for (const [entry, bit] of c.flips) {
    const at = path[entry % Math.max(1, path.length)];
    if (at === undefined) continue;
    memory.view.setBigUint64(at, memory.view.getBigUint64(at, true) ^ (1n << BigInt(bit)), true);
  }
  const translator = new Translator({ memory: new HostMemoryPort(memory), features });
  translator.mode = ddtpMode['1LVL'];
  translator.rootPpn = BigInt(directory / 4096);
  const words = encodeDeviceContext(
    {
      tc: {
        V: 1n,
        GADE: c.gade ? 1n : 0n,
        SADE: c.sade ? 1n : 0n,
        PDTV: c.directory ? 1n : 0n,
        DPE: c.directory ? 1n : 0n,
      },
      iohgatp: { MODE: BigInt(c.second), GSCID: 0n, PPN: BigInt(secondTables) },
      fsc: c.directory
        ? { MODE: BigInt(c.directory), PPN: BigInt(base + directoryPages[0]) }
        : { MODE: BigInt(c.first), PPN: BigInt(base + 1) },
      msiptp: { MODE: c.msi && nested ? 1n : 0n, PPN: BigInt(arena + 40) },
      msi_addr_mask: 3n,
      msi_addr_pattern: BigInt(guestBlock + 20),
    },
    true,
  );
  words.forEach((word, i) => memory.view.setBigUint64(directory + 8 * i, word, true));
  if (!c.directory) return { translator, iova, processId: undefined };
  const entries: number[] = [];
  const processId = c.process === undefined ? undefined : c.process & (2 ** processBits[c.directory]! - 1);
  directoryPages.slice(0, c.directory).forEach((page, depth) => {
    const level = (c.directory - 1 - depth) as 0 | 1 | 2;
    const at = host(page) * 4096 + pdi(processId ?? 0, level) * (level === 0 ? 16 : 8);
    const context = encodeProcessContext({ ta: { V: 1n, PSCID: 77n }, fsc: { MODE: BigInt(c.first), PPN: BigInt(base + 1) } }); // prettier-ignore
    entries.push(at, ...(level === 0 ? [at + 8] : []));
    if (level > 0) memory.view.setBigUint64(at, encodeDirectoryEntry(BigInt(base + directoryPages[depth + 1]!)), true);
    else context.forEach((word, i) => memory.view.setBigUint64(at + 8 * i, word, true));
  });
  for (const [entry, bit] of c.contextFlips) {
    const at = entries[entry % entries.length]!;
    memory.view.setBigUint64(at, memory.view.getBigUint64(at, true) ^ (1n << BigInt(bit)), true);
  }
  return { translator, iova, processId };
};

/** Every table there is. */
const snapshot = (): Uint8Array[] => [
  memory.bytes.slice(arena * 4096, (arena + 64) * 4096),
  memory.bytes.slice(secondTables * 4096, (secondTables + 8) * 4096),
];

describe('the fast walk', () => {
  const took = { all: 0, nested: 0, super: 0, process: 0, context: 0, damagedContext: 0, absent: 0, napot: 0, pbmt: 0 };
  it('answers what the plain, spec-ordered walk answers, or leaves it to that', () => {
    const modes = firstStageModes(features).reduce((mask, mode) => mask | (1 << mode), 0);
    const fast = new FastWalk(memory.i32, memory.poolBase, memory.end, modes);
    fc.assert(
      fc.property(arbitrary, (c) => {
        const { translator, iova, processId } = build(c);
        const request: TranslationRequest = {
          deviceId: 0,
          processIdValid: processId !== undefined,
          processId: processId ?? 0,
          supervisor: false,
          execute: false,
          write: c.write,
          type: 'untranslated',
          noWrite: false,
          iova,
        };
        const dc = translator.locateDevice(0);
        if (!('dtf' in dc)) throw new Error(`no device context: ${dc.name}`);
        const roots = rootsOf(dc)!;
        const isContextRead = processId !== undefined && fast.process(roots, processId);
        const space = translator.enter(request, needOf(request));
        if (isContextRead) {
          if ('ok' in space) throw new Error('the plain walk finds no process context');
          const { pscid, mode, root, sum } = fast;
          expect([mode === 0 ? -1 : pscid, mode, BigInt(root), sum]).toEqual([space.pscid, space.mode, space.ppn, space.sum]); // prettier-ignore
          took.context++;
          if (c.contextFlips.length > 0) took.damagedContext++;
        } else expect(processId !== undefined && c.flips.length + c.contextFlips.length === 0).toBe(false);
        // A damaged context that is one all the same leads elsewhere: enough is known of it.
        if (c.contextFlips.length > 0 && c.directory !== 0) return;
        if ('ok' in space) {
          // Damage in the second stage may keep the process directory from being read: so it does for the other walk.
          expect(c.directory !== 0 && c.flips.length > 0 && !space.ok).toBe(true);
          return;
        }
        expect(space.pscid).toBe(c.first === 0 ? -1 : c.directory ? 77 : 0);
        const before = snapshot();
        const [hi, lo] = [Number(iova >> 32n) | 0, Number(iova & 0xffff_ffffn) | 0];
        const done = fast.walk(roots, levelsOf(space.mode), Number(space.ppn), hi, lo, c.write);
        const plain = translator.translate(request);
        if (fast.isAbsent) {
          // ATS answers at once where there is nothing.
          if (done || plain.ok) throw new Error('the plain walk finds what is not there');
          expect(plain.cause.cause).toBe(c.write ? 15 : 13);
          took.absent++;
        }
        if (plain.ok && c.firstHigh & 4 && c.first !== 0) took.napot++;
        if (plain.ok && plain.pbmt !== 0) took.pbmt++;
        if (!done) {
          // What is plain and simple must not be left over.
          const isSimple =
            c.flips.length === 0 && c.firstHigh === 0 && c.firstFlags === 0xdf && c.secondFlags === 0xdf && !c.msi;
          expect(isSimple && plain.ok && (c.first === 0 || iova < 1n << 38n)).toBe(false);
          return;
        }
        took.all++;
        if (c.first && c.second) took.nested++;
        if (fast.shift > 12) took.super++;
        if (processId !== undefined) took.process++;
        if (!plain.ok) throw new Error(`the plain walk: ${plain.cause.name}`);
        expect([BigInt(fast.ppn), BigInt(fast.guestPpn)]).toEqual([plain.pa >> 12n, plain.gpa >> 12n]);
        expect(fast.shift).toBeLessThanOrEqual(plain.shift);
        expect([(fast.rights & 1) !== 0, (fast.rights & 2) !== 0, (fast.rights & 4) !== 0]).toEqual([plain.read, plain.write, plain.execute]); // prettier-ignore
        expect([fast.global, false]).toEqual([plain.global, plain.isMsi]);
        // And it needed no A or D update.
        snapshot().forEach((bytes, i) => expect(Buffer.compare(bytes, before[i]!)).toBe(0));
      }),
      { numRuns: 4000 },
    );
    expect(took.all).toBeGreaterThan(600);
    expect(took.nested).toBeGreaterThan(150);
    expect(took.super).toBeGreaterThan(50);
    expect(took.process).toBeGreaterThan(150);
    expect(took.context).toBeGreaterThan(300);
    expect(took.damagedContext).toBeGreaterThan(20);
    expect(took.absent).toBeGreaterThan(10);
    // Those are the plain walk's, which the fast one must have left alone.
    expect(took.napot).toBeGreaterThan(5);
    expect(took.pbmt).toBeGreaterThan(20);
  });
});
