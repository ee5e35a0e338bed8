import type { Capability, CurrentTask, Kernel } from '../mm/kernel.ts'

/** Who traces a task, and whether that tracer had CAP_SYS_PTRACE when it attached (R-PTR-2). */
export interface Trace {
  readonly tracer: TaskStruct
  readonly capable: boolean
}

/** `struct task_struct`, as far as one process looks at another. */
export interface TaskStruct extends CurrentTask {
  /** real gid; effective, saved and filesystem ids are the same here */
  readonly gid: number
  /** permitted and effective set */
  readonly capabilities: ReadonlySet<Capability>
  /** who forked it; null: nobody here, or one that has exited */
  parent: TaskStruct | null
  /** null: nobody traces it */
  trace: Trace | null
  /** in ptrace-stop */
  stopped: boolean
}

const tables = new WeakMap<Kernel, Map<number, TaskStruct>>()

/** The pid namespace: there is one. */
function pids(k: Kernel): Map<number, TaskStruct> {
  let table = tables.get(k)
  if (table === undefined) {
    table = new Map()
    tables.set(k, table)
  }
  return table
}

/** Makes a task known by its pid. */
export function addTask(k: Kernel, task: TaskStruct): void {
  pids(k).set(task.pid, task)
}

/** The task is gone and waited for: its pid is unknown from now on, and what it traced runs. */
export function exitTask(k: Kernel, task: TaskStruct): void {
  pids(k).delete(task.pid)
  task.trace = null
  for (const other of pids(k).values()) {
    if (other.parent === task) other.parent = null
    if (other.trace?.tracer !== task) continue
    other.trace = null
    other.stopped = false
  }
}

/** `find_task_by_vpid`. */
export function findTask(k: Kernel, pid: number): TaskStruct | null {
  return pids(k).get(pid) ?? null
}

/** `current`, as other tasks see it. @throws Error when kernel code runs outside of any task */
export function currentTask(k: Kernel): TaskStruct {
  const task = findTask(k, k.current.pid)
  if (task !== k.current) throw new Error('this call is made by a task, not by the kernel itself')
  return task
}
