import { PREEMPT, type Kthread } from '../base/kthread.ts'
import { Unmodelled } from '../base/unmodelled.ts'
import { PAGE_SIZE, PMD_SIZE } from '../base/units.ts'
import { PG_ANON, PG_ANON_EXCLUSIVE, PG_DIRTY, PG_KSM, PG_SWAPBACKED } from '../memory/page-flags.ts'
import { newProtection } from './change-protection.ts'
import { isMappedShared } from './folio-mappers.ts'
import { changeHugePmd, splitHugePmd } from './huge-memory.ts'
import type { Kernel } from './kernel.ts'
import { isolateFolio, migratePages } from './migrate.ts'
import type { Mm } from './mm.ts'
import { findVma, unwatched } from './mmap-lock.ts'
import { invalidateRange } from './mmu-notifier.ts'
import {
  HugePmd,
  PTE_ACCESSED,
  PTE_PRESENT,
  PTE_PROTNONE,
  PTE_SPECIAL,
  PTE_WRITE,
  pmdIndex,
  pteSlot,
  type Leaf,
} from './page-table.ts'
import type { Vma } from './vma.ts'
import { VM_ACCESS_FLAGS } from './vm-flags.ts'
import { lockForRead } from './write-lock.ts'

/*
 * A NUMA hint is an entry that the processor does not see although the mapping permits the access: the same bit that
 * PROT_NONE leaves behind, told apart by the mapping. Who touches the page next faults, which shows the kernel from
 * where the page is used. Nothing sets hints by itself here.
 */

/**
 * `change_prot_numa`, what the scanner of NUMA balancing does to a range: entries become hints, but for those the
 * kernel leaves alone.
 * @param start page aligned
 * @param end page aligned
 * @returns pages whose entries are hints now and were none before
 * @throws Unmodelled where hugetlb memory is mapped
 * @rule R-FLT-56
 */
export function* changeProtNuma(k: Kernel, mm: Mm, start: number, end: number): Kthread<number> {
  const guard = (k.exploring ? null : mm.mmapLock.tryRead()) ?? (yield* lockForRead(k, mm))
  let marked = 0
  for (let watched = findVma(guard, start); watched !== null && watched.start < end; watched = watched.next) {
    const vma = unwatched(watched)
    // entries of a mapping without access are no hints, and there is nothing to learn
    if ((vma.flags & VM_ACCESS_FLAGS) === 0) continue
    if (vma.isHugetlb) {
      guard.release()
      throw new Unmodelled('NUMA hints in a mapping of hugetlb memory', 'R-FLT-56')
    }
    marked += yield* markVma(k, mm, vma, Math.max(start, vma.start), Math.min(end, vma.end))
  }
  guard.release()
  return marked
}

function* markVma(k: Kernel, mm: Mm, vma: Vma, start: number, end: number): Kthread<number> {
  const { pageTable } = mm
  const last = Math.ceil(end / PMD_SIZE)
  let marked = 0
  if (mm.notifiers !== null) invalidateRange(mm, start, end)
  for (let i = pageTable.nextPmd(pmdIndex(start), last); i >= 0; i = pageTable.nextPmd(i + 1, last)) {
    const base = i * PMD_SIZE
    const from = Math.max(start, base)
    const to = Math.min(end, base + PMD_SIZE)
    let entry = pageTable.pmd(i)
    if (entry instanceof HugePmd) {
      if (to - from === PMD_SIZE) {
        if (!takesHint(k, mm, vma, entry.pfn, entry.bits)) continue
        entry.bits = (entry.bits & ~PTE_WRITE) | PTE_PROTNONE
        marked += PMD_SIZE / PAGE_SIZE
        continue
      }
      splitHugePmd(k, mm, vma, i)
      entry = pageTable.pmd(i)
    }
    if (entry !== null && !(entry instanceof HugePmd))
      marked += markLeaf(k, mm, vma, entry, (from - base) / PAGE_SIZE, (to - base) / PAGE_SIZE)
    if (k.exploring) yield PREEMPT
  }
  return marked
}

