import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { parseRecords } from '#iommufd/conformance/records';
import { Replay } from '#iommufd/conformance/replay';
import { SimulatedTarget } from '#iommufd/conformance/simulated-target';

/** Calls recorded from Linux 7.2.12: the kernel's own selftest, and probes. */
const index = JSON.parse(readFileSync(new URL('index.json', import.meta.url), 'utf8')) as { case: string; file: string }[];

describe('recorded cases', () => {
  it('are all there', () => expect(index).toHaveLength(243));

  it.each(index)('$case', ({ file }) => {
    const records = parseRecords(gunzipSync(readFileSync(new URL(file, import.meta.url))).toString());
    const { difference, calls } = new Replay(new SimulatedTarget()).run(records);
    expect(difference).toBeUndefined();
    expect(calls).toBe(records.length);
  });
});
