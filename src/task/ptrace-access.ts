import { EACCES, ESRCH } from '../base/errno.ts'
import { refuse } from '../base/refusal.ts'
import type { Kernel } from '../mm/kernel.ts'
import type { Mm } from '../mm/mm.ts'
import { currentTask, type TaskStruct } from './task.ts'

/**
 * `ptrace_may_access`, the conditions of ptrace(2), "Ptrace access mode checking": same user and group or
 * CAP_SYS_PTRACE, a dumpable address space, and no capability that the caller lacks. Security modules
 * (Yama, SELinux, …) are not modelled: none is loaded. Real and filesystem ids are the same here, and so are
 * the READ and ATTACH modes without such modules.
 * @returns null when permitted, else why not
 */
export function ptraceMayAccess(k: Kernel, task: TaskStruct): string | null {
  const caller = currentTask(k)
  if (task === caller || caller.capable('CAP_SYS_PTRACE')) return null
  if (caller.uid !== task.uid || caller.gid !== task.gid) return 'the process belongs to another user'
  if (task.mm !== null && !task.mm.dumpable) return 'the process is not dumpable'
  for (const capability of task.capabilities) {
    if (!caller.capabilities.has(capability)) return 'the process has capabilities that the caller lacks'
  }
  return null
}

/**
 * `mm_access`: the address space of a task, with a user reference that `mmput` gives back.
 * @param rule of the caller, for the reason
 * @returns -ESRCH without an address space (kernel threads, zombies), -EACCES when denied
 */
export function mmAccess(k: Kernel, task: TaskStruct, rule: string): Mm | number {
  const { mm } = task
  if (mm === null) return refuse(k.current, ESRCH, rule, { why: 'the task has no address space' })
  if (mm !== k.current.mm) {
    const denied = ptraceMayAccess(k, task)
    if (denied !== null) return refuse(k.current, EACCES, rule, { why: denied })
  }
  mm.users++
  return mm
}
