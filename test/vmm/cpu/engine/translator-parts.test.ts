import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { randomFrom } from '#test/vmm/cpu/riscv/torture-program';
import { CodeBuffer } from '#vmm/cpu/engine/code-buffer';
import { type Block, discover, type Discovered } from '#vmm/cpu/engine/discovery';
import { dominates, flowGraph, type Node } from '#vmm/cpu/engine/flow-graph';
import { codePageBytes, slot, slotsPerPage } from '#vmm/cpu/engine/layout';
import { type Filler, hole, type Operands, Template } from '#vmm/cpu/engine/template';
import type { InstructionSet, Translation } from '#vmm/cpu/engine/translation';
import { i64, label, br } from '#vmm/cpu/engine/wasm';

/** A value and how many bytes it took, as the WebAssembly specification reads LEB128 (§5.2.2). */
const readLeb = (bytes: Uint8Array, isSigned: boolean): { value: bigint; length: number } => {
  let [value, shift, at] = [0n, 0n, 0];
  for (;;) {
    const byte = bytes[at++]!;
    value |= BigInt(byte & 127) << shift;
    shift += 7n;
    if (byte & 128) continue;
    return { value: isSigned && byte & 64 ? value - (1n << shift) : value, length: at };
  }
};

describe('CodeBuffer', () => {
  it('appends LEB128 that reads back, in as few bytes as can be', () => {
    fc.assert(
      fc.property(fc.integer(), fc.nat({ max: 0xffff_ffff }), (signed, unsigned) => {
        const out = new CodeBuffer();
        out.reserve(16);
        out.signed(signed);
        const one = readLeb(out.bytes, true);
        expect(one).toEqual({ value: BigInt(signed), length: out.length });
        const bits = (signed < 0 ? ~signed : signed).toString(2).replace(/^0$/, '').length + 1;
        expect(one.length).toBe(Math.ceil(bits / 7));
        out.clear();
        out.unsigned(unsigned);
        expect(readLeb(out.bytes, false)).toEqual({ value: BigInt(unsigned), length: out.length });
        expect(out.length).toBe(Math.max(1, Math.ceil(unsigned.toString(2).replace(/^0$/, '').length / 7)));
      }),
    );
    for (const value of [0, -1, 63, 64, -64, -65, 8191, 8192, -8192, -8193, 2 ** 31 - 1, -(2 ** 31)]) {
      const out = new CodeBuffer();
      out.signed(value);
      expect(readLeb(out.bytes, true)).toEqual({ value: BigInt(value), length: out.length });
    }
  });

  it('keeps what it holds when it grows, and says how long a part is', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 40_000 }), { maxLength: 6 }), (parts) => {
        const out = new CodeBuffer();
        const expected: number[] = [];
        for (const part of parts) {
          const inner = new CodeBuffer();
          inner.append(part);
          out.sized(inner);
          const { value, length } = readLeb(out.bytes.subarray(expected.length), false);
          expect(value).toBe(BigInt(part.length));
          for (const byte of out.bytes.subarray(expected.length, expected.length + length)) expected.push(byte);
          for (const byte of part) expected.push(byte);
        }
        expect(Buffer.compare(out.bytes, Uint8Array.from(expected))).toBe(0);
      }),
      { numRuns: 20 },
    );
  });
});

/** A graph by each block's successors; block 0 is the entry. */
const graph = fc.integer({ min: 1, max: 14 }).chain(
  (count) =>
    fc.array(fc.tuple(fc.option(fc.nat({ max: count - 1 })), fc.option(fc.nat({ max: count - 1 })), fc.integer({ min: 0, max: 5 })), { minLength: count, maxLength: count }), // prettier-ignore
);
const blocksOf = (shape: readonly (readonly [number | null, number | null, number])[]): Block[] => {
  const blocks = shape.map(([, , length], i): Block => ({ offset: 16 * i, instructions: Array.from({ length }, () => ({}) as never), flow: 'branch', taken: undefined, next: undefined })); // prettier-ignore
  shape.forEach(([next, taken], i) => {
    if (next !== null) blocks[i]!.next = { offset: 16 * next, block: blocks[next]! };
    if (taken !== null) blocks[i]!.taken = { offset: 16 * taken, block: blocks[taken]! };
  });
  return blocks;
};
/** Nodes that a walk from the entry finds without stepping on one of them. */
const reachable = (nodes: readonly Node[], without?: Node): Set<Node> => {
  const seen = new Set<Node>();
  const work = nodes[0] === without ? [] : [nodes[0]!];
  for (let node = work.pop(); node; node = work.pop()) {
    if (seen.has(node)) continue;
    seen.add(node);
    for (const to of node.successors) if (to !== without) work.push(to);
  }
  return seen;
};

