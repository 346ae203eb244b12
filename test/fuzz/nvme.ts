import { memoryStorage } from '#devices/backends/storage/memory';
import type { StorageBackend } from '#vmm/base/ports';
import { Driver } from '#test/devices/nvme/driver';

const pageBytes = 4096;
const memoryBytes = 1 << 20;
const diskBytes = 1 << 18;
const stepsPerRound = 120;
/** Pages that hold PRP lists and SGL segments. */
const firstList = 32;
const lastList = 48;

/** mulberry32: small, seeded, the same everywhere. */
class Dice {
  #state: number;
  constructor(seed: number) {
    this.#state = seed | 0;
  }
  u32(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return (t ^ (t >>> 14)) >>> 0;
  }
  below(n: number): number {
    return this.u32() % n;
  }
  chance(percent: number): boolean {
    return this.below(100) < percent;
  }
  pick<T>(values: readonly T[]): T {
    return values[this.below(values.length)]!;
  }
}

/** A disk that remembers what was stored where, so that every change can be held against a command. */
class WatchedDisk implements StorageBackend {
  readonly readOnly = false;
  readonly bytes = diskBytes;
  readonly inner = memoryStorage(diskBytes);
  readonly writes: { offset: number; length: number }[] = [];
  read(offset: number, target: Uint8Array): void {
    this.inner.read(offset, target);
  }
  readVector(offset: number, targets: readonly Uint8Array[]): void {
    for (const target of targets) {
      this.inner.read(offset, target);
      offset += target.length;
    }
  }
  write(offset: number, source: Uint8Array): void {
    this.writes.push({ offset, length: source.length });
    this.inner.write(offset, source);
  }
  flush(): void {}
  discard(offset: number, length: number): void {
    this.inner.discard(offset, length);
  }
  close(): void {}
}

const values = [
  0, 1, 2, 3, 7, 8, 15, 16, 63, 64, 255, 256, 511, 512, 0xfff, 0x1000, 0xffff, 0x1_0000, 0x7fff_ffff, 0x8000_0000,
  0xffff_ffff,
];
const registerOffsets = [
  0x00, 0x04, 0x08, 0x0c, 0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x28, 0x2c, 0x30, 0x34, 0x38, 0x3c, 0x40, 0xffc,
];
const adminOpcodes = [0x00, 0x01, 0x02, 0x04, 0x05, 0x06, 0x08, 0x09, 0x0a, 0x0c, 0x10, 0x80, 0x81, 0xff];
const nvmOpcodes = [0x00, 0x01, 0x02, 0x04, 0x05, 0x08, 0x09, 0x0c, 0x0d, 0x7f, 0xff];

class Round {
  readonly dice: Dice;
  readonly disk = new WatchedDisk();
  readonly d: Driver;
  readonly untouchable = new Set<number>();
  commands = 0;
  #cid = 1;

  constructor(seed: number) {
    this.dice = new Dice(seed);
    const { dice } = this;
    this.d = new Driver(
      {
        namespaces: [
          { backend: this.disk, blockBytes: dice.pick([512, 4096] as const) },
          { backend: memoryStorage(diskBytes / 2 + dice.below(5000)) },
        ],
        ioQueues: dice.pick([1, 2, 8, 64]),
        mdts: dice.pick([1, 3, 7]),
        pasidBits: dice.pick([0, 20]),
      },
      memoryBytes,
    );
    const { port, events } = this.d;
    for (let at = 0; at < memoryBytes; at += 4) port.view.setUint32(at, this.word(), true);
    for (let page = firstList; page < lastList; page++) this.#list(page * pageBytes);
    // The first pages hold the queues of the honest driver.
    for (let page = 64; page < memoryBytes / pageBytes; page++)
      if (dice.chance(20)) {
        this.untouchable.add(page);
        (dice.chance(50) ? port.denied : port.readOnly).add(page);
      }
    this.d.trace.listen((event) => {
      events.length = 0;
      if (event.name !== 'nvme.command') return;
      this.commands++;
      this.#explainWrites(event.fields);
    });
  }

