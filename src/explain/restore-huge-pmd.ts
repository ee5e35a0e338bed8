import { HPAGE_PMD_ORDER, PMD_SIZE, PTRS_PER_PTE } from '../base/units.ts'
import { anonExclusive, type PageRun } from '../host/page-runs.ts'
import { KPF_THP, KPF_ZERO_PAGE, PM_FILE, PM_PRESENT, PM_UFFD_WP, hasKpf } from '../host/pagemap.ts'
import type { Mapping } from '../host/snapshot.ts'
import { PG_ANON, PG_ANON_EXCLUSIVE, PG_LRU, PG_SWAPBACKED, PG_UPTODATE } from '../memory/page-flags.ts'
import {
  HugePmd,
  PTE_ACCESSED,
  PTE_DIRTY,
  PTE_PRESENT,
  PTE_PROTNONE,
  PTE_UFFD_WP,
  PTE_WRITE,
  pmdIndex,
} from '../mm/page-table.ts'
import { pageCacheInsert } from '../mm/filemap.ts'
import { vmPageProt } from '../mm/page-prot.ts'
import { addFilePage, anonVmaPrepare } from '../mm/rmap.ts'
import type { Vma } from '../mm/vma.ts'
import { VM_ACCESS_FLAGS, VM_WRITE } from '../mm/vm-flags.ts'
import { machineTooSmall, type Restoration } from './restoration.ts'

/**
 * Restores 2 MiB of a mapping as one huge page, if that is what they are: a transparent huge page of anonymous
 * memory, the huge zero page, or a huge page of shared memory.
 *
 * @param runs what was seen of the 2 MiB, at least one run
 * @param covered pagemap was read for all of it
 * @returns whether it stands
 */
export function restoreHugePmd(
  to: Restoration,
  mapping: Mapping,
  vma: Vma,
  span: number,
  runs: readonly PageRun[],
  covered: boolean,
): boolean {
  const first = runs[0]!
  if (covered ? !alike(runs) : runs.some((run) => (run.bits & PM_PRESENT) === 0)) return false
  if (isHugeZero(first, vma)) {
    const bits = PTE_PRESENT | PTE_ACCESSED | noAccess(vma)
    to.mm.pageTable.setPmd(pmdIndex(span), new HugePmd(to.kernel.hugeZeroPfn, bits))
    return true
  }
  if ((first.bits & PM_FILE) === 0) {
    if (!isHuge(to, mapping, mapping.usage?.anonHugePages ?? null, span, runs)) return false
    installThp(to, vma, span, first)
    return true
  }
  // with page frame numbers the folios of files are found page by page
  if (vma.file?.mapping.kind.shmem !== true || first.kpageflags >= 0) return false
  if (!isHuge(to, mapping, mapping.usage?.shmemPmdMapped ?? 0, span, runs)) return false
  return mapHugeShmem(to, vma, span)
}

/** All 512 pages are present, and mapped in the same way. */
function alike(runs: readonly PageRun[]): boolean {
  let present = 0
  for (const run of runs) {
    if ((run.bits & PM_PRESENT) === 0 || run.bits !== runs[0]!.bits) return false
    present += run.count
  }
  return present === PTRS_PER_PTE
}

function isHugeZero(run: PageRun, vma: Vma): boolean {
  if ((run.bits & (PM_PRESENT | PM_FILE)) !== (PM_PRESENT | PM_FILE)) return false
  return run.kpageflags >= 0 ? hasKpf(run.kpageflags, KPF_ZERO_PAGE) : vma.isAnonymous
}

/**
 * smaps says how much of a mapping is mapped by huge entries, not where. With page frame numbers the place is
 * plain; without, only where all or nothing is huge.
 * @param hugeBytes null where smaps was not read
 */
