import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { bundle } from '../build.ts';

/** A user's project, with this package as npm would lay it. */
let folder = '';
beforeAll(async () => {
  await bundle('index.ts', join(process.cwd(), 'dist/index.js'));
  await bundle('iommufd/index.ts', join(process.cwd(), 'dist/iommufd.js'));
  folder = mkdtempSync(join(tmpdir(), 'iommulab-user-'));
  mkdirSync(join(folder, 'node_modules'));
  symlinkSync(process.cwd(), join(folder, 'node_modules/iommulab'), 'dir');
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const run = (program: string): string => {
  writeFileSync(join(folder, 'program.mjs'), program);
  return execFileSync(process.execPath, ['program.mjs'], { cwd: folder, encoding: 'utf8' });
};

it("import { Machine } from 'iommulab' boots a guest", () => {
  const said = run(`
    import { readFileSync } from 'node:fs';
    import { Machine, guestImages, memoryStorage, parseConfig } from 'iommulab';
    const guest = guestImages.find(({ name }) => name === 'hello');
    const parsed = parseConfig({ memory: '32M' });
    const image = readFileSync('node_modules/iommulab/guest-images/' + guest.file);
    const machine = Machine.create(parsed.config, { image, openDisk: () => memoryStorage(512), console: () => {} });
    console.log(machine.run().outcome, machine.stats().instructions > 1000);
  `);
  expect(said).toBe('passed true\n');
});

it("import { Iommufd, Kernel } from 'iommulab/iommufd' makes calls", () => {
  const said = run(`
    import { Iommufd, Kernel, describeHostError } from 'iommulab/iommufd';
    const { iommufd } = Iommufd.open(new Kernel());
    const { ioasId } = iommufd.ioasAlloc();
    console.log(ioasId, describeHostError(iommufd.destroy(77).error));
  `);
  expect(said).toBe('1 IOMMU_DESTROY: ENOENT (id=77)\n');
});
