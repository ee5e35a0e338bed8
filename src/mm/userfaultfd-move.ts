import { EAGAIN, EBUSY, EEXIST, EFAULT, EINVAL, ENOENT } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE, PMD_SIZE } from '../base/units.ts'
import { PG_ANON, PG_ANON_EXCLUSIVE } from '../memory/page-flags.ts'
import { canSplitFolio, splitFolio } from './folio-split.ts'
import { splitHugePmd } from './huge-memory.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import { unwatched, type MmapReadGuard } from './mmap-lock.ts'
import { maybeWrite, stopIfSoftDirtyCleared, vmPageProt } from './page-prot.ts'
import {
  HugePmd,
  PTE_ACCESSED,
  PTE_DIRTY,
  PTE_MIGRATION,
  PTE_PRESENT,
  PTE_SPECIAL,
  PTE_SWAP,
  PTE_SWAP_EXCLUSIVE,
  pmdIndex,
  pteSlot,
} from './page-table.ts'
import { anonVmaPrepare } from './rmap.ts'
import type { Userfaultfd } from './userfaultfd-context.ts'
import { UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES, UFFDIO_MOVE_MODE_DONTWAKE } from './userfaultfd-flags.ts'
import { addressSpaceGone, validateRange } from './userfaultfd-register.ts'
import { changing } from './userfaultfd-wp.ts'
import { vmaFacts, type Vma } from './vma.ts'
import {
  VM_ACCESS_FLAGS,
  VM_HUGETLB,
  VM_IO,
  VM_LOCKED,
  VM_MIXEDMAP,
  VM_PFNMAP,
  VM_SHARED,
  VM_WRITE,
  VMH_SHADOW_STACK,
} from './vm-flags.ts'
import { lockForRead } from './write-lock.ts'

/**
 * UFFDIO_MOVE: the pages of [src, src + length) become those of a watched range, without a copy; the source is
 * empty afterwards. The release has the request (UFFD_FEATURE_MOVE).
 * @param mode UFFDIO_MOVE_MODE_*
 * @returns bytes moved (holes that may be skipped count), fewer than asked when a later page cannot be moved. For
 * the first page -EBUSY (pinned, shared or not exclusive), -EEXIST (the target has one), -ENOENT (the source has none),
 * -EFAULT; -EINVAL, -ENOENT for ranges that cannot be meant, -EAGAIN while events wait to be read, -ESRCH
 * @rule R-FLT-124
 */
export function* uffdMove(
  k: Kernel,
  context: Userfaultfd,
  mm: Mm,
  dst: number,
  src: number,
  length: number,
  mode = 0,
): Kthread<number> {
  if (context.changing > 0) return changing(k)
  if (k.current.mm !== mm) {
    return refuse(k.current, EINVAL, 'R-FLT-124', { why: 'pages of another process cannot be moved' })
  }
  const invalid = validateRange(k, dst, length) || validateRange(k, src, length)
  if (invalid < 0) return invalid
  const holes = (mode & UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES) !== 0
  if ((mode & ~(UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES | UFFDIO_MOVE_MODE_DONTWAKE)) !== 0)
    return refuse(k.current, EINVAL, 'R-FLT-124', { why: 'the mode is not known' })
  if (!k.mms.has(mm)) return addressSpaceGone(k)
  const guard = yield* lockForRead(k, mm)
  const done = moveRange(k, guard, context, dst, src, length, holes)
  guard.release()
  if (done > 0 && (mode & UFFDIO_MOVE_MODE_DONTWAKE) === 0) context.wake(dst, dst + done)
  return done
}

function moveRange(
  k: Kernel,
  guard: MmapReadGuard,
  context: Userfaultfd,
  dst: number,
  src: number,
  length: number,
  holes: boolean,
): number {
  const { mm } = guard
  const to = at(guard, dst)
  if (to === null) return noMapping(k, dst)
  if ((to.flags & VM_SHARED) === 0) anonVmaPrepare(k, to, mm)
  const from = at(guard, src)
  if (from === null) return noMapping(k, src)
  const why = cannotMove(context, from, to, src, dst, length)
  if (why !== null) return refuse(k.current, EINVAL, 'R-FLT-124', { address: dst, vma: vmaFacts(to), why })
  let done = 0
  while (done < length) {
    const step = moveStep(k, mm, from, to, src + done, dst + done, length - done, holes)
    if (step < 0) return done > 0 ? done : step
    done += step
  }
  return done
}

function at(guard: MmapReadGuard, address: number): Vma | null {
  const vma = guard.vmas.find(address)
  return vma === null || vma.start > address ? null : unwatched(vma)
}

function noMapping(k: Kernel, address: number): number {
  return refuse(k.current, ENOENT, 'R-FLT-124', { address, why: 'nothing is mapped here' })
}

/** `validate_move_areas`: why not, null: it may be done. */
function cannotMove(
  context: Userfaultfd,
  from: Vma,
  to: Vma,
  src: number,
  dst: number,
  length: number,
): string | null {
  const unmovable = VM_PFNMAP | VM_IO | VM_HUGETLB | VM_MIXEDMAP
  if ((from.flags & VM_SHARED) !== 0 || src + length > from.end)
    return 'the source is shared or not one mapping'
  if ((to.flags & VM_SHARED) !== 0 || dst + length > to.end) return 'the target is shared or not one mapping'
  if (((from.flags ^ to.flags) & (VM_ACCESS_FLAGS | VM_LOCKED)) !== 0)
    return 'source and target differ in their protection, or in being locked'
  if ((from.flags & VM_WRITE) === 0) return 'the mappings are not writable'
  if (
    ((from.flags | to.flags) & unmovable) !== 0 ||
    ((from.highFlags | to.highFlags) & VMH_SHADOW_STACK) !== 0
  )
    return 'pages of this kind of mapping cannot be moved'
  if (to.uffd !== context) return 'the target is not watched by this userfaultfd'
  return from.isAnonymous && to.isAnonymous ? null : 'source or target is no anonymous memory'
}

