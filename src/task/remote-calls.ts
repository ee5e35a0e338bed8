import { EBADF, ESRCH } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import type { IovecArray } from '../mm/iovec.ts'
import { procCmdlineOpen, procEnvironOpen } from './proc-args.ts'
import { ProcFile, procRw, procRwAt } from './proc-file.ts'
import { procMemOpen } from './proc-mem.ts'
import type { Process } from './process.ts'
import { processVmRw } from './process-vm-access.ts'
import { WORD, ptraceAttach, ptraceCont, ptraceDetach, ptracePeekWord, ptracePokeData } from './ptrace.ts'
import { SyscallError } from './syscall-error.ts'
import { findTask, type TaskStruct } from './task.ts'

/**
 * The calls by which one process reaches into another: process_vm_readv(2), ptrace(2), /proc/PID/mem.
 * Processes are named by their pid, as the calls have it.
 *
 * ```ts
 * const [app, tool] = [machine.spawn('app'), machine.spawn('tool')]
 * tool.remote.vmRead(app.pid, [{ base: mine, length: 8 }], [{ base: theirs, length: 8 }])
 * ```
 */
export class RemoteCalls {
  readonly #process: Process

  constructor(process: Process) {
    this.#process = process
  }

  /**
   * process_vm_readv(2).
   * @param local where the bytes go, in this process
   * @param remote where they come from, in the other one
   * @returns bytes copied; less than asked when something in the middle cannot be accessed
   * @throws SyscallError EFAULT, EINVAL, ESRCH, EPERM
   */
  vmRead(pid: number, local: IovecArray, remote: IovecArray, flags = 0): number {
    return this.#vm('process_vm_readv', pid, local, remote, flags)
  }

  /** process_vm_writev(2): as `vmRead`, the other way. */
  vmWrite(pid: number, local: IovecArray, remote: IovecArray, flags = 0): number {
    return this.#vm('process_vm_writev', pid, local, remote, flags)
  }

  #vm(
    name: 'process_vm_readv' | 'process_vm_writev',
    pid: number,
    local: IovecArray,
    remote: IovecArray,
    flags: number,
  ): number {
    const [localCount, remoteCount] = [countOf(local), countOf(remote)]
    const call = { pid, local, localCount, remote, remoteCount, flags }
    return this.#process.call(name, processVmRw(this.#process.kernel, call, name === 'process_vm_writev'))
  }

  /** PTRACE_ATTACH, stopped. @throws SyscallError ESRCH, EPERM */
  attach(pid: number): void {
    this.#ptrace(() => ptraceAttach(this.#process.kernel, pid))
  }

  /** PTRACE_CONT. @throws SyscallError ESRCH */
  cont(pid: number): void {
    this.#ptrace(() => ptraceCont(this.#process.kernel, pid))
  }

  /** PTRACE_DETACH. @throws SyscallError ESRCH */
  detach(pid: number): void {
    this.#ptrace(() => ptraceDetach(this.#process.kernel, pid))
  }

  #ptrace(request: () => number): void {
    // oxlint-disable-next-line require-yield
    this.#process.call(
      'ptrace',
      (function* (): Kthread<number> {
        return request()
      })(),
    )
  }

  /** PTRACE_PEEKDATA. @returns the eight bytes @throws SyscallError ESRCH, EIO */
  peek(pid: number, address: number): Uint8Array {
    const word = new Uint8Array(WORD)
    this.#process.call('ptrace', ptracePeekWord(this.#process.kernel, pid, address, word))
    return word
  }

  /** PTRACE_POKEDATA. @param word eight bytes @throws SyscallError ESRCH, EIO */
  poke(pid: number, address: number, word: Uint8Array): void {
    if (word.length !== WORD) throw new RangeError(`a word has ${WORD} bytes, not ${word.length}`)
    this.#process.call('ptrace', ptracePokeData(this.#process.kernel, pid, address, word))
  }

  /** Opens /proc/PID/mem for reading and writing. @throws SyscallError ESRCH, EACCES, EMFILE */
  openMem(pid: number): ProcHandle {
    return this.#open((task) => procMemOpen(this.#process.kernel, task), pid)
  }

  /** Opens /proc/PID/cmdline. @throws SyscallError ESRCH, EMFILE */
  openCmdline(pid: number): ProcHandle {
    // oxlint-disable-next-line require-yield
    return this.#open(function* (task) {
      return procCmdlineOpen(task)
    }, pid)
  }

  /** Opens /proc/PID/environ. @throws SyscallError ESRCH, EACCES, EMFILE */
  openEnviron(pid: number): ProcHandle {
    return this.#open((task) => procEnvironOpen(this.#process.kernel, task), pid)
  }

  #open(method: (task: TaskStruct) => Kthread<ProcFile | number>, pid: number): ProcHandle {
    const { kernel } = this.#process
    let file: ProcFile | null = null
    const open = function* (): Kthread<number> {
      const task = findTask(kernel, pid)
      if (task === null) return refuse(kernel.current, ESRCH, 'R-MEM-1', { why: 'there is no such process' })
      const opened = yield* method(task)
      if (typeof opened === 'number') return opened
      file = opened
      return 0
    }
    this.#process.call('open', open())
    return new ProcHandle(this.#process, this.#process.install(file!))
  }
}

function countOf(vector: IovecArray): number {
  return vector === 'unreadable' ? 1 : vector.length
}

/** An open file of /proc/PID. Buffers are addresses in the memory of the process that opened it. */
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

  /** lseek(2), SEEK_SET. */
  seek(position: number): void {
    this.#file('lseek').position = position
  }

  get position(): number {
    return this.#file('lseek').position
  }

  /** close(2). @throws SyscallError EBADF */
  close(): void {
    this.process.close(this.fd)
  }

  #file(call: string): ProcFile {
    const file = this.process.files.get(this.fd)
    if (file instanceof ProcFile) return file
    throw new SyscallError(call, EBADF, null)
  }
}
