import { EFAULT, EINTR, ENODEV, ENOMEM, ESRCH } from '../../base/errno.ts'
import type { Kthread } from '../../base/kthread.ts'
import { refuse } from '../../base/refusal.ts'
import { PAGE_SIZE } from '../../base/units.ts'
import { PG_RESERVED } from '../../memory/page-flags.ts'
import { FAULT_FLAG_WRITE } from '../../mm/fault-flags.ts'
import { FOLL_LONGTERM, FOLL_WRITE } from '../../mm/gup-flags.ts'
import { LockedGuard, PageArray, fixupUserFault, pinUserPagesRemote } from '../../mm/gup.ts'
import { pinIsCounted } from '../../mm/gup-grab.ts'
import type { Kernel } from '../../mm/kernel.ts'
import type { Mm } from '../../mm/mm.ts'
import { vmaLookup } from '../../mm/mmap-lock.ts'
import { HugePmd, PTE_PRESENT, PTE_WRITE, pmdIndex, pteSlot } from '../../mm/page-table.ts'
import { unpinUserPage, unpinUserPageRangeDirtyLock } from '../../mm/unpin.ts'
import { VM_PFNMAP } from '../../mm/vm-flags.ts'
import { adjust, charge, dmaMap, memlockLimit } from '../../task/device/charge.ts'
import { isReservedPfn, type VfioDma } from './vfio-dma.ts'

/*
 * @caller VFIO type 1
 * @entry ioctl VFIO_IOMMU_MAP_DMA, attach of an IOMMU group, pages of mediated devices
 * @gup pin_user_pages_remote FOLL_LONGTERM, FOLL_WRITE with IOMMU_WRITE, 512 pages a call; fixup_user_fault for raw mappings
 * @lock mmap_lock for read, kept
 * @budget mm->locked_vm run by run, CAP_IPC_LOCK at map time lifts it
 * @errno ENOMEM over the limit; the real errno of the page
 * @release VFIO_IOMMU_UNMAP_DMA, the last group leaves; dirty with IOMMU_WRITE
 * @test tests/drivers/vfio/iommu-type1.test.ts
 */

/** A page full of page pointers. */
export const VFIO_BATCH = 512

/** Pages that were pinned and have not found their run yet. */
export class VfioBatch {
  readonly pages: PageArray
  offset = 0
  size = 0

  constructor(capacity: number) {
    this.pages = new PageArray(capacity)
  }
}

interface Run {
  readonly pfn: number
  readonly count: number
}

/**
 * `vfio_pin_map_dma`: run after run is pinned and mapped, until all of a dma is.
 * @returns 0, or a negative errno with what came before still pinned: the caller removes the dma
 * @rule R-VFIO-3
 */
export function* pinMapDma(k: Kernel, dma: VfioDma, capacity: number): Kthread<number> {
  const batch = new VfioBatch(capacity)
  let error = 0
  for (;;) {
    takeRuns(k, dma, batch)
    if (dma.runs.pages === dma.pages) break
    const run = yield* pinPagesRemote(k, dma, batch)
    if (typeof run === 'number') {
      error = run
      break
    }
    error = dmaMap(k, 'R-VFIO-3')
    if (error < 0) {
      yield* putRun(k, dma, run, true)
      yield* unpinBatch(k, dma, batch)
      break
    }
    dma.runs.push(run.pfn, run.count)
  }
  dma.iommuMapped = true
  return error
}

/**
 * The runs of a batch that end inside it, as `pinPagesRemote` would take them one by one: for when nothing on the way
 * would wait, fail or be refused. What it leaves in the batch is for that function.
 */
function takeRuns(k: Kernel, dma: VfioDma, batch: VfioBatch): void {
  const { mm, runs } = dma
  if (batch.size === 0) return
  const plain = k.dueFailure === null && !k.exploring && dma.pfnList.size === 0
  if (!plain || mm.users === 0 || mm.mmapLock.locked || k.current.mm === null) return
  const { pfns } = batch.pages
  const { offset, size } = batch
  let stop = offset + size
  // a run that reaches the end of the batch may go on in the next one
  if (size < dma.pages - runs.pages) {
    stop--
    while (stop > offset && continues(k, pfns[stop - 1]!, pfns[stop]!)) stop--
  }
  if (stop <= offset) return
  let charged = 0
  for (let i = offset; i < stop; i++) if (!isReservedPfn(k, pfns[i]!)) charged++
  const limit = Math.min(memlockLimit(k.current), memlockLimit(dma.task))
  if (!dma.lockCap && mm.lockedVm + charged > limit) return
  adjust({ budget: 'mm->locked_vm', mm }, charged)
  dma.lockedVm += charged
  runs.pushPages(pfns.subarray(offset, stop), stop - offset)
  batch.offset = stop
  batch.size = offset + size - stop
}

