import { PTRS_PER_PTE } from '../base/units.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import { HugePmd, PTE_NONPRESENT_KINDS, PTE_PRESENT, type PmdEntry } from './page-table.ts'

/**
 * Every mapping of a large folio is in this mm, as far as the release can tell: from 6.18 on a folio keeps count
 * for two address spaces at a time, and for a third it never knows.
 * @rule R-HUGE-20
 */
export function isMappedOnlyBy(k: Kernel, mm: Mm, head: number): boolean {
  if (k.memory.frames.uncounted.get(head)?.has(mm.id) === true) return false
  const total = k.memory.frames.totalMapcount(head)
  return mappingsIn(k, mm, head, total) === total
}

/**
 * `folio_maybe_mapped_shared`, before 6.18 `folio_likely_mapped_shared`: other address spaces map a large folio, too,
 * as far as the release can tell. 6.12 guesses: where the numbers do not decide, its first page stands for all.
 * @rule R-HUGE-67
 */
export function isMappedShared(k: Kernel, mm: Mm, head: number): boolean {
  if (k.release.fault.largeFolioSharing !== 'first-page') return !isMappedOnlyBy(k, mm, head)
  const { frames } = k.memory
  const total = frames.totalMapcount(head)
  if (total <= 1) return false
  return frames.entireMapcount(head) > 0 || total > frames.nrPages(head) || frames.mapcount[head]! > 1
}

/** MADV_COLD and PAGEOUT, or MADV_FREE: up to 6.6 they look at mappings of different pages. */
export type SharedAdvice = 'aging' | 'lazyfree'

/**
 * Advice leaves a large folio alone that others seem to map, too. Up to 6.6 that is said of one page.
 * @param pfn the page at this entry; null for a huge entry
 * @rule R-HUGE-67
 */
export function adviceSpares(
  k: Kernel,
  mm: Mm,
  head: number,
  pfn: number | null,
  kind: SharedAdvice,
): boolean {
  if (k.release.fault.largeFolioSharing !== 'page') return isMappedShared(k, mm, head)
  const { frames } = k.memory
  if (kind === 'lazyfree' && pfn === null) return frames.totalMapcount(head) !== 1
  return frames.pageMapcount(kind === 'aging' ? (pfn ?? head) : head) !== 1
}

/**
 * A mm is about to map a large anonymous folio, or more of one. Where two others are counted already it is not, and
 * is not either when they have gone.
 * @rule R-HUGE-20
 */
export function noteMapper(k: Kernel, mm: Mm, head: number): void {
  const { uncounted } = k.memory.frames
  // two address spaces are known exactly
  if (k.release.fault.largeFolioSharing !== 'two-mms' || k.mms.size < 3) return
  const others = uncounted.get(head)
  if (others?.has(mm.id) === true) return
  const total = k.memory.frames.totalMapcount(head)
  let counted = 0
  for (const other of k.mms) {
    if (mappingsIn(k, other, head, total) === 0) continue
    if (other === mm) return
    if (others?.has(other.id) !== true) counted++
  }
  if (counted < 2) return
  if (others === undefined) uncounted.set(head, new Set([mm.id]))
  else others.add(mm.id)
}

/** How many of the `total` mappings of a folio are in this mm. */
function mappingsIn(k: Kernel, mm: Mm, head: number, total: number): number {
  const { frames } = k.memory
  const end = head + frames.nrPages(head)
  // Unless it was moved by mremap, a folio is mapped where it was created, whose page number is known
  // modulo 2^32: eight candidates. Elsewhere only a walk of the whole table can tell.
  let here = 0
  let elsewhere = 0
  for (let turn = 0; turn < 8; turn++) {
    const pmd = Math.floor((turn * 2 ** 32 + frames.index[head]!) / PTRS_PER_PTE)
    here += countMappings(mm.pageTable.pmd(pmd), head, end)
    if (here === total) return here
    for (const other of k.mms)
      if (other !== mm) elsewhere += countMappings(other.pageTable.pmd(pmd), head, end)
    if (here + elsewhere === total) return here
  }
  here = 0
  const { pageTable } = mm
  for (let i = pageTable.nextPmd(0, 2 ** 26); i >= 0; i = pageTable.nextPmd(i + 1, 2 ** 26))
    here += countMappings(pageTable.pmd(i), head, end)
  return here
}

function countMappings(entry: PmdEntry | null, head: number, end: number): number {
  if (entry === null) return 0
  if (entry instanceof HugePmd) return entry.pfn === head && (entry.bits & PTE_PRESENT) !== 0 ? 1 : 0
  const { pfn, bits } = entry
  let found = 0
  for (let slot = 0; slot < PTRS_PER_PTE; slot++) {
    if (
      pfn[slot]! >= head &&
      pfn[slot]! < end &&
      (bits[slot]! & (PTE_PRESENT | PTE_NONPRESENT_KINDS)) === PTE_PRESENT
    )
      found++
  }
  return found
}
