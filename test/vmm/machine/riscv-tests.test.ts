/**
 * The riscv-tests suite (riscv-software-src/riscv-tests, its `isa` folder built with any RISC-V compiler), which is no
 * part of the project: IOMMULAB_RISCV_TESTS names the folder of its ELF files, such as rv64ui-p-add.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseConfig } from '#vmm/config/parse';
import { Machine } from '#vmm/machine/machine';

const folder = process.env['IOMMULAB_RISCV_TESTS'];
const suites = /^rv64(?:ui|um|ua|uf|ud|uc|mi|si|uzba|uzbb|uzbs|uzicond|mzicbo|ssvnapot)-[pv]-[a-z0-9_.-]+$/;
const files =
  folder === undefined ? [] : readdirSync(folder).filter((name) => suites.test(name) && !/\.\w+$/.test(name));
const why = folder === undefined ? ' (skipped: IOMMULAB_RISCV_TESTS is unset)' : '';

describe.skipIf(folder === undefined)(`riscv-tests${why}`, () => {
  it.each([['interpreted', { translate: false }], ['translated', { 'translate-after': 1 }]] as const)('pass, %s', { timeout: 600_000 }, (_, cpu) => {
    expect(files.length).toBeGreaterThan(200);
    const failed = files.filter((name) => {
      const parsed = parseConfig({ 'entry-mode': 'm', htif: true, memory: '64M', cpu });
      if (!parsed.ok) throw new Error('a wrong configuration');
      const machine = Machine.create(parsed.config, {
        image: readFileSync(join(folder!, name)),
        openDisk: () => {
          throw new Error('there is no disk');
        },
        console: () => {},
      });
      const { outcome } = machine.run({ instructions: 2e8 });
      machine.close();
      return outcome !== 'passed';
    });
    expect(failed).toEqual([]);
  });
}); // prettier-ignore
