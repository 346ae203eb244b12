import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { Trace, type TraceEvent } from '#vmm/base/events';
import { type Command, type CommandName, encodeCommand, type Operands } from '#iommufd/arch/riscv/commands';
import { causes, ttyp } from '#iommufd/arch/riscv/faults';
import { encodeCapabilities, FrontEnd, type FrontEndOptions } from '#iommufd/arch/riscv/front-end';
import { access, type BackEnd, type CommandOutcome, type MemoryPort } from '#iommufd/arch/riscv/ports';
import { hpmEvent, iohpmctrOffset, iohpmevt, iohpmevtOffset, msiConfigOffset, offsets, registerFile } from '#iommufd/arch/riscv/registers'; // prettier-ignore

// prettier-ignore
const capabilities = encodeCapabilities({ version: 0x10, Sv39: 1, Sv39x4: 1, MSI_FLAT: 1, AMO_HWAD: 1, ATS: 1, IGS: 2, HPM: 1, DBG: 1, PAS: 40, PD8: 1, PD17: 1, PD20: 1, NL: 1, S: 1 });

class Flat implements MemoryPort {
  readonly bytes = new Uint8Array(1 << 16);
  readonly view = new DataView(this.bytes.buffer);
  load(address: bigint, into: Uint8Array): 0 | 1 {
    if (address + BigInt(into.length) > 65536n) return access.fault;
    into.set(this.bytes.subarray(Number(address), Number(address) + into.length));
    return access.ok;
  }
  store(address: bigint, from: Uint8Array): 0 | 1 {
    if (address + BigInt(from.length) > 65536n) return access.fault;
    this.bytes.set(from, Number(address));
    return access.ok;
  }
}

class Recorder implements BackEnd {
  readonly commands: string[] = [];
  readonly modes: [number, bigint][] = [];
  readonly responses: unknown[] = [];
  outcome: CommandOutcome = 'done';
  readonly tags: number[] = [];
  execute(command: Command, itag: number): CommandOutcome {
    this.commands.push(command.name);
    this.tags.push(itag);
    return this.outcome;
  }
  respond(message: unknown): void {
    this.responses.push(message);
  }
  directoryChanged(mode: number, ppn: bigint): void {
    this.modes.push([mode, ppn]);
  }
}

let memory: Flat;
let backEnd: Recorder;
let front: FrontEnd;
let tail: number;
const wires = new Map<number, boolean>();
const make = (over: Partial<FrontEndOptions> = {}): void => {
  memory = new Flat();
  backEnd = new Recorder();
  wires.clear();
  tail = 0;
  front = new FrontEnd({ capabilities, memory, backEnd, wire: (vector, level) => wires.set(vector, level), ...over });
};
const read = (offset: number): number => front.read(offset, 4) as number;
const write = (offset: number, value: number): void => front.write(offset, 4, value);
const write8 = (offset: number, value: bigint): void => front.write(offset, 8, value);
/** Queues of `2 ** size` entries at pages 1 (commands), 2 (faults) and 3 (page requests), interrupts as asked. */
const start = (size = 3, interrupts = 2): void => {
  write8(offsets.cqb, (1n << 10n) | BigInt(size - 1));
  write8(offsets.fqb, (2n << 10n) | BigInt(size - 1));
  write8(offsets.pqb, (3n << 10n) | BigInt(size - 1));
  for (const csr of [offsets.cqcsr, offsets.fqcsr, offsets.pqcsr]) write(csr, 1 | interrupts);
};
const command = (name: CommandName, operands: Partial<Operands> = {}): void => {
  const [low, high] = encodeCommand(name, operands);
  memory.view.setBigUint64(0x1000 + 16 * tail, low, true);
  memory.view.setBigUint64(0x1008 + 16 * tail, high, true);
  tail = (tail + 1) % 8;
  write(offsets.cqt, tail);
};
const fault = { cause: causes.readPageFault, ttyp: ttyp.untranslatedRead, deviceId: 3, processIdValid: false, processId: 9, supervisor: true, iotval: 0x1234n, iotval2: 0n }; // prettier-ignore

