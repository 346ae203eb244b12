import type { Clock } from '#vmm/base/clock';
import { parts, plainList, properties } from '#vmm/base/saved';
import { bytes, struct, u16, u32, u64, u8 } from '#vmm/base/wire';

/** Error Information log entry (NVMe 1.4 §5.14.1.1). */
const errorLogEntry = struct('error_log_entry', {
  error_count: u64,
  sqid: u16,
  cid: u16,
  status_field: u16,
  parameter_error_location: u16,
  lba: u64,
  nsid: u32,
  vendor_log_page: u8,
  transport_type: u8,
  reserved: bytes(2),
  command_specific: u64,
  transport_specific: u16,
  reserved2: bytes(22),
});
/** SMART / Health Information log (§5.14.1.2); counters are 128 bits wide, their upper halves stay 0. */
const smartLog = struct('smart_log', {
  critical_warning: u8,
  composite_temperature: bytes(2),
  available_spare: u8,
  available_spare_threshold: u8,
  percentage_used: u8,
  reserved: bytes(26),
  data_units_read: u64,
  data_units_read_hi: u64,
  data_units_written: u64,
  data_units_written_hi: u64,
  host_reads: u64,
  host_reads_hi: u64,
  host_writes: u64,
  host_writes_hi: u64,
  busy_minutes: u64,
  busy_minutes_hi: u64,
  power_cycles: u64,
  power_cycles_hi: u64,
  power_on_hours: u64,
  power_on_hours_hi: u64,
  unsafe_shutdowns: u64,
  unsafe_shutdowns_hi: u64,
  media_errors: u64,
  media_errors_hi: u64,
  error_log_entries: u64,
  error_log_entries_hi: u64,
  reserved2: bytes(320),
});

/** Asynchronous event types (§5.2, figure 145). */
export const asyncEvent = { error: 0, health: 1, notice: 2 } as const;

/** Entries kept, 0-based (Identify Controller, ELPE). */
export const errorLogLast = 63;
/** A steady 30 °C. */
const kelvin = 303;

export type ErrorEntry = {
  readonly sqid: number;
  readonly cid: number;
  readonly status: number;
  readonly nsid: number;
  readonly lba: number;
};

// A type, not an interface: a snapshot holds it as it is.
type LoggedError = ErrorEntry & { readonly count: number };

/** Counters since power-on and the errors of commands. */
export class Health {
  commands = 0;
  ioCommands = 0;
  reads = 0;
  writes = 0;
  bytesRead = 0;
  bytesWritten = 0;
  mediaErrors = 0;
  errors = 0;
  powerCycles = 1;
  unsafeShutdowns = 0;
  readonly #clock: Clock;
  readonly #entries: LoggedError[] = [];
  readonly saved = parts({
    counters: properties(() => this, ['commands', 'ioCommands', 'reads', 'writes', 'bytesRead', 'bytesWritten', 'mediaErrors', 'errors', 'powerCycles', 'unsafeShutdowns']), // prettier-ignore
    entries: plainList(() => this.#entries),
  });

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get temperature(): number {
    return kelvin;
  }

  logError(entry: ErrorEntry): void {
    this.#entries.unshift({ ...entry, count: ++this.errors });
    if (this.#entries.length > errorLogLast + 1) this.#entries.pop();
  }

  /** Newest first, 64 entries, the unused ones zero. */
  errorLog(): Uint8Array {
    const log = new Uint8Array((errorLogLast + 1) * errorLogEntry.size);
    this.#entries.forEach((entry, i) => {
      errorLogEntry.encodeInto(
        log,
        {
          error_count: BigInt(entry.count),
          sqid: entry.sqid,
          cid: entry.cid,
          // The phase bit's place is 0 here; no parameter location is given.
          status_field: (entry.status << 1) & 0xffff,
          parameter_error_location: 0xffff,
          lba: BigInt.asUintN(64, BigInt(entry.lba)),
          nsid: entry.nsid,
        },
        i * errorLogEntry.size,
      );
    });
    return log;
  }

  /** @param warning critical warning bits */
  smart(warning: number): Uint8Array {
    const units = (n: number): bigint => BigInt(Math.ceil(n / 512_000));
    return smartLog.encode({
      critical_warning: warning,
      composite_temperature: Uint8Array.of(kelvin & 0xff, kelvin >> 8),
      available_spare: 100,
      available_spare_threshold: 10,
      data_units_read: units(this.bytesRead),
      data_units_written: units(this.bytesWritten),
      host_reads: BigInt(this.reads),
      host_writes: BigInt(this.writes),
      power_cycles: BigInt(this.powerCycles),
      power_on_hours: BigInt(Math.floor(this.#clock.now / 3.6e12)),
      unsafe_shutdowns: BigInt(this.unsafeShutdowns),
      media_errors: BigInt(this.mediaErrors),
      error_log_entries: BigInt(this.errors),
    });
  }
}
