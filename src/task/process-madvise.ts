import { EBADF, EINVAL, EPERM, ESRCH } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { mmput } from '../mm/exit-mmap.ts'
import { importIovec, type Iovec, type IovecArray } from '../mm/iovec.ts'
import type { Kernel } from '../mm/kernel.ts'
import { madvise } from '../mm/madvise.ts'
import { MADV_COLD, MADV_COLLAPSE, MADV_PAGEOUT, MADV_WILLNEED } from '../mm/mman.ts'
import type { Mm } from '../mm/mm.ts'
import { mmAccess } from './ptrace-access.ts'
import { findTask, type TaskStruct } from './task.ts'

/** Arguments of process_madvise(2). */
export interface ProcessMadviseCall {
  /** whom the pidfd names; null: it is no pidfd */
  readonly target: TaskStruct | null
  readonly ranges: IovecArray
  /** an unsigned long */
  readonly count: number
  /** MADV_* */
  readonly advice: number
  /** must be 0 */
  readonly flags: number
}

/** What one process may advise about another's memory: it changes nothing that the other could see. */
function isHarmless(advice: number): boolean {
  return [MADV_COLD, MADV_PAGEOUT, MADV_WILLNEED, MADV_COLLAPSE].includes(advice)
}

/**
 * process_madvise(2): madvise(2) on ranges of another process, one after the other.
 * @returns bytes of the ranges done, or the error of the first one; -EINVAL, -EFAULT, -EBADF, -ESRCH,
 *   -EACCES, -EPERM with nothing done
 * @rule R-AS-108
 */
export function* processMadvise(k: Kernel, call: ProcessMadviseCall): Kthread<number> {
  const { current } = k
  const { target, advice } = call
  if (call.flags !== 0) return refuse(current, EINVAL, 'R-AS-108', { why: 'flags must be 0' })
  const vector = importIovec(k, call.ranges, call.count, 'R-AS-108')
  if (typeof vector === 'number') return vector
  if (target === null) return refuse(current, EBADF, 'R-AS-108', { why: 'the descriptor is no pidfd' })
  if (findTask(k, target.pid) !== target)
    return refuse(current, ESRCH, 'R-AS-108', { why: 'the process has ended' })
  const { processMadviseSelf } = k.release.mm
  if (processMadviseSelf !== 'any-advice' && !isHarmless(advice)) return badAdvice(k)
  const mm = mmAccess(k, target, 'read', 'R-AS-108')
  if (typeof mm === 'number') return mm
  const own = mm === current.mm
  const result = own && processMadviseSelf !== 'needs-nice' ? 0 : checkOther(k, own, advice)
  const done = result < 0 ? result : yield* adviseRanges(k, mm, vector.entries, advice)
  yield* mmput(k, mm)
  return done
}

function checkOther(k: Kernel, own: boolean, advice: number): number {
  if (!own && !isHarmless(advice)) return badAdvice(k)
  if (k.current.capable('CAP_SYS_NICE')) return 0
  return refuse(k.current, EPERM, 'R-AS-108', { why: 'CAP_SYS_NICE is missing' })
}

function badAdvice(k: Kernel): number {
  return refuse(k.current, EINVAL, 'R-AS-108', { why: 'this advice is not for another process' })
}

function* adviseRanges(k: Kernel, mm: Mm, ranges: readonly Iovec[], advice: number): Kthread<number> {
  let done = 0
  // an empty range is looked at only where something follows it
  let left = ranges.reduce((sum, { length }) => sum + length, 0)
  for (const { base, length } of ranges) {
    if (left === 0) break
    left -= length
    const error = yield* madvise(k, mm, base, length, advice)
    if (error < 0) return done > 0 ? done : error
    done += length
  }
  return done
}
