import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { memoryStorage } from '#devices/backends/storage/memory';
import { Debugger } from '#vmm/gdb/debugger';
import { hex } from '#vmm/gdb/packets';
import { Machine, type MachineConfigInput, parseConfig } from '../../../index.ts';

const entry = 0x8020_0000;

/** A guest at its first instruction, and GDB's end of the wire. */
function attach(guest = 'hello', keys: MachineConfigInput = {}) {
  const parsed = parseConfig(keys);
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.issues));
  const machine = Machine.create(parsed.config, {
    image: readFileSync(`guest-images/images/${guest}.elf`),
    openDisk: () => memoryStorage(1 << 20),
    console: () => {},
  });
  let sent = '';
  const gdb = new Debugger(machine, (bytes) => (sent += String.fromCharCode(...bytes)), true);
  gdb.connect();
  const say = (data: string): void => {
    const sum = [...data].reduce((total, c) => (total + c.charCodeAt(0)) & 0xff, 0);
    gdb.receive(Uint8Array.from(`$${data}#${sum.toString(16).padStart(2, '0')}`, (c) => c.charCodeAt(0)));
  };
  say('QStartNoAckMode');
  /** What comes back; the machine runs until it stops where the packet makes it run. */
  const ask = (data: string): string => {
    sent = '';
    say(data);
    for (let i = 0; i < 1000 && !gdb.isStopped; i++) {
      const result = gdb.run({ instructions: 100_000 });
      if (result && result.outcome !== 'limit') break;
    }
    return /^\$(.*)#..$/s.exec(sent)?.[1] ?? sent;
  };
  return { machine, gdb, ask };
}
const littleEndian = (value: bigint): string => {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, value, true);
  return hex(bytes);
};
const registerNumber = { pc: 0x20, a0: 10, satp: 65 + 0x180, priv: 65 + 4096 } as const;
const p = (number: number): string => `p${number.toString(16)}`;