beforeEach(() => make());

describe('the register page', () => {
  it('keeps what is reserved or read-only whatever is written, at any offset and width', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(0x1010), fc.constantFrom(1, 2, 4, 8), fc.bigInt(0n, (1n << 64n) - 1n)), { maxLength: 40 }), // prettier-ignore
        (writes) => {
          make();
          for (const [offset, bytes, value] of writes) {
            const width = bytes as 4 | 8;
            front.write(offset, width, bytes === 8 ? value : Number(BigInt.asUintN(8 * bytes, value)));
            front.read(offset, width);
          }
          for (const row of registerFile) {
            const raw = row.register.width === 64 ? (front.read(row.offset, 8) as bigint) : BigInt(read(row.offset));
            expect(raw & row.register.reserved).toBe(0n);
          }
          expect(front.read(0, 8)).toBe(capabilities);
        },
      ),
      { numRuns: 150 },
    );
  });

  it('reads 0 and tells, where nothing is', () => {
    const trace = new Trace(() => 0);
    make({ trace });
    const seen: TraceEvent[] = [];
    trace.listen((event) => seen.push(event));
    expect([front.read(0x274, 4), front.read(0x402, 2), front.read(6, 4), front.read(0xff8, 8)]).toEqual([0, 0, 0, 0n]);
    front.write(offsets.cqh, 8, 1n);
    expect(seen.map((event) => event.name)).toEqual(Array.from({ length: 5 }, () => 'iommu.bad-access'));
  });

  it('writes halves of a wide register', () => {
    write(msiConfigOffset(0), 0x1000);
    write(msiConfigOffset(0) + 4, 0x12);
    expect(front.read(msiConfigOffset(0), 8)).toBe(0x12_0000_1000n);
  });

  it('clamps queues to what it was built for', () => {
    make({ maxQueueLog2: 8 });
    write8(offsets.cqb, 31n);
    expect(read(offsets.cqb)).toBe(7);
    make();
    write8(offsets.cqb, 31n);
    write(offsets.cqt, 0xffff_ffff);
    expect(read(offsets.cqt)).toBe(0xffff_ffff);
  });

  it('tells the back end of each legal change of ddtp, and of no other', () => {
    backEnd.modes.length = 0;
    write8(offsets.ddtp, (0x77n << 10n) | 4n);
    write8(offsets.ddtp, (0x78n << 10n) | 3n);
    write8(offsets.ddtp, 9n);
    write8(offsets.ddtp, 0n);
    expect(backEnd.modes).toEqual([
      [4, 0x77n],
      [0, 0n],
    ]);
  });

  it('reset leaves nothing', () => {
    start();
    write8(offsets.ddtp, 1n);
    front.reset();
    expect(registerFile.filter((row) => row.offset >= 8).every((row) => read(row.offset) === 0)).toBe(true);
  });
});