describe('flowGraph', () => {
  it('finds the dominators that the definition names: without them there is no way', () => {
    fc.assert(
      fc.property(graph, (shape) => {
        const nodes = flowGraph(blocksOf(shape)[0]!);
        expect(reachable(nodes).size).toBe(nodes.length);
        nodes.forEach((node, i) => expect(node.order).toBe(i));
        for (const a of nodes) {
          const others = reachable(nodes, a);
          for (const b of nodes) expect(dominates(a, b), `${a.order} of ${b.order}`).toBe(!others.has(b));
        }
        for (const node of nodes.slice(1)) {
          expect(node.dominator).not.toBe(node);
          expect(node.dominator.children).toContain(node);
        }
      }),
      { numRuns: 500 },
    );
  });

  it('knows loop heads, merges, and a bound of the way to the next loop head or out', () => {
    fc.assert(
      fc.property(graph, (shape) => {
        const nodes = flowGraph(blocksOf(shape)[0]!);
        for (const node of nodes) {
          const back = node.predecessors.filter((from) => dominates(node, from));
          expect(node.isLoop).toBe(back.length > 0);
          expect(node.isMerge).toBe(node.predecessors.filter((from) => from.order < node.order).length > 1);
          // What the emitter follows: onwards, and not into a loop head.
          const longest = (at: Node): number =>
            at.block.instructions.length + Math.max(0, ...at.successors.filter((to) => to.order > at.order && !to.isLoop).map(longest)); // prettier-ignore
          expect(node.longest).toBe(longest(node));
        }
      }),
      { numRuns: 300 },
    );
  });
});

const filler = (): Filler & { readonly flows: number[] } => {
  const flows: number[] = [];
  return {
    out: new CodeBuffer(),
    flows,
    local: (register) => 20 + register,
    imported: () => 3,
    distance: () => 5,
    flow: (depth) => flows.push(depth),
  };
};

describe('templates', () => {
  it('are filled with registers, constants and places, never with more bytes than they said', () => {
    const target = label('away');
    const template = new Template([
      hole.set(({ a }) => a, i64.add(hole.get(({ b }) => b), hole.i64(({ imm }) => imm))),
      hole.set(({ c }) => c, hole.offset('next')),
      hole.set(({ a }) => a, i64.extendS(hole.behind(true)), true),
      br(target),
    ]); // prettier-ignore
    const register = fc.integer({ min: -1, max: 64 });
    fc.assert(
      fc.property(register, register, register, fc.integer(), fc.integer({ min: -(2 ** 20), max: 2 ** 20 }), fc.nat({ max: 600 }), (a, b, c, imm, offset, behind) => {
        const into = filler();
        const operands: Operands = { a, b, c, imm };
        template.fill(into, operands, { offset, bytes: 4, behind });
        expect(into.out.length).toBeLessThanOrEqual(template.bytes);
        const expected = new CodeBuffer();
        expected.reserve(100);
        const get = (from: number): void => (from < 0 ? expected.two(0x42, 0) : expected.two(0x20, 20 + from));
        const set = (to: number): void => (to < 0 ? expected.byte(0x1a) : expected.two(0x21, 20 + to));
        get(b);
        expected.byte(0x42);
        expected.signed(imm);
        expected.byte(0x7c);
        set(a);
        expected.byte(0x42);
        expected.signed(offset + 4);
        set(c);
        expected.byte(0x41);
        expected.signed(behind + 1);
        expected.byte(0xac);
        set(a);
        expected.two(0x0c, 5);
        expect([...into.out.bytes]).toEqual([...expected.bytes]);
        const [uses, writes] = [new Uint8Array(65), new Uint8Array(65)];
        template.registers(operands, uses, writes);
        for (let i = 0; i < 65; i++) {
          expect(uses[i]).toBe(Number(i === a || i === b || i === c));
          expect(writes[i]).toBe(Number(i === a || i === c));
        }
      }),
      { numRuns: 200 },
    ); // prettier-ignore
  });

  it('say how deep control leaves them', () => {
    expect(new Template(hole.set(() => 1, i64.const(2))).flowDepth).toBeUndefined();
    expect(new Template(hole.flow()).flowDepth).toBe(0);
    const into = filler();
    new Template([hole.flow()]).fill(into, { a: 0, b: 0, c: 0, imm: 0 }, { offset: 0, bytes: 4, behind: 0 });
    expect(into.flows).toEqual([0]);
  });
});

