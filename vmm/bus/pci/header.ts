import { register } from '#vmm/base/bits';
import { invariant } from '#vmm/base/invariant';
import type { BarSpec } from '#vmm/base/ports';
import { type ConfigRow, row } from './config-space.ts';

const spec = (section: string): string => `PCI Express Base 6.0 §${section}`;

const id16 = register({ width: 16, spec: spec('7.5.1.1'), fields: { id: { bits: [15, 0], access: 'ro' } } });
const fixed8 = register({ width: 8, spec: spec('7.5.1.1'), fields: { value: { bits: [7, 0], access: 'ro' } } });
const free8 = register({ width: 8, spec: spec('7.5.1.1'), fields: { value: { bits: [7, 0] } } });

export const command = register({
  width: 16,
  spec: spec('7.5.1.1.3'),
  fields: {
    io_space: { bits: 0 },
    memory_space: { bits: 1 },
    bus_master: { bits: 2 },
    parity_error_response: { bits: 6 },
    serr_enable: { bits: 8 },
    interrupt_disable: { bits: 10 },
  },
});
export const commandBits = { ioSpace: 1, memorySpace: 2, busMaster: 4 } as const;

const status = register({
  width: 16,
  spec: spec('7.5.1.1.4'),
  fields: {
    interrupt_status: { bits: 3, access: 'ro' },
    capabilities_list: { bits: 4, access: 'ro' },
    master_data_parity_error: { bits: 8, access: 'w1c' },
    signaled_target_abort: { bits: 11, access: 'w1c' },
    received_target_abort: { bits: 12, access: 'w1c' },
    received_master_abort: { bits: 13, access: 'w1c' },
    signaled_system_error: { bits: 14, access: 'w1c' },
    detected_parity_error: { bits: 15, access: 'w1c' },
  },
});

/** Both header types begin and end alike. */
// prettier-ignore
export const commonHeader: readonly ConfigRow[] = [
  row('vendor_id',         0x00, id16),
  row('device_id',         0x02, id16),
  row('command',           0x04, command),
  row('status',            0x06, status),
  row('revision_id',       0x08, fixed8),
  row('prog_if',           0x09, fixed8),
  row('subclass',          0x0a, fixed8),
  row('base_class',        0x0b, fixed8),
  row('cache_line_size',   0x0c, free8),
  row('latency_timer',     0x0d, fixed8),
  row('header_type',       0x0e, fixed8),
  row('bist',              0x0f, fixed8),
  row('cap_pointer',       0x34, fixed8),
  row('interrupt_line',    0x3c, free8),
  row('interrupt_pin',     0x3d, fixed8),
];

// prettier-ignore
export const type0Header: readonly ConfigRow[] = [
  row('subsystem_vendor_id', 0x2c, id16),
  row('subsystem_id',        0x2e, id16),
];

const bus8 = register({ width: 8, spec: spec('7.5.1.3'), fields: { bus: { bits: [7, 0] } } });
const secondaryStatus = register({
  width: 16,
  spec: spec('7.5.1.3.7'),
  fields: {
    master_data_parity_error: { bits: 8, access: 'w1c' },
    signaled_target_abort: { bits: 11, access: 'w1c' },
    received_target_abort: { bits: 12, access: 'w1c' },
    received_master_abort: { bits: 13, access: 'w1c' },
    received_system_error: { bits: 14, access: 'w1c' },
    detected_parity_error: { bits: 15, access: 'w1c' },
  },
});
const ioWindow = register({
  width: 8,
  spec: spec('7.5.1.3.6'),
  fields: { addressing: { bits: [3, 0], access: 'ro' }, address: { bits: [7, 4], doc: 'bits 15:12' } },
});
const memoryWindow = register({
  width: 16,
  spec: spec('7.5.1.3.8'),
  fields: { addressing: { bits: [3, 0], access: 'ro' }, address: { bits: [15, 4], doc: 'bits 31:20' } },
});
const upper32 = register({ width: 32, spec: spec('7.5.1.3.10'), fields: { address: { bits: [31, 0] } } });
const bridgeControl = register({
  width: 16,
  spec: spec('7.5.1.3.13'),
  fields: {
    parity_error_response: { bits: 0 },
    serr_enable: { bits: 1 },
    isa_enable: { bits: 2 },
    vga_enable: { bits: 3 },
    vga_16_bit_decode: { bits: 4 },
    secondary_bus_reset: { bits: 6 },
  },
});
export const secondaryBusReset = 1 << 6;

