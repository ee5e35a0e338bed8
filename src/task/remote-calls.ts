import { ESRCH } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import type { IovecArray } from '../mm/iovec.ts'
import type { Kernel } from '../mm/kernel.ts'
import { procCmdlineOpen, procEnvironOpen } from './proc-args.ts'
import type { ProcFile } from './proc-file.ts'
import { openProcFile, type ProcHandle } from './proc-handle.ts'
import { procMemOpen } from './proc-mem.ts'
import { movePages, type MovePagesCall } from './move-pages.ts'
import type { Process } from './process.ts'
import { processVmRw } from './process-vm-access.ts'
import { WORD, ptraceAttach, ptraceCont, ptraceDetach, ptracePeekWord, ptracePokeData } from './ptrace.ts'
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

  /**
   * move_pages(2).
   * @param call the status array lies in this process's memory, four bytes for each page
   * @returns 0, or how many pages were not moved
   * @throws SyscallError EINVAL, EPERM, ESRCH, EFAULT, ENODEV, ENOMEM
   */
  movePages(call: Omit<MovePagesCall, 'count'>): number {
    const { kernel } = this.#process
    return this.#process.call('move_pages', movePages(kernel, { ...call, count: call.pages.length }))
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
    return openProcFile(this.#process, () => {
      const { kernel } = this.#process
      const task = findTask(kernel, pid)
      return task === null ? noSuchProcess(kernel) : method(task)
    })
  }
}

function* noSuchProcess(k: Kernel): Kthread<number> {
  return refuse(k.current, ESRCH, 'R-MEM-1', { why: 'there is no such process' })
}

function countOf(vector: IovecArray): number {
  return vector === 'unreadable' ? 1 : vector.length
}
