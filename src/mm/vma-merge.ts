import { EINVAL, ENOMEM } from '../base/errno.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE, PMD_SIZE, PUD_SIZE } from '../base/units.ts'
import type { OpenFile } from './file.ts'
import { splitHugePmd } from './huge-memory.ts'
import { unshareHugetlbTable } from './hugetlb-share.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import { HugePmd, pmdIndex } from './page-table.ts'
import { uprobeMmap } from './uprobe-hooks.ts'
import { Vma, vmaFacts } from './vma.ts'
import type { VmaTree } from './vma-tree.ts'
import { cloneAnonVmas, insertVma, removeVma } from './vma-link.ts'
import { VM_MAYBE_GUARD, VM_SOFTDIRTY, VM_SPECIAL } from './vm-flags.ts'
import type { Userfaultfd } from './userfaultfd-context.ts'

/** What a range would be if it were a VMA: what merging compares. */
export interface VmaShape {
  readonly flags: number
  readonly highFlags: number
  readonly file: OpenFile | null
  readonly uffd: Userfaultfd | null
  readonly policy: object | null
  readonly anonName: string | null
}

/** What a VMA is, with something changed: the shape for `vmaModify`. */
export function changedShape(vma: Vma, changes: Partial<VmaShape>): VmaShape {
  const { flags, highFlags, file, uffd, policy, anonName } = vma
  return { flags, highFlags, file, uffd, policy, anonName, ...changes }
}

/**
 * Could a neighbour and a range of this shape be one VMA, pgoff and anon_vma apart?
 * @rule R-AS-130
 * @rule R-AS-134
 * @rule R-AS-126
 */
function sameKind(k: Kernel, vma: Vma, shape: VmaShape): boolean {
  return (
    ((vma.flags ^ shape.flags) & ~STICKY) === 0 &&
    vma.highFlags === shape.highFlags &&
    vma.file === shape.file &&
    vma.uffd === shape.uffd &&
    vma.policy === shape.policy &&
    vma.anonName === shape.anonName &&
    (shape.flags & VM_SPECIAL) === 0 &&
    vma.specialName === null &&
    (vma.file === null || !vma.file.mapping.kind.closeHook || k.release.mm.closeHookExpandable)
  )
}

/** Flags that do not keep VMAs apart: the merged one has them when any part had. */
const STICKY = VM_SOFTDIRTY | VM_MAYBE_GUARD

/** A merge must not remove a VMA whose vm_ops have a close hook (R-AS-134). */
function mayRemove(vma: Vma): boolean {
  return vma.file === null || !vma.file.mapping.kind.closeHook
}

/**
 * May a range with this anon_vma be absorbed by a neighbour?
 * @param source the VMA whose range it is; null for a new one
 * @rule R-AS-132
 */
function anonCompatible(k: Kernel, source: Vma | null, target: Vma): boolean {
  const own = source === null ? null : source.anonVma
  if (own === target.anonVma) return true
  if (own === null) return target.anonVmaChain.length === 1
  if (target.anonVma !== null) return false
  return k.release.mm.touchedMergesIntoUntouched && source!.anonVmaChain.length === 1
}

/** May a range that begins at `start` with page `pgoff` become the end of `previous`? */
function joinsPrevious(
  k: Kernel,
  source: Vma | null,
  previous: Vma | null,
  start: number,
  pgoff: number,
  shape: VmaShape,
): boolean {
  return (
    previous !== null &&
    previous.end === start &&
    previous.pgoff + previous.pages === pgoff &&
    sameKind(k, previous, shape) &&
    anonCompatible(k, source, previous)
  )
}

/** May a range that ends at `end`, before page `pgoff`, become the beginning of `next`? */
function joinsNext(
  k: Kernel,
  source: Vma | null,
  next: Vma | null,
  end: number,
  pgoff: number,
  shape: VmaShape,
): boolean {
  return (
    next !== null &&
    next.start === end &&
    next.pgoff === pgoff &&
    sameKind(k, next, shape) &&
    anonCompatible(k, source, next)
  )
}

/** Merging over both sides: prev and next have the same anon_vma, or one has none. */
function sidesCompatible(previous: Vma, next: Vma): boolean {
  return previous.anonVma === next.anonVma || previous.anonVma === null || next.anonVma === null
}

