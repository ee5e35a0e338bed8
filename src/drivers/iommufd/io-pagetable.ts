import { EBUSY, EDEADLK, EEXIST, EINVAL, ENOENT, ENOSPC, EOVERFLOW, EPERM } from '../../base/errno.ts'
import type { Kthread } from '../../base/kthread.ts'
import { Mutex } from '../../base/locks.ts'
import { refuse } from '../../base/refusal.ts'
import { Unmodelled } from '../../base/unmodelled.ts'
import { PAGE_SIZE, PMD_SIZE } from '../../base/units.ts'
import type { Kernel } from '../../mm/kernel.ts'
import { kmalloc } from '../../task/device/charge.ts'
import { deviceRead, deviceWrite } from '../../task/device/dma.ts'
import { mapRuns, type IoptPages } from './pages.ts'

const ULONG_MAX = 2 ** 64 - 1
/** times an access is asked to let go of what is to be unmapped */
const MOST_NOTICES = 100

/** What the hardware behind a domain can do (device data). */
export interface DomainData {
  /** smallest page the IOMMU maps, bytes; default 4096 */
  readonly minPage?: number
  /** IOVAs it has for itself: [start, end) */
  readonly reserved?: readonly { readonly start: number; readonly end: number }[]
  /** maps runs as wholes; default true */
  readonly largePages?: boolean
}

/** An IOMMU domain; its tables hold what the areas say. */
export class Domain {
  readonly minPage: number
  readonly reserved: NonNullable<DomainData['reserved']>
  readonly largePages: boolean

  constructor({ minPage = PAGE_SIZE, reserved = [], largePages = true }: DomainData = {}) {
    this.minPage = minPage
    this.reserved = reserved
    this.largePages = largePages
  }
}

/** `struct iopt_area`: an IOVA interval that shows a slice of pages. */
export interface IoptArea {
  readonly iova: number
  /** bytes */
  readonly length: number
  readonly pages: IoptPages
  /** bytes from the start of `pages` */
  readonly offset: number
  readonly read: boolean
  readonly write: boolean
  /** its pages are pinned for the domains */
  filled: boolean
  /** an operation on it is under way */
  busy: boolean
  /** accesses that have pages of it pinned */
  accesses: number
  preventAccess: boolean
}

/** A stretch of pages that is to be shown. */
export interface Slice {
  readonly pages: IoptPages
  readonly length: number
  /** bytes from the start of the pages */
  readonly offset: number
}

/** Permissions and place of a mapping. */
export interface Placement {
  /** null: anywhere */
  readonly iova: number | null
  readonly read: boolean
  readonly write: boolean
}

/** Indexes of the pages that an area shows: [first, end) */
function pagesOf({ offset, length }: IoptArea): [first: number, end: number] {
  return [Math.floor(offset / PAGE_SIZE), Math.ceil((offset + length) / PAGE_SIZE)]
}

/** `struct io_pagetable`: the IOVAs of one IOAS. */
export class IoPagetable {
  readonly kernel: Kernel
  readonly iovaLock: Mutex
  readonly domains = new Set<Domain>()
  /** asked to let go of a range: in-kernel accesses */
  readonly accessNotices = new Set<(iova: number, length: number) => void>()
  #areas: IoptArea[] = []

  constructor(k: Kernel, name: string) {
    this.kernel = k
    this.iovaLock = new Mutex(`iova_rwsem of ${name}`, k)
  }

  get areas(): readonly IoptArea[] {
    return this.#areas
  }

  /** 1 while there is no domain */
  get iovaAlignment(): number {
    let alignment = 1
    for (const { minPage } of this.domains) alignment = Math.max(alignment, minPage)
    return alignment
  }

