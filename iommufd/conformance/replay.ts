import { callName, describeArguments, differingFields, resultName } from './describe.ts';
import { type CallRecord, type PointerRecord, fromHex, toHex } from './records.ts';
import type { ReplayTarget } from './target.ts';

/** The first call that was answered differently. */
export interface Difference {
  /** Sequence number in the recording. */
  readonly n: number;
  readonly call: string;
  /** The call's structure, decoded. */
  readonly arguments: string;
  readonly lines: readonly string[];
}
export interface CaseResult {
  readonly name: string;
  /** Calls compared. */
  readonly calls: number;
  readonly difference: Difference | undefined;
}

/** Names of fds that are closed, or never were: a number that nothing has. */
const noFd = 0xf_ffff;
const page = 4096;
const argumentBytes = 4 * page;

interface Placed {
  readonly pointer: PointerRecord;
  readonly address: number;
}

/** Plays one recorded case to a target and compares every answer: result, errno, structure, buffers. */
export class Replay {
  readonly #target: ReplayTarget;
  readonly #fds = new Map<string, number>();
  readonly #buffers = new Map<string, number>();
  /** The argument's pages; nothing is mapped after them. */
  readonly #argument;
  /** Data that structures point to: one area that grows, reused for every call. */
  #data;
  #dataUsed = 0;
  #lines: string[] = [];
  #shown = '';

  constructor(target: ReplayTarget) {
    this.#target = target;
    this.#argument = target.scratch(argumentBytes);
    this.#data = target.scratch(64 * page);
  }

  run(records: readonly CallRecord[]): CaseResult {
    let calls = 0;
    let name = '';
    for (const record of records) {
      if (record.t === 'begin') name = record.case ?? '';
      this.#lines = [];
      this.#shown = '';
      const play = players[record.t];
      if (!play) {
        this.#lines.push(`no such record: ${record.t}`);
      } else {
        play(this, record);
        calls++;
      }
      if (this.#lines.length > 0) {
        const difference = { n: record.n, call: callName(record), arguments: this.#shown, lines: this.#lines };
        return { name, calls, difference };
      }
    }
    return { name, calls, difference: undefined };
  }

  #fd(name: string): number {
    const known = this.#fds.get(name);
    if (known !== undefined) return known;
    if (!name.startsWith('ext:')) return noFd;
    const fd = this.#target.openOther(name.slice(4));
    this.#fds.set(name, fd);
    return fd;
  }