/** `target` is about to cover pages of `source`, or a new range of some shape. */
function adopt(target: Vma, source: Vma | null, shape: VmaShape | null = null): void {
  if (shape !== null) target.flags |= shape.flags & STICKY
  if (source === null) return
  target.flags |= source.flags & STICKY
  if (source.anonVma !== null && target.anonVma === null) cloneAnonVmas(target, source)
}

/**
 * Merges a new range [start, end) into its neighbours.
 * @param pgoff of the first page
 * @param source the VMA whose pages will come here (mremap); null for fresh memory
 * @returns the VMA that now covers the range, or null when it needs one of its own
 * @rule R-AS-131
 * @rule R-AS-135
 * @rule R-AS-137
 */
export function mergeNewRange(
  k: Kernel,
  mm: Mm,
  vmas: VmaTree,
  previous: Vma | null,
  next: Vma | null,
  start: number,
  end: number,
  pgoff: number,
  shape: VmaShape,
  source: Vma | null,
): Vma | null {
  let left = joinsPrevious(k, source, previous, start, pgoff, shape)
  // a mapping that grows up to an untouched neighbour takes it in, whatever its own anon_vmas
  const grows = k.release.mm.touchedMergesIntoUntouched && source === previous && next?.anonVma === null
  const right = joinsNext(k, grows ? null : source, next, end, pgoff + (end - start) / PAGE_SIZE, shape)
  if (right && previous !== null && source === null && !k.release.mm.mergePrefersPrevious) {
    // mmap took next first: prev must fit next's anon_vma, not the new range's
    left = left && anonCompatible(k, next, previous)
  }
  if (left && right && sidesCompatible(previous!, next!) && mayRemove(next!)) {
    adopt(previous!, next)
    adopt(previous!, source, shape)
    const { end: newEnd } = next!
    removeVma(mm, vmas, next!)
    vmas.resize(previous!, previous!.start, newEnd)
    return previous
  }
  if (left) {
    adopt(previous!, source, shape)
    vmas.resize(previous!, previous!.start, end)
    return previous
  }
  if (right) {
    adopt(next!, source, shape)
    next!.pgoff = pgoff
    vmas.resize(next!, start, next!.end)
    return next
  }
  return null
}

/**
 * `vma_modify`: makes [start, end), which lies inside `vma`, a VMA of the given shape, by
 * merging it into neighbours that have the shape already or by splitting.
 * @returns the VMA that covers [start, end) now (maybe more, after a merge), or -ENOMEM, -EINVAL
 * @rule R-AS-136
 */
export function vmaModify(
  k: Kernel,
  mm: Mm,
  vmas: VmaTree,
  vma: Vma,
  start: number,
  end: number,
  shape: VmaShape,
): Vma | number {
  const merged = mergeChangedRange(k, mm, vmas, vma, start, end, shape)
  if (merged !== null) return merged
  if (vma.start < start) {
    const error = splitVma(k, mm, vmas, vma, start, true)
    if (error < 0) return error
  }
  if (vma.end > end) {
    const error = splitVma(k, mm, vmas, vma, end, false)
    if (error < 0) return error
  }
  vma.flags = shape.flags
  vma.highFlags = shape.highFlags
  vma.uffd = shape.uffd
  vma.policy = shape.policy
  vma.anonName = shape.anonName
  return vma
}

function mergeChangedRange(
  k: Kernel,
  mm: Mm,
  vmas: VmaTree,
  vma: Vma,
  start: number,
  end: number,
  shape: VmaShape,
): Vma | null {
  const { previous, next } = vma
  const pgoff = vma.pgoff + (start - vma.start) / PAGE_SIZE
  const whole = start === vma.start && end === vma.end
  if (vma.specialName !== null || (whole && !mayRemove(vma))) return null
  const left = start === vma.start && joinsPrevious(k, vma, previous, start, pgoff, shape)
  const right = end === vma.end && joinsNext(k, vma, next, end, pgoff + (end - start) / PAGE_SIZE, shape)
  if (left && right && sidesCompatible(previous!, next!) && mayRemove(next!)) {
    adopt(previous!, vma)
    adopt(previous!, next)
    const { end: newEnd } = next!
    removeVma(mm, vmas, next!)
    removeVma(mm, vmas, vma)
    vmas.resize(previous!, previous!.start, newEnd)
    uprobeMmap(k, mm, previous!)
    return previous
  }
  if (left) {
    adopt(previous!, vma)
    if (whole) removeVma(mm, vmas, vma)
    else {
      splitPmdAt(k, mm, vma, end)
      vma.pgoff += (end - start) / PAGE_SIZE
      vmas.resize(vma, end, vma.end)
    }
    vmas.resize(previous!, previous!.start, end)
    uprobeMmap(k, mm, previous!)
    if (!whole) uprobeMmap(k, mm, vma)
    return previous
  }
  if (right) {
    adopt(next!, vma)
    if (whole) removeVma(mm, vmas, vma)
    else {
      splitPmdAt(k, mm, vma, start)
      vmas.resize(vma, vma.start, start)
    }
    next!.pgoff = pgoff
    vmas.resize(next!, start, next!.end)
    uprobeMmap(k, mm, next!)
    if (!whole) uprobeMmap(k, mm, vma)
    return next
  }
  return null
}

