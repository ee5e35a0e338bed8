import { EBADF, ENOTTY } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { BufferIter } from '../mm/iov-iter.ts'
import { ProcFile, procRw, procRwAt, procTransfer } from './proc-file.ts'
import { ProcMaps } from './proc/maps.ts'
import type { ProcmapAnswer, ProcmapQuery } from './proc/procmap-query.ts'
import type { Process } from './process.ts'
import { SyscallError } from './syscall-error.ts'

/**
 * open(2) of a file of /proc by a process.
 * @throws SyscallError what the method returns, EMFILE
 */
export function openProcFile(process: Process, method: () => Kthread<ProcFile | number>): ProcHandle {
  let file: ProcFile | null = null
  const open = function* (): Kthread<number> {
    const opened = yield* method()
    if (typeof opened === 'number') return opened
    file = opened
    return 0
  }
  process.call('open', open())
  return new ProcHandle(process, process.install(file!))
}

/** An open file of /proc. Buffers are addresses in the memory of the process that opened it. */
export class ProcHandle {
  readonly process: Process
  /** the descriptor */
  readonly fd: number

  constructor(process: Process, fd: number) {
    this.process = process
    this.fd = fd
  }

  /** read(2). @returns bytes @throws SyscallError EFAULT, EIO */
  read(buffer: number, count: number): number {
    return this.process.call('read', procRw(this.process.kernel, this.#file('read'), false, buffer, count))
  }

  /** write(2). @returns bytes @throws SyscallError EFAULT, EIO, EINVAL */
  write(buffer: number, count: number): number {
    return this.process.call('write', procRw(this.process.kernel, this.#file('write'), true, buffer, count))
  }

  /** pread(2). @returns bytes @throws SyscallError EFAULT, EIO, EINVAL */
  pread(buffer: number, count: number, offset: number): number {
    const { kernel } = this.process
    return this.process.call('pread', procRwAt(kernel, this.#file('pread'), false, buffer, count, offset))
  }

  /** pwrite(2). @returns bytes @throws SyscallError EFAULT, EIO, EINVAL */
  pwrite(buffer: number, count: number, offset: number): number {
    const { kernel } = this.process
    return this.process.call('pwrite', procRwAt(kernel, this.#file('pwrite'), true, buffer, count, offset))
  }

  /** lseek(2), SEEK_SET. @throws SyscallError */
  seek(position: number): void {
    const file = this.#file('lseek')
    file.position = this.process.call('lseek', file.seek(this.process.kernel, position))
  }

  get position(): number {
    return this.#file('lseek').position
  }

  /**
   * Reads from the start to the end into a buffer outside of any process.
   * @param length bytes a read asks for
   * @throws SyscallError
   */
  all(length = 65536): Uint8Array {
    const { kernel } = this.process
    const pieces: Uint8Array[] = []
    for (let at = 0; ; at += pieces.at(-1)!.length) {
      const into = new Uint8Array(length)
      const read = procTransfer(kernel, this.#file('pread'), false, new BufferIter(into), at)
      const got = this.process.call('pread', read)
      if (got === 0) break
      pieces.push(into.subarray(0, got))
    }
    return Uint8Array.from(pieces.flatMap((piece) => [...piece]))
  }

  /** close(2). @throws SyscallError EBADF */
  close(): void {
    this.process.close(this.fd)
  }

  /**
   * ioctl(PROCMAP_QUERY), on /proc/PID/maps only.
   * @throws SyscallError ENOTTY, EINVAL, ESRCH, ENOENT, ENAMETOOLONG
   */
  procmapQuery(query: ProcmapQuery): ProcmapAnswer {
    const { kernel } = this.process
    const file = this.#file('ioctl')
    if (!(file instanceof ProcMaps)) throw new SyscallError('ioctl', ENOTTY, null)
    let answer: ProcmapAnswer | number = 0
    const ask = function* (): Kthread<number> {
      answer = yield* file.query(kernel, query)
      return typeof answer === 'number' ? answer : 0
    }
    this.process.call('ioctl', ask())
    return answer as unknown as ProcmapAnswer
  }

  #file(call: string): ProcFile {
    const file = this.process.files.get(this.fd)
    if (file instanceof ProcFile) return file
    throw new SyscallError(call, EBADF, null)
  }
}
