import { describe, expect, it } from 'vitest';
import { bundledGuest, Machine, MachineError, memoryStorage, Snapshot, SnapshotError } from '../../../index.ts';
import { cases, difference, resumedDifference, Run, wholeRun } from './snapshots.ts';

/** Parts of a run, as fractions of its events or instructions. `npm run soak -- --only snapshot` takes random ones. */
const short: Readonly<Partial<Record<keyof typeof cases, readonly number[]>>> = {
  hello: [0, 0.3],
  irq: [0.7],
  smp: [0.1, 0.8],
  crash: [0.5],
  exerciser: [0.35],
  isolation: [0.15, 0.93],
  vsva: [0.5],
  'hot-plug': [0.45, 0.8],
  'hot-plug-no-iommu': [0.6],
  'hot-plug-busy': [0.85],
};

describe('a machine that was saved and taken up again', () => {
  it.each(Object.entries(short) as [keyof typeof cases, readonly number[]][])(
    'goes on as if nothing had been: %s',
    (name, points) => {
      const whole = wholeRun(cases[name]);
      const { lines, machine } = whole.run;
      for (const [i, part] of points.entries()) {
        const isEvent = i % 2 === 0;
        const point = isEvent
          ? { event: Math.ceil(part * lines.length) }
          : { instructions: Math.floor(part * machine.instructions) };
        expect(resumedDifference(cases[name], point, whole), `at ${part}`).toBeUndefined();
      }
    },
    60_000,
  );

  it('is not disturbed by it, and two machines of one snapshot are the same', () => {
    const { run: expected, final } = wholeRun(cases.hello);
    const run = new Run(cases.hello);
    run.to({ instructions: 50_000 });
    const [a, b] = [run.machine.snapshot(), run.machine.snapshot()];
    expect(a).toEqual(b);
    const twin = new Run(cases.hello, a);
    expect(twin.machine.snapshot()).toEqual(a);
    expect(run.final(run.toEnd())).toEqual(final);
    expect(difference(run.lines, expected.lines)).toBeUndefined();
    expect(twin.final(twin.toEnd())).toEqual(final);
  });

  it('has ended when it was saved at its end', () => {
    const run = new Run(cases.fail);
    const result = run.toEnd();
    const again = new Run(cases.fail, run.machine.snapshot());
    expect(again.toEnd()).toEqual(result);
    expect(again.lines).toEqual([]);
  });

  it('takes its disks that are in memory with it', () => {
    const content = new Uint8Array(1 << 20);
    content[5000] = 7;
    const { config } = new Run({ guest: 'hello', keys: { disks: [{ path: 'x' }] } }).machine;
    const machine = Machine.create(config, {
      image: bundledGuest('hello'),
      openDisk: () => memoryStorage(content),
      console: () => {},
    });
    const disk = memoryStorage(1 << 20);
    Machine.resume(machine.snapshot(), { openDisk: () => disk, console: () => {} });
    expect(disk.content[5000]).toBe(7);
  });
});

describe('a snapshot', () => {
  it('tells of its machine', () => {
    const run = new Run({ guest: 'hello', keys: { memory: '32M', nics: [{}] } });
    run.to({ instructions: 1000 });
    const snapshot = new Snapshot(run.machine.snapshot({ about: { by: 'a test' } }));
    expect(snapshot.config).toEqual(run.machine.config);
    expect(snapshot).toMatchObject({ instructions: 1000, virtualNs: run.machine.clock.now, about: { by: 'a test' } });
    expect(snapshot.sections.map(({ name }) => name)).toContain('viommu');
  });

  it('of another machine is refused in a sentence', () => {
    const bytes = new Run({ guest: 'hello', keys: { nics: [{}] } }).machine.snapshot();
    const { config } = new Run({ guest: 'hello', keys: { exercisers: [{}] } }).machine;
    const resume = (): Machine => Machine.resume(bytes, { config, openDisk: () => memoryStorage(512), console: () => {} }); // prettier-ignore
    expect(resume).toThrow(SnapshotError);
    expect(resume).toThrow(/^the snapshot does not fit the machine: pci\./);
  });

  it('is refused where something in the machine cannot be saved', () => {
    const { machine } = new Run({ guest: 'hello', keys: { nics: [{}], checks: ['stale-translations'] } });
    expect(() => machine.snapshot()).toThrow(MachineError);
    expect(() => machine.snapshot()).toThrow('snapshot: a machine with checks (stale-translations) cannot be saved');
    const other = new Run({ guest: 'hello', keys: { nics: [{}] } }).machine;
    const undo = other.inject('ioctl', { name: 'IOMMU_HWPT_ALLOC', errno: 'ENOMEM' });
    expect(() => other.snapshot()).toThrow('a fault that was injected is still to come');
    undo();
    expect(other.snapshot().length).toBeGreaterThan(1000);
    other.inject('torn-write', { address: '0x81000000', value: '0x1', after: '1ms' });
    expect(() => other.snapshot()).toThrow('snapshot: 1 events in the queue belong to nothing that can be saved');
  });
});
