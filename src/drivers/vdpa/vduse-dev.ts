import { EEXIST, EFAULT, EINVAL, ENOENT, ENOMEM, EPERM } from '../../base/errno.ts'
import type { Kthread } from '../../base/kthread.ts'
import { refuse } from '../../base/refusal.ts'
import { PAGE_SIZE } from '../../base/units.ts'
import { PG_DRIVER, PG_UPTODATE } from '../../memory/page-flags.ts'
import { FOLL_LONGTERM, FOLL_WRITE } from '../../mm/gup-flags.ts'
import { PageArray, pinUserPages } from '../../mm/gup.ts'
import type { Unreadable } from '../../mm/iovec.ts'
import type { Kernel, PinCharge } from '../../mm/kernel.ts'
import type { Mm } from '../../mm/mm.ts'
import { unpinUserPages, unpinUserPagesDirtyLock } from '../../mm/unpin.ts'
import { adjust, checkCharge, kmalloc, pointerArray } from '../../task/device/charge.ts'
import { Device } from '../../task/device/device.ts'
import { deviceRead, deviceWrite } from '../../task/device/dma.ts'

/*
 * @caller VDUSE umem
 * @entry ioctl VDUSE_IOTLB_REG_UMEM
 * @gup pin_user_pages FOLL_WRITE FOLL_LONGTERM, one call
 * @lock mmap_lock for read, kept
 * @budget VmPin, compared before and added after; nothing lifts the limit
 * @errno ENOMEM over the limit and for a short pin
 * @release DEREG_UMEM, close; dirty
 * @test tests/drivers/vdpa/vduse-dev.test.ts
 */

/** `struct vduse_iova_umem` */
export interface VduseUmemArgs {
  readonly uaddr: number
  readonly iova: number
  /** bytes */
  readonly size: number
  readonly reserved?: number
}

export interface VduseData {
  /** bytes of bounce buffers; 64 MiB where the release does not let one choose */
  readonly bounceSize?: number
  /** the IOVA domain has been made; default true */
  readonly domain?: boolean
}

/** User pages in place of the kernel's bounce buffers. */
interface VduseUmem {
  readonly pages: PageArray
  readonly mm: Mm
}

const DEFAULT_BOUNCE_SIZE = 64 * 1024 * 1024

/** An open `/dev/vduse/NAME`: what its driver transfers goes through bounce buffers, which a program may provide. */
export class VduseDev extends Device {
  readonly bounceSize: number
  readonly hasDomain: boolean
  broken = false
  #umem: VduseUmem | null = null
  /** kernel pages of the bounce buffers that have been needed, by index */
  readonly #bounce = new Map<number, number>()

  constructor(k: Kernel, { bounceSize = DEFAULT_BOUNCE_SIZE, domain = true }: VduseData = {}) {
    super(k, '/dev/vduse/vduse0')
    const { vduseSizedBounce } = k.release.drivers
    this.bounceSize = vduseSizedBounce ? bounceSize : DEFAULT_BOUNCE_SIZE
    this.hasDomain = domain || !vduseSizedBounce
  }

