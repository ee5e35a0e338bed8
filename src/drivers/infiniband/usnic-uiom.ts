import { EINVAL } from '../../base/errno.ts'
import type { Kthread } from '../../base/kthread.ts'
import { refuse } from '../../base/refusal.ts'
import { PAGE_SIZE, pageAlignDown } from '../../base/units.ts'
import { FOLL_LONGTERM, FOLL_WRITE } from '../../mm/gup-flags.ts'
import { PageArray, pinUserPages } from '../../mm/gup.ts'
import type { Kernel, PinCharge } from '../../mm/kernel.ts'
import type { Mm } from '../../mm/mm.ts'
import { adjust, canDoMlock, canLock, charge, dmaMap, kmalloc } from '../../task/device/charge.ts'
import { leak } from '../../task/device/leak.ts'
import { PageRuns, unpinRuns, visitPins } from '../../task/device/runs.ts'
import { PAGES_PER_CALL, pagesIn, wrapsAround } from './umem.ts'
import type { MrMemory, RdmaProvider, RegMr } from './uverbs.ts'

/*
 * @caller usnic
 * @entry ibv_reg_mr(3) on usnic
 * @gup pin_user_pages FOLL_WRITE FOLL_LONGTERM, 512 pages a call
 * @lock mmap_lock for read, kept
 * @budget VmPin before the pin, CAP_IPC_LOCK lifts it
 * @errno ENOMEM, EPERM for a limit of 0; charges and pins leak on failure
 * @release DEREG_MR, close; dirty
 * @test tests/drivers/infiniband/usnic-uiom.test.ts
 */

/** entries of one piece of scatterlist: a page less its head, 32 bytes each */
const CHUNK = 127

/** `struct usnic_uiom_reg`. Registrations of one protection domain share mappings of the addresses they share. */
class UsnicReg implements MrMemory {
  readonly kernel: Kernel
  readonly owningMm: Mm
  readonly domain: UsnicDomain
  readonly firstPage: number
  readonly nrPages: number
  readonly writable = true
  readonly runs = new PageRuns()
  mapped = false
  charged = 0

  constructor(k: Kernel, mm: Mm, domain: UsnicDomain, start: number, nrPages: number) {
    this.kernel = k
    this.owningMm = mm
    this.domain = domain
    this.firstPage = pageAlignDown(start) / PAGE_SIZE
    this.nrPages = nrPages
  }

  forEachReference(visit: (pfn: number, references: number, pins: number) => void): void {
    visitPins(this.kernel, this.runs, visit)
  }

  charges(): readonly PinCharge[] {
    return [{ user: null, lockedVm: 0, mm: this.owningMm, pinnedVm: this.charged }]
  }

  /** IOVAs are virtual addresses: what the domain has mapped there, which an older registration may have done. */
  pfnAt(page: number): number {
    return this.domain.pfnAt(this.firstPage + page)
  }

  /** @rule R-USNIC-4 */
  *release(): Kthread<void> {
    if (this.mapped) this.domain.unmap(this.firstPage, this.nrPages)
    yield* unpinRuns(this.kernel, this.runs, true)
    adjust({ budget: 'mm->pinned_vm', mm: this.owningMm }, -this.charged)
    this.charged = 0
  }
}

/** A stretch of virtual pages that is mapped for the device, and how many registrations want it. */
interface Interval {
  readonly first: number
  readonly end: number
  /** the registration whose pages are mapped, from its page `first` on */
  readonly pfns: Int32Array
  readonly users: number
}

/** The IOMMU domain of a protection domain: sorted intervals, addresses as they are. */
class UsnicDomain {
  intervals: readonly Interval[] = []

  pfnAt(page: number): number {
    const interval = this.intervals.find(({ first, end }) => first <= page && page < end)
    return interval === undefined ? 0 : interval.pfns[page - interval.first]!
  }

  /**
   * One user more for a range. What nobody has mapped yet gets these pages.
   * @rule R-USNIC-4
   */
  map(first: number, runs: PageRuns): void {
    const end = first + runs.pages
    const next: Interval[] = []
    const all = runs.toArray()
    let at = first
    const fresh = (until: number): void => {
      if (at >= until) return
      next.push({ first: at, end: until, pfns: all.subarray(at - first, until - first), users: 1 })
      at = until
    }
    for (const interval of this.intervals) {
      if (interval.end <= first || interval.first >= end) {
        if (interval.first >= end) fresh(end)
        next.push(interval)
        continue
      }
      fresh(Math.max(interval.first, first))
      next.push(...cut(interval, first, end, 1))
      at = Math.min(interval.end, end)
    }
    fresh(end)
    this.intervals = next
  }

  /** One user less; what nobody wants any more is unmapped. */
  unmap(first: number, nrPages: number): void {
    const end = first + nrPages
    this.intervals = this.intervals.flatMap((interval) =>
      interval.end <= first || interval.first >= end ? [interval] : cut(interval, first, end, -1),
    )
  }
}

