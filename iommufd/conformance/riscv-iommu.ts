/**
 * Replays recorded RISC-V IOMMU scenarios against the silicon model and compares every step: answers, memory, fault
 * and page-request records, messages, registers. Pure: it is handed parsed scenarios.
 */
import { access, type AccessResult, type DeviceMessage, type MemoryPort } from '#iommufd/arch/riscv/ports';
import { offsets } from '#iommufd/arch/riscv/registers';
import { encodeRange, RiscvIommu } from '#iommufd/host/riscv/iommu';
import type { TranslationRequest } from '#iommufd/host/riscv/translation';

type Hex = string;
type Bytes = readonly [Hex, string];
type Injection = readonly [Hex, number, 'access' | 'corrupt', string];
export interface Step {
  readonly op: string;
  readonly in: Readonly<Record<string, unknown>>;
  readonly out: Outcome;
  readonly out_spec?: Outcome;
  readonly alt?: Readonly<Record<string, Outcome>>;
  readonly tags?: readonly string[];
}
export interface Scenario {
  readonly id: string;
  readonly theme: string;
  readonly tags: readonly string[];
  readonly size: 'exact' | 'impl';
  readonly iommu: Readonly<Record<string, number>> & { readonly capabilities: Hex };
  readonly mem: readonly Bytes[];
  readonly inject: readonly Injection[];
  readonly setup: readonly (readonly [number, number, Hex])[];
  readonly regs_after_setup: Readonly<Record<string, Hex>>;
  readonly steps: readonly Step[];
}
/** Values as the recording spells them: numbers, hexadecimal text, lists. */
export type Outcome = Readonly<Record<string, unknown>>;

export interface StepFailure {
  readonly step: number;
  readonly op: string;
  /** One line a difference: what, expected, received. */
  readonly differences: readonly string[];
  /** False where the specification leaves the point open: reported, not failed. */
  readonly binding: boolean;
}
export interface ScenarioResult {
  readonly id: string;
  readonly steps: number;
  readonly failures: readonly StepFailure[];
}

/** Sparse memory below 2^56 with faults to order. */
class RecordedMemory implements MemoryPort {
  readonly #pages = new Map<number, Uint8Array>();
  inject: readonly { first: bigint; end: bigint; corrupt: boolean; ops: string }[] = [];
  /** Stores of the step: byte address → the byte before. */
  readonly before = new Map<bigint, number>();

  setInjections(list: readonly Injection[]): void {
    this.inject = list.map(([at, length, kind, ops]) => ({
      first: BigInt(at),
      end: BigInt(at) + BigInt(length),
      corrupt: kind === 'corrupt',
      ops,
    }));
  }

  #check(address: bigint, length: number, op: 'r' | 'w'): AccessResult {
    let result: AccessResult = access.ok;
    const end = address + BigInt(length);
    for (const one of this.inject)
      if (one.ops.includes(op) && address < one.end && end > one.first) {
        if (!one.corrupt) return access.fault;
        result = access.corrupt;
      }
    return result;
  }

  #page(address: bigint): Uint8Array {
    const number = Number(address >> 12n);
    let page = this.#pages.get(number);
    if (!page) this.#pages.set(number, (page = new Uint8Array(4096)));
    return page;
  }

  byte(address: bigint): number {
    return this.#pages.get(Number(address >> 12n))?.[Number(address & 0xfffn)] ?? 0;
  }

  poke(address: bigint, bytes: Uint8Array): void {
    for (let i = 0; i < bytes.length; i++) {
      const at = address + BigInt(i);
      this.#page(at)[Number(at & 0xfffn)] = bytes[i]!;
    }
  }

  load(address: bigint, into: Uint8Array): AccessResult {
    const result = this.#check(address, into.length, 'r');
    if (result === access.ok) for (let i = 0; i < into.length; i++) into[i] = this.byte(address + BigInt(i));
    return result;
  }

  store(address: bigint, from: Uint8Array): AccessResult {
    const result = this.#check(address, from.length, 'w');
    if (result !== access.ok) return result;
    for (let i = 0; i < from.length; i++) {
      const at = address + BigInt(i);
      if (!this.before.has(at)) this.before.set(at, this.byte(at));
    }
    this.poke(address, from);
    return result;
  }
}

const unhex = (text: string): Uint8Array => {
  const out = new Uint8Array(text.length / 2);
  for (let i = 0; i < out.length; i++) out[i] = Number.parseInt(text.slice(2 * i, 2 * i + 2), 16);
  return out;
};
const num = (value: unknown): number => Number(value ?? 0);
const big = (value: unknown): bigint => BigInt((value ?? 0) as string | number);
const flag = (value: boolean): number => (value ? 1 : 0);
const segmentOf = (step: Readonly<Record<string, unknown>>): number | undefined =>
  num(step['dsv']) ? num(step['dseg']) : undefined;

