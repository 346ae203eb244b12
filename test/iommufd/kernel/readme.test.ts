import { existsSync, readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { ioctls } from '#iommufd/kernel/ioctls';

it('names the file of every ioctl', () => {
  const folder = new URL('../../../iommufd/', import.meta.url);
  const rows = new Map(
    [...readFileSync(new URL('README.md', folder), 'utf8').matchAll(/^\| `(IOMMU_\w+)` +\| `([^`]+)` +\|/gm)].map(
      ([, name, file]) => [name!, file!],
    ),
  );
  expect([...rows.keys()]).toEqual(Object.keys(ioctls));
  for (const [name, file] of rows) {
    expect(existsSync(new URL(file, folder)), file).toBe(true);
    expect([
      name,
      /: Handler|command: Command/.test(readFileSync(new URL(file, folder), 'utf8')) || name === 'IOMMU_DESTROY',
    ]).toEqual([name, true]);
  }
});
