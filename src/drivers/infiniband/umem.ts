import { EINVAL, EOPNOTSUPP } from '../../base/errno.ts'
import type { Kthread } from '../../base/kthread.ts'
import { refuse } from '../../base/refusal.ts'
import { PAGE_SIZE, pageAlign, pageAlignDown } from '../../base/units.ts'
import { FOLL_FORCE, FOLL_LONGTERM, FOLL_WRITE } from '../../mm/gup-flags.ts'
import { PageArray, pinUserPagesFast } from '../../mm/gup.ts'
import type { Kernel, PinCharge } from '../../mm/kernel.ts'
import type { Mm } from '../../mm/mm.ts'
import { adjust, canDoMlock, canLock, charge, dmaMap, kmalloc } from '../../task/device/charge.ts'
import { PageRuns, unpinRuns, visitPins } from '../../task/device/runs.ts'
import { IB_ACCESS_ON_DEMAND, isWritable } from './access.ts'
import type { MrMemory } from './uverbs.ts'

/*
 * @caller RDMA umem
 * @entry ibv_reg_mr(3), ibv_create_cq(3) and others
 * @gup pin_user_pages_fast FOLL_LONGTERM, FOLL_WRITE for writable access, 512 pages a call; 6.1 FOLL_WRITE always and FOLL_FORCE
 * @lock none held
 * @budget VmPin before the pin, CAP_IPC_LOCK lifts it
 * @errno ENOMEM over the limit, EPERM for a limit of 0; the real errno of the page
 * @release DEREG_MR, close; dirty when writable
 * @test tests/drivers/infiniband/umem.test.ts
 */

/** pages pinned by one GUP call: a page full of pointers */
export const PAGES_PER_CALL = 512
const U32_MAX = 2 ** 32 - 1
const TWO_64 = 2 ** 64

/** `struct ib_umem`: user memory pinned for an RDMA device. */
export class IbUmem implements MrMemory {
  readonly kernel: Kernel
  /** whose VmPin is charged, whoever releases it. @rule R-UMEM-7 */
  readonly owningMm: Mm
  readonly address: number
  readonly length: number
  readonly writable: boolean
  /**
   * The scatterlist: contiguous pages are merged, no page array remains.
   * @rule R-UMEM-5
   */
  readonly runs = new PageRuns()
  /** pages charged */
  readonly nrPages: number

  constructor(k: Kernel, mm: Mm, address: number, length: number, writable: boolean, nrPages: number) {
    this.kernel = k
    this.owningMm = mm
    this.address = address
    this.length = length
    this.writable = writable
    this.nrPages = nrPages
  }

  forEachReference(visit: (pfn: number, references: number, pins: number) => void): void {
    visitPins(this.kernel, this.runs, visit)
  }

  charges(): readonly PinCharge[] {
    return [{ user: null, lockedVm: 0, mm: this.owningMm, pinnedVm: this.nrPages }]
  }

  pfnAt(page: number): number {
    return this.runs.pfnAt(page)
  }

  /** `ib_umem_release`. @rule R-UMEM-6 */
  *release(): Kthread<void> {
    yield* unpinRuns(this.kernel, this.runs, this.writable)
    adjust({ budget: 'mm->pinned_vm', mm: this.owningMm }, -this.nrPages)
  }
}

/** Whether an area or its rounding to pages leaves the 64-bit address space. */
export function wrapsAround(address: number, length: number): boolean {
  return address + length >= TWO_64 || pageAlign(address + length) >= TWO_64
}

/** Pages from the one the area starts in to the one it ends in. */
export function pagesIn(address: number, length: number): number {
  return (pageAlign(address + length) - pageAlignDown(address)) / PAGE_SIZE
}

/** FOLL_* flags of the RDMA pins that follow the access. @rule R-DRV-16 */
export function pinFlags(k: Kernel, writable: boolean): number {
  if (k.release.drivers.forcesPins) return FOLL_WRITE | FOLL_LONGTERM | (writable ? 0 : FOLL_FORCE)
  return FOLL_LONGTERM | (writable ? FOLL_WRITE : 0)
}

/**
 * `ib_umem_get`: charges, pins for long and maps for the device.
 * @param address user address in bytes; an area that does not begin with a page costs one page more
 * @param length bytes
 * @param access IB_ACCESS_*
 * @returns the umem; -EINVAL, -EPERM when the limit is 0, -EOPNOTSUPP, -ENOMEM over RLIMIT_MEMLOCK, or what
 *   pinning gives. Nothing is pinned or charged then
 * @rule R-UMEM-3
 */
export function* ibUmemGet(
  k: Kernel,
  address: number,
  length: number,
  access: number,
): Kthread<IbUmem | number> {
  const refused = (errno: number, why: string): number =>
    refuse(k.current, errno, 'R-UMEM-3', { address, why })
  if (wrapsAround(address, length))
    return refused(EINVAL, 'the end of the area wraps around the address space')
  const forbidden = canDoMlock(k)
  if (forbidden < 0) return forbidden
  if ((access & IB_ACCESS_ON_DEMAND) !== 0) return refused(EOPNOTSUPP, 'ON_DEMAND memory is not pinned')
  const noMemory = kmalloc(k, 'R-UMEM-3')
  if (noMemory < 0) return noMemory
  const nrPages = pagesIn(address, length)
  if (nrPages === 0 || nrPages > U32_MAX) return refused(EINVAL, 'no pages, or 2^32 and more')
  const { mm } = k.current
  if (mm === null) throw new Error('ib_umem_get by a task without an address space')
  const account = { budget: 'mm->pinned_vm', mm } as const
  const terms = { rule: 'R-UMEM-3', exempt: canLock(k), capability: 'CAP_IPC_LOCK' } as const
  const over = charge(k, account, nrPages, terms)
  if (over < 0) return over
  const umem = new IbUmem(k, mm, address, length, isWritable(access), nrPages)
  let error = yield* pinInto(k, umem)
  if (error === 0) error = kmalloc(k, 'R-UMEM-3') || dmaMap(k, 'R-UMEM-3')
  if (error === 0) return umem
  yield* unpinRuns(k, umem.runs, false)
  adjust(account, -nrPages)
  return error
}

/**
 * The pin loop: 512 pages a call without the lock, until all are there or one cannot be had.
 * A page that a userfaultfd serves is waited for where fast pins may let go of the lock.
 * @rule R-UMEM-4
 * @rule R-UMEM-11
 * @rule R-DRV-7
 * @rule R-DRV-9
 */
function* pinInto(k: Kernel, umem: IbUmem): Kthread<number> {
  const flags = pinFlags(k, umem.writable)
  const pages = new PageArray(Math.min(umem.nrPages, PAGES_PER_CALL))
  const start = pageAlignDown(umem.address)
  for (let done = 0; done < umem.nrPages;) {
    const wanted = Math.min(umem.nrPages - done, PAGES_PER_CALL)
    const got = yield* pinUserPagesFast(k, start + done * PAGE_SIZE, wanted, flags, pages)
    if (got < 0) return got
    umem.runs.pushPages(pages.pfns, got)
    done += got
  }
  return 0
}
