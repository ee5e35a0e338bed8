import { HPAGE_PMD_ORDER, PMD_SIZE } from '../base/units.ts'
import { pageRunsIn, type PageRun } from '../host/page-runs.ts'
import {
  KPF_COMPOUND_HEAD,
  KPF_COMPOUND_TAIL,
  KPF_HUGE,
  KPF_ZERO_PAGE,
  PM_FILE,
  PM_PRESENT,
  hasKpf,
} from '../host/pagemap.ts'
import type { Snapshot } from '../host/snapshot.ts'
import { PG_ANON, PG_ANON_EXCLUSIVE, PG_LRU, PG_SWAPBACKED, PG_UPTODATE } from '../memory/page-flags.ts'
import type { AddressSpace } from '../mm/file.ts'
import { newCachedPage, pageCacheInsert } from '../mm/filemap.ts'
import { pteSlot } from '../mm/page-table.ts'
import { addFilePage } from '../mm/rmap.ts'
import type { Vma } from '../mm/vma.ts'
import { machineTooSmall, type Restoration, type Window } from './restoration.ts'

/** A large folio of the observed machine, as far as it was seen. */
interface SeenFolio {
  /** its first page frame there */
  readonly hostHead: number
  order: number
  /** its first page frame here; 0 not made yet */
  head: number
}

/** Neighbouring frames of one folio. */
interface Piece {
  readonly first: number
  readonly last: number
  readonly isHead: boolean
  readonly anonymous: boolean
}

/** Whether the pages of a run are known to belong to a large folio (not hugetlb, not the huge zero page). */
export function isLarge(run: PageRun): boolean {
  if (run.kpageflags < 0 || run.entry === 0) return false
  if (hasKpf(run.kpageflags, KPF_HUGE) || hasKpf(run.kpageflags, KPF_ZERO_PAGE)) return false
  return hasKpf(run.kpageflags, KPF_COMPOUND_HEAD) || hasKpf(run.kpageflags, KPF_COMPOUND_TAIL)
}

/**
 * Large folios mapped page by page (a huge page after a split, folios of other sizes). Only /proc/kpageflags
 * shows them, and it shows heads and tails, never sizes: a folio is taken for the smallest one that has room
 * for all the pages seen, and for 2 MiB where the machine makes no other size of anonymous memory.
 * @rule R-PM-5
 */
export class LargeFolios {
  readonly #to: Restoration
  readonly #snapshot: Snapshot
  /** ascending by host head */
  readonly #folios: readonly SeenFolio[]

  /** Finds the folios of a window before any of their pages is mapped. */
  constructor(to: Restoration, snapshot: Snapshot, window: Window) {
    this.#to = to
    this.#snapshot = snapshot
    this.#folios = this.#survey(window)
    if (this.#folios.length > 0 && !this.#pmdSizedOnly()) {
      to.assume(
        'large folios are taken for the smallest size that fits the pages seen (no file shows their size)',
      )
    }
  }

  #survey({ start, end }: Window): SeenFolio[] {
    const pieces: Piece[] = []
    for (const run of pageRunsIn(this.#snapshot.pages, start, end)) {
      if ((run.bits & PM_PRESENT) === 0 || !isLarge(run)) continue
      // a head never looks like its tails, and heads of neighbouring folios do not follow one another
      pieces.push({
        first: run.entry,
        last: run.entry + (run.count - 1) * run.step,
        isHead: hasKpf(run.kpageflags, KPF_COMPOUND_HEAD),
        anonymous: (run.bits & PM_FILE) === 0,
      })
    }
    pieces.sort((a, b) => a.first - b.first)
    const folios: SeenFolio[] = []
    for (const piece of pieces) {
      const before = folios.at(-1)
      if (!piece.isHead && before !== undefined && piece.last - before.hostHead < 1 << HPAGE_PMD_ORDER) {
        before.order = Math.max(before.order, orderFor(piece.last - before.hostHead + 1))
      } else folios.push(this.#newFolio(piece))
    }
    return folios
  }

  #newFolio({ first, last, isHead, anonymous }: Piece): SeenFolio {
    if (anonymous && this.#pmdSizedOnly()) {
      return { hostHead: first - (first % (1 << HPAGE_PMD_ORDER)), order: HPAGE_PMD_ORDER, head: 0 }
    }
    if (isHead) return { hostHead: first, order: Math.max(1, orderFor(last - first + 1)), head: 0 }
    // tails only: the smallest aligned block that holds them and a head before them
    let order = 1
    while (first % (1 << order) === 0 || Math.floor(first / (1 << order)) !== Math.floor(last / (1 << order)))
      order++
    return { hostHead: first - (first % (1 << order)), order, head: 0 }
  }