/** Moves one page, or one huge page where both sides allow it. Bytes, or -errno. */
function moveStep(
  k: Kernel,
  mm: Mm,
  from: Vma,
  to: Vma,
  src: number,
  dst: number,
  left: number,
  holes: boolean,
): number {
  const { pageTable } = mm
  const facts = { address: dst, vma: vmaFacts(to) }
  if (pageTable.pmd(pmdIndex(dst)) instanceof HugePmd)
    return refuse(k.current, EEXIST, 'R-FLT-124', { ...facts, why: 'a huge page is there already' })
  const source = pageTable.pmd(pmdIndex(src))
  if (source === null && !holes)
    return refuse(k.current, ENOENT, 'R-FLT-124', { address: src, why: 'the source is empty here' })
  if (source instanceof HugePmd) {
    const target = pageTable.pmd(pmdIndex(dst))
    const whole = src % PMD_SIZE === 0 && dst % PMD_SIZE === 0 && left >= PMD_SIZE
    if (whole && target === null) return moveHuge(k, mm, to, src, dst, source)
    const { frames } = k.memory
    const present = (source.bits & PTE_PRESENT) !== 0
    if (present && !k.isHugeZero(source.pfn) && !frames.has(source.pfn, PG_ANON_EXCLUSIVE))
      return busy(k, src)
    splitHugePmd(k, mm, from, pmdIndex(src))
  }
  return movePage(k, mm, to, src, dst, holes)
}

function busy(k: Kernel, address: number): number {
  const why = 'the page is pinned, shared or not known to be exclusive'
  return refuse(k.current, EBUSY, 'R-FLT-124', { address, why })
}

function moveHuge(k: Kernel, mm: Mm, to: Vma, src: number, dst: number, entry: HugePmd): number {
  stopIfSoftDirtyCleared(mm, 'UFFDIO_MOVE')
  const { frames } = k.memory
  const { pageTable } = mm
  const head = entry.pfn
  if (k.isHugeZero(head)) {
    pageTable.setPmd(pmdIndex(src), null)
    pageTable.setPmd(pmdIndex(dst), new HugePmd(head, vmPageProt(to) | PTE_ACCESSED))
    return PMD_SIZE
  }
  if (!frames.has(head, PG_ANON_EXCLUSIVE) || frames.maybeDmaPinned(head)) return busy(k, src)
  pageTable.setPmd(pmdIndex(src), null)
  const end = head + frames.nrPages(head)
  frames.mapping.fill(to.anonVma!.id, head, end)
  for (let pfn = head; pfn < end; pfn++) frames.index[pfn] = to.pageIndex(dst) + (pfn - head)
  const bits = vmPageProt(to) | PTE_ACCESSED | PTE_DIRTY | maybeWrite(to)
  pageTable.setPmd(pmdIndex(dst), new HugePmd(head, bits))
  return PMD_SIZE
}

function movePage(k: Kernel, mm: Mm, to: Vma, src: number, dst: number, holes: boolean): number {
  const { frames } = k.memory
  const source = mm.pageTable.leafFor(src)
  const target = mm.pageTable.leafFor(dst)
  const slot = pteSlot(src)
  const into = pteSlot(dst)
  const word = source.bits[slot]!
  if (target.bits[into] !== 0)
    return refuse(k.current, EEXIST, 'R-FLT-124', { address: dst, why: 'a page is there already' })
  stopIfSoftDirtyCleared(mm, 'UFFDIO_MOVE')
  if (word === 0) {
    if (holes) return PAGE_SIZE
    return refuse(k.current, ENOENT, 'R-FLT-124', { address: src, why: 'the source is empty here' })
  }
  const pfn = source.pfn[slot]!
  if ((word & PTE_PRESENT) === 0) {
    if ((word & PTE_MIGRATION) !== 0)
      return refuse(k.current, EAGAIN, 'R-FLT-124', { address: src, why: 'the page is being migrated' })
    if ((word & PTE_SWAP) === 0)
      return refuse(k.current, EFAULT, 'R-FLT-124', {
        address: src,
        why: 'the source has a marker here, or a device has the page to itself',
      })
    if ((word & PTE_SWAP_EXCLUSIVE) === 0) return busy(k, src)
    source.set(slot, 0, 0)
    target.set(into, pfn, PTE_SWAP | PTE_SWAP_EXCLUSIVE)
    return PAGE_SIZE
  }
  if ((word & PTE_SPECIAL) !== 0) {
    source.set(slot, 0, 0)
    target.set(into, k.zeroPfn, vmPageProt(to) | PTE_SPECIAL | PTE_ACCESSED)
    return PAGE_SIZE
  }
  const head = frames.head(pfn)
  if (!frames.has(head, PG_ANON) || !frames.has(pfn, PG_ANON_EXCLUSIVE)) return busy(k, src)
  if (frames.maybeDmaPinned(head)) return busy(k, src)
  // @rule R-HUGE-26
  if (frames.isLarge(head)) {
    // the page may be the zero page afterwards
    if (!canSplitFolio(k, head) || !splitFolio(k, head)) return busy(k, src)
    return movePage(k, mm, to, src, dst, holes)
  }
  source.set(slot, 0, 0)
  frames.mapping[pfn] = to.anonVma!.id
  frames.index[pfn] = to.pageIndex(dst)
  target.set(into, pfn, vmPageProt(to) | PTE_ACCESSED | PTE_DIRTY | maybeWrite(to))
  return PAGE_SIZE
}