  #result(record: CallRecord, result: number): void {
    const expected = resultName(record.ret!, record.errno!);
    const actual = resultName(result < 0 ? -1 : result, -result);
    if (expected !== actual) this.#lines.push(`result: expected ${expected}, got ${actual}`);
  }

  limits(record: CallRecord): void {
    this.#target.setLimits({
      memlock: record.rlimit_memlock!,
      ipcLock: record.cap_ipc_lock === 1,
      sysResource: record.cap_sys_resource === 1,
    });
  }
  memfd(record: CallRecord): void {
    this.#fds.set(record.fd!, this.#target.memfd(record.flags!));
  }
  truncate(record: CallRecord): void {
    this.#result(record, this.#target.ftruncate(this.#fd(record.fd!), record.len!));
  }
  buffer(record: CallRecord): void {
    if (this.#buffers.has(record.buf!)) return;
    const address = this.#target.map({
      kind: record.kind!,
      bytes: record.len!,
      prot: record.prot!,
      residue: Number(record.base_mod_2m ?? 0),
      ...(record.fd === undefined ? {} : { fd: this.#fd(record.fd), offset: record.fd_off ?? 0 }),
    });
    this.#buffers.set(record.buf!, address);
  }
  unmapBuffer(record: CallRecord): void {
    this.#target.munmap(this.#buffers.get(record.buf!)! + record.off!, record.len!);
  }
  store(record: CallRecord): void {
    this.#target.store(this.#buffers.get(record.buf!)! + record.off!, fromHex(record.hex!));
  }
  open(record: CallRecord): void {
    const fd = this.#target.open(record.path!);
    this.#result(record, Math.min(fd, 0));
    if (fd >= 0) this.#fds.set(record.fd!, fd);
  }
  close(record: CallRecord): void {
    this.#result(record, this.#target.close(this.#fd(record.fd!)));
    this.#fds.delete(record.fd!);
  }

  /** Address for a plain buffer argument: recorded as NULL or invalid, or memory of ours. */
  #plain(record: CallRecord): number {
    if (record.arg === 'null') return 0;
    if (record.arg === 'bad') return Number(record.arg_raw);
    return this.#data.address;
  }
  read(record: CallRecord): void {
    this.#reserve(record.count!);
    const result = this.#target.read(this.#fd(record.fd!), this.#plain(record), record.count!);
    this.#result(record, result);
    if (result > 0) this.#compare('bytes read', record.out ?? '', this.#data.bytes.subarray(0, result));
  }
  write(record: CallRecord): void {
    this.#reserve(record.count!);
    if (record.in !== undefined) this.#data.bytes.set(fromHex(record.in));
    this.#result(record, this.#target.write(this.#fd(record.fd!), this.#plain(record), record.count!));
  }
  poll(record: CallRecord): void {
    const revents = this.#target.poll(this.#fd(record.fd!)) & (record.events! | 8 | 16 | 32);
    if (revents !== record.revents) this.#lines.push(`revents: expected ${record.revents}, got ${revents}`);
  }
  mmap(record: CallRecord): void {
    const address = this.#target.mmap(this.#fd(record.fd!), record.len!, record.prot!, record.flags!, record.off!);
    this.#result(record, Math.min(address, 0));
    if (address < 0) return;
    if (record.buf !== undefined) this.#buffers.set(record.buf, address);
    if (record.first_u32 === undefined) return;
    const word = new Uint8Array(4);
    this.#target.load(address, word);
    const first = new DataView(word.buffer).getUint32(0, true);
    if (first !== record.first_u32) this.#lines.push(`first word: expected ${record.first_u32}, got ${first}`);
  }

  #compare(what: string, expected: string, bytes: Uint8Array): void {
    const wanted = fromHex(expected);
    let at = 0;
    while (at < bytes.length && bytes[at] === wanted[at]) at++;
    if (at === bytes.length && bytes.length === wanted.length) return;
    const part = (from: Uint8Array): string => toHex(from.subarray(at, at + 16));
    this.#lines.push(`${what} from byte ${at}: expected ${part(wanted)}, got ${part(bytes)}`);
  }

  #reserve(bytes: number): void {
    if (bytes > this.#data.bytes.length) this.#data = this.#target.scratch(bytes * 2);
  }

  // ── ioctl ───────────────────────────────────────────────────────────────────────────────────────────────────────

  ioctl(record: CallRecord): void {
    const fd = this.#fd(record.fd!);
    const request = Number(record.nr);
    const { arg } = record;
    if (typeof arg === 'number') return this.#finish(record, this.#target.ioctl(fd, request, arg));
    if (arg === 'null') return this.#finish(record, this.#target.ioctl(fd, request, 0));
    if (arg === 'bad') return this.#finish(record, this.#target.ioctl(fd, request, Number(record.arg_raw)));
    const before = fromHex(record.in!);
    const accessible = record.arg_fault_at ?? before.length;
    const offset = record.arg_fault_at === undefined ? 0 : this.#argument.bytes.length - accessible;
    const address = this.#argument.address + offset;
    const placed = this.#placeData(record);
    const view = new DataView(before.buffer);
    for (const { pointer, address: target } of placed)
      view.setBigUint64(pointer.off, BigInt.asUintN(64, BigInt(target)), true);
    for (const pointer of record.ptrs ?? [])
      if (pointer.kind === 'va') {
        const base = this.#buffers.get(pointer.buf!)!;
        view.setBigUint64(pointer.off, BigInt.asUintN(64, BigInt(base) + BigInt(pointer.boff!)), true);
      }
    for (const field of record.fds ?? []) if (field.dir === 'in') view.setInt32(field.off, this.#fd(field.fd), true);
    this.#shown = describeArguments(record, before);
    const window = this.#argument.bytes.subarray(offset, offset + accessible);
    window.set(before.subarray(0, accessible));
    if (record.arg_ro) this.#target.protect(this.#argument.address, argumentBytes, 1);
    const result = this.#target.ioctl(fd, request, address);
    if (record.arg_ro) this.#target.protect(this.#argument.address, argumentBytes, 3);
    this.#finish(record, result);
    this.#compareStructure(record, window);
    this.#compareData(placed);
    for (const { buf, off, hex } of record.mem_out ?? []) {
      const bytes = new Uint8Array(hex.length / 2);
      this.#target.load(this.#buffers.get(buf)! + off, bytes);
      this.#compare(`${buf}+${off}`, hex, bytes);
    }
  }

  #finish(record: CallRecord, result: number): void {
    if (record.ret_fd !== undefined && result >= 0) {
      this.#fds.set(record.ret_fd, result);
      this.#result(record, 0);
    } else this.#result(record, result);
  }

  /** Puts the data that pointers of kind `data` lead to into memory. */
  #placeData(record: CallRecord): Placed[] {
    const placed: Placed[] = [];
    let room = 0;
    for (const { kind, len = 0 } of record.ptrs ?? [])
      if (kind === 'data') room += 2 * page + Math.ceil(len / page) * page;
    this.#reserve(room);
    this.#dataUsed = 0;
    for (const pointer of record.ptrs ?? []) {
      if (pointer.kind !== 'data') continue;
      const length = pointer.len ?? 0;
      let start = this.#dataUsed + (pointer.page_off ?? 0);
      this.#dataUsed = Math.ceil((start + length) / page) * page + page;
      // Data that is only partly there ends with the mapping.
      if (pointer.fault_at !== undefined) start = this.#data.bytes.length - pointer.fault_at;
      const bytes = this.#data.bytes.subarray(start, start + Math.min(length, pointer.fault_at ?? length));
      bytes.fill(0);
      if (pointer.in !== undefined) bytes.set(fromHex(pointer.in).subarray(0, bytes.length));
      placed.push({ pointer, address: this.#data.address + start });
    }
    return placed;
  }

  #compareStructure(record: CallRecord, window: Uint8Array): void {
    const expected = fromHex(record.out ?? record.in!).subarray(0, window.length);
    const actual = window.slice();
    const view = new DataView(actual.buffer);
    for (const { off } of record.ptrs ?? []) if (off + 8 <= actual.length) view.setBigUint64(off, 0n, true);
    for (const { off, dir, fd } of record.fds ?? []) {
      if (off + 4 > actual.length) continue;
      if (dir === 'out' && record.ret! >= 0) this.#fds.set(fd, view.getInt32(off, true));
      view.setInt32(off, 0, true);
    }
    this.#lines.push(...differingFields(record, expected, actual));
  }

  #compareData(placed: readonly Placed[]): void {
    for (const { pointer, address } of placed) {
      if (pointer.trunc) continue;
      const expected = pointer.out ?? pointer.in;
      if (expected === undefined) continue;
      const start = address - this.#data.address;
      // Recorded up to where something was written: the rest must be as it was.
      const length = Math.min(expected.length / 2, pointer.fault_at ?? expected.length / 2);
      this.#compare(
        `data at ${pointer.off}`,
        expected.slice(0, 2 * length),
        this.#data.bytes.subarray(start, start + length),
      );
      if (pointer.in !== undefined) continue;
      const rest = this.#data.bytes.subarray(
        start + length,
        start + Math.min(pointer.len ?? 0, pointer.fault_at ?? Infinity),
      );
      if (rest.some((byte) => byte !== 0)) this.#lines.push(`data at ${pointer.off}: written beyond byte ${length}`);
    }
  }
}

/** What each kind of record does. */
const players: Readonly<Record<string, (replay: Replay, record: CallRecord) => void>> = {
  begin: () => {},
  end: () => {},
  // F_ADD_SEALS among them: pinning does not look at seals.
  note: () => {},
  env: (replay, record) => replay.limits(record),
  memfd: (replay, record) => replay.memfd(record),
  ftruncate: (replay, record) => replay.truncate(record),
  buf: (replay, record) => replay.buffer(record),
  munmap: (replay, record) => replay.unmapBuffer(record),
  mem: (replay, record) => replay.store(record),
  open: (replay, record) => replay.open(record),
  close: (replay, record) => replay.close(record),
  read: (replay, record) => replay.read(record),
  write: (replay, record) => replay.write(record),
  poll: (replay, record) => replay.poll(record),
  mmap: (replay, record) => replay.mmap(record),
  ioctl: (replay, record) => replay.ioctl(record),
};
