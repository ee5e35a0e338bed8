import type { Kthread } from '../base/kthread.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import type { MmapReadGuard } from './mmap-lock.ts'
import type { Vma } from './vma.ts'

/** Something a uprobe has to do at an address of a mapping that came or changed. */
export interface UprobeWork {
  /** puts the breakpoint at `address`, or counts in the variable there */
  readonly what: 'install' | 'count'
  readonly address: number
  /** the uprobe, known to who implements the hooks */
  readonly uprobe: object
}

/** What the mm asks of uprobes (src/task/uprobe-table.ts), which live on a floor above it. */
export interface UprobeHooks {
  /** `uprobe_mmap`, the part that looks at the flags of the VMA as they are now; leaves work in `mm.uprobeWork` */
  vmaChanged(mm: Mm, vma: Vma): void
  /** `uprobe_mmap`, the part that touches pages and may sleep */
  work(guard: MmapReadGuard, work: readonly UprobeWork[]): Kthread<void>
  /** `uprobe_clear_state`: the address space goes */
  mmGone(mm: Mm): void
}

/**
 * `uprobe_mmap`: a VMA is new, or has been cut, or has taken in what was beside it. What is to be done happens in
 * `finishUprobes`, before the lock is let go.
 * @rule R-UPR-6
 */
export function uprobeMmap(k: Kernel, mm: Mm, vma: Vma): void {
  if (k.uprobes !== null && vma.file !== null) k.uprobes.vmaChanged(mm, vma)
}

/** Does what `uprobeMmap` found; to be called only when `mm.uprobeWork` is not null. */
export function* finishUprobes(k: Kernel, guard: MmapReadGuard): Kthread<void> {
  const { mm } = guard
  const work = mm.uprobeWork ?? []
  mm.uprobeWork = null
  // whether it succeeds is nobody's business here
  const { refusal } = k.current
  yield* k.uprobes!.work(guard, work)
  k.current.refusal = refusal
}
