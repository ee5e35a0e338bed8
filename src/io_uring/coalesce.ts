import { PAGE_SHIFT } from '../base/units.ts'
import type { Frames } from '../memory/frames.ts'
import type { Kernel } from '../mm/kernel.ts'
import { PageArray } from '../mm/page-array.ts'
import { unpinUserPage } from '../mm/unpin.ts'
import type { Segments } from './buffer.ts'

/**
 * Joins pages of large folios and drops the pins that are not needed any more: one per folio stays.
 * @param pages n pinned pages; they belong to the result afterwards
 * @rule R-URING-37
 * @rule R-URING-40
 * @rule R-HUGE-5
 */
export function coalesce(k: Kernel, pages: PageArray, n: number): Segments {
  const { coalesces } = k.release.ioUring
  if (n > 1 && coalesces === 'one-folio') return coalesceOneFolio(k, pages, n)
  if (n > 1 && coalesces === 'folios') return coalesceFolios(k, pages, n)
  return separate(pages, n)
}

function separate(pages: PageArray, n: number): Segments {
  return { pages, nrPins: n, folioShift: PAGE_SHIFT, disordered: false }
}

/**
 * 6.3 to 6.11: a buffer that lies in one folio altogether becomes one segment. The folio may be small
 * (one page mapped several times in a row).
 *
 * The base of the series does not ask whether the pages follow one another (CVE-2023-2598). The decision
 * is reproduced and reported as a warning; I/O on such a buffer is not (`RegisteredBuffer.pfnAt`).
 * @rule R-URING-38
 */
function coalesceOneFolio(k: Kernel, pages: PageArray, n: number): Segments {
  const { frames } = k.memory
  const { pfns } = pages
  const first = pfns[0]!
  const head = frames.head(first)
  let ordered = true
  for (let i = 1; i < n; i++) {
    const pfn = pfns[i]!
    if (frames.head(pfn) !== head) return separate(pages, n)
    if (pfn !== first + i) ordered = false
  }
  if (!ordered) {
    if (k.release.ioUring.coalesceChecksOrder) return separate(pages, n)
    k.warnOnce(
      'io-uring-coalesce-order',
      'io_uring joined pages of one folio that do not follow one another: I/O on this buffer would reach other memory (CVE-2023-2598)',
    )
  }
  for (let i = 1; i < n; i++) unpinUserPage(k, pfns[i]!)
  const kept = new PageArray(1)
  kept.pfns[0] = first
  return { pages: kept, nrPins: 1, folioShift: PAGE_SHIFT + frames.order(head), disordered: !ordered }
}

/**
 * 6.12 on: folios of one size, each taken from its start (the first from anywhere) to its end (the last
 * to anywhere), become one segment each.
 * @rule R-URING-39
 */
function coalesceFolios(k: Kernel, pages: PageArray, n: number): Segments {
  const { frames } = k.memory
  const { pfns } = pages
  const folios = joinableFolios(frames, pfns, n)
  if (folios === 0) return separate(pages, n)
  const kept = new PageArray(folios)
  let folio = -1
  let head = -1
  for (let i = 0; i < n; i++) {
    const pfn = pfns[i]!
    if (frames.head(pfn) === head && pfn === pfns[i - 1]! + 1) {
      unpinUserPage(k, pfn)
      continue
    }
    head = frames.head(pfn)
    kept.pfns[++folio] = pfn
  }
  return { pages: kept, nrPins: folios, folioShift: PAGE_SHIFT + frames.order(pfns[0]!), disordered: false }
}

/** How many folios the pages are when they can be joined, 0 when they cannot. */
function joinableFolios(frames: Frames, pfns: Int32Array, n: number): number {
  if (!frames.isLarge(pfns[0]!)) return 0
  const size = frames.nrPages(pfns[0]!)
  let folios = 1
  let head = frames.head(pfns[0]!)
  for (let i = 1; i < n; i++) {
    const pfn = pfns[i]!
    if (frames.head(pfn) === head && pfn === pfns[i - 1]! + 1) continue
    // a folio may follow itself: it is mapped twice in a row
    if (pfns[i - 1]! !== head + size - 1) return 0
    head = frames.head(pfn)
    if (pfn !== head || frames.nrPages(head) !== size) return 0
    folios++
  }
  return folios
}