/** How many entries of a batch follow one another and are, or are not, reserved. */
function stretchOf(k: Kernel, { pages: { pfns }, offset, size }: VfioBatch, reserved: boolean): number {
  const first = pfns[offset]!
  const { flags, count } = k.memory.frames
  let n = 0
  for (; n < size; n++) {
    const pfn = pfns[offset + n]!
    if (pfn !== first + n) break
    // most frames are not reserved: what the word says suffices for them
    const plain = pfn < count && (flags[pfn]! & PG_RESERVED) === 0
    if (plain === reserved || (!plain && isReservedPfn(k, pfn) !== reserved)) break
  }
  return n
}

/** Whether a frame continues the run that another one ends. */
function continues(k: Kernel, pfn: number, next: number): boolean {
  return next === pfn + 1 && isReservedPfn(k, pfn) === isReservedPfn(k, next)
}

/**
 * `vfio_pin_pages_remote`: one physically contiguous run of a dma, behind what it has. Pages are compared with the
 * limit while they are collected, so that a bad page behind the limit is never asked for.
 * @returns the run, charged; or a negative errno with neither run nor batch pinned
 * @rule R-VFIO-4
 * @rule R-VFIO-14
 */
function* pinPagesRemote(k: Kernel, dma: VfioDma, batch: VfioBatch): Kthread<Run | number> {
  if (k.current.mm === null)
    return refuse(k.current, ENODEV, 'R-VFIO-4', { why: 'the task has no address space' })
  const { mm } = dma
  const first = dma.runs.pages
  const { pfns } = batch.pages
  const limit = memlockLimit(k.current)
  let [pfn, count, charged] = [0, 0, 0]
  let reserved = false
  let error = 0
  let refilled = false
  collect: while (first + count < dma.pages) {
    if (batch.size === 0) {
      const wanted = Math.min(dma.pages - first - count, batch.pages.length)
      const vaddr = dma.vaddr + (first + count) * PAGE_SIZE
      const got = yield* vaddrGetPfns(k, mm, vaddr, wanted, dma.write, batch.pages)
      if (got <= 0) {
        error = got
        break
      }
      batch.offset = 0
      batch.size = got
      refilled = true
    }
    if (count === 0) {
      pfn = pfns[batch.offset]!
      reserved = isReservedPfn(k, pfn)
    }
    // the pages that follow one another, at once where the limit has room for all of them
    const stretch = count === 0 || pfns[batch.offset] === pfn + count ? stretchOf(k, batch, reserved) : 0
    const room = reserved || dma.lockCap || mm.lockedVm + charged + stretch <= limit
    if (room && stretch > 0 && dma.pfnList.size === 0) {
      if (!reserved) charged += stretch
      count += stretch
      batch.offset += stretch
      batch.size -= stretch
    }
    for (; batch.size > 0; batch.size--, batch.offset++, count++) {
      const next = pfns[batch.offset]!
      if (next !== pfn + count || isReservedPfn(k, next) !== reserved) break collect
      if (reserved || dma.pfnList.has(first + count)) continue
      if (!dma.lockCap && mm.lockedVm + charged + 1 > limit) {
        error = refuseLimit(k, dma, limit, first + count)
        break collect
      }
      charged++
    }
  }
  // what breaks the run and came alone goes back, and is pinned again for the next run
  if (error === 0 && refilled && batch.size === 1 && batch.offset === 0) yield* unpinBatch(k, dma, batch)
  if (error === 0) error = yield* lockAcct(k, dma, charged)
  if (error === 0) return { pfn, count }
  if (count > 0) yield* putRun(k, dma, { pfn, count }, false)
  yield* unpinBatch(k, dma, batch)
  return error
}

function refuseLimit(k: Kernel, dma: VfioDma, limit: number, page: number): number {
  k.warnOnce(
    `vfio-memlock-${dma.iova}`,
    `vfio_pin_pages_remote: RLIMIT_MEMLOCK (${limit * PAGE_SIZE}) exceeded`,
  )
  return refuse(k.current, ENOMEM, 'R-VFIO-4', {
    address: dma.vaddr + page * PAGE_SIZE,
    page,
    needed: dma.pages,
    used: dma.mm.lockedVm - dma.lockedVm,
    limit,
    budget: 'mm->locked_vm',
    capability: 'CAP_IPC_LOCK',
    why: 'RLIMIT_MEMLOCK leaves no room for the pages of this request',
  })
}

/**
 * `vfio_lock_acct`: charges a run, or takes a charge back, under the write lock of the dma's mm. The limit is that of
 * the task that mapped it.
 * @returns 0, -ENOMEM, -EINTR, or -ESRCH when the address space has gone
 */
