import { rid } from '#vmm/base/address';
import { Clock } from '#vmm/base/clock';
import { type EventFields, Trace, type TraceEvent } from '#vmm/base/events';
import { extensionNames } from '#vmm/base/isa-extensions';
import { HostMemory } from '#vmm/base/memory';
import type { PacketBackend, StorageBackend } from '#vmm/base/ports';
import { field } from '#vmm/base/saved';
import type { Explanation } from '#iommufd/host/riscv/explain';
import type { StaleFinding } from '#iommufd/host/riscv/stale-translations';
import { Finisher } from '#devices/finisher/finisher';
import { Uart } from '#devices/uart/uart';
import type { ProgramImage, RamRange } from '../boot/elf.ts';
import { findSymbols } from '../boot/elf-symbols.ts';
import { commandLineProblems, parseGuestProgram } from '../boot/guest-program.ts';
import { AddressConflict, Bus } from '../bus/bus.ts';
import { PciHost } from '../bus/pci/host.ts';
import { nearest } from '../config/nearest.ts';
import type { DiskConfig, MachineConfig, NicConfig } from '../config/schema.ts';
import { engineBytes } from '../cpu/engine/layout.ts';
import { Hart, HartGroup } from '../cpu/riscv/hart.ts';
import type { SbiHandler } from '../cpu/riscv/sbi.ts';
import { InterruptFile, interruptFileBytes } from '../irq/imsic.ts';
import { catalogue } from '../record/catalogue.ts';
import type { MachineStats } from '../record/summary.ts';
import { type Assignment, assignDevices } from './assignment.ts';
import { Capture, type Locate } from './capture.ts';
import { loadGuest } from './boot-guest.ts';
import { checkGuestContexts, checkStaleTranslations, reportStore } from './checks.ts';
import { Devices, type PlacedFunction } from './devices.ts';
import { type DmaOptions, type DmaReport, dmaOf } from './dma.ts';
import { matchesEvent } from './events.ts';
import { explainOf, type ExplainOptions } from './explain.ts';
import { GuestMemory } from './guest-memory.ts';
import { answerHtif, type HtifPorts } from './htif.ts';
import { buildHost, type HostDevice, type HostSide } from './host-side.ts';
import { HotPlug, portsOf } from './hot-plug.ts';
import { inject, type InjectionKind, type InjectionOptions, type Undo } from './inject.ts';
import { interruptIds, layout } from './layout.ts';
import { MachineError } from './machine-error.ts';
import type { BuildHost, MachineHost, ResumeHost, RunOutcome, RunResult, Until } from './machine-host.ts';
import type { SavedMachine } from './saved-machine.ts';
import { messagePort, pciIommu } from './pci-iommu.ts';
import { sbiHandler } from './sbi-handler.ts';
import { Scheduler } from './scheduler.ts';
import { type HtifAddresses, Snapshot, type SnapshotOptions, snapshotPieces } from './snapshot.ts';
import { collectStats, type TranslationStats } from './stats.ts';
import { registersOf, type Trap, trapOf, writeRegister } from './trap.ts';

export type { MachineHost, ResumeHost, RunOutcome, RunResult, Until } from './machine-host.ts';

// A type, not an interface: a snapshot holds it as it is.
type Ending = {
  readonly outcome: 'passed' | 'failed' | 'reset';
  readonly code?: number | undefined;
};

/** Undefined: nothing is loaded, since memory comes from a snapshot. */
type Program = ProgramImage | undefined;
const isInRam = (address: bigint, ram: RamRange): boolean =>
  address >= BigInt(ram.base) && address + 8n <= BigInt(ram.base + ram.bytes);

/** What is said of an event that no layer declares. */
const strangeName = (name: string): string => {
  if (catalogue.has(name)) return '';
  const near = nearest(name, catalogue.keys());
  return `; no layer declares an event of that name${near === undefined ? '' : ` (did you mean ${near}?)`}`;
};

/** Pool of the host kernel: second-stage tables, directories, queues. */
const poolBytes = 16 << 20;

