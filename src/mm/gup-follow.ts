import { EEXIST, EFAULT, EINVAL, EMLINK, ENOMEM } from '../base/errno.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE, PTRS_PER_PTE, pageNumber } from '../base/units.ts'
import { GUP_PIN_COUNTING_BIAS } from '../memory/frames.ts'
import { ORDER_MASK, PG_ANON, PG_ANON_EXCLUSIVE, PG_DIRTY, PG_REFERENCED } from '../memory/page-flags.ts'
import {
  FOLL_DUMP,
  FOLL_FORCE,
  FOLL_GET,
  FOLL_HONOR_NUMA_FAULT,
  FOLL_LONGTERM,
  FOLL_PIN,
  FOLL_SPLIT_PMD,
  FOLL_TOUCH,
  FOLL_WRITE,
} from './gup-flags.ts'
import { noteSmallPins, pinIsCounted, pinLedger, tryGrabFolio } from './gup-grab.ts'
import { PLAIN_EXCLUSIVE, PLAIN_SMALL, countMatching, grabPlain } from './gup-plain.ts'
import { splitHugePmd } from './huge-memory.ts'
import type { Kernel } from './kernel.ts'
import type { LockedGuard } from './locked-guard.ts'
import type { Mm } from './mm.ts'
import type { PageArray } from './page-array.ts'
import { awaitsSoftDirty } from './page-prot.ts'
import {
  HugePmd,
  PTE_ACCESSED,
  PTE_DIRTY,
  PTE_PRESENT,
  PTE_PROTNONE,
  PTE_SPECIAL,
  PTE_UFFD_WP,
  PTE_WRITE,
  pmdIndex,
  pteSlot,
  type Leaf,
} from './page-table.ts'
import { VM_ACCESS_FLAGS, VM_MAYSHARE, VM_MAYWRITE, VM_SHARED, VM_WRITE } from './vm-flags.ts'
import { vmaFacts, type Vma } from './vma.ts'

/** `follow_page_mask` found nothing it may use: fault it in, then look again. */
export const FOLLOW_FAULT = 1

/** What one exported GUP call carries through its layers. */
export class GupCall {
  readonly k: Kernel
  readonly mm: Mm
  readonly pages: PageArray | null
  readonly locked: LockedGuard
  /**
   * Why the last `followRun` ended before it had all it wanted: 0 it did not, FOLLOW_FAULT, -EMLINK
   * (unshare first), or the errno the call stops with.
   */
  stop = 0

  constructor(k: Kernel, mm: Mm, pages: PageArray | null, locked: LockedGuard) {
    this.k = k
    this.mm = mm
    this.pages = pages
    this.locked = locked
  }
}

/**
 * `follow_page_mask` over a run: takes pages from one 2 MiB span until something needs a fault, an error
 * or the end of the span, the VMA, the batch. Pages go to `call.pages` from index `at` on, referenced as
 * FOLL_GET or FOLL_PIN say.
 *
 * @param address in `vma`
 * @returns pages done; `call.stop` says why there are not more
 */
export function followRun(
  call: GupCall,
  vma: Vma,
  address: number,
  want: number,
  flags: number,
  at: number,
): number {
  call.stop = 0
  const index = pmdIndex(address)
  let entry = call.mm.pageTable.pmd(index)
  // @rule R-GUP-27
  if (
    entry instanceof HugePmd &&
    (flags & FOLL_SPLIT_PMD) !== 0 &&
    !vma.isHugetlb &&
    (entry.bits & PTE_PRESENT) !== 0
  ) {
    splitHugePmd(call.k, call.mm, vma, index)
    entry = call.mm.pageTable.pmd(index)
  }
  if (entry === null) {
    call.stop = emptyEntry(call, vma, flags, address, at)
    return 0
  }
  // @rule R-GUP-24
  if ((flags & (FOLL_GET | FOLL_PIN)) === (FOLL_GET | FOLL_PIN)) {
    call.k.warnOnce('gup-get-and-pin', 'a page was to be taken with FOLL_GET and FOLL_PIN at once')
    const why = 'FOLL_GET and FOLL_PIN exclude each other'
    call.stop = refuse(call.k.current, EINVAL, 'R-GUP-24', { address, page: at, vma: vmaFacts(vma), why })
    return 0
  }
  const inVma = pageNumber(vma.end) - pageNumber(address)
  const limit = Math.min(want, inVma)
  if (entry instanceof HugePmd) return followHuge(call, vma, entry, address, limit, flags, at)
  return followPtes(
    call,
    vma,
    entry,
    address,
    Math.min(limit, PTRS_PER_PTE - pteSlot(address), call.k.batch),
    flags,
    at,
  )
}

