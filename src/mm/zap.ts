import { PREEMPT, type Kthread } from '../base/kthread.ts'
import { PAGE_SIZE, PMD_SIZE } from '../base/units.ts'
import { ReferenceError } from '../memory/memory.ts'
import {
  ORDER_SHIFT,
  PG_ANON,
  PG_DIRTY,
  PG_MLOCKED,
  PG_SWAPBACKED,
  PG_SWAPCACHE,
} from '../memory/page-flags.ts'
import { splitHugePmd, zapHugePmd } from './huge-memory.ts'
import { zapExclusiveEntry } from './device-exclusive-entry.ts'
import { unshareHugetlbTable } from './hugetlb-share.ts'
import type { Kernel } from './kernel.ts'
import { countMigrating } from './migration-entry.ts'
import type { Mm } from './mm.ts'
import { unwatched } from './mmap-lock.ts'
import { invalidateRange } from './mmu-notifier.ts'
import {
  HugePmd,
  Leaf,
  PTE_DEVICE_EXCLUSIVE,
  PTE_DIRTY,
  PTE_MARKER_GUARD,
  PTE_MARKER_UFFD_WP,
  PTE_MIGRATION,
  PTE_PRESENT,
  PTE_SPECIAL,
  PTE_SWAP,
  PTE_UFFD_WP,
  pmdIndex,
} from './page-table.ts'
import type { Vma } from './vma.ts'
import type { VmaTree } from './vma-tree.ts'
import { munlockPage } from './mlock-pages.ts'
import { VM_LOCKED, VM_UFFD_WP } from './vm-flags.ts'

/**
 * Why page-table entries are removed. `munmap`: the VMA goes too, markers with it. `dontneed`: the range
 * refaults. `truncate`: the file page is gone, private copies included. `punch`: private copies stay.
 */
export type ZapHow = 'munmap' | 'dontneed' | 'truncate' | 'punch'

/**
 * `zap_page_range`: removes what is mapped in [start, end) of one VMA. Pins do not matter: a pinned page
 * stays allocated without a mapping (R-FLT-71). Needs `mmap_lock`, for read at least.
 * @rule R-FLT-70
 * @rule R-GUP-77
 * @rule R-AS-146
 * @rule R-AS-147
 * @rule R-FLT-71
 */
export function* zapRange(
  k: Kernel,
  mm: Mm,
  maybeWatched: Vma,
  start: number,
  end: number,
  how: ZapHow,
): Kthread<void> {
  if (mm.notifiers !== null) invalidateRange(mm, start, end)
  const vma = unwatched(maybeWatched)
  const { pageTable } = mm
  const last = Math.ceil(end / PMD_SIZE)
  for (let i = pageTable.nextPmd(pmdIndex(start), last); i >= 0; i = pageTable.nextPmd(i + 1, last)) {
    zapPmd(k, mm, vma, i, start, end, how)
    if (k.exploring) yield PREEMPT
  }
  k.observer?.({ type: 'zap', mm: mm.id, start, end })
}

/** `zapRange` in one step, for those who hold no lock that keeps the VMA, or must not be interrupted. */
export function zapRangeAtOnce(
  k: Kernel,
  mm: Mm,
  maybeWatched: Vma,
  start: number,
  end: number,
  how: ZapHow,
): void {
  if (mm.notifiers !== null) invalidateRange(mm, start, end)
  const vma = unwatched(maybeWatched)
  const { pageTable } = mm
  const last = Math.ceil(end / PMD_SIZE)
  for (let i = pageTable.nextPmd(pmdIndex(start), last); i >= 0; i = pageTable.nextPmd(i + 1, last)) {
    zapPmd(k, mm, vma, i, start, end, how)
  }
  k.observer?.({ type: 'zap', mm: mm.id, start, end })
}

/**
 * The part of [start, end) that lies in one 2 MiB span.
 * @rule R-FLT-8
 * @rule R-HUGE-29
 */
function zapPmd(k: Kernel, mm: Mm, vma: Vma, i: number, start: number, end: number, how: ZapHow): void {
  const { pageTable } = mm
  const base = i * PMD_SIZE
  const from = Math.max(start, base)
  const to = Math.min(end, base + PMD_SIZE)
  if (unshareHugetlbTable(mm, vma, i)) return
  let entry = pageTable.pmd(i)
  if (entry instanceof HugePmd) {
    if (to - from === PMD_SIZE) {
      zapHugePmd(k, mm, vma, i, how)
      return
    }
    splitHugePmd(k, mm, vma, i)
    entry = pageTable.pmd(i)
  }
  if (!(entry instanceof Leaf)) return
  zapLeaf(k, mm, vma, entry, (from - base) / PAGE_SIZE, (to - base) / PAGE_SIZE, how)
  // @rule R-AS-148
  const reclaims = how === 'dontneed' && to - from === PMD_SIZE && k.release.fault.dontneedFreesTables
  if (reclaims && entry.used === 0) pageTable.setPmd(i, null)
}

