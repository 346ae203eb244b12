import type { TraceEvent } from '#vmm/base/events';
import { formatBytes, formatCount } from './bytes.ts';
import { catalogue, formatField } from './catalogue.ts';
import type { Layer, NameOf, Sum } from './narration.ts';
import { layers, plainName, sums, tellings, untold } from './narration.ts';
import type { MachineStats } from './summary.ts';

/** One line of the story. */
export interface StoryLine {
  /** What it is: a step of the guest, its console, an event, a warning, or a sum over the step. */
  readonly kind: 'step' | 'console' | 'event' | 'warning' | 'total';
  /** Who speaks, of events, warnings and sums. */
  readonly layer?: Layer;
  readonly text: string;
}
export type LineWriter = (line: StoryLine) => void;

/** Of each kind of thing this many are told one by one in every step. */
const toldEach = 2;
const warningsEach = 5;
/** A guest that never ends its line, makes up kinds of events, or stops time, does not fill our memory. */
const longestLine = 512;
const mostKinds = 256;
const mostPending = 1024;

/** Which layer speaks when no row of `tellings` says so. */
// prettier-ignore
const prefixes: readonly (readonly [string, Layer])[] = [
  ['iommufd.', 'iommufd'], ['vfio.', 'iommufd'], ['viommu.', 'viommu'], ['host.', 'hardware'], ['dma.', 'hardware'],
];
const layerOf = (name: string): Layer => prefixes.find(([prefix]) => name.startsWith(prefix))?.[1] ?? 'device';

/** A sentence for any event: its name and its fields. */
function sayAny(event: TraceEvent): string {
  const kinds = catalogue.get(event.name)?.fields;
  const fields = Object.entries(event.fields).map(([key, value]) => `${key}=${formatField(kinds?.[key], value)}`);
  return `${event.name} ${fields.join(' ')}`.trimEnd();
}

/** One event of the present instant, with those that it led to. */
interface Node {
  readonly layer: Layer;
  readonly isWarning: boolean;
  readonly kind: string;
  readonly key: string;
  readonly each: number;
  readonly sentence: string;
  readonly children: Node[];
}
interface Told {
  count: number;
  shown: number;
  readonly layer: Layer;
  readonly kind: string;
}
interface Total {
  readonly device: string;
  readonly row: Sum;
  count: number;
  bytes: number;
  readonly split: Map<string, number>;
}

/**
 * Turns events and console text into the story of a run: each step the guest announces, under it what the layers did
 * about it, and at its end what was done in bulk.
 */
export class Narrator {
  readonly #write: LineWriter;
  readonly #decode: (bytes: Uint8Array) => string;
  /** Events of one instant, each behind what it led to. */
  #pending: Node[] = [];
  #instant = 0;
  #told = new Map<string, Told>();
  #totals = new Map<string, Total>();
  #line = '';
  #before: MachineStats | undefined;
  /** Gives the counters of now, once there is a machine. */
  stats: (() => MachineStats) | undefined;
  nameOf: NameOf = plainName;

  /** `decode` turns console bytes into text (a streaming UTF-8 decoder). */
  constructor(write: LineWriter, decode: (bytes: Uint8Array) => string) {
    this.#write = write;
    this.#decode = decode;
  }

