/** Xen's error numbers (`xen/include/public/errno.h`): Linux numbers. Hypercalls answer them negated. */
export const Errno = {
  EPERM: 1, ENOENT: 2, ESRCH: 3, EINTR: 4, EIO: 5, ENXIO: 6, E2BIG: 7, ENOEXEC: 8, EBADF: 9, ECHILD: 10, EAGAIN: 11,
  ENOMEM: 12, EACCES: 13, EFAULT: 14, EBUSY: 16, EEXIST: 17, EXDEV: 18, ENODEV: 19, ENOTDIR: 20, EISDIR: 21,
  EINVAL: 22, ENFILE: 23, EMFILE: 24, ENOSPC: 28, EROFS: 30, EMLINK: 31, EDOM: 33, ERANGE: 34, EDEADLK: 35,
  ENAMETOOLONG: 36, ENOLCK: 37, ENOSYS: 38, ENOTEMPTY: 39, ENODATA: 61, ETIME: 62, EBADMSG: 74, EOVERFLOW: 75,
  EILSEQ: 84, ERESTART: 85, ENOTSOCK: 88, EMSGSIZE: 90, EOPNOTSUPP: 95, EADDRINUSE: 98, EADDRNOTAVAIL: 99,
  ENOBUFS: 105, EISCONN: 106, ENOTCONN: 107, ETIMEDOUT: 110, ECONNREFUSED: 111, ECANCELED: 125,
} as const; // prettier-ignore

export type ErrnoName = keyof typeof Errno;
export type ErrnoCode = (typeof Errno)[ErrnoName];

const names = new Map<number, ErrnoName>(
  (Object.entries(Errno) as [ErrnoName, number][]).map(([name, code]) => [code, name]),
);

/** The name of an errno, of either sign; `E<number>` when there is none. */
export function errnoName(code: number): string {
  return names.get(Math.abs(code)) ?? `E${Math.abs(code)}`;
}

/** What the C library's strerror says, for the codes that the toolstack shows to people. */
const texts: Partial<Record<ErrnoName, string>> = {
  EPERM: 'Operation not permitted', ENOENT: 'No such file or directory', ESRCH: 'No such process', EIO: 'Input/output error',
  E2BIG: 'Argument list too long', EAGAIN: 'Resource temporarily unavailable', ENOMEM: 'Cannot allocate memory',
  EACCES: 'Permission denied', EFAULT: 'Bad address', EBUSY: 'Device or resource busy', EEXIST: 'File exists',
  ENODEV: 'No such device', EINVAL: 'Invalid argument', ENOSPC: 'No space left on device', ERANGE: 'Numerical result out of range',
  ENOSYS: 'Function not implemented', EOPNOTSUPP: 'Operation not supported', ETIMEDOUT: 'Connection timed out',
  ECONNREFUSED: 'Connection refused', ENOTDIR: 'Not a directory', EISDIR: 'Is a directory',
}; // prettier-ignore

export function strerror(code: number): string {
  const name = names.get(Math.abs(code));
  return (name && texts[name]) ?? errnoName(code);
}

/** An error that carries a Xen errno (positive) and what was being done. */
export class XenError extends Error {
  readonly errno: number;
  readonly code: string;
  constructor(errno: number, operation: string, options?: ErrorOptions) {
    super(`${operation}: ${strerror(errno)}`, options);
    this.name = 'XenError';
    this.errno = Math.abs(errno);
    this.code = errnoName(errno);
  }
}
