import { EBUSY, EFAULT, EINVAL, ENOENT, ENXIO } from '../../base/errno.ts'
import type { Kthread } from '../../base/kthread.ts'
import { refuse } from '../../base/refusal.ts'
import { PAGE_SHIFT, PAGE_SIZE } from '../../base/units.ts'
import { PG_HUGETLB, PG_DIRTY } from '../../memory/page-flags.ts'
import { FOLL_LONGTERM, FOLL_WRITE } from '../../mm/gup-flags.ts'
import { PageArray, pinUserPages } from '../../mm/gup.ts'
import type { Unreadable } from '../../mm/iovec.ts'
import type { Kernel, PageHolder, PinCharge } from '../../mm/kernel.ts'
import type { Mm } from '../../mm/mm.ts'
import { unpinUserPages } from '../../mm/unpin.ts'
import { adjust, canLock, charge, kmalloc, pointerArray } from '../../task/device/charge.ts'
import { Device } from '../../task/device/device.ts'
import { deviceRead, deviceWrite } from '../../task/device/dma.ts'

/*
 * @caller SPAPR TCE memory
 * @entry ioctl VFIO_IOMMU_SPAPR_REGISTER_MEMORY
 * @gup pin_user_pages FOLL_WRITE FOLL_LONGTERM, in chunks
 * @lock mmap_lock for read, kept
 * @budget mm->locked_vm before the pin, CAP_IPC_LOCK lifts it
 * @errno ENOMEM over the limit; a short pin returns its positive count
 * @release UNREGISTER_MEMORY, close of the container; deferred, dirty by page
 * @test tests/arch/powerpc/iommu-api.test.ts
 */

/** largest block of the page allocator */
const MAX_PAGE_ORDER = 10
/** pages of one GUP call: as many VMA pointers as the largest block holds, which nobody allocates any more */
const CHUNK = (PAGE_SIZE << MAX_PAGE_ORDER) / 8
const HPAGE_SHIFT = 21

/** `struct vfio_iommu_spapr_register_memory` */
export interface RegisterMemory {
  /** default 32 */
  readonly argsz?: number
  /** default 0, nothing else is known */
  readonly flags?: number
  readonly vaddr: number
  /** bytes */
  readonly size: number
}

/** `struct mm_iommu_table_group_mem_t`: memory of an mm that is registered for TCE tables. */
class Region implements PageHolder {
  readonly kernel: Kernel
  readonly name: string
  readonly mm: Mm
  readonly ua: number
  readonly entries: number
  /** memory of a device: neither pinned nor charged */
  readonly device: boolean
  readonly pages: PageArray
  readonly pageShift: number
  /** containers that registered it */
  used = 1
  /** 1 and one for every TCE; 0: released */
  mapped = 1
  charged = true
  /** pages a device may have written: bit 0 of an entry */
  readonly dirty: Uint8Array

  constructor(k: Kernel, mm: Mm, ua: number, pages: PageArray, device: boolean) {
    this.kernel = k
    this.name = `SPAPR region ${k.nextId()} of ${k.current.comm}`
    this.mm = mm
    this.ua = ua
    this.entries = pages.length
    this.device = device
    this.pages = pages
    this.dirty = new Uint8Array(pages.length)
    this.pageShift = device ? PAGE_SHIFT : pageShiftOf(k, ua, pages)
    k.holders.add(this)
  }

  get end(): number {
    return this.ua + this.entries * PAGE_SIZE
  }

  forEachReference(visit: (pfn: number, references: number, pins: number) => void): void {
    if (!this.device) for (const pfn of this.pages.pfns) visit(pfn, 0, 1)
  }

  charges(): readonly PinCharge[] {
    const mmLockedVm = this.charged && !this.device ? this.entries : 0
    return [{ user: null, lockedVm: 0, mm: this.mm, pinnedVm: 0, mmLockedVm }]
  }
}

/** Alignment of address and size, as far as every page belongs to a hugetlb page. @rule R-PPC-4 */
function pageShiftOf(k: Kernel, ua: number, { pfns, length }: PageArray): number {
  const { frames } = k.memory
  for (const pfn of pfns) if (!frames.has(frames.head(pfn), PG_HUGETLB)) return PAGE_SHIFT
  let shift = HPAGE_SHIFT
  while (ua % 2 ** shift !== 0 || (length * PAGE_SIZE) % 2 ** shift !== 0) shift--
  return shift
}

const regions = new WeakMap<Mm, Set<Region>>()

function regionsOf(mm: Mm): Set<Region> {
  let list = regions.get(mm)
  if (list === undefined) {
    list = new Set()
    regions.set(mm, list)
  }
  return list
}

