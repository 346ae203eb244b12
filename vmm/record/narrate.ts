import type { TraceEvent } from '#vmm/base/events';
import { formatBytes, formatCount } from './bytes.ts';
import { catalogue, formatField } from './catalogue.ts';
import type { Layer, Sum, Telling } from './narration.ts';
import { layers, sums, tellings } from './narration.ts';
import type { MachineStats } from './summary.ts';

/** What a line is, for whoever colours it. */
export type LineKind = 'step' | 'console' | 'warning' | 'total' | Layer;
export type LineWriter = (line: string, kind: LineKind) => void;

/** Of each kind of thing this many are told one by one in every step. */
const toldEach = 2;
const warningsEach = 5;
/** A guest that never ends its line, or makes up kinds of events, does not fill our memory. */
const longestLine = 512;
const mostKinds = 256;

/** Which layer speaks when no row of `tellings` says so. */
// prettier-ignore
const prefixes: readonly (readonly [string, Layer])[] = [
  ['iommufd.', 'iommufd'], ['vfio.', 'iommufd'], ['viommu.', 'viommu'], ['bridge.', 'viommu'],
  ['host.', 'hardware'], ['iotlb.', 'hardware'], ['walk.', 'hardware'], ['dma.', 'hardware'],
];

const layerOf = (name: string): Layer => prefixes.find(([prefix]) => name.startsWith(prefix))?.[1] ?? 'device';

/** A sentence for any event: its name and its fields. */
function sayAny(event: TraceEvent): string {
  const kinds = catalogue.get(event.name)?.fields;
  const fields = Object.entries(event.fields).map(([key, value]) => `${key}=${formatField(kinds?.[key], value)}`);
  return `${event.name} ${fields.join(' ')}`.trimEnd();
}

interface Told {
  count: number;
  readonly each: number;
  readonly layer: Layer;
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
  #told = new Map<string, Told>();
  #totals = new Map<string, Total>();
  #line = '';
  readonly #decode: (bytes: Uint8Array) => string;
  #before: MachineStats | undefined;
  /** Gives the counters of now, once there is a machine. */
  stats: (() => MachineStats) | undefined;

  /** `decode` turns console bytes into text (a streaming UTF-8 decoder). */
  constructor(write: LineWriter, decode: (bytes: Uint8Array) => string) {
    this.#write = write;
    this.#decode = decode;
  }

  /** Bytes that the guest wrote to its console. */
  console(bytes: Uint8Array): void {
    const lines = (this.#line + this.#decode(bytes)).split('\n');
    this.#line = lines.pop()!;
    if (this.#line.length > longestLine) lines.push(this.#line);
    if (this.#line.length > longestLine) this.#line = '';
    for (const line of lines) this.#consoleLine(line);
  }

  readonly sink = (event: TraceEvent): void => {
    const sum = sums[event.name];
    if (sum) return this.#add(event, sum);
    const telling = tellings[event.name];
    const level = catalogue.get(event.name)?.level ?? 'debug';
    if (level === 'debug' && !telling) return;
    if (level === 'warning') this.#tell(event, telling, warningsEach, 'warning');
    else this.#tell(event, telling, toldEach);
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
    if (step === undefined) return line === '' ? undefined : this.#write(`  │ ${line}`, 'console');
    this.#endStep();
    this.#write(`▶ ${step}`, 'step');
  }

  #tell(event: TraceEvent, telling: Telling | undefined, each: number, kind?: 'warning'): void {
    const layer =
      typeof telling?.layer === 'function' ? telling.layer(event.fields) : (telling?.layer ?? layerOf(event.name));
    const what = telling ? telling.kind(event.fields) : event.name;
    const key = `${layer} ${what}`;
    const told = this.#told.get(key);
    if (told) told.count++;
    else if (this.#told.size < mostKinds) this.#told.set(key, { count: 1, each, layer });
    if ((told?.count ?? 1) > each) return;
    const sentence = plain(telling ? telling.say(event.fields) : sayAny(event));
    this.#write(`${margin(layer)}${kind === 'warning' ? '! ' : ''}${sentence}`, kind ?? layer);
  }

  #add(event: TraceEvent, row: Sum): void {
    const device = row.device(event.fields);
    const key = `${device} ${row.what}`;
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
    for (const [key, { count, each, layer }] of this.#told) {
      const more = count - each;
      const what = key.slice(layer.length + 1);
      if (more > 0) this.#write(`${margin(layer)}… ${formatCount(more)} more: ${what}`, 'total');
    }
    const byDevice = new Map<string, string[]>();
    for (const { device, row, count, bytes, split } of this.#totals.values()) {
      const parts = [...split].map(([part, n]) => `${formatCount(n)} ${part}`);
      const detail = parts.length > 0 ? ` (${parts.join(', ')})` : '';
      const size = row.bytes ? `, ${formatBytes(bytes)}` : '';
      byDevice.set(device, [...(byDevice.get(device) ?? []), `${formatCount(count)} ${row.what}${detail}${size}`]);
    }
    for (const [device, said] of byDevice) this.#write(`${margin('device')}${device}: ${said.join('; ')}`, 'total');
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
      const messages = device.messages - (was?.messages ?? 0);
      const faults = device.faults - (was?.faults ?? 0);
      const parts = [
        reads > 0 ? `read ${formatBytes(device.readBytes - (was?.readBytes ?? 0))} in ${formatCount(reads)}` : '',
        writes > 0
          ? `wrote ${formatBytes(device.writtenBytes - (was?.writtenBytes ?? 0))} in ${formatCount(writes)}`
          : '',
        messages > 0 ? `sent ${formatCount(messages)} MSI` : '',
        faults > 0 ? `${formatCount(faults)} refused` : '',
      ].filter((part) => part !== '');
      if (parts.length > 0) this.#write(`${margin('hardware')}DMA of ${device.id}: ${parts.join(', ')}`, 'total');
    }
    const translations = now.translations - (before?.translations ?? 0);
    const walks = now.walks - (before?.walks ?? 0);
    const hits = now.iotlbHits - (before?.iotlbHits ?? 0);
    if (translations > 0)
      this.#write(
        `${margin('hardware')}${formatCount(translations)} translations: ${formatCount(hits)} IOTLB hits, ${formatCount(walks)} walks`,
        'total',
      );
  }
}

/** A guest's text cannot move the cursor or colour the terminal. */
// eslint-disable-next-line no-control-regex -- exactly the control characters
const plain = (line: string): string => line.replaceAll(/[\u0000-\u0008\u000a-\u001f\u007f-\u009f]/g, '');

/** `      iommufd  `: how deep, and who speaks. */
function margin(layer: Layer): string {
  const { depth, label } = layers[layer];
  return `${'  '.repeat(depth + 1)}${label.padEnd(8)}  `;
}