function markLeaf(k: Kernel, mm: Mm, vma: Vma, leaf: Leaf, first: number, end: number): number {
  const { bits, pfn } = leaf
  let marked = 0
  for (let slot = first; slot < end; slot++) {
    const word = bits[slot]!
    if ((word & PTE_PRESENT) === 0 || !takesHint(k, mm, vma, pfn[slot]!, word)) continue
    bits[slot] = (word & ~PTE_WRITE) | PTE_PROTNONE
    marked++
  }
  return marked
}

/**
 * Whether an entry becomes a hint: not where it is one, where there is no page, where a move would not help or
 * cannot happen.
 */
function takesHint(k: Kernel, mm: Mm, vma: Vma, pfn: number, bits: number): boolean {
  if ((bits & (PTE_PRESENT | PTE_SPECIAL | PTE_PROTNONE)) !== PTE_PRESENT || k.isHugeZero(pfn)) return false
  const { frames } = k.memory
  const word = frames.flags[frames.head(pfn)]!
  if ((word & PG_KSM) !== 0) return false
  // pages of memory files are always dirty, and move like anonymous ones
  if ((word & (PG_ANON | PG_SWAPBACKED | PG_DIRTY)) === PG_DIRTY) return false
  if (!vma.isCow) return true
  // @rule R-GUP-79
  if (k.release.fault.hintsSparePinned && frames.maybeDmaPinned(pfn)) return false
  return !isSharedPage(k, mm, pfn)
}

/** Somebody else maps it, too: page by page, or by folio where the release counts so (R-FLT-142). */
function isSharedPage(k: Kernel, mm: Mm, pfn: number): boolean {
  const { frames } = k.memory
  if (!k.release.mm.movePagesByFolio || !frames.isLarge(pfn)) return frames.pageMapcount(pfn) > 1
  return isMappedShared(k, mm, frames.head(pfn))
}

/** Whether the page of a hint is on another node than the task that has met it. */
export function isMisplaced(k: Kernel, pfn: number): boolean {
  const { buddy } = k.memory
  return buddy.nodes > 1 && buddy.nodeOf(pfn) !== (k.current.node ?? 0)
}

/**
 * `do_numa_page` and `do_huge_pmd_numa_page` where the page is on another node: it moves to the task's, if it can.
 * Otherwise the entry is what it would be without the hint. `mmap_lock` is held for read.
 * @param address of the page
 * @rule R-FLT-56
 */
export function* numaFault(k: Kernel, mm: Mm, vma: Vma, address: number): Kthread<void> {
  const entry = mm.pageTable.pmd(pmdIndex(address))
  if (entry === null) return
  const pfn = entry instanceof HugePmd ? entry.pfn : entry.pfn[pteSlot(address)]!
  const head = k.memory.frames.head(pfn)
  if (isolateFolio(k, head)) yield* migratePages(k, [head], k.current.node ?? 0)
  restoreHinted(k, mm, vma, address)
}

/**
 * The entry of a hint as the mapping has it, accessed; what is no hint (any more) stays as it is.
 * @rule R-FLT-56
 */
export function restoreHinted(k: Kernel, mm: Mm, vma: Vma, address: number): void {
  const index = pmdIndex(address)
  const entry = mm.pageTable.pmd(index)
  if (entry === null) return
  const slot = pteSlot(address)
  const bits = entry instanceof HugePmd ? entry.bits : entry.bits[slot]!
  if ((bits & (PTE_PRESENT | PTE_PROTNONE)) !== (PTE_PRESENT | PTE_PROTNONE)) return
  if (entry instanceof HugePmd) {
    changeHugePmd(k, mm, vma, index)
    entry.bits |= PTE_ACCESSED
    return
  }
  const pfn = entry.pfn[slot]!
  const { frames } = k.memory
  const exclusive = frames.has(frames.head(pfn), PG_ANON) && frames.has(pfn, PG_ANON_EXCLUSIVE)
  entry.bits[slot] = newProtection(vma, bits, exclusive) | PTE_ACCESSED
}