/**
 * No entry: a fault brings one, except that a core dump leaves what was never touched alone.
 * @rule R-GUP-23
 */
function emptyEntry(call: GupCall, vma: Vma, flags: number, address: number, at: number): number {
  if ((flags & FOLL_DUMP) === 0) return FOLLOW_FAULT
  const { file } = vma
  // @rule R-HTL-6
  if (vma.isHugetlb && file !== null) {
    const perEntry = file.mapping.pageSize / PAGE_SIZE
    if (file.mapping.pages.get(Math.floor(vma.pageIndex(address) / perEntry)) !== 0) return FOLLOW_FAULT
  } else if (!vma.isAnonymous && file !== null && file.mapping.kind.faultable) return FOLLOW_FAULT
  return refuse(call.k.current, EFAULT, 'R-GUP-23', {
    address,
    page: at,
    vma: vmaFacts(vma),
    why: 'a core dump does not create pages that were never touched',
  })
}

/** @rule R-GUP-25 */
function mayFollowProtnone(call: GupCall, vma: Vma, flags: number): boolean {
  if (!call.k.release.gup.honorNumaFaultFlag) return (flags & FOLL_FORCE) !== 0
  return (flags & FOLL_HONOR_NUMA_FAULT) === 0 || (vma.flags & VM_ACCESS_FLAGS) === 0
}

/**
 * `can_follow_write_*`: may a write go through an entry that is not writable?
 * @param exclusive flag word of the page that carries AnonExclusive for this entry
 * @rule R-GUP-22
 */
function mayForceWrite(vma: Vma, flags: number, bits: number, exclusive: number): boolean {
  if ((flags & FOLL_FORCE) === 0) return false
  if ((vma.flags & (VM_SHARED | VM_MAYSHARE | VM_MAYWRITE | VM_WRITE)) !== VM_MAYWRITE) return false
  if ((exclusive & (PG_ANON | PG_ANON_EXCLUSIVE)) !== (PG_ANON | PG_ANON_EXCLUSIVE)) return false
  return (bits & (PTE_SPECIAL | PTE_UFFD_WP)) === 0 && !awaitsSoftDirty(vma, bits)
}

/**
 * `gup_must_unshare` for an entry that is not writable: would the pin lose its page to a later COW?
 * @param word flag word of the page that carries AnonExclusive for this entry
 * @param vma null on the fast path, which does not know it
 * @rule R-GUP-26
 * @rule R-COM-6
 */
export function mustUnshare(k: Kernel, vma: Vma | null, flags: number, word: number): boolean {
  if ((flags & (FOLL_PIN | FOLL_WRITE)) !== FOLL_PIN) return false
  if ((word & PG_ANON) !== 0) return (word & PG_ANON_EXCLUSIVE) === 0
  return k.release.gup.unsharesFilePages && (flags & FOLL_LONGTERM) !== 0 && (vma === null || vma.isCow)
}

