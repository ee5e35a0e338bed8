import { ENOMEM } from '../base/errno.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE, PMD_SIZE } from '../base/units.ts'
import { SYSV_HUGETLB, type AddressSpace, type OpenFile } from './file.ts'
import { hugetlbPool, type HugetlbPool, type HugetlbSubpool } from './hugetlb-pool.ts'
import type { Kernel } from './kernel.ts'
import { VM_MAYSHARE, VM_NORESERVE } from './vm-flags.ts'
import { vmaFacts, type Vma } from './vma.ts'

/** What a hugetlb file has besides its pages. */
export class HugetlbFile {
  readonly pool: HugetlbPool
  readonly subpool: HugetlbSubpool | null
  /** huge page indices that shared mappings were promised or already got */
  readonly reserved = new Set<number>()

  constructor(pool: HugetlbPool, subpool: HugetlbSubpool | null) {
    this.pool = pool
    this.subpool = subpool
  }
}

/** Which pages of a private mapping its owner was promised and has not taken yet. */
export class HugetlbReserveMap {
  /** huge page indices, end exclusive */
  readonly start: number
  readonly end: number
  readonly #taken = new Set<number>()

  constructor(start: number, end: number) {
    this.start = start
    this.end = end
  }

  has(index: number): boolean {
    return index >= this.start && index < this.end && !this.#taken.has(index)
  }

  take(index: number): void {
    this.#taken.add(index)
  }

  /** @returns whether the page had been taken from this map */
  giveBack(index: number): boolean {
    return this.#taken.delete(index)
  }

