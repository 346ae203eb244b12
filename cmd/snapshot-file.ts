/** Snapshots on disk: written whole or not at all, and read back only where everything that belongs to them is there. */
import { createHash } from 'node:crypto';
import { closeSync, openSync, readSync, renameSync, rmSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { deflateRawSync, inflateRawSync } from 'node:zlib';
import { type Data, listOf, recordOf, SavedError } from '#vmm/base/saved';
import type { MachineConfig } from '#vmm/config/schema';
import type { Machine } from '#vmm/machine/machine';
import { Snapshot } from '#vmm/machine/snapshot';
import { formatBytes } from '#vmm/record/bytes';
import { type Packing, SnapshotError } from '#vmm/snapshot/container';
import { CommandError } from './exit.ts';
import { fileError, outputError, readLargeFile, writeAll } from './files.ts';
import { version } from './version.ts';

/** Fast rather than small: a booted guest's memory is mostly zeroes, which are left out anyhow. */
const deflate: Packing = {
  name: 'deflate',
  pack: (bytes) => deflateRawSync(bytes, { level: 1 }),
  unpack: (bytes, length) => {
    const unpacked = inflateRawSync(bytes, { maxOutputLength: Math.max(1, length) });
    if (unpacked.length !== length) throw new RangeError('another length');
    return unpacked;
  },
};

/** The contents of larger disks are not looked at: size and time of change must do. */
const mostDigested = 1 << 30;
const chunkBytes = 1 << 20;

/** What was booted, for those who resume it. */
// A type, not an interface: a snapshot holds it as it is.
export type GuestNote = {
  readonly name: string;
  readonly sha256: string;
  readonly isLinux: boolean;
};

export const noteOf = (config: MachineConfig, image: Uint8Array, isLinux: boolean): GuestNote => ({
  name: config.kernel ?? config.image ?? '',
  sha256: createHash('sha256').update(image).digest('hex'),
  isLinux,
});

/** A disk's file as the snapshot knows it. */
type DiskNote = {
  readonly id: string;
  readonly path: string;
  readonly bytes: number;
  readonly changedMs: number;
  /** Of its contents, where they are not too many. */
  readonly sha256: string | undefined;
};

function digestOf(path: string): string {
  const hash = createHash('sha256');
  const buffer = Buffer.allocUnsafe(chunkBytes);
  const fd = openSync(path, 'r');
  try {
    for (let count = readSync(fd, buffer); count > 0; count = readSync(fd, buffer))
      hash.update(buffer.subarray(0, count));
  } finally {
    closeSync(fd);
  }
  return hash.digest('hex');
}

function noteDisk(id: string, path: string): DiskNote {
  try {
    const { size, mtimeMs } = statSync(path);
    const sha256 = size <= mostDigested ? digestOf(path) : undefined;
    return { id, path: resolve(path), bytes: size, changedMs: mtimeMs, sha256 };
  } catch (error) {
    throw fileError(error, path, 'a disk image');
  }
}

export interface SavedFile {
  readonly path: string;
  readonly bytes: number;
  readonly instructions: number;
  readonly virtualNs: number;
}

/** Writes the machine as it is. `pieceBytes`: what is written at once. @throws MachineError where it cannot be saved, CommandError where the file cannot be written */
export function saveSnapshot(machine: Machine, guest: GuestNote, path: string, pieceBytes?: number): SavedFile {
  for (const disk of machine.disks.values()) disk.flush();
  const { disks } = machine.hotPlug.present;
  const about: Data = { version, guest, disks: disks.map(({ id, path: file }) => noteDisk(id, file)) };
  const part = `${path}.part`;
  let bytes = 0;
  let fd: number | undefined;
  try {
    fd = openSync(part, 'w', 0o600);
    for (const piece of machine.snapshotPieces({ packing: deflate, about })) {
      writeAll(fd, piece, pieceBytes);
      bytes += piece.length;
    }
    closeSync(fd);
    fd = undefined;
    renameSync(part, path);
  } catch (error) {
    if (fd !== undefined) closeSync(fd);
    rmSync(part, { force: true });
    throw outputError(error, path, 'a snapshot');
  }
  return { path, bytes, instructions: machine.instructions, virtualNs: machine.clock.now };
}

export const savedSentence = ({ path, bytes }: SavedFile): string => `saved in ${path} (${formatBytes(bytes)})`;

export interface ReadSnapshot {
  readonly snapshot: Snapshot;
  readonly guest: GuestNote;
  /** Of the saved machine, with its disks where they are now. */
  readonly config: MachineConfig;
  /** What was in its hot-plug ports, the same. */
  readonly plugged: Snapshot['plugged'];
}

/** Why a disk is not the one that the snapshot knows; undefined where it is. */
function differenceOf(note: DiskNote, path: string): string | undefined {
  const file = statSync(path, { throwIfNoEntry: false });
  const here = `disk ${note.id}: expected ${path} as it was when the machine was saved, but it`;
  if (!file?.isFile()) return `${here} ${file ? 'is no file' : 'does not exist'}`;
  if (file.size !== note.bytes) return `${here} has ${file.size} bytes now instead of ${note.bytes}`;
  if (file.mtimeMs === note.changedMs) return undefined;
  if (note.sha256 !== undefined && digestOf(path) === note.sha256) return undefined;
  return `${here} has changed since`;
}

/**
 * A snapshot with everything that belongs to it. `moved`: where disks are now, by their ids; `pieceBytes`: what is read
 * at once.
 * @throws CommandError, one sentence for each thing that is wrong
 */
export function readSnapshot(
  path: string,
  moved: ReadonlyMap<string, string> = new Map(),
  pieceBytes?: number,
): ReadSnapshot {
  const bytes = readLargeFile(path, 'a snapshot', pieceBytes);
  try {
    const snapshot = new Snapshot(bytes, [deflate]);
    const { guest, disks } = recordOf(snapshot.about);
    const notes = listOf(disks) as unknown as readonly DiskNote[];
    const places = new Map(notes.map(({ id, path: place }) => [id, place]));
    for (const [id, place] of moved) {
      if (!places.has(id)) {
        const ids = [...places.keys()].join(', ') || 'none';
        throw new CommandError('usage', `--disk: expected the id of a disk of the snapshot (${ids}), found ${id}`);
      }
      places.set(id, resolve(place));
    }
    const wrong = notes.flatMap((note) => differenceOf(note, places.get(note.id)!) ?? []);
    if (wrong.length > 0) throw new CommandError('usage', wrong[0]!, wrong.slice(1));
    const place = <T extends { readonly id: string; readonly path: string }>(disk: T): T => ({
      ...disk,
      path: places.get(disk.id) ?? disk.path,
    });
    const config = { ...snapshot.config, disks: snapshot.config.disks.map(place) };
    const plugged = snapshot.plugged.map(({ driver, settings }) => ({
      driver,
      settings: 'path' in settings ? place(settings) : settings,
    }));
    return { snapshot, guest: recordOf(guest) as GuestNote, config, plugged };
  } catch (error) {
    throw snapshotError(error, path);
  }
}

/** The sentence for a snapshot that cannot be used; other errors pass through. */
export const snapshotError = (error: unknown, path: string): unknown =>
  error instanceof SnapshotError || error instanceof SavedError
    ? new CommandError('usage', `${path}: ${error.message}`)
    : error;
