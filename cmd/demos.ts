/** The demos: which guest, on what machine, and what the host can see to be true afterwards. */
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32, decodeDiskHeader, expectedWriteback, makeDiskImage } from '#guest-images/disk-image';
import type { MachineConfigInput } from '#vmm/config/schema';
import type { Machine } from '#vmm/machine/machine';
import { CommandError } from './exit.ts';
import { fileError, readFile } from './files.ts';

export interface Demo {
  /** Continues "the demo: …" in help. */
  readonly doc: string;
  readonly image: string;
  /** The machine besides its disk, and what the disk is besides its image. */
  readonly machine: MachineConfigInput;
  readonly disk?: NonNullable<MachineConfigInput['disks']>[number] extends infer D ? Partial<D> : never;
  /** Makes a used image ready for another run. */
  readonly prepareDisk?: (path: string) => void;
  readonly checks: (path: string) => readonly Check[];
}

/** One thing that is true after a good run, seen by the host and not by the guest. */
export interface Check {
  readonly what: string;
  readonly passed: boolean;
}

const maxDiskBytes = 1 << 30;

export function newDisk(seed: number): { readonly path: string; readonly remove: () => void } {
  let folder = tmpdir();
  try {
    folder = mkdtempSync(join(folder, 'iommulab-'));
    const path = join(folder, 'disk.img');
    writeFileSync(path, makeDiskImage(seed));
    const remove = (): void => rmSync(folder, { recursive: true, force: true });
    return { path, remove };
  } catch (error) {
    throw fileError(error, folder, 'a place for a disk image');
  }
}

/** The image as the run left it, read by us and not through the machine. */
function checkDisk(path: string): Check[] {
  const bytes = readFile(path, 'a disk image', maxDiskBytes);
  const header = decodeDiskHeader(bytes);
  const expected = expectedWriteback();
  const part = (at: number, length: number): Uint8Array => bytes.subarray(at, at + length);
  return [
    {
      what: 'the 8 MiB that the guest read are unchanged in the file',
      passed: header !== undefined && crc32(part(header.dataOffset, header.dataBytes)) === header.dataCrc32,
    },
    {
      what: 'the 1 MiB that the guest wrote is in the file',
      passed:
        header !== undefined &&
        header.writebackBytes === expected.length &&
        Buffer.compare(part(header.writebackOffset, header.writebackBytes), expected) === 0,
    },
  ];
}

/** A run on a used image would prove nothing: what the guest is to write is there already. */
function clearWriteback(path: string): void {
  const header = decodeDiskHeader(readFile(path, 'a disk image', maxDiskBytes));
  if (!header)
    throw new CommandError(
      'usage',
      `${path}: expected a disk image of this demo (--keep keeps one), found something else`,
    );
  try {
    const fd = openSync(path, 'r+');
    writeSync(fd, new Uint8Array(expectedWriteback().length), 0, null, header.writebackOffset);
    closeSync(fd);
  } catch (error) {
    throw fileError(error, path, 'a disk image');
  }
}

/** Nothing of the guest's is left in the host once the machine is closed. */
export const checkHost = (machine: Machine): Check[] => [
  { what: 'no page of the guest is pinned any more', passed: machine.host.kernel.physical.pinned === 0 },
];

const unchanged = (path: string): readonly Check[] => checkDisk(path).slice(0, 1);
/** A disk, two cards and an exerciser whose queues can carry PASIDs. */
const sharedByProcesses: MachineConfigInput = { nics: [{}, {}], exercisers: [{}] };

// prettier-ignore
export const demos = {
  dma:  { doc: 'an NVMe disk and two network cards do DMA through the vIOMMU', image: 'dma', machine: { nics: [{}, {}] },
          prepareDisk: clearWriteback, checks: checkDisk },
  vsva: { doc: 'processes drive the disk and a network card with their own pointers', image: 'sva-vsva',
          machine: sharedByProcesses, disk: { 'pasid-bits': 20 }, checks: unchanged },
  vpri: { doc: 'devices fault on pages that are not there, and the guest resolves it', image: 'sva-vpri',
          machine: sharedByProcesses, disk: { 'pasid-bits': 20 }, checks: unchanged },
  isolation: { doc: 'hostile drivers and processes try every way out', image: 'sva-isolation',
          machine: sharedByProcesses, disk: { 'pasid-bits': 20 }, checks: unchanged },
} as const satisfies Record<string, Demo>;
export type DemoName = keyof typeof demos;
