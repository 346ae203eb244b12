/** The bundled guests' bytes, for programs on Node. */
import { readFileSync } from 'node:fs';
import { guestImages } from './manifest.ts';

// The same place seen from guest-images/ and from dist/: both lie beside guest-images/.
const folder = new URL('../guest-images/', import.meta.url);

/** The ELF file of a bundled guest; RangeError for a name that none has. */
export function bundledGuest(name: string): Uint8Array {
  const image = guestImages.find((one) => one.name === name);
  if (!image)
    throw new RangeError(`expected a bundled guest (${guestImages.map((one) => one.name).join(', ')}), found ${name}`);
  return readFileSync(new URL(image.file, folder));
}
