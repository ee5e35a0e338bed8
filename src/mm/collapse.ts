import { EINVAL } from '../base/errno.ts'
import { PREEMPT, type Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { HPAGE_PMD_ORDER, PAGE_SIZE, PMD_SIZE, PTRS_PER_PTE } from '../base/units.ts'
import { PG_KSM, PG_LOCKED, PG_LRU, PG_SWAPCACHE } from '../memory/page-flags.ts'
import {
  LOCKED,
  NOTHING_THERE,
  NOT_ON_LRU,
  NOT_PRESENT,
  NO_MEMORY,
  PROTECTED,
  READ_ONLY,
  REFERENCED,
  SPECIAL,
  UFFD_HOLE,
  UFFD_HOLE_UNTOLD,
  revalidated,
  whyNotCollapsible,
  type Failure,
  type GuardHolder,
} from './collapse-checks.ts'
import { collapseFile } from './collapse-file.ts'
import { VM_FAULT_ERROR } from './fault-flags.ts'
import { restoreByFault } from './device-exclusive-entry.ts'
import { NEEDS_MIGRATION } from './fault-sleep.ts'
import type { Kernel } from './kernel.ts'
import { waitForMigration } from './migration-entry.ts'
import type { Mm } from './mm.ts'
import { unwatched, type MmapReadGuard } from './mmap-lock.ts'
import { stopIfSoftDirtyCleared } from './page-prot.ts'
import {
  HugePmd,
  Leaf,
  PTE_DEVICE_EXCLUSIVE,
  PTE_MARKER_UFFD_WP,
  PTE_MIGRATION,
  PTE_PRESENT,
  PTE_SPECIAL,
  PTE_SWAP,
  PTE_UFFD_WP,
  PTE_WRITE,
  pmdIndex,
} from './page-table.ts'
import { removePage } from './rmap.ts'
import { doSwapPage } from './swap-fault.ts'
import { mapNewThp } from './thp-fault.ts'
import { VM_UFFD_MISSING, VM_UFFD_WP } from './vm-flags.ts'
import { vmaFacts, type Vma } from './vma.ts'

/**
 * MADV_COLLAPSE on one VMA: each whole aligned 2 MiB of [start, end) becomes one huge page with what its small
 * pages hold; what is not there becomes zeros. Settings and the limits of khugepaged do not count. `mmap_lock` is let
 * go for each and taken again, in `holder`; what was known of VMAs before is stale afterwards.
 * @returns 0, or the last error: -EINVAL, -EAGAIN (somebody holds a page), -EBUSY (userfaultfd), -ENOMEM
 * @rule R-HUGE-30
 * @rule R-HUGE-60
 */
export function* madviseCollapse(
  k: Kernel,
  holder: GuardHolder,
  maybeWatched: Vma,
  start: number,
  end: number,
): Kthread<number> {
  const vma = unwatched(maybeWatched)
  const objection = whyNotCollapsible(vma)
  if (objection !== null)
    return refuse(k.current, EINVAL, 'R-HUGE-60', { address: start, vma: vmaFacts(vma), why: objection })
  const first = Math.ceil(start / PMD_SIZE) * PMD_SIZE
  // @rule R-HUGE-61
  if (first > end) {
    const why = 'the range begins and ends inside the same 2 MiB'
    return refuse(k.current, EINVAL, 'R-HUGE-61', { address: start, why })
  }
  stopIfSoftDirtyCleared(holder.guard.mm, 'making a huge page')
  const isFile = !vma.isAnonymous
  let result = 0
  for (let at = first; at + PMD_SIZE <= end; at += PMD_SIZE) {
    const failure = yield* isFile ? collapseFile(k, holder, at) : collapse(k, holder, at)
    if (failure === null) continue
    result = refuse(k.current, failure.errno, isFile ? 'R-HUGE-63' : 'R-HUGE-30', {
      address: at,
      why: failure.why,
    })
    if (failure.goesOn === undefined) break
  }
  return result
}

/** One aligned 2 MiB. @returns null when a huge page is mapped there now */
function* collapse(k: Kernel, holder: GuardHolder, address: number): Kthread<Failure | null> {
  const { mm } = holder.guard
  const vma = revalidated(holder.guard, address)
  if ('errno' in vma) return vma
  const entry = mm.pageTable.pmd(pmdIndex(address))
  if (entry === null) return NOTHING_THERE
  // huge already, the page of zeros included
  if (entry instanceof HugePmd) return (entry.bits & PTE_PRESENT) !== 0 ? null : NOT_PRESENT
  const failure = scan(k, vma, entry)
  if (failure !== null) return failure
  holder.guard.release()
  if (k.exploring) yield PREEMPT
  const head = k.memory.allocFolio(HPAGE_PMD_ORDER, { movable: true })
  const done = head === 0 ? NO_MEMORY : yield* fill(k, mm, address, head)
  if (k.exploring) yield PREEMPT
  holder.guard = mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.read())
  return done
}

/** `collapse_huge_page`: without a lock at first; the folio is put when it is not used. */
function* fill(k: Kernel, mm: Mm, address: number, head: number): Kthread<Failure | null> {
  const reader = mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.read())
  const back = yield* swapIn(k, reader, address)
  reader.release()
  if (back !== null) {
    k.memory.put(head)
    return back
  }
  if (k.exploring) yield PREEMPT
  const guard = mm.mmapLock.tryWrite() ?? (yield* mm.mmapLock.write())
  const vma = revalidated(guard, address)
  const failure = 'errno' in vma ? vma : replace(k, mm, vma, address, head)
  guard.release()
  if (failure !== null) k.memory.put(head)
  return failure
}

