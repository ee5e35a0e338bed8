import { EACCES, ENOENT, ESRCH } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import type { Kernel } from '../mm/kernel.ts'
import type { ProcFile } from './proc-file.ts'
import { openProcFile, type ProcHandle } from './proc-handle.ts'
import { procClearRefsOpen } from './proc/clear-refs.ts'
import { ProcKpagecount, ProcKpageflags, framesFileOpen } from './proc/kpage-files.ts'
import { mapFilesList, mapFilesReadlink, type MapFilesLink } from './proc/map-files.ts'
import { ProcMaps, mmForReading } from './proc/maps.ts'
import { procPagemapOpen } from './proc/pagemap.ts'
import { ProcSmaps, ProcSmapsRollup } from './proc/smaps.ts'
import { ProcStatm, ProcStatus } from './proc/status.ts'
import type { Process } from './process.ts'
import { findTask, type TaskStruct } from './task.ts'

/** Files of /proc/PID about the memory of a process. */
export type ProcFileName = 'maps' | 'smaps' | 'smaps_rollup' | 'status' | 'statm' | 'pagemap' | 'clear_refs'

/**
 * What one process reads about the memory of another, or its own, in the files of /proc.
 *
 * ```ts
 * const tool = machine.spawn('tool')
 * tool.proc.text(tool.pid, 'maps')
 * const pagemap = tool.proc.open(tool.pid, 'pagemap')
 * pagemap.pread(buffer, 8, (address / 4096) * 8)
 * ```
 */
export class ProcCalls {
  readonly #process: Process

  constructor(process: Process) {
    this.#process = process
  }

  /** Opens /proc/PID/NAME. @throws SyscallError ENOENT: no such process, EACCES, ESRCH, EMFILE */
  open(pid: number, name: ProcFileName): ProcHandle {
    const { kernel } = this.#process
    return openProcFile(this.#process, () => procOpen(kernel, pid, name))
  }

  /** A text file from start to end. @throws SyscallError */
  text(pid: number, name: Exclude<ProcFileName, 'pagemap' | 'clear_refs'>): string {
    const file = this.open(pid, name)
    try {
      return utf8Text(file.all())
    } finally {
      file.close()
    }
  }

  /** Opens /proc/kpageflags or /proc/kpagecount. @throws SyscallError EACCES, EMFILE */
  openFrames(name: 'kpageflags' | 'kpagecount'): ProcHandle {
    const { kernel } = this.#process
    const file = name === 'kpageflags' ? new ProcKpageflags() : new ProcKpagecount()
    return openProcFile(this.#process, () => framesFileOpen(kernel, file))
  }

  /** The links of /proc/PID/map_files, by address. @throws SyscallError ENOENT, EACCES */
  mapFiles(pid: number): readonly MapFilesLink[] {
    return this.#look('readdir', pid, (task) => mapFilesList(this.#process.kernel, task))
  }

  /** readlink(2) of /proc/PID/map_files/NAME. @throws SyscallError ENOENT, EACCES */
  readMapFile(pid: number, name: string): string {
    return this.#look('readlink', pid, (task) => mapFilesReadlink(this.#process.kernel, task, name))
  }

  #look<T>(call: string, pid: number, method: (task: TaskStruct) => Kthread<T | number>): T {
    const { kernel } = this.#process
    let seen: T | number = -1
    const look = function* (): Kthread<number> {
      const task = findTask(kernel, pid)
      seen = task === null ? noSuchEntry(kernel) : yield* method(task)
      return typeof seen === 'number' ? seen : 0
    }
    this.#process.call(call, look())
    return seen as T
  }
}

function noSuchEntry(k: Kernel): number {
  return refuse(k.current, ENOENT, 'R-ACC-4', { why: 'there is no such process' })
}

/** @rule R-ACC-2 */
export function* procOpen(k: Kernel, pid: number, name: ProcFileName): Kthread<ProcFile | number> {
  const task = findTask(k, pid)
  if (task === null) return noSuchEntry(k)
  if (name === 'status') return new ProcStatus(task)
  if (name === 'statm') return new ProcStatm(task)
  if (name === 'pagemap') return yield* procPagemapOpen(k, task)
  if (name === 'clear_refs') return yield* procClearRefsOpen(k, task)
  const mm = yield* mmForReading(k, task)
  if (mm === -EACCES) return mm
  if (typeof mm === 'number') throw new Error(`mmForReading: ${mm}`)
  if (name === 'maps') return new ProcMaps(mm)
  if (name === 'smaps') return new ProcSmaps(mm)
  // @rule R-ACC-4
  if (mm === null) return refuse(k.current, ESRCH, 'R-ACC-4', { why: 'the task has no address space' })
  return new ProcSmapsRollup(mm)
}

/** Undoes `utf8`, without the platform's decoder. */
function utf8Text(bytes: Uint8Array): string {
  let text = ''
  for (let i = 0; i < bytes.length;) {
    const lead = bytes[i++]!
    const more = lead < 0xc0 ? 0 : lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3
    let code = more === 0 ? lead : lead & (0x3f >> more)
    for (let n = 0; n < more; n++) code = code * 64 + (bytes[i++]! & 0x3f)
    text += String.fromCodePoint(code)
  }
  return text
}