export function* lockAcct(k: Kernel, dma: VfioDma, pages: number): Kthread<number> {
  if (pages === 0) return 0
  const { mm } = dma
  if (mm.users === 0) {
    if (pages < 0) dma.lockedVm += pages
    return -ESRCH
  }
  const guard = mm.mmapLock.tryWrite() ?? (yield* mm.mmapLock.writeKillable())
  if (typeof guard === 'number')
    return refuse(k.current, EINTR, 'R-VFIO-4', { why: 'the calling task is being killed' })
  const account = { budget: 'mm->locked_vm', mm } as const
  let error = 0
  if (pages < 0) adjust(account, pages)
  else {
    const terms = {
      rule: 'R-VFIO-4',
      exempt: dma.lockCap,
      capability: 'CAP_IPC_LOCK',
      task: dma.task,
    } as const
    error = charge(k, account, pages, terms)
  }
  guard.release()
  if (error === 0) dma.lockedVm += pages
  return error
}

/**
 * `put_pfn` for a run: dirty where the device may have written.
 * @param charged whether the pages have been charged
 * @rule R-VFIO-7
 */
export function* putRun(k: Kernel, dma: VfioDma, { pfn, count }: Run, charged: boolean): Kthread<void> {
  if (isReservedPfn(k, pfn)) return
  yield* unpinUserPageRangeDirtyLock(k, pfn, count, dma.write)
  if (charged) yield* lockAcct(k, dma, -count)
}

/** Pages of a batch that nobody took. */
function* unpinBatch(k: Kernel, dma: VfioDma, batch: VfioBatch): Kthread<void> {
  for (; batch.size > 0; batch.size--, batch.offset++) {
    yield* putRun(k, dma, { pfn: batch.pages.pfns[batch.offset]!, count: 1 }, false)
  }
}

/**
 * `vaddr_get_pfns`: pins pages for long, or looks one frame of a raw mapping up.
 * @returns frames in `pages`, at least 1; or a negative errno
 * @rule R-VFIO-5
 */
export function* vaddrGetPfns(
  k: Kernel,
  mm: Mm,
  vaddr: number,
  n: number,
  write: boolean,
  pages: PageArray,
): Kthread<number> {
  const flags = FOLL_LONGTERM | (write ? FOLL_WRITE : 0)
  const guard = mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.read())
  const got = yield* pinUserPagesRemote(k, mm, vaddr, n, flags, pages, guard)
  if (got > 0) {
    guard.release()
    // the zero page counts as reserved: where it is pinned, it is let go at once
    for (let i = 0; i < got; i++) {
      if (pages.pfns[i] === k.zeroPfn && pinIsCounted(k, k.zeroPfn)) unpinUserPage(k, k.zeroPfn)
    }
    return got
  }
  const vma = vmaLookup(guard, vaddr)
  if (vma === null || (vma.flags & VM_PFNMAP) === 0) {
    guard.release()
    return got
  }
  const lock = new LockedGuard(guard)
  const pfn = yield* followFaultPfn(k, mm, vaddr, write, lock)
  lock.guard?.release()
  if (pfn < 0) return pfn
  if (!isReservedPfn(k, pfn))
    return refuse(k.current, EFAULT, 'R-VFIO-5', {
      address: vaddr,
      why: 'a raw mapping of ordinary memory is neither pinned nor device memory',
    })
  pages.pfns[0] = pfn
  return 1
}

/** `follow_fault_pfn`: reads the entry of a raw mapping, faulting it in once. @returns the frame, or -errno */
function* followFaultPfn(
  k: Kernel,
  mm: Mm,
  vaddr: number,
  write: boolean,
  lock: LockedGuard,
): Kthread<number> {
  let bits = entryBits(mm, vaddr)
  if ((bits & PTE_PRESENT) === 0) {
    const error = yield* fixupUserFault(k, mm, vaddr, write ? FAULT_FLAG_WRITE : 0, lock)
    if (error < 0) return error
    bits = entryBits(mm, vaddr)
  }
  const forbidden = write && (bits & PTE_WRITE) === 0
  if (forbidden || (bits & PTE_PRESENT) === 0)
    return refuse(k.current, EFAULT, 'R-VFIO-5', {
      address: vaddr,
      why: forbidden ? 'the raw mapping cannot be written' : 'the raw mapping has no frame here',
    })
  const entry = mm.pageTable.pmd(pmdIndex(vaddr))!
  return entry instanceof HugePmd ? entry.pfn + pteSlot(vaddr) : entry.pfn[pteSlot(vaddr)]!
}

function entryBits(mm: Mm, vaddr: number): number {
  const entry = mm.pageTable.pmd(pmdIndex(vaddr))
  if (entry === null) return 0
  return entry instanceof HugePmd ? entry.bits : entry.bits[pteSlot(vaddr)]!
}
