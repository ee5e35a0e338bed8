import { EACCES, ESRCH } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE } from '../base/units.ts'
import { accessRemoteVm } from '../mm/access-remote-vm.ts'
import { mmput } from '../mm/exit-mmap.ts'
import { FOLL_ANON } from '../mm/gup-flags.ts'
import type { IovIter } from '../mm/iov-iter.ts'
import type { Kernel } from '../mm/kernel.ts'
import type { Mm } from '../mm/mm.ts'
import { ProcFile, refuseBuffer, type FilePosition } from './proc-file.ts'
import { mmAccess } from './ptrace-access.ts'
import type { TaskStruct } from './task.ts'

/*
 * @caller /proc/PID/cmdline, environ
 * @entry read(2)
 * @gup access_remote_vm
 * @lock taken per call
 * @budget none
 * @errno EIO, or a short count
 * @release after each page
 * @test tests/task/proc-args.test.ts
 */

/** Anonymous memory only, and only what the process itself may read. @rule R-CMD-1 */
function peek(k: Kernel, mm: Mm, address: number, into: Uint8Array): Kthread<number> {
  return accessRemoteVm(k, mm, address, into, false, FOLL_ANON)
}

function badBuffer(k: Kernel, iter: IovIter): number {
  return refuseBuffer(k, iter, 'R-CMD-5')
}

/**
 * An open /proc/PID/cmdline. Needs no permission; the address space is the one the task has at the time of
 * each read.
 * @rule R-CMD-2
 */
export class ProcCmdline extends ProcFile {
  readonly #task: TaskStruct

  constructor(task: TaskStruct) {
    super()
    this.#task = task
  }

  override *read(k: Kernel, iter: IovIter, position: FilePosition): Kthread<number> {
    const { mm } = this.#task
    if (mm === null) return 0
    mm.users++
    const result = yield* getMmCmdline(k, mm, iter, position.at)
    yield* mmput(k, mm)
    if (result > 0) position.at += result
    return result
  }
}

/** @rule R-CMD-3 */
function* getMmCmdline(k: Kernel, mm: Mm, iter: IovIter, at: number): Kthread<number> {
  const { argStart, argEnd } = mm
  let { envStart, envEnd } = mm
  if (envEnd === 0 || argStart >= argEnd) return 0
  if (envStart !== argEnd || envEnd < envStart) envStart = envEnd = argEnd
  if (at >= envEnd - argStart) return 0
  const length = Math.min(iter.count, envEnd - argStart - at)
  const last = new Uint8Array(1)
  if ((yield* peek(k, mm, argEnd - 1, last)) === 1 && last[0] !== 0)
    return yield* getMmProctitle(k, mm, iter, length, at, argStart)
  return yield* copyStrings(k, mm, iter, Math.min(length, argEnd - argStart - at), argStart + at)
}

/**
 * The process has written over the end of its arguments: one string from their start on, which may run into
 * the environment.
 * @rule R-CMD-4
 */
function* getMmProctitle(
  k: Kernel,
  mm: Mm,
  iter: IovIter,
  count: number,
  at: number,
  argStart: number,
): Kthread<number> {
  if (at >= PAGE_SIZE) return 0
  const page = new Uint8Array(PAGE_SIZE)
  const got = yield* peek(k, mm, argStart, page)
  const end = page.subarray(0, got).indexOf(0)
  const title = page.subarray(Math.min(at, got), end < 0 ? got : end + 1).subarray(0, count)
  if (title.length === 0) return 0
  const copied = yield* iter.copyTo(title)
  return copied > 0 ? copied : badBuffer(k, iter)
}

/** @rule R-CMD-5 */
function* copyStrings(k: Kernel, mm: Mm, iter: IovIter, count: number, from: number): Kthread<number> {
  const page = new Uint8Array(PAGE_SIZE)
  let done = 0
  while (done < count) {
    const got = yield* peek(k, mm, from + done, page.subarray(0, Math.min(PAGE_SIZE, count - done)))
    if (got === 0) break
    const copied = yield* iter.copyTo(page.subarray(0, got))
    if (copied === 0 && done === 0) return badBuffer(k, iter)
    done += copied
    if (copied < got) break
  }
  return done
}

/** An open /proc/PID/environ: the address space the task had when it was opened, as with mem. */
export class ProcEnviron extends ProcFile {
  readonly #mm: Mm | null

  constructor(mm: Mm | null) {
    super()
    this.#mm = mm
  }

  /**
   * A chunk that cannot be read makes the call return 0, although what came before is in the buffer and the
   * position has moved over it.
   * @rule R-CMD-6
   */
  override *read(k: Kernel, iter: IovIter, position: FilePosition): Kthread<number> {
    const mm = this.#mm
    if (mm === null || mm.users === 0 || mm.envEnd === 0) return 0
    mm.users++
    const page = new Uint8Array(PAGE_SIZE)
    const { envStart, envEnd } = mm
    const { count } = iter
    let done = 0
    while (done < count && position.at < envEnd - envStart) {
      const chunk = page.subarray(0, Math.min(PAGE_SIZE, count - done, envEnd - envStart - position.at))
      const got = yield* peek(k, mm, envStart + position.at, chunk)
      if (got === 0) {
        done = 0
        break
      }
      if ((yield* iter.copyTo(chunk.subarray(0, got))) < got) {
        done = badBuffer(k, iter)
        break
      }
      done += got
      position.at += got
    }
    yield* mmput(k, mm)
    return done
  }
}

/** Opens /proc/PID/cmdline. */
export function procCmdlineOpen(task: TaskStruct): ProcCmdline {
  return new ProcCmdline(task)
}

/**
 * Opens /proc/PID/environ.
 * @returns the open file, -EACCES, or -ESRCH for a task without address space where the release refuses that
 * @rule R-CMD-2
 */
export function* procEnvironOpen(k: Kernel, task: TaskStruct): Kthread<ProcEnviron | number> {
  const mm = mmAccess(k, task, 'read', 'R-CMD-2')
  if (mm === -EACCES) return -EACCES
  if (typeof mm !== 'number') {
    yield* mmput(k, mm)
    return new ProcEnviron(mm)
  }
  if (!k.release.remote.openNeedsMm) return new ProcEnviron(null)
  return refuse(k.current, ESRCH, 'R-CMD-2', { why: 'the task has no address space' })
}
