import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Trace } from '#vmm/base/events';
import { noPasid, type TranslationRequest } from '#vmm/base/ports';
import { DeviceLink } from '#iommufd/host/riscv/device-link';
import { RiscvTransactionPort } from '#iommufd/host/riscv/transaction-port';
import { guestGpa, GuestPages, GuestTable, Rig } from './rig.ts';

interface Page {
  readonly index: number;
  readonly flags: number;
}
const page: fc.Arbitrary<Page> = fc.record({
  index: fc.nat(15),
  flags: fc.constantFrom(0xd7, 0xd7, 0xdf, 0xf7, 0xd3, 0x57, 0x53, 0x17, 0x10, 0xd9, 0xc7, 0),
});
const asked = fc.record({
  index: fc.nat(17),
  noWrite: fc.boolean(),
  execute: fc.constantFrom(false, false, true),
  high: fc.constantFrom(0, 0, 0, 1),
});

/** Pages with an even index are 4 KiB in one table, the others superpages. */
const levelOf = (index: number): 0 | 1 => (index & 1) as 0 | 1;
const iovaOf = (index: number): number => (levelOf(index) === 0 ? 0x1000_0000 + index * 4096 : 0x4000_0000 + index * 2 ** 21); // prettier-ignore

describe('translation requests of a function', () => {
  it.each([
    ['physical addresses', {}],
    ['guest-physical addresses (T2GPA)', { T2GPA: 1n }],
    ['nothing, without EN_ATS', { EN_ATS: 0n }],
  ] as const)('are answered alike whether anybody listens or not: %s', (_, more) => {
    const answers = { granted: 0, absent: 0, refused: 0 };
    fc.assert(
      fc.property(
        fc.array(page, { minLength: 6, maxLength: 16 }),
        fc.array(asked, { minLength: 1, maxLength: 12 }),
        (pages, requests) => {
          const trace = new Trace(() => 0);
          const rig = new Rig({ trace });
          const guest = new GuestPages(rig.memory);
          const table = new GuestTable(rig.memory, guest);
          for (const { index, flags } of pages)
          table.map(iovaOf(index), guestGpa / 4096 + (levelOf(index) === 0 ? 2048 + index : 512 * (1 + (index % 6))), flags, levelOf(index)); // prettier-ignore
          rig.nest(table.rootGpa, { tc: { V: 1n, EN_ATS: 1n, ...more } });
          const port = new RiscvTransactionPort(rig.iommu, rig.memory, rig.rid, new DeviceLink({ after: () => ({ cancel: () => {} }) })); // prettier-ignore
          const ask = ({ index, noWrite, execute, high }: (typeof requests)[number]): object => {
            const request: TranslationRequest = { hi: high, lo: iovaOf(index) + levelOf(index) * 4096, pasid: noPasid, privileged: false, execute, noWrite }; // prettier-ignore
            return { ...port.translate(request) };
          };
          const quick = requests.map(ask);
          const faults = rig.faults;
          const stop = trace.listen(() => {});
          expect(requests.map(ask)).toEqual(quick);
          stop();
          expect(rig.faults.slice(faults.length)).toEqual(faults);
          for (const answer of quick as { status: string; read: boolean }[])
            answers[answer.status !== 'success' ? 'refused' : answer.read ? 'granted' : 'absent']++;
        },
      ),
      { numRuns: 60 },
    );
    if ('EN_ATS' in more) expect(answers).toMatchObject({ granted: 0, absent: 0 });
    else expect([answers.granted > 20, answers.absent > 20]).toEqual([true, true]);
  });
});
