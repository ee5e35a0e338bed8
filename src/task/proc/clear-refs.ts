import { EACCES, EINVAL, ERANGE, ESRCH } from '../../base/errno.ts'
import type { Kthread } from '../../base/kthread.ts'
import { refuse } from '../../base/refusal.ts'
import { mmput } from '../../mm/exit-mmap.ts'
import type { IovIter } from '../../mm/iov-iter.ts'
import type { Kernel } from '../../mm/kernel.ts'
import { clearReferenced, clearSoftDirty } from '../../mm/soft-dirty.ts'
import { ProcFile, refuseBuffer } from '../proc-file.ts'
import { findTask, type TaskStruct } from '../task.ts'

/** bytes of a write that are looked at */
const LONGEST = 12

const SOFT_DIRTY = 4
const PEAK_RESIDENT = 5
/** what 1 to 3 clear */
const REFERENCED = ['all', 'anonymous', 'mapped'] as const

/**
 * An open /proc/PID/clear_refs: what is written to it is done to the address space the task has then.
 * @rule R-CLR-1
 */
export class ProcClearRefs extends ProcFile {
  readonly #task: TaskStruct

  constructor(task: TaskStruct) {
    super()
    this.#task = task
  }

  override *read(k: Kernel): Kthread<number> {
    return refuse(k.current, EINVAL, 'R-CLR-1', { why: 'this file can only be written' })
  }

  /** The position does not move. */
  override *write(k: Kernel, iter: IovIter): Kthread<number> {
    const text = new Uint8Array(Math.min(iter.count, LONGEST))
    if ((yield* iter.copyFrom(text)) < text.length) return refuseBuffer(k, iter, 'R-CLR-1')
    const value = parse(text)
    if (value === null || value < 1 || value > PEAK_RESIDENT) {
      const tooLarge = value !== null && (value > 0x7fffffff || value < -0x80000000)
      const why = tooLarge ? 'the number is no int' : 'what is written is no number from 1 to 5'
      return refuse(k.current, tooLarge ? ERANGE : EINVAL, 'R-CLR-1', { why })
    }
    if (findTask(k, this.#task.pid) !== this.#task)
      return refuse(k.current, ESRCH, 'R-CLR-1', { why: 'the process is gone' })
    const { mm } = this.#task
    if (mm === null) return text.length
    mm.users++
    let error = 0
    if (value === SOFT_DIRTY) error = yield* clearSoftDirty(k, mm)
    else if (value === PEAK_RESIDENT) mm.hiwaterRss = mm.rss
    else yield* clearReferenced(k, mm, REFERENCED[value - 1]!)
    yield* mmput(k, mm)
    return error < 0 ? error : text.length
  }
}

/** `kstrtoint` of a stripped line, to the base of 10. @returns null: no number */
function parse(text: Uint8Array): number | null {
  let line = ''
  for (const byte of text) {
    if (byte === 0) break
    line += String.fromCharCode(byte)
  }
  const number = line.replace(/^[ \t\n\v\f\r]+|[ \t\n\v\f\r]+$/g, '')
  return /^[+-]?\d+$/.test(number) ? Number(number) : null
}

/**
 * Opens /proc/PID/clear_refs: whom the file belongs to may, and root.
 * @returns the open file, -EACCES
 * @rule R-CLR-1
 */
export function* procClearRefsOpen(k: Kernel, task: TaskStruct): Kthread<ProcClearRefs | number> {
  const { current } = k
  const owner = task.mm !== null && !task.mm.dumpable ? 0 : task.uid
  if (current.uid === owner || current.uid === 0 || current.capable('CAP_DAC_OVERRIDE'))
    return new ProcClearRefs(task)
  return refuse(current, EACCES, 'R-CLR-1', { why: 'the file belongs to another user' })
}