  #refused(errno: number, rule: string, why: string): number {
    return refuse(this.kernel.current, errno, rule, { why })
  }

  *locked<T>(body: () => Kthread<T>): Kthread<T> {
    if (!this.iovaLock.tryLock()) yield* this.iovaLock.lock()
    try {
      return yield* body()
    } finally {
      this.iovaLock.unlock()
    }
  }

  /**
   * `iopt_map_pages`: finds or checks the place and fills the domains there are. Without one nothing is pinned. A copy
   * of several mappings comes as several slices, which are shown one behind the other.
   * @returns the IOVA, or a negative errno with all of the areas gone
   * @rule R-IOMMUFD-2
   * @rule R-IOMMUFD-3
   * @rule R-IOMMUFD-10
   */
  *map(slices: readonly [Slice, ...Slice[]], place: Placement): Kthread<number> {
    return yield* this.locked(() => this.#mapLocked(slices, place))
  }

  *#mapLocked(slices: readonly [Slice, ...Slice[]], { iova, read, write }: Placement): Kthread<number> {
    const refused = (errno: number, why: string): number => this.#refused(errno, 'R-IOMMUFD-2', why)
    const alignment = this.iovaAlignment
    const noMemory = kmalloc(this.kernel, 'R-IOMMUFD-2')
    if (noMemory < 0) return noMemory
    if (slices.some(({ length }) => length % alignment !== 0))
      return refused(EINVAL, `the length is no multiple of ${alignment}`)
    const [first] = slices
    const total = slices.reduce((sum, { length }) => sum + length, 0)
    const start =
      iova === null
        ? this.#allocate(first.pages.uptr + first.offset, total, alignment)
        : this.#checkFixed(iova, total)
    if (start < 0) return start
    if (slices.some(({ offset }) => offset % alignment !== 0))
      return refused(EINVAL, `the address is no multiple of ${alignment}`)
    if (write && slices.some(({ pages }) => !pages.writable))
      return this.#refused(EPERM, 'R-IOMMUFD-10', 'the pages were mapped for reading only')
    const areas: IoptArea[] = []
    let at = start
    for (const { pages, length, offset } of slices) {
      const state = { filled: false, busy: false, accesses: 0, preventAccess: false }
      const area: IoptArea = { iova: at, length, pages, offset, read, write, ...state }
      this.#insert(area)
      pages.areas++
      areas.push(area)
      at += length
    }
    if (this.domains.size === 0) return start
    for (const area of areas) {
      const error = yield* this.#fill(area, this.domains)
      if (error === 0) continue
      for (const undone of areas) {
        yield* this.#unfill(undone)
        this.#remove(undone)
      }
      return error
    }
    return start
  }

  #insert(area: IoptArea): void {
    const at = this.#areas.findIndex(({ iova }) => iova > area.iova)
    this.#areas.splice(at < 0 ? this.#areas.length : at, 0, area)
  }

  #remove(area: IoptArea): void {
    this.#areas = this.#areas.filter((other) => other !== area)
    area.pages.putArea()
  }

  #checkFixed(iova: number, length: number): number {
    const refused = (errno: number, why: string): number => this.#refused(errno, 'R-IOMMUFD-2', why)
    if (iova % this.iovaAlignment !== 0) return refused(EINVAL, 'the IOVA is not aligned')
    const end = iova + length
    if (end > ULONG_MAX) return refused(EOVERFLOW, 'the IOVA range wraps around')
    for (const { reserved } of this.domains) {
      if (reserved.some((r) => r.start < end && iova < r.end))
        return refused(EINVAL, 'the range lies in IOVAs that the device reserves')
    }
    if (this.#areas.some((area) => area.iova < end && iova < area.iova + area.length))
      return refused(EEXIST, 'the range overlaps one that is mapped')
    return iova
  }

  /** The lowest hole, aligned as the memory is, so that large pages can be used on both sides. */
  #allocate(address: number, length: number, alignment: number): number {
    const refused = (errno: number, why: string): number => this.#refused(errno, 'R-IOMMUFD-2', why)
    if (length >= ULONG_MAX / 2) return refused(EOVERFLOW, 'the length is half of all there is')
    const step = Math.min(2 ** Math.ceil(Math.log2(length)), lowestBit(address), PMD_SIZE)
    if (step < alignment) return refused(EINVAL, 'the address is not aligned as the IOMMU needs it')
    const taken = [
      ...this.#areas.map(({ iova, length: n }) => ({ start: iova, end: iova + n })),
      ...[...this.domains].flatMap(({ reserved }) => reserved),
    ].sort((a, b) => a.start - b.start)
    let at = 0
    for (const { start, end } of taken) {
      if (at + length <= start) return at
      if (end > at) at = Math.ceil(end / step) * step
    }
    return at + length <= ULONG_MAX ? at : refused(ENOSPC, 'no hole is large enough')
  }

  *#fill(area: IoptArea, domains: Iterable<Domain>): Kthread<number> {
    const k = this.kernel
    const [first, end] = pagesOf(area)
    area.busy = true
    const error = yield* area.pages.use(first, end, (from, to) => {
      for (const { largePages } of domains) {
        const failed = mapRuns(k, area.pages, from, to, largePages)
        if (failed < 0) return failed
      }
      return 0
    })
    area.busy = false
    area.filled = error === 0
    return error
  }

  *#unfill(area: IoptArea): Kthread<void> {
    if (!area.filled) return
    area.filled = false
    yield* area.pages.unuse(...pagesOf(area))
  }

  /**
   * `iopt_table_add_domain`: a device is attached. With the first domain everything that is mapped is pinned.
   * @returns 0, or a negative errno with the domain left out
   * @throws Unmodelled where an area does not suit the pages of the domain, or lies in IOVAs it reserves
   * @rule R-IOMMUFD-3
   */
  *addDomain(domain: Domain): Kthread<number> {
    return yield* this.locked(() => this.#addLocked(domain))
  }

  *#addLocked(domain: Domain): Kthread<number> {
    const k = this.kernel
    for (const { iova, length, offset } of this.#areas) {
      const reserved = domain.reserved.some((r) => r.start < iova + length && iova < r.end)
      if (reserved || [iova, length, offset].some((n) => n % domain.minPage !== 0))
        throw new Unmodelled(
          'attaching a device whose pages or IOVAs do not suit what is mapped',
          'R-IOMMUFD-3',
        )
    }
    const first = this.domains.size === 0
    const done: IoptArea[] = []
    for (const area of this.#areas) {
      const error = first
        ? yield* this.#fill(area, [domain])
        : mapRuns(k, area.pages, ...pagesOf(area), domain.largePages)
      if (error < 0) {
        if (first) for (const undone of done) yield* this.#unfill(undone)
        return error
      }
      done.push(area)
    }
    this.domains.add(domain)
    return 0
  }

  /** A device is detached. The last domain takes the pins with it, areas stay. */
  *removeDomain(domain: Domain): Kthread<void> {
    yield* this.locked(() => this.#removeLocked(domain))
  }

  *#removeLocked(domain: Domain): Kthread<void> {
    this.domains.delete(domain)
    if (this.domains.size === 0) for (const area of this.#areas) yield* this.#unfill(area)
  }

  /**
   * `iopt_unmap_iova`.
   * @param length null: everything there is
   * @returns bytes unmapped, or a negative errno; areas removed before it stay removed
   * @rule R-IOMMUFD-9
   */
  *unmap(iova: number, length: number | null): Kthread<number> {
    const refused = (errno: number, why: string): number => this.#refused(errno, 'R-IOMMUFD-9', why)
    if (length === 0) return refused(EINVAL, 'no bytes')
    const end = length === null ? 2 ** 64 : iova + length
    if (length !== null && end > ULONG_MAX) return refused(EOVERFLOW, 'the range wraps around')
    return yield* this.locked(() => this.#unmapLocked(iova, end, length === null))
  }

  *#unmapLocked(iova: number, end: number, all: boolean): Kthread<number> {
    const refused = (errno: number, why: string): number => this.#refused(errno, 'R-IOMMUFD-9', why)
    let unmapped = 0
    for (const area of this.#areas.slice()) {
      if (area.iova + area.length <= iova || area.iova >= end) continue
      if (area.iova < iova || area.iova + area.length > end)
        return refused(ENOENT, 'a mapping is covered in part only')
      if (area.busy) return refused(EBUSY, 'a mapping is being made')
      area.preventAccess = true
      for (let notices = 0; area.accesses > 0; notices++) {
        if (notices === MOST_NOTICES) {
          area.preventAccess = false
          return refused(EDEADLK, 'an access does not let go')
        }
        for (const notice of this.accessNotices) notice(area.iova, area.length)
      }
      yield* this.#unfill(area)
      this.#remove(area)
      unmapped += area.length
    }
    return unmapped === 0 && !all ? refused(ENOENT, 'nothing is mapped there') : unmapped
  }

  /**
   * Areas that cover a range without a gap, with the part of each that lies in it; null where there is a gap.
   */
  cover(iova: number, length: number): { area: IoptArea; from: number; to: number }[] | null {
    const parts: { area: IoptArea; from: number; to: number }[] = []
    let at = iova
    for (const area of this.#areas) {
      if (area.iova + area.length <= at || at >= iova + length) continue
      if (area.iova > at) return null
      const to = Math.min(iova + length, area.iova + area.length)
      parts.push({ area, from: at, to })
      at = to
    }
    return at === iova + length ? parts : null
  }

  /** What a device behind a domain reads. @returns false: a fault of the IOMMU */
  read(iova: number, into: Uint8Array): boolean {
    return deviceRead(this.kernel, (page) => this.#translate(page, 'read'), iova, into)
  }

  write(iova: number, from: Uint8Array): boolean {
    return deviceWrite(this.kernel, (page) => this.#translate(page, 'write'), iova, from)
  }

  #translate(page: number, access: 'read' | 'write'): number {
    const iova = page * PAGE_SIZE
    const area = this.#areas.find((a) => a.iova <= iova && iova < a.iova + a.length)
    if (area === undefined || !area.filled || !area[access]) return 0
    return area.pages.pfnAt((area.offset + iova - area.iova) / PAGE_SIZE)
  }
}

function lowestBit(address: number): number {
  let bit = 1
  while (bit < PMD_SIZE && address % (bit * 2) === 0) bit *= 2
  return bit
}
