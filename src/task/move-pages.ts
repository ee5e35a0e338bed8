import { EINVAL, EPERM, ESRCH } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { mmput } from '../mm/exit-mmap.ts'
import type { Kernel } from '../mm/kernel.ts'
import type { Mm } from '../mm/mm.ts'
import { pagesMove, pagesStat, type PageList } from '../mm/move-pages.ts'
import { ptraceMayAccess } from './ptrace-access.ts'
import { currentTask, findTask } from './task.ts'

export const MPOL_MF_MOVE = 2
export const MPOL_MF_MOVE_ALL = 4

/** Arguments of move_pages(2). */
export interface MovePagesCall extends PageList {
  /** whose pages; 0: the caller's own */
  readonly pid: number
  /** where each is to be, as far as that can be read; null: only where it is */
  readonly nodes: readonly number[] | null
  /** MPOL_MF_MOVE, MPOL_MF_MOVE_ALL */
  readonly flags: number
}

/**
 * move_pages(2): where pages of a process are, or moves them to other nodes.
 * @returns 0; how many pages were not moved; -EINVAL, -EPERM, -ESRCH, -EFAULT, -ENODEV, -ENOMEM
 * @rule R-FLT-146
 */
export function* movePages(k: Kernel, call: MovePagesCall): Kthread<number> {
  const { current } = k
  const { pid, nodes, flags } = call
  if ((flags & ~(MPOL_MF_MOVE | MPOL_MF_MOVE_ALL)) !== 0)
    return refuse(current, EINVAL, 'R-FLT-146', { why: 'flags are MPOL_MF_MOVE and MPOL_MF_MOVE_ALL' })
  const all = (flags & MPOL_MF_MOVE_ALL) !== 0
  if (all && !current.capable('CAP_SYS_NICE'))
    return refuse(current, EPERM, 'R-FLT-146', { why: 'MPOL_MF_MOVE_ALL needs CAP_SYS_NICE' })
  const mm = memoryOf(k, pid)
  if (typeof mm === 'number') return mm
  const result = yield* nodes === null ? pagesStat(k, mm, call) : pagesMove(k, mm, call, nodes, all)
  yield* mmput(k, mm)
  return result
}

/** `find_mm_struct`: with a user reference. */
function memoryOf(k: Kernel, pid: number): Mm | number {
  const { current } = k
  const task = pid === 0 ? currentTask(k) : findTask(k, pid)
  if (task === null) return refuse(current, ESRCH, 'R-FLT-146', { why: 'there is no such process' })
  const denied = ptraceMayAccess(k, task, 'read')
  if (denied !== null) return refuse(current, EPERM, 'R-FLT-146', { why: denied })
  const { mm } = task
  if (mm === null) return refuse(current, EINVAL, 'R-FLT-146', { why: 'the task has no address space' })
  mm.users++
  return mm
}
