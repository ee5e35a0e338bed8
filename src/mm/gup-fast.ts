import { PREEMPT, type Kthread } from '../base/kthread.ts'
import { PAGE_SIZE, PTRS_PER_PTE, pageNumber } from '../base/units.ts'
import { ORDER_MASK, PG_ANON, PG_HUGETLB, PG_REFERENCED, PG_SECRETMEM } from '../memory/page-flags.ts'
import { FOLL_LONGTERM, FOLL_PIN, FOLL_WRITE } from './gup-flags.ts'
import { mustUnshare, observePins } from './gup-follow.ts'
import { PLAIN_EXCLUSIVE, PLAIN_SMALL, countMatching, grabPlain, type PlainPages } from './gup-plain.ts'
import { pinLedger, tryGrabFolioFast } from './gup-grab.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import {
  HugePmd,
  PTE_PRESENT,
  PTE_PROTNONE,
  PTE_SPECIAL,
  PTE_WRITE,
  pmdIndex,
  type PmdEntry,
} from './page-table.ts'
import { putPage, releasePins } from './unpin.ts'

const WRITE_LONGTERM_PIN = FOLL_WRITE | FOLL_LONGTERM | FOLL_PIN

type Phase = 'snapshot' | 'grab' | 'recheck' | 'admit' | 'done'

/** walks that are never interrupted share one snapshot */
const scratchBits = new Uint16Array(PTRS_PER_PTE)

/**
 * The lockless walk (`lockless_pages_from_mm`), in the phases of the kernel: snapshot the entries, grab
 * references on what they show, look at the entries again, decide about each page, record it.
 *
 * A phase works on a run: entries of one page table, at most `k.batch`. The explorer's batch is one page
 * and it steps in between the phases; otherwise a run is a tight loop. A run ends with the first page
 * that will not be kept, so no page behind it is ever grabbed (R-GUP-57).
 * @rule R-GUP-56
 * @rule R-GUP-21
 */
export class FastWalk {
  readonly #k: Kernel
  readonly #mm: Mm
  readonly #flags: number
  /** bits an entry must have, among those that matter */
  readonly #wanted: number
  readonly #relevant: number
  readonly #pfns: Int32Array
  readonly #endPage: number
  #page: number
  #phase: Phase = 'snapshot'
  /** pages recorded */
  taken = 0

  // the run under way
  #entry: PmdEntry | null = null
  #slot = 0
  #run = 0
  /** a run of a huge PMD is taken with one grab */
  #huge = false
  #hugePfn = 0
  /** bits of the entries of the run as they were at the snapshot */
  readonly #bits: Uint16Array
  /** pages the tight loop may take without asking */
  readonly #plain: PlainPages
  /** decision of `#folioAllowed` for the mapping seen last */
  #lastMapping = 0
  #lastAllowed = false

  /** @param start page aligned */
  constructor(k: Kernel, mm: Mm, start: number, nrPages: number, flags: number, pfns: Int32Array) {
    this.#k = k
    this.#mm = mm
    this.#flags = flags
    this.#wanted = (flags & FOLL_WRITE) !== 0 ? PTE_PRESENT | PTE_WRITE : PTE_PRESENT
    this.#relevant = this.#wanted | PTE_PROTNONE | PTE_SPECIAL
    this.#pfns = pfns
    this.#page = pageNumber(start)
    this.#endPage = this.#page + nrPages
    this.#bits = k.exploring ? new Uint16Array(PTRS_PER_PTE) : scratchBits
    const decides = k.release.gup.fastFolioCheck !== 'none' || (flags & (FOLL_PIN | FOLL_WRITE)) === FOLL_PIN
    this.#plain = decides ? PLAIN_EXCLUSIVE : PLAIN_SMALL
  }

  /** Does the next phase. @returns whether there is another one */
  step(): boolean {
    switch (this.#phase) {
      case 'snapshot':
        this.#phase = this.#snapshot() ? 'grab' : 'done'
        break
      case 'grab':
        this.#phase = this.#grab() > 0 ? 'recheck' : 'done'
        break
      case 'recheck':
        this.#phase = this.#recheck() ? 'admit' : 'done'
        break
      case 'admit':
        this.#phase = this.#admit() && this.#page < this.#endPage ? 'snapshot' : 'done'
        break
      case 'done':
        break
    }
    return this.#phase !== 'done'
  }