/** A machine, from its configuration to the end of its run: what the command line and tests use. */
export class Machine {
  readonly config: MachineConfig;
  readonly clock = new Clock();
  readonly trace = new Trace(() => this.clock.now);
  readonly bus = new Bus(this.trace);
  readonly pci: PciHost;
  readonly harts: readonly Hart[];
  readonly memory: HostMemory;
  readonly guestMemory: GuestMemory;
  readonly host: HostSide;
  readonly assignment: Assignment;
  readonly functions: readonly PlacedFunction[];
  readonly uart: Uart;
  /** For a debugger: stores to pages of `watchStores`, about to be done. */
  onStore: ((hart: number, physical: number) => void) | undefined;
  readonly #group: HartGroup;
  readonly #scheduler: Scheduler;
  /** What is behind disks and network cards, by their ids. */
  readonly disks: ReadonlyMap<string, StorageBackend>;
  readonly wires: ReadonlyMap<string, PacketBackend>;
  readonly #devices: Devices;
  /** Devices that come and go while the guest runs. */
  readonly hotPlug: HotPlug;
  #ending: Ending | undefined;
  /** What `run` waits for on the console, and the end of what came. */
  #wantedText: string | undefined;
  #lastWanted: string | undefined;
  #consoleTail = '';
  #isMet = false;
  /** Harts are not to stop in the middle of their turns. */
  #isUndisturbed = false;
  readonly #htif: HtifAddresses | undefined;
  readonly #interruptFiles: readonly InterruptFile[];
  readonly #capture: Capture | undefined;
  readonly #decoder = new TextDecoder();

  /** @throws MachineError for a guest that cannot be loaded or devices that collide. */
  static create(config: MachineConfig, host: MachineHost): Machine {
    const ram = { base: layout.ram.base, bytes: config.memory };
    const parsed = parseGuestProgram(host.image, ram);
    const problems = [...(parsed.isOk ? [] : parsed.problems), ...commandLineProblems(host.image, config.append ?? '')];
    const htif = config.htif && parsed.isOk ? findSymbols(host.image, ['tohost', 'fromhost']) : undefined;
    if (htif && (htif.tohost === undefined || !isInRam(htif.tohost, ram)))
      problems.push('htif: expected a symbol tohost in RAM, found none');
    if (!parsed.isOk || problems.length > 0) throw new MachineError(problems);
    return Machine.#build(config, host, parsed.image, htif);
  }

  /**
   * A machine as it was when it was saved; it goes on as if it had never been. The devices' backends are the host's.
   * @throws SnapshotError for a snapshot that is damaged or does not fit, MachineError as `create` does
   */
  static resume(saved: Snapshot | Uint8Array, host: ResumeHost): Machine {
    const snapshot = saved instanceof Snapshot ? saved : new Snapshot(saved);
    // What start-up does was told of when the machine was made.
    const machine = Machine.#build(
      host.config ?? snapshot.config,
      { ...host, listeners: [], recollection: undefined },
      undefined,
      snapshot.htif,
    );
    try {
      snapshot.restore(machine.#saved, host.plugged);
    } catch (error) {
      machine.close();
      throw error;
    }
    machine.trace.attach(host);
    return machine;
  }