const openPrefixes = ['impl-', 'spec-silent', 'unspecified', 'warl-'];
const openTags = new Set(['recommended-only', 'exec-without-pid', 'stop-marker-without-pasid']);
/** True where a tag says that the specification leaves the result open. */
const isOpen = (tags: readonly string[]): boolean =>
  tags.some((tag) => openTags.has(tag) || openPrefixes.some((prefix) => tag.startsWith(prefix)));

class Replay {
  readonly #scenario: Scenario;
  readonly #memory = new RecordedMemory();
  readonly #iommu: RiscvIommu;
  readonly #bigEndian: boolean;
  #messages: Record<string, unknown>[] = [];
  #sync: number[][] = [];
  /** Recorded tag → ours, and back. */
  #tags = new Map<number, number>();
  #lastTags: number[] = [];

  constructor(scenario: Scenario) {
    this.#scenario = scenario;
    const { iommu } = scenario;
    for (const [at, bytes] of scenario.mem) this.#memory.poke(BigInt(at), unhex(bytes));
    this.#bigEndian = (iommu['fctl']! & 1) === 1;
    this.#iommu = new RiscvIommu({
      capabilities: BigInt(iommu.capabilities),
      memory: this.#memory,
      fctl: iommu['fctl']!,
      resetMode: iommu['reset_ddtp_mode']!,
      maxMode: iommu['max_ddtp_mode']!,
      vectorBits: iommu['num_vec_bits']!,
      qosMask: { RCID: iommu['rcid_mask']!, MCID: iommu['mcid_mask']! },
      counters: iommu['num_hpm']!,
      devices: {
        invalidate: (message, itag) => {
          this.#lastTags.push(itag);
          this.#messages.push({ kind: 'invalidation_request', ...fields(message) });
        },
        respond: (message) => this.#messages.push({ kind: 'prg_response', ...fields(message) }),
        fence: (reads, writes) => this.#sync.push([flag(reads), flag(writes)]),
      },
    });
    this.#memory.setInjections(scenario.inject);
    for (const [offset, width, value] of scenario.setup)
      this.#iommu.registers.write(offset, width as 4 | 8, width === 8 ? BigInt(value) : Number(value));
  }

  run(): ScenarioResult {
    const failures: StepFailure[] = [];
    const after = this.#registers();
    const wrong: string[] = [];
    for (let i = 0; i < after.length; i++) {
      const expected = num(this.#scenario.regs_after_setup[`0x${(4 * i).toString(16)}`]);
      if (after[i] !== expected) wrong.push(`register 0x${(4 * i).toString(16)}: ${expected} ≠ ${after[i]}`);
    }
    if (wrong.length > 0)
      failures.push({ step: -1, op: 'setup', differences: wrong, binding: !isOpen(this.#scenario.tags) });
    this.#scenario.steps.forEach((step, index) => {
      const differences = this.#step(step);
      if (differences.length > 0)
        failures.push({
          step: index,
          op: step.op,
          differences,
          binding: !isOpen([...(step.tags ?? []), ...this.#scenario.tags]),
        });
    });
    return { id: this.#scenario.id, steps: this.#scenario.steps.length, failures };
  }

  #registers(): number[] {
    const words: number[] = [];
    for (let offset = 0; offset < 0x400; offset += 4) words.push(this.#iommu.registers.read(offset, 4) as number);
    return words;
  }

  #step(step: Step): string[] {
    this.#iommu.flush();
    this.#memory.before.clear();
    this.#messages = [];
    this.#sync = [];
    this.#lastTags = [];
    const registers = this.#registers();
    const observed = this.#run(step);
    const now = this.#registers();
    const changed = new Map<number, number>();
    now.forEach((value, i) => {
      if (value !== registers[i]) changed.set(4 * i, value);
    });
    const candidates = [step.out_spec ?? step.out, ...Object.values(step.alt ?? {})];
    let best: string[] | undefined;
    for (const expected of candidates) {
      const differences = this.#compare(expected, observed, changed);
      if (differences.length === 0) {
        this.#learnTags(expected);
        return [];
      }
      best ??= differences;
    }
    return best ?? [];
  }

  #learnTags(expected: Outcome): void {
    const sent = ((expected['msgs'] ?? []) as Record<string, unknown>[]).filter(
      (m) => m['kind'] === 'invalidation_request',
    );
    sent.forEach((m, i) => this.#tags.set(num(m['itag']), this.#lastTags[i]!));
  }

  #itags(recorded: unknown): number {
    let vector = 0;
    for (let itag = 0; itag < 32; itag++)
      // A tag that was never sent maps to one that is never outstanding.
      if ((num(recorded) >>> itag) & 1) vector |= 1 << (this.#tags.get(itag) ?? 31);
    return vector;
  }

  #run(step: Step): Outcome {
    const given = step.in;
    const { registers } = this.#iommu;
    const width = num(given['width']) as 4 | 8;
    const offset = num(given['off']);
    switch (step.op) {
      case 'translate':
        return this.#translate(given);
      case 'command': {
        const [low, high] = given['dw'] as [string, string];
        const cqb = registers.read(offsets.cqb, 8) as bigint;
        const tail = registers.read(offsets.cqt, 4) as number;
        const at = (((cqb >> 10n) & 0xfff_ffff_ffffn) << 12n) + BigInt(tail) * 16n;
        const bytes = new Uint8Array(16);
        const view = new DataView(bytes.buffer);
        view.setBigUint64(0, BigInt(low), !this.#bigEndian);
        view.setBigUint64(8, BigInt(high), !this.#bigEndian);
        this.#memory.poke(at, bytes);
        const size = 2 ** (Number(cqb & 31n) + 1);
        registers.write(offsets.cqt, 4, (tail + 1) % size);
        return { queue_addr: `0x${at.toString(16)}` };
      }
      case 'page_request':
        this.#iommu.pageRequest({
          rid: num(given['rid']),
          segment: segmentOf(given),
          processIdValid: num(given['pv']) === 1,
          processId: num(given['pid']),
          supervisor: num(given['priv']) === 1,
          execute: num(given['exec']) === 1,
          payload: big(given['payload']),
        });
        return {};
      case 'inval_completion': {
        const vector = this.#itags(given['itag_vector']);
        const ok = this.#iommu.invalidationCompleted(num(given['rid']), segmentOf(given), vector, num(given['cc']));
        return { unexpected: ok ? 0 : 1 };
      }
      case 'ats_timeout':
        this.#iommu.invalidationTimedOut(this.#itags(given['itag_vector']));
        return {};
      case 'reg_read':
        return { value: registers.read(offset, width) };
      case 'reg_write':
        registers.write(offset, width, width === 8 ? big(given['value']) : num(given['value']));
        return { value: registers.read(offset, width) };
      case 'inject':
        this.#memory.setInjections(given['list'] as Injection[]);
        return {};
      default:
        return { unknown: step.op };
    }
  }

  #translate(given: Readonly<Record<string, unknown>>): Outcome {
    const request: TranslationRequest = {
      deviceId: num(given['device_id']),
      processIdValid: num(given['pid_valid']) === 1,
      processId: num(given['process_id']),
      supervisor: num(given['priv']) === 1,
      execute: num(given['exec']) === 1,
      write: given['access'] === 'write',
      type: given['type'] as TranslationRequest['type'],
      noWrite: num(given['no_write']) === 1,
      iova: big(given['iova']),
    };
    const status = { 'unsupported-request': 'unsupported_request', 'completer-abort': 'completer_abort' } as const;
    if (request.type === 'ats') {
      const answer = this.#iommu.atsRequest(request);
      if (answer.status !== 'success') return { status: status[answer.status] };
      const u = flag(answer.untranslatedOnly);
      const rsp: Record<string, unknown> = {
        r: flag(answer.read), w: flag(answer.write), exe: flag(answer.execute), priv: flag(answer.privileged),
        global: flag(answer.global), u, n: 0, cxl_io: 0, ama: 0,
      }; // prettier-ignore
      const found = answer.translation;
      if (found && (answer.read || answer.write)) {
        Object.assign(rsp, { pbmt: found.pbmt, is_msi: flag(found.isMsi), is_mrif: u });
        if (u === 0) Object.assign(rsp, placed(answer.address, found.shift));
      }
      return { status: 'success', rsp };
    }
    const answer = this.#iommu.request(request);
    if (answer.status !== 'success') return { status: status[answer.status] };
    const found = answer.translation;
    const rsp: Record<string, unknown> = {
      pbmt: found.pbmt,
      is_msi: flag(found.isMsi),
      is_mrif: flag(!!found.mrif),
    };
    if (found.mrif)
      Object.assign(rsp, { mrif_addr: found.mrif.address, mrif_nid: found.mrif.nid, notice_addr: found.pa });
    else Object.assign(rsp, placed(found.pa, found.shift));
    return { status: 'success', rsp };
  }

  #compare(expected: Outcome, observed: Outcome, changed: ReadonlyMap<number, number>): string[] {
    const out: string[] = [];
    const differ = (what: string, want: unknown, have: unknown): void => {
      out.push(`${what}: expected ${show(want)}, received ${show(have)}`);
    };
    for (const key of ['status', 'value', 'queue_addr'])
      if (show(expected[key]) !== show(observed[key])) differ(key, expected[key], observed[key]);
    if (num(expected['unexpected']) !== num(observed['unexpected']))
      differ('unexpected', expected['unexpected'], observed['unexpected']);
    this.#compareResponse(expected['rsp'] as Outcome | undefined, observed['rsp'] as Outcome | undefined, differ);
    const messages = ((expected['msgs'] ?? []) as Record<string, unknown>[]).map(withoutTag);
    if (show(messages.map(sorted)) !== show(this.#messages.map(sorted))) differ('msgs', messages, this.#messages);
    if (show(expected['sync'] ?? []) !== show(this.#sync)) differ('sync', expected['sync'], this.#sync);
    const registers = new Map(
      Object.entries((expected['regs'] ?? {}) as Record<string, Hex>).map(([k, v]) => [Number(k), Number(v)]),
    );
    for (const at of new Set([...registers.keys(), ...changed.keys()]))
      if (registers.get(at) !== changed.get(at))
        differ(`register 0x${at.toString(16)}`, registers.get(at), changed.get(at));
    this.#compareMemory(expected, differ);
    return out;
  }

  #compareResponse(
    want: Outcome | undefined,
    have: Outcome | undefined,
    differ: (what: string, want: unknown, have: unknown) => void,
  ): void {
    if (!want || !have) {
      if (want !== have) differ('rsp', want, have);
      return;
    }
    const sized = this.#scenario.size === 'exact' && num(want['size']) < 2 ** 48;
    for (const key of new Set([...Object.keys(want), ...Object.keys(have)])) {
      if ((key === 'size' || key === 's' || key === 'ppn') && !sized) continue;
      // pbmt is no part of a translation completion.
      if (key === 'pbmt' && 'r' in want) continue;
      if (show(want[key]) !== show(have[key])) differ(`rsp.${key}`, want[key], have[key]);
    }
  }

  /** Final memory: page offsets of a fault record's iotval and iotval2 may be 0 (§3.2), so those bits do not count. */
  #compareMemory(expected: Outcome, differ: (what: string, want: unknown, have: unknown) => void): void {
    const want = new Map<bigint, number>();
    const masks = new Map<bigint, number>();
    for (const [text, bytes] of (expected['mem'] ?? []) as Bytes[]) {
      const address = BigInt(text);
      const data = unhex(bytes);
      data.forEach((byte, i) => want.set(address + BigInt(i), byte));
      if (data.length === 32 && expected['faults']) {
        const lowest = this.#bigEndian ? [23, 22, 31, 30] : [16, 17, 24, 25];
        masks.set(address + BigInt(lowest[0]!), 0x00);
        masks.set(address + BigInt(lowest[1]!), 0xf0);
        masks.set(address + BigInt(lowest[2]!), 0x03);
        masks.set(address + BigInt(lowest[3]!), 0xf0);
      }
    }
    const addresses = new Set([...want.keys(), ...this.#memory.before.keys()]);
    let first: bigint | undefined;
    for (const at of addresses) {
      const mask = masks.get(at) ?? 0xff;
      const have = this.#memory.byte(at);
      const wanted = want.get(at) ?? this.#memory.before.get(at)!;
      if ((have & mask) !== (wanted & mask) && (first === undefined || at < first)) first = at;
    }
    if (first === undefined) return;
    const stored = [...this.#memory.before.keys()].sort((a, b) => (a < b ? -1 : 1));
    const bytes = stored.map((at) => this.#memory.byte(at).toString(16).padStart(2, '0')).join('');
    differ(`memory at 0x${first.toString(16)}`, { mem: expected['mem'], faults: expected['faults'] }, `${show(stored[0])} ${bytes}`); // prettier-ignore
  }
}

const placed = (address: bigint, shift: number): Record<string, unknown> => ({
  pa: address,
  size: 2 ** shift,
  ...encodeRange(address, shift),
});
const fields = (message: DeviceMessage): Record<string, unknown> => ({
  rid: message.rid,
  pv: flag(message.processId !== undefined),
  pid: message.processId ?? 0,
  dsv: flag(message.segment !== undefined),
  dseg: message.segment ?? 0,
  payload: message.payload,
});
/** Tags are the implementation's own. */
const withoutTag = (message: Record<string, unknown>): Record<string, unknown> =>
  Object.fromEntries(Object.entries(message).filter(([name]) => name !== 'itag'));
const sorted = (value: Record<string, unknown>): Record<string, unknown> =>
  Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
/** One spelling for numbers, bigints and hexadecimal text. */
const show = (value: unknown): string => {
  if (value === undefined) return 'nothing';
  if (typeof value === 'bigint' || typeof value === 'number') return `0x${value.toString(16)}`;
  if (typeof value === 'string') return value;
  if (Array.isArray(value)) return `[${value.map(show).join(', ')}]`;
  return `{${Object.entries(value as object)
    .map(([k, v]) => `${k}: ${show(v)}`)
    .join(', ')}}`;
};

/** Replays one scenario from reset. */
export const replayScenario = (scenario: Scenario): ScenarioResult => new Replay(scenario).run();
