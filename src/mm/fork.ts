import { EBUSY, ENOMEM } from '../base/errno.ts'
import { PREEMPT, type Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE, PMD_SIZE } from '../base/units.ts'
import { GUP_PIN_COUNTING_BIAS } from '../memory/frames.ts'
import { ORDER_SHIFT, PG_ANON, PG_ANON_EXCLUSIVE, PG_SWAPBACKED } from '../memory/page-flags.ts'
import { restoreEntry } from './device-exclusive-entry.ts'
import { exitMmap } from './exit-mmap.ts'
import { noteMapper } from './folio-mappers.ts'
import { copyHugePmd } from './huge-memory.ts'
import type { Kernel } from './kernel.ts'
import { countMigrating, requireKnownEntry, sharedMigrationWord } from './migration-entry.ts'
import { Mm } from './mm.ts'
import type { MmapWriteGuard } from './mmap-lock.ts'
import { invalidateRange } from './mmu-notifier.ts'
import { maybeWrite, vmPageProt } from './page-prot.ts'
import {
  HugePmd,
  Leaf,
  PTE_ACCESSED,
  PTE_DEVICE_EXCLUSIVE,
  PTE_DIRTY,
  PTE_MARKER_GUARD,
  PTE_MARKER_POISON,
  PTE_MARKER_UFFD_WP,
  PTE_MIGRATION,
  PTE_PRESENT,
  PTE_SPECIAL,
  PTE_SWAP,
  PTE_SWAP_EXCLUSIVE,
  PTE_UFFD_WP,
  PTE_WRITE,
  pmdIndex,
} from './page-table.ts'
import { addNewAnonPage, anonVmaFork } from './rmap.ts'
import type { Userfaultfd } from './userfaultfd-context.ts'
import { forkChanges, forkedContext, forkFailed, tellChanges } from './userfaultfd-events.ts'
import { dupVma, linkVma } from './vma-link.ts'
import type { Vma } from './vma.ts'
import {
  VM_DONTCOPY,
  VM_MAYBE_GUARD,
  VM_MIXEDMAP,
  VM_NOHUGEPAGE,
  VM_PFNMAP,
  VM_UFFD_MISSING,
  VM_UFFD_WP,
  VM_WIPEONFORK,
  VMH_UFFD_MINOR,
} from './vm-flags.ts'
import { lockForWrite, tryWriteNow } from './write-lock.ts'

/**
 * `dup_mm`: the address space of a child. Anonymous pages become shared and read-only on both sides,
 * except that pages the parent has pinned are copied for the child at once.
 * @returns the child's mm, -ENOMEM (the partial child is gone then), or -EINTR
 * @rule R-AS-150
 * @rule R-FLT-61
 * @rule R-FLT-65
 */
export function* forkMm(k: Kernel, parent: Mm, name: string): Kthread<Mm | number> {
  // @rule R-UPR-5
  if (!k.dupMmapSem.tryRead()) yield* k.dupMmapSem.read()
  const guard = tryWriteNow(k, parent) ?? (yield* lockForWrite(k, parent))
  if (typeof guard === 'number') {
    k.dupMmapSem.releaseRead()
    return guard
  }
  const child = new Mm(k, name)
  copyLayout(child, parent)
  k.ksm.fork(child, parent)
  const childGuard = child.mmapLock.tryWrite()!
  const contexts = new Map<Userfaultfd, Userfaultfd>()
  let error = 0
  for (let vma = guard.vmas.first; vma !== null && error === 0; vma = vma.next) {
    // @rule R-FLT-60
    if ((vma.flags & VM_DONTCOPY) !== 0) continue
    const copy = copyVma(k, childGuard, vma, contexts)
    if (copy === null) error = -ENOMEM
    else if (needsCopy(copy, vma)) error = yield* copyPageRange(k, child, parent, copy, vma)
  }
  childGuard.release()
  guard.release()
  k.dupMmapSem.releaseRead()
  if (error === 0) {
    yield* tellChanges(k, forkChanges(contexts))
    return child
  }
  forkFailed(contexts)
  const cause = k.current.refusal
  yield* exitMmap(k, child)
  // @rule R-FLT-66
  return refuse(k.current, ENOMEM, 'R-FLT-66', { why: 'memory for the child could not be allocated' }, cause)
}

