import { EACCES, ESRCH } from '../base/errno.ts'
import { refuse } from '../base/refusal.ts'
import type { Kernel } from '../mm/kernel.ts'
import type { Mm } from '../mm/mm.ts'
import { currentTask, type TaskStruct } from './task.ts'

/** What access is for: looking (PTRACE_MODE_READ) or taking hold of (PTRACE_MODE_ATTACH). */
export type PtraceMode = 'read' | 'attach'

/**
 * `ptrace_may_access`, the conditions of ptrace(2), "Ptrace access mode checking": same user and group or
 * CAP_SYS_PTRACE, a dumpable address space, no capability that the caller lacks; then Yama. Other security modules
 * (SELinux, …) are not modelled. Real and filesystem ids are the same here.
 * @returns null when permitted, else why not
 */
export function ptraceMayAccess(k: Kernel, task: TaskStruct, mode: PtraceMode): string | null {
  const caller = currentTask(k)
  if (task === caller) return null
  const denied = caller.capable('CAP_SYS_PTRACE') ? null : deniedByIds(caller, task)
  return denied ?? (mode === 'attach' ? deniedByYama(k.settings.ptraceScope, caller, task) : null)
}

function deniedByIds(caller: TaskStruct, task: TaskStruct): string | null {
  if (caller.uid !== task.uid || caller.gid !== task.gid) return 'the process belongs to another user'
  if (task.mm !== null && !task.mm.dumpable) return 'the process is not dumpable'
  for (const capability of task.capabilities) {
    if (!caller.capabilities.has(capability)) return 'the process has capabilities that the caller lacks'
  }
  return null
}

/**
 * `yama_ptrace_access_check`, as ptrace(2) tells of `/proc/sys/kernel/yama/ptrace_scope`.
 * @rule R-PTR-8
 */
function deniedByYama(scope: 0 | 1 | 2 | 3, caller: TaskStruct, task: TaskStruct): string | null {
  if (scope === 3) return 'nobody may trace anybody here (kernel.yama.ptrace_scope is 3)'
  if (scope === 0 || caller.capable('CAP_SYS_PTRACE')) return null
  if (scope === 2) return 'the caller lacks CAP_SYS_PTRACE (kernel.yama.ptrace_scope is 2)'
  for (let { parent } = task; parent !== null; { parent } = parent) if (parent === caller) return null
  return 'the process does not descend from the caller (kernel.yama.ptrace_scope is 1)'
}

/**
 * `mm_access`: the address space of a task, with a user reference that `mmput` gives back.
 * @param rule of the caller, for the reason
 * @returns -ESRCH without an address space (kernel threads, zombies), -EACCES when denied
 */
export function mmAccess(k: Kernel, task: TaskStruct, mode: PtraceMode, rule: string): Mm | number {
  const { mm } = task
  if (mm === null) return refuse(k.current, ESRCH, rule, { why: 'the task has no address space' })
  if (mm !== k.current.mm) {
    const denied = ptraceMayAccess(k, task, mode)
    if (denied !== null) return refuse(k.current, EACCES, rule, { why: denied })
  }
  mm.users++
  return mm
}
