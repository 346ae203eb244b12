/** The bundled guest images: what was built, from `programs.ts`, by `build.ts`. Bundles as it is: no node modules. */
import manifest from './manifest.json' with { type: 'json' };

export interface GuestImage {
  readonly name: string;
  readonly title: string;
  /** One sentence: what a run with the expected ending has proved. */
  readonly proves: string;
  /** Path of the ELF file, relative to `guest-images/`. */
  readonly file: string;
  readonly bytes: number;
  /** SHA-256 of the ELF file, lower-case hexadecimal. */
  readonly sha256: string;
}

/** The version of Zig that built the images. */
export const zigVersion: string = manifest.zig;
/** The digest (`sources.ts`) of the sources that the images were built from. */
export const builtFrom: string = manifest.sources;
export const guestImages: readonly GuestImage[] = manifest.images;