/**
 * `hpage_collapse_scan_pmd`: is there anything against collapsing the pages of a table? What is swapped out is
 * looked at when it is back.
 */
function scan(k: Kernel, vma: Vma, leaf: Leaf): Failure | null {
  let writable = false
  for (let slot = 0; slot < PTRS_PER_PTE; slot++) {
    const bits = leaf.bits[slot]!
    if ((bits & (PTE_UFFD_WP | PTE_MARKER_UFFD_WP)) !== 0) return PROTECTED
    if (bits !== 0 && (bits & PTE_PRESENT) === 0) continue
    const failure = objectionTo(k, vma, leaf, slot)
    if (failure !== null) return failure
    if ((bits & PTE_WRITE) !== 0) writable = true
  }
  return writable || !k.release.fault.collapseNeedsWritable ? null : READ_ONLY
}

/** Whether one empty or present entry is in the way. */
function objectionTo(k: Kernel, vma: Vma, leaf: Leaf, slot: number): Failure | null {
  const bits = leaf.bits[slot]!
  const pfn = leaf.pfn[slot]!
  const zero = bits !== 0 && (bits & PTE_SPECIAL) !== 0 && pfn === k.zeroPfn
  if (bits === 0 || zero) {
    if ((vma.flags & (VM_UFFD_MISSING | VM_UFFD_WP)) === 0) return null
    return k.release.fault.collapseTellsUffd ? UFFD_HOLE : UFFD_HOLE_UNTOLD
  }
  if ((bits & PTE_UFFD_WP) !== 0) return PROTECTED
  if ((bits & PTE_SPECIAL) !== 0) return SPECIAL
  const { frames } = k.memory
  const head = frames.head(pfn)
  if (!frames.has(head, PG_LRU)) return NOT_ON_LRU
  if (frames.has(head, PG_LOCKED)) return LOCKED
  // pages of one folio lie side by side and were counted with the first
  if (pfn > head && slot > 0 && leaf.pfn[slot - 1] === pfn - 1 && (leaf.bits[slot - 1]! & PTE_PRESENT) !== 0)
    return null
  const cache = frames.has(head, PG_SWAPCACHE) ? frames.nrPages(head) : 0
  return frames.refcount[head] === frames.totalMapcount(head) + cache ? null : REFERENCED
}

/**
 * `__collapse_huge_page_swapin`: brings back what is swapped out, as reads would. Markers cannot be brought back.
 * What is back stays, whatever happens later.
 */
function* swapIn(k: Kernel, guard: MmapReadGuard, address: number): Kthread<Failure | null> {
  const vma = revalidated(guard, address)
  if ('errno' in vma) return vma
  const { mm } = guard
  const leaf = mm.pageTable.pmd(pmdIndex(address))
  if (!(leaf instanceof Leaf)) return NOTHING_THERE
  for (let slot = 0; slot < PTRS_PER_PTE; slot++) {
    const bits = leaf.bits[slot]!
    if (bits === 0 || (bits & PTE_PRESENT) !== 0) continue
    const at = address + slot * PAGE_SIZE
    // @rule R-DEX-11
    if ((bits & PTE_DEVICE_EXCLUSIVE) !== 0) {
      if (restoreByFault(k, mm, vma, at, leaf)) continue
      yield* waitForMigration(k)
      return LOCKED
    }
    if ((bits & (PTE_SWAP | PTE_MIGRATION)) === 0) return NOT_PRESENT
    const code = (bits & PTE_SWAP) === 0 ? NEEDS_MIGRATION : doSwapPage(k, mm, vma, at, leaf, 0)
    if (code < 0) {
      yield* waitForMigration(k)
      slot--
    } else if ((code & VM_FAULT_ERROR) !== 0) return NOT_PRESENT
  }
  return null
}

/**
 * The small pages, looked at once more, hand their contents to the new folio and are unmapped. Needs `mmap_lock`
 * for write; the old table stays behind empty for those who still walk it.
 */
function replace(k: Kernel, mm: Mm, vma: Vma, address: number, head: number): Failure | null {
  const { frames, contents } = k.memory
  const pmd = pmdIndex(address)
  const leaf = mm.pageTable.pmd(pmd)
  if (!(leaf instanceof Leaf)) return NOTHING_THERE
  let merged: Set<number> | null = null
  for (let slot = 0; slot < PTRS_PER_PTE; slot++) {
    const bits = leaf.bits[slot]!
    if (bits !== 0 && (bits & PTE_PRESENT) === 0) return NOT_PRESENT
    const failure = objectionTo(k, vma, leaf, slot)
    if (failure !== null) return failure
    const pfn = leaf.pfn[slot]!
    if ((bits & (PTE_PRESENT | PTE_SPECIAL)) !== PTE_PRESENT || !frames.has(pfn, PG_KSM)) continue
    // a page that is mapped twice here cannot be taken from its LRU list a second time
    merged ??= new Set()
    if (merged.has(pfn)) return NOT_ON_LRU
    merged.add(pfn)
  }
  for (let slot = 0; slot < PTRS_PER_PTE; slot++) {
    const bits = leaf.bits[slot]!
    const pfn = leaf.pfn[slot]!
    leaf.pfn[slot] = 0
    leaf.bits[slot] = 0
    if ((bits & (PTE_PRESENT | PTE_SPECIAL)) !== PTE_PRESENT) continue
    contents.copy(pfn, head + slot)
    removePage(k, mm, pfn)
  }
  leaf.used = 0
  mm.pageTable.setPmd(pmd, null)
  mapNewThp(k, mm, vma, pmd, head)
  k.observer?.({ type: 'collapse', mm: mm.id, address, to: head })
  return null
}