  static #build(config: MachineConfig, host: BuildHost, image: Program, htif: HtifAddresses | undefined): Machine {
    try {
      return new Machine(config, host, image, htif);
    } catch (error) {
      if (error instanceof AddressConflict) throw new MachineError([error.message]);
      throw error;
    }
  }

  private constructor(config: MachineConfig, host: BuildHost, image: Program, htif: HtifAddresses | undefined) {
    this.config = config;
    this.#htif = htif;
    const { bus, clock, trace } = this;
    trace.attach(host);
    const count = config.smp;
    const guestBytes = config.memory;
    this.memory = new HostMemory({ engineBytes: engineBytes({ harts: count, guestBytes }), poolBytes, guestBytes });
    this.guestMemory = new GuestMemory(this.memory, bus);

    this.uart = new Uart({ write: (byte) => this.#console(host, Uint8Array.of(byte)) });
    const finisher = new Finisher(({ outcome, code }) =>
      this.#end(
        outcome === 'pass' ? { outcome: 'passed' } : outcome === 'reset' ? { outcome } : { outcome: 'failed', code },
      ),
    );
    bus.attach({ name: 'finisher', ...layout.finisher, device: finisher });
    bus.attach({ name: 'uart', ...layout.uart, device: this.uart });

    const files = Array.from({ length: count }, (_, id) => {
      const onPending = (isPending: boolean): void => {
        this.harts[id]!.setInterrupt(9, isPending);
        if (isPending) this.#scheduler.wake(id);
      };
      const file = new InterruptFile({ name: `hart${id}.s`, identities: interruptIds, onPending, trace });
      const gpa = layout.imsic.base + id * interruptFileBytes;
      bus.attach({ name: `imsic${id}`, base: gpa, bytes: interruptFileBytes, device: file });
      return { file, gpa, hpa: this.memory.attachMmio(file, interruptFileBytes) };
    });

    this.#interruptFiles = files.map(({ file }) => file);
    const group = new HartGroup({
      memory: this.memory,
      ramBase: layout.ram.base,
      harts: count,
      extensions: new Set(extensionNames.filter((name) => config.cpu[name])),
      translateAfter: config.cpu.translate ? config.cpu['translate-after'] : 0,
      onTranslating: host.onTranslating,
    });
    this.#group = group;
    const handler: SbiHandler = sbiHandler({
      harts: () => this.harts,
      scheduler: () => this.#scheduler,
      write: (bytes) => this.#console(host, bytes),
      end: (ending) => this.#end(ending),
    });
    const htifPorts: HtifPorts | undefined =
      htif?.tohost === undefined
        ? undefined
        : {
            memory: this.guestMemory,
            tohost: htif.tohost,
            fromhost: htif.fromhost,
            write: (bytes) => this.#console(host, bytes),
            end: (ending) => this.#end(ending),
          };
    const onWatchedStore = htifPorts && (() => answerHtif(htifPorts));
    const isChecked = config.checks.includes('stale-translations');
    const nsPerInstruction = Math.max(1, Math.round(1000 / config.cpu.mips));
    this.harts = files.map(
      ({ file }, id) =>
        new Hart({
          group,
          id,
          bus: this.#hartBus(),
          entryMode: config['entry-mode'],
          nsPerInstruction,
          imsic: file,
          sbi: handler,
          ...(onWatchedStore ? { onWatchedStore } : {}),
          onStore: (physical, pc) => {
            if (isChecked) reportStore(this.host.silicon.check!, this.memory, id, physical, pc);
            this.onStore?.(id, physical);
          },
        }),
    );
    this.#scheduler = new Scheduler({ clock, harts: this.harts, nsPerInstruction });

    const { ecam, pciIo, pci32, pci64 } = layout;
    const windows = { io: pciIo, memory32: pci32, memory64: pci64 };
    const beforeAccess = (rid: number): void => this.assignment.viommu?.bridge.beforeUse(rid);
    this.pci = new PciHost({ bus, ecam, windows, trace, beforeAccess });
    const openDisk = (disk: DiskConfig): StorageBackend => host.openDisk(disk);
    const openNetwork = (nic: NicConfig): PacketBackend => {
      if (!host.openNetwork) throw new MachineError([`${nic.id}: no way to open a network of kind ${nic.backend}`]);
      return host.openNetwork(nic);
    };
    const locate: Locate = (name, iova) => this.host.devices.find(({ placed }) => placed.id === name)?.port.peek(iova);
    const names = config.nics.map(({ id }) => id);
    const capture = (this.#capture =
      host.capture && new Capture((bytes) => host.capture?.(bytes), names, clock, trace, locate));
    this.#devices = new Devices({
      clock,
      trace,
      openDisk,
      openNetwork,
      closeNetwork: host.closeNetwork && ((wire) => host.closeNetwork?.(wire)),
      wrapNetwork: capture && ((name, backend) => capture.wrap(name, backend)),
    });
    this.wires = this.#devices.wires;
    this.disks = this.#devices.disks;
    this.functions = [...this.#devices.all(config), ...(host.devices?.({ clock, trace }) ?? [])];
    this.host = buildHost(this.memory, [...this.functions, ...portsOf(config)], clock, trace);
    for (const { placed, port } of this.host.devices.slice(0, this.functions.length))
      this.pci.plug(rid(placed.slot << 3), placed.function, port);
    this.hotPlug = new HotPlug({
      config,
      pci: this.pci,
      host: this.host,
      assignment: () => this.assignment,
      devices: this.#devices,
      trace,
      isRunning: () => this.instructions > 0,
    });
    const hostDevice = (id: number): HostDevice | undefined => this.host.devices.find(({ hostRid }) => hostRid === id);
    const check = isChecked
      ? checkStaleTranslations(this.host, this.memory, group, clock, (hostRid) =>
          config.viommu.model === 'riscv' ? hostDevice(hostRid)?.guestRid : undefined,
        )
      : undefined;
    const { model, bus: viommuBus, address: viommuSlot } = config.viommu;
    const onPci = model === 'riscv' && viommuBus === 'pci' ? pciIommu(this.guestMemory) : undefined;
    this.assignment = assignDevices({
      kernel: this.host.kernel,
      memory: this.memory,
      guestMemory: this.guestMemory,
      interruptFiles: files,
      devices: this.host.devices,
      hasViommu: model === 'riscv',
      hasSlots: config['hotplug-ports'] > 0,
      pciIommu: onPci,
      clock,
      trace,
    });
    const { viommu } = this.assignment;
    if (viommu && onPci)
      this.pci.plug(rid(viommuSlot! << 3), onPci.function(viommu), messagePort(this.guestMemory, this.memory.bytes));
    else if (viommu) bus.attach({ name: 'iommu', ...layout.iommu, device: viommu });
    if (viommu && check)
      checkGuestContexts(
        check,
        viommu.bridge,
        this.memory,
        (deviceId) => this.host.devices.find(({ guestRid }) => guestRid === deviceId)?.hostRid,
      );
    if (image)
      loadGuest({
        config,
        image,
        initrd: host.initrd,
        guestMemory: this.guestMemory,
        hart: this.harts[0]!,
        iommu: viommu && (onPci ? { slot: viommuSlot! } : layout.iommu),
      });
    if (htifPorts) for (const hart of this.harts) hart.watchStore(Number(htifPorts.tohost));
  }

  /** The bus as harts see it: whatever a store made due earlier than planned ends the slice. */
  #hartBus(): { read: Bus['read']; write: Bus['write'] } {
    const { bus, clock } = this;
    return {
      read: (address, bytes) => bus.read(address, bytes),
      write: (address, bytes, value) => {
        const before = clock.untilNext();
        const isTaken = bus.write(address, bytes, value);
        if (clock.untilNext() < before || this.#ending) for (const hart of this.harts) hart.requestStop();
        return isTaken;
      },
    };
  }

  #end(ending: Ending): void {
    this.#ending ??= ending;
    for (const hart of this.harts) hart.requestStop();
  }

  /** The condition of the present `run` holds: harts stop behind their present instruction. */
  #meet(): void {
    this.#isMet = true;
    if (!this.#isUndisturbed) for (const hart of this.harts) hart.requestStop();
  }

  #console(host: BuildHost, bytes: Uint8Array): void {
    host.console(bytes);
    const wanted = this.#wantedText;
    if (wanted === undefined) return;
    this.#consoleTail = (this.#consoleTail + this.#decoder.decode(bytes, { stream: true })).slice(
      -(wanted.length + bytes.length),
    );
    if (!this.#consoleTail.includes(wanted)) return;
    this.#consoleTail = '';
    this.#meet();
  }

  /** Harts stop behind their present instruction and `run` comes back (met): for those who listen to the trace or the console. */
  stop(): void {
    this.#meet();
  }

  /** Runs until the guest ends, or a condition is met. Can be called again unless the guest has ended. */
  run(until: Until = {}): RunResult {
    const { clock } = this;
    const scheduler = this.#scheduler;
    const lastInstruction = scheduler.instructions + (until.instructions ?? Infinity);
    const lastNs = clock.now + (until.virtualNs ?? Infinity);
    const stop = until.address === undefined ? undefined : BigInt(until.address);
    this.#isMet = false;
    this.#isUndisturbed = until.undisturbed === true && this.harts.length > 1;
    // A run in slices looks for text that two of them wrote, too.
    if (until.console !== this.#lastWanted) this.#consoleTail = '';
    this.#wantedText = this.#lastWanted = until.console;
    const stopListening = until.event
      ? this.trace.listen((event) => {
          if (matchesEvent(event, until.event!, until.where)) this.#meet();
        })
      : undefined;
    try {
      for (;;) {
        if (this.#ending) return this.#result(this.#ending.outcome, this.#ending);
        if (this.#isMet) return this.#result('met');
        const left = lastInstruction - scheduler.instructions;
        if (left <= 0 || clock.now >= lastNs) return this.#result('limit');
        const most = this.#isUndisturbed ? Infinity : Math.min(left, Math.max(1, lastNs - clock.now));
        const halt = scheduler.turn(stop === undefined ? most : 1);
        if (halt?.kind === 'breakpoint') return { ...this.#result('breakpoint'), hart: halt.hart.id };
        if (halt?.kind === 'crash') return this.#result('crashed', { trap: trapOf(halt.hart) });
        if (halt?.kind === 'idle') return this.#result('timeout');
        if (stop !== undefined && this.harts.some((hart) => scheduler.isStarted(hart.id) && hart.pc === stop))
          this.#isMet = true;
      }
    } finally {
      stopListening?.();
      this.#wantedText = undefined;
    }
  }

  /** What `--check stale-translations` found so far; at the end of the run, of stores just before it too. */
  staleTranslations(): readonly StaleFinding[] {
    const { check } = this.host.silicon;
    check?.review(this.#ending !== undefined);
    return check?.findings ?? [];
  }

  #result(outcome: RunOutcome, more: { readonly code?: number | undefined; readonly trap?: Trap } = {}): RunResult {
    const { code, trap } = more;
    return {
      outcome,
      ...(code === undefined ? {} : { code }),
      ...(trap === undefined ? {} : { trap }),
      instructions: this.#scheduler.instructions,
      virtualNs: this.clock.now,
    };
  }

  get #saved(): SavedMachine {
    const { clock, memory, harts, uart, pci, host, assignment, hotPlug, disks } = this;
    const ending = field(
      () => this.#ending,
      (value) => (this.#ending = value),
    );
    const [scheduler, group, interruptFiles] = [this.#scheduler, this.#group, this.#interruptFiles];
    const capture = this.#capture;
    return {
      clock,
      memory,
      scheduler,
      group,
      harts,
      interruptFiles,
      uart,
      pci,
      host,
      assignment,
      hotPlug,
      disks,
      ending,
      capture,
    };
  }

  /**
   * Everything that the machine is, between two calls of `run`; `Machine.resume` goes on from there. Backends of disks
   * that are files and of networks stay outside.
   * @throws MachineError where something in it cannot be saved
   */
  snapshot(options: SnapshotOptions = {}): Uint8Array {
    const pieces = [...this.snapshotPieces(options)];
    const bytes = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0));
    let at = 0;
    for (const piece of pieces) {
      bytes.set(piece, at);
      at += piece.length;
    }
    return bytes;
  }

  /** The same piece by piece, each made when it is asked for: the machine must not run before the last. */
  snapshotPieces(options: SnapshotOptions = {}): Generator<Uint8Array> {
    return snapshotPieces(this, this.#saved, this.#htif, options);
  }

  /** From now on `onStore` hears of stores to the page of an address of RAM. */
  watchStores(address: number): void {
    this.#group.watchStores(address);
  }

  /** Ends the present `run` ('met') behind the harts' present instructions. */
  interrupt(): void {
    this.#meet();
  }

  /** Instructions that all harts retired since power-on. */
  get instructions(): number {
    return this.#scheduler.instructions;
  }

  /** What the translator did: no part of `stats`, which are the same without it. */
  get translation(): TranslationStats {
    return { retired: this.harts.reduce((sum, hart) => sum + hart.translated, 0), ...this.#group.translations };
  }

  /** Counters since power-on. */
  stats(): MachineStats {
    return collectStats(this);
  }

  /** pc, x1 … x31 and the trap CSRs of a hart. */
  registers(hart = 0): Readonly<Record<string, bigint>> {
    return registersOf(this.harts[hart]!);
  }

  /** A copy of guest RAM; RangeError where the range is not RAM. */
  readMemory(address: number, length: number): Uint8Array {
    const bytes = this.guestMemory.bytes(address, length);
    if (!bytes) throw new RangeError(`0x${address.toString(16)}, ${length} bytes: not guest RAM`);
    return bytes.slice();
  }

  writeMemory(address: number, bytes: Uint8Array): void {
    const target = this.guestMemory.bytes(address, bytes.length);
    if (!target) throw new RangeError(`0x${address.toString(16)}, ${bytes.length} bytes: not guest RAM`);
    target.set(bytes);
  }

  /** Sets pc, a register by its ABI name, or a CSR; RangeError for a name that is none. */
  writeRegister(name: string, value: bigint, hart = 0): void {
    if (!this.harts[hart] || !writeRegister(this.harts[hart], name, value))
      throw new RangeError(`hart ${hart} has no register ${name}`);
  }

  /**
   * Runs until an event comes whose fields are these (numbers by value, texts as globs), and returns it.
   * @throws Error when the guest ends, or `limit` is used up, before it came
   */
  event(
    name: string,
    where: EventFields = {},
    limit: Pick<Until, 'instructions' | 'virtualNs'> = {},
  ): Promise<TraceEvent> {
    return new Promise((resolve) => {
      let found: TraceEvent | undefined;
      const stop = this.trace.listen((event) => {
        if (!found && matchesEvent(event, name, where)) found = event;
      });
      try {
        const { outcome } = this.run({ ...limit, event: name, where });
        if (!found) throw new Error(`${name}: the run ended (${outcome}) before it came${strangeName(name)}`);
        resolve(found);
      } finally {
        stop();
      }
    });
  }

  /**
   * Makes something go wrong: one row of the table of injections. Returns what takes it back.
   * @throws MachineError for options that make no sense on this machine
   */
  inject<K extends InjectionKind>(kind: K, options: InjectionOptions<K>): Undo {
    return inject(this, kind, options);
  }

  /**
   * Plugs a device into a free hot-plug port: `nvme`, `nic` or `exerciser`, with the keys of its list in the
   * configuration. Returns its id.
   * @throws MachineError where no port is free, keys are wrong, or the host refuses it
   */
  deviceAdd(driver: string, keys: Readonly<Record<string, unknown>> = {}, bus?: string): string {
    return this.hotPlug.add(driver, keys, bus);
  }

  /** Asks the guest for a device that was plugged in; `surprise` tears it out. @throws MachineError for another id */
  deviceDel(id: string, { surprise = false }: { readonly surprise?: boolean } = {}): void {
    this.hotPlug.remove(id, surprise);
  }

  /** A DMA of a device, through its own way to memory (translation, faults, trace), whatever its program does. */
  dma(options: DmaOptions): DmaReport {
    return dmaOf(this, options);
  }

  /**
   * How an access of a device would be translated now, and why it would end so: every entry that is read. Changes nothing.
   * @throws MachineError for a device that there is not
   */
  explain(options: ExplainOptions): Explanation {
    return explainOf(this, options);
  }

  /** Console input; returns how many bytes were taken. */
  type(text: string): number {
    return this.uart.receive(new TextEncoder().encode(text));
  }

  /** Flushes and closes the disks, and gives the devices back to the host. */
  close(): void {
    this.assignment.close();
    this.#devices.close();
  }
}