/** @rule R-GUP-24 */
function followPtes(
  call: GupCall,
  vma: Vma,
  leaf: Leaf,
  address: number,
  n: number,
  flags: number,
  at: number,
): number {
  const { k } = call
  const { frames } = k.memory
  const { refcount, flags: words } = frames
  const out = call.pages === null ? null : call.pages.pfns
  const first = pteSlot(address)
  const end = first + n
  const write = (flags & FOLL_WRITE) !== 0
  const touch = (flags & FOLL_TOUCH) !== 0
  const pin = (flags & FOLL_PIN) !== 0
  const grab = pin || (flags & FOLL_GET) !== 0
  const ledger = pin ? pinLedger(k) : null
  let acquired = 0
  let slot = first
  if (grab && out !== null && ledger === null) {
    // through writable (for a touching write: dirty) entries, or to exclusive pages, there is nothing to decide
    const wanted = !write
      ? PTE_PRESENT
      : touch
        ? PTE_PRESENT | PTE_WRITE | PTE_DIRTY
        : PTE_PRESENT | PTE_WRITE
    const plain = countMatching(leaf.bits, first, n, wanted | PTE_PROTNONE | PTE_SPECIAL, wanted)
    out.set(leaf.pfn.subarray(first, first + plain), at)
    const pages = pin && !write ? PLAIN_EXCLUSIVE : PLAIN_SMALL
    slot += grabPlain(k, out, at, at + plain, pin, pages, touch) - at
  }
  for (; slot < end; slot++) {
    const bits = leaf.bits[slot]!
    if ((bits & PTE_PRESENT) === 0) {
      call.stop =
        bits === 0
          ? emptyEntry(call, vma, flags, address + (slot - first) * PAGE_SIZE, at + slot - first)
          : FOLLOW_FAULT
      break
    }
    if ((bits & PTE_PROTNONE) !== 0 && !mayFollowProtnone(call, vma, flags)) {
      call.stop = FOLLOW_FAULT
      break
    }
    const pfn = leaf.pfn[slot]!
    const word = words[pfn]!
    if (write && (bits & PTE_WRITE) === 0 && !mayForceWrite(vma, flags, bits, word)) {
      call.stop = FOLLOW_FAULT
      break
    }
    if ((bits & PTE_SPECIAL) !== 0) {
      const where = {
        address: address + (slot - first) * PAGE_SIZE,
        page: at + slot - first,
        vma: vmaFacts(vma),
      }
      if ((flags & FOLL_DUMP) !== 0) {
        call.stop = refuse(k.current, EFAULT, 'R-GUP-24', {
          ...where,
          why: 'a core dump skips pages without contents of their own',
        })
        break
      }
      if (pfn !== k.zeroPfn) {
        if (touch) leaf.bits[slot]! |= write ? PTE_ACCESSED | PTE_DIRTY : PTE_ACCESSED
        // @rule R-GUP-30
        if (out === null) continue
        call.stop = refuse(k.current, EEXIST, 'R-GUP-30', {
          ...where,
          why: 'mapped, but without a page structure',
        })
        break
      }
    }
    if ((bits & PTE_WRITE) === 0 && mustUnshare(k, vma, flags, word)) {
      call.stop = -EMLINK
      break
    }
    if (grab) {
      if ((word & ORDER_MASK) === 0 && refcount[pfn]! > 0 && pfn !== k.zeroPfn) {
        // @rule R-GUP-62
        // @rule R-COM-3
        if (pin) {
          refcount[pfn]! += GUP_PIN_COUNTING_BIAS
          acquired++
          if (ledger !== null) noteSmallPins(ledger, pfn, 1)
        } else refcount[pfn]!++
      } else {
        const error = tryGrabFolio(k, pfn, 1, flags)
        if (error !== 0) {
          call.stop = grabRefused(k, error, address + (slot - first) * PAGE_SIZE, at + slot - first, vma)
          break
        }
      }
    }
    if (touch) touchPage(words, frames.head(pfn), write && (bits & PTE_DIRTY) === 0)
    if (out !== null) out[at + slot - first] = pfn
  }
  k.pinAcquired += acquired
  const done = slot - first
  if (pin && k.observer !== null) observePins(k, call.pages!.pfns, at, at + done)
  return done
}

/** Completes the refusal of a failed grab with where it happened. */
function grabRefused(k: Kernel, error: number, address: number, page: number, vma: Vma): number {
  return refuse(k.current, -error, 'R-GUP-60', { ...k.current.refusal, address, page, vma: vmaFacts(vma) })
}

/**
 * FOLL_TOUCH: accessed always; dirty for a write through an entry that is not (R-GUP-24 step 9).
 * @rule R-COM-10
 */
function touchPage(words: Uint32Array, head: number, dirty: boolean): void {
  const word = words[head]!
  const touched = word | (dirty ? PG_REFERENCED | PG_DIRTY : PG_REFERENCED)
  if (touched !== word) words[head] = touched
}

