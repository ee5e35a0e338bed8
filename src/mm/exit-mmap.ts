import type { Kthread } from '../base/kthread.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import { removeDetached } from './munmap.ts'

/**
 * `exit_mmap`: the last user of an address space is gone. Everything is unmapped, sealed or not, and the
 * mm leaves the kernel. Pinned pages and what their pinners have charged stay.
 * @rule R-AS-158
 * @rule R-FLT-77
 */
export function* exitMmap(k: Kernel, mm: Mm): Kthread<void> {
  const guard = mm.mmapLock.tryWrite() ?? (yield* mm.mmapLock.write())
  const { vmas } = guard
  const { first, last } = vmas
  if (first !== null) yield* removeDetached(k, mm, vmas, first, first.start, last!.end)
  guard.release()
  k.mms.delete(mm)
  k.hugetlbPagesLost += mm.hugetlbPages
  k.ksm.exit(mm)
  k.uprobes?.mmGone(mm)
}

/** `mmput`: one user less; the last one takes the address space down. */
export function* mmput(k: Kernel, mm: Mm): Kthread<void> {
  mm.users--
  if (mm.users === 0) yield* exitMmap(k, mm)
}
