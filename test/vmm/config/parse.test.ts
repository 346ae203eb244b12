import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatOption, parseOption } from '#vmm/config/grammar';
import { issueText } from '#vmm/config/issues';
import { formatValue, jsonSchema, machineKeys } from '#vmm/config/keys';
import { parseConfig } from '#vmm/config/parse';
import type { MachineConfig } from '#vmm/config/schema';
import { formatSize, parseSize } from '#vmm/config/values';
import { configYaml, parseConfigYaml } from '#vmm/config/yaml';

const good = (input: unknown): MachineConfig => {
  const parsed = parseConfig(input);
  if (!parsed.ok) throw new Error(parsed.issues.map((issue) => issueText(issue)).join('\n'));
  return parsed.config;
};
const problems = (input: unknown): readonly string[] => {
  const parsed = parseConfig(input);
  return parsed.ok ? [] : parsed.issues.map((issue) => issueText(issue));
};

/** The keys of the machine, or of one of its devices, as an error lists them. */
const keysOf = (device?: string): string => {
  const shape = device === undefined ? undefined : machineKeys.find(({ name }) => name === device)?.shape;
  const item = shape?.kind === 'list' ? shape.item : undefined;
  return (item?.kind === 'group' ? item.keys : machineKeys).map(({ name }) => name).join(', ');
};

describe('configuration', () => {
  it('is complete when nothing is said', () => {
    expect(good({})).toMatchObject({
      memory: 128 * 2 ** 20,
      smp: 1,
      cpu: { mips: 1000 },
      viommu: { model: 'riscv' },
      disks: [],
      nics: [],
      exercisers: [],
      'entry-mode': 's',
      realtime: false,
      reboot: false,
      seed: 1,
      trace: { events: ['*'] },
      'log-level': 'warn',
    });
  });

  it('takes what a person writes', () => {
    const config = good({
      image: 'dma',
      memory: '1G',
      smp: '2',
      disks: [{ path: 'a.img', readonly: 'on', address: '00:1f.0' }],
      nics: [{ mac: '52:54:00:AA:bb:01', backend: 'loopback', iommu: false }],
      timeout: '1.5m',
      'max-instructions': '10M',
    });
    expect(config).toMatchObject({
      memory: 2 ** 30,
      smp: 2,
      disks: [{ path: 'a.img', readonly: true, overlay: false, iommu: true, address: 31 }],
      nics: [{ mac: '52:54:00:aa:bb:01', backend: 'loopback', hub: 'hub0', iommu: false }],
      timeout: 90,
      'max-instructions': 10_000_000,
    });
    expect(good(config)).toEqual(config);
  });

  it.each<[string, unknown, string]>([
    ['too small', { memory: '1M' }, 'memory: expected a size from 16M to 3G, a multiple of 2M (suffixes K, M, G), found "1M"'],
    ['too large', { memory: '4G' }, 'memory: expected a size from 16M to 3G, a multiple of 2M (suffixes K, M, G), found "4G"'],
    ['not whole', { memory: 33554433 }, 'memory: expected a size from 16M to 3G, a multiple of 2M (suffixes K, M, G), found 33554433'],
    ['negative', { memory: -1 }, 'memory: expected a size from 16M to 3G, a multiple of 2M (suffixes K, M, G), found -1'],
    ['nothing', { memory: null }, 'memory: expected a size from 16M to 3G, a multiple of 2M (suffixes K, M, G), found nothing'],
    ['harts', { smp: 9 }, 'smp: expected a whole number from 1 to 8, found 9'],
    ['fraction', { smp: 1.5 }, 'smp: expected a whole number from 1 to 8, found 1.5'],
    ['key', { memroy: 1 }, `memroy: expected one of the keys ${keysOf()}, found the key "memroy" (did you mean memory?)`],
    ['choice', { viommu: { model: 'risc' } }, 'viommu.model: expected riscv or none, found "risc" (did you mean riscv?)'],
    ['group', { viommu: 'riscv' }, 'viommu: expected a group of keys, found "riscv"'],
    ['list', { disks: { path: 'a' } }, 'disks: expected a list, found a group of keys'],
    ['item', { disks: ['a'] }, 'disks[0]: expected a group of keys, found "a"'],
    ['missing', { disks: [{}] }, 'disks[0].path: expected the path of a disk image, found nothing'],
    ['nested key', { nics: [{ backend: 'hub', macc: '' }] }, `nics[0].macc: expected one of the keys ${keysOf('nics')}, found the key "macc" (did you mean mac?)`],
    ['multicast', { nics: [{ mac: '01:00:00:00:00:01' }] }, 'nics[0].mac: expected the address of one station such as 52:54:00:12:34:56 (first octet even), found "01:00:00:00:00:01"'],
    ['both', { image: 'dma', kernel: 'a.elf' }, 'kernel: expected either image or kernel, found both'],
    ['address', { disks: [{ path: 'a', address: 4 }], nics: [{ address: '00:04.0' }] }, 'nics[0].address: expected a PCI device number that no other device has, found 4, which disks[0] has too'],
    ['id', { nics: [{ id: 'n' }, { id: 'n' }] }, 'nics[1].id: expected an id that no other device has, found "n", which nics[0] has too'],
    ['iommu address', { nics: [{ address: 5 }], viommu: { bus: 'pci', address: 5 } }, 'viommu.address: expected a PCI device number that no device has, found 5, which nics[0] has too'],
    ['iommu without a bus', { viommu: { address: 5 } }, 'viommu.address: expected bus=pci with an address, found bus=platform'],
    ['no iommu on a bus', { viommu: { model: 'none', bus: 'pci' } }, 'viommu.bus: expected platform with model=none, found "pci"'],
    ['iommu and devices', { nics: Array.from({ length: 31 }, () => ({})), viommu: { bus: 'pci' } }, 'disks: expected at most 31 devices, found 32 of them'],
    ['slot', { nics: [{ address: 0 }] }, 'nics[0].address: expected a PCI device number from 1 to 31, or 00:01.0 to 00:1f.0, found 0'],
    ['whole', [], 'expected a group of keys, found a list of 0'],
  ])('refuses: %s', (_, input, sentence) => {
    expect(problems(input)).toEqual([sentence]);
  }); // prettier-ignore

  it('puts an IOMMU on PCI before the devices that need it until they are shut down', () => {
    const config = good({ viommu: { bus: 'pci' }, disks: [{ path: 'a', address: 1 }], nics: [{}] });
    expect(config.viommu).toMatchObject({ bus: 'pci', address: 2 });
    expect(config.nics[0]!.address).toBe(3);
    expect(good(config)).toEqual(config);
    expect(good({ nics: [{}] }).viommu.address).toBeUndefined();
  });

  it('tells every problem at once', () => {
    const found = problems({
      memroy: 1,
      smp: 0,
      x: 1,
      disks: [{ path: '', y: 1 }],
      nics: Array.from({ length: 32 }, () => ({})),
    });
    expect(found.map((text) => text.slice(0, text.indexOf(':')))).toEqual([
      'memroy',
      'x',
      'disks[0].y',
      'smp',
      'disks[0].path',
      'disks',
    ]);
  });

  it('is not fooled by keys of the language', () => {
    expect(problems(JSON.parse('{"__proto__": {"memory": 1}, "constructor": 1}'))).toHaveLength(2);
    expect(({} as Record<string, unknown>)['memory']).toBeUndefined();
  });

  it('never throws on any value', () => {
    fc.assert(
      fc.property(
        fc.record(Object.fromEntries(machineKeys.map((key) => [key.name, fc.anything()])), { requiredKeys: [] }),
        (input) => {
          const parsed = parseConfig(input);
          if (!parsed.ok) expect(parsed.issues.length).toBeGreaterThan(0);
        },
      ),
    );
  });
});

