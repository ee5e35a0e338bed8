import { PREEMPT, type Kthread } from '../base/kthread.ts'
import { Unmodelled } from '../base/unmodelled.ts'
import { PMD_SIZE, PTRS_PER_PTE } from '../base/units.ts'
import { PG_REFERENCED } from '../memory/page-flags.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import type { MmapWriteGuard } from './mmap-lock.ts'
import { invalidateRange } from './mmu-notifier.ts'
import {
  HugePmd,
  PTE_ACCESSED,
  PTE_DEVICE_EXCLUSIVE,
  PTE_MIGRATION,
  PTE_PRESENT,
  PTE_SOFT_CLEAN,
  PTE_SPECIAL,
  PTE_SWAP,
  PTE_WRITE,
  pmdIndex,
  pteSlot,
} from './page-table.ts'
import type { Vma } from './vma.ts'
import { VM_PFNMAP, VM_SOFTDIRTY } from './vm-flags.ts'
import { lockForRead, lockForWrite, tryWriteNow } from './write-lock.ts'

/*
 * Soft-dirty: which pages were written since somebody asked. A mapping is born with VM_SOFTDIRTY, and all of it counts
 * as written. Clearing takes that flag away and gives each entry PTE_SOFT_CLEAN instead, without write permission; the
 * fault of the first write takes it off again. So an entry without it is soft-dirty, and a kernel that is not
 * configured for any of this never sees it. The mark goes wherever the page goes: swap and migration entries, moves,
 * children.
 */

/** Visits the entries of a mapping. @param visit gets the word, returns what it becomes */
function eachEntry(mm: Mm, vma: Vma, visit: (pfn: number, bits: number) => number): void {
  const { pageTable } = mm
  const last = Math.ceil(vma.end / PMD_SIZE)
  for (let i = pageTable.nextPmd(pmdIndex(vma.start), last); i >= 0; i = pageTable.nextPmd(i + 1, last)) {
    const entry = pageTable.pmd(i)!
    if (entry instanceof HugePmd) {
      entry.bits = visit(entry.pfn, entry.bits)
      continue
    }
    const first = vma.start > i * PMD_SIZE ? pteSlot(vma.start) : 0
    const end = vma.end < (i + 1) * PMD_SIZE ? pteSlot(vma.end) : PTRS_PER_PTE
    for (let slot = first; slot < end; slot++) {
      const bits = entry.bits[slot]!
      if (bits !== 0) entry.bits[slot] = visit(entry.pfn[slot]!, bits)
    }
  }
}

/**
 * `clear_refs` of 4: from now on it is seen which pages are written. Pages that are pinned and can be written in
 * place stay soft-dirty and writable.
 * @returns 0, -EINTR
 * @throws Unmodelled where hugetlb memory is mapped
 * @rule R-FLT-163
 */
export function* clearSoftDirty(k: Kernel, mm: Mm): Kthread<number> {
  if (!k.settings.softDirty) return 0
  const guard = tryWriteNow(k, mm) ?? (yield* lockForWrite(k, mm))
  if (typeof guard === 'number') return guard
  for (let vma = guard.vmas.first; vma !== null; vma = vma.next) {
    if (!vma.isHugetlb) continue
    guard.release()
    throw new Unmodelled('soft-dirty tracking of hugetlb memory', 'R-FLT-163')
  }
  mm.softDirtyCleared = true
  yield* clearAll(k, guard)
  guard.release()
  return 0
}

function* clearAll(k: Kernel, guard: MmapWriteGuard): Kthread<void> {
  const { mm, vmas } = guard
  const carries = PTE_SWAP | PTE_MIGRATION | PTE_DEVICE_EXCLUSIVE
  for (let vma = vmas.first; vma !== null; vma = vma.next) {
    const current = vma
    vma.flags &= ~VM_SOFTDIRTY
    // @rule R-PM-6
    if ((vma.flags & VM_PFNMAP) !== 0) continue
    if (mm.notifiers !== null) invalidateRange(mm, vma.start, vma.end)
    eachEntry(mm, vma, (pfn, bits) => {
      if ((bits & PTE_PRESENT) === 0) return (bits & carries) === 0 ? bits : bits | PTE_SOFT_CLEAN
      return staysDirty(k, mm, current, pfn, bits) ? bits : (bits & ~PTE_WRITE) | PTE_SOFT_CLEAN
    })
    if (k.exploring) yield PREEMPT
  }
}

/** What a device may write to must not be taken from the process by a fault. @rule R-GUP-79 */
function staysDirty(k: Kernel, mm: Mm, vma: Vma, pfn: number, bits: number): boolean {
  if ((bits & (PTE_WRITE | PTE_SPECIAL)) !== PTE_WRITE || !mm.hasPinned || !vma.isCow) return false
  return k.memory.frames.maybeDmaPinned(pfn)
}

/**
 * `clear_refs` of 1 to 3: pages count as not used, until they are again.
 * @param which all mappings, those of no file, those of a file
 * @rule R-CLR-2
 */
export function* clearReferenced(k: Kernel, mm: Mm, which: 'all' | 'anonymous' | 'mapped'): Kthread<void> {
  const guard = (k.exploring ? null : mm.mmapLock.tryRead()) ?? (yield* lockForRead(k, mm))
  const { frames } = k.memory
  for (let vma = guard.vmas.first; vma !== null; vma = vma.next) {
    if ((vma.flags & VM_PFNMAP) !== 0 || vma.isHugetlb) continue
    if (which !== 'all' && (which === 'anonymous') !== (vma.file === null)) continue
    eachEntry(mm, vma, (pfn, bits) => {
      if ((bits & (PTE_PRESENT | PTE_SPECIAL)) !== PTE_PRESENT) return bits
      frames.clear(frames.head(pfn), PG_REFERENCED)
      return bits & ~PTE_ACCESSED
    })
  }
  guard.release()
}