function isHuge(
  to: Restoration,
  mapping: Mapping,
  hugeBytes: number | null,
  span: number,
  runs: readonly PageRun[],
): boolean {
  if (runs[0]!.kpageflags >= 0) return hugeBytes !== 0 && isOneFolio(runs)
  if (hugeBytes === 0) return false
  const whole = Math.floor(mapping.end / PMD_SIZE) * PMD_SIZE - Math.ceil(mapping.start / PMD_SIZE) * PMD_SIZE
  if (hugeBytes !== null && hugeBytes >= whole) return true
  if (to.inRange({ start: span, end: span + PMD_SIZE })) to.doubt('hugePages')
  return to.guesses.hugePages
}

/** 512 pages in a row of one naturally aligned large folio, as far as they were seen. */
function isOneFolio(runs: readonly PageRun[]): boolean {
  const base = runs[0]!.entry - ((runs[0]!.start % PMD_SIZE) >>> 12)
  if (base % PTRS_PER_PTE !== 0) return false
  return runs.every(
    (run) =>
      run.kpageflags >= 0 &&
      hasKpf(run.kpageflags, KPF_THP) &&
      (run.count === 1 || run.step === 1) &&
      run.entry - ((run.start % PMD_SIZE) >>> 12) === base,
  )
}

function installThp(to: Restoration, vma: Vma, span: number, run: PageRun): void {
  const { kernel, mm } = to
  const pfn = kernel.memory.allocFolio(HPAGE_PMD_ORDER, { movable: false })
  if (pfn === 0) throw machineTooSmall()
  const { frames } = kernel.memory
  anonVmaPrepare(kernel, vma, mm)
  const index = vma.pageIndex(span)
  for (let i = 0; i < PTRS_PER_PTE; i++) {
    frames.set(pfn + i, PG_ANON | PG_SWAPBACKED | PG_UPTODATE | PG_LRU)
    frames.mapping[pfn + i] = vma.anonVma!.id
    frames.index[pfn + i] = index + i
  }
  frames.addEntireMapcount(pfn, 1)
  const exclusive = anonExclusive(run, true) !== 'no'
  if (exclusive) frames.set(pfn, PG_ANON_EXCLUSIVE)
  else to.others.shareHuge(pfn, false)
  const watched = (run.bits & PM_UFFD_WP) !== 0
  const writable = exclusive && !watched && (vma.flags & VM_WRITE) !== 0
  const bits =
    PTE_PRESENT |
    PTE_ACCESSED |
    noAccess(vma) |
    (watched ? PTE_UFFD_WP : 0) |
    (writable ? PTE_WRITE | PTE_DIRTY : 0)
  mm.pageTable.setPmd(pmdIndex(span), new HugePmd(pfn, bits))
  mm.rssAnon += PTRS_PER_PTE
}

function noAccess(vma: Vma): number {
  return (vma.flags & VM_ACCESS_FLAGS) === 0 ? PTE_PROTNONE : 0
}

/**
 * A huge page of the page cache, mapped by ptes: a pin does not tell the difference.
 * @returns false when another mapping has shown some of its pages as small ones
 */
function mapHugeShmem(to: Restoration, vma: Vma, span: number): boolean {
  const { kernel, mm } = to
  const { frames } = kernel.memory
  const { mapping } = vma.file!
  const index = vma.pageIndex(span)
  let cached = 0
  mapping.pages.forEach(() => cached++, index, index + PTRS_PER_PTE)
  if (cached !== 0 && cached !== PTRS_PER_PTE) return false
  if (cached === 0) {
    const pfn = kernel.memory.allocFolio(HPAGE_PMD_ORDER, { movable: false })
    if (pfn === 0) throw machineTooSmall()
    for (let i = 0; i < PTRS_PER_PTE; i++) frames.set(pfn + i, PG_SWAPBACKED | PG_UPTODATE | PG_LRU)
    pageCacheInsert(kernel, mapping, index, pfn)
    kernel.memory.put(pfn)
  }
  const leaf = mm.pageTable.leafFor(span)
  const bits = vmPageProt(vma) | PTE_ACCESSED
  for (let i = 0; i < PTRS_PER_PTE; i++) {
    const pfn = mapping.pages.get(index + i)
    addFilePage(kernel, mm, vma, pfn)
    leaf.set(i, pfn, bits)
  }
  return true
}