/** A bridge: bus numbers and the windows that it forwards downstream. I/O windows are of 16 bits. */
// prettier-ignore
export const type1Header: readonly ConfigRow[] = [
  row('primary_bus',              0x18, bus8),
  row('secondary_bus',            0x19, bus8),
  row('subordinate_bus',          0x1a, bus8),
  row('secondary_latency_timer',  0x1b, fixed8),
  row('io_base',                  0x1c, ioWindow),
  row('io_limit',                 0x1d, ioWindow),
  row('secondary_status',         0x1e, secondaryStatus),
  row('memory_base',              0x20, memoryWindow),
  row('memory_limit',             0x22, memoryWindow),
  row('prefetchable_base',        0x24, memoryWindow),
  row('prefetchable_limit',       0x26, memoryWindow),
  row('prefetchable_base_upper',  0x28, upper32),
  row('prefetchable_limit_upper', 0x2c, upper32),
  row('bridge_control',           0x3e, bridgeControl),
];
/** The prefetchable window is of 64 bits. */
export const type1Reset = { header_type: 1, prefetchable_base: 1, prefetchable_limit: 1 } as const;

/** One base address register as rows: two for the 64-bit kind. */
export interface BarRows {
  readonly rows: readonly ConfigRow[];
  /** The type bits, which software cannot change. */
  readonly reset: number;
}

/** What a BAR of this size looks like to software: sizing reads back the address bits that exist. */
export function barRows(bar: BarSpec): BarRows {
  const shift = Math.log2(bar.bytes);
  invariant(
    Number.isInteger(shift) && bar.bytes >= 16,
    `BAR ${bar.index}: ${bar.bytes} bytes is not a power of two ≥ 16`,
  );
  const offset = 0x10 + 4 * bar.index;
  const name = `bar${bar.index}`;
  if (bar.kind === 'io') {
    invariant(bar.bytes <= 256, `BAR ${bar.index}: an I/O range of more than 256 bytes`);
    const layout = register({
      width: 32,
      spec: spec('7.5.1.2.1'),
      fields: { io_space: { bits: 0, access: 'ro' }, address: { bits: [31, shift] } },
    });
    return { rows: [row(name, offset, layout)], reset: 1 };
  }
  const type = {
    io_space: { bits: 0, access: 'ro' },
    type: { bits: [2, 1], access: 'ro', values: { 0: 'memory32', 2: 'memory64' } },
    prefetchable: { bits: 3, access: 'ro' },
  } as const;
  invariant(shift < 32 || bar.kind === 'memory64', `BAR ${bar.index}: 4 GiB and more need a 64-bit BAR`);
  const low = register({
    width: 32,
    spec: spec('7.5.1.2.1'),
    fields: shift < 32 ? { ...type, address: { bits: [31, shift] } } : type,
  });
  const reset = (bar.kind === 'memory64' ? 0b100 : 0) | (bar.prefetchable === true ? 0b1000 : 0);
  if (bar.kind === 'memory32') return { rows: [row(name, offset, low)], reset };
  invariant(bar.index < 5, 'a 64-bit BAR needs two registers');
  const high = register({
    width: 32,
    spec: spec('7.5.1.2.1'),
    fields: { address: { bits: [31, Math.max(0, shift - 32)] } },
  });
  return { rows: [row(name, offset, low), row(`${name}_high`, offset + 4, high)], reset };
}