  /** The machine makes no transparent huge pages of other sizes. */
  #pmdSizedOnly(): boolean {
    const { thp } = this.#snapshot.system
    return (
      thp !== null &&
      thp.sizes.every((s) => s.size === PMD_SIZE || s.enabled === null || s.enabled === 'never')
    )
  }

  mapAnonPage(
    vma: Vma,
    address: number,
    hostPfn: number,
    bits: number,
    page: { exclusive: boolean; shared: boolean },
  ): void {
    const { kernel, mm, others } = this.#to
    const { frames } = kernel.memory
    const folio = this.#folioOf(hostPfn)
    const fresh = folio.head === 0
    if (fresh) this.#allocate(folio)
    const pfn = folio.head + (hostPfn - folio.hostHead)
    if (fresh) {
      const index = vma.pageIndex(address) - (pfn - folio.head)
      for (let i = 0; i < 1 << folio.order; i++) {
        frames.set(folio.head + i, PG_ANON | PG_SWAPBACKED | PG_UPTODATE | PG_LRU)
        frames.mapping[folio.head + i] = vma.anonVma!.id
        frames.index[folio.head + i] = index + i
      }
    }
    if (page.exclusive) frames.set(pfn, PG_ANON_EXCLUSIVE)
    // the allocation's reference becomes that of the first entry
    if (!fresh) kernel.memory.get(pfn)
    frames.mapcount[pfn]!++
    mm.rssAnon++
    if (page.shared) others.share(pfn)
    mm.pageTable.leafFor(address).set(pteSlot(address), pfn, bits)
  }

  mapFilePage(vma: Vma, address: number, hostPfn: number, bits: number): void {
    const { kernel, mm } = this.#to
    const { mapping } = vma.file!
    const folio = this.#folioOf(hostPfn)
    const index = vma.pageIndex(address)
    const pfn = mapping.pages.get(index) || this.#cacheFolio(mapping, index, folio, hostPfn)
    if (pfn === 0) throw machineTooSmall()
    addFilePage(kernel, mm, vma, pfn)
    mm.pageTable.leafFor(address).set(pteSlot(address), pfn, bits)
  }

  /** @returns the frame at `index`, 0 when memory is exhausted */
  #cacheFolio(mapping: AddressSpace, index: number, folio: SeenFolio, hostPfn: number): number {
    const { kernel } = this.#to
    const first = index - (hostPfn - folio.hostHead)
    const size = 1 << folio.order
    let cached = 0
    mapping.pages.forEach(() => cached++, first, first + size)
    // another mapping has shown some of these pages as small ones
    if (cached > 0 || first < 0) return newCachedPage(kernel, mapping, index)
    this.#allocate(folio)
    for (let i = 0; i < size; i++) {
      kernel.memory.frames.set(
        folio.head + i,
        PG_UPTODATE | PG_LRU | (mapping.kind.shmem ? PG_SWAPBACKED : 0),
      )
    }
    pageCacheInsert(kernel, mapping, first, folio.head)
    kernel.memory.put(folio.head)
    return mapping.pages.get(index)
  }

  #allocate(folio: SeenFolio): void {
    folio.head = this.#to.kernel.memory.allocFolio(folio.order, { movable: false })
    if (folio.head === 0) throw machineTooSmall()
  }

  #folioOf(hostPfn: number): SeenFolio {
    let low = 0
    let high = this.#folios.length
    while (high - low > 1) {
      const middle = (low + high) >>> 1
      if (this.#folios[middle]!.hostHead <= hostPfn) low = middle
      else high = middle
    }
    return this.#folios[low]!
  }
}

/** The smallest order with room for n pages. */
function orderFor(n: number): number {
  return n <= 1 ? 0 : 32 - Math.clz32(n - 1)
}
