import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { type CallRecord, fromHex, parseRecords, toHex } from '#iommufd/conformance/records';
import { Replay } from '#iommufd/conformance/replay';
import { SimulatedTarget } from '#iommufd/conformance/simulated-target';

const load = (name: string): CallRecord[] =>
  parseRecords(gunzipSync(readFileSync(new URL(`traces/${name}.jsonl.gz`, import.meta.url))).toString());
const play = (records: readonly CallRecord[]) => new Replay(new SimulatedTarget()).run(records);

/** The case with one record changed. */
function spoil(name: string, pick: (r: CallRecord) => boolean, change: (r: CallRecord) => Partial<CallRecord>) {
  const records = load(name);
  const at = records.findIndex(pick);
  expect(at).toBeGreaterThan(0);
  return records.map((r, i) => (i === at ? { ...r, ...change(r) } : r));
}

describe('the replayer', () => {
  it('tells a result that differs, with the arguments decoded', () => {
    const { difference } = play(
      spoil('probe.rlimit_zero', (r) => r.cmd === 'IOMMU_IOAS_MAP', () => ({ ret: -1, errno: 22 })),
    );
    expect(difference).toMatchObject({ call: 'IOMMU_IOAS_MAP', lines: ['result: expected EINVAL, got 0'] });
    expect(difference!.arguments).toMatch(/^flags=7 ioas_id=1 user_va=0x[0-9a-f]+ length=0x1000 iova=0x1000000$/);
  });

  it('tells a field that differs', () => {
    const change = (r: CallRecord) => {
      const out = fromHex(r.out!);
      out[8] = 9;
      return { out: toHex(out) };
    };
    const { difference } = play(spoil('probe.rlimit_zero', (r) => r.cmd === 'IOMMU_IOAS_ALLOC', change));
    expect(difference!.lines).toEqual(['out_ioas_id: expected 9, got 1']);
  });

  it('tells events, bytes and memory that differ', () => {
    const polled = play(spoil('probe.fault_deliver', (r) => r.t === 'poll' && r.revents === 5, () => ({ revents: 4 })));
    expect(polled.difference!.lines).toEqual(['revents: expected 4, got 5']);
    const read = play(
      spoil('probe.fault_deliver', (r) => r.t === 'read' && r.out !== undefined, (r) => ({ out: `07${r.out!.slice(2)}` })),
    );
    expect(read.difference!.lines[0]).toMatch(/^bytes read from byte 0: expected 07/);
    const info = play(
      spoil(
        'probe.hw_info_args',
        (r) => r.ret === 0 && (r.ptrs ?? []).some((p) => p.out !== undefined),
        (r) => ({ ptrs: r.ptrs!.map((p) => ({ ...p, out: `ff${p.out!.slice(2)}` })) }),
      ),
    );
    expect(info.difference!.lines[0]).toMatch(/^data at 16 from byte 0: expected ff/);
  });

  it('stops at the first difference, and at a record that it does not know', () => {
    const records = load('probe.rlimit_zero');
    expect(play([records[0]!, { n: 1, t: 'teleport' }, ...records.slice(1)])).toMatchObject({
      name: 'probe.rlimit_zero',
      calls: 1,
      difference: { n: 1, lines: ['no such record: teleport'] },
    });
  });
});