/** @rule R-FLT-13, R-FLT-168 */
function zapLeaf(k: Kernel, mm: Mm, vma: Vma, leaf: Leaf, first: number, end: number, how: ZapHow): void {
  const { memory } = k
  const { flags, refcount, mapcount } = memory.frames
  const { bits, pfn: pfns } = leaf
  const evenCows = how !== 'punch'
  const locked = (vma.flags & VM_LOCKED) !== 0
  const remembers = how !== 'munmap' && !vma.isAnonymous && (vma.flags & VM_UFFD_WP) !== 0
  let anon = 0
  let file = 0
  let shmem = 0
  let cleared = 0
  for (let slot = first; slot < end; slot++) {
    const word = bits[slot]!
    if (word === 0) continue
    if ((word & (PTE_PRESENT | PTE_SPECIAL)) !== PTE_PRESENT) {
      if ((word & PTE_PRESENT) === 0 && !zapsNonpresent(k, mm, vma, leaf, slot, how)) continue
      pfns[slot] = 0
      if (remembers && (word & PTE_UFFD_WP) !== 0) {
        bits[slot] = PTE_MARKER_UFFD_WP
        continue
      }
      bits[slot] = 0
      cleared++
      continue
    }
    const pfn = pfns[slot]!
    const order = (flags[pfn]! >>> ORDER_SHIFT) & 0x1f
    const head = order === 0 ? pfn : pfn & -(1 << order)
    const page = flags[head]!
    if ((page & PG_ANON) !== 0) {
      if (!evenCows) continue
      anon++
    } else {
      if ((word & PTE_DIRTY) !== 0) flags[head] = page | PG_DIRTY
      if ((page & PG_SWAPBACKED) !== 0) shmem++
      else file++
    }
    pfns[slot] = 0
    if (remembers && (word & PTE_UFFD_WP) !== 0) bits[slot] = PTE_MARKER_UFFD_WP
    else {
      bits[slot] = 0
      cleared++
    }
    if (--mapcount[pfn]! === 0 && order === 0) {
      flags[pfn]! &= ~PG_MLOCKED
      if ((page & PG_SWAPCACHE) !== 0) k.swap.dropUnmapped(pfn)
    } else if (locked && (page & PG_MLOCKED) !== 0) munlockPage(k, vma, pfn)
    // @rule R-HUGE-28
    const left = --refcount[head]!
    if (left > 0) continue
    if (left < 0) throw new ReferenceError(`pfn ${head}: unmapped, but nobody held it`)
    memory.free(head)
  }
  leaf.used -= cleared
  mm.updateHiwaterRss()
  mm.rssAnon -= anon
  mm.rssFile -= file
  mm.rssShmem -= shmem
}

/** What happens to an entry that is not present: whether it is to be cleared. Frees the swap slot. */
function zapsNonpresent(k: Kernel, mm: Mm, vma: Vma, leaf: Leaf, slot: number, how: ZapHow): boolean {
  const word = leaf.bits[slot]!
  if ((word & PTE_MARKER_GUARD) !== 0) return how === 'munmap'
  if ((word & PTE_MARKER_UFFD_WP) !== 0) return vma.isAnonymous || how === 'munmap'
  if ((word & PTE_MIGRATION) !== 0) {
    const pfn = leaf.pfn[slot]!
    const { frames } = k.memory
    if (how === 'punch' && frames.has(frames.head(pfn), PG_ANON)) return false
    countMigrating(k, mm, pfn, -1)
    return true
  }
  if (how === 'punch') return false
  if ((word & PTE_SWAP) !== 0) {
    mm.swapents--
    k.swap.free(leaf.pfn[slot]!)
  } else if ((word & PTE_DEVICE_EXCLUSIVE) !== 0) zapExclusiveEntry(k, mm, leaf.pfn[slot]!)
  return true
}

/**
 * `free_pgtables`: gives back the tables of [start, end), which no VMA covers any more. A table that is shared
 * with a neighbour stays, empty or not.
 * @param vmas what is left
 * @rule R-AS-148
 */
export function freePageTables(mm: Mm, vmas: VmaTree, start: number, end: number): void {
  const { pageTable } = mm
  const last = Math.ceil(end / PMD_SIZE)
  for (let i = pageTable.nextPmd(pmdIndex(start), last); i >= 0; i = pageTable.nextPmd(i + 1, last)) {
    const base = i * PMD_SIZE
    const beside = vmas.find(base)
    if (beside !== null && beside.start < base + PMD_SIZE) continue
    if (pageTable.pmd(i) instanceof Leaf) pageTable.setPmd(i, null)
  }
  const above = vmas.find(start)
  const below = above === null ? vmas.last : above.previous
  pageTable.freeUpper(start, end, below?.end ?? 0, above?.start ?? Infinity)
}
