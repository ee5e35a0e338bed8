import { EFAULT, EIO, EPERM, ESRCH } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { accessRemoteVm } from '../mm/access-remote-vm.ts'
import { mmput } from '../mm/exit-mmap.ts'
import { FOLL_FORCE } from '../mm/gup-flags.ts'
import { UserIter } from '../mm/iov-iter.ts'
import { accessOk } from '../mm/iovec.ts'
import type { Kernel } from '../mm/kernel.ts'
import { ptraceMayAccess } from './ptrace-access.ts'
import { currentTask, findTask, type TaskStruct } from './task.ts'

/*
 * @caller ptrace PEEK and POKE
 * @entry ptrace(2)
 * @gup access_remote_vm FOLL_FORCE
 * @lock taken per call
 * @budget none
 * @errno EIO
 * @release after each page
 * @test tests/task/ptrace.test.ts
 */

/** Bytes of a machine word (64-bit tracers). */
export const WORD = 8

/**
 * PTRACE_ATTACH and the wait for the stop it causes: from here on the tracee is stopped, and the caller its
 * tracer.
 * @returns 0, -ESRCH, -EPERM (traced already, the caller itself, or access denied)
 */
export function ptraceAttach(k: Kernel, pid: number): number {
  const caller = currentTask(k)
  const task = findTask(k, pid)
  if (task === null || task.mm === null)
    return refuse(caller, ESRCH, 'R-PTR-1', { why: 'there is no such process' })
  const denied =
    task === caller
      ? 'a process cannot trace itself'
      : task.trace === null
        ? ptraceMayAccess(k, task, 'attach')
        : 'the process is traced already'
  if (denied !== null) return refuse(caller, EPERM, 'R-PTR-2', { why: denied })
  task.trace = { tracer: caller, capable: caller.capable('CAP_SYS_PTRACE') }
  task.stopped = true
  return 0
}

/** PTRACE_CONT: the tracee runs. @returns 0 or -ESRCH */
export function ptraceCont(k: Kernel, pid: number): number {
  const task = checkAttach(k, pid)
  if (typeof task === 'number') return task
  task.stopped = false
  return 0
}

/** PTRACE_DETACH: nobody traces it any more, and it runs. @returns 0 or -ESRCH */
export function ptraceDetach(k: Kernel, pid: number): number {
  const task = checkAttach(k, pid)
  if (typeof task === 'number') return task
  task.trace = null
  task.stopped = false
  return 0
}

/**
 * PTRACE_PEEKTEXT and PTRACE_PEEKDATA, as the raw system call has it: the word is stored at `data` of the
 * tracer.
 * @returns 0; -ESRCH, -EIO (not a whole word could be read), -EFAULT (`data` cannot be written)
 * @rule R-PTR-3
 */
export function* ptracePeekData(k: Kernel, pid: number, address: number, data: number): Kthread<number> {
  const word = new Uint8Array(WORD)
  const error = yield* ptracePeekWord(k, pid, address, word)
  if (error < 0) return error
  // @rule R-PTR-4
  const into = new UserIter(k, k.current.mm!, [{ base: data, length: WORD }])
  const stored = accessOk(data, WORD) ? yield* into.copyTo(word) : 0
  if (stored === WORD) return 0
  return refuse(k.current, EFAULT, 'R-PTR-4', { address: data, why: 'the word cannot be stored there' })
}

/** The part of a PEEK that looks at the tracee. @returns 0, -ESRCH or -EIO */
export function ptracePeekWord(k: Kernel, pid: number, address: number, word: Uint8Array): Kthread<number> {
  return accessWord(k, pid, address, word, false)
}

/**
 * PTRACE_POKETEXT and PTRACE_POKEDATA. A word that lies on two pages is not written as one: when the second
 * page fails the bytes on the first one stay written (R-PTR-5).
 * @returns 0, -ESRCH, -EIO
 * @rule R-PTR-5
 */
export function ptracePokeData(k: Kernel, pid: number, address: number, word: Uint8Array): Kthread<number> {
  return accessWord(k, pid, address, word, true)
}

function* accessWord(
  k: Kernel,
  pid: number,
  address: number,
  word: Uint8Array,
  write: boolean,
): Kthread<number> {
  const task = checkAttach(k, pid)
  if (typeof task === 'number') return task
  k.current.refusal = null
  const moved = yield* ptraceAccessVm(k, task, address, word, write)
  if (moved === WORD) return 0
  const cause = k.current.refusal
  const why = write ? 'not the whole word can be written there' : 'not the whole word can be read there'
  return refuse(k.current, EIO, 'R-PTR-3', { address: address + moved, why }, cause)
}

/**
 * `ptrace_check_attach`. @returns the tracee, or -ESRCH
 * @rule R-PTR-1
 */
export function checkAttach(k: Kernel, pid: number): TaskStruct | number {
  const task = findTask(k, pid)
  const why =
    task === null
      ? 'there is no such process'
      : task.trace?.tracer !== k.current
        ? 'the process is not traced by the caller'
        : task.stopped
          ? null
          : 'the process is not stopped'
  return task === null || why !== null ? refuse(k.current, ESRCH, 'R-PTR-1', { why: why ?? '' }) : task
}

/**
 * `ptrace_access_vm`: as the tracer may, that is with force.
 * @returns bytes moved; 0 when the tracer lost the right to look
 * @rule R-PTR-2
 */
export function* ptraceAccessVm(
  k: Kernel,
  task: TaskStruct,
  address: number,
  buffer: Uint8Array,
  write: boolean,
): Kthread<number> {
  const { mm, trace } = task
  if (mm === null || trace?.tracer !== k.current) return 0
  if (!mm.dumpable && !trace.capable) {
    refuse(k.current, EPERM, 'R-PTR-2', { address, why: 'the process is not dumpable' })
    return 0
  }
  mm.users++
  // @rule R-PTR-6
  const moved = yield* accessRemoteVm(k, mm, address, buffer, write, FOLL_FORCE)
  yield* mmput(k, mm)
  return moved
}
