import { PTRS_PER_PTE } from '../base/units.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import { HugePmd, PTE_NONPRESENT_KINDS, PTE_PRESENT, type PmdEntry } from './page-table.ts'

/**
 * Every one of the `total` mappings of a large folio is in this mm, as far as the release can tell: from 6.18 on a
 * folio keeps count for two address spaces at a time, and for a third it never knows.
 * @rule R-HUGE-20
 */
export function isMappedOnlyBy(k: Kernel, mm: Mm, head: number, total: number): boolean {
  const { frames } = k.memory
  if (frames.uncounted.get(head)?.has(mm.id) === true) return false
  for (let turn = 0; turn < PLACES; turn++) {
    const pmd = placeOf(frames.index[head]!, turn)
    if (mappingsAt(k, mm, pmd, head) === total) return true
    for (const other of k.mms) if (other !== mm && mappingsAt(k, other, pmd, head) > 0) return false
  }
  return mappingsIn(k, mm, head) === total
}

/**
 * `folio_maybe_mapped_shared`, before 6.18 `folio_likely_mapped_shared`: other address spaces map a large folio, too,
 * as far as the release can tell. 6.12 guesses: where the numbers do not decide, its first page stands for all.
 * @rule R-HUGE-67
 */
export function isMappedShared(k: Kernel, mm: Mm, head: number): boolean {
  const { frames } = k.memory
  const total = frames.totalMapcount(head)
  if (k.release.fault.largeFolioSharing !== 'first-page') return !isMappedOnlyBy(k, mm, head, total)
  if (total <= 1) return false
  return frames.entireMapcount(head) > 0 || total > frames.nrPages(head) || frames.mapcount[head]! > 1
}

/**
 * Advice leaves a large folio alone that others seem to map, too. Up to 6.6 that is said of one page, and of which one
 * depends on the advice.
 * @param pfn the page at this entry; null for a huge entry
 * @param lazyFree MADV_FREE, not COLD or PAGEOUT
 * @rule R-HUGE-67
 */
export function adviceSpares(
  k: Kernel,
  mm: Mm,
  head: number,
  pfn: number | null,
  lazyFree: boolean,
): boolean {
  if (k.release.fault.largeFolioSharing !== 'page') return isMappedShared(k, mm, head)
  const { frames } = k.memory
  if (lazyFree && pfn === null) return frames.totalMapcount(head) !== 1
  return frames.pageMapcount(lazyFree ? head : (pfn ?? head)) !== 1
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
  const mappers = mappersOf(k, head)
  if (mappers.has(mm)) return
  let counted = 0
  for (const { id } of mappers) if (others?.has(id) !== true) counted++
  if (counted < 2) return
  if (others === undefined) uncounted.set(head, new Set([mm.id]))
  else others.add(mm.id)
}

/** The address spaces that map a folio. */
function mappersOf(k: Kernel, head: number): Set<Mm> {
  const { frames } = k.memory
  const mappers = new Set<Mm>()
  let left = frames.totalMapcount(head)
  for (let turn = 0; turn < PLACES && left > 0; turn++) {
    const pmd = placeOf(frames.index[head]!, turn)
    for (const mm of k.mms) {
      const here = mappingsAt(k, mm, pmd, head)
      if (here > 0) mappers.add(mm)
      left -= here
    }
  }
  if (left > 0) for (const mm of k.mms) if (mappingsIn(k, mm, head) > 0) mappers.add(mm)
  return mappers
}

/**
 * Unless it was moved by mremap, a folio is mapped where it was created, whose page number is known modulo 2^32: so
 * many places. Elsewhere only a walk of the whole table can tell.
 */
const PLACES = 8

/** The 2 MiB span of one of those places. */
function placeOf(pageNumber: number, turn: number): number {
  return Math.floor((turn * 2 ** 32 + pageNumber) / PTRS_PER_PTE)
}

/** How many mappings of a folio are in this mm, wherever they are. */
function mappingsIn(k: Kernel, { pageTable }: Mm, head: number): number {
  const end = head + k.memory.frames.nrPages(head)
  let found = 0
  for (let i = pageTable.nextPmd(0, 2 ** 26); i >= 0; i = pageTable.nextPmd(i + 1, 2 ** 26))
    found += countMappings(pageTable.pmd(i), head, end)
  return found
}

function mappingsAt(k: Kernel, { pageTable }: Mm, pmd: number, head: number): number {
  return countMappings(pageTable.pmd(pmd), head, head + k.memory.frames.nrPages(head))
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
