import { EACCES, ENOENT } from '../../base/errno.ts'
import type { Kthread } from '../../base/kthread.ts'
import { refuse } from '../../base/refusal.ts'
import type { Kernel } from '../../mm/kernel.ts'
import { vmaLookup, type MmapReadGuard } from '../../mm/mmap-lock.ts'
import type { Mm } from '../../mm/mm.ts'
import { lockForRead } from '../../mm/write-lock.ts'
import { ptraceMayAccess } from '../ptrace-access.ts'
import type { TaskStruct } from '../task.ts'

/** A link of /proc/PID/map_files. */
export interface MapFilesLink {
  /** `START-END`, hexadecimal without leading zeros */
  readonly name: string
  /** how the file was opened: `lrw-------`, `lr--------` */
  readonly mode: string
  /** where it leads to */
  readonly target: string
}

/**
 * The links of /proc/PID/map_files: one for each mapping with a file.
 * @returns the links by address, or -EACCES
 * @rule R-AS-167
 * @rule R-ACC-2
 */
export function* mapFilesList(k: Kernel, task: TaskStruct): Kthread<MapFilesLink[] | number> {
  return yield* withMappings(k, task, (guard) => {
    const links: MapFilesLink[] = []
    for (let vma = guard.vmas.first; vma !== null; vma = vma.next) {
      const { file } = vma
      if (file === null) continue
      const mode = `l${file.readable ? 'r' : '-'}${file.writable ? 'w' : '-'}-------`
      links.push({ name: linkName(vma.start, vma.end), mode, target: file.path })
    }
    return links
  })
}

/**
 * readlink(2) of /proc/PID/map_files/START-END: the range must be that of a mapping with a file.
 * @returns where it leads to, -EACCES, or -ENOENT
 * @rule R-AS-167
 * @rule R-MAPS-6
 */
export function* mapFilesReadlink(k: Kernel, task: TaskStruct, name: string): Kthread<string | number> {
  return yield* withMappings(k, task, (guard) => {
    const vma = vmaLookup(guard, parseInt(name, 16))
    if (vma !== null && vma.file !== null && linkName(vma.start, vma.end) === name) return vma.file.path
    return refuse(k.current, ENOENT, 'R-AS-167', { why: 'no mapping with a file has this range' })
  })
}

function linkName(start: number, end: number): string {
  return `${start.toString(16)}-${end.toString(16)}`
}

function* withMappings<T>(
  k: Kernel,
  task: TaskStruct,
  look: (guard: MmapReadGuard) => T,
): Kthread<T | number> {
  const denied = ptraceMayAccess(k, task, 'read')
  if (denied !== null) return refuse(k.current, EACCES, 'R-ACC-2', { why: denied })
  const mm: Mm | null = task.mm
  if (mm === null) return refuse(k.current, ENOENT, 'R-ACC-4', { why: 'the task has no address space' })
  const guard = (k.exploring ? null : mm.mmapLock.tryRead()) ?? (yield* lockForRead(k, mm))
  const seen = look(guard)
  guard.release()
  return seen
}