function copyLayout(child: Mm, parent: Mm): void {
  child.defFlags = parent.defFlags & VM_NOHUGEPAGE
  child.mdwe = parent.mdwe
  child.thpDisabled = parent.thpDisabled
  child.dumpable = parent.dumpable
  child.hasUprobes = parent.hasUprobes
  child.hasRawEntries = parent.hasRawEntries
  child.softDirtyCleared = parent.softDirtyCleared
  child.argStart = parent.argStart
  child.argEnd = parent.argEnd
  child.envStart = parent.envStart
  child.envEnd = parent.envEnd
  child.startBrk = parent.startBrk
  child.brk = parent.brk
  child.startStack = parent.startStack
  child.startCode = parent.startCode
  child.endCode = parent.endCode
  child.startData = parent.startData
  child.endData = parent.endData
  child.mmapBase = parent.mmapBase
  child.mmapLegacyBase = parent.mmapLegacyBase
  child.legacyLayout = parent.legacyLayout
}

/** The child's VMA, linked; null when it cannot be charged. */
function copyVma(
  k: Kernel,
  guard: MmapWriteGuard,
  vma: Vma,
  contexts: Map<Userfaultfd, Userfaultfd>,
): Vma | null {
  const copy = dupVma(k, vma)
  copy.uffd = forkedContext(k, vma, guard.mm, contexts)
  if (copy.uffd === null) {
    copy.flags &= ~(VM_UFFD_MISSING | VM_UFFD_WP)
    copy.highFlags &= ~VMH_UFFD_MINOR
  }
  if ((vma.flags & VM_WIPEONFORK) === 0) anonVmaFork(k, copy, vma)
  if (linkVma(k, guard, copy) === 0) return copy
  for (const anonVma of copy.anonVmaChain) anonVma.vmas.delete(copy)
  copy.file?.put()
  return null
}

/**
 * `vma_needs_copy`: otherwise the child faults everything in by itself.
 * @rule R-GUP-74
 * @rule R-AS-153
 */
function needsCopy(copy: Vma, vma: Vma): boolean {
  if ((vma.flags & VM_WIPEONFORK) !== 0) return false
  if ((copy.flags & VM_UFFD_WP) !== 0) return true
  return (vma.flags & (VM_PFNMAP | VM_MIXEDMAP | VM_MAYBE_GUARD)) !== 0 || vma.anonVma !== null
}

/** `copy_page_range`: 0 or -ENOMEM. */
function* copyPageRange(k: Kernel, child: Mm, parent: Mm, childVma: Vma, vma: Vma): Kthread<number> {
  // @rule R-GUP-76
  const cow = vma.isCow
  if (cow && parent.notifiers !== null) invalidateRange(parent, vma.start, vma.end)
  if (cow) parent.writeProtectSeq++
  const { pageTable } = parent
  const last = Math.ceil(vma.end / PMD_SIZE)
  let error = 0
  for (let i = pageTable.nextPmd(pmdIndex(vma.start), last); i >= 0; i = pageTable.nextPmd(i + 1, last)) {
    if (k.exploring) yield PREEMPT
    let entry = pageTable.pmd(i)
    if (entry instanceof HugePmd) {
      const done = copyHugePmd(k, child, parent, childVma, vma, i)
      if (done === 0) continue
      error = done < 0 ? done : 0
      entry = pageTable.pmd(i)
    }
    if (error < 0) break
    if (!(entry instanceof Leaf)) continue
    const base = i * PMD_SIZE
    const first = (Math.max(vma.start, base) - base) / PAGE_SIZE
    const end = (Math.min(vma.end, base + PMD_SIZE) - base) / PAGE_SIZE
    error = copyLeaf(k, child, parent, childVma, vma, entry, child.pageTable.leafFor(base), base, first, end)
    if (error < 0) break
  }
  if (cow) parent.writeProtectSeq++
  return error
}

