import fc from 'fast-check';
import { Kernel } from '#iommufd/kernel/kernel';
import { SelftestCommands } from '#iommufd/kernel/selftest/commands';
import { MockDriver } from '#iommufd/kernel/selftest/mock-driver';
import * as uapi from '#iommufd/uapi/iommufd';
import * as test from '#iommufd/uapi/selftest';
import * as vfio from '#iommufd/uapi/vfio';
import { rid } from '#vmm/base/address';
import { violations } from '#test/iommufd/kernel/invariants';

const { iommufdUapi: K } = uapi;
const T = test.selftestUapi;
const V = vfio.vfioUapi;

/** Small numbers from which a call's arguments are made. */
interface Step {
  readonly op: number;
  readonly a: number;
  readonly b: number;
  readonly c: number;
  readonly d: number;
  /** Where to spoil the structure with what; undefined: leave it. */
  readonly spoil: { readonly at: number; readonly with: number } | undefined;
}

/** A process with two contexts, some memory, and the descriptors it got. */
class Process {
  readonly kernel = new Kernel();
  readonly contexts: number[];
  readonly files: number[] = [];
  /** Files to map: not those that hold a context, which (as in the kernel) would then hold itself. */
  readonly mappable: number[] = [];
  readonly memory: number;
  readonly #scratch;
  readonly #data;
  readonly successes: Record<string, number>;
  /** Object ids by kind, as they were handed out; some are gone by now. */
  readonly #ids: Record<string, number[]> = { ioas: [], pt: [] };

