import { EFAULT, EINVAL, EOVERFLOW } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { UserIter } from '../mm/iov-iter.ts'
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

  /** The file's read method: into the caller's memory at `user`. @returns bytes or -errno */
  abstract read(k: Kernel, user: number, count: number, position: FilePosition): Kthread<number>

  /** The file's write method. @returns bytes or -errno */
  *write(k: Kernel, _user: number, _count: number, _position: FilePosition): Kthread<number> {
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
  const position = { at: file.position }
  const result = yield* transfer(k, file, write, user, count, position)
  if (result >= 0) file.position = position.at
  return result
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
  if (asWord(offset) < 0) return refuse(k.current, EINVAL, 'R-MEM-7', { why: 'the offset is negative' })
  return yield* transfer(k, file, write, user, count, { at: offset })
}

function* transfer(
  k: Kernel,
  file: ProcFile,
  write: boolean,
  user: number,
  count: number,
  position: FilePosition,
): Kthread<number> {
  if (!accessOk(asWord(user), unsigned(asWord(count))))
    return refuse(k.current, EFAULT, 'R-MEM-5', { address: user, why: 'the buffer is not user memory' })
  if (file.unsignedOffsets && position.at + count >= 2 ** 64)
    return refuse(k.current, EOVERFLOW, 'R-MEM-7', { why: 'the range wraps around the address space' })
  const bytes = Math.min(count, MAX_RW_COUNT)
  return yield* write ? file.write(k, user, bytes, position) : file.read(k, user, bytes, position)
}

/**
 * Copies a chunk out to the reader.
 * @returns bytes copied; less than the chunk where the buffer cannot be written
 */
export function copyOut(k: Kernel, user: number, chunk: Uint8Array): Kthread<number> {
  return new UserIter(k, k.current.mm!, [{ base: user, length: chunk.length }]).copyTo(chunk)
}

/** Copies a chunk in from the writer. @returns bytes copied */
export function copyIn(k: Kernel, user: number, chunk: Uint8Array): Kthread<number> {
  return new UserIter(k, k.current.mm!, [{ base: user, length: chunk.length }]).copyFrom(chunk)
}