/**
 * `mm_iommu_do_alloc`: charges, pins for writing and for long, adds the region to its mm.
 * @param deviceMemory the range belongs to a device: nothing is pinned or charged
 * @returns the region, or what the ioctl returns: a negative errno, or the positive number of pages of a short pin
 * @rule R-PPC-2
 * @rule R-PPC-4
 * @rule R-PPC-6
 */
export function* mmIommuNew(
  k: Kernel,
  mm: Mm,
  ua: number,
  entries: number,
  deviceMemory = false,
): Kthread<Region | number> {
  const account = { budget: 'mm->locked_vm', mm } as const
  const terms = { rule: 'R-PPC-2', exempt: canLock(k), capability: 'CAP_IPC_LOCK' } as const
  if (!deviceMemory) {
    const guard = mm.mmapLock.tryWrite() ?? (yield* mm.mmapLock.write())
    const over = charge(k, account, entries, terms)
    guard.release()
    if (over < 0) return over
  }
  let error = kmalloc(k, 'R-PPC-2') || pointerArray(k, entries, 'R-PPC-2')
  const pages = new PageArray(error === 0 ? entries : 0)
  let pinned = 0
  if (error === 0 && !deviceMemory) {
    const got = yield* pinAll(k, mm, ua, pages)
    ;({ error, pinned } = got)
  }
  const list = regionsOf(mm)
  const end = ua + entries * PAGE_SIZE
  if (error === 0 && [...list].some((region) => region.ua < end && ua < region.end))
    error = refuse(k.current, EINVAL, 'R-PPC-4', {
      address: ua,
      why: 'the range overlaps a region of this mm',
    })
  if (error === 0) {
    const region = new Region(k, mm, ua, pages, deviceMemory)
    list.add(region)
    return region
  }
  unpinUserPages(k, pages, pinned)
  if (!deviceMemory) adjust(account, -entries)
  return error
}

/** @rule R-PPC-3 */
function* pinAll(
  k: Kernel,
  mm: Mm,
  ua: number,
  pages: PageArray,
): Kthread<{ error: number; pinned: number }> {
  const guard = mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.read())
  let pinned = 0
  let error = 0
  while (pinned < pages.length) {
    const n = Math.min(pages.length - pinned, CHUNK)
    const chunk = n === pages.length ? pages : new PageArray(n)
    const got = yield* pinUserPages(k, guard, ua + pinned * PAGE_SIZE, n, FOLL_WRITE | FOLL_LONGTERM, chunk)
    if (got > 0 && chunk !== pages) pages.pfns.set(chunk.pfns.subarray(0, got), pinned)
    pinned += Math.max(got, 0)
    if (got === n) continue
    const facts = { address: ua + pinned * PAGE_SIZE, page: pinned, wanted: pages.length, got: pinned }
    const why = 'not every page of the region can be pinned'
    if (got === 0) error = refuse(k.current, EFAULT, 'R-PPC-6', { ...facts, why })
    else error = got
    // a short count is no error to the ioctl, which returns it as it is
    if (got > 0) refuse(k.current, EFAULT, 'R-PPC-6', { ...facts, why }, k.current.refusal)
    break
  }
  guard.release()
  return { error, pinned }
}

/** An open VFIO container with the SPAPR TCE driver, version 2. */
export class SpaprContainer extends Device {
  readonly #regions = new Set<Region>()
  /** TCE table: page of the bus → region and page of it */
  readonly #tces = new Map<
    number,
    { readonly region: Region; readonly page: number; readonly write: boolean }
  >()

  constructor(k: Kernel) {
    super(k, '/dev/vfio/vfio (SPAPR TCE)')
  }

  // regions declare by themselves what they hold: several containers share them
  override forEachReference(): void {}

