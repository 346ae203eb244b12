/** What a run came to: the numbers at its end, as a table and as data. */
import { formatBytes, formatCount, formatTime } from './bytes.ts';

/** One device's DMA, as the host IOMMU saw it. */
export interface DeviceStats {
  readonly id: string;
  /** `00:01.0`. */
  readonly address: string;
  readonly readBytes: number;
  readonly reads: number;
  readonly writtenBytes: number;
  readonly writes: number;
  /** MSI and MSI-X messages. */
  readonly messages: number;
  /** Transactions that were refused. */
  readonly faults: number;
}

/** Counters of one run, all from 0 at reset. */
export interface MachineStats {
  readonly instructions: number;
  readonly virtualNs: number;
  readonly devices: readonly DeviceStats[];
  /** The host IOMMU: requests for a translation, and how they were answered. */
  readonly translations: number;
  readonly iotlbHits: number;
  readonly iotlbMisses: number;
  readonly walks: number;
  /** Table entries that walks loaded. */
  readonly walkLoads: number;
  readonly hostFaults: number;
  /** Commands that the guest gave the vIOMMU, by name. */
  readonly commands: Readonly<Record<string, number>>;
  /** iommufd and VFIO calls, by name. */
  readonly ioctls: Readonly<Record<string, number>>;
}

type Cells = readonly string[];

const row = (cells: Cells, widths: readonly number[]): string =>
  `  ${cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join('  ')}`.trimEnd();

function block(rows: readonly Cells[]): string[] {
  const widths: number[] = [];
  for (const cells of rows) for (const [i, cell] of cells.entries()) widths[i] = Math.max(widths[i] ?? 0, cell.length);
  return rows.map((cells) => row(cells, widths));
}

const percent = (part: number, whole: number): string => (whole === 0 ? '' : `${((100 * part) / whole).toFixed(1)} %`);

/** The table at the end of a run; `wallNs` is the host's time. */
export function summaryLines(stats: MachineStats, wallNs: number): string[] {
  const devices: Cells[] = stats.devices.map((device) => [
    `${device.id} ${device.address}`,
    formatBytes(device.readBytes),
    formatCount(device.reads),
    formatBytes(device.writtenBytes),
    formatCount(device.writes),
    formatCount(device.messages),
    formatCount(device.faults),
  ]);
  const ioctls: Cells[] = Object.entries(stats.ioctls)
    .toSorted(([a, x], [b, y]) => y - x || (a < b ? -1 : 1))
    .map(([name, calls]) => [name, formatCount(calls)]);
  const commands: Cells[] = Object.entries(stats.commands).map(([name, count]) => [name, formatCount(count)]);
  const mips = wallNs > 0 ? ` (${((stats.instructions * 1000) / wallNs).toFixed(0)} MIPS)` : '';
  const lines: string[] = [];
  if (devices.length > 0)
    lines.push('DMA', ...block([['device', 'read', 'reads', 'written', 'writes', 'MSI', 'faults'], ...devices]), '');
  if (stats.translations > 0)
    lines.push(
      'Host IOMMU',
      ...block([
        ['translations', formatCount(stats.translations), ''],
        ['IOTLB hits', formatCount(stats.iotlbHits), percent(stats.iotlbHits, stats.translations)],
        ['walks', formatCount(stats.walks), `${formatCount(stats.walkLoads)} entries loaded`],
        ['faults', formatCount(stats.hostFaults), ''],
      ]),
      '',
    );
  if (commands.length > 0) lines.push('vIOMMU', ...block([['command', 'count'], ...commands]), '');
  if (ioctls.length > 0) lines.push('iommufd', ...block([['call', 'calls'], ...ioctls]), '');
  lines.push(
    'Guest',
    ...block([
      ['instructions', `${formatCount(stats.instructions)}${mips}`],
      ['virtual time', formatTime(stats.virtualNs)],
      ['wall time', formatTime(wallNs)],
    ]),
  );
  return lines;
}
