import { describe, expect, it } from 'vitest';
import { type SbiHandler, sbiErrors, sbiExtensions } from '#vmm/cpu/riscv/sbi';
import { board, li64, op, ramBase, spin } from './assembler.ts';

const calls: unknown[] = [];
const handler: SbiHandler = {
  hartCount: 2,
  putchar: (bytes) => calls.push(['putchar', new TextDecoder().decode(bytes)]),
  getchar: () => new TextEncoder().encode('in'),
  shutdown: (failure) => calls.push(['shutdown', failure]),
  reset: (kind) => calls.push(['reset', kind]),
  hartStart: (id, pc, opaque) => (calls.push(['start', id, pc, opaque]), 'SBI_SUCCESS'),
  hartStop: (id) => calls.push(['stop', id]),
  hartState: (id) => id,
  sendIpi: (id) => calls.push(['ipi', id]),
  remoteFence: (id, kind) => calls.push(['fence', id, kind]),
};
const b = board({ entryMode: 's', sbi: handler });
const idOf = (name: string): bigint => BigInt(sbiExtensions.find((row) => row.name === name)!.id);

/** ecall with these arguments: [a0 as a signed error, a1]. */
const ecall = (extension: bigint, index: number, ...args: bigint[]): [bigint, bigint] => {
  calls.length = 0;
  b.load(0, ...li64(5, 0n), op('ecall'), spin);
  b.hart.reset(ramBase, 0, 0);
  args.forEach((value, i) => b.hart.setX(10 + i, value));
  b.hart.setX(16, index);
  b.hart.setX(17, extension);
  b.hart.run(li64(5, 0n).length + 2);
  return [BigInt.asIntN(64, b.hart.x(10)), b.hart.x(11)];
};
const error = (name: keyof typeof sbiErrors): bigint => BigInt(sbiErrors[name]);
const all = (1n << 64n) - 1n;

describe('SBI', () => {
  it('is version 2.0 and offers the extensions of the table', () => {
    expect(ecall(0x10n, 0)).toEqual([0n, 2n << 24n]);
    for (const row of sbiExtensions) expect(ecall(0x10n, 3, BigInt(row.id))).toEqual([0n, 1n]);
    expect(ecall(0x10n, 3, 0x504d55n)).toEqual([0n, 0n]);
    expect(sbiExtensions.map((row) => row.name)).toEqual(['BASE', 'TIME', 'IPI', 'RFENCE', 'HSM', 'SRST', 'DBCN']);
    expect(idOf('TIME')).toBe(0x54494d45n);
    expect(idOf('RFENCE')).toBe(0x52464e43n);
    expect(idOf('HSM')).toBe(0x48534dn);
    expect(idOf('SRST')).toBe(0x53525354n);
    expect(idOf('DBCN')).toBe(0x4442434en);
  });

  it('refuses what it does not have', () => {
    expect(ecall(0x504d55n, 0)[0]).toBe(error('SBI_ERR_NOT_SUPPORTED'));
    expect(ecall(0x10n, 99)[0]).toBe(error('SBI_ERR_NOT_SUPPORTED'));
    expect(ecall(idOf('RFENCE'), 3)[0]).toBe(error('SBI_ERR_NOT_SUPPORTED'));
  });

  it('returns behind the ecall, and not as a trap', () => {
    ecall(0x10n, 0);
    expect(b.hart.pc).toBe(BigInt(ramBase + 4 * (li64(5, 0n).length + 1)));
    expect(b.hart.csr('scause')).toBe(0n);
  });

  it('sets the timer', () => {
    expect(ecall(idOf('TIME'), 0, 1234n)[0]).toBe(0n);
    expect(b.hart.csr('stimecmp')).toBe(1234n);
  });

  it('takes masks of harts', () => {
    expect(ecall(idOf('IPI'), 0, 3n, 0n)[0]).toBe(0n);
    expect(calls).toEqual([['ipi', 0], ['ipi', 1]]); // prettier-ignore
    ecall(idOf('IPI'), 0, 1n, 1n);
    expect(calls).toEqual([['ipi', 1]]);
    ecall(idOf('RFENCE'), 1, 0n, all, 0n, all);
    expect(calls).toEqual([['fence', 0, 'translations'], ['fence', 1, 'translations']]); // prettier-ignore
    ecall(idOf('RFENCE'), 0, 2n, 0n);
    expect(calls).toEqual([['fence', 1, 'code']]);
    expect(ecall(idOf('IPI'), 0, 4n, 0n)[0]).toBe(error('SBI_ERR_INVALID_PARAM'));
    expect(ecall(idOf('IPI'), 0, 1n, all - 1n)[0]).toBe(error('SBI_ERR_INVALID_PARAM'));
    expect(calls).toEqual([]);
  });

  it('starts and stops harts, with checked arguments', () => {
    expect(ecall(idOf('HSM'), 0, 1n, BigInt(ramBase), 77n)[0]).toBe(0n);
    expect(calls).toEqual([['start', 1, BigInt(ramBase), 77n]]);
    expect(ecall(idOf('HSM'), 0, 2n, BigInt(ramBase), 0n)[0]).toBe(error('SBI_ERR_INVALID_PARAM'));
    expect(ecall(idOf('HSM'), 0, 1n, 0x1000n, 0n)[0]).toBe(error('SBI_ERR_INVALID_ADDRESS'));
    expect(ecall(idOf('HSM'), 2, 1n)).toEqual([0n, 1n]);
    ecall(idOf('HSM'), 1);
    expect(calls).toEqual([['stop', 0]]);
  });

  it('resets and powers off', () => {
    ecall(idOf('SRST'), 0, 0n, 1n);
    expect(calls).toEqual([['shutdown', true]]);
    ecall(idOf('SRST'), 0, 1n, 0n);
    expect(calls).toEqual([['reset', 'cold']]);
    expect(ecall(idOf('SRST'), 0, 3n, 0n)[0]).toBe(error('SBI_ERR_INVALID_PARAM'));
  });

  it('writes and reads the console through memory', () => {
    b.group.memory.bytes.set(new TextEncoder().encode('hello'), b.group.memory.guestBase + 0x100);
    expect(ecall(idOf('DBCN'), 0, 5n, BigInt(ramBase + 0x100), 0n)).toEqual([0n, 5n]);
    expect(calls).toEqual([['putchar', 'hello']]);
    expect(ecall(idOf('DBCN'), 1, 5n, BigInt(ramBase + 0x100), 0n)).toEqual([0n, 2n]);
    expect(b.read64(0x100) & 0xffffn).toBe(0x6e69n);
    expect(ecall(idOf('DBCN'), 0, 5n, 0x1000n, 0n)[0]).toBe(error('SBI_ERR_INVALID_PARAM'));
    expect(ecall(idOf('DBCN'), 0, all, BigInt(ramBase), 0n)[0]).toBe(error('SBI_ERR_INVALID_PARAM'));
    ecall(idOf('DBCN'), 2, 0x141n);
    expect(calls).toEqual([['putchar', 'A']]);
  });
});
