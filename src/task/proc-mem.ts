import { EACCES, EIO, ESRCH } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE } from '../base/units.ts'
import { accessRemoteVm } from '../mm/access-remote-vm.ts'
import { mmput } from '../mm/exit-mmap.ts'
import { FOLL_FORCE } from '../mm/gup-flags.ts'
import type { IovIter } from '../mm/iov-iter.ts'
import type { Kernel } from '../mm/kernel.ts'
import type { Mm } from '../mm/mm.ts'
import { ProcFile, refuseBuffer, type FilePosition } from './proc-file.ts'
import { mmAccess } from './ptrace-access.ts'
import type { TaskStruct } from './task.ts'

/*
 * @caller /proc/PID/mem
 * @entry read(2), write(2)
 * @gup access_remote_vm, FOLL_FORCE where the setting permits
 * @lock taken per call
 * @budget none
 * @errno EIO, or a short count
 * @release after each page
 * @test tests/task/proc-mem.test.ts
 */

/**
 * An open /proc/PID/mem: the address space the task had when it was opened. It keeps that alive as an
 * object, not its pages: after the last user is gone (exit, exec) there is nothing to read.
 * @rule R-MEM-2
 */
export class ProcMem extends ProcFile {
  override readonly unsignedOffsets = true
  readonly #task: TaskStruct
  readonly #mm: Mm | null

  /** @param mm null: opened on a task without address space, where the release permits that */
  constructor(task: TaskStruct, mm: Mm | null) {
    super()
    this.#task = task
    this.#mm = mm
  }

  override read(k: Kernel, iter: IovIter, position: FilePosition): Kthread<number> {
    return this.#transfer(k, false, iter, position)
  }

  override write(k: Kernel, iter: IovIter, position: FilePosition): Kthread<number> {
    return this.#transfer(k, true, iter, position)
  }

  /**
   * Chunks of a page's length from the position on, which need not be aligned.
   * @rule R-MEM-3
   */
  *#transfer(k: Kernel, write: boolean, iter: IovIter, position: FilePosition): Kthread<number> {
    const mm = this.#mm
    if (mm === null || mm.users === 0) return 0
    mm.users++
    const result = yield* this.#chunks(k, mm, write, iter, position.at)
    if (result > 0) position.at += result
    yield* mmput(k, mm)
    return result
  }

  /** @rule R-MEM-4 */
  *#chunks(k: Kernel, mm: Mm, write: boolean, iter: IovIter, address: number): Kthread<number> {
    const { count } = iter
    const flags = this.#mayForce(k, mm) ? FOLL_FORCE : 0
    const page = new Uint8Array(Math.min(PAGE_SIZE, count))
    let done = 0
    while (done < count) {
      const chunk = page.subarray(0, Math.min(PAGE_SIZE, count - done))
      if (write && (yield* iter.copyFrom(chunk)) < chunk.length) return badBuffer(k, iter)
      k.current.refusal = null
      const moved = yield* accessRemoteVm(k, mm, address + done, chunk, write, flags)
      // what did not arrive is taken again for the next attempt
      if (write) iter.revert(chunk.length - moved)
      if (moved === 0) return done > 0 ? done : noMemory(k, address)
      if (!write && (yield* iter.copyTo(chunk.subarray(0, moved))) < moved) return badBuffer(k, iter)
      done += moved
    }
    return done
  }

  /**
   * Whether a mapping's protection is overridden, for reads and writes alike.
   * @rule R-MEM-8
   */
  #mayForce(k: Kernel, mm: Mm): boolean {
    if (!k.release.remote.memForceOverride || k.settings.procMemForce === 'always') return true
    if (k.settings.procMemForce === 'never') return false
    return this.#task.trace?.tracer === k.current && this.#task.mm === mm
  }
}

/**
 * What the caller's buffer cannot take overrides what earlier chunks have moved.
 * @rule R-MEM-5
 */
function badBuffer(k: Kernel, iter: IovIter): number {
  return refuseBuffer(k, iter, 'R-MEM-5')
}

/** @rule R-MEM-9 */
function noMemory(k: Kernel, address: number): number {
  const why = 'the memory of the process cannot be accessed there'
  return refuse(k.current, EIO, 'R-MEM-9', { address, why }, k.current.refusal)
}

/**
 * Opens /proc/PID/mem. Later changes of who may do so do not take it away.
 * @returns the open file, -EACCES, or -ESRCH where a task without address space cannot be opened
 * @rule R-MEM-1
 */
export function* procMemOpen(k: Kernel, task: TaskStruct): Kthread<ProcMem | number> {
  const mm = mmAccess(k, task, 'attach', 'R-MEM-1')
  if (mm === -EACCES) return -EACCES
  if (typeof mm !== 'number') {
    // only the object is kept
    yield* mmput(k, mm)
    return new ProcMem(task, mm)
  }
  if (!k.release.remote.openNeedsMm) return new ProcMem(task, null)
  return refuse(k.current, ESRCH, 'R-MEM-1', { why: 'the task has no address space' })
}
