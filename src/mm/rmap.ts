import {
  PG_ANON,
  PG_ANON_EXCLUSIVE,
  PG_LRU,
  PG_MLOCKED,
  PG_MTE_TAGGED,
  PG_SWAPBACKED,
  PG_SWAPCACHE,
  PG_UPTODATE,
} from '../memory/page-flags.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import { unwatched } from './mmap-lock.ts'
import {
  VM_EXEC,
  VM_LOCKED,
  VM_MAYBE_GUARD,
  VM_READ,
  VM_SOFTDIRTY,
  VM_SPECIAL,
  VM_WRITE,
  VMH_DROPPABLE,
  VMH_MTE,
} from './vm-flags.ts'
import { AnonVma, type Vma } from './vma.ts'

const MAY_DIFFER = VM_READ | VM_WRITE | VM_EXEC | VM_SOFTDIRTY | VM_MAYBE_GUARD

/** What the neighbour needs so that a later merge stays possible. */
function reusableAnonVma(vma: Vma, near: Vma | null, before: Vma | null, after: Vma | null): AnonVma | null {
  if (near === null || before === null || after === null) return null
  if (near.anonVma === null || near.anonVmaChain.length !== 1) return null
  if (before.end !== after.start || before.policy !== after.policy || before.file !== after.file) return null
  if (((before.flags ^ after.flags) & ~MAY_DIFFER) !== 0 || before.highFlags !== after.highFlags) return null
  if (after.pgoff !== before.pgoff + before.pages || near === vma) return null
  return near.anonVma
}

/**
 * `anon_vma_prepare`: gives a VMA the anon_vma its new anonymous pages belong to, an adjacent one where
 * a later merge must stay possible. Needs `mmap_lock` for read.
 * @returns 0
 * @rule R-AS-133
 */
export function anonVmaPrepare(k: Kernel, maybeWatched: Vma, _mm: Mm): number {
  const vma = unwatched(maybeWatched)
  if (vma.anonVma !== null) return 0
  const { next, previous } = vma
  const anonVma =
    reusableAnonVma(vma, next, vma, next) ??
    reusableAnonVma(vma, previous, previous, vma) ??
    new AnonVma(k.nextId())
  vma.anonVma = anonVma
  vma.anonVmaChain = [anonVma, ...vma.anonVmaChain]
  anonVma.vmas.add(vma)
  return 0
}

/**
 * `anon_vma_fork`: the child's VMA can hold pages of all the parent's anon_vmas and gets one of its own
 * for the pages it will create.
 * @rule R-AS-151
 */
export function anonVmaFork(k: Kernel, child: Vma, parent: Vma): void {
  for (const inherited of child.anonVmaChain) inherited.vmas.delete(child)
  child.anonVma = null
  child.anonVmaChain = []
  if (parent.anonVma === null) return
  const own = new AnonVma(k.nextId())
  child.anonVma = own
  child.anonVmaChain = [own, ...parent.anonVmaChain]
  for (const anonVma of child.anonVmaChain) anonVma.vmas.add(child)
}

/** Flags a page gets because of the VMA it is mapped in. */
function mlockFlag(vma: Vma): number {
  return (vma.flags & (VM_LOCKED | VM_SPECIAL)) === VM_LOCKED ? PG_MLOCKED : 0
}

/**
 * Droppable memory is never swapped: it is dropped instead.
 * @rule R-AS-22
 */
export function swapbackedFlag(vma: Vma): number {
  return (vma.highFlags & VMH_DROPPABLE) === 0 ? PG_SWAPBACKED : 0
}

/**
 * Memory with tags: whatever page it shows is marked.
 * @rule R-MTE-11
 */
export function taggedFlag(vma: Vma): number {
  return (vma.highFlags & VMH_MTE) === 0 ? 0 : PG_MTE_TAGGED
}

/** What a fresh anonymous page of a VMA is marked with. */
export function newAnonFlags(vma: Vma): number {
  const owned = PG_UPTODATE | PG_LRU | PG_ANON | PG_ANON_EXCLUSIVE
  return owned | swapbackedFlag(vma) | mlockFlag(vma) | taggedFlag(vma)
}

/**
 * `folio_add_new_anon_rmap`: the first mapping of a fresh small page. The allocation's reference becomes
 * the mapping's; the page is exclusive.
 * @rule R-FLT-10
 */
export function addNewAnonPage(k: Kernel, mm: Mm, vma: Vma, address: number, pfn: number): void {
  const { flags, mapping, index, mapcount } = k.memory.frames
  flags[pfn]! |= newAnonFlags(vma)
  mapping[pfn] = vma.anonVma!.id
  index[pfn] = vma.pageIndex(address)
  mapcount[pfn] = 1
  mm.rssAnon++
}

/** `folio_add_file_rmap_pte`: one more pte maps a page of the page cache. */
export function addFilePage(k: Kernel, mm: Mm, vma: Vma, pfn: number): void {
  const { frames } = k.memory
  const head = frames.head(pfn)
  frames.refcount[head]!++
  frames.mapcount[pfn]!++
  // of a large folio one page alone does not count
  if (!frames.isLarge(head)) frames.flags[head]! |= mlockFlag(vma)
  frames.flags[pfn]! |= taggedFlag(vma)
  if (frames.has(head, PG_SWAPBACKED)) mm.rssShmem++
  else mm.rssFile++
}

/**
 * `folio_remove_rmap_pte` and the reference of the pte, with the resident-page counter of its kind. What a large
 * folio has of memory that nobody maps any more stays until its last reference goes.
 * @rule R-HUGE-28
 */
export function removePage(k: Kernel, mm: Mm, pfn: number): void {
  const { frames } = k.memory
  const head = frames.head(pfn)
  const word = frames.flags[head]!
  if ((word & PG_ANON) !== 0) mm.rssAnon--
  else if ((word & PG_SWAPBACKED) !== 0) mm.rssShmem--
  else mm.rssFile--
  const left = --frames.mapcount[pfn]!
  if (left === 0) {
    frames.flags[pfn]! &= ~PG_MLOCKED
    if ((word & PG_SWAPCACHE) !== 0) k.swap.dropUnmapped(pfn)
  }
  k.memory.put(head)
}
