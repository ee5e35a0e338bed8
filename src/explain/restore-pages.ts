import { PAGE_SIZE, PMD_SIZE } from '../base/units.ts'
import { anonExclusive, pageRunsIn, type PageRun } from '../host/page-runs.ts'
import {
  KPF_ZERO_PAGE,
  PM_FILE,
  PM_GUARD_REGION,
  PM_MMAP_EXCLUSIVE,
  PM_PRESENT,
  PM_SWAP,
  PM_UFFD_WP,
  hasKpf,
  swapEntry,
} from '../host/pagemap.ts'
import type { Mapping, Snapshot } from '../host/snapshot.ts'
import { PG_ANON_EXCLUSIVE, PG_DRIVER, PG_UPTODATE } from '../memory/page-flags.ts'
import { newCachedPage } from '../mm/filemap.ts'
import {
  PTE_ACCESSED,
  PTE_DIRTY,
  PTE_MARKER_GUARD,
  PTE_MARKER_POISON,
  PTE_MARKER_UFFD_WP,
  PTE_MIGRATION,
  PTE_PRESENT,
  PTE_PROTNONE,
  PTE_SPECIAL,
  PTE_UFFD_WP,
  PTE_WRITE,
  pteSlot,
} from '../mm/page-table.ts'
import { addFilePage, addNewAnonPage, anonVmaPrepare } from '../mm/rmap.ts'
import { installSwapEntry } from '../mm/swap-fault.ts'
import type { Vma } from '../mm/vma.ts'
import { VM_ACCESS_FLAGS, VM_IO, VM_PFNMAP, VM_SHARED, VM_WRITE } from '../mm/vm-flags.ts'
import { machineTooSmall, type Restoration, type Window } from './restoration.ts'
import { LargeFolios, isLarge } from './restore-folios.ts'
import { restoreHugetlb } from './restore-hugetlb.ts'
import { restoreHugePmd } from './restore-huge-pmd.ts'

/** Puts the pages that were seen in a window of whole 2 MiB into the engine's page tables. */
export function restorePages(
  restoration: Restoration,
  snapshot: Snapshot,
  vmas: ReadonlyMap<Mapping, Vma>,
  window: Window,
): void {
  const folios = new LargeFolios(restoration, snapshot, window)
  for (const [mapping, vma] of vmas) {
    const start = Math.max(vma.start, window.start)
    const end = Math.min(vma.end, window.end)
    if (start >= end) continue
    if (vma.isHugetlb) restoreHugetlb(restoration, snapshot, vma, { start, end })
    else new PageRestorer(restoration, snapshot, folios, mapping, vma).restore(start, end)
  }
}

class PageRestorer {
  readonly #to: Restoration
  readonly #snapshot: Snapshot
  readonly #mapping: Mapping
  readonly #vma: Vma
  readonly #folios: LargeFolios

  constructor(to: Restoration, snapshot: Snapshot, folios: LargeFolios, mapping: Mapping, vma: Vma) {
    this.#to = to
    this.#snapshot = snapshot
    this.#folios = folios
    this.#mapping = mapping
    this.#vma = vma
  }

