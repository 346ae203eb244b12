import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { shareOf } from '#cmd/bench-profile';

it('a profile is told by what the main thread did: run loop, translated code, sources', () => {
  const folder = mkdtempSync(join(tmpdir(), 'iommulab-test-'));
  try {
    const frame = (id: number, functionName: string, url: string, children: number[] = []) => ({ id, children, callFrame: { functionName, url } }); // prettier-ignore
    const nodes = [
      frame(1, '(root)', '', [2, 3, 10]),
      frame(2, '(idle)', ''),
      frame(3, 'run', 'file:///a/vmm/cpu/riscv/hart.ts', [4, 8]),
      frame(4, 'wasm-function[54]', 'wasm://wasm/hart', [5, 6, 7]),
      frame(5, 'wasm-function[1]', 'wasm://wasm/region'),
      frame(6, 'write', 'file:///a/devices/uart/uart.ts'),
      frame(7, '(garbage collector)', ''),
      frame(8, 'compile', 'file:///a/vmm/cpu/engine/translator.ts'),
      frame(9, 'wasm-function[0]', 'wasm://wasm/lexer'),
      frame(10, 'parse', 'node:internal/modules', [9]),
    ];
    const samples = [2, 3, 4, 4, 5, 6, 7, 8, 10, 1];
    const profile = { nodes, samples, timeDeltas: samples.map(() => 1_000_000) };
    writeFileSync(join(folder, 'CPU.20260101.000000.7.0.001.cpuprofile'), JSON.stringify(profile));
    writeFileSync(join(folder, 'CPU.20260101.000000.7.1.002.cpuprofile'), '{}');
    expect(shareOf(folder)).toEqual({
      interpreted: 2,
      translated: 1,
      compiling: 2,
      devices: 1,
      'garbage collection': 1,
      'loading modules': 1,
      other: 0,
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