  /** Bytes that the guest wrote to its console. */
  console(bytes: Uint8Array): void {
    const lines = (this.#line + this.#decode(bytes)).split('\n');
    this.#line = lines.pop()!;
    if (this.#line.length > longestLine) {
      lines.push(this.#line);
      this.#line = '';
    }
    for (const line of lines) this.#consoleLine(line);
  }

  /** Begins a step; what the one before did in bulk is told. */
  step(what: string): void {
    this.#endStep();
    this.#write({ kind: 'step', text: what });
  }

  readonly sink = (event: TraceEvent): void => {
    const sum = sums[event.name];
    if (sum) return this.#add(event, sum);
    if (untold.has(event.name)) return;
    const telling = tellings[event.name];
    const level = catalogue.get(event.name)?.level ?? 'debug';
    if (level === 'debug' && !telling) return;
    const { fields } = event;
    const layer = telling
      ? typeof telling.layer === 'function'
        ? telling.layer(fields)
        : telling.layer
      : layerOf(event.name);
    if (layer === undefined) return;
    if (event.time !== this.#instant || this.#pending.length >= mostPending) this.#flush();
    this.#instant = event.time;
    const isWarning = level === 'warning';
    const kind = telling ? telling.kind(fields, this.nameOf) : event.name;
    const children: Node[] = [];
    if (telling?.adopts)
      while (this.#pending.length > 0 && telling.adopts.includes(this.#pending.at(-1)!.layer))
        children.unshift(this.#pending.pop()!);
    this.#pending.push({
      layer,
      isWarning,
      kind,
      key: `${layer} ${kind}`,
      each: telling?.each ?? (isWarning ? warningsEach : toldEach),
      sentence: plain(telling ? telling.say(fields, this.nameOf) : sayAny(event)),
      children,
    });
  };

  /** The end of the run: what is still open is told. */
  finish(): void {
    if (this.#line !== '') this.#consoleLine(this.#line);
    this.#line = '';
    this.#endStep();
  }

  #consoleLine(raw: string): void {
    const line = plain(raw);
    const step = /^step: (.*)$/.exec(line)?.[1];
    if (step !== undefined) return this.step(step);
    if (line === '') return;
    this.#flush();
    this.#write({ kind: 'console', text: line });
  }

  #flush(): void {
    const nodes = this.#pending;
    if (nodes.length === 0) return;
    this.#pending = [];
    for (const node of nodes) this.#tell(node, true);
  }

  /** Whether it, or something that it led to, has not been told often enough in this step. */
  #isNews(node: Node): boolean {
    return (this.#told.get(node.key)?.count ?? 0) < node.each || node.children.some((child) => this.#isNews(child));
  }

  /** A node and all under it; a cause is told together with its effects, or neither is. */
  #tell(node: Node, mayShow: boolean): void {
    const isShown = mayShow && this.#isNews(node);
    let told = this.#told.get(node.key);
    if (!told) {
      told = { count: 0, shown: 0, layer: node.layer, kind: node.kind };
      if (this.#told.size < mostKinds) this.#told.set(node.key, told);
    }
    told.count++;
    if (isShown) {
      told.shown++;
      this.#write({ kind: node.isWarning ? 'warning' : 'event', layer: node.layer, text: node.sentence });
    }
    const here = new Map<string, number>();
    for (const child of node.children) {
      const before = here.get(child.key) ?? 0;
      here.set(child.key, before + 1);
      this.#tell(child, isShown && before < toldEach);
    }
  }

  #add(event: TraceEvent, row: Sum): void {
    const device = row.device(event.fields);
    const key = `${device} ${row.what[1]}`;
    let total = this.#totals.get(key);
    if (!total) {
      if (this.#totals.size >= mostKinds) return;
      this.#totals.set(key, (total = { device, row, count: 0, bytes: 0, split: new Map() }));
    }
    total.count++;
    total.bytes += row.bytes?.(event.fields) ?? 0;
    if (row.split && total.split.size < mostKinds) {
      const part = row.split(event.fields);
      total.split.set(part, (total.split.get(part) ?? 0) + 1);
    }
  }

  #endStep(): void {
    this.#flush();
    for (const layer of Object.keys(layers) as Layer[]) {
      const rest = [...this.#told.values()].filter((told) => told.layer === layer && told.count > told.shown);
      const said = rest.map(({ count, shown, kind }) => `${formatCount(count - shown)} × ${kind}`);
      if (said.length > 0) this.#write({ kind: 'total', layer: layer, text: `… and ${said.join(', ')}` });
    }
    const byDevice = new Map<string, string[]>();
    for (const { device, row, count, bytes, split } of this.#totals.values()) {
      const parts = [...split].map(([part, n]) => `${formatCount(n)} ${part}`);
      const detail = parts.length > 0 ? ` (${parts.join(', ')})` : '';
      const size = row.bytes ? `, ${formatBytes(bytes)}` : '';
      byDevice.set(device, [...(byDevice.get(device) ?? []), `${counted(count, row.what)}${detail}${size}`]);
    }
    for (const [device, said] of byDevice)
      this.#write({ kind: 'total', layer: 'device', text: `${device}: ${said.join('; ')}` });
    this.#told = new Map();
    this.#totals = new Map();
    this.#tellHardware();
  }

  /** What the host IOMMU did for the devices' DMA since the last step. */
  #tellHardware(): void {
    const now = this.stats?.();
    if (!now) return;
    const before = this.#before;
    this.#before = now;
    for (const [i, device] of now.devices.entries()) {
      const was = before?.devices[i];
      const reads = device.reads - (was?.reads ?? 0);
      const writes = device.writes - (was?.writes ?? 0);
      const faults = device.faults - (was?.faults ?? 0);
      const readBytes = formatBytes(device.readBytes - (was?.readBytes ?? 0));
      const writtenBytes = formatBytes(device.writtenBytes - (was?.writtenBytes ?? 0));
      const parts = [
        reads > 0 ? `${readBytes} read in ${counted(reads, transactions)}` : '',
        writes > 0 ? `${writtenBytes} written in ${counted(writes, transactions)}` : '',
        faults > 0 ? `${formatCount(faults)} refused` : '',
      ].filter((part) => part !== '');
      if (parts.length > 0)
        this.#write({ kind: 'total', layer: 'hardware', text: `DMA of ${device.id}: ${parts.join(', ')}` });
    }
    const translations = now.translations - (before?.translations ?? 0);
    const walks = now.walks - (before?.walks ?? 0);
    const hits = now.iotlbHits - (before?.iotlbHits ?? 0);
    if (translations > 0)
      this.#write({
        kind: 'total',
        layer: 'hardware',
        text: `${counted(translations, ['translation', 'translations'])}: ${counted(hits, ['IOTLB hit', 'IOTLB hits'])}, ${counted(walks, ['walk', 'walks'])}`,
      });
  }
}

const transactions = ['transaction', 'transactions'] as const;
const counted = (count: number, [one, many]: readonly [string, string]): string =>
  `${formatCount(count)} ${count === 1 ? one : many}`;

/** A guest's text cannot move the cursor or colour the terminal. */
// eslint-disable-next-line no-control-regex -- exactly the control characters
const plain = (line: string): string => line.replaceAll(/[\u0000-\u0008\u000a-\u001f\u007f-\u009f]/g, '');

/** The line for a terminal: indented by its layer, `      iommufd  IOMMU_…`. */
export function storyText({ kind, layer, text }: StoryLine): string {
  if (kind === 'step') return `▶ ${text}`;
  if (layer === undefined) return `  │ ${text}`;
  const { depth, label } = layers[layer];
  return `${'  '.repeat(depth + 1)}${label.padEnd(8)} ${kind === 'warning' ? '! ' : ''}${text}`;
}
