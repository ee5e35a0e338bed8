import type { Kthread } from '../base/kthread.ts'
import { PAGE_SIZE, PMD_SIZE } from '../base/units.ts'
import {
  PG_ANON,
  PG_ANON_EXCLUSIVE,
  PG_DIRTY,
  PG_KSM,
  PG_MTE_TAGGED,
  PG_SWAPCACHE,
} from '../memory/page-flags.ts'
import { FAULT_FLAG_UNSHARE, FAULT_FLAG_WRITE, VM_FAULT_OOM } from './fault-flags.ts'
import { splitFolioEverywhere } from './folio-split.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import { unwatched } from './mmap-lock.ts'
import { stopIfSoftDirtyCleared, vmPageProt } from './page-prot.ts'
import {
  HugePmd,
  PTE_ACCESSED,
  PTE_DIRTY,
  PTE_PRESENT,
  PTE_SPECIAL,
  PTE_WRITE,
  pmdIndex,
  pteSlot,
  type Leaf,
} from './page-table.ts'
import { removePage } from './rmap.ts'
import type { Vma } from './vma.ts'
import { VM_MERGEABLE } from './vm-flags.ts'
import { doWpPage } from './wp-fault.ts'

/** A page of a mergeable mapping, `struct ksm_rmap_item`. */
interface Place {
  readonly mm: Mm
  readonly vma: Vma
  readonly address: number
}

/**
 * Runs ksmd for a number of full scans. A page has to stay as it is for one scan before it may be merged with a
 * page that is not merged yet, so that pages written once need two.
 * @rule R-FLT-132
 */
export function* ksmScan(k: Kernel, scans: number): Kthread<void> {
  for (let i = 0; i < scans; i++) {
    const scan = new Scan(k)
    for (const mm of k.ksm.mms) yield* scan.mm(mm)
  }
}

/** One pass over everything that may be merged; the unstable tree lives as long. */
class Scan {
  readonly #k: Kernel
  readonly #stable = new Map<number, number[]>()
  readonly #unstable = new Map<number, Place[]>()