/** An interval in up to three parts, the users of the middle one changed; without users it is left out. */
function cut(interval: Interval, first: number, end: number, change: number): Interval[] {
  const part = (from: number, to: number, users: number): Interval[] =>
    from >= to || users === 0
      ? []
      : [
          {
            first: from,
            end: to,
            pfns: interval.pfns.subarray(from - interval.first, to - interval.first),
            users,
          },
        ]
  const [low, high] = [Math.max(interval.first, first), Math.min(interval.end, end)]
  return [
    ...part(interval.first, low, interval.users),
    ...part(low, high, interval.users + change),
    ...part(high, interval.end, interval.users),
  ]
}

/** The Cisco usNIC driver, with one protection domain. */
export function usnicProvider(): RdmaProvider {
  const domain = new UsnicDomain()
  return {
    name: 'usnic',
    onDemand: false,
    flush: false,
    *regUserMr(k, reg) {
      return yield* uiomRegGet(k, domain, reg)
    },
  }
}

/**
 * `usnic_uiom_reg_get`. Always for writing: read-only memory cannot be registered.
 * @rule R-USNIC-1
 */
function* uiomRegGet(k: Kernel, domain: UsnicDomain, { start, length }: RegMr): Kthread<UsnicReg | number> {
  const refused = (why: string): number => refuse(k.current, EINVAL, 'R-USNIC-1', { address: start, why })
  if (wrapsAround(start, length)) return refused('the end of the area wraps around the address space')
  if (length === 0) return refused('a region has at least one byte')
  const early = canDoMlock(k) || kmalloc(k, 'R-USNIC-1')
  if (early < 0) return early
  const mm = k.current.mm!
  const nrPages = pagesIn(start, length)
  const reg = new UsnicReg(k, mm, domain, start, nrPages)
  const error = yield* getPages(k, reg, start)
  if (error < 0) return error
  const unmapped = kmalloc(k, 'R-USNIC-3') || dmaMap(k, 'R-USNIC-3')
  if (unmapped < 0) {
    yield* unpinRuns(k, reg.runs, false)
    leakCharge(k, mm, nrPages)
    return unmapped
  }
  domain.map(reg.firstPage, reg.runs)
  reg.mapped = true
  return reg
}

/**
 * `usnic_uiom_get_pages`: 512 pages a call, copied into pieces of scatterlist. After a failure only the pages not
 * reached are uncharged, and pages that have no place in the scatterlist yet stay pinned.
 * @returns 0 with everything pinned and charged, or a negative errno
 * @rule R-USNIC-2
 * @rule R-USNIC-3
 */
function* getPages(k: Kernel, reg: UsnicReg, start: number): Kthread<number> {
  const mm = reg.owningMm
  const account = { budget: 'mm->pinned_vm', mm } as const
  const guard = mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.read())
  const terms = { rule: 'R-USNIC-1', exempt: canLock(k), capability: 'CAP_IPC_LOCK' } as const
  let error = charge(k, account, reg.nrPages, terms)
  if (error < 0) {
    guard.release()
    return error
  }
  const pages = new PageArray(Math.min(reg.nrPages, PAGES_PER_CALL))
  const first = pageAlignDown(start)
  let done = 0
  while (done < reg.nrPages && error === 0) {
    const wanted = Math.min(reg.nrPages - done, PAGES_PER_CALL)
    const got = yield* pinUserPages(
      k,
      guard,
      first + done * PAGE_SIZE,
      wanted,
      FOLL_WRITE | FOLL_LONGTERM,
      pages,
    )
    if (got < 0) error = got
    else {
      done += got
      error = intoScatterlist(k, reg, pages, got)
    }
  }
  guard.release()
  if (error === 0) {
    reg.charged = reg.nrPages
    return 0
  }
  yield* unpinRuns(k, reg.runs, false)
  adjust(account, -(reg.nrPages - done))
  leakCharge(k, mm, done)
  return error
}

/** @returns 0, or -ENOMEM with the pages that found no place leaked */
function intoScatterlist(k: Kernel, reg: UsnicReg, pages: PageArray, n: number): number {
  for (let at = 0; at < n; at += CHUNK) {
    const error = kmalloc(k, 'R-USNIC-3')
    if (error < 0) {
      leak(k, 'usnic registration without memory for its scatterlist (R-USNIC-3)', {
        pfns: pages.pfns.slice(at, n),
      })
      return error
    }
    const end = Math.min(at + CHUNK, n)
    reg.runs.pushPages(pages.pfns.subarray(at, end), end - at)
  }
  return 0
}

function leakCharge(k: Kernel, mm: Mm, pages: number): void {
  if (pages === 0) return
  const charge: PinCharge = { user: null, lockedVm: 0, mm, pinnedVm: pages }
  leak(k, 'usnic registration that failed after pinning (R-USNIC-3)', { charge })
}