/** `copy_pte_range`, one table. */
function copyLeaf(
  k: Kernel,
  child: Mm,
  parent: Mm,
  childVma: Vma,
  vma: Vma,
  source: Leaf,
  target: Leaf,
  base: number,
  first: number,
  end: number,
): number {
  const { flags, refcount, mapcount } = k.memory.frames
  const { bits, pfn: pfns } = source
  const { bits: childBits, pfn: childPfns } = target
  const cow = vma.isCow
  const { hasPinned } = parent
  const watched = (childVma.flags & VM_UFFD_WP) !== 0
  const dropped = (cow ? PTE_WRITE : PTE_DIRTY) | PTE_ACCESSED | (watched ? 0 : PTE_UFFD_WP)
  let anon = 0
  let file = 0
  let shmem = 0
  let used = 0
  let error = 0
  let noted = 0
  for (let slot = first; slot < end; slot++) {
    let word = bits[slot]!
    if (word === 0) continue
    const pfn = pfns[slot]!
    if ((word & (PTE_PRESENT | PTE_SPECIAL)) !== PTE_PRESENT) {
      if ((word & PTE_DEVICE_EXCLUSIVE) === 0) {
        const copy =
          (word & PTE_PRESENT) !== 0 ? word & ~dropped : copyNonpresent(k, child, source, slot, watched, cow)
        if (copy === 0) continue
        childBits[slot] = copy
        childPfns[slot] = pfn
        used++
        continue
      }
      error = restoreForFork(k, vma, source, slot, base)
      if (error < 0) break
      word = bits[slot]!
    }
    const page = flags[pfn]!
    const order = (page >>> ORDER_SHIFT) & 0x1f
    const head = order === 0 ? pfn : pfn & -(1 << order)
    const headFlags = order === 0 ? page : flags[head]!
    if ((headFlags & PG_ANON) !== 0) {
      if ((page & PG_ANON_EXCLUSIVE) !== 0) {
        // @rule R-FLT-62
        // @rule R-GUP-71
        // @rule R-URING-63
        if (
          hasPinned &&
          cow &&
          (order === 0 ? (refcount[pfn]! + 1) >>> 0 >= GUP_PIN_COUNTING_BIAS : refcount[head + 1]! > 0)
        ) {
          const kept = watched ? word & PTE_UFFD_WP : 0
          error = copyPinnedPage(k, child, childVma, target, slot, base + slot * PAGE_SIZE, pfn, kept)
          if (error < 0) break
          continue
        }
        flags[pfn] = page & ~PG_ANON_EXCLUSIVE
      }
      if (order !== 0 && head !== noted) {
        noted = head
        noteMapper(k, child, head)
      }
      anon++
    } else if ((headFlags & PG_SWAPBACKED) !== 0) shmem++
    else file++
    refcount[head]!++
    mapcount[pfn]!++
    if (cow) bits[slot] = word & ~PTE_WRITE
    childBits[slot] = word & ~dropped
    childPfns[slot] = pfn
    used++
  }
  target.used += used
  child.rssAnon += anon
  child.rssFile += file
  child.rssShmem += shmem
  return error
}

/**
 * What a device has to itself is mapped again in the parent and then shared like any page; those who watch have been
 * told of the whole mapping.
 * @returns 0, -EBUSY while the device holds the page's lock
 * @rule R-DEX-9
 */
function restoreForFork(k: Kernel, vma: Vma, leaf: Leaf, slot: number, base: number): number {
  if (restoreEntry(k, vma, leaf, slot)) return 0
  return refuse(k.current, EBUSY, 'R-DEX-9', {
    address: base + slot * PAGE_SIZE,
    why: 'a device holds the lock of a page that it has to itself',
  })
}

/**
 * `copy_present_page`: the child gets its own page now, so that what a device writes into the pinned one
 * stays the parent's.
 * @param uffdWp PTE_UFFD_WP where userfaultfd protects the page and watches the child, too
 * @rule R-FLT-63
 * @rule R-FLT-64
 */
function copyPinnedPage(
  k: Kernel,
  child: Mm,
  childVma: Vma,
  target: Leaf,
  slot: number,
  address: number,
  pfn: number,
  uffdWp: number,
): number {
  const copy = k.memory.allocFolio(0, { movable: !k.current.memallocPin })
  if (copy === 0) {
    return refuse(k.current, ENOMEM, 'R-FLT-66', {
      address,
      why: 'no free page is left to copy a pinned page into',
    })
  }
  k.memory.contents.copy(pfn, copy)
  addNewAnonPage(k, child, childVma, address, copy)
  const write = uffdWp === 0 ? maybeWrite(childVma) : uffdWp
  target.set(slot, copy, vmPageProt(childVma) | PTE_DIRTY | write)
  k.observer?.({ type: 'fork-copy', mm: child.id, address, from: pfn, to: copy })
  return 0
}

/** `copy_nonpresent_pte`: the child's entry, 0 for none. */
function copyNonpresent(
  k: Kernel,
  child: Mm,
  source: Leaf,
  slot: number,
  watched: boolean,
  cow: boolean,
): number {
  const word = source.bits[slot]!
  if ((word & PTE_SWAP) !== 0) {
    k.swap.duplicate(source.pfn[slot]!)
    source.bits[slot] = word & ~PTE_SWAP_EXCLUSIVE
    child.swapents++
    return word & ~(PTE_SWAP_EXCLUSIVE | (watched ? 0 : PTE_UFFD_WP))
  }
  if ((word & PTE_MIGRATION) !== 0) {
    const pfn = source.pfn[slot]!
    requireKnownEntry(pfn, 'fork over a migration entry', 'R-FLT-62')
    const shared = cow ? sharedMigrationWord(word) : word
    source.bits[slot] = shared
    countMigrating(k, child, pfn, 1)
    return shared & ~(watched ? 0 : PTE_UFFD_WP)
  }
  return word & (PTE_MARKER_GUARD | PTE_MARKER_POISON | (watched ? PTE_MARKER_UFFD_WP : 0))
}
