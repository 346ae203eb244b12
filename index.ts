/**
 * The library: build a machine, load a guest, run it, look at it, make things go wrong, and test what comes of it. The
 * examples run as tests.
 */

/**
 * A machine in a test.
 * @example
 * const lab = new Lab({ memory: '32M' }, { image: bundledGuest('hello') });
 * lab.run({ console: 'SBI 2.0' });
 * const call = await lab.event('iommufd.ioctl', { name: 'IOMMU_*' }).catch((error) => error.message);
 * assert(call.includes('the run ended (passed)'));
 * lab.close();
 */
export { Lab } from './vmm/machine/lab.ts';
export type { LabHost } from './vmm/machine/lab.ts';
/**
 * Assertions for node:test, or no framework at all.
 * @example
 * const lab = new Lab({}, { image: bundledGuest('fail') });
 * expectMachine(lab).toHaveEnded('failed', 3);
 * expectMachine(lab).not.toHavePassed();
 */
export { expectMachine } from './vmm/machine/matchers.ts';
/**
 * Assertions for vitest: `expect.extend(machineMatchers)`, then `expect(lab).toHavePassed()`.
 * @example
 * const lab = new Lab({}, { image: bundledGuest('hello') });
 * assert(machineMatchers.toHavePassed(lab).pass);
 * assert(machineMatchers.toHaveEvent(lab, 'iommufd.ioctl', { name: 'IOMMU_IOAS_ALLOC', result: 0 }).pass);
 */
export { machineMatchers } from './vmm/machine/matchers.ts';
export type { MachineMatchers, MatcherResult } from './vmm/machine/matchers.ts';
/**
 * The machine itself, with everything from outside given by the caller.
 * @example
 * const { config } = parseConfig({ exercisers: [{ iommu: 'off' }] });
 * const machine = Machine.create(config, { image: bundledGuest('hang'), openDisk: () => memoryStorage(512), console() {} });
 * machine.run({ address: 0x80200004 });
 * machine.writeRegister('a0', 7n);
 * machine.inject('torn-write', { address: 0x87000000, value: '0x1122334455667788', after: '10us' });
 * const { bytes } = machine.dma({ device: 'exerciser0', address: 0x87000000, length: 8 });
 * assert(bytes[0] === 0x88 && bytes[7] === 0 && machine.registers().a0 === 7n);
 * machine.close();
 *
 * // Devices come and go while the guest runs.
 * const ports = parseConfig({ 'hotplug-ports': 1, append: 'departures=1' });
 * const open = { image: bundledGuest('hotplug'), openDisk: () => memoryStorage(1 << 20), console() {} };
 * const hot = Machine.create(ports.config, open);
 * hot.run({ console: 'wait for' });
 * hot.hotPlug.onDeleted = (id) => assert(id === 'disk');
 * hot.deviceAdd('nvme', { path: 'scratch', id: 'disk' });
 * hot.run({ console: 'plugged' });
 * hot.deviceDel('disk');
 * assert(hot.run().outcome === 'passed');
 * hot.close();
 */
export { Machine } from './vmm/machine/machine.ts';
export type { MachineHost, ResumeHost, RunOutcome, RunResult, Until } from './vmm/machine/machine.ts';
/**
 * A machine at rest, whole: `machine.snapshot()` gives its bytes, `Machine.resume` goes on from them.
 * @example
 * const lab = new Lab({ memory: '32M' }, { image: bundledGuest('hello') });
 * lab.run({ console: 'SBI 2.0' });
 * const snapshot = new Snapshot(lab.machine.snapshot());
 * const twin = Machine.resume(snapshot, { openDisk: () => memoryStorage(512), console() {} });
 * assert(twin.instructions === lab.machine.instructions && snapshot.config.memory === 32 << 20);
 * assert(twin.run().instructions === lab.run().instructions);
 */
export { Snapshot } from './vmm/machine/snapshot.ts';
export type { SnapshotOptions } from './vmm/machine/snapshot.ts';
/**
 * Why bytes are no snapshot that can be resumed here: a sentence.
 * @example
 * try {
 *   new Snapshot(new Uint8Array(100));
 *   assert(false);
 * } catch (error) {
 *   assert(error instanceof SnapshotError && error.message === 'expected a snapshot, found another kind of file');
 * }
 */
export { SnapshotError } from './vmm/snapshot/container.ts';
export type { Packing } from './vmm/snapshot/container.ts';
export type { DmaOptions, DmaReport } from './vmm/machine/dma.ts';
/**
 * What can be looked at: the state of hart, vIOMMU, host and iommufd as rows. Looking changes nothing.
 * @example
 * const lab = new Lab({ exercisers: [{}] }, { image: bundledGuest('exerciser') });
 * lab.run({ event: 'viommu.context', where: { state: 'nested' } });
 * const nested = inspections.objects.read(lab.machine).filter(({ kind }) => kind === 'hwpt (nested)');
 * assert(nested.length === 1 && inspections.queues.read(lab.machine).length > 0);
 * const { steps } = lab.machine.explain({ device: 'exerciser0', address: 0x3000000000, write: true });
 * assert(steps.length > 1 && steps[0].hpa.startsWith('0x'));
 * lab.close();
 */
