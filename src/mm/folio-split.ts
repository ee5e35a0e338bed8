import { PMD_SIZE, PAGE_SIZE, PTRS_PER_PTE } from '../base/units.ts'
import { PG_ANON } from '../memory/page-flags.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import { HugePmd, PTE_PRESENT, PTE_SPECIAL, pmdIndex } from './page-table.ts'
import { isMappedOnlyBy } from './thp-fault.ts'

/**
 * Would MADV_FREE, COLD or PAGEOUT of a range split a folio: is there an anonymous large folio of which
 * only a part is advised, which no other mm maps and nobody holds a reference to? A folio with a pin or a
 * plain reference stays whole, and the advice has no effect on it. Folio splits are not modelled; who
 * asks throws then.
 * @param start bytes, page aligned
 * @param end bytes, exclusive
 * @rule R-HUGE-26
 */
export function adviceSplitsFolio(k: Kernel, mm: Mm, start: number, end: number): boolean {
  // a folio is advised in part only where the range begins or ends inside its 2 MiB
  for (const pmd of new Set([pmdIndex(start), pmdIndex(end - 1)])) {
    const from = Math.max(start, pmd * PMD_SIZE)
    const to = Math.min(end, (pmd + 1) * PMD_SIZE)
    if (to - from < PMD_SIZE && splitsIn(k, mm, pmd, from, to)) return true
  }
  return false
}

function splitsIn(k: Kernel, mm: Mm, pmd: number, from: number, to: number): boolean {
  const entry = mm.pageTable.pmd(pmd)
  if (entry === null) return false
  if (entry instanceof HugePmd) return !k.isHugeZero(entry.pfn) && isSplittable(k, mm, entry.pfn)
  const first = (from - pmd * PMD_SIZE) / PAGE_SIZE
  const last = (to - pmd * PMD_SIZE) / PAGE_SIZE
  let asked = 0
  for (let slot = first; slot < Math.min(last, PTRS_PER_PTE); slot++) {
    if ((entry.bits[slot]! & (PTE_PRESENT | PTE_SPECIAL)) !== PTE_PRESENT) continue
    const pfn = entry.pfn[slot]!
    if (!k.memory.frames.isLarge(pfn)) continue
    const head = k.memory.frames.head(pfn)
    if (head === asked) continue
    asked = head
    if (isSplittable(k, mm, head)) return true
  }
  return false
}

function isSplittable(k: Kernel, mm: Mm, head: number): boolean {
  const { frames } = k.memory
  if (!frames.has(head, PG_ANON)) return false
  const total = frames.totalMapcount(head)
  return frames.refcount[head] === total && isMappedOnlyBy(k, mm, head, total)
}
