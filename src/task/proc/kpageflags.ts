import {
  PG_ANON,
  PG_ANON_EXCLUSIVE,
  PG_BUDDY,
  PG_DIRTY,
  PG_HUGETLB,
  PG_KSM,
  PG_LOCKED,
  PG_LRU,
  PG_MLOCKED,
  PG_MTE_TAGGED,
  PG_PRIVATE,
  PG_REFERENCED,
  PG_RESERVED,
  PG_SWAPBACKED,
  PG_SWAPCACHE,
  PG_UPTODATE,
  PG_WRITEBACK,
} from '../../memory/page-flags.ts'
import type { Kernel } from '../../mm/kernel.ts'

/** Bits 0 to 31 of a word of kpageflags. */
export const KPF_LOCKED = 1 << 0
export const KPF_REFERENCED = 1 << 2
export const KPF_UPTODATE = 1 << 3
export const KPF_DIRTY = 1 << 4
export const KPF_LRU = 1 << 5
export const KPF_WRITEBACK = 1 << 8
export const KPF_BUDDY = 1 << 10
export const KPF_MMAP = 1 << 11
export const KPF_ANON = 1 << 12
export const KPF_SWAPCACHE = 1 << 13
export const KPF_SWAPBACKED = 1 << 14
export const KPF_COMPOUND_HEAD = 1 << 15
export const KPF_COMPOUND_TAIL = 1 << 16
export const KPF_HUGE = 1 << 17
export const KPF_UNEVICTABLE = 1 << 18
export const KPF_KSM = 1 << 21
export const KPF_THP = 1 << 22
export const KPF_ZERO_PAGE = 1 << 24
/** Bits 32 to 63, as bits of the upper half. */
export const KPFH_RESERVED = 1 << 0
export const KPFH_MLOCKED = 1 << 1
/** AnonExclusive of an anonymous page (R-PM-4) */
export const KPFH_EXCLUSIVE = 1 << 2
export const KPFH_PRIVATE = 1 << 3
export const KPFH_OWNER_PRIVATE = 1 << 5
/** PG_mte_tagged of arm64 (R-MTE-11) */
export const KPFH_ARCH_2 = 1 << 9

/** Flags of a page that have a bit of their own in the lower half. */
const SIMPLE: readonly (readonly [flag: number, bit: number])[] = [
  [PG_LOCKED, KPF_LOCKED],
  [PG_REFERENCED, KPF_REFERENCED],
  [PG_UPTODATE, KPF_UPTODATE],
  [PG_DIRTY, KPF_DIRTY],
  [PG_LRU, KPF_LRU],
  [PG_WRITEBACK, KPF_WRITEBACK],
  [PG_SWAPBACKED, KPF_SWAPBACKED],
]

/**
 * The word of one frame. Which flags a page of a large folio shows, its head's or its own, depends on the
 * release (R-PM-4); whether it is anonymous, mapped or huge is known to the head alone.
 * @param halves gets the lower half at `at`, the upper one behind it
 * @rule R-FLT-166
 * @rule R-FLT-167
 * @rule R-PM-5
 */
export function pageFlagsWord(k: Kernel, pfn: number, halves: Uint32Array, at: number): void {
  halves[at] = 0
  halves[at + 1] = 0
  const { frames } = k.memory
  // frame 0 belongs to nobody
  if (pfn === 0) {
    halves[at + 1] = KPFH_RESERVED
    return
  }
  const own = frames.flags[pfn]!
  const head = frames.head(pfn)
  const first = frames.flags[head]!
  const hugetlb = (first & PG_HUGETLB) !== 0
  // every page of a free block; free hugetlb pages belong to their pool
  if ((own & PG_BUDDY) !== 0 || (frames.refcount[head] === 0 && !hugetlb)) {
    halves[at] = KPF_BUDDY
    return
  }
  // a tail has hardly a flag of its own
  const ofTail = own & PG_ANON_EXCLUSIVE
  const shown = pfn === head || k.release.fault.pageFlagsOfHead ? first : ofTail
  let lower = 0
  let upper = 0
  for (const [flag, bit] of SIMPLE) if ((shown & flag) !== 0) lower |= bit
  const large = frames.isLarge(head)
  if (large) lower |= pfn === head ? KPF_COMPOUND_HEAD : KPF_COMPOUND_TAIL
  if (hugetlb) lower |= KPF_HUGE
  else if (large) lower |= KPF_THP
  if (pfn === k.zeroPfn || k.isHugeZero(pfn)) lower |= KPF_ZERO_PAGE
  if ((first & PG_RESERVED) !== 0) upper |= KPFH_RESERVED
  else if (frames.refcount[head]! > 0 && frames.pageMapcount(pfn) > 0) lower |= KPF_MMAP
  if ((shown & PG_MLOCKED) !== 0) {
    lower |= KPF_UNEVICTABLE
    upper |= KPFH_MLOCKED
  }
  if ((shown & PG_PRIVATE) !== 0) upper |= KPFH_PRIVATE
  if ((shown & PG_MTE_TAGGED) !== 0) upper |= KPFH_ARCH_2
  if ((first & PG_ANON) !== 0) {
    lower |= KPF_ANON
    if ((first & PG_KSM) !== 0) lower |= KPF_KSM
    else if ((shown & PG_ANON_EXCLUSIVE) !== 0) upper |= KPFH_EXCLUSIVE
  }
  // one flag under two names
  if ((shown & PG_SWAPCACHE) !== 0) {
    lower |= KPF_SWAPCACHE
    upper |= KPFH_OWNER_PRIVATE
  }
  halves[at] = lower
  halves[at + 1] = upper
}