  override forEachReference(visit: (pfn: number, references: number, pins: number) => void): void {
    for (const pfn of this.#umem?.pages.pfns ?? []) visit(pfn, 1, 1)
    for (const pfn of this.#bounce.values()) visit(pfn, 1, 0)
  }

  override charges(): readonly PinCharge[] {
    const umem = this.#umem
    return umem === null ? [] : [{ user: null, lockedVm: 0, mm: umem.mm, pinnedVm: umem.pages.length }]
  }

  #refused(errno: number, rule: string, why: string): number {
    return refuse(this.kernel.current, errno, rule, { why })
  }

  /**
   * VDUSE_IOTLB_REG_UMEM: all bounce buffers become pages of the program, at once.
   * @returns 0, or a negative errno with nothing pinned or charged
   * @rule R-VDUSE-1
   */
  *regUmem(args: VduseUmemArgs | Unreadable): Kthread<number> {
    const refused = (errno: number, why: string): number => this.#refused(errno, 'R-VDUSE-1', why)
    if (this.broken) return refused(EPERM, 'the device is broken')
    if (args === 'unreadable') return refused(EFAULT, 'the structure cannot be read')
    const { uaddr, iova, size, reserved = 0 } = args
    if (reserved !== 0) return refused(EINVAL, 'a reserved field is not 0')
    if (!this.hasDomain) return refused(EINVAL, 'the device has no IOVA domain yet')
    if (size !== this.bounceSize)
      return refused(EINVAL, `the size must be that of the bounce buffers, ${this.bounceSize} bytes`)
    if (iova !== 0 || uaddr % PAGE_SIZE !== 0)
      return refused(EINVAL, 'the IOVA is not 0, or the address does not begin a page')
    if (this.#umem !== null) return refused(EEXIST, 'the device has a umem already')
    return yield* this.#pin(uaddr, size / PAGE_SIZE)
  }

  /**
   * Under the mmap lock from the look at the limit to the last page. CAP_IPC_LOCK does not lift the limit.
   * @rule R-VDUSE-2
   * @rule R-VDUSE-3
   */
  *#pin(uaddr: number, npages: number): Kthread<number> {
    const k = this.kernel
    const { mm } = k.current
    if (mm === null) throw new Error('VDUSE_IOTLB_REG_UMEM by a task without an address space')
    const noMemory = pointerArray(k, npages, 'R-VDUSE-1') || kmalloc(k, 'R-VDUSE-1')
    if (noMemory < 0) return noMemory
    const guard = mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.read())
    const account = { budget: 'mm->pinned_vm', mm } as const
    const over = checkCharge(k, account, npages, { rule: 'R-VDUSE-1', exempt: false, capability: null })
    if (over < 0) {
      guard.release()
      return over
    }
    const pages = new PageArray(npages)
    const got = yield* pinUserPages(k, guard, uaddr, npages, FOLL_LONGTERM | FOLL_WRITE, pages)
    guard.release()
    if (got < 0) return got
    if (got < npages) {
      const { refusal } = k.current
      unpinUserPages(k, pages, got)
      const facts = { address: uaddr + got * PAGE_SIZE, page: got, wanted: npages, got }
      const why = 'not every page of the umem can be pinned'
      return refuse(k.current, ENOMEM, 'R-VDUSE-1', { ...facts, why }, refusal)
    }
    for (const [index, pfn] of this.#bounce) k.memory.contents.copy(pfn, pages.pfns[index]!)
    const { frames } = k.memory
    for (let i = 0; i < npages; i++) frames.refcount[frames.head(pages.pfns[i]!)]!++
    this.#umem = { pages, mm }
    adjust(account, npages)
    return 0
  }

  /**
   * VDUSE_IOTLB_DEREG_UMEM.
   * @returns 0, -ENOENT or -EINVAL
   * @rule R-VDUSE-4
   */
  *deregUmem(iova: number, size: number): Kthread<number> {
    if (this.#umem === null) return this.#refused(ENOENT, 'R-VDUSE-4', 'the device has no umem')
    if (iova !== 0 || size !== this.bounceSize)
      return this.#refused(EINVAL, 'R-VDUSE-4', 'IOVA or size are not those of the umem')
    yield* this.#release()
    return 0
  }

  *#release(): Kthread<void> {
    const k = this.kernel
    const umem = this.#umem
    if (umem === null) return
    this.#umem = null
    for (const [index, pfn] of this.#bounce) k.memory.contents.copy(umem.pages.pfns[index]!, pfn)
    for (const pfn of umem.pages.pfns) k.memory.put(pfn)
    yield* unpinUserPagesDirtyLock(k, umem.pages, umem.pages.length, true)
    adjust({ budget: 'mm->pinned_vm', mm: umem.mm }, -umem.pages.length)
  }

  /** The driver of the virtual device transfers bytes to the bounce buffers: where the program sees them. */
  bounceIn(offset: number, bytes: Uint8Array): boolean {
    return deviceWrite(this.kernel, (page) => this.#bouncePage(page), offset, bytes)
  }

  /** … and takes what the program has put there. */
  bounceOut(offset: number, into: Uint8Array): boolean {
    return deviceRead(this.kernel, (page) => this.#bouncePage(page), offset, into)
  }

  #bouncePage(page: number): number {
    if (page >= this.bounceSize / PAGE_SIZE) return 0
    if (this.#umem !== null) return this.#umem.pages.pfns[page]!
    const { memory } = this.kernel
    let pfn = this.#bounce.get(page)
    if (pfn === undefined) {
      pfn = memory.allocFolio(0, { movable: false })
      if (pfn === 0) return 0
      memory.frames.set(pfn, PG_DRIVER | PG_UPTODATE)
      this.#bounce.set(page, pfn)
    }
    return pfn
  }

  protected override *teardown(): Kthread<void> {
    yield* this.#release()
    for (const pfn of this.#bounce.values()) this.kernel.memory.put(pfn)
    this.#bounce.clear()
  }
}
