import { EBADF, EFAULT } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { OpenFile, type FileAccess } from '../mm/file.ts'
import { openAgain } from '../mm/filemap.ts'
import { UserIter } from '../mm/iov-iter.ts'
import { MAX_RW_COUNT, accessOk, type IovecArray } from '../mm/iovec.ts'
import { memfdAddSeals, memfdGetSeals } from '../mm/memfd-seals.ts'
import { sizeInBytes, type Process, type Size } from './process.ts'
import { vfsRead, vfsWrite } from './read-write.ts'
import { SPLICE_F_NONBLOCK, vmsplice } from './vmsplice.ts'

/**
 * The calls that move bytes between user memory, files and pipes.
 *
 * ```ts
 * const { read, write } = app.pipe()
 * app.io.vmsplice(write, [{ base: buffer, length: 4096 }]) // the pipe holds the page from now on
 * app.munmap(buffer, 4096)
 * app.io.read(read, elsewhere, 4096) // the old bytes
 *
 * const fd = app.openFile('data', '1M')
 * app.io.read(app.io.openDirect(fd), elsewhere, 8192, 0) // pinned while the disk writes into it
 * ```
 */
export class IoCalls {
  readonly #process: Process

  constructor(process: Process) {
    this.#process = process
  }

  /**
   * vmsplice(2).
   * @param flags SPLICE_F_*; default NONBLOCK, since nobody else runs who could end the wait
   * @returns bytes
   * @throws SyscallError EAGAIN, EBADF, EFAULT, EINVAL, EPIPE
   */
  vmsplice(fd: number, iovecs: IovecArray, flags = SPLICE_F_NONBLOCK): number {
    const count = iovecs === 'unreadable' ? 1 : iovecs.length
    const { kernel, files } = this.#process
    return this.#process.call('vmsplice', vmsplice(kernel, files.get(fd), iovecs, count, flags))
  }

  /**
   * open(2) of a file that is open already, once more and with O_DIRECT: reads and writes then go to the disk, past
   * the page cache, and pin the memory while they last.
   * @returns the new descriptor
   * @throws SyscallError EBADF, EMFILE
   */
  openDirect(fd: number, access: Omit<FileAccess, 'direct'> = { readable: true, writable: true }): number {
    const { kernel, files } = this.#process
    const file = files.get(fd)
    if (!(file instanceof OpenFile)) return this.#process.call('open', this.#badDescriptor())
    return this.#process.install(openAgain(kernel, file.mapping, file.path, { ...access, direct: true }))
  }

  /**
   * read(2) into user memory, or pread(2) with an offset.
   * @param offset bytes into the file; null: where the file stands
   * @returns bytes, 0 at the end of the file
   * @throws SyscallError EAGAIN, EBADF, EFAULT, EINVAL
   */
  read(fd: number, address: number, length: Size, offset: number | null = null): number {
    return this.#process.call('read', this.#transfer(fd, address, sizeInBytes(length), offset, vfsRead))
  }

  /** write(2) from user memory, or pwrite(2): as `read`, the other way. @throws SyscallError also EFBIG, EPERM, EPIPE */
  write(fd: number, address: number, length: Size, offset: number | null = null): number {
    return this.#process.call('write', this.#transfer(fd, address, sizeInBytes(length), offset, vfsWrite))
  }

  /**
   * fcntl(F_ADD_SEALS) of a memfd.
   * @param seals F_SEAL_*
   * @throws SyscallError EBUSY (F_SEAL_WRITE while it is mapped writably or a page is held), EINVAL, EPERM
   */
  addSeals(fd: number, seals: number): void {
    const { kernel, files } = this.#process
    const file = files.get(fd)
    const body = file instanceof OpenFile ? memfdAddSeals(kernel, file, seals) : this.#badDescriptor()
    this.#process.call('fcntl', body)
  }

  /** fcntl(F_GET_SEALS). @throws SyscallError EINVAL */
  seals(fd: number): number {
    const { kernel, files } = this.#process
    const file = files.get(fd)
    return this.#process.call(
      'fcntl',
      file instanceof OpenFile ? value(memfdGetSeals(kernel, file)) : this.#badDescriptor(),
    )
  }

  *#transfer(
    fd: number,
    base: number,
    length: number,
    offset: number | null,
    how: typeof vfsRead,
  ): Kthread<number> {
    const { kernel, mm, files, comm } = this.#process
    const file = files.get(fd)
    if (file === null) return yield* this.#badDescriptor()
    if (mm === null) throw new Error(`${comm} has exited`)
    // @rule R-DIO-1
    if (!accessOk(base, length))
      return refuse(this.#process, EFAULT, 'R-DIO-1', { address: base, why: 'the range is not user memory' })
    const iter = new UserIter(kernel, mm, [{ base, length: Math.min(length, MAX_RW_COUNT) }])
    return yield* how(kernel, file, offset, iter)
  }

  // eslint-disable-next-line require-yield
  *#badDescriptor(): Kthread<number> {
    return refuse(this.#process, EBADF, 'R-DIO-1', { why: 'the descriptor is not open, or not of a file' })
  }
}

// eslint-disable-next-line require-yield
function* value(n: number): Kthread<number> {
  return n
}