describe('the command queue', () => {
  it('executes in order and stops at an illegal command, until software clears the error', () => {
    start();
    command('IOTINVAL.VMA');
    memory.view.setBigUint64(0x1000 + 16 * tail, 0x3fn, true);
    write(offsets.cqt, ++tail);
    command('IODIR.INVAL_DDT');
    expect(backEnd.commands).toEqual(['IOTINVAL.VMA']);
    expect([read(offsets.cqh), (read(offsets.cqcsr) >> 10) & 1, read(offsets.ipsr) & 1]).toEqual([1, 1, 1]);
    const [low] = encodeCommand('IOTINVAL.GVMA');
    memory.view.setBigUint64(0x1010, low, true);
    write(offsets.cqcsr, 0x403);
    expect(backEnd.commands).toEqual(['IOTINVAL.VMA', 'IOTINVAL.GVMA', 'IODIR.INVAL_DDT']);
    expect(read(offsets.cqh)).toBe(3);
  });

  it.each(['illegal', 'memory-fault', 'timeout'] as const)('shows a back end’s outcome %s', (outcome) => {
    start();
    backEnd.outcome = outcome;
    command('IOTINVAL.VMA');
    backEnd.outcome = 'done';
    const bit = { illegal: 10, 'memory-fault': 8, timeout: 9 }[outcome];
    // A timeout waits for the next fence.
    expect((read(offsets.cqcsr) >> bit) & 1).toBe(outcome === 'timeout' ? 0 : 1);
    command('IOFENCE.C');
    expect((read(offsets.cqcsr) >> bit) & 1).toBe(1);
    expect(read(offsets.cqh)).toBe(outcome === 'timeout' ? 1 : 0);
  });

  it('a fence waits for the devices, then writes and raises its wire', () => {
    make({ fctl: 2 });
    start();
    backEnd.outcome = 'waiting';
    command('ATS.INVAL', { RID: 0x18n });
    command('ATS.INVAL', { RID: 0x20n, DSV: 1n, DSEG: 1n });
    expect(backEnd.tags).toEqual([0, 1]);
    backEnd.outcome = 'done';
    command('IOFENCE.C', { AV: 1n, ADDR: 0x4000n >> 2n, DATA: 0xabcdn, WSI: 1n });
    expect([read(offsets.cqh), memory.view.getUint32(0x4000, true)]).toEqual([2, 0]);
    expect(front.invalidationCompleted(0x19, undefined, 1, 1)).toBe(false);
    expect(front.invalidationCompleted(0x18, undefined, 1, 1)).toBe(true);
    expect(front.invalidationCompleted(0x20, 2, 2, 1)).toBe(false);
    expect(front.invalidationCompleted(0x20, 1, 2, 2)).toBe(true);
    expect(read(offsets.cqh)).toBe(2);
    expect(front.invalidationCompleted(0x20, 1, 2, 2)).toBe(true);
    expect([read(offsets.cqh), memory.view.getUint32(0x4000, true), wires.get(0)]).toEqual([3, 0xabcd, true]);
    write(offsets.cqcsr, 0x803);
    write(offsets.ipsr, 1);
    expect(wires.get(0)).toBe(false);
  });

  it('the next fence tells of a timeout, once, even over a restart of the queue, and then runs again', () => {
    start();
    backEnd.outcome = 'waiting';
    command('ATS.INVAL', { RID: 0x18n });
    backEnd.outcome = 'done';
    front.invalidationTimedOut(1);
    expect(read(offsets.cqcsr) >> 8).toBe(0x100);
    // §5.15: cqen from 0 to 1 clears what the queue shows. What no fence has told yet it does not show (§3.1.4), and the
    // reference model too keeps it.
    write(offsets.cqcsr, 0);
    write(offsets.cqt, (tail = 0));
    write(offsets.cqcsr, 3);
    command('IODIR.INVAL_DDT');
    command('IOFENCE.C', { AV: 1n, ADDR: 0x4000n >> 2n, DATA: 7n });
    expect([read(offsets.cqh), (read(offsets.cqcsr) >> 9) & 1, memory.view.getUint32(0x4000, true)]).toEqual([1, 1, 0]);
    // §3.1.2: cqh names the fence; with cmd_to cleared it is executed again, and has nothing more to tell.
    write(offsets.cqcsr, 0x203);
    expect([read(offsets.cqh), (read(offsets.cqcsr) >> 9) & 1, memory.view.getUint32(0x4000, true)]).toEqual([2, 0, 7]);
  });

  it('waits for a free tag when 32 are out', () => {
    start(6);
    backEnd.outcome = 'waiting';
    for (let i = 0; i < 33; i++) {
      const [low, high] = encodeCommand('ATS.INVAL', { RID: BigInt(i) });
      memory.view.setBigUint64(0x1000 + 16 * i, low, true);
      memory.view.setBigUint64(0x1008 + 16 * i, high, true);
    }
    write(offsets.cqt, 33);
    expect(read(offsets.cqh)).toBe(32);
    front.invalidationTimedOut(1 << 5);
    expect([read(offsets.cqh), backEnd.tags.at(-1)]).toEqual([33, 5]);
  });
});

