import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { FieldValue } from '#vmm/base/events';
import { catalogue, eventFilter, unknownGlobs } from '#vmm/record/catalogue';
import { Narrator, storyText } from '#vmm/record/narrate';
import { sums, tellings } from '#vmm/record/narration';
import type { DeviceStats } from '#vmm/record/summary';
import { LastEvents, textLine } from '#vmm/record/text';

function story(tell: (narrator: Narrator, say: (text: string) => void) => void): string {
  const lines: string[] = [];
  const decoder = new TextDecoder();
  const narrator = new Narrator(
    (line) => lines.push(storyText(line)),
    (bytes) => decoder.decode(bytes, { stream: true }),
  );
  tell(narrator, (text) => narrator.console(new TextEncoder().encode(text)));
  narrator.finish();
  return lines.join('\n');
}
const event = (name: string, fields: Record<string, FieldValue>) => ({ time: 0, name, fields });

describe('narration', () => {
  it('tells each step, causes before effects, the first of each kind one by one, and the rest as sums', () => {
    let time = 0;
    const at = (name: string, fields: Record<string, FieldValue>) => ({ time, name, fields });
    const told = story((narrator, say) => {
      narrator.nameOf = (rid) => `device${rid}`;
      say('hello\nstep: read 8 MiB\n');
      for (let i = 0; i < 1000; i++) {
        time++;
        narrator.sink(at('iommu.invalidate', { command: 'IOTINVAL.VMA', entries: i }));
        narrator.sink(at('iommu.command', { unit: 'host', command: 'IOTINVAL.VMA', operands: '', outcome: 'done' }));
        narrator.sink(at('iommufd.ioctl', { name: 'IOMMU_HWPT_INVALIDATE', in: 'hwpt_id=6 data_uptr=0x7f00 entry_num=1', out: '', result: '0' }));
        narrator.sink(at('iommu.command', { unit: 'viommu', command: 'IOTINVAL.VMA', operands: `AV=0x1 ADDR=0x${i}`, outcome: 'done' }));
        narrator.sink(at('nvme.command', { device: 'nvme0', sqid: 1, cid: i, name: i % 4 === 0 ? 'Flush' : 'Read', nsid: 1, cdw10: 0, cdw12: 0, status: 'ok' }));
        narrator.sink(at('nic.transmit', { device: 'net0', queue: 0, bytes: 1024 }));
        narrator.sink(at('mmio.read', { region: 'uart', address: 0, bytes: 1, value: 0 }));
      }
      say('done\nst');
      say('ep: look at a fault\n');
      narrator.sink(at('iommu.interrupt', { unit: 'viommu', cause: 'fip', vector: 1, message: '0x28000000' }));
      narrator.sink(at('iommu.fault', { unit: 'viommu', cause: 15, name: 'write page fault', rid: 8, pasid: -1, iova: 0x1000n, iotval2: 0n, recorded: 1 }));
      narrator.sink(at('nvme.warning', { device: 'nvme0', what: 'odd\u001b[31m' }));
      say('passed');
    });
    expect(told).toBe(
      `
  │ hello
▶ read 8 MiB
    vIOMMU   IOTINVAL.VMA ADDR=0x0
      iommufd  IOMMU_HWPT_INVALIDATE(hwpt_id=6, entry_num=1) = 0
        host     IOTINVAL.VMA drops 0 cached translations
    vIOMMU   IOTINVAL.VMA ADDR=0x1
      iommufd  IOMMU_HWPT_INVALIDATE(hwpt_id=6, entry_num=1) = 0
        host     IOTINVAL.VMA drops 1 cached translations
  │ done
    vIOMMU   … and 998 × IOTINVAL.VMA
      iommufd  … and 998 × IOMMU_HWPT_INVALIDATE
        host     … and 998 × IOTINVAL.VMA
    device   nvme0: 1 000 commands (250 Flush, 750 Read)
    device   net0: 1 000 frames sent, 1000.0 KiB
▶ look at a fault
    vIOMMU   fault record for the guest: device8 at IOVA 0x1000: write page fault (cause 15)
      vIOMMU   interrupt fip → MSI to 0x28000000
    device   ! nvme.warning device=nvme0 what=odd[31m
  │ passed`.slice(1),
    );
  }); // prettier-ignore

  it('tells what the hardware did in each step', () => {
    const stats = {
      instructions: 0,
      virtualNs: 0,
      devices: [] as DeviceStats[],
      translations: 0,
      iotlbHits: 0,
      iotlbMisses: 0,
      walks: 0,
      walkLoads: 0,
      hostFaults: 0,
      commands: {},
      ioctls: {},
    };
    const nvme = {
      id: 'nvme0',
      address: '00:01.0',
      readBytes: 0,
      reads: 0,
      writtenBytes: 0,
      writes: 0,
      messages: 0,
      faults: 0,
    };
    const told = story((narrator, say) => {
      narrator.stats = () => ({ ...stats, devices: [{ ...nvme }] });
      say('step: one\n');
      nvme.writes = 2048;
      nvme.writtenBytes = 8 << 20;
      stats.translations = 3000;
      stats.iotlbHits = 2990;
      stats.walks = 10;
      say('step: two\n');
      nvme.reads = 1;
      nvme.readBytes = 64;
      nvme.faults = 1;
    });
    expect(told).toBe(
      `
▶ one
        host     DMA of nvme0: 8.0 MiB written in 2 048 transactions
        host     3 000 translations: 2 990 IOTLB hits, 10 walks
▶ two
        host     DMA of nvme0: 64 B read in 1 transaction, 1 refused`.slice(1),
    );
  });

  it('is bounded, whatever the guest does', () => {
    const told = story((narrator, say) => {
      for (let i = 0; i < 5000; i++) {
        narrator.sink(
          event('iommu.command', { unit: 'viommu0', command: `made up ${i}`, operands: '', outcome: 'illegal' }),
        );
        say('x'.repeat(100));
      }
    });
    expect(told.length).toBeLessThan(1_200_000);
  });

  it('tells only events that exist, with fields that they have', () => {
    const seen: string[] = [];
    const fields = (name: string) =>
      new Proxy<Record<string, FieldValue>>(
        {},
        {
          get: (_, key) => {
            if (typeof key === 'string' && !(key in catalogue.get(name)!.fields)) seen.push(`${name}: ${key}`);
            return 1;
          },
        },
      );
    for (const name of [...Object.keys(tellings), ...Object.keys(sums)]) expect(catalogue.has(name), name).toBe(true);
    for (const [name, telling] of Object.entries(tellings)) {
      telling.say(fields(name), String);
      telling.kind(fields(name), String);
      if (typeof telling.layer === 'function') telling.layer(fields(name));
    }
    for (const [name, sum] of Object.entries(sums)) {
      sum.split?.(fields(name));
      sum.bytes?.(fields(name));
    }
    expect(seen).toEqual([]);
  });
});