  restore(start: number, end: number): void {
    const vma = this.#vma
    // the engine stops at such a mapping whether its pages are there or not
    if (vma.file?.mapping.kind.unclassified?.from === 'checks') return
    if (this.#mapping.backing.kind === 'kvm-vcpu') {
      // its fault handler maps pages that exist since the vcpu was made
      for (let at = start; at < end; at += PAGE_SIZE) this.#driverPage(at)
      return
    }
    for (let span = start - (start % PMD_SIZE); span < end; span += PMD_SIZE) {
      const from = Math.max(span, vma.start)
      const to = Math.min(span + PMD_SIZE, vma.end)
      const runs = [...pageRunsIn(this.#snapshot.pages, from, to)]
      if (runs.length === 0) continue
      if (
        to - from === PMD_SIZE &&
        restoreHugePmd(this.#to, this.#mapping, vma, span, runs, this.#covered(span))
      )
        continue
      for (const run of runs) this.#restoreRun(run)
    }
  }

  #covered(span: number): boolean {
    return this.#snapshot.pages.covered.some((c) => c.start <= span && span + PMD_SIZE <= c.end)
  }

  #restoreRun(run: PageRun): void {
    const place = this.#placer(run)
    if (place === null) return
    for (let i = 0; i < run.count; i++) place(run.start + i * PAGE_SIZE, run.entry + run.step * i)
  }

  /** How the pages of a run are put back: all look the same, so what they are is decided once. */
  #placer(run: PageRun): ((address: number, hostPfn: number) => void) | null {
    const vma = this.#vma
    if ((run.bits & PM_PRESENT) === 0) return this.#notPresent(run)
    const bits = this.#presentBits(run)
    if ((vma.flags & (VM_IO | VM_PFNMAP)) !== 0 || vma.specialName !== null) return (at) => this.#rawPage(at)
    if ((run.bits & PM_FILE) !== 0) {
      if (vma.file === null) return (at) => this.#rawPage(at)
      const { kind } = vma.file.mapping
      // left out, so that the engine meets a fault it cannot serve instead of a page it knows nothing about
      if (kind.unclassified !== undefined) return null
      if (!kind.faultable) return (at) => this.#driverPage(at)
      if (isLarge(run))
        return (at, hostPfn) => this.#folios.mapFilePage(vma, at, hostPfn, bits | this.#fileWrite(run))
      return (at) => this.#filePage(at, bits | this.#fileWrite(run))
    }
    if (isZeroPage(run, this.#mapping))
      return (at) => this.#set(at, this.#to.kernel.zeroPfn, PTE_SPECIAL | bits)
    anonVmaPrepare(this.#to.kernel, vma, this.#to.mm)
    const shared = (run.bits & PM_MMAP_EXCLUSIVE) === 0
    // the flag of a tail page says nothing, its map count does (R-PM-4)
    const exclusive = !shared && anonExclusive(run) !== 'no'
    const write =
      exclusive && (vma.flags & VM_WRITE) !== 0 && (run.bits & PM_UFFD_WP) === 0 ? PTE_WRITE | PTE_DIRTY : 0
    if (isLarge(run)) {
      return (at, hostPfn) => this.#folios.mapAnonPage(vma, at, hostPfn, bits | write, { exclusive, shared })
    }
    return (at) => this.#anonymousPage(at, bits | write, exclusive, shared)
  }

  /** @rule R-PM-2 */
  #notPresent(run: PageRun): ((address: number) => void) | null {
    const vma = this.#vma
    if ((run.bits & PM_GUARD_REGION) !== 0) return (at) => this.#set(at, 0, PTE_MARKER_GUARD)
    if ((run.bits & PM_SWAP) === 0) return null
    const entry = swapEntry(run.bits, run.entry)
    const hiddenMarker = entry.kind === 'hidden' && (run.bits & PM_UFFD_WP) !== 0
    if (hiddenMarker || (entry.kind === 'marker' && entry.uffdWp))
      return (at) => this.#set(at, 0, PTE_MARKER_UFFD_WP)
    if (entry.kind === 'marker')
      return (at) => this.#set(at, 0, entry.poison ? PTE_MARKER_POISON : PTE_MARKER_GUARD)
    // pages of files leave no swap entry behind: this one is being migrated, or of a kind nobody has named
    if ((vma.flags & VM_SHARED) !== 0) return (at) => this.#set(at, 0, PTE_MIGRATION)
    anonVmaPrepare(this.#to.kernel, vma, this.#to.mm)
    if (this.#to.inRange({ start: run.start, end: run.start + run.count * PAGE_SIZE })) {
      this.#to.assume(
        `0x${run.start.toString(16)}: ${run.count === 1 ? 'one page' : `${run.count} pages`} swapped out, taken for pages no other process shares`,
      )
    }
    return (at) => installSwapEntry(this.#to.kernel, this.#to.mm, at, { exclusive: true })
  }

  #rawPage(address: number): void {
    const write = (this.#vma.flags & VM_WRITE) !== 0 ? PTE_WRITE : 0
    this.#set(address, this.#to.kernel.zeroPfn, PTE_PRESENT | PTE_SPECIAL | write)
  }

  #anonymousPage(address: number, bits: number, exclusive: boolean, shared: boolean): void {
    const { kernel, mm, others } = this.#to
    const pfn = kernel.memory.allocFolio(0, { movable: false })
    if (pfn === 0) throw machineTooSmall()
    addNewAnonPage(kernel, mm, this.#vma, address, pfn)
    if (!exclusive) kernel.memory.frames.clear(pfn, PG_ANON_EXCLUSIVE)
    if (shared) others.share(pfn)
    this.#set(address, pfn, bits)
  }

  #filePage(address: number, bits: number): void {
    const { kernel, mm } = this.#to
    const { mapping } = this.#vma.file!
    const index = this.#vma.pageIndex(address)
    const pfn = mapping.pages.get(index) || newCachedPage(kernel, mapping, index)
    if (pfn === 0) throw machineTooSmall()
    addFilePage(kernel, mm, this.#vma, pfn)
    this.#set(address, pfn, bits)
  }

  /** A file that tracks writes may have a read-only entry here: the write fault decides (R-FLT-42). */
  #fileWrite(run: PageRun): number {
    const sharedWritable = (this.#vma.flags & (VM_SHARED | VM_WRITE)) === (VM_SHARED | VM_WRITE)
    const tracked = this.#vma.file!.mapping.kind.pageMkwrite || (run.bits & PM_UFFD_WP) !== 0
    return sharedWritable && !tracked ? PTE_WRITE : 0
  }

  /** A driver's ordinary page: refcounted, in no page cache. */
  #driverPage(address: number): void {
    const { kernel, mm } = this.#to
    const { frames } = kernel.memory
    const pfn = kernel.memory.allocFolio(0, { movable: false })
    if (pfn === 0) throw machineTooSmall()
    frames.set(pfn, PG_DRIVER | PG_UPTODATE)
    frames.mapcount[pfn] = 1
    this.#set(address, pfn, PTE_PRESENT | PTE_ACCESSED | ((this.#vma.flags & VM_WRITE) !== 0 ? PTE_WRITE : 0))
    mm.rssFile++
  }

  #presentBits(run: PageRun): number {
    return (
      PTE_PRESENT |
      PTE_ACCESSED |
      ((this.#vma.flags & VM_ACCESS_FLAGS) === 0 ? PTE_PROTNONE : 0) |
      ((run.bits & PM_UFFD_WP) !== 0 ? PTE_UFFD_WP : 0)
    )
  }

  #set(address: number, pfn: number, bits: number): void {
    this.#to.mm.pageTable.leafFor(address).set(pteSlot(address), pfn, bits)
  }
}

/** Without kpageflags: a mapping that has present entries but no anonymous memory shows zero pages only. */
function isZeroPage(run: PageRun, mapping: Mapping): boolean {
  if (run.kpageflags >= 0) return hasKpf(run.kpageflags, KPF_ZERO_PAGE)
  if ((run.bits & PM_MMAP_EXCLUSIVE) !== 0) return false
  return mapping.usage !== null && mapping.usage.anonymous === 0
}
