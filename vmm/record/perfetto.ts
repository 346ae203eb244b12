/**
 * A run as a file that Perfetto opens (the Trace Event Format: JSON, times in microseconds): a process a device with a
 * track a PASID, page requests as asynchronous spans, and arrows from guest command to ioctl to effect.
 */
import type { FieldValue, TraceEvent, TraceSink } from '#vmm/base/events';
import { commands, type GuestCommand } from '#viommu/riscv/commands';
import { callName } from './call.ts';
import { catalogue, formatField } from './catalogue.ts';
import type { TextWriter } from './jsonl.ts';
import { plainName, type NameOf } from './narration.ts';
import { Spans } from './spans.ts';

const chunkCharacters = 1 << 16;
/** Events of one instant, kept until the next one begins. */
const mostPending = 4096;
/** Guest commands that wait for the ioctl that carries them. */
const mostDeferred = 256;
/** A guest cannot make more tracks than this: the rest share the last. */
const mostDevices = 4096;
/**
 * Virtual time stands still while an event leads to others; they are laid one nanosecond apart, in the order of cause
 * and effect, so that slices have a length and arrows a direction.
 */
const stepNs = 1;

interface Track {
  readonly pid: number;
  readonly tid: number;
}
const tracks = {
  viommu: { pid: 1, tid: 1, process: 'guest', name: 'vIOMMU' },
  mmio: { pid: 1, tid: 2, process: 'guest', name: 'MMIO' },
  interrupts: { pid: 1, tid: 3, process: 'guest', name: 'interrupts' },
  iommufd: { pid: 2, tid: 1, process: 'VMM and host kernel', name: 'iommufd calls' },
  driver: { pid: 2, tid: 2, process: 'VMM and host kernel', name: 'IOMMU driver' },
  host: { pid: 3, tid: 1, process: 'host IOMMU', name: 'commands and registers' },
} as const;
const firstDevicePid = 10;

/** How far from the guest: an event is caused by the next one that is told with a smaller depth. */
// prettier-ignore
const depths: readonly (readonly [prefix: string, depth: number])[] = [
  ['iommu.command', 1], ['viommu.', 2], ['iommufd.', 3], ['iommu.invalidate', 4], ['host.', 4], ['ats.invalidate', 4], ['pri.response', 4],
];
const hostDepth = 4;
const depthOf = ({ name, fields }: TraceEvent): number | undefined => {
  if (fields['unit'] === 'host') return hostDepth;
  return depths.find(([prefix]) => name.startsWith(prefix))?.[1];
};

interface Node {
  readonly event: TraceEvent;
  readonly depth: number | undefined;
  readonly children: Node[];
}
/** Where an arrow can begin. */
interface Placed extends Track {
  readonly ns: number;
}

const deferredCommands = new Set(
  Object.entries<GuestCommand>(commands).flatMap(([name, { deferred }]) => (deferred ? [name] : [])),
);

const us = (ns: number): string => (ns / 1000).toFixed(3);

export class PerfettoTrace {
  readonly #write: TextWriter;
  readonly #spans = new Spans();
  readonly #devices = new Map<string, number>();
  readonly #named = new Set<string>();
  #text = '{"displayTimeUnit":"ns","traceEvents":[';
  #separator = '\n';
  #pending: Node[] = [];
  #deferred: Placed[] = [];
  /** Virtual time of what is pending; every boot begins at 0 again. */
  #time = 0;
  #base = 0;
  /** The next free nanosecond. */
  #cursor = 0;
  #flows = 0;
  nameOf: NameOf = plainName;

  /** `write` gets pieces of the file in their order. */
  constructor(write: TextWriter) {
    this.#write = write;
  }

