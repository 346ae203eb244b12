/** The order and nesting of a region's blocks: dominators, loop heads, places where ways meet. */
import type { Block } from './discovery.ts';

export interface Node {
  readonly block: Block;
  /** Place in reverse postorder. */
  readonly order: number;
  dominator: Node;
  /** Nodes that this one immediately dominates. */
  readonly children: Node[];
  readonly successors: Node[];
  readonly predecessors: Node[];
  /** A way leads back here from a node that this one dominates. */
  isLoop: boolean;
  /** Several ways lead here from before. */
  isMerge: boolean;
  /** Instructions on the longest way from here to a loop head or out. */
  longest: number;
}

export const dominates = (a: Node, b: Node): boolean => {
  let at = b;
  while (at.order > a.order) at = at.dominator;
  return at === a;
};

/** Blocks that this one leads to. */
const inside = ({ next, taken }: Block): Block[] => {
  const out: Block[] = [];
  if (next?.block) out.push(next.block);
  if (taken?.block) out.push(taken.block);
  return out;
};

/** Blocks reachable from the first, in reverse postorder. */
const inOrder = (entry: Block): Block[] => {
  const order: Block[] = [];
  const seen = new Set([entry]);
  const stack = [{ block: entry, rest: inside(entry) }];
  while (stack.length > 0) {
    const top = stack[stack.length - 1]!;
    const next = top.rest.pop();
    if (!next) {
      order.push(top.block);
      stack.pop();
    } else if (!seen.has(next)) {
      seen.add(next);
      stack.push({ block: next, rest: inside(next) });
    }
  }
  return order.reverse();
};

const common = (first: Node, second: Node): Node => {
  let [a, b] = [first, second];
  while (a !== b) {
    while (a.order > b.order) a = a.dominator;
    while (b.order > a.order) b = b.dominator;
  }
  return a;
};

/** Iterates to the fixed point (Cooper, Harvey, Kennedy: "A Simple, Fast Dominance Algorithm"). */
const findDominators = (nodes: readonly Node[]): void => {
  const known = new Set([nodes[0]]);
  for (let changed = true; changed;) {
    changed = false;
    for (const node of nodes.slice(1)) {
      const [first, ...others] = node.predecessors.filter((one) => known.has(one));
      const found = others.reduce(common, first!);
      if (known.has(node) && node.dominator === found) continue;
      known.add(node);
      node.dominator = found;
      changed = true;
    }
  }
};

/** Nodes in reverse postorder, the entry first. */
export const flowGraph = (entry: Block): readonly Node[] => {
  const blocks = inOrder(entry);
  const of = new Map<Block, Node>();
  const nodes = blocks.map((block, order) => {
    const node = {
      block,
      order,
      children: [],
      successors: [],
      predecessors: [],
      isLoop: false,
      isMerge: false,
      longest: 0,
    } as Omit<Node, 'dominator'> as Node;
    node.dominator = node;
    of.set(block, node);
    return node;
  });
  for (const node of nodes)
    for (const block of inside(node.block)) {
      const to = of.get(block)!;
      node.successors.push(to);
      to.predecessors.push(node);
    }
  findDominators(nodes);
  for (const node of nodes.slice(1)) node.dominator.children.push(node);
  for (const node of nodes) {
    node.isLoop = node.predecessors.some((from) => from.order >= node.order && dominates(node, from));
    node.isMerge = node.predecessors.filter((from) => from.order < node.order).length > 1;
  }
  for (const node of [...nodes].reverse()) {
    const onwards = node.successors.filter((to) => to.order > node.order && !to.isLoop);
    node.longest = node.block.instructions.length + Math.max(0, ...onwards.map((to) => to.longest));
  }
  return nodes;
};