describe('devices', () => {
  it('get names, addresses and MACs around those that were given', () => {
    const config = good({
      disks: [{ path: 'a' }, { path: 'b', id: 'nvme0', address: 1 }],
      nics: [{}, { mac: '52:54:00:12:34:56', address: 2 }, { id: 'net0' }],
      exercisers: [{}, { id: 'exerciser0', 'pasid-bits': 8 }],
    });
    expect(config.disks.map((disk) => [disk.id, disk.address])).toEqual([
      ['nvme1', 3],
      ['nvme0', 1],
    ]);
    expect(config.nics.map((nic) => [nic.id, nic.address, nic.mac])).toEqual([
      ['net1', 4, '52:54:00:12:34:57'],
      ['net2', 2, '52:54:00:12:34:56'],
      ['net0', 5, '52:54:00:12:34:58'],
    ]);
    expect(config.exercisers.map((one) => [one.id, one.address, one['pasid-bits']])).toEqual([
      ['exerciser1', 6, 20],
      ['exerciser0', 7, 8],
    ]);
  });
});

describe('file', () => {
  it('gives line, column and a suggestion for each problem', () => {
    const parsed = parseConfigYaml('memory: 12Q\nnics:\n  - bakend: hub\n    mac: 5\ndisks:\n  - serial: a\n');
    expect(
      parsed.ok ? [] : parsed.issues.map((issue) => issueText(issue, 'vm.yaml').replace(/expected .*, found/, '…')),
    ).toEqual([
      'vm.yaml:3:5: nics[0].bakend: … the key "bakend" (did you mean backend?)',
      'vm.yaml:1:9: memory: … "12Q"',
      'vm.yaml:6:5: disks[0].path: … nothing',
      'vm.yaml:4:10: nics[0].mac: … 5',
    ]);
  });

  it.each([
    ['memory: [', 'vm.yaml:1:10: expected YAML'],
    ['memory: 1\nmemory: 2', 'vm.yaml:2:1: expected YAML'],
    ['a: &a [*a, *a]\nb: *c', 'expected YAML'],
  ])('is refused when it is not YAML: %j', (text, start) => {
    const parsed = parseConfigYaml(text);
    expect(parsed.ok ? '' : issueText(parsed.issues[0]!, 'vm.yaml')).toContain(start);
  });

  it('survives exploding aliases', () => {
    const rows = Array.from(
      { length: 20 },
      (_, i) =>
        `k${i}: &k${i} [${Array(9)
          .fill(`*k${i - 1}`)
          .join(', ')}]`,
    );
    const parsed = parseConfigYaml(`k-1: &k-1 x\n${rows.join('\n')}`);
    expect(parsed.ok).toBe(false);
  });

  it('is empty: the default machine', () => {
    expect(parseConfigYaml('')).toEqual({ ok: true, config: good({}) });
    expect(parseConfigYaml('# nothing\n{}')).toEqual({ ok: true, config: good({}) });
  });
});

