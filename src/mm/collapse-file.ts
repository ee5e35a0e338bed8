import { EINVAL } from '../base/errno.ts'
import { PREEMPT, type Kthread } from '../base/kthread.ts'
import { Unmodelled } from '../base/unmodelled.ts'
import { HPAGE_PMD_ORDER, PAGE_SIZE, PMD_SIZE, PTRS_PER_PTE } from '../base/units.ts'
import { PG_DIRTY, PG_LOCKED, PG_LRU, PG_SWAPBACKED, PG_UPTODATE } from '../memory/page-flags.ts'
import {
  COPIED,
  LOCKED,
  MARKED,
  NOTHING_CACHED,
  NOT_ON_LRU,
  NO_MEMORY,
  PROTECTED,
  REFERENCED,
  UFFD_HOLE,
  revalidated,
  type Failure,
  type GuardHolder,
} from './collapse-checks.ts'
import { mapHugeFile } from './file-fault-large.ts'
import { unmapCached } from './file-folio.ts'
import type { AddressSpace } from './file.ts'
import { pageCacheInsert, pageCacheRemove } from './filemap.ts'
import type { Kernel } from './kernel.ts'
import type { MmapReadGuard } from './mmap-lock.ts'
import { HugePmd, Leaf, PTE_ACCESSED, PTE_DIRTY, PTE_PRESENT, pmdIndex } from './page-table.ts'
import { removePage } from './rmap.ts'
import { shmemSwapIn } from './shmem-swap.ts'
import { VM_UFFD_MISSING, VM_UFFD_WP, VMH_UFFD_MINOR } from './vm-flags.ts'

const NOT_BACK: Failure = { errno: EINVAL, why: 'a page cannot be brought back from swap space' }

/**
 * One aligned 2 MiB of a memory file: its cache becomes one folio unless it is one already, and the caller maps it by
 * a PMD.
 * @returns null when a huge page is mapped there now
 * @throws Unmodelled on releases where nobody has looked, and while a userfaultfd watches for pages that are there
 * @rule R-HUGE-63
 */
export function* collapseFile(k: Kernel, holder: GuardHolder, address: number): Kthread<Failure | null> {
  const { mm } = holder.guard
  const before = revalidated(holder.guard, address)
  if ('errno' in before) return before
  const { mapping } = before.file!
  const first = before.pageIndex(address)
  if (!k.release.fault.collapsesMemoryFiles) stop(holder, 'MADV_COLLAPSE of a memory file on this release')
  for (const { highFlags } of mapping.mappers) {
    if ((highFlags & VMH_UFFD_MINOR) !== 0)
      stop(holder, 'MADV_COLLAPSE of a memory file that a userfaultfd watches')
  }
  holder.guard.release()
  if (k.exploring) yield PREEMPT
  const failure = isHuge(k, mapping, first) ? null : yield* collapseCache(k, mapping, first)
  if (k.exploring) yield PREEMPT
  holder.guard = mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.read())
  return failure ?? install(k, holder.guard, address, mapping)
}

function stop(holder: GuardHolder, what: string): never {
  holder.guard.release()
  throw new Unmodelled(what, 'R-HUGE-63')
}

function isHuge(k: Kernel, mapping: AddressSpace, first: number): boolean {
  const { frames } = k.memory
  const pfn = mapping.pages.get(first)
  return pfn !== 0 && frames.order(pfn) === HPAGE_PMD_ORDER
}

/**
 * `collapse_file`: the 512 pages from `first` on become one folio, dirty, holes zeros. What showed them is unmapped
 * everywhere, and tables that hold nothing are given back where no private copy was ever made.
 */
function* collapseCache(k: Kernel, mapping: AddressSpace, first: number): Kthread<Failure | null> {
  const { memory } = k
  const { frames, contents } = memory
  const objection = scan(k, mapping, first)
  if (objection !== null) return objection
  const head = memory.allocFolio(HPAGE_PMD_ORDER, { movable: true })
  if (head === 0) return NO_MEMORY
  if (k.exploring) yield PREEMPT
  const failure = bringBack(k, mapping, first) ?? scan(k, mapping, first)
  if (failure !== null) {
    memory.put(head)
    return failure
  }
  unmapCached(k, mapping, first, first + PTRS_PER_PTE)
  if (hasHole(mapping, first) && isWatched(mapping, first)) {
    memory.put(head)
    return UFFD_HOLE
  }
  for (let i = 0; i < PTRS_PER_PTE; i++) {
    const pfn = mapping.pages.get(first + i)
    if (pfn !== 0) contents.copy(pfn, head + i)
  }
  for (let i = 0; i < PTRS_PER_PTE; i++) pageCacheRemove(k, mapping, first + i)
  for (let i = 0; i < PTRS_PER_PTE; i++) frames.set(head + i, PG_UPTODATE | PG_LRU | PG_SWAPBACKED)
  frames.set(head, PG_DIRTY)
  pageCacheInsert(k, mapping, first, head)
  memory.put(head)
  retractTables(mapping, first)
  return null
}