export { inspections } from './vmm/inspect/inspections.ts';
export type { Inspection, InspectionRow } from './vmm/inspect/inspection.ts';
export type { ExplainOptions } from './vmm/machine/explain.ts';
export type { Explanation } from './iommufd/host/riscv/explain.ts';
/**
 * What can be made to go wrong: the rows of `machine.inject`.
 * @example
 * for (const [kind, { doc }] of Object.entries(injections)) assert(kind !== '' && doc !== '');
 * const lab = new Lab({ nics: [{}, {}] }, { image: bundledGuest('hang') });
 * const plugIn = lab.machine.inject('link', { nic: 'net0', up: false });
 * plugIn();
 * lab.close();
 */
export { injections } from './vmm/machine/inject.ts';
export type { InjectionKind, InjectionOptions, Undo } from './vmm/machine/inject.ts';
/**
 * What is wrong with a guest, a machine or what is asked of it: a sentence each.
 * @example
 * try {
 *   new Lab({ memory: '12Q' }, { image: bundledGuest('hello') });
 *   assert(false);
 * } catch (error) {
 *   assert(error instanceof MachineError && error.problems[0].startsWith('memory: expected a size'));
 * }
 */
export { MachineError } from './vmm/machine/machine-error.ts';
export type { Trap } from './vmm/machine/trap.ts';
export type { MachineConfig, MachineConfigInput } from './vmm/config/schema.ts';
/**
 * Keys to a whole machine, or every problem of them.
 * @example
 * const parsed = parseConfig({ memry: '64M', smp: 9 });
 * assert(!parsed.ok && parsed.issues.length === 2 && parsed.issues[0].suggestion === 'memory');
 */
export { parseConfig } from './vmm/config/parse.ts';
/**
 * A scenario as data: the keys of a machine, and steps.
 * @example
 * const parsed = parseScenario({ image: 'hello', steps: [{ check: { outcome: 'passed' } }] });
 * assert(parsed.ok && parsed.scenario.steps.length === 1);
 */
export { parseScenario } from './vmm/scenario/parse.ts';
/**
 * A scenario file's text; problems carry line and column.
 * @example
 * const parsed = parseScenarioYaml('image: hello\nsteps:\n  - expect-consol: passed\n');
 * assert(!parsed.ok && parsed.issues[0].line === 3 && parsed.issues[0].suggestion === 'expect-console');
 */
export { parseScenarioYaml } from './vmm/scenario/parse.ts';
export type { ParsedScenario, Scenario } from './vmm/scenario/parse.ts';
export type { ScenarioInput } from './vmm/scenario/schema.ts';
/**
 * Runs a scenario to its first step that does not hold.
 * @example
 * const { scenario } = parseScenarioYaml('image: hello\nsteps:\n  - expect-console: never written\n');
 * const { status, failure } = runScenario(scenario, { image: bundledGuest('hello'), openDisk: () => memoryStorage(512) });
 * assert(status === 'failed' && failure.line === 3 && failure.lastEvents.length > 0);
 */
export { runScenario } from './vmm/scenario/run.ts';
export type { ScenarioFailure, ScenarioResult } from './vmm/scenario/run.ts';
export type { ScenarioHost } from './vmm/scenario/under-way.ts';
export type { MachineStats } from './vmm/record/summary.ts';
export type { EventFields, TraceEvent } from './vmm/base/events.ts';
/**
 * A disk image.
 * @example
 * const path = join(tmpdir(), `iommulab-example-${process.pid}.img`);
 * writeFileSync(path, new Uint8Array(4096));
 * const disk = fileStorage(path, { readOnly: true });
 * assert(disk.bytes === 4096);
 * disk.close();
 * rmSync(path);
 */
export { fileStorage } from './devices/backends/storage/file.ts';
/**
 * A disk in memory.
 * @example
 * const lab = new Lab({ disks: [{ path: 'scratch' }] }, { image: bundledGuest('hello'), openDisk: () => memoryStorage(1 << 20) });
 * lab.machine.inject('disk-error', { disk: 'nvme0', on: 'read', nth: 2 });
 * lab.close();
 */
export { memoryStorage } from './devices/backends/storage/memory.ts';
/**
 * A disk whose writes are kept in memory, over one that stays as it is.
 * @example
 * const below = memoryStorage(4096);
 * const disk = overlayStorage(below);
 * disk.write(0, Uint8Array.of(1));
 * assert(below.content[0] === 0);
 */
export { overlayStorage } from './devices/backends/storage/overlay.ts';
/**
 * The bundled guests, and what each proves.
 * @example
 * assert(guestImages.some(({ name, proves }) => name === 'dma' && proves !== ''));
 */
export { guestImages } from './guest-images/manifest.ts';
export type { GuestImage } from './guest-images/manifest.ts';
/**
 * The bytes of a bundled guest.
 * @example
 * const elf = bundledGuest('hello');
 * assert(elf[0] === 0x7f);
 */
export { bundledGuest } from './guest-images/bundled.ts';
