import { EACCES } from '../../base/errno.ts'
import type { Kthread } from '../../base/kthread.ts'
import { mmput } from '../../mm/exit-mmap.ts'
import type { Kernel } from '../../mm/kernel.ts'
import { findVma } from '../../mm/mmap-lock.ts'
import type { Mm } from '../../mm/mm.ts'
import type { Vma } from '../../mm/vma.ts'
import { lockForRead } from '../../mm/write-lock.ts'
import { mmAccess } from '../ptrace-access.ts'
import type { TaskStruct } from '../task.ts'
import { mapsHeader, mapsLine, type MapsHeader } from './maps-line.ts'
import { procmapQuery, type ProcmapAnswer, type ProcmapQuery } from './procmap-query.ts'
import { SeqFile } from './seq-file.ts'

/** The page at the top of the address space that belongs to no address space: system calls of old programs. */
const GATE: MapsHeader = {
  start: 0xffffffffff600000,
  end: 0xffffffffff601000,
  perms: '--xp',
  offset: 0,
  device: '00:00',
  inode: 0,
  name: '[vsyscall]',
}

/**
 * An open file with a record for every mapping: of the address space the task had when it was opened. After
 * its last user there is nothing to read.
 *
 * Between two reads the mappings may change: the next record is that of the first one that ends behind the
 * last record shown.
 * @rule R-AS-163
 * @rule R-ACC-6
 */
export abstract class MappingsFile extends SeqFile {
  protected readonly mm: Mm | null
  /** the last record ended here; Infinity: it was the last of all */
  #shown = 0

  /** @param mm null: opened on a task without address space */
  constructor(mm: Mm | null) {
    super()
    this.mm = mm
  }

  protected abstract record(k: Kernel, mm: Mm, vma: Vma): string

  /** The record of the page that is no mapping. */
  protected abstract gateRecord(k: Kernel, line: string): string

  protected override rewind(): void {
    this.#shown = 0
  }

  protected override *records(k: Kernel, take: (record: string) => boolean): Kthread<number> {
    const { mm } = this
    if (mm === null || mm.users === 0 || this.#shown === Infinity) return 0
    mm.users++
    const guard = (k.exploring ? null : mm.mmapLock.tryRead()) ?? (yield* lockForRead(k, mm))
    let vma = findVma(guard, this.#shown)
    while (vma !== null && take(this.record(k, mm, vma))) {
      this.#shown = vma.end
      vma = findVma(guard, this.#shown)
    }
    guard.release()
    yield* mmput(k, mm)
    // @rule R-AS-162
    if (vma === null && (!k.settings.vsyscall || take(this.gateRecord(k, mapsLine(GATE)))))
      this.#shown = Infinity
    return 0
  }
}

/** An open /proc/PID/maps. */
export class ProcMaps extends MappingsFile {
  /** ioctl(PROCMAP_QUERY). @returns what is known of one mapping, or -errno */
  query(k: Kernel, query: ProcmapQuery): Kthread<ProcmapAnswer | number> {
    return procmapQuery(k, this.mm, query)
  }

  protected override record(k: Kernel, mm: Mm, vma: Vma): string {
    return mapsLine(mapsHeader(k, mm, vma))
  }

  protected override gateRecord(_k: Kernel, line: string): string {
    return line
  }
}

/**
 * Who may open a file about somebody's mappings; what is found then is bound to the file.
 * @returns the address space, null for a task that has none, or -EACCES
 * @rule R-ACC-2
 * @rule R-ACC-3
 */
export function* mmForReading(k: Kernel, task: TaskStruct): Kthread<Mm | null | number> {
  const mm = mmAccess(k, task, 'read', 'R-ACC-2')
  if (typeof mm === 'number') return mm === -EACCES ? mm : null
  // only the object is kept
  yield* mmput(k, mm)
  return mm
}
