/** Linux errno values on RISC-V and x86 (asm-generic/errno-base.h, errno.h) that the uAPI can return. */
// prettier-ignore
export const errno = {
  EPERM: 1, ENOENT: 2, EINTR: 4, EIO: 5, ENXIO: 6, E2BIG: 7, EBADF: 9, EAGAIN: 11, ENOMEM: 12, EACCES: 13, EFAULT: 14,
  EBUSY: 16, EEXIST: 17, EXDEV: 18, ENODEV: 19, EINVAL: 22, EMFILE: 24, ENOTTY: 25, EFBIG: 27, ENOSPC: 28, ESPIPE: 29,
  EROFS: 30, ERANGE: 34, EMSGSIZE: 90, EOPNOTSUPP: 95, EADDRINUSE: 98, ETIMEDOUT: 110, EOVERFLOW: 75,
  EDEADLK: 35, EBADE: 52, EBADFD: 77,
} as const;
export type ErrnoName = keyof typeof errno;

const names = new Map<number, ErrnoName>(Object.entries(errno).map(([name, value]) => [value, name as ErrnoName]));
/** Symbolic name of an errno value, or its number as text. */
export const errnoName = (value: number): string => names.get(value) ?? String(value);