describe('debugger', () => {
  it('stops before the first instruction; every hart is a thread', () => {
    const { ask } = attach('smp', { smp: 3 });
    expect(ask('?')).toBe('T05thread:1;');
    expect(ask('qfThreadInfo')).toBe('m1,2,3');
    expect(ask('qsThreadInfo')).toBe('l');
    expect(ask('T3')).toBe('OK');
    expect(ask('T4')).toMatch(/^E/);
    expect(ask(p(registerNumber.pc))).toBe(littleEndian(BigInt(entry)));
  });

  it('describes its registers, and reads and writes them', () => {
    const { ask, machine } = attach();
    const xml = ask('qXfer:features:read:target.xml:0,3fff');
    expect(xml).toContain('<architecture>riscv:rv64</architecture>');
    expect(xml).toContain('<reg name="satp" bitsize="64" type="int" regnum="449"/>');
    expect(ask(`P${registerNumber.a0.toString(16)}=${littleEndian(0x1234_5678_9abc_def0n)}`)).toBe('OK');
    expect(machine.registers()['a0']).toBe(0x1234_5678_9abc_def0n);
    const all = ask('g');
    expect(all).toHaveLength(65 * 16);
    expect(all.slice(16 * 10, 16 * 11)).toBe(littleEndian(0x1234_5678_9abc_def0n));
    expect(ask(`G${all}`)).toBe('OK');
    expect(ask('G00')).toMatch(/^E/);
    expect(ask(p(registerNumber.priv))).toBe(littleEndian(1n));
    expect(ask('p7fffffff')).toMatch(/^E/);
  });

  it('steps one instruction of one hart', () => {
    const { ask, machine } = attach();
    expect(ask('vCont;s:1')).toBe('T05thread:1;');
    expect(machine.instructions).toBe(1);
    expect(machine.registers()['pc']).toBe(BigInt(entry + 4));
  });

  it('stops at a breakpoint, hides it from memory, and goes on as if it had not been there', () => {
    const { ask, machine } = attach();
    for (let i = 0; i < 5; i++) ask('s');
    const pc = machine.registers()['pc']!.toString(16);
    const straight = attach();
    const { ask: again, machine: other } = attach();
    const before = again(`m${pc},4`);
    expect(again(`Z0,${pc},4`)).toBe('OK');
    expect(hex(other.readMemory(Number(`0x${pc}`), 4))).toBe('73001000');
    expect(again(`m${pc},4`)).toBe(before);
    expect(again('c')).toBe('T05thread:1;swbreak:;');
    expect(other.registers()).toEqual(machine.registers());
    expect(again(`z0,${pc},4`)).toBe('OK');
    expect(hex(other.readMemory(Number(`0x${pc}`), 4))).toBe(before);
    expect(again('c')).toBe('W00');
    expect(straight.ask('c')).toBe('W00');
    expect(other.instructions).toBe(straight.machine.instructions);
  });

  it('stops behind a store to a watched address', () => {
    const { ask, machine } = attach();
    // The stack: the first call stores there.
    while (machine.registers()['sp'] === 0n) ask('s');
    for (let i = 0; i < 3; i++) ask('s');
    const at = (machine.registers()['sp']! - 8n).toString(16);
    expect(ask(`Z2,${at},8`)).toBe('OK');
    expect(ask('c')).toBe(`T05thread:1;watch:${at};`);
    expect(ask(`z2,${at},8`)).toBe('OK');
    expect(ask('c')).toBe('W00');
    expect(ask('Z2,10,8')).toMatch(/^E/);
  });

  it('leaves the guest its own ebreak: it traps as without a debugger', () => {
    const { ask, machine } = attach();
    machine.writeMemory(entry, Uint8Array.of(0x73, 0, 0x10, 0));
    machine.harts[0]!.fenceCode();
    machine.harts[0]!.setCsr('stvec', BigInt(entry + 0x100));
    expect(ask('vCont;s:1')).toBe('T05thread:1;');
    expect(machine.registers()).toMatchObject({ scause: 3n, sepc: BigInt(entry) });
  });

  it('reads and writes memory, and says where none is', () => {
    const { ask, machine } = attach();
    expect(ask('M84000000,4:01020304')).toBe('OK');
    expect([...machine.readMemory(0x8400_0000, 4)]).toEqual([1, 2, 3, 4]);
    expect(ask('m84000ffe,4')).toBe('00000000');
    expect(ask('m0,4')).toBe('E0e');
    expect(ask('m87fffffe,4')).toBe('E0e');
    expect(ask('X84000000,2:\u0009\u0008')).toBe('OK');
    expect(ask('m84000000,2')).toBe('0908');
  });

  it('monitor shows the state of the IOMMU and of iommufd', () => {
    const { ask } = attach('hello', { disks: [{ path: 'memory' }] });
    const monitor = (command: string): string =>
      Buffer.from(ask(`qRcmd,${Buffer.from(command).toString('hex')}`), 'hex').toString();
    expect(monitor('help')).toContain('device-table');
    expect(monitor('objects')).toContain('nvme0');
    expect(monitor('registers')).toContain('ddtp');
    expect(monitor('nonsense')).toContain('unknown command');
    expect(monitor('physical on')).toContain('guest-physical');
  });

  it('Ctrl-C stops; detach lets the guest run on without breakpoints', () => {
    const { ask, gdb, machine } = attach();
    expect(ask(`Z0,${(entry + 4).toString(16)},4`)).toBe('OK');
    expect(ask('D')).toBe('OK');
    expect(machine.run().outcome).toBe('passed');
    const hanging = attach('hang');
    hanging.gdb.receive(Uint8Array.from('$c#63', (c) => c.charCodeAt(0)));
    hanging.gdb.run({ instructions: 1000 });
    expect(hanging.gdb.isStopped).toBe(false);
    hanging.gdb.receive(Uint8Array.of(3));
    expect(hanging.gdb.isStopped).toBe(true);
    expect(gdb.isKilled).toBe(false);
  });

  it('survives any packet', () => {
    const { ask, gdb } = attach();
    const heads = ['', 'g', 'G', 'p', 'P', 'm', 'M', 'X', 'Z', 'z', 'H', 'T', 'qRcmd,', 'qXfer:features:read:target.xml:', 'vCont;s:']; // prettier-ignore
    fc.assert(
      fc.property(fc.constantFrom(...heads), fc.string({ maxLength: 30 }), (head, rest) => {
        ask(head + rest);
        gdb.receive(Uint8Array.of(3));
      }),
      { numRuns: 300 },
    );
  });
});
