import { EINVAL, ENOMEM } from '../base/errno.ts'
import { PREEMPT, type Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE } from '../base/units.ts'
import { PG_DIRTY } from '../memory/page-flags.ts'
import type { AddressSpace, OpenFile } from './file.ts'
import { newCachedPage, pageCacheInsert } from './filemap.ts'
import { FOLL_PIN } from './gup-flags.ts'
import { observePins } from './gup-follow.ts'
import { tryGrabFolio } from './gup-grab.ts'
import { pinWhereItMayStay } from './gup-longterm.ts'
import { allocHugetlb } from './hugetlb-map.ts'
import { hugetlbFile } from './hugetlb-reserve.ts'
import type { Kernel } from './kernel.ts'
import type { PageArray } from './page-array.ts'
import { shmemSwapIn } from './shmem-swap.ts'
import { unpinRange } from './unpin.ts'

/** The folios of a stretch of a memory file, pinned. */
export interface FolioStretch {
  /** bytes from the start of the first folio to where the stretch begins; filled in */
  offset: number
}

/**
 * `memfd_pin_folios`: pins what a memfd or a hugetlb file holds of [start, end], for long, without an address: what
 * is missing is allocated, each folio is pinned once, and what may not stay where it is gets moved first.
 * @param memfd null: there is no such file
 * @param end in bytes, inclusive
 * @param folios their heads; as many as fit
 * @returns folios pinned; -EINVAL for a file of another kind or a range that is not within it, -ENOMEM; nothing is
 *   pinned then
 * @throws Unmodelled `livelock possible` where the kernel would go round for ever
 * @rule R-GUP-97
 */
export function* memfdPinFolios(
  k: Kernel,
  memfd: OpenFile | null,
  start: number,
  end: number,
  folios: PageArray,
  stretch: FolioStretch,
): Kthread<number> {
  const refused = (why: string): number => refuse(k.current, EINVAL, 'R-GUP-97', { why })
  if (start < 0 || start > end || folios.length === 0) return refused('the range of the file holds no page')
  if (memfd === null) return refused('there is no file')
  const { mapping } = memfd
  if (!mapping.kind.shmem && !mapping.kind.hugetlb)
    return refused('the file is neither a memfd nor of hugetlbfs')
  if (end >= mapping.size) return refused('the range ends behind the end of the file')
  const walk = (): Kthread<number> => pinRound(k, mapping, start, end, folios, stretch)
  const pinned = yield* pinWhereItMayStay(k, walk, folios.pfns, 0, {})
  if (pinned > 0) observePins(k, folios.pfns, 0, pinned)
  return pinned
}

/** One walk over the range. @returns folios, or a negative errno with none of them pinned */
function* pinRound(
  k: Kernel,
  mapping: AddressSpace,
  start: number,
  end: number,
  folios: PageArray,
  stretch: FolioStretch,
): Kthread<number> {
  const { frames } = k.memory
  const { pfns } = folios
  const last = Math.floor(end / PAGE_SIZE)
  let pinned = 0
  let error = 0
  for (let index = Math.floor(start / PAGE_SIZE); index <= last && pinned < folios.length;) {
    if (k.exploring) yield PREEMPT
    const pfn = cachedPage(k, mapping, index)
    if (pfn === 0) {
      error = refuse(k.current, ENOMEM, 'R-GUP-97', { page: index, why: noPage(mapping) })
      break
    }
    const head = frames.head(pfn)
    if (tryGrabFolio(k, head, 1, FOLL_PIN) < 0) {
      const why = 'a folio of the file cannot be pinned'
      error = refuse(k.current, EINVAL, 'R-GUP-97', { page: index, why }, k.current.refusal)
      break
    }
    const first = index - (pfn - head)
    if (pinned === 0) stretch.offset = start - first * PAGE_SIZE
    pfns[pinned++] = head
    index = first + frames.nrPages(head)
  }
  if (error === 0) return pinned
  unpinRange(k, pfns, 0, pinned)
  pfns.fill(0, 0, pinned)
  return error
}

function noPage({ kind }: AddressSpace): string {
  return kind.hugetlb
    ? 'the pool of huge pages is exhausted and nothing is reserved for this page'
    : 'there is no memory for a page of the file'
}

/** The page of a file at an index of 4 KiB pages, brought in or made if it is not there. @returns 0 without memory */
function cachedPage(k: Kernel, mapping: AddressSpace, index: number): number {
  if (mapping.kind.hugetlb) return hugetlbPage(k, mapping, index)
  const pfn = mapping.pages.get(index)
  if (pfn !== 0) return pfn
  return mapping.swapped.has(index) ? shmemSwapIn(k, mapping, index) : newCachedPage(k, mapping, index)
}

function hugetlbPage(k: Kernel, mapping: AddressSpace, index: number): number {
  const pages = mapping.pageSize / PAGE_SIZE
  const huge = Math.floor(index / pages)
  let head = mapping.pages.get(huge)
  if (head === 0) {
    const file = hugetlbFile(k, mapping)
    head = allocHugetlb(k, file, file.reserved.has(huge))
    if (head === 0) return 0
    pageCacheInsert(k, mapping, huge, head)
    file.reserved.add(huge)
    k.memory.frames.set(head, PG_DIRTY)
    k.memory.put(head)
  }
  return head + (index % pages)
}
