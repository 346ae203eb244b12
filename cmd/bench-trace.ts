import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Trace } from '#vmm/base/events';
import { JsonLines } from '#vmm/record/jsonl';
import { PerfTrace } from '#vmm/record/perf-text';
import { TraceReader } from '#vmm/record/trace-reader';
import { OutputFile } from './files.ts';
import { textPieces } from './trace-file.ts';

/** Events a second of CPU time, which others on the machine disturb least: written to a file as JSON lines, and read from it. */
export function traceRates(events: number): { readonly written: number; readonly summed: number } {
  const folder = mkdtempSync(join(tmpdir(), 'iommulab-bench-'));
  try {
    const path = join(folder, 'trace.jsonl');
    const file = new OutputFile(path, 'a trace file');
    let now = 0;
    const trace = new Trace(() => now);
    const lines = new JsonLines(file.write);
    trace.listen(lines.sink);
    const cpuMs = (since: NodeJS.CpuUsage): number => {
      const { user, system } = process.cpuUsage(since);
      return (user + system) / 1000;
    };
    const start = process.cpuUsage();
    for (let i = 0; i < events; i += 4) {
      now += 25;
      const iova = 0x1000_0000_0000n + BigInt(i);
      trace.emit('mmio.write', { region: 'nvme0', address: 0x4000_1000 + (i & 0xff), bytes: 4, value: i & 63 });
      trace.emit('dma.read', { rid: 0x3000, pasid: -1, iova, length: 64, segments: 1, hits: 1, misses: 0, faults: 0 });
      trace.emit('dma.write', { rid: 0x3000, pasid: -1, iova, length: 4096, segments: 1, hits: 1, misses: 0, faults: 0 }); // prettier-ignore
      trace.emit('nvme.command', { device: 'nvme0', sqid: 1, cid: i & 1023, name: 'Read', nsid: 1, cdw10: i, cdw12: 7, status: 'SUCCESS' }); // prettier-ignore
    }
    lines.flush();
    file.close();
    const written = cpuMs(start);
    const begin = process.cpuUsage();
    const perf = new PerfTrace({ wants: () => true, errorsOnly: false });
    const reader = new TraceReader((event) => perf.add(event));
    for (const text of textPieces(path)) reader.push(text);
    return { written: (events / written) * 1000, summed: (events / cpuMs(begin)) * 1000 };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
