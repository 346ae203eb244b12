/**
 * What the README claims, and what shows it: scenarios, or tests where it is about more than a guest and its machine. A
 * paragraph or bullet of the README without a row here fails the README's test.
 */
export interface Claim {
  /** Words of the README, as they stand there. */
  readonly says: string;
  /** Below test/scenarios. */
  readonly scenarios?: readonly string[];
  readonly tests?: readonly string[];
}

/** Sections of the README that make claims; '' is what comes before the first. */
export const claimingSections = [
  '',
  'What it is made of',
  'Use',
  'Looking inside',
  'Linux',
  'Judged by others',
] as const;

// prettier-ignore
export const claims: readonly Claim[] = [
  { says: 'Its guests\' devices do their DMA through an emulated vIOMMU', scenarios: ['dma/read-and-write.yaml', 'iommufd/commands-become-calls.yaml'] },
  { says: 'walks the guest\'s own page tables nested on the VMM\'s', scenarios: ['iommufd/nested-walk.yaml'] },
  { says: 'boots a bare-metal RV64 guest that knows nothing but its device tree', scenarios: ['boot/supervisor-mode.yaml'] },
  { says: 'reads 8 MiB from the disk, writes 1 MiB back', scenarios: ['dma/read-and-write.yaml'] },
  { says: 'sends frames between the cards', scenarios: ['dma/frames.yaml'] },
  { says: 'takes a page away and reads the fault', scenarios: ['dma/page-taken-away.yaml'] },
  { says: 'The VMM tells what happens on every layer', tests: ['test/readme.test.ts', 'test/cmd/run.test.ts'] },
  { says: 'The **vIOMMU never translates a DMA**', scenarios: ['iommufd/commands-become-calls.yaml', 'iommufd/start-up.yaml'], tests: ['test/viommu/riscv/commands.test.ts'] },
  { says: 'each of its pointers through stage 2, which iommufd built from the IOAS', scenarios: ['iommufd/nested-walk.yaml', 'iommufd/without-viommu.yaml'] },
  { says: 'What is cached stays cached until a command says otherwise', scenarios: ['dma/caches.yaml'] },
  { says: '**One front end, two back ends**', scenarios: ['iommufd/two-front-ends.yaml'], tests: ['test/conformance/riscv-iommu/vectors.test.ts'] },
  { says: '**Nothing but tables**', tests: ['test/viommu/riscv/commands.test.ts', 'test/cmd/completion.test.ts', 'test/cmd/wrong-keys.test.ts'] },
  { says: 'virtual time advances with retired instructions', scenarios: ['boot/virtual-time.yaml'] },
  { says: 'The same configuration, images and seed give the same trace, to the byte', scenarios: ['boot/trace-golden.yaml', 'boot/console-golden.yaml'] },
  { says: 'Options take `key=value,…`', tests: ['test/vmm/config/grammar.test.ts', 'test/vmm/config/parse.test.ts'] },
  { says: 'the exit code says how', scenarios: ['ends/failure-code.yaml', 'ends/crash.yaml', 'ends/hang.yaml', 'ends/reset.yaml'], tests: ['test/cmd/run.test.ts'] },
  { says: 'runs a guest to a point', scenarios: ['boot/entry-point.yaml'], tests: ['test/cmd/inspect.test.ts'] },
  { says: 'Looking changes nothing in the rest of the run', tests: ['test/vmm/inspect/inspections.test.ts'] },
  { says: 'why the walk ended as it did', tests: ['test/cmd/explain.test.ts', 'test/iommufd/host/riscv/explain.test.ts'] },
  { says: '`--check stale-translations` compares what caches serve with what the tables say now', scenarios: ['dma/no-stale-translations.yaml', 'sva/no-stale-translations.yaml'], tests: ['test/viommu/riscv/stale-translations.test.ts'] },
  { says: '`iommulab trace FILE` reads what `--trace` wrote', tests: ['test/cmd/trace.test.ts', 'test/vmm/record/trace-reader.test.ts'] },
  { says: 'each frame tells its way', tests: ['test/cmd/capture.test.ts'] },
  { says: 'makes a unix socket (mode 0600) in QMP\'s envelope', tests: ['test/cmd/ctl.test.ts', 'test/vmm/control/connection.test.ts'] },
  { says: '`… inject kind=ioctl', scenarios: ['injections/refused-call.yaml'] },
  { says: 'plugs a device into a PCI Express slot', scenarios: ['hot-plug/come-and-go.yaml', 'hot-plug/torn-out.yaml'] },
  { says: '`npm run linux` fetches Debian\'s riscv64 kernel', tests: ['test/linux/linux.test.ts'] },
  { says: 'makes the IOMMU a PCI function', scenarios: ['iommufd/viommu-on-pci.yaml'] },
  { says: '243 call sequences recorded from Linux 7.2\'s iommufd', tests: ['test/conformance/iommufd/recorded.test.ts'] },
  { says: '4400 scenarios recorded from the official RISC-V IOMMU reference model', tests: ['test/conformance/riscv-iommu/vectors.test.ts'] },
  { says: 'The guests run unchanged on QEMU\'s `virt`', tests: ['test/guest-images/qemu.test.ts'] },
  { says: 'Random programs, in user and in machine mode, end the same on QEMU', tests: ['test/vmm/cpu/riscv/qemu.test.ts', 'test/vmm/cpu/riscv/qemu-system.test.ts', 'test/vmm/machine/riscv-tests.test.ts'] },
  { says: '`npm run soak` fuzzes the devices', scenarios: ['devices/hostile.yaml'], tests: ['test/soak.ts'] },
];