/**
 * A PMD that maps 2 MiB: THP, huge zero folio or hugetlb. Whether a release takes it page by page or in
 * one step, the pages, counts and results are the same (R-GUP-37); only the errno of an overflow is not.
 * @rule R-GUP-27
 * @rule R-GUP-29
 * @rule R-HTL-1
 * @rule R-HTL-4
 */
function followHuge(
  call: GupCall,
  vma: Vma,
  entry: HugePmd,
  address: number,
  limit: number,
  flags: number,
  at: number,
): number {
  const { k } = call
  const { gup } = k.release
  const { bits } = entry
  const write = (flags & FOLL_WRITE) !== 0
  const hugetlb = vma.isHugetlb
  if ((bits & PTE_PRESENT) === 0 || ((bits & PTE_PROTNONE) !== 0 && !mayFollowProtnone(call, vma, flags))) {
    call.stop = FOLLOW_FAULT
    return 0
  }
  const { frames } = k.memory
  const head = frames.head(entry.pfn)
  const headWord = frames.flags[head]!
  if (write && (bits & PTE_WRITE) === 0 && !mayForceWrite(vma, flags, bits, headWord)) {
    call.stop = FOLLOW_FAULT
    return 0
  }
  if ((flags & FOLL_DUMP) !== 0 && k.isHugeZero(head)) {
    call.stop = refuse(k.current, EFAULT, 'R-GUP-27', {
      address,
      page: at,
      vma: vmaFacts(vma),
      why: 'a core dump skips pages without contents of their own',
    })
    return 0
  }
  if ((bits & PTE_WRITE) === 0 && mustUnshare(k, vma, flags, headWord)) {
    call.stop = -EMLINK
    return 0
  }
  const slot = pteSlot(address)
  const pages = call.pages
  // one page is one step for the explorer; without pages the whole mapping is one step on every release
  const n =
    pages === null ? Math.min(limit, PTRS_PER_PTE - slot) : Math.min(limit, PTRS_PER_PTE - slot, k.batch)
  let error = tryGrabFolio(k, entry.pfn, 1, flags)
  let got = error === 0 ? 1 : 0
  if (error === 0 && n > 1 && pages !== null) {
    error = tryGrabFolio(k, entry.pfn, n - 1, flags)
    if (error === 0) got = n
  } else if (pages === null && error === 0) got = n
  if (got < n) {
    if (got === 1 && gup.hugeStepWithPages) {
      // @rule R-GUP-37
      releaseOne(k, head, flags)
      got = 0
      error = refuse(
        k.current,
        EFAULT,
        'R-GUP-37',
        { why: 'the reference count of the huge page has overflown' },
        k.current.refusal,
      )
    } else if (got === 0) error = -ENOMEM
    call.stop = grabRefused(k, error, address + got * PAGE_SIZE, at + got, vma)
  }
  if (got > 0 && (flags & FOLL_TOUCH) !== 0 && !hugetlb) {
    entry.bits |= write ? PTE_ACCESSED | PTE_DIRTY : PTE_ACCESSED
    touchPage(frames.flags, head, false)
  }
  if (pages !== null) {
    const { pfns } = pages
    const from = entry.pfn + slot
    for (let i = 0; i < got; i++) pfns[at + i] = from + i
    if ((flags & FOLL_PIN) !== 0 && k.observer !== null) observePins(k, pfns, at, at + got)
  }
  return got
}

function releaseOne(k: Kernel, head: number, flags: number): void {
  if ((flags & FOLL_PIN) !== 0) {
    k.memory.frames.addPincount(head, -1)
    k.pinReleased++
  }
  k.memory.put(head)
}

/**
 * Tells the observer of new pins, consecutive frames as one event.
 * @rule R-FLT-171
 */
export function observePins(
  k: Kernel,
  pfns: Int32Array,
  from: number,
  to: number,
  type: 'pin' | 'unpin' = 'pin',
): void {
  for (let i = from; i < to;) {
    const pfn = pfns[i]!
    let pages = 1
    while (i + pages < to && pfns[i + pages] === pfn + pages) pages++
    i += pages
    if (pfn !== 0 && pinIsCounted(k, pfn)) k.observer?.({ type, pfn, pages })
  }
}
