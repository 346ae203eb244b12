/**
 * Recorded system calls of one test case (format version 1): what a program did with a real kernel's iommufd, call by
 * call, with arguments and answers byte for byte. Hex strings are in memory order; file descriptors and memory have
 * symbolic names; object ids are the kernel's own.
 */

/** A pointer inside a structure. */
export interface PointerRecord {
  /** Byte offset of the u64 in the structure; zero in `in` and `out`. */
  readonly off: number;
  readonly kind: 'va' | 'data';
  /** va: an address in (or near) a buffer. */
  readonly buf?: string;
  readonly boff?: number;
  /** data: bytes behind the pointer, before and after. */
  readonly len?: number;
  readonly page_off?: number;
  readonly in?: string;
  readonly out?: string;
  /** Only so many bytes are accessible. */
  readonly fault_at?: number;
  readonly trunc?: number;
}
export interface FdRecord {
  readonly off: number;
  readonly dir: 'in' | 'out';
  readonly fd: string;
}
export interface MemoryRecord {
  readonly buf: string;
  readonly off: number;
  readonly hex: string;
}

/** Every kind of record; the fields that `t` has. */
export interface CallRecord {
  readonly n: number;
  readonly t: string;
  readonly ret?: number;
  readonly errno?: number;
  readonly case?: string;
  readonly fd?: string;
  readonly path?: string;
  readonly flags?: number;
  readonly len?: number;
  readonly off?: number;
  readonly buf?: string;
  readonly kind?: string;
  readonly prot?: number;
  readonly base_mod_2m?: string;
  readonly fd_off?: number;
  readonly hex?: string;
  readonly text?: string;
  readonly count?: number;
  readonly events?: number;
  readonly revents?: number;
  readonly first_u32?: number;
  readonly rlimit_memlock?: number;
  readonly cap_ipc_lock?: number;
  readonly cap_sys_resource?: number;
  // ioctl
  readonly cmd?: string;
  readonly nr?: string;
  readonly op?: string;
  readonly arg?: string | number;
  readonly arg_raw?: string;
  readonly size?: number;
  readonly in?: string;
  readonly out?: string;
  readonly ptrs?: readonly PointerRecord[];
  readonly fds?: readonly FdRecord[];
  readonly ret_fd?: string;
  readonly mem_out?: readonly MemoryRecord[];
  readonly arg_fault_at?: number;
  readonly arg_ro?: number;
}

/** Records of a case from its JSON lines. */
export const parseRecords = (text: string): CallRecord[] =>
  text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as CallRecord);

const digits = new Uint8Array(128);
for (const [value, character] of Array.from('0123456789abcdef').entries()) digits[character.charCodeAt(0)] = value;
const pairs = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));

export const fromHex = (hex: string): Uint8Array<ArrayBuffer> => {
  const out = new Uint8Array(hex.length / 2);
  for (let i = 0; i < out.length; i++)
    out[i] = (digits[hex.charCodeAt(2 * i)]! << 4) | digits[hex.charCodeAt(2 * i + 1)]!;
  return out;
};
export const toHex = (bytes: Uint8Array): string => {
  let out = '';
  for (const byte of bytes) out += pairs[byte]!;
  return out;
};