  /** @rule R-GUP-57 */
  #snapshot(): boolean {
    const index = pmdIndex(this.#page * PAGE_SIZE)
    const entry = this.#mm.pageTable.pmd(index)
    this.#entry = entry
    if (entry === null) return false
    const slot = this.#page % PTRS_PER_PTE
    this.#slot = slot
    const limit = Math.min(this.#endPage - this.#page, PTRS_PER_PTE - slot, this.#k.batch)
    if (entry instanceof HugePmd) {
      this.#huge = true
      const zero = this.#k.isHugeZero(entry.pfn)
      if (zero && this.#k.release.gup.hugeZeroIsSpecial) return false
      const relevant = zero ? this.#relevant & ~PTE_SPECIAL : this.#relevant
      if ((entry.bits & relevant) !== this.#wanted) return false
      this.#hugePfn = entry.pfn
      this.#bits[0] = entry.bits
      this.#run = limit
      return true
    }
    this.#huge = false
    const { bits, pfn } = entry
    const n = countMatching(bits, slot, limit, this.#relevant, this.#wanted)
    // entries of the array behind the result are nobody's: they hold the snapshot
    this.#pfns.set(pfn.subarray(slot, slot + n), this.taken)
    this.#bits.set(bits.subarray(slot, slot + n))
    this.#run = n
    return n > 0
  }

  /** Takes the references of the run; a page that cannot be grabbed, or will not be kept, ends it. */
  #grab(): number {
    const k = this.#k
    const flags = this.#flags
    const pin = (flags & FOLL_PIN) !== 0
    if (this.#huge) {
      if (!tryGrabFolioFast(k, this.#hugePfn + this.#slot, this.#run, flags)) this.#run = 0
      return this.#run
    }
    const words = k.memory.frames.flags
    const pfns = this.#pfns
    const first = this.taken
    const end = first + this.#run
    // the explorer's pages are marked when they are kept; in one go it makes no difference when
    const mark = !k.exploring
    const checked = pin && pinLedger(k) !== null
    let i = first
    while (i < end) {
      if (!checked) i = grabPlain(k, pfns, i, end, pin, this.#plain, mark)
      if (i === end) break
      const pfn = pfns[i]!
      if (!tryGrabFolioFast(k, pfn, 1, flags)) break
      const keeps = this.#keeps(pfn, words[pfn]!, this.#bits[i - first]!)
      if (keeps && mark) words[k.memory.frames.head(pfn)]! |= PG_REFERENCED
      i++
      if (!keeps) break
    }
    this.#run = i - first
    return this.#run
  }

  /** Pin first, look again after: an entry that changed meanwhile gives its page back. */
  #recheck(): boolean {
    // without the explorer nobody could run since the snapshot
    if (!this.#k.exploring) return true
    const entry = this.#mm.pageTable.pmd(pmdIndex(this.#page * PAGE_SIZE))
    let same = entry === this.#entry
    if (same && entry instanceof HugePmd) same = entry.pfn === this.#hugePfn && entry.bits === this.#bits[0]
    else if (same && entry !== null && !(entry instanceof HugePmd)) {
      for (let i = 0; i < this.#run; i++) {
        same &&=
          entry.pfn[this.#slot + i] === this.#pfns[this.taken + i] &&
          entry.bits[this.#slot + i] === this.#bits[i]
      }
    }
    if (!same) this.#giveBack(0)
    return same
  }

  /** Decides about the last page of the run (those before it are kept) and records. @returns whether the walk goes on */
  #admit(): boolean {
    const { frames } = this.#k.memory
    const words = frames.flags
    const pfns = this.#pfns
    const at = this.taken
    const run = this.#run
    if (this.#huge) {
      const head = frames.head(this.#hugePfn)
      if (!this.#keeps(head, words[head]!, this.#bits[0]!)) {
        this.#giveBack(0)
        return false
      }
      frames.writeNumbers(pfns, at, this.#hugePfn + this.#slot, run)
      words[head]! |= PG_REFERENCED
    } else {
      const pfn = pfns[at + run - 1]!
      if (!this.#keeps(pfn, words[pfn]!, this.#bits[run - 1]!)) {
        this.#giveBack(run - 1)
        this.taken = at + run - 1
        return false
      }
      if (this.#k.exploring) words[frames.head(pfn)]! |= PG_REFERENCED
    }
    this.taken = at + run
    this.#page += run
    return true
  }

  /** The tests after the grab: is this page one the fast path may hand out? */
  #keeps(pfn: number, word: number, bits: number): boolean {
    if (!this.#folioAllowed(pfn, word)) return false
    return (bits & PTE_WRITE) !== 0 || !mustUnshare(this.#k, null, this.#flags, word)
  }

  /** @rule R-GUP-58 */
  #folioAllowed(pfn: number, word: number): boolean {
    if ((word & PG_SECRETMEM) !== 0) return false
    const { fastFolioCheck } = this.#k.release.gup
    if (fastFolioCheck === 'none') return true
    const writeLongterm = (this.#flags & WRITE_LONGTERM_PIN) === WRITE_LONGTERM_PIN
    const small = (word & ORDER_MASK) === 0
    if (!writeLongterm && (fastFolioCheck === 'write-longterm' || !small)) return true
    if ((word & (PG_HUGETLB | PG_ANON)) !== 0) return true
    const { frames } = this.#k.memory
    const mapping = frames.mapping[frames.head(pfn)]!
    if (mapping === 0) return false
    if (!writeLongterm) return true
    if (mapping !== this.#lastMapping) {
      this.#lastMapping = mapping
      this.#lastAllowed = this.#k.mappings.get(mapping)?.kind.shmem === true
    }
    return this.#lastAllowed
  }

  /** Undoes the grabs of the run from entry `from` on; the observer never heard of them. */
  #giveBack(from: number): void {
    const pin = (this.#flags & FOLL_PIN) !== 0
    for (let i = from; i < this.#run; i++) {
      const pfn = this.#huge ? this.#hugePfn + this.#slot + i : this.#pfns[this.taken + i]!
      if (pin) releasePins(this.#k, pfn, 1)
      else putPage(this.#k, pfn)
    }
    this.#run = from
  }
}

/**
 * May the walk run at all? A pin must not race with a fork that is write-protecting.
 * @returns the sequence to compare with afterwards, or -1 to skip the walk; GET ignores it
 * @rule R-GUP-55
 */
function beginWalk(mm: Mm, flags: number): number {
  if ((flags & FOLL_PIN) === 0) return 0
  return (mm.writeProtectSeq & 1) === 1 ? -1 : mm.writeProtectSeq
}

/**
 * After the walk: a fork that began meanwhile may have shared the pages, so all pins go.
 * @returns pages the caller holds
 * @rule R-GUP-59
 * @rule R-GUP-76
 */
function endWalk(
  k: Kernel,
  mm: Mm,
  sequence: number,
  flags: number,
  pfns: Int32Array,
  taken: number,
): number {
  if ((flags & FOLL_PIN) === 0) return taken
  if (mm.writeProtectSeq !== sequence) {
    for (let i = 0; i < taken; i++) releasePins(k, pfns[i]!, 1)
    return 0
  }
  if (k.observer !== null) observePins(k, pfns, 0, taken)
  return taken
}

/** The walk in one go, for callers that may not be preempted. @returns pages taken */
export function walkLockless(
  k: Kernel,
  mm: Mm,
  start: number,
  nrPages: number,
  flags: number,
  pfns: Int32Array,
): number {
  const sequence = beginWalk(mm, flags)
  if (sequence < 0) return 0
  const walk = new FastWalk(k, mm, start, nrPages, flags, pfns)
  while (walk.step());
  return endWalk(k, mm, sequence, flags, pfns, walk.taken)
}

/** The same walk with a preemption point between its phases. */
export function* walkLocklessExplored(
  k: Kernel,
  mm: Mm,
  start: number,
  nrPages: number,
  flags: number,
  pfns: Int32Array,
): Kthread<number> {
  const sequence = beginWalk(mm, flags)
  if (sequence < 0) return 0
  const walk = new FastWalk(k, mm, start, nrPages, flags, pfns)
  while (walk.step()) yield PREEMPT
  return endWalk(k, mm, sequence, flags, pfns, walk.taken)
}
