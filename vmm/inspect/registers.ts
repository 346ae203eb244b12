import { hex } from '#vmm/base/address';
import type { FrontEnd } from '#iommufd/arch/riscv/front-end';
import { registerFile } from '#iommufd/arch/riscv/registers';
import type { Machine } from '#vmm/machine/machine';
import { ofMachine, type InspectionRow } from './inspection.ts';

/** The front ends of a machine: what its guest sees, and the silicon. */
export const frontEnds = ({ assignment, host }: Machine): readonly (readonly [unit: string, frontEnd: FrontEnd])[] => [
  ...(assignment.viommu ? [['viommu', assignment.viommu.frontEnd] as const] : []),
  ['host', host.silicon.frontEnd],
];

const rowsOf = (unit: string, frontEnd: FrontEnd): InspectionRow[] =>
  registerFile
    .filter(({ when }) => !when || when(frontEnd.features))
    .map(({ name, offset, register }) => {
      const value = frontEnd.peek(offset, register.width);
      return {
        unit,
        register: name,
        offset: hex(offset, 3),
        value: hex(value, register.width / 4),
        fields: register.describe(value),
      };
    });

/** Registers that come in runs are many, and mostly unused. */
const isWorthTelling = ({ register, value }: InspectionRow): boolean =>
  !/^(?:msi_|iohpm)/.test(String(register)) || BigInt(value!) !== 0n;

export const registers = ofMachine({
  doc: 'Registers of the vIOMMU, of the host IOMMU and of the harts; vectors and counters that are zero are left out.',
  columns: { unit: 'text', register: 'text', offset: 'text', value: 'text', fields: 'text' },
  read: (machine) => [
    ...frontEnds(machine).flatMap(([unit, frontEnd]) => rowsOf(unit, frontEnd).filter(isWorthTelling)),
    ...machine.harts.flatMap(({ id }) =>
      Object.entries(machine.registers(id)).map(([register, value]) => ({
        unit: `hart${id}`,
        register,
        offset: '',
        value: hex(value, 16),
        fields: '',
      })),
    ),
  ],
});