  /** A page of PRP entries or of SGL descriptors that mostly lead somewhere. */
  #list(at: number): void {
    const { dice } = this;
    const { view } = this.d.port;
    const isPrp = dice.chance(50);
    for (let i = 0; i < pageBytes; i += isPrp ? 8 : 16) {
      const isWild = dice.chance(1);
      const page = dice.chance(5) ? firstList + dice.below(lastList - firstList) : dice.below(memoryBytes / pageBytes);
      view.setUint32(at + i, page * pageBytes + (isPrp || dice.chance(50) ? 0 : dice.below(pageBytes)), true);
      view.setUint32(at + i + 4, isWild ? dice.u32() : 0, true);
      if (isPrp) continue;
      view.setUint32(at + i + 8, dice.pick([16, 32, 48, 512, 1024, 5000]), true);
      view.setUint32(
        at + i + 12,
        (dice.pick([0, 0, 0, 0, 0x10, 0x20, 0x30, isWild ? dice.below(256) : 0]) << 24) >>> 0,
        true,
      );
    }
  }

  /** Whatever a Write stored lies in the blocks that it named; nothing else writes. */
  #explainWrites(fields: Readonly<Record<string, unknown>>): void {
    for (const { offset, length } of this.disk.writes) {
      const low = Number(fields.cdw10);
      const count = (Number(fields.cdw12) & 0xffff) + 1;
      const isInside = [512, 4096].some((block) => offset >= low * block && offset + length <= (low + count) * block);
      if (fields.name !== 'Write' || fields.nsid !== 1 || !isInside)
        throw new Error(`bytes ${offset} + ${length} of the disk were written by ${JSON.stringify(fields)}`);
    }
    this.disk.writes.length = 0;
  }

  /** A number that is likely to mean something: small, a limit, an address in or near memory. */
  word(): number {
    const { dice } = this;
    const kind = dice.below(10);
    if (kind < 3) return dice.pick(values);
    if (kind < 6) return dice.below(memoryBytes / pageBytes) * pageBytes;
    if (kind < 7) return (dice.below(memoryBytes + 8192) & ~15) >>> 0;
    if (kind < 8) return dice.below(64);
    return dice.u32();
  }

  #submit(qid: number): void {
    const { dice, d } = this;
    const pair = d.pairs[qid]!;
    const at = pair.sq + pair.tail * 64;
    for (let i = 0; i < 64; i += 4) d.port.view.setUint32(at + i, dice.chance(80) ? this.word() : 0, true);
    const opcode = dice.chance(95) ? dice.pick(qid === 0 ? adminOpcodes : nvmOpcodes) : dice.below(256);
    const flags = dice.chance(10) ? dice.below(256) << 8 : dice.chance(20) ? 0x4000 : 0;
    d.port.view.setUint32(at, (opcode | flags | (this.#cid++ << 16)) >>> 0, true);
    d.port.view.setUint32(at + 4, dice.chance(80) ? 1 + dice.below(2) : this.word(), true);
    // The upper halves of addresses and blocks are mostly 0, or nothing would be reached.
    for (const half of [28, 36, 44]) if (dice.chance(95)) d.port.view.setUint32(at + half, 0, true);
    if (qid !== 0 && dice.chance(80)) {
      d.port.view.setUint32(at + 40, dice.below(600), true);
      d.port.view.setUint32(at + 48, dice.below(dice.pick([2, 16, 300])), true);
    } else if (qid === 0 && dice.chance(70)) {
      d.port.view.setUint32(
        at + 40,
        dice.pick([dice.below(16), dice.below(9) | (dice.pick([1, 3, 63]) << 16), this.word()]) >>> 0,
        true,
      );
      d.port.view.setUint32(at + 44, dice.pick([1, 3, 1 | (dice.below(9) << 16), this.word()]) >>> 0, true);
    }
    const start = qid === 0 ? dice.below(memoryBytes / pageBytes) * pageBytes : dice.below(memoryBytes) & ~3;
    if (dice.chance(70)) d.port.view.setUint32(at + 24, start, true);
    if (flags === 0x4000) {
      d.port.view.setUint32(at + 32, dice.pick([16, 32, 48, 512, 8192, 65536, this.word()]), true);
      d.port.view.setUint32(at + 36, (dice.pick([0, 0, 0, 0x10, 0x20, 0x30, dice.below(256)]) << 24) >>> 0, true);
      if (dice.chance(50)) d.port.view.setUint32(at + 24, this.#listAddress(), true);
    } else if (dice.chance(60)) d.port.view.setUint32(at + 32, this.#listAddress(), true);
    pair.tail = (pair.tail + 1) % pair.size;
    if (dice.chance(80)) d.ring(qid);
  }

  /** Somewhere in the pages of lists: at a page's start, or near its end, where lists go on elsewhere. */
  #listAddress(): number {
    const page = (firstList + this.dice.below(lastList - firstList)) * pageBytes;
    return page + this.dice.pick([0, 0, 8, 4080, 4088, 4064, this.dice.below(512) * 8]);
  }

  readonly #actions: readonly (() => void)[] = [
    () => this.#submit(0),
    () => this.#submit(0),
    () => this.#submit(1),
    () => this.#submit(1),
    () => this.#submit(1),
    () => this.#submit(1),
    () => this.d.run(this.dice.pick([0, 100, 1000, 10_000, 1_000_000])),
    () => this.d.run(this.dice.pick([200, 5000, 20_000])),
    () => void this.d.reap(0),
    () => void this.d.reap(1),
    () => this.d.setReg(0x1000 + this.dice.below(140) * 4, this.word()),
    () => {
      // A pair of queues over whatever lies there, reachable or not, with or without an address space.
      const qid = 2 + this.dice.below(4);
      const base = (qid | (this.dice.pick([1, 7, 15, 63]) << 16)) >>> 0;
      const pasid = this.dice.chance(20) ? 0x8000_0000 + this.dice.below(4) : 0;
      const place = (): number => this.dice.below(memoryBytes / pageBytes) * pageBytes;
      this.d.submit(0, { opcode: 0x05, prp1: place(), cdw: [base, 3, pasid] });
      this.d.submit(0, { opcode: 0x01, prp1: place(), cdw: [base, ((qid << 16) | 1) >>> 0, pasid] });
    },
    // Queues that its own commands made, wherever they lie.
    () => this.d.setReg(0x1000 + (4 + this.dice.below(16)) * 4, this.dice.below(16)),
    () => {
      const bytes = this.dice.pick([1, 2, 4, 8] as const);
      this.d.device.read(this.dice.chance(70) ? this.dice.pick(registerOffsets) : this.dice.below(0x4000), bytes);
    },
    () => {
      if (this.dice.chance(70)) return;
      const bytes = this.dice.pick([1, 2, 4, 4, 8] as const);
      const offset = this.dice.chance(90) ? this.dice.pick(registerOffsets) : this.dice.below(0x4000);
      this.d.device.write(
        offset,
        bytes,
        bytes === 8 ? (BigInt(this.word()) << 32n) | BigInt(this.word()) : this.word(),
      );
    },
    () => {
      if (this.dice.chance(90)) return;
      this.d.device.busMaster(false);
      this.d.run(this.dice.below(50_000));
      this.d.device.busMaster(true);
    },
    () => {
      if (this.dice.chance(90)) return;
      if (this.dice.chance(50)) this.d.device.reset();
      this.restart();
    },
    () => {
      // Memory changes under the device, but not where nobody can reach it.
      const at = this.dice.below(memoryBytes / 4) * 4;
      if (!this.untouchable.has(Math.floor(at / pageBytes))) this.d.port.view.setUint32(at, this.word(), true);
    },
  ];

  /** The honest driver takes over: reset, queues in the first pages. */
  restart(): void {
    const { d } = this;
    d.setReg(0x14, 0);
    d.rewind();
    d.port.memory.fill(0, d.port.shift + 16 * pageBytes, d.port.shift + 32 * pageBytes);
    d.enable();
    d.createPair(1);
  }

  play(): void {
    const { d, dice } = this;
    const before = d.port.memory.slice();
    this.restart();
    for (let step = 0; step < stepsPerRound; step++) dice.pick(this.#actions)();

    d.device.busMaster(true);
    for (let i = 0; i < 100 && d.clock.untilNext() !== Infinity; i++) d.run(10_000_000);
    if (d.clock.untilNext() !== Infinity) throw new Error('the controller does not come to rest');

    const { memory, shift } = d.port;
    const same = (from: number, to: number): boolean =>
      Buffer.compare(memory.subarray(from, to), before.subarray(from, to)) === 0;
    if (!same(0, shift) || !same(shift + memoryBytes, memory.length))
      throw new Error('memory outside of the guest was touched');
    for (const page of this.untouchable)
      if (!same(shift + page * pageBytes, shift + (page + 1) * pageBytes))
        throw new Error(`page ${page}, which faults, was touched`);

    d.device.reset();
    this.restart();
    // Both formats have this many bytes in the first block.
    const buffer = d.pages();
    d.expectOk({ opcode: 0x02, nsid: 1, prp1: buffer, cdw: [0, 0, 0] }, 1);
    const block = new Uint8Array(512);
    this.disk.read(0, block);
    if (Buffer.compare(d.peek(buffer, 512), block) !== 0) throw new Error('the disk reads wrong after the round');
  }
}

/**
 * Throws nonsense at the controller for a while: registers, doorbells, commands, lists, resets, memory that changes
 * under it. Throws an error that names the seed of the round where the controller threw, touched what it could not
 * reach, wrote blocks that no command named, or did not come to rest.
 * @returns rounds played and commands executed
 */
export const fuzzNvme = (seed: number, milliseconds: number): { rounds: number; commands: number } => {
  const end = performance.now() + milliseconds;
  let rounds = 0;
  let commands = 0;
  do {
    const roundSeed = (seed + Math.imul(rounds, 0x9e3779b1)) >>> 0;
    try {
      const round = new Round(roundSeed);
      round.play();
      commands += round.commands;
    } catch (error) {
      throw new Error(`NVMe fuzz, round seed ${roundSeed}: ${error instanceof Error ? error.message : String(error)}`, {
        cause: error,
      });
    }
    rounds++;
  } while (performance.now() < end);
  return { rounds, commands };
};