  constructor(successes: Record<string, number>) {
    this.successes = successes;
    const { kernel } = this;
    kernel.selftest = new SelftestCommands(kernel);
    this.contexts = [kernel.open('/dev/iommu'), kernel.open('/dev/vfio/vfio')];
    const memfd = kernel.memfd();
    kernel.memfd(4);
    (kernel.files.get(memfd) as unknown as { truncate(n: number): void }).truncate(16 * 4096);
    this.files.push(memfd, memfd + 1);
    this.mappable.push(memfd, memfd + 1);
    this.memory = kernel.map({ bytes: 32 * 4096 });
    this.#scratch = kernel.scratch(4096);
    this.#data = kernel.scratch(4096);
  }
  get data(): bigint {
    return BigInt(this.#data.address);
  }
  made(kind: string, offset: number): void {
    const id = this.out(offset);
    (this.#ids[kind] ??= []).push(id);
    if (kind === 'ioas' || kind === 'hwpt' || kind === 'viommu') this.#ids['pt']!.push(id);
  }
  /** Mostly an object of that kind; now and then any number. */
  id(kind: string, n: number): number {
    const ids = this.#ids[kind];
    return !ids || ids.length === 0 || n % 16 === 15
      ? 1 + (n >> 4)
      : ids[ids.length - 1 - (n % Math.min(ids.length, 5))]!;
  }
  user(page: number): bigint {
    return BigInt(this.memory + ((page % 40) << 11));
  }

  call(step: Step, name: string, request: number, bytes: Uint8Array): number {
    const window = this.#scratch.bytes;
    window.fill(0);
    window.set(bytes);
    new DataView(this.#data.bytes.buffer).setUint32(0, step.d, true);
    const at = (step.spoil?.at ?? 0) % bytes.length;
    // Not the file to map: an iommufd that maps itself keeps itself alive, as in the kernel.
    if (step.spoil && !(name === 'IOMMU_IOAS_MAP_FILE' && at >= 12 && at < 16)) window[at] = step.spoil.with;
    const result = this.kernel.ioctl(this.contexts[step.c % 8 === 7 ? 1 : 0]!, request, this.#scratch.address);
    if (result >= 0) this.successes[name] = (this.successes[name] ?? 0) + 1;
    return result;
  }
  /** The little-endian u32 that the last call left. */
  out(offset: number): number {
    return new DataView(this.#scratch.bytes.buffer).getUint32(offset, true);
  }
  scratchAddress(): number {
    return this.#scratch.address;
  }
}

interface Layout {
  readonly size: number;
  encode(values: object): Uint8Array;
}
const iova = (n: number): bigint => 0x100_0000n + BigInt(n % 24) * 0x800n;
const length = (n: number): bigint => [0x800n, 0x1000n, 0x2000n, 0x8000n, 0x234n, 0n][n % 6]!;
const type = T.IOMMU_VIOMMU_TYPE_SELFTEST;

/** What can be called, with arguments that often make sense. */
const calls: Record<string, (p: Process, s: Step) => number> = {};
const add = (
  name: keyof typeof K,
  layout: Layout,
  make: (p: Process, s: Step) => object,
  after?: (p: Process) => void,
): void => {
  calls[name] = (p, s) => {
    const result = p.call(s, name, K[name] as number, layout.encode({ size: layout.size, ...make(p, s) }));
    if (result >= 0) after?.(p);
    return result;
  };
};
const addTest = (
  op: keyof typeof T,
  make: (p: Process, s: Step) => [Layout, object],
  after?: (p: Process, result: number) => void,
): void => {
  calls[op] = (p, s) => {
    const [layout, values] = make(p, s);
    const bytes = new Uint8Array(test.iommu_test_cmd.size);
    bytes.set(layout.encode({ size: bytes.length, op: T[op], ...values }));
    const result = p.call(s, op, T.IOMMU_TEST_CMD, bytes);
    if (result >= 0) after?.(p, result);
    return result;
  };
};
const access = (p: Process, n: number): number => p.files[n % p.files.length]!;

add(
  'IOMMU_IOAS_ALLOC',
  uapi.iommu_ioas_alloc,
  () => ({}),
  (p) => p.made('ioas', 8),
);
add('IOMMU_DESTROY', uapi.iommu_destroy, (p, s) => ({ id: 1 + (s.a % 24) }));
for (const name of ['IOMMU_IOAS_MAP', 'IOMMU_IOAS_MAP_FILE'] as const)
  add(name, name === 'IOMMU_IOAS_MAP' ? uapi.iommu_ioas_map : uapi.iommu_ioas_map_file, (p, s) => ({
    flags: [7, 7, 6, 3, 5][s.d % 5],
    ioas_id: p.id('ioas', s.a),
    length: length(s.b),
    iova: iova(s.c),
    ...(name === 'IOMMU_IOAS_MAP'
      ? { user_va: p.user(s.d) }
      : { fd: p.mappable[s.d % p.mappable.length]!, start: BigInt(s.d % 20) * 0x800n }),
  }));
add('IOMMU_IOAS_UNMAP', uapi.iommu_ioas_unmap, (p, s) =>
  s.b % 7 === 0
    ? { ioas_id: p.id('ioas', s.a), length: 2n ** 64n - 1n }
    : { ioas_id: p.id('ioas', s.a), iova: iova(s.c), length: length(s.b) * 2n },
);
add('IOMMU_IOAS_COPY', uapi.iommu_ioas_copy, (p, s) => ({
  flags: [7, 6, 3][s.d % 3],
  dst_ioas_id: p.id('ioas', s.a),
  src_ioas_id: p.id('ioas', s.d),
  length: length(s.b),
  dst_iova: iova(s.c),
  src_iova: iova(s.d),
}));
add('IOMMU_OPTION', uapi.iommu_option, (p, s) => ({
  option_id: s.a % 3,
  op: s.b % 2,
  object_id: s.a % 3 === 1 ? p.id('ioas', s.c) : 0,
  val64: BigInt(s.d % 3),
}));
add('IOMMU_VFIO_IOAS', uapi.iommu_vfio_ioas, (p, s) => ({ ioas_id: p.id('ioas', s.a), op: s.b % 4 }));
add('IOMMU_IOAS_ALLOW_IOVAS', uapi.iommu_ioas_allow_iovas, (p, s) => ({
  ioas_id: p.id('ioas', s.a),
  num_iovas: s.b % 2,
  allowed_iovas: p.data,
}));
add('IOMMU_IOAS_IOVA_RANGES', uapi.iommu_ioas_iova_ranges, (p, s) => ({
  ioas_id: p.id('ioas', s.a),
  num_iovas: s.b % 4,
  allowed_iovas: p.data,
}));
add('IOMMU_IOAS_CHANGE_PROCESS', uapi.iommu_ioas_change_process, () => ({}));
add(
  'IOMMU_HWPT_ALLOC',
  uapi.iommu_hwpt_alloc,
  (p, s) => {
    const nested = s.d % 3 === 0;
    return {
      flags: [0, 1, 2, 3, 8, 4][nested ? [0, 4, 5][s.b % 3]! : s.b % 6],
      dev_id: p.id('dev', s.a),
      pt_id: p.id('pt', s.c),
      data_type: nested ? T.IOMMU_HWPT_DATA_SELFTEST : 0,
      data_len: nested ? 8 : 0,
      data_uptr: nested ? p.data : 0n,
      fault_id: p.id('fault', s.d),
    };
  },
  (p) => p.made('hwpt', 16),
);
add('IOMMU_GET_HW_INFO', uapi.iommu_hw_info, (p, s) => ({
  dev_id: p.id('dev', s.a),
  data_len: s.b % 64,
  data_uptr: p.data,
}));
add('IOMMU_HWPT_SET_DIRTY_TRACKING', uapi.iommu_hwpt_set_dirty_tracking, (p, s) => ({
  hwpt_id: p.id('hwpt', s.a),
  flags: s.b % 2,
}));
add('IOMMU_HWPT_GET_DIRTY_BITMAP', uapi.iommu_hwpt_get_dirty_bitmap, (p, s) => ({
  hwpt_id: p.id('hwpt', s.a),
  iova: iova(s.b),
  length: length(s.c),
  page_size: 0x800n,
  data: p.data,
  flags: s.d % 2,
}));
add('IOMMU_HWPT_INVALIDATE', uapi.iommu_hwpt_invalidate, (p, s) => ({
  hwpt_id: p.id('pt', s.a),
  data_uptr: p.data,
  data_type: type,
  entry_len: [8, 12, 16][s.b % 3],
  entry_num: s.c % 5,
}));
add(
  'IOMMU_FAULT_QUEUE_ALLOC',
  uapi.iommu_fault_alloc,
  () => ({}),
  (p) => {
    p.made('fault', 8);
    p.files.push(p.out(12));
  },
);
add(
  'IOMMU_VIOMMU_ALLOC',
  uapi.iommu_viommu_alloc,
  (p, s) => ({
    type,
    dev_id: p.id('dev', s.a),
    hwpt_id: p.id('hwpt', s.b),
    data_len: s.c % 2 ? 24 : 0,
    data_uptr: p.data,
  }),
  (p) => p.made('viommu', 20),
);
add('IOMMU_VDEVICE_ALLOC', uapi.iommu_vdevice_alloc, (p, s) => ({
  viommu_id: p.id('viommu', s.a),
  dev_id: p.id('dev', s.b),
  virt_id: BigInt(s.c % 4),
}));
add(
  'IOMMU_VEVENTQ_ALLOC',
  uapi.iommu_veventq_alloc,
  (p, s) => ({ viommu_id: p.id('viommu', s.a), type: T.IOMMU_VEVENTQ_TYPE_SELFTEST, veventq_depth: 1 + (s.b % 3) }),
  (p) => p.files.push(p.out(24)),
);
add('IOMMU_HW_QUEUE_ALLOC', uapi.iommu_hw_queue_alloc, (p, s) => ({
  viommu_id: p.id('viommu', s.a),
  type,
  index: s.b % 3,
  nesting_parent_iova: iova(s.c),
  length: 0x800n,
}));

addTest(
  'IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS',
  (p, s) => [
    test.iommu_test_cmd_mock_domain_flags,
    { id: p.id('ioas', s.a), 'mock_domain_flags.dev_flags': [0, 4, 1][s.b % 3] },
  ],
  (p) => {
    p.made('stdev', 16);
    p.made('hwpt', 20);
    p.made('dev', 24);
  },
);
addTest('IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE', (p, s) => [
  test.iommu_test_cmd_mock_domain_replace,
  { id: p.id('stdev', s.a), 'mock_domain_replace.pt_id': p.id('pt', s.b) },
]);
for (const op of ['IOMMU_TEST_OP_PASID_ATTACH', 'IOMMU_TEST_OP_PASID_REPLACE', 'IOMMU_TEST_OP_PASID_DETACH'] as const)
  addTest(op, (p, s) => [
    test.iommu_test_cmd_pasid_attach,
    { id: p.id('stdev', s.a), 'pasid_attach.pasid': [0, 1, 1024, 5][s.b % 4], 'pasid_attach.pt_id': p.id('pt', s.c) },
  ]);
addTest('IOMMU_TEST_OP_ADD_RESERVED', (p, s) => [
  test.iommu_test_cmd_add_reserved,
  { id: p.id('ioas', s.a), 'add_reserved.start': iova(s.b) + 0x10_0000n, 'add_reserved.length': length(s.c) },
]);
addTest(
  'IOMMU_TEST_OP_CREATE_ACCESS',
  (p, s) => [test.iommu_test_cmd_create_access, { id: p.id('ioas', s.a), 'create_access.flags': s.b % 2 }],
  (p) => p.files.push(p.out(16)),
);
addTest('IOMMU_TEST_OP_ACCESS_PAGES', (p, s) => [
  test.iommu_test_cmd_access_pages,
  {
    id: access(p, s.a),
    'access_pages.flags': s.b % 2,
    'access_pages.iova': iova(s.c & ~1),
    'access_pages.length': length(s.d),
  },
]);
addTest('IOMMU_TEST_OP_DESTROY_ACCESS_PAGES', (p, s) => [
  test.iommu_test_cmd_destroy_access_pages,
  { id: access(p, s.a), 'destroy_access_pages.access_pages_id': s.b % 4 },
]);
addTest('IOMMU_TEST_OP_ACCESS_RW', (p, s) => [
  test.iommu_test_cmd_access_rw,
  {
    id: access(p, s.a),
    'access_rw.flags': [0, 1, 4, 5][s.b % 4],
    'access_rw.iova': iova(s.c) + 3n,
    'access_rw.length': 100n,
    'access_rw.uptr': p.data,
  },
]);
addTest('IOMMU_TEST_OP_ACCESS_REPLACE_IOAS', (p, s) => [
  test.iommu_test_cmd_access_replace_ioas,
  { id: access(p, s.a), 'access_replace_ioas.ioas_id': p.id('ioas', s.b) },
]);
addTest('IOMMU_TEST_OP_DIRTY', (p, s) => [
  test.iommu_test_cmd_dirty,
  {
    id: p.id('hwpt', s.a),
    'dirty.iova': iova(s.b),
    'dirty.length': 0x2000n,
    'dirty.page_size': 0x800n,
    'dirty.uptr': p.data,
  },
]);
addTest('IOMMU_TEST_OP_TRIGGER_IOPF', (p, s) => [
  test.iommu_test_cmd_trigger_iopf,
  {
    'trigger_iopf.dev_id': p.id('dev', s.a),
    'trigger_iopf.pasid': [0, 1, 5][s.b % 3],
    'trigger_iopf.grpid': s.c,
    'trigger_iopf.perm': 1,
  },
]);
addTest('IOMMU_TEST_OP_TRIGGER_VEVENT', (p, s) => [
  test.iommu_test_cmd_trigger_vevent,
  { 'trigger_vevent.dev_id': p.id('dev', s.a) },
]);
addTest(
  'IOMMU_TEST_OP_DMABUF_GET',
  (p, s) => [test.iommu_test_cmd_dmabuf_get, { 'dmabuf_get.length': 0x1000 * (1 + (s.a % 4)) }],
  (p, fd) => {
    p.files.push(fd);
    p.mappable.push(fd);
  },
);
addTest('IOMMU_TEST_OP_DMABUF_REVOKE', (p, s) => [
  test.iommu_test_cmd_dmabuf_revoke,
  { 'dmabuf_revoke.dmabuf_fd': access(p, s.a), 'dmabuf_revoke.revoked': s.b % 2 },
]);

calls['VFIO_SET_IOMMU'] = (p, s) => p.kernel.ioctl(p.contexts[0]!, V.VFIO_SET_IOMMU, s.a % 4);
calls['VFIO_IOMMU_MAP_DMA'] = (p, s) =>
  p.call(
    s,
    'VFIO_IOMMU_MAP_DMA',
    V.VFIO_IOMMU_MAP_DMA,
    vfio.vfio_iommu_type1_dma_map.encode({
      argsz: 32,
      flags: s.a % 4,
      vaddr: p.user(s.b & ~1),
      iova: iova(s.c & ~1),
      size: length(1 + (s.d % 3)),
    }),
  );
calls['VFIO_IOMMU_UNMAP_DMA'] = (p, s) =>
  p.call(
    s,
    'VFIO_IOMMU_UNMAP_DMA',
    V.VFIO_IOMMU_UNMAP_DMA,
    vfio.vfio_iommu_type1_dma_unmap.encode({ argsz: 24, iova: iova(s.c & ~1), size: length(1 + (s.d % 3)) }),
  );
calls['read'] = (p, s) => p.kernel.read(access(p, s.a), p.scratchAddress(), (s.b % 6) * 40);
calls['write'] = (p, s) => p.kernel.write(access(p, s.a), Number(p.data), (s.b % 4) * 8);
calls['close'] = (p, s) => {
  const fd = access(p, s.a);
  if (s.b % 5 !== 0 || p.mappable[0] === fd) return 0;
  // Its number may be given to another file.
  if (p.mappable.includes(fd)) p.mappable.splice(p.mappable.indexOf(fd), 1);
  return p.kernel.close(fd);
};
calls['munmap'] = (p, s) => {
  if (s.b % 20 === 0) p.kernel.memory.unmap(Number(p.user(s.a)), 4096);
  return 0;
};
const names = Object.keys(calls);

const still: Step = { op: 0, a: 0, b: 0, c: 0, d: 0, spoil: undefined };
const beginnings: readonly [string, Partial<Step>][] = [
  ['IOMMU_IOAS_ALLOC', {}],
  ['IOMMU_IOAS_ALLOC', {}],
  ['IOMMU_IOAS_MAP', { b: 3 }],
  ['IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS', { b: 1 }],
  ['IOMMU_HWPT_ALLOC', { b: 1, c: 1, d: 1 }],
  ['IOMMU_VIOMMU_ALLOC', {}],
  ['IOMMU_VDEVICE_ALLOC', { c: 1 }],
  ['IOMMU_HW_QUEUE_ALLOC', { c: 2 }],
  ['IOMMU_HWPT_ALLOC', {}],
  ['IOMMU_HWPT_INVALIDATE', { c: 1 }],
  ['IOMMU_VEVENTQ_ALLOC', {}],
  ['IOMMU_TEST_OP_CREATE_ACCESS', { b: 1 }],
];
const small = fc.nat(255);
const step: fc.Arbitrary<Step> = fc.record({
  op: fc.nat(names.length - 1),
  a: small,
  b: small,
  c: small,
  d: small,
  spoil: fc.option(fc.record({ at: small, with: small }), { freq: 12, nil: undefined }),
});

/** A sequence from a fresh process to its end. @throws Error at the first call after which something does not hold. */
function play(steps: readonly Step[], successes: Record<string, number>): void {
  const process = new Process(successes);
  const { kernel } = process;
  // Something to begin with: memory, a device, a vIOMMU on a nesting parent.
  for (const [name, values] of beginnings) calls[name]!(process, { ...still, ...values });
  for (const [at, s] of steps.entries()) {
    const result = calls[names[s.op]!]!(process, s);
    if (!Number.isInteger(result) || result < -200) throw new Error(`${names[s.op]} returned ${result}`);
    // Looking unpacks every area: now and then some calls go by unseen, so that those on packed ones meet too.
    if (s.a % 4 === 0 && at < steps.length - 1) continue;
    const broken = violations(kernel, process.contexts);
    if (broken.length > 0) throw new Error(`${names[s.op]}: ${broken.join(', ')}`);
  }
  for (let fd = 3; fd < 300; fd++) kernel.close(fd);
  kernel.memory.unmap(0, 2 ** 47);
  const { user, process: own } = kernel.accounting;
  if (kernel.physical.pinned !== 0 || user !== 0 || own !== 0)
    throw new Error(`at the end ${kernel.physical.pinned} pages are pinned, ${user} and ${own} accounted`);
}

/** Calls by their names, as a failure prints them. */
const shown = (steps: readonly Step[]): string =>
  steps
    .map(({ op, a, b, c, d, spoil }) => {
      const spoilt = spoil ? ` byte ${spoil.at}=${spoil.with}` : '';
      return `  ${names[op]} a=${a} b=${b} c=${c} d=${d}${spoilt}`;
    })
    .join('\n');

/**
 * Calls in any order, with arguments that often make sense and bytes that do not, for about so many milliseconds; after
 * (nearly) each, every count must be what the objects imply.
 * @throws Error with the shortest sequence found that fails, and the seed
 */
export const fuzzIommufd = (seed: number, milliseconds: number): { sequences: number; kinds: number } => {
  const successes: Record<string, number> = {};
  const result = fc.check(
    fc.property(fc.array(step, { minLength: 1, maxLength: 120, size: 'max' }), (steps) => {
      play(steps, successes);
    }),
    { seed, numRuns: 1_000_000, interruptAfterTimeLimit: milliseconds, markInterruptAsFailure: false },
  );
  if (result.failed) {
    const why = result.errorInstance instanceof Error ? result.errorInstance.message : String(result.errorInstance);
    throw new Error(`seed ${seed}: ${why}\nafter\n${shown(result.counterexample?.[0] ?? [])}`);
  }
  // The calls must make sense often enough to get anywhere.
  const never = names.filter((name) => name.startsWith('IOMMU') && !successes[name]);
  if (milliseconds >= 20_000 && never.length > 0) throw new Error(`never succeeded: ${never.join(', ')}`);
  return { sequences: result.numRuns, kinds: Object.keys(successes).length };
};

/**
 * Any request with any bytes on any kind of descriptor, and any read, write and mmap of it: everything ends in a result.
 * @throws Error with the call that did not
 */
export const fuzzBytes = (seed: number, rounds: number): { calls: number; errnos: number } => {
  const process = new Process({});
  const { kernel } = process;
  for (const [name, values] of beginnings) calls[name]!(process, { ...still, ...values });
  kernel.registerDevice({
    vfioName: 'vfio0',
    name: 'd0',
    rid: rid(8),
    ats: false,
    pri: false,
    pasidBits: 4,
    pasidExec: false,
    pasidPriv: false,
    iommu: new MockDriver(kernel.physical),
  });
  const fds = [...process.contexts, ...process.files, kernel.open('/dev/vfio/devices/vfio0'), 299, -1, 2 ** 31];
  const requests = [...Object.values(K), ...Object.values(V), T.IOMMU_TEST_CMD].filter((n) => typeof n === 'number');
  const scratch = kernel.scratch(4096);
  const view = new DataView(scratch.bytes.buffer);
  const sample = fc.sample(
    fc.record({
      fd: fc.nat(fds.length - 1),
      request: fc.oneof(
        fc.nat(requests.length - 1).map((i) => requests[i]!),
        fc.nat(0xffff_ffff),
      ),
      bytes: fc.uint8Array({ maxLength: 96 }),
      size: fc.oneof(fc.constantFrom(8, 12, 16, 24, 32, 40, 48, 72), fc.nat(0xffff_ffff)),
      at: fc.oneof(fc.constant(scratch.address), fc.nat(2 ** 48), fc.constantFrom(0, 2 ** 52, 2 ** 63, 2 ** 64 - 4096)),
      kind: fc.nat(9),
    }),
    { seed, numRuns: rounds },
  );
  const errnos = new Set<number>();
  for (const { fd: which, request, bytes, size, at, kind } of sample) {
    const fd = fds[which]!;
    scratch.bytes.fill(0, 0, 128);
    scratch.bytes.set(bytes);
    view.setUint32(0, size, true);
    // Small ids, that there may be an object.
    if (kind % 2 === 0) for (const field of [4, 8, 12]) view.setUint32(field, view.getUint8(field) % 16, true);
    // Not the file to map: an iommufd that maps itself keeps itself alive, as in the kernel.
    if (request === K.IOMMU_IOAS_MAP_FILE) view.setInt32(12, process.mappable[0]!, true);
    const call = [kernel.read.bind(kernel), kernel.write.bind(kernel)][kind];
    let result: number;
    if (call) result = call(fd, at, size % 8192);
    else if (kind === 2) result = Math.min(0, kernel.mmap(fd, size, 3, bytes[0]! * 4096));
    else if (kind === 3) result = Math.min(0, kernel.poll(fd));
    else result = kernel.ioctl(fd, request, at);
    if (!Number.isInteger(result) || result < -200)
      throw new Error(`seed ${seed}: request ${request} on fd ${fd} returned ${result}`);
    errnos.add(Math.min(result, 0));
  }
  const broken = violations(kernel, process.contexts);
  if (broken.length > 0) throw new Error(`seed ${seed}: ${broken.join(', ')}`);
  return { calls: sample.length, errnos: errnos.size };
};