describe('the fault queue', () => {
  it('fills, overflows once, and starts again when software says so', () => {
    start(1);
    front.reportFault(fault);
    expect(memory.view.getBigUint64(0x2000, true)).toBe(13n | (2n << 34n) | (3n << 40n));
    expect(memory.view.getBigUint64(0x2010, true)).toBe(0x1234n);
    front.reportFault(fault);
    expect([(read(offsets.fqcsr) >> 9) & 1, read(offsets.fqt)]).toEqual([1, 1]);
    write(offsets.fqh, 1);
    front.reportFault(fault);
    expect(read(offsets.fqt)).toBe(1);
    write(offsets.fqcsr, 0x203);
    front.reportFault(fault);
    expect(read(offsets.fqt)).toBe(0);
  });

  it('DTF hides translation faults only', () => {
    start();
    front.reportFault(fault, true);
    expect(read(offsets.fqt)).toBe(0);
    front.reportFault({ ...fault, cause: causes.ddtInvalid }, true);
    expect(read(offsets.fqt)).toBe(1);
  });

  it('sends its message where the table says, masked ones on unmasking', () => {
    start();
    write8(offsets.icvec, 0x20n);
    write8(msiConfigOffset(2), 0x5000n);
    write(msiConfigOffset(2) + 8, 77);
    write(msiConfigOffset(2) + 12, 1);
    front.reportFault(fault);
    expect(memory.view.getUint32(0x5000, true)).toBe(0);
    write(msiConfigOffset(2) + 12, 0);
    expect(memory.view.getUint32(0x5000, true)).toBe(77);
    memory.view.setUint32(0x5000, 0, true);
    front.reportFault(fault);
    expect(memory.view.getUint32(0x5000, true)).toBe(0);
    write(offsets.ipsr, 2);
    front.reportFault(fault);
    expect(memory.view.getUint32(0x5000, true)).toBe(77);
  });

  it('a message that nothing takes is a fault itself', () => {
    start();
    write8(msiConfigOffset(0), 0x10_0000n);
    front.reportFault(fault);
    expect(read(offsets.fqt)).toBe(2);
    expect(Number(memory.view.getBigUint64(0x2020, true) & 0xfffn)).toBe(273);
    expect(memory.view.getBigUint64(0x2030, true)).toBe(0x10_0000n);
  });
});

describe('page requests', () => {
  const request = { rid: 0x18, segment: undefined, processIdValid: true, processId: 7, supervisor: true, execute: false, payload: 0x4000n | 0x7n }; // prettier-ignore
  it('queues on a back end’s word, and says when it could not', () => {
    start(1);
    expect(front.queuePageRequest(0x18, request)).toBe('queued');
    expect(memory.view.getBigUint64(0x3000, true)).toBe((7n << 12n) | (3n << 32n) | (0x18n << 40n));
    expect(front.queuePageRequest(0x18, request)).toBe('overflow');
    expect(read(offsets.ipsr) & 8).toBe(8);
    write(offsets.pqcsr, 0);
    expect(front.queuePageRequest(0x18, request)).toBe('off');
  });

  it('answers for itself where there is no directory', () => {
    start();
    front.pageRequest(request);
    expect(backEnd.responses).toEqual([{ rid: 0x18, segment: undefined, processId: 7, payload: 0x0018_f000_0000_0000n }]); // prettier-ignore
    write8(offsets.ddtp, 1n);
    front.pageRequest(request);
    expect(backEnd.responses.at(-1)).toMatchObject({ processId: undefined, payload: 0x0018_1000_0000_0000n });
    front.pageRequest({ ...request, payload: 0x4003n });
    expect(backEnd.responses).toHaveLength(2);
  });
});

