/**
 * Linux error numbers (x86-64 values) and their names.
 *
 * Inside the engine a result is a count >= 0 or a negative errno, as in the kernel.
 * Source: errno(3), asm-generic values.
 */
const table = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  E2BIG: 7,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  EMFILE: 24,
  ENOTTY: 25,
  ETXTBSY: 26,
  EFBIG: 27,
  ENOSPC: 28,
  EMLINK: 31,
  EPIPE: 32,
  ERANGE: 34,
  EDEADLK: 35,
  ENAMETOOLONG: 36,
  ENOSYS: 38,
  EOVERFLOW: 75,
  EBADFD: 77,
  ENOTSOCK: 88,
  EMSGSIZE: 90,
  ENOPROTOOPT: 92,
  EPROTONOSUPPORT: 93,
  ESOCKTNOSUPPORT: 94,
  EOPNOTSUPP: 95,
  ECONNRESET: 104,
  ENOBUFS: 105,
  EREMOTEIO: 121,
  ECANCELED: 125,
  EHWPOISON: 133,
  ERESTARTSYS: 512,
  ENOTSUPP: 524,
} as const

export type ErrnoName = keyof typeof table

export const {
  EPERM,
  ENOENT,
  ESRCH,
  EINTR,
  EIO,
  ENXIO,
  E2BIG,
  EBADF,
  EAGAIN,
  ENOMEM,
  EACCES,
  EFAULT,
  EBUSY,
  EEXIST,
  ENODEV,
  EINVAL,
  EMFILE,
  ENOTTY,
  ETXTBSY,
  EFBIG,
  ENOSPC,
  EMLINK,
  EPIPE,
  ERANGE,
  EDEADLK,
  ENAMETOOLONG,
  ENOSYS,
  EOVERFLOW,
  EBADFD,
  ENOTSOCK,
  EMSGSIZE,
  ENOPROTOOPT,
  EPROTONOSUPPORT,
  ESOCKTNOSUPPORT,
  EOPNOTSUPP,
  ECONNRESET,
  ENOBUFS,
  EREMOTEIO,
  ECANCELED,
  EHWPOISON,
  ERESTARTSYS,
  ENOTSUPP,
} = table

const names = new Map<number, ErrnoName>(
  Object.entries(table).map(([name, value]) => [value, name as ErrnoName]),
)

/** The symbolic name of an errno of this table, given positive or negative; null: the engine has no use for it. */
export function knownErrnoName(errno: number): ErrnoName | null {
  return names.get(Math.abs(errno)) ?? null
}

/** The symbolic name of an errno, given positive or negative: `errnoName(-14)` is `'EFAULT'`. */
export function errnoName(errno: number): ErrnoName {
  const name = knownErrnoName(errno)
  if (name === null) throw new RangeError(`${errno} is not an errno the engine produces`)
  return name
}
