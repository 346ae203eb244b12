/** What can be booted: a bundled guest by its name, or a kernel by its path. */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import type { GuestImage } from '#guest-images/manifest';
import { guestImages } from '#guest-images/manifest';
import { nearest } from '#vmm/config/nearest';
import type { MachineConfig } from '#vmm/config/schema';
import { CommandError } from './exit.ts';
import { readFile } from './files.ts';

// The same place seen from cmd/ and from dist/: both lie beside guest-images/.
const folder = new URL('../guest-images/', import.meta.url);

const maxImageBytes = 1 << 30;

const findImage = (name: string): GuestImage | undefined => guestImages.find((image) => image.name === name);

const unknownGuest = (name: string): CommandError => {
  const names = guestImages.map((image) => image.name);
  const near = nearest(name, names);
  const hint = near === undefined ? '' : ` (did you mean ${near}?)`;
  return new CommandError(
    'usage',
    `unknown guest ${JSON.stringify(name)}: expected the path of a kernel, or one of ${names.join(', ')}${hint}`,
  );
};

/** `run`'s argument as configuration keys. A name wins over a file of the same name; `./name` is always a file. */
export function guestKeys(argument: string): { readonly image: string } | { readonly kernel: string } {
  if (findImage(argument)) return { image: argument };
  if (argument.includes('/') || existsSync(argument)) return { kernel: argument };
  throw unknownGuest(argument);
}

/** RFC 1952 §2.3.1. */
const gzipMagic = [0x1f, 0x8b] as const;

function loadKernel(path: string): Uint8Array {
  const bytes = readFile(path, 'a kernel', maxImageBytes);
  if (gzipMagic.some((byte, i) => bytes[i] !== byte)) return bytes;
  try {
    return gunzipSync(bytes, { maxOutputLength: maxImageBytes });
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    const why = error instanceof RangeError ? `more than ${maxImageBytes} bytes` : error.message;
    throw new CommandError('usage', `${path}: expected a kernel compressed with gzip, which does not unpack: ${why}`);
  }
}

/** The bytes of the initial RAM disk, if there is one. */
export const loadInitrd = (config: Pick<MachineConfig, 'initrd'>): Uint8Array | undefined =>
  config.initrd === undefined ? undefined : readFile(config.initrd, 'an initial RAM disk', maxImageBytes);

/** The bytes of the program that the configuration names, unpacked. */
export function loadGuest(config: Pick<MachineConfig, 'image' | 'kernel'>): Uint8Array {
  if (config.kernel !== undefined) return loadKernel(config.kernel);
  if (config.image === undefined)
    throw new CommandError('usage', 'no guest: expected its name or path, or image or kernel in the configuration');
  const image = findImage(config.image);
  if (!image) throw unknownGuest(config.image);
  const path = fileURLToPath(new URL(image.file, folder));
  const bytes = readFile(path, 'a bundled guest', maxImageBytes);
  if (createHash('sha256').update(bytes).digest('hex') !== image.sha256)
    throw new CommandError('resource', `${path}: is not the bundled guest ${image.name}: its SHA-256 differs`);
  return bytes;
}
