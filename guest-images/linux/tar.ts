/** POSIX.1-1988 ustar, and GNU's long names: as much as a Debian package's data holds. */
const block = 512;
const text = (bytes: Uint8Array): string => {
  const end = bytes.indexOf(0);
  return Buffer.from(end < 0 ? bytes : bytes.subarray(0, end)).toString();
};

export interface TarFile {
  /** Without a leading `./`. */
  readonly name: string;
  readonly content: Uint8Array;
  /** Where a symbolic link points. */
  readonly target?: string;
}

/** The regular files and symbolic links of an archive, in its order. @throws RangeError where it is cut short. */
export function* tarFiles(archive: Uint8Array): Generator<TarFile> {
  let longName: string | undefined;
  for (let at = 0; at + block <= archive.length && archive[at] !== 0;) {
    const header = archive.subarray(at, at + block);
    const size = Number.parseInt(text(header.subarray(124, 136)).trim(), 8);
    const kind = String.fromCharCode(header[156]!);
    const content = archive.subarray(at + block, at + block + size);
    if (!(size >= 0) || content.length < size) throw new RangeError('the archive is cut short');
    at += block + Math.ceil(size / block) * block;
    if (kind === 'L') {
      longName = text(content);
      continue;
    }
    const prefix = text(header.subarray(345, 500));
    const short = text(header.subarray(0, 100));
    const name = (longName ?? (prefix === '' ? short : `${prefix}/${short}`)).replace(/^\.\//, '');
    longName = undefined;
    if (kind === '0' || kind === '\0') yield { name, content };
    else if (kind === '2') yield { name, content, target: text(header.subarray(157, 257)) };
  }
}
