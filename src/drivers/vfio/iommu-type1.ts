import { EBUSY, EEXIST, EFAULT, EINTR, EINVAL, ENOENT, ENOSPC, ENOTTY } from '../../base/errno.ts'
import { WaitQueue, type Kthread } from '../../base/kthread.ts'
import { Mutex } from '../../base/locks.ts'
import { refuse } from '../../base/refusal.ts'
import { PAGE_SIZE } from '../../base/units.ts'
import type { Unreadable } from '../../mm/iovec.ts'
import type { Kernel, PinCharge } from '../../mm/kernel.ts'
import { adjust, charge, kmalloc } from '../../task/device/charge.ts'
import { Device } from '../../task/device/device.ts'
import { deviceRead, deviceWrite } from '../../task/device/dma.ts'
import { checkBitmap, copyDirty, freeBitmaps, newBitmap } from './dirty-pages.ts'
import type { MdevGroup, VfioGroup } from './group.ts'
import { VFIO_BATCH, lockAcct, pinMapDma, putRun } from './pin-pages.ts'
import {
  VFIO_DMA_MAP_FLAG_READ,
  VFIO_DMA_MAP_FLAG_VADDR,
  VFIO_DMA_MAP_FLAG_WRITE,
  VFIO_DMA_UNMAP_FLAG_ALL,
  VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP,
  VFIO_DMA_UNMAP_FLAG_VADDR,
  type DirtyBitmap,
  type MapDma,
  type Type1Options,
  type UnmapDma,
} from './type1-abi.ts'
import { DmaList, VfioDma, isReservedPfn, pinnedRuns } from './vfio-dma.ts'

export * from './type1-abi.ts'

/**
 * An open `/dev/vfio/vfio` with the type 1 IOMMU driver: memory by IOVA, pinned while an IOMMU group is attached.
 * Groups hold the container: closing its descriptor alone releases nothing (R-VFIO-9).
 */
export class VfioContainer extends Device {
  readonly lock: Mutex
  readonly dmas = new DmaList()
  readonly groups = new Set<VfioGroup>()
  /** null: VFIO_SET_IOMMU was not done */
  model: 'type1' | 'type1v2' | null = null
  /** further dmas there may be */
  dmaAvail: number
  dirtyTracking = false
  readonly #capacity: number
  readonly #vaddrWait: WaitQueue

  constructor(k: Kernel, { dmaEntryLimit = 65535, disableHugepages = false }: Type1Options = {}) {
    super(k, '/dev/vfio/vfio')
    this.lock = new Mutex(`vfio lock of ${this.name}`, k)
    this.dmaAvail = dmaEntryLimit
    this.#vaddrWait = new WaitQueue(`new addresses in ${this.name}`)
    this.#capacity = disableHugepages ? 1 : VFIO_BATCH
  }

  override forEachReference(visit: (pfn: number, references: number, pins: number) => void): void {
    for (const dma of this.dmas) {
      for (const { pfn, count } of pinnedRuns(this.kernel, dma.runs))
        for (let page = pfn; page < pfn + count; page++) visit(page, 0, 1)
      for (const { pfn } of dma.pfnList.values()) if (!isReservedPfn(this.kernel, pfn)) visit(pfn, 0, 1)
    }
  }

  /** Memory that several containers map is charged by each. @rule R-VFIO-13 */
  override charges(): readonly PinCharge[] {
    return [...this.dmas].map(({ mm, lockedVm }) => ({
      user: null,
      lockedVm: 0,
      mm,
      pinnedVm: 0,
      mmLockedVm: lockedVm,
    }))
  }

  /** An IOMMU domain is attached: dmas are pinned. */
  get hasDomain(): boolean {
    for (const { kind } of this.groups) if (kind === 'iommu') return true
    return false
  }

  get mdevs(): MdevGroup[] {
    return [...this.groups].filter((group): group is MdevGroup => group.kind === 'mdev')
  }

  /** smallest page size that every attached IOMMU can map, bytes */
  get minPage(): number {
    let size = PAGE_SIZE
    for (const group of this.groups) if (group.kind === 'iommu') size = Math.max(size, group.minPage)
    return size
  }