/** An instruction set of four instructions: handler 10 goes on, 11 branches, 12 jumps, 13 jumps anywhere. */
const flows = { 10: 'next', 11: 'branch', 12: 'jump', 13: 'indirect' } as const;
const empty = new Template([]);
const toy: InstructionSet = {
  translation: (handler): Translation | undefined => {
    const flow = (flows as Record<number, Translation['flow']>)[handler];
    return flow && { template: empty, bytes: 4, flow, returns: false };
  },
  distance: ({ imm }) => imm,
  calls: () => false,
  target: () => undefined,
  registers: 0,
  registerAddress: () => 0,
  chain: {} as never,
};
const pages = 3;

const everyBlock = ({ entry }: Discovered): Block[] => {
  const seen = new Set<Block>();
  const work = [entry];
  for (let block = work.pop(); block; block = work.pop()) {
    if (seen.has(block)) continue;
    seen.add(block);
    for (const edge of [block.next, block.taken]) if (edge?.block) work.push(edge.block);
  }
  return [...seen];
};

describe('discover', () => {
  it('gathers what control can reach and nothing else, in blocks that neither overlap nor cross a page', () => {
    fc.assert(
      fc.property(fc.nat(), fc.nat({ max: 900 }), (seed, start) => {
        const random = randomFrom(seed);
        const view = new DataView(new ArrayBuffer(pages * codePageBytes));
        const at = (offset: number): number =>
          Math.floor(offset / 4096) * codePageBytes + (offset % 4096) * (slot.bytes / 2);
        for (let i = 0; i < (pages * slotsPerPage) / 2; i++) {
          view.setUint16(at(4 * i), [10, 10, 10, 11, 12, 13, 99][random(7)]!, true);
          view.setInt32(at(4 * i) + slot.imm, 4 * (random(800) - 400), true);
          if (random(2)) view.setUint16(at(4 * i) + slot.heat, 1, true);
        }
        const handlerAt = (offset: number): number => view.getUint16(at(offset), true);
        const page = (distance: number): number | undefined => (distance >= 0 && distance < pages ? distance * codePageBytes : undefined); // prettier-ignore
        const found = discover(view, toy, { page, decode: () => undefined, hot: 1 }, 4 * start);
        expect(found === undefined).toBe(handlerAt(4 * start) === 99);
        if (!found) return;
        const seen = new Map<number, Block>();
        for (const block of everyBlock(found)) {
          let offset = block.offset;
          for (const { offset: where, translation } of block.instructions) {
            expect(where).toBe(offset);
            expect(seen.get(where)).toBeUndefined();
            seen.set(where, block);
            expect(translation.flow).toBe((flows as Record<number, string>)[handlerAt(where)]);
            expect(Math.floor(where / 4096)).toBe(Math.floor(block.offset / 4096));
            offset += 4;
          }
          // Nothing but the last one leads elsewhere.
          for (const { translation } of block.instructions.slice(0, -1)) expect(translation.flow).toBe('next');
          const last = block.instructions.at(-1);
          for (const edge of [block.next, block.taken]) if (edge?.block) expect(edge.block.offset).toBe(edge.offset);
          if (last && block.flow !== 'interpret' && block.flow !== 'next') {
            if (block.flow === 'branch') expect(block.next!.offset).toBe(offset);
            if (block.flow !== 'indirect') expect(block.taken!.offset).toBe(last.offset + view.getInt32(at(last.offset) + slot.imm, true)); // prettier-ignore
          } else if (block.next) expect(block.next.offset).toBe(offset);
        }
        expect(found.entry.offset).toBe(4 * start);
        expect(found.instructions).toBeLessThanOrEqual(1300);
        for (const distance of found.pages.keys()) expect(page(distance)).toBeDefined();
      }),
      { numRuns: 60 },
    );
  });
});
