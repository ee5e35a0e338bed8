import { EFAULT, EINVAL, ENOMEM, EOVERFLOW } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE } from '../base/units.ts'
import { PG_DRIVER, PG_UPTODATE } from '../memory/page-flags.ts'
import type { Kernel, UserStruct } from '../mm/kernel.ts'
import { PageArray } from '../mm/page-array.ts'
import { unpinUserPages } from '../mm/unpin.ts'
import { accountLocked, unaccountLocked } from './memlock.ts'
import { ioPinPages } from './rsrc.ts'
import { signed64, unsigned64 } from './user-args.ts'

/**
 * `struct io_mapped_region`: memory that program and kernel share. Pages of the kernel, which the program may
 * map, or pinned pages of the program. The pins count in no VmPin and are never widened to whole folios.
 * @rule R-URING-49
 */
export class Region {
  readonly pages: PageArray
  /** pinned pages of the program; otherwise the region owns one reference on each page */
  readonly pinned: boolean
  /** pages charged to the ring's user */
  readonly charged: number

  constructor(pages: PageArray, pinned: boolean, charged: number) {
    this.pages = pages
    this.pinned = pinned
    this.charged = charged
  }

  /** For the audit: what the region holds. */
  forEachPage(visit: (pfn: number, references: number, pins: number) => void): void {
    const { pfns, length } = this.pages
    for (let i = 0; i < length; i++) visit(pfns[i]!, this.pinned ? 0 : 1, this.pinned ? 1 : 0)
  }
}

/**
 * A region of kernel pages.
 * @param user whose locked_vm is charged, where the release does
 * @returns the region, or -ENOMEM with nothing charged
 * @rule R-URING-8
 */
export function kernelRegion(k: Kernel, user: UserStruct | null, nrPages: number): Region | number {
  const charged = k.release.ioUring.chargesRingMemory && user !== null ? nrPages : 0
  const error = accountLocked(k, user, charged)
  if (error < 0) return error
  const pages = new PageArray(nrPages)
  for (let i = 0; i < nrPages; i++) {
    const pfn = k.memory.allocFolio(0, { movable: false })
    if (pfn === 0) {
      for (let done = 0; done < i; done++) k.memory.put(pages.pfns[done]!)
      unaccountLocked(user, charged)
      return -ENOMEM
    }
    k.memory.frames.set(pfn, PG_DRIVER | PG_UPTODATE)
    pages.pfns[i] = pfn
  }
  return new Region(pages, false, charged)
}

/**
 * A region of the program's own memory: charged by whole pages, then pinned.
 * @param base user address, signed
 * @param bytes at least 1
 * @returns the region, or -EFAULT, -EINVAL, -EOVERFLOW, -ENOMEM or what pinning gives, with nothing pinned or charged
 * @rule R-URING-49
 * @rule R-URING-79
 */
export function* userRegion(
  k: Kernel,
  user: UserStruct | null,
  base: number,
  bytes: number,
): Kthread<Region | number> {
  const start = signed64(base)
  const refused = (errno: number, why: string): number =>
    refuse(k.current, errno, 'R-URING-79', { address: unsigned64(start), why })
  if (start === 0) return refused(EFAULT, 'the memory has no address')
  if (start % PAGE_SIZE !== 0) return refused(EINVAL, 'the memory does not begin with a page')
  const nrPages = Math.ceil(bytes / PAGE_SIZE)
  if (start < 0 && start + nrPages * PAGE_SIZE >= 0)
    return refused(EOVERFLOW, 'the end of the memory wraps around the address space')
  const charged = k.release.ioUring.chargesRingMemory && user !== null ? nrPages : 0
  const error = accountLocked(k, user, charged)
  if (error < 0) return error
  const pages = yield* ioPinPages(k, start, nrPages * PAGE_SIZE)
  if (typeof pages === 'number') {
    unaccountLocked(user, charged)
    return pages
  }
  if (k.release.ioUring.regionsContiguous && !inARow(pages)) {
    unpinUserPages(k, pages, nrPages)
    return refused(EINVAL, 'the pages of the memory do not follow one another')
  }
  return new Region(pages, true, charged)
}

function inARow({ pfns, length }: PageArray): boolean {
  for (let i = 1; i < length; i++) if (pfns[i] !== pfns[0]! + i) return false
  return true
}

/** Gives back what a region holds and charged. */
export function freeRegion(k: Kernel, user: UserStruct | null, { pages, pinned, charged }: Region): void {
  if (pinned) unpinUserPages(k, pages, pages.length)
  else for (let i = 0; i < pages.length; i++) k.memory.put(pages.pfns[i]!)
  unaccountLocked(user, charged)
}
