/** The page columns of a snapshot: built while pagemap is read, asked page by page afterwards. */
import { PAGE_SIZE } from '../base/units.ts'
import {
  KPF_ANON,
  KPF_ANON_EXCLUSIVE,
  KPF_COMPOUND_TAIL,
  KPF_HUGE,
  KPF_KSM,
  PM_FILE,
  PM_MMAP_EXCLUSIVE,
  PM_PRESENT,
  hasKpf,
} from './pagemap.ts'
import type { PageTable } from './snapshot.ts'

/** One row of the columns; see `PageTable` for the fields. */
export interface PageRun {
  readonly start: number
  /** pages */
  readonly count: number
  readonly bits: number
  readonly entry: number
  readonly step: number
  readonly kpageflags: number
  readonly mapCount: number
}

/** Appends pages in ascending order and joins equal neighbours into one row. */
export class PageRunBuilder {
  readonly pages: PageTable = {
    covered: [],
    start: [],
    count: [],
    bits: [],
    entry: [],
    step: [],
    kpageflags: [],
    mapCount: [],
  }

  /** Notes that pagemap was read for [start, end). Adjacent calls join. */
  cover(start: number, end: number): void {
    const last = this.pages.covered.at(-1)
    if (last !== undefined && last.end === start) last.end = end
    else this.pages.covered.push({ start, end })
  }

  /** Adds one page whose pagemap word was not zero; -1 for what was not read. */
  add(address: number, bits: number, entry: number, kpageflags: number, mapCount: number): void {
    const p = this.pages
    const i = p.start.length - 1
    if (
      i >= 0 &&
      p.bits[i] === bits &&
      p.kpageflags[i] === kpageflags &&
      p.mapCount[i] === mapCount &&
      p.start[i]! + p.count[i]! * PAGE_SIZE === address
    ) {
      if (p.count[i] === 1) {
        const step = entry - p.entry[i]!
        if (step === 0 || step === 1 || step === 32) {
          p.step[i] = step
          p.count[i] = 2
          return
        }
      } else if (p.entry[i]! + p.step[i]! * p.count[i]! === entry) {
        p.count[i]!++
        return
      }
    }
    p.start.push(address)
    p.count.push(1)
    p.bits.push(bits)
    p.entry.push(entry)
    p.step.push(0)
    p.kpageflags.push(kpageflags)
    p.mapCount.push(mapCount)
  }
}

/** Row `index` as an object. */
export function pageRun(pages: PageTable, index: number): PageRun {
  return {
    start: pages.start[index]!,
    count: pages.count[index]!,
    bits: pages.bits[index]!,
    entry: pages.entry[index]!,
    step: pages.step[index]!,
    kpageflags: pages.kpageflags[index]!,
    mapCount: pages.mapCount[index]!,
  }
}

/** The rows that overlap [start, end), clipped to it, ascending. */
export function* pageRunsIn(pages: PageTable, start: number, end: number): Generator<PageRun, void, void> {
  let low = 0
  let high = pages.start.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (pages.start[middle]! + pages.count[middle]! * PAGE_SIZE > start) high = middle
    else low = middle + 1
  }
  for (let i = low; i < pages.start.length && pages.start[i]! < end; i++) {
    const run = pageRun(pages, i)
    const from = Math.max(run.start, start)
    const to = Math.min(run.start + run.count * PAGE_SIZE, end)
    const skipped = Math.floor((from - run.start) / PAGE_SIZE)
    const first = run.start + skipped * PAGE_SIZE
    yield {
      ...run,
      start: first,
      count: Math.ceil((to - first) / PAGE_SIZE),
      entry: run.entry + run.step * skipped,
    }
  }
}

/**
 * The one page at `address`.
 * @returns the page as a run of one; `'none'` where its pagemap word was zero; `'unknown'` where pagemap was not read
 */
export function pageAt(pages: PageTable, address: number): PageRun | 'none' | 'unknown' {
  const start = address - (address % PAGE_SIZE)
  for (const run of pageRunsIn(pages, start, start + PAGE_SIZE)) return run
  return pages.covered.some((range) => range.start <= start && start < range.end) ? 'none' : 'unknown'
}

/**
 * Whether the page is PageAnonExclusive, as far as that can be seen.
 *
 * With kpageflags bit 34 says it, except for the tail pages of a large folio, where newer kernels repeat the
 * head's bit and 6.1 shows the page's own, which is meaningless while the folio is mapped by one PMD; hugetlb
 * tails are always right on newer kernels. Without kpageflags a page that is mapped more than once cannot be
 * exclusive and nothing else is known.
 *
 * @param wholeFolioMapped the page is known to be mapped together with its head by one PMD
 * @rule R-PM-4
 * @rule R-FLT-162
 */
export function anonExclusive(run: PageRun, wholeFolioMapped = false): 'yes' | 'no' | 'unknown' {
  if ((run.bits & PM_PRESENT) === 0 || (run.bits & PM_FILE) !== 0) return 'no'
  if (run.kpageflags >= 0) {
    if (!hasKpf(run.kpageflags, KPF_ANON) || hasKpf(run.kpageflags, KPF_KSM)) return 'no'
    const tail = hasKpf(run.kpageflags, KPF_COMPOUND_TAIL)
    if (tail && !wholeFolioMapped && !hasKpf(run.kpageflags, KPF_HUGE)) return 'unknown'
    return hasKpf(run.kpageflags, KPF_ANON_EXCLUSIVE) ? 'yes' : 'no'
  }
  return (run.bits & PM_MMAP_EXCLUSIVE) === 0 ? 'no' : 'unknown'
}