  /** Promises left in a range. */
  count(start: number, end: number): number {
    const low = Math.max(start, this.start)
    const high = Math.min(end, this.end)
    let left = Math.max(0, high - low)
    for (const index of this.#taken) if (index >= low && index < high) left--
    return left
  }
}

/** What is hung on a private hugetlb VMA. Replaced, never changed: halves of a split VMA share it. */
export interface HugetlbVma {
  /** HPAGE_RESV_OWNER: the reservation; null in whoever forked from the owner */
  readonly map: HugetlbReserveMap | null
  /** HPAGE_RESV_UNMAPPED: the owner took its pages away (R-HUGE-48) */
  readonly unmapped: boolean
}

/** The hugetlb side of a file; made at first use. */
export function hugetlbFile(k: Kernel, mapping: AddressSpace): HugetlbFile {
  return (mapping.hugetlb ??= new HugetlbFile(hugetlbPool(k, mapping.pageSize), null))
}

/** The huge page of the file that an address of a hugetlb VMA shows. */
export function hugetlbIndex(vma: Vma, address: number): number {
  return Math.floor(vma.pageIndex(address) / pagesPerHuge(vma))
}

/** 4 KiB pages in one huge page of a hugetlb VMA. */
export function pagesPerHuge(vma: Vma): number {
  return vma.file!.mapping.pageSize / PAGE_SIZE
}

/** The first PMD entry of the huge page that one of its entries belongs to; they stand in line. */
export function firstPart(vma: Vma, pmd: number): number {
  return pmd - (pmd % (vma.file!.mapping.pageSize / PMD_SIZE))
}

/** The VMA was promised the pages it maps (HPAGE_RESV_OWNER). */
export function isReservationOwner(vma: Vma): boolean {
  return vma.hugetlb !== null && vma.hugetlb.map !== null
}

/**
 * Promises the pages of a new mapping: those of a shared one belong to the file, those of a private one
 * to this VMA. A mapping with VM_NORESERVE is promised nothing, nor is an attachment of SysV memory: what shmget
 * has not promised, or a hole has taken back, stays so.
 * @param startIndex first huge page of the file (units of its page size)
 * @param endIndex one past the last
 * @returns 0, or -ENOMEM when the pool or the subpool cannot promise that many
 * @rule R-AS-57
 * @rule R-HUGE-41
 * @rule R-AS-58
 * @rule R-HUGE-58
 */
export function hugetlbReserve(
  k: Kernel,
  vma: Vma,
  file: OpenFile,
  startIndex: number,
  endIndex: number,
): number {
  if ((vma.flags & VM_NORESERVE) !== 0 || file.mapping.kind === SYSV_HUGETLB) return 0
  if ((vma.flags & VM_MAYSHARE) !== 0) return hugetlbReserveFile(k, file.mapping, startIndex, endIndex, vma)
  const error = promise(k, hugetlbFile(k, file.mapping), endIndex - startIndex, vma)
  if (error === 0) vma.hugetlb = { map: new HugetlbReserveMap(startIndex, endIndex), unmapped: false }
  return error
}

/**
 * Promises pages of a file to all its shared mappings, those already promised excepted. SysV shared
 * memory does this at shmget time, without a VMA.
 * @returns 0 or -ENOMEM
 */
export function hugetlbReserveFile(
  k: Kernel,
  mapping: AddressSpace,
  startIndex: number,
  endIndex: number,
  vma: Vma | null = null,
): number {
  const file = hugetlbFile(k, mapping)
  let missing = endIndex - startIndex
  for (const index of file.reserved) if (index >= startIndex && index < endIndex) missing--
  const error = promise(k, file, missing, vma)
  if (error < 0) return error
  for (let index = startIndex; index < endIndex; index++) file.reserved.add(index)
  return 0
}

function promise(k: Kernel, file: HugetlbFile, pages: number, vma: Vma | null): number {
  const { pool, subpool } = file
  const facts = vma === null ? {} : { vma: vmaFacts(vma) }
  if (subpool !== null && !subpool.take(pages)) {
    const got = subpool.max - subpool.used
    return refuse(k.current, ENOMEM, 'R-HUGE-41', {
      ...facts,
      wanted: pages,
      got,
      why: 'the mount of the huge page file has no room for this many huge pages',
    })
  }
  if (pool.reserve(pages)) return 0
  subpool?.give(pages)
  return refuse(k.current, ENOMEM, 'R-HUGE-41', {
    ...facts,
    wanted: pages,
    got: Math.max(0, pool.available),
    why: 'the pool has too few huge pages that are neither in use nor reserved',
  })
}

/**
 * A range of a private mapping goes away for good: what its owner was promised there and did not take
 * is free for others again. Reservations of shared mappings stay with the file.
 * Called once for every piece of VMA that is unmapped, after its pages were zapped.
 * @param startIndex first huge page of the file
 * @param endIndex one past the last
 */
export function hugetlbUnreserve(k: Kernel, vma: Vma, startIndex: number, endIndex: number): void {
  const map = vma.hugetlb?.map ?? null
  if (map === null || vma.file === null) return
  const { pool, subpool } = hugetlbFile(k, vma.file.mapping)
  const left = map.count(startIndex, endIndex)
  pool.unreserve(left)
  subpool?.give(left)
}

/**
 * The pages moved to another VMA (mremap), which carries the promise on: the old one must not give it back.
 * The old VMA is still whole here, and all of it forgets: what it was promised beyond the part that moved
 * stays reserved for good, and its pages come from what is left over like a child's.
 * @param old the VMA that pages were moved out of, before the range is unmapped
 * @param start first huge page of the file that moved
 * @param end one past the last
 * @rule R-HUGE-59
 */
export function hugetlbReserveMoved(k: Kernel, old: Vma, start: number, end: number): void {
  const map = old.hugetlb?.map ?? null
  old.hugetlb = null
  if (map === null) return
  const unit = pagesPerHuge(old)
  const first = old.pgoff / unit
  const lost = map.count(first, first + old.pages / unit) - map.count(start, end)
  const { pool, subpool } = hugetlbFile(k, old.file!.mapping)
  pool.orphaned += lost
  if (subpool !== null) subpool.orphaned += lost
}
