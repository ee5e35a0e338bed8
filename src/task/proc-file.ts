import { EFAULT, EINVAL, EOVERFLOW } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { UserIter, type IovIter } from '../mm/iov-iter.ts'
import { MAX_RW_COUNT, accessOk } from '../mm/iovec.ts'
import type { Kernel } from '../mm/kernel.ts'
import { asWord, unsigned } from '../mm/user-range.ts'
import type { FileDescription } from './fd-table.ts'

/** Where a transfer goes on in the file; the method moves it. */
export interface FilePosition {
  at: number
}

/** An open file of /proc/PID whose content is made while it is read. */
export abstract class ProcFile implements FileDescription {
  /** f_pos in bytes, unsigned */
  position = 0
  refs = 1

  get(): this {
    this.refs++
    return this
  }

  put(): void {
    this.refs--
  }

  /** Whether offsets from 2^63 up are positions, too. */
  readonly unsignedOffsets: boolean = false

  /** The file's read method: at most `iter.count` bytes. @returns bytes or -errno */
  abstract read(k: Kernel, iter: IovIter, position: FilePosition): Kthread<number>

  /** lseek(2). @returns the position or -errno */
  *seek(_k: Kernel, position: number): Kthread<number> {
    return position
  }

  /** The file's write method. @returns bytes or -errno */
  *write(k: Kernel, _iter: IovIter, _position: FilePosition): Kthread<number> {
    return refuse(k.current, EINVAL, 'R-MEM-3', { why: 'this file cannot be written' })
  }
}

/**
 * read(2) and write(2) of such a file. The position moves by what the method says, whatever it returns,
 * but not for an error.
 * @rule R-MEM-6
 */
export function* procRw(
  k: Kernel,
  file: ProcFile,
  write: boolean,
  user: number,
  count: number,
): Kthread<number> {
  const iter = userIter(k, file, user, count, file.position)
  return typeof iter === 'number' ? iter : yield* procTransfer(k, file, write, iter, null)
}

/**
 * pread(2) and pwrite(2).
 * @param offset signed
 * @rule R-MEM-7
 */
export function* procRwAt(
  k: Kernel,
  file: ProcFile,
  write: boolean,
  user: number,
  count: number,
  offset: number,
): Kthread<number> {
  if (asWord(offset) < 0) return negative(k)
  const iter = userIter(k, file, user, count, offset)
  return typeof iter === 'number' ? iter : yield* procTransfer(k, file, write, iter, offset)
}

/** @param at where in the file it goes on */
function userIter(k: Kernel, file: ProcFile, user: number, count: number, at: number): UserIter | number {
  if (!accessOk(asWord(user), unsigned(asWord(count))))
    return refuse(k.current, EFAULT, 'R-MEM-5', { address: user, why: 'the buffer is not user memory' })
  if (wraps(file, at, count)) return wrapsAround(k)
  return new UserIter(k, k.current.mm!, [{ base: user, length: Math.min(count, MAX_RW_COUNT) }])
}

/**
 * A read or write of such a file with memory of any kind.
 * @param offset bytes; null: where the file stands, which moves on
 * @returns bytes or -errno
 * @rule R-MEM-6
 * @rule R-MEM-7
 */
export function* procTransfer(
  k: Kernel,
  file: ProcFile,
  write: boolean,
  iter: IovIter,
  offset: number | null,
): Kthread<number> {
  if (offset !== null && asWord(offset) < 0) return negative(k)
  const position = { at: offset ?? file.position }
  if (wraps(file, position.at, iter.count)) return wrapsAround(k)
  const result = yield* write ? file.write(k, iter, position) : file.read(k, iter, position)
  if (offset === null && result >= 0) file.position = position.at
  return result
}

function negative(k: Kernel): number {
  return refuse(k.current, EINVAL, 'R-MEM-7', { why: 'the offset is negative' })
}

function wraps(file: ProcFile, at: number, count: number): boolean {
  return file.unsignedOffsets && count >= 2 ** 64 - at
}

function wrapsAround(k: Kernel): number {
  return refuse(k.current, EOVERFLOW, 'R-MEM-7', { why: 'the range wraps around the address space' })
}

/** What the reader's or writer's memory cannot take or give. */
export function refuseBuffer(k: Kernel, iter: IovIter, rule: string): number {
  const place = iter instanceof UserIter && iter.count > 0 ? { address: iter.address } : {}
  return refuse(k.current, EFAULT, rule, { ...place, why: 'the buffer cannot be accessed there' })
}