  #check({ argsz = 32, flags = 0, vaddr, size }: RegisterMemory, rule: string): number {
    const refused = (why: string): number => refuse(this.kernel.current, EINVAL, rule, { why })
    if (argsz < 32 || flags !== 0) return refused('the structure is too short, or has flags')
    if (vaddr % PAGE_SIZE !== 0 || size % PAGE_SIZE !== 0 || vaddr + size > 2 ** 64)
      return refused('address and size must be whole pages and not wrap around')
    return 0
  }

  /**
   * VFIO_IOMMU_SPAPR_REGISTER_MEMORY.
   * @returns 0, a negative errno, or after a short pin the positive number of pages that could be had, with nothing
   *   registered (R-PPC-6)
   * @rule R-PPC-1
   */
  *registerMemory(request: RegisterMemory | Unreadable): Kthread<number> {
    const k = this.kernel
    if (request === 'unreadable')
      return refuse(k.current, EFAULT, 'R-PPC-1', { why: 'the structure cannot be read' })
    const wrong = this.#check(request, 'R-PPC-1')
    if (wrong < 0) return wrong
    const mm = k.current.mm!
    const entries = request.size / PAGE_SIZE
    for (const region of regionsOf(mm)) {
      if (region.ua !== request.vaddr || region.entries !== entries) continue
      if (this.#regions.has(region))
        return refuse(k.current, EBUSY, 'R-PPC-1', {
          why: 'the container has registered this memory already',
        })
      region.used++
      this.#regions.add(region)
      return 0
    }
    const region = yield* mmIommuNew(k, mm, request.vaddr, entries)
    if (typeof region === 'number') return region
    this.#regions.add(region)
    return 0
  }

  /**
   * VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY.
   * @returns 0, -EINVAL, -ENOENT, or -EBUSY while TCEs map it
   * @rule R-PPC-7
   */
  // oxlint-disable-next-line require-yield -- nothing here sleeps
  *unregisterMemory(request: RegisterMemory): Kthread<number> {
    const wrong = this.#check(request, 'R-PPC-7')
    if (wrong < 0) return wrong
    for (const region of this.#regions) {
      if (region.ua !== request.vaddr || region.entries !== request.size / PAGE_SIZE) continue
      const error = this.#put(region)
      if (error === 0) this.#regions.delete(region)
      return error
    }
    return refuse(this.kernel.current, ENOENT, 'R-PPC-7', { why: 'this memory is not registered' })
  }

  /**
   * `mm_iommu_put`: the last user takes the region out of its mm and uncharges it; pages are unpinned after a grace
   * period, dirty where a TCE let the device write.
   * @rule R-PPC-5
   */
  #put(region: Region): number {
    const k = this.kernel
    if (region.used === 0) return refuse(k.current, ENOENT, 'R-PPC-5', { why: 'nobody uses the region' })
    if (--region.used > 0) return 0
    if (region.mapped !== 1) {
      region.used++
      return refuse(k.current, EBUSY, 'R-PPC-5', { why: 'TCEs map the region' })
    }
    region.mapped = 0
    regionsOf(region.mm).delete(region)
    if (!region.device && region.mm.users > 0)
      adjust({ budget: 'mm->locked_vm', mm: region.mm }, -region.entries)
    region.charged = false
    k.delayedWork.set(region, () => {
      const { frames } = k.memory
      if (!region.device) {
        region.pages.pfns.forEach((pfn, i) => {
          if (region.dirty[i] === 1) frames.set(frames.head(pfn), PG_DIRTY)
        })
        unpinUserPages(k, region.pages, region.entries)
      }
      k.holders.delete(region)
    })
    return 0
  }

  /**
   * VFIO_IOMMU_MAP_DMA of one TCE: memory that has been registered becomes visible at a bus address.
   * @param pageShift of the table
   * @returns 0, -EFAULT outside of every region or for pages larger than its, -ENXIO for one that has gone
   * @rule R-PPC-5
   * @rule R-PPC-7
   */
  // oxlint-disable-next-line require-yield -- nothing here sleeps
  *mapTce(bus: number, ua: number, write: boolean, pageShift = PAGE_SHIFT): Kthread<number> {
    const k = this.kernel
    const region = [...this.#regions].find((r) => r.ua <= ua && ua + 2 ** pageShift <= r.end)
    if (region === undefined || pageShift > region.pageShift)
      return refuse(k.current, EFAULT, 'R-PPC-7', {
        address: ua,
        why: 'no registered region has this address in pages of that size',
      })
    if (region.mapped === 0) return refuse(k.current, ENXIO, 'R-PPC-5', { why: 'the region is going away' })
    yield* this.unmapTce(bus)
    region.mapped++
    const page = Math.floor((ua - region.ua) / PAGE_SIZE)
    this.#tces.set(Math.floor(bus / PAGE_SIZE), { region, page, write })
    if (write) region.dirty[page] = 1
    return 0
  }

  /** @returns 0 */
  // oxlint-disable-next-line require-yield -- nothing here sleeps
  *unmapTce(bus: number): Kthread<number> {
    const page = Math.floor(bus / PAGE_SIZE)
    const tce = this.#tces.get(page)
    if (tce !== undefined && tce.region.mapped > 1) tce.region.mapped--
    this.#tces.delete(page)
    return 0
  }

  read(bus: number, into: Uint8Array): boolean {
    return deviceRead(this.kernel, (page) => this.#translate(page, false), bus, into)
  }

  write(bus: number, from: Uint8Array): boolean {
    return deviceWrite(this.kernel, (page) => this.#translate(page, true), bus, from)
  }

  #translate(page: number, write: boolean): number {
    const tce = this.#tces.get(page)
    return tce === undefined || (write && !tce.write) ? 0 : tce.region.pages.pfns[tce.page]!
  }

  protected override *teardown(): Kthread<void> {
    for (const page of this.#tces.keys()) yield* this.unmapTce(page * PAGE_SIZE)
    for (const region of this.#regions) this.#put(region)
    this.#regions.clear()
  }
}