/**
 * `split_vma`: cuts a VMA in two at `address`; `vma` itself stays the upper part with `newBelow`, the
 * lower one without.
 * @returns 0, -ENOMEM at the map_count limit, -EINVAL where the mapping cannot be cut
 * @rule R-AS-52
 */
export function splitVma(
  k: Kernel,
  mm: Mm,
  vmas: VmaTree,
  vma: Vma,
  address: number,
  newBelow: boolean,
): number {
  if (mm.mapCount >= k.settings.maxMapCount) {
    return refuse(k.current, ENOMEM, 'R-AS-52', {
      vma: vmaFacts(vma),
      used: mm.mapCount,
      limit: k.settings.maxMapCount,
      why: 'splitting the mapping would exceed vm.max_map_count',
    })
  }
  return splitVmaUnlimited(k, mm, vmas, vma, address, newBelow)
}

/** `__split_vma`: as `splitVma`, without the limit, for munmap (R-AS-52). */
export function splitVmaUnlimited(
  k: Kernel,
  mm: Mm,
  vmas: VmaTree,
  vma: Vma,
  address: number,
  newBelow: boolean,
): number {
  const error = checkSplit(k, vma, address)
  if (error < 0) return error
  splitPmdAt(k, mm, vma, address)
  const cut = vma.pgoff + (address - vma.start) / PAGE_SIZE
  const other = newBelow
    ? new Vma(vma.start, address, vma.flags, vma.pgoff, vma.file, vma.highFlags)
    : new Vma(address, vma.end, vma.flags, cut, vma.file, vma.highFlags)
  other.uffd = vma.uffd
  other.policy = vma.policy
  other.anonName = vma.anonName
  other.specialName = vma.specialName
  other.hugetlb = vma.hugetlb
  if (vma.file !== null) vma.file.get()
  if (vma.anonVmaChain.length > 0) cloneAnonVmas(other, vma)
  if (newBelow) {
    vma.pgoff = cut
    vmas.resize(vma, address, vma.end)
    insertVma(mm, vmas, other, vma.previous, vma)
  } else {
    vmas.resize(vma, vma.start, address)
    insertVma(mm, vmas, other, vma, vma.next)
  }
  uprobeMmap(k, mm, vma)
  uprobeMmap(k, mm, other)
  return 0
}

/**
 * A border between two VMAs comes to lie at an address: a huge page mapped across it by one entry is mapped
 * page by page from then on.
 * @rule R-HUGE-25
 */
function splitPmdAt(k: Kernel, mm: Mm, vma: Vma, address: number): void {
  if (vma.isHugetlb && address % PUD_SIZE !== 0) unshareHugetlbTable(mm, vma, pmdIndex(address))
  if (address % PMD_SIZE === 0 || vma.isHugetlb) return
  const index = pmdIndex(address)
  if (mm.pageTable.pmd(index) instanceof HugePmd) splitHugePmd(k, mm, vma, index)
}

/** vm_ops->may_split: whole huge pages only; vdso and the like not at all. */
export function checkSplit(k: Kernel, vma: Vma, address: number): number {
  // @rule R-AS-60
  if (vma.isHugetlb) {
    const { pageSize } = vma.file!.mapping
    if (Math.floor(address / pageSize) * pageSize === address) return 0
    return refuse(k.current, EINVAL, 'R-AS-60', {
      address,
      vma: vmaFacts(vma),
      why: 'a huge page cannot be split between two mappings',
    })
  }
  if (vma.specialName === null) return 0
  return refuse(k.current, EINVAL, 'R-AS-60', {
    address,
    vma: vmaFacts(vma),
    why: 'this kernel-provided mapping can only be changed as a whole',
  })
}