  #refused(errno: number, rule: string, why: string): number {
    return refuse(this.kernel.current, errno, rule, { why })
  }

  /** An ioctl that is not modelled as a method. @returns -EINVAL without an IOMMU driver, else -ENOTTY */
  // oxlint-disable-next-line require-yield -- decided at once
  *unknownIoctl(): Kthread<number> {
    if (this.model === null) return this.#noDriver()
    return this.#refused(ENOTTY, 'R-VFIO-1', 'the type 1 driver has no such ioctl')
  }

  #noDriver(): number {
    return this.#refused(EINVAL, 'R-VFIO-1', 'VFIO_SET_IOMMU has not been done on this container')
  }

  /** VFIO_SET_IOMMU: the groups there are get the driver, and what is mapped is pinned. @returns 0 or -errno */
  *setIommu(model: 'type1' | 'type1v2'): Kthread<number> {
    if (this.groups.size === 0 || this.model !== null)
      return this.#refused(EINVAL, 'R-VFIO-1', 'the container has no group, or a driver already')
    this.model = model
    return 0
  }

  *#locked<T>(body: () => Kthread<T>): Kthread<T> {
    if (!this.lock.tryLock()) yield* this.lock.lock()
    try {
      return yield* body()
    } finally {
      this.lock.unlock()
    }
  }

  /**
   * VFIO_IOMMU_MAP_DMA.
   * @returns 0, or a negative errno with nothing mapped, pinned or charged
   * @rule R-VFIO-1
   * @rule R-VFIO-2
   */
  *mapDma(map: MapDma | Unreadable): Kthread<number> {
    if (this.model === null) return this.#noDriver()
    const refused = (errno: number, why: string): number => this.#refused(errno, 'R-VFIO-2', why)
    if (map === 'unreadable') return refused(EFAULT, 'the structure cannot be read')
    const { argsz = 32, flags } = map
    const access = flags & (VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE)
    const setVaddr = (flags & VFIO_DMA_MAP_FLAG_VADDR) !== 0
    if (argsz < 32 || (flags & ~7) !== 0)
      return refused(EINVAL, 'the structure is too short, or has a flag that is not known')
    if (setVaddr === (access !== 0))
      return refused(EINVAL, 'either READ or WRITE or both are asked for, or VADDR alone')
    return yield* this.#locked(() => this.#mapLocked(map, setVaddr))
  }

  *#mapLocked({ flags, vaddr, iova, size }: MapDma, setVaddr: boolean): Kthread<number> {
    const k = this.kernel
    const refused = (errno: number, why: string): number => this.#refused(errno, 'R-VFIO-2', why)
    const { minPage } = this
    if (size === 0 || size % minPage !== 0 || iova % minPage !== 0 || vaddr % minPage !== 0)
      return refused(EINVAL, `size, IOVA and address must be multiples of ${minPage}, the size not 0`)
    if (iova + size > 2 ** 64 || vaddr + size > 2 ** 64) return refused(EINVAL, 'a range wraps around')
    const found = this.dmas.find(iova, size)
    if (setVaddr) {
      if (found === null) return refused(ENOENT, 'nothing is mapped at this IOVA')
      return yield* this.#updateVaddr(found, iova, size, vaddr)
    }
    if (found !== null) return refused(EEXIST, 'the IOVA range overlaps one that is mapped')
    if (this.dmaAvail === 0) return refused(ENOSPC, 'the container has dma_entry_limit mappings already')
    if (!this.#isUsable(iova, iova + size))
      return refused(EINVAL, 'the range does not lie within one usable IOVA range of the IOMMU')
    const noMemory = kmalloc(k, 'R-VFIO-2')
    if (noMemory < 0) return noMemory
    const prot = { read: (flags & 1) !== 0, write: (flags & 2) !== 0 }
    const dma = new VfioDma(k, iova, vaddr, size, prot)
    this.dmaAvail--
    this.dmas.insert(dma)
    let error = this.hasDomain ? yield* pinMapDma(k, dma, this.#capacity) : 0
    if (error === 0 && this.dirtyTracking) error = newBitmap(k, dma)
    if (error < 0) yield* this.#remove(dma)
    return error
  }

  /** Whether every attached IOMMU can use a range as a whole; mediated devices accept all. */
  #isUsable(start: number, end: number): boolean {
    for (const group of this.groups) {
      if (group.kind === 'iommu' && !group.windows.some((w) => w.start <= start && end <= w.end)) return false
    }
    return true
  }

  /**
   * MAP_DMA with VADDR: a mapping that was marked gets its new address, and the process that calls from now on owes
   * what it charges. The pins are what they were.
   * @rule R-VFIO-10
   */
  *#updateVaddr(dma: VfioDma, iova: number, size: number, vaddr: number): Kthread<number> {
    const k = this.kernel
    if (!dma.vaddrInvalid || dma.iova !== iova || dma.size !== size)
      return this.#refused(EINVAL, 'R-VFIO-10', 'the mapping is not marked, or has another range')
    const mm = k.current.mm!
    if (mm !== dma.mm) {
      const lockCap = k.current.capable('CAP_IPC_LOCK')
      const guard = mm.mmapLock.tryWrite() ?? (yield* mm.mmapLock.writeKillable())
      if (typeof guard === 'number') return guard
      const terms = { rule: 'R-VFIO-10', exempt: lockCap, capability: 'CAP_IPC_LOCK' } as const
      const error = charge(k, { budget: 'mm->locked_vm', mm }, dma.lockedVm, terms)
      guard.release()
      if (error < 0) return error
      if (dma.mm.users > 0) adjust({ budget: 'mm->locked_vm', mm: dma.mm }, -dma.lockedVm)
      dma.mm = mm
      dma.task = k.current
      dma.lockCap = lockCap
    }
    dma.vaddr = vaddr
    dma.vaddrInvalid = false
    this.#vaddrWait.wakeAll()
    return 0
  }

  /**
   * VFIO_IOMMU_UNMAP_DMA.
   * @param unmap on success its `size` says how many bytes were unmapped
   * @returns 0 or a negative errno
   * @rule R-VFIO-8
   */
  *unmapDma(unmap: UnmapDma | Unreadable): Kthread<number> {
    if (this.model === null) return this.#noDriver()
    const refused = (errno: number, why: string): number => this.#refused(errno, 'R-VFIO-8', why)
    if (unmap === 'unreadable') return refused(EFAULT, 'the structure cannot be read')
    const { argsz = 24, flags = 0 } = unmap
    if (argsz < 24 || (flags & ~7) !== 0)
      return refused(EINVAL, 'the structure is too short, or has a flag that is not known')
    const dirty = (flags & VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP) !== 0
    if (dirty && (flags & ~VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP) !== 0)
      return refused(EINVAL, 'GET_DIRTY_BITMAP goes with neither ALL nor VADDR')
    const bitmap = dirty ? checkBitmap(this.kernel, unmap, argsz) : null
    if (typeof bitmap === 'number') return bitmap
    return yield* this.#locked(() => this.#unmapLocked(unmap, flags, bitmap))
  }

  *#unmapLocked(unmap: UnmapDma, flags: number, bitmap: DirtyBitmap | null): Kthread<number> {
    const refused = (errno: number, why: string): number => this.#refused(errno, 'R-VFIO-8', why)
    const { iova, size } = unmap
    const all = (flags & VFIO_DMA_UNMAP_FLAG_ALL) !== 0
    const markVaddr = (flags & VFIO_DMA_UNMAP_FLAG_VADDR) !== 0
    const { minPage } = this
    if (markVaddr && this.mdevs.length > 0)
      return refused(EBUSY, 'addresses cannot be updated while mediated devices are attached')
    if (iova % minPage !== 0) return refused(EINVAL, 'the IOVA is not aligned')
    if (all) {
      if (iova !== 0 || size !== 0) return refused(EINVAL, 'with ALL the IOVA and the size are 0')
    } else if (size === 0 || size % minPage !== 0 || iova + size > 2 ** 64)
      return refused(EINVAL, 'the size is 0 or not aligned, or the range wraps around')
    if (bitmap !== null && (!this.dirtyTracking || bitmap.pgsize !== minPage))
      return refused(EINVAL, 'dirty pages are not tracked, or in pages of another size')
    const end = all ? 2 ** 64 : iova + size
    if (this.model === 'type1v2' && !all && this.#isCut(iova, end))
      return refused(EINVAL, 'the range cuts through a mapping')
    if (markVaddr) return this.#markVaddr(unmap, iova, end)
    let unmapped = 0
    for (const dma of this.dmas) {
      if (dma.end <= iova || dma.iova >= end) continue
      // version 1 unmaps a whole mapping by its first IOVA, and nothing by any other
      if (dma.iova < iova) break
      this.#tellMdevs(dma)
      if (bitmap !== null) copyDirty(dma, bitmap, iova)
      unmapped += dma.size
      yield* this.#remove(dma)
    }
    unmap.size = unmapped
    return 0
  }

  /** Whether a mapping lies across the start or the end of a range. */
  #isCut(start: number, end: number): boolean {
    const [first, last] = [this.dmas.find(start, 1), this.dmas.find(end - 1, 1)]
    return (first !== null && first.iova < start) || (last !== null && last.end > end)
  }

  /** UNMAP_DMA with VADDR: all mappings of the range are marked, or none. @rule R-VFIO-10 */
  #markVaddr(unmap: UnmapDma, start: number, end: number): number {
    const marked: VfioDma[] = []
    for (const dma of this.dmas) {
      if (dma.end <= start || dma.iova >= end) continue
      if (dma.vaddrInvalid) {
        for (const other of marked) other.vaddrInvalid = false
        return this.#refused(EINVAL, 'R-VFIO-10', 'a mapping of the range is marked already')
      }
      dma.vaddrInvalid = true
      marked.push(dma)
    }
    unmap.size = marked.reduce((sum, dma) => sum + dma.size, 0)
    return 0
  }

  /** Mediated devices are asked to let go of a mapping. */
  #tellMdevs(dma: VfioDma): void {
    for (let rounds = 0; dma.pfnList.size > 0; rounds++) {
      if (rounds === 10) throw new Error('a mediated device keeps pages that are being unmapped')
      for (const mdev of this.mdevs) mdev.dmaUnmap(dma.iova, dma.size)
    }
  }

  /**
   * `vfio_remove_dma`: out of the IOMMU, then unpinned, then uncharged where the mm still has users.
   * @rule R-VFIO-9
   */
  *#remove(dma: VfioDma): Kthread<void> {
    yield* this.#unmapUnpin(dma)
    this.dmas.remove(dma)
    this.dmaAvail++
  }

  *#unmapUnpin(dma: VfioDma): Kthread<void> {
    const k = this.kernel
    const runs = [...pinnedRuns(k, dma.runs)]
    let unlocked = 0
    for (const { page, count } of runs) {
      unlocked += count
      for (const held of dma.pfnList.keys()) if (held >= page && held < page + count) unlocked--
    }
    dma.runs.clear()
    dma.iommuMapped = false
    for (const run of runs) yield* putRun(k, dma, run, false)
    yield* lockAcct(k, dma, -unlocked)
  }

  /**
   * A group joins: with the first IOMMU everything that is mapped is pinned.
   * @returns 0 or a negative errno with the group left outside
   * @internal groups call it
   * @rule R-VFIO-3
   */
  *attach(group: VfioGroup): Kthread<number> {
    return yield* this.#locked(() => this.#attachLocked(group))
  }

  *#attachLocked(group: VfioGroup): Kthread<number> {
    const k = this.kernel
    const first = group.kind === 'iommu' && !this.hasDomain
    this.groups.add(group)
    if (!first) return 0
    const pinned: VfioDma[] = []
    for (const dma of this.dmas) {
      pinned.push(dma)
      const error = (yield* this.#waitForVaddr(dma)) || (yield* pinMapDma(k, dma, this.#capacity))
      if (error === 0) continue
      for (const undone of pinned) yield* this.#unmapUnpin(undone)
      this.groups.delete(group)
      return error
    }
    return 0
  }

  /** Until a mapping has a valid address, where the release waits for it. @returns 0, or -EINTR */
  *#waitForVaddr(dma: VfioDma): Kthread<number> {
    const k = this.kernel
    while (dma.vaddrInvalid && k.release.drivers.vfioReplayWaits) {
      this.lock.unlock()
      yield { queue: this.#vaddrWait, what: this.#vaddrWait.name, signals: 'fatal' }
      if (!this.lock.tryLock()) yield* this.lock.lock()
      if (k.fatalSignalPending) return this.#refused(EINTR, 'R-VFIO-10', 'the calling task is being killed')
    }
    return 0
  }

  /** A group leaves. @internal groups call it @rule R-VFIO-9 */
  *detach(group: VfioGroup): Kthread<void> {
    yield* this.#locked(() => this.#detachLocked(group))
  }

  *#detachLocked(group: VfioGroup): Kthread<void> {
    const had = this.hasDomain
    if (this.groups.size === 1) {
      for (const dma of this.dmas) {
        this.#tellMdevs(dma)
        yield* this.#remove(dma)
      }
      this.groups.delete(group)
      this.model = null
      this.dirtyTracking = false
      return
    }
    this.groups.delete(group)
    if (!had || this.hasDomain) return
    // only what mediated devices hold stays charged
    for (const dma of this.dmas) yield* this.#unmapUnpin(dma)
  }

  /** What a device of an attached IOMMU group reads. @returns false: a fault of the IOMMU */
  read(iova: number, into: Uint8Array): boolean {
    return deviceRead(this.kernel, (page) => this.#translate(page, false), iova, into)
  }

  write(iova: number, from: Uint8Array): boolean {
    return deviceWrite(this.kernel, (page) => this.#translate(page, true), iova, from)
  }

  #translate(page: number, write: boolean): number {
    const dma = this.dmas.find(page * PAGE_SIZE, 1)
    if (dma === null || (write ? !dma.write : !dma.read)) return 0
    const pfn = dma.runs.pfnAt(page - dma.iova / PAGE_SIZE)
    return pfn < this.kernel.memory.frames.count ? pfn : 0
  }

  // groups hold the file, so there are none left, and with them no mappings
  // oxlint-disable-next-line require-yield -- nothing is left to do
  protected override *teardown(): Kthread<void> {
    freeBitmaps(this.dmas)
  }
}