  constructor(k: Kernel) {
    this.#k = k
    for (const pfn of k.ksm.stable) {
      if (!k.memory.frames.has(pfn, PG_KSM)) k.ksm.stable.delete(pfn)
      else listed(this.#stable, k.memory.contents.checksum(pfn)).push(pfn)
    }
  }

  *mm(mm: Mm): Kthread<void> {
    stopIfSoftDirtyCleared(mm, 'merging by KSM')
    const { ksm } = this.#k
    const guard = mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.read())
    const before = ksm.checksums.get(mm) ?? new Map<number, number>()
    const now = new Map<number, number>()
    ksm.checksums.set(mm, now)
    let mergeable = false
    for (let vma = guard.vmas.first; vma !== null; vma = vma.next) {
      if ((vma.flags & VM_MERGEABLE) === 0) continue
      mergeable = true
      if (vma.anonVma === null) continue
      const own = unwatched(vma)
      for (const address of anonymousPages(this.#k, mm, own))
        this.#page({ mm, vma: own, address }, before, now)
    }
    guard.release()
    // nothing of it may be merged: it is forgotten until the next MADV_MERGEABLE
    if (!mergeable) ksm.exit(mm)
  }

  /** `cmp_and_merge_page`. */
  #page(place: Place, before: ReadonlyMap<number, number>, now: Map<number, number>): void {
    const k = this.#k
    const { contents } = k.memory
    const pfn = pageAt(k, place)
    // also one whose merge was undone while others share it by fork: it stays what it has become
    // @rule R-MTE-12
    if (pfn === 0 || k.memory.frames.has(pfn, PG_KSM | PG_MTE_TAGGED)) return
    const checksum = contents.checksum(pfn)
    const twin = this.#stable
      .get(checksum)
      ?.find((other) => this.#isMerged(other) && contents.equal(pfn, other))
    if (twin !== undefined) {
      mergeWith(k, place, pfn, twin)
      return
    }
    now.set(place.address, checksum)
    if (before.get(place.address) !== checksum) return
    const waiting = listed(this.#unstable, checksum)
    const other = waiting.find((each) => this.#isAlike(pageAt(k, each), pfn))
    if (other === undefined) waiting.push(place)
    // one page that two processes share is no reason to merge it
    else if (pageAt(k, other) !== pfn && this.#mergeTwo(place, pfn, other)) {
      waiting.splice(waiting.indexOf(other), 1)
      listed(this.#stable, checksum).push(pfn)
      k.ksm.stable.add(pfn)
    }
  }

  /** Still a page that could be merged, with the same bytes. */
  #isAlike(other: number, pfn: number): boolean {
    const { contents, frames } = this.#k.memory
    return other !== 0 && !frames.has(other, PG_MTE_TAGGED) && contents.equal(pfn, other)
  }

  /** Still the page of the stable tree it was: a frame may have been freed and used again, or have tags now. */
  #isMerged(pfn: number): boolean {
    const { frames } = this.#k.memory
    return frames.has(pfn, PG_KSM) && !frames.has(pfn, PG_MTE_TAGGED) && this.#k.ksm.stable.has(pfn)
  }

  /** `try_to_merge_two_pages`: the page itself becomes the merged one; when the other cannot join it is undone. */
  #mergeTwo(place: Place, pfn: number, other: Place): boolean {
    const k = this.#k
    if (!mergeWith(k, place, pfn, 0)) return false
    if (mergeWith(k, other, pageAt(k, other), pfn)) return true
    breakKsmPage(k, place.mm, place.vma, place.address)
    return false
  }
}

function listed<T>(map: Map<number, T[]>, key: number): T[] {
  let list = map.get(key)
  if (list === undefined) map.set(key, (list = []))
  return list
}

/** Addresses of a VMA where an anonymous page is mapped. */
function* anonymousPages(k: Kernel, mm: Mm, vma: Vma): Generator<number> {
  const { pageTable } = mm
  const last = Math.ceil(vma.end / PMD_SIZE)
  for (let i = pageTable.nextPmd(pmdIndex(vma.start), last); i >= 0; i = pageTable.nextPmd(i + 1, last)) {
    const end = Math.min(vma.end, (i + 1) * PMD_SIZE)
    for (let address = Math.max(vma.start, i * PMD_SIZE); address < end; address += PAGE_SIZE)
      if (pageAt(k, { mm, vma, address }) !== 0) yield address
  }
}

/** The anonymous page a place shows, 0: none. */
function pageAt(k: Kernel, { mm, address }: Place): number {
  const entry = mm.pageTable.pmd(pmdIndex(address))
  if (entry === null) return 0
  const slot = pteSlot(address)
  const huge = entry instanceof HugePmd
  const bits = huge ? entry.bits : entry.bits[slot]!
  if ((bits & (PTE_PRESENT | PTE_SPECIAL)) !== PTE_PRESENT) return 0
  const pfn = huge ? entry.pfn + slot : entry.pfn[slot]!
  const { frames } = k.memory
  return frames.has(frames.head(pfn), PG_ANON) ? pfn : 0
}

/**
 * `try_to_merge_one_page`: lets a place show the merged page `twin`, or, with 0, makes its own page the one that
 * others are merged with.
 * @rule R-FLT-130
 */
function mergeWith(k: Kernel, place: Place, pfn: number, twin: number): boolean {
  if (pfn === twin) return true
  const { mm, vma, address } = place
  const { frames, contents } = k.memory
  const split = frames.isLarge(pfn)
  if (split && !splitFolioEverywhere(k, frames.head(pfn))) return false
  const leaf = mm.pageTable.pmd(pmdIndex(address)) as Leaf
  const slot = pteSlot(address)
  // a page of zeros has become the zero page (R-HUGE-62)
  if (split && leaf.pfn[slot] !== pfn) return false
  if (!writeProtect(k, leaf, slot, pfn)) return false
  if (twin === 0) {
    frames.set(pfn, PG_KSM | PG_DIRTY)
    return true
  }
  if (!contents.equal(pfn, twin)) return false
  frames.mapcount[twin]!++
  mm.rssAnon++
  k.memory.get(twin)
  leaf.set(slot, twin, (vmPageProt(vma) & ~PTE_WRITE) | PTE_ACCESSED)
  removePage(k, mm, pfn)
  return true
}

/** `write_protect_page`; false: somebody holds the page and could write to it. */
function writeProtect(k: Kernel, leaf: Leaf, slot: number, pfn: number): boolean {
  const { frames } = k.memory
  const bits = leaf.bits[slot]!
  if ((bits & (PTE_WRITE | PTE_DIRTY)) === 0 && !frames.has(pfn, PG_ANON_EXCLUSIVE)) return true
  const expected = frames.mapcount[pfn]! + (frames.has(pfn, PG_SWAPCACHE) ? 1 : 0)
  if (frames.refcount[pfn] !== expected) return false
  frames.clear(pfn, PG_ANON_EXCLUSIVE)
  if ((bits & PTE_DIRTY) !== 0) frames.set(pfn, PG_DIRTY)
  leaf.bits[slot] = bits & ~(PTE_WRITE | PTE_DIRTY)
  return true
}

/**
 * `break_ksm`: where a merged page is mapped in [start, end) of one VMA, the place gets a page of its own.
 * @returns 0, or -1 when memory is exhausted
 * @rule R-KSM-1
 */
export function breakKsm(k: Kernel, mm: Mm, vma: Vma, start: number, end: number): number {
  for (let address = start; address < end; address += PAGE_SIZE) {
    if (mm.pageTable.pmd(pmdIndex(address)) === null) {
      address = (pmdIndex(address) + 1) * PMD_SIZE - PAGE_SIZE
      continue
    }
    if ((breakKsmPage(k, mm, vma, address) & VM_FAULT_OOM) !== 0) return -1
  }
  return 0
}

function breakKsmPage(k: Kernel, mm: Mm, vma: Vma, address: number): number {
  const pfn = pageAt(k, { mm, vma, address })
  if (pfn === 0 || !k.memory.frames.has(pfn, PG_KSM)) return 0
  const leaf = mm.pageTable.pmd(pmdIndex(address)) as Leaf
  const how = k.release.fault.ksmBreaksByUnshare ? FAULT_FLAG_UNSHARE : FAULT_FLAG_WRITE
  return doWpPage(k, mm, unwatched(vma), address, leaf, how)
}
