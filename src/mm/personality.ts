import type { CurrentTask } from './kernel.ts'
import { READ_IMPLIES_EXEC } from './mman.ts'

/** personality(2) READ_IMPLIES_EXEC of a task: what may be read may be executed (R-AS-7). */
export function readImpliesExec(task: CurrentTask): boolean {
  return ((task.personality ?? 0) & READ_IMPLIES_EXEC) !== 0
}