const device = { iommu: fc.boolean(), id: fc.stringMatching(/^[a-z]{12}$/) };
const anyConfig = fc.record(
  {
    image: fc.constantFrom('dma', 'hello'),
    memory: fc.integer({ min: 8, max: 1536 }).map((n) => n * 2 ** 21),
    smp: fc.integer({ min: 1, max: 8 }),
    disks: fc.array(fc.record({ ...device, path: fc.stringMatching(/^[ -~]{1,20}$/), readonly: fc.boolean(), serial: fc.stringMatching(/^[ -~]{1,20}$/) }, { requiredKeys: ['path'] }), { maxLength: 2 }),
    nics: fc.array(fc.record({ ...device, backend: fc.constantFrom('hub', 'loopback', 'none') }, { requiredKeys: [] }), { maxLength: 2 }),
    timeout: fc.integer({ min: 1, max: 10_000 }),
    seed: fc.integer({ min: 0, max: 0xffff_ffff }),
    trace: fc.record({ file: fc.constant('t.jsonl'), events: fc.constant(['a.*', 'b']) }, { requiredKeys: [] }),
  },
  { requiredKeys: [] },
); // prettier-ignore

describe('one machine, three spellings', () => {
  it('reads the file that it writes', () => {
    fc.assert(
      fc.property(anyConfig, (input) => {
        const parsed = parseConfig(input);
        if (!parsed.ok) return;
        expect(parseConfigYaml(configYaml(parsed.config))).toEqual(parsed);
      }),
    );
  });

  it('reads the options that it writes', () => {
    fc.assert(
      fc.property(anyConfig, (input) => {
        const parsed = parseConfig(input);
        if (!parsed.ok) return;
        const again: Record<string, unknown> = {};
        for (const key of machineKeys) {
          const value = formatValue(key.shape, parsed.config[key.name as keyof MachineConfig]);
          const read = (shape: typeof key.shape, item: unknown): unknown => {
            if (shape.kind !== 'group') return item === undefined ? undefined : String(item as number);
            const option = parseOption(formatOption(item as Record<string, unknown>), shape.keys);
            return option.ok ? option.value : option;
          };
          const shape = key.shape;
          const raw =
            shape.kind === 'list' ? (value as unknown[]).map((item) => read(shape.item, item)) : read(shape, value);
          if (raw !== undefined) again[key.name] = raw;
        }
        expect(parseConfig(again)).toEqual(parsed);
      }),
    );
  });

  it('spells sizes exactly', () => {
    fc.assert(
      fc.property(fc.nat(2 ** 31), fc.nat(20), (n, shift) => {
        expect(parseSize(formatSize(n * 2 ** shift))).toBe(n * 2 ** shift);
      }),
    );
  });

  it('describes every key', () => {
    const visit = (keys: typeof machineKeys): number =>
      keys.reduce((sum, key) => {
        expect(key.doc, key.name).not.toBe('');
        const shape = key.shape.kind === 'list' ? key.shape.item : key.shape;
        return sum + 1 + (shape.kind === 'group' ? visit(shape.keys) : 0);
      }, 0);
    expect(visit(machineKeys)).toBeGreaterThan(30);
    const schema = jsonSchema() as {
      properties: Record<string, { default?: unknown; items?: { required?: string[] } }>;
    };
    expect(schema.properties['memory']!.default).toBe('128M');
    expect(schema.properties['disks']!.items!.required).toEqual(['path']);
  });
});

describe('the ends of a wire', () => {
  it.each([
    [{ backend: 'stream', remote: '127.0.0.1:5000' }, true],
    [{ backend: 'stream', local: './wire.sock' }, true],
    [{ backend: 'dgram', local: '127.0.0.1:1', remote: '[::1]:2' }, true],
    [{ backend: 'stream' }, false],
    [{ backend: 'stream', local: '127.0.0.1:1', remote: '127.0.0.1:2' }, false],
    [{ backend: 'dgram', remote: '127.0.0.1:2' }, false],
    [{ backend: 'dgram', local: '/a', remote: '127.0.0.1:2' }, false],
    [{ backend: 'hub', local: '127.0.0.1:1' }, false],
    [{ backend: 'stream', remote: 'example:99' }, false],
  ])('%j', (nic, isGood) => {
    expect(parseConfig({ nics: [nic] }).ok).toBe(isGood);
  });
});