/** `hpage_collapse_scan_file`: is there anything to collapse, and does nobody hold it? */
function scan(k: Kernel, mapping: AddressSpace, first: number): Failure | null {
  const { frames } = k.memory
  let present = 0
  for (let index = first; index < first + PTRS_PER_PTE; index++) {
    const pfn = mapping.pages.get(index)
    if (pfn === 0) {
      if (mapping.swapped.has(index)) present++
      continue
    }
    present++
    const head = frames.head(pfn)
    if (!frames.has(head, PG_LRU)) return NOT_ON_LRU
    if (frames.has(head, PG_LOCKED)) return LOCKED
    if (frames.refcount[head] !== frames.nrPages(head) + frames.totalMapcount(head)) return REFERENCED
  }
  return present === 0 ? NOTHING_CACHED : null
}

function bringBack(k: Kernel, mapping: AddressSpace, first: number): Failure | null {
  for (let index = first; index < first + PTRS_PER_PTE; index++)
    if (mapping.swapped.has(index) && shmemSwapIn(k, mapping, index) === 0) return NOT_BACK
  return null
}

function hasHole({ pages }: AddressSpace, first: number): boolean {
  for (let index = first; index < first + PTRS_PER_PTE; index++) if (pages.get(index) === 0) return true
  return false
}

/** A userfaultfd waits for missing pages of these 2 MiB, or of the page behind them. */
function isWatched({ mappers }: AddressSpace, first: number): boolean {
  for (const { flags, pgoff, pages } of mappers) {
    const meets = pgoff <= first + PTRS_PER_PTE && pgoff + pages > first
    if (meets && (flags & VM_UFFD_MISSING) !== 0) return true
  }
  return false
}

/** `retract_page_tables`: a PMD can be mapped by the next fault. */
function retractTables(mapping: AddressSpace, first: number): void {
  for (const vma of mapping.mappers) {
    const address = vma.start + (first - vma.pgoff) * PAGE_SIZE
    if (vma.mm === null || vma.anonVma !== null || (vma.flags & VM_UFFD_WP) !== 0) continue
    if (address % PMD_SIZE !== 0) continue
    if (address < vma.start || address + PMD_SIZE > vma.end) continue
    const pmd = pmdIndex(address)
    const entry = vma.mm.pageTable.pmd(pmd)
    if (entry instanceof Leaf && entry.used === 0) vma.mm.pageTable.setPmd(pmd, null)
  }
}

/**
 * `collapse_pte_mapped_thp`: a PMD takes the place of what a table shows of the folio.
 * @returns what is in the way; null: a PMD is there
 */
function install(k: Kernel, guard: MmapReadGuard, address: number, mapping: AddressSpace): Failure | null {
  const vma = revalidated(guard, address)
  if ('errno' in vma) return vma
  const head = mapping.pages.get(vma.pageIndex(address))
  if (vma.file?.mapping !== mapping || head === 0 || k.memory.frames.order(head) !== HPAGE_PMD_ORDER)
    return NOTHING_CACHED
  const { mm } = guard
  const pmd = pmdIndex(address)
  const entry = mm.pageTable.pmd(pmd)
  if (entry instanceof HugePmd) return null
  if ((vma.flags & VM_UFFD_WP) !== 0) return PROTECTED
  if (entry !== null) {
    for (let slot = 0; slot < PTRS_PER_PTE; slot++) {
      const bits = entry.bits[slot]!
      if (bits !== 0 && (bits & PTE_PRESENT) === 0) return MARKED
      if (bits !== 0 && entry.pfn[slot] !== head + slot) return COPIED
    }
    for (let slot = 0; slot < PTRS_PER_PTE; slot++) {
      if (entry.bits[slot] === 0) continue
      if ((entry.bits[slot]! & PTE_DIRTY) !== 0) k.memory.frames.set(head, PG_DIRTY)
      entry.set(slot, 0, 0)
      removePage(k, mm, head + slot)
    }
    mm.pageTable.setPmd(pmd, null)
  }
  mapHugeFile(k, mm, vma, pmd, head, PTE_ACCESSED | PTE_DIRTY)
  k.observer?.({ type: 'collapse', mm: mm.id, address, to: head })
  return null
}