describe('the performance monitor', () => {
  const who = { deviceId: 0x107, processId: 5, gscid: 2, pscid: 9 };
  const select = (n: number, fields: Parameters<typeof iohpmevt.encode>[0]): void => write8(iohpmevtOffset(n), iohpmevt.encode(fields)); // prettier-ignore
  const counted = (n: number): bigint => front.read(iohpmctrOffset(n), 8) as bigint;

  // prettier-ignore
  it.each([
    [{}, 1], [{ PV_PSCV: 1n, PID_PSCID: 5n }, 1], [{ PV_PSCV: 1n, PID_PSCID: 6n }, 0],
    [{ DV_GSCV: 1n, DID_GSCID: 0x107n }, 1], [{ DV_GSCV: 1n, DID_GSCID: 0x103n, DMASK: 1n }, 1], [{ DV_GSCV: 1n, DID_GSCID: 0x10fn, DMASK: 1n }, 1],
    [{ DV_GSCV: 1n, DID_GSCID: 0x01n, DMASK: 1n }, 0], [{ IDT: 1n, PV_PSCV: 1n, PID_PSCID: 9n }, 1],
    [{ IDT: 1n, DV_GSCV: 1n, DID_GSCID: 2n }, 1], [{ IDT: 1n, DV_GSCV: 1n, DID_GSCID: 3n }, 0],
  ] as const)('filter %o counts %i', (filter, times) => {
    select(1, { eventID: BigInt(hpmEvent.tlbMiss), ...filter });
    expect(front.monitor.active).toBe(true);
    front.monitor.count(hpmEvent.tlbMiss, who);
    front.monitor.count(hpmEvent.ddtWalk, who);
    expect(counted(1)).toBe(BigInt(times));
  });

  it('an event that knows no address space is not counted by one', () => {
    select(1, { eventID: BigInt(hpmEvent.untranslated), IDT: 1n });
    front.monitor.count(hpmEvent.untranslated, who);
    expect(counted(1)).toBe(0n);
  });

  it('overflow sets OF, its shadow and pmip, once', () => {
    select(2, { eventID: 5n });
    write8(iohpmctrOffset(2), (1n << 64n) - 1n);
    front.monitor.count(hpmEvent.ddtWalk, who);
    expect([counted(2), read(offsets.iocountovf), read(offsets.ipsr)]).toEqual([0n, 4, 4]);
    write(offsets.ipsr, 4);
    write8(iohpmctrOffset(2), (1n << 64n) - 1n);
    front.monitor.count(hpmEvent.ddtWalk, who);
    expect(read(offsets.ipsr)).toBe(0);
  });

  it('inhibited counters and counters that are not there stand still', () => {
    select(1, { eventID: 5n });
    select(8, { eventID: 5n });
    expect(front.read(iohpmevtOffset(8), 8)).toBe(0n);
    write(offsets.iocountinh, 0xffff_ffff);
    expect(read(offsets.iocountinh)).toBe(0xff);
    front.monitor.count(5, who);
    expect(counted(1)).toBe(0n);
  });

  it('cycles follow the clock, and overflow', () => {
    let now = 100;
    make({ cycles: () => now });
    now += 50;
    expect(front.read(offsets.iohpmcycles, 8)).toBe(50n);
    write8(offsets.iohpmcycles, (1n << 63n) - 10n);
    now += 30;
    expect(front.read(offsets.iohpmcycles, 8)).toBe((1n << 63n) | 20n);
    expect(read(offsets.ipsr)).toBe(4);
    write(offsets.iocountinh, 1);
    now += 30;
    expect(front.read(offsets.iohpmcycles, 8)).toBe((1n << 63n) | 20n);
  });
});