  readonly sink: TraceSink = (event) => {
    if (event.time !== this.#time || this.#pending.length >= mostPending) this.#flushInstant();
    if (event.time < this.#time) this.#base = this.#cursor;
    this.#time = event.time;
    const depth = depthOf(event);
    const children: Node[] = [];
    if (depth !== undefined)
      while (this.#pending.length > 0 && (this.#pending.at(-1)!.depth ?? 0) > depth)
        children.unshift(this.#pending.pop()!);
    this.#pending.push({ event, depth, children });
  };

  /** Ends what is open, and the file. */
  finish(): void {
    this.#flushInstant();
    for (const { name, key } of this.#spans.open()) this.#asynchronous('e', name, key, tracks.viommu, this.#cursor);
    this.#write(`${this.#text}\n]}\n`);
    this.#text = '';
  }

  #flushInstant(): void {
    const nodes = this.#pending;
    this.#pending = [];
    for (const node of nodes) this.#lay(node);
  }

  /** Writes an event and all that it led to. */
  #lay({ event, children }: Node): Placed {
    const start = Math.max(this.#base + event.time, this.#cursor);
    this.#cursor = start + stepNs;
    const track = this.#trackOf(event);
    const placed = { ...track, ns: start };
    const call = callName(event);
    if (event.name === 'iommufd.ioctl' && call === 'IOMMU_HWPT_INVALIDATE') {
      for (const from of this.#deferred) this.#arrow(from, placed);
      this.#deferred = [];
    }
    const ended = this.#spans.end(event);
    if (ended) this.#asynchronous('e', ended.name, ended.key, track, start);
    const begun = this.#spans.begin(event);
    if (begun) this.#asynchronous('b', begun.name, begun.key, track, start);
    const below = children.map((child) => this.#lay(child));
    this.#slice(event, call, track, start, this.#cursor - start);
    for (const to of below) this.#arrow(placed, to);
    if (event.fields['unit'] === 'viommu' && deferredCommands.has(call) && this.#deferred.length < mostDeferred)
      this.#deferred.push(placed);
    return placed;
  }

  #trackOf({ name, fields }: TraceEvent): Track {
    if (fields['unit'] === 'viommu' || name.startsWith('viommu.')) return this.#fixed(tracks.viommu);
    if (fields['unit'] === 'host' || name === 'iommu.invalidate') return this.#fixed(tracks.host);
    if (name.startsWith('iommufd.')) return this.#fixed(tracks.iommufd);
    if (name.startsWith('host.')) return this.#fixed(tracks.driver);
    if (name.startsWith('mmio.')) return this.#fixed(tracks.mmio);
    if (name.startsWith('imsic.')) return this.#fixed(tracks.interrupts);
    const { device, rid, pasid } = fields;
    const id = rid ?? fields['function'];
    if (device !== undefined) return this.#deviceTrack(String(device), pasid, 'device');
    if (typeof id === 'number') return this.#deviceTrack(this.nameOf(id), pasid, rid === undefined ? 'device' : 'DMA');
    return this.#fixed(tracks.mmio);
  }

  #fixed({ pid, tid, process, name }: Track & { readonly process: string; readonly name: string }): Track {
    this.#name(pid, tid, process, name);
    return { pid, tid };
  }

  #deviceTrack(device: string, pasid: FieldValue | undefined, what: 'device' | 'DMA'): Track {
    let pid = this.#devices.get(device);
    if (pid === undefined) {
      pid = firstDevicePid + Math.min(this.#devices.size, mostDevices);
      if (this.#devices.size < mostDevices) this.#devices.set(device, pid);
    }
    const id = typeof pasid === 'number' ? pasid : -1;
    const tid = id >= 0 ? id + 3 : what === 'device' ? 1 : 2;
    this.#name(pid, tid, device, id >= 0 ? `PASID ${id}` : what === 'device' ? 'device' : 'DMA without PASID');
    return { pid, tid };
  }

  /** Tells the names of a track when it is first used. */
  #name(pid: number, tid: number, process: string, thread: string): void {
    const key = `${pid} ${tid}`;
    if (this.#named.has(key)) return;
    this.#named.add(key);
    const named = (what: string, name: string): void =>
      this.#emit(`{"ph":"M","name":"${what}","pid":${pid},"tid":${tid},"args":{"name":${JSON.stringify(name)}}}`);
    named('process_name', process);
    named('thread_name', thread);
  }

  #slice(event: TraceEvent, call: string, { pid, tid }: Track, start: number, length: number): void {
    const kinds = catalogue.get(event.name)?.fields;
    const args: Record<string, FieldValue> = {};
    for (const key in event.fields) args[key] = formatField(kinds?.[key], event.fields[key]!);
    this.#emit(
      `{"ph":"X","name":${JSON.stringify(call)},"cat":"${event.name}","ts":${us(start)},"dur":${us(length)},"pid":${pid},"tid":${tid},"args":${JSON.stringify(args)}}`,
    );
  }

  #asynchronous(phase: 'b' | 'e', name: string, key: string, { pid, tid }: Track, ns: number): void {
    this.#emit(
      `{"ph":"${phase}","name":"${name}","cat":"${name}","id":${JSON.stringify(key)},"ts":${us(ns)},"pid":${pid},"tid":${tid}}`,
    );
  }

  #arrow(from: Placed, to: Placed): void {
    const id = ++this.#flows;
    const end = (ph: string, { pid, tid, ns }: Placed): void =>
      this.#emit(`{${ph},"name":"causes","cat":"cause","id":${id},"ts":${us(ns)},"pid":${pid},"tid":${tid}}`);
    end('"ph":"s"', from);
    end('"ph":"f","bp":"e"', to);
  }

  #emit(entry: string): void {
    this.#text += `${this.#separator}${entry}`;
    this.#separator = ',\n';
    if (this.#text.length < chunkCharacters) return;
    this.#write(this.#text);
    this.#text = '';
  }
}