describe('catalogue', () => {
  it('has a sentence and named fields for every event', () => {
    expect(catalogue.size).toBeGreaterThan(30);
    for (const [name, row] of catalogue) {
      expect(name).toMatch(/^[a-z0-9-]+(\.[a-z0-9-]+)+$/);
      expect(row.doc, name).toMatch(/^[A-Z].*\.$/);
    }
  });

  it('has every event that is emitted', () => {
    const emitted = new Set<string>();
    for (const root of ['vmm', 'viommu', 'iommufd', 'devices'])
      for (const file of readdirSync(root, { recursive: true, encoding: 'utf8' }))
        if (file.endsWith('.ts'))
          for (const match of readFileSync(join(root, file), 'utf8').matchAll(/emit\(\s*'([^']+)'/g))
            emitted.add(match[1]!);
    expect(emitted.size).toBeGreaterThan(20);
    expect([...emitted].filter((name) => !catalogue.has(name))).toEqual([]);
  });

  it('is filtered by globs', () => {
    const matches = eventFilter(['nvme.*', 'iommu.fault', 'p?i.bar']);
    expect([...catalogue.keys()].filter(matches)).toEqual(
      [...catalogue.keys()].filter((name) => /^nvme\.|^iommu\.fault$|^pci\.bar$/.test(name)),
    );
    expect(matches('nvmeX')).toBe(false);
    expect(unknownGlobs(['nvme.*', 'nvm.*', 'iommu.fault'])).toEqual(['nvm.*']);
  });
});

describe('text', () => {
  it('is one line an event', () => {
    expect(
      textLine({
        time: 1_234_567,
        name: 'pci.bar',
        fields: { function: 8, name: 'nvme0', bar: 0, address: 0x4000_0000, bytes: 16384 },
      }),
    ).toBe(
      '     1.234567 ms  pci.bar                function=00:01.0 name=nvme0 bar=0 address=0x40000000 bytes="16.0 KiB"',
    );
  });

  it('remembers the last events in order', () => {
    const last = new LastEvents(3);
    expect(last.list()).toEqual([]);
    for (let i = 0; i < 8; i++) {
      last.sink(event('a.b', { i }));
      expect(last.list().map((e) => e.fields['i'])).toEqual([i - 2, i - 1, i].filter((n) => n >= 0));
    }
  });
});
