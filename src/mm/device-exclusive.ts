import { EOPNOTSUPP } from '../base/errno.ts'
import { PREEMPT, type Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE, pageAlignDown } from '../base/units.ts'
import { PG_ANON, PG_DIRTY, PG_HUGETLB, PG_MLOCKED } from '../memory/page-flags.ts'
import { exclusiveWord, keepsMapcount } from './device-exclusive-entry.ts'
import { lockFolioKillable, tryLockFolio, unlockFolio } from './folio-lock.ts'
import { FOLL_GET, FOLL_SPLIT_PMD, FOLL_WRITE } from './gup-flags.ts'
import { getUserPageVmaRemote, getUserPagesRemote, type PageArray } from './gup.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import type { MmapReadGuard } from './mmap-lock.ts'
import { invalidateRange } from './mmu-notifier.ts'
import { Leaf, PTE_DIRTY, PTE_PRESENT, PTE_WRITE, pmdIndex, pteSlot } from './page-table.ts'
import { walkPtes } from './rmap-walk.ts'
import { putPage } from './unpin.ts'

/*
 * @caller device-exclusive pages
 * @entry a driver that serves a device with atomic operations; here an ioctl on /dev/hmm_dmirror0
 * @gup get_user_pages_remote FOLL_GET FOLL_WRITE FOLL_SPLIT_PMD, the whole range; 6.18 get_user_page_vma_remote, one page
 * @lock mmap_lock for read, kept
 * @budget none
 * @errno the errno of the first page; later ones are missing in the answer. 6.18: of the page, EOPNOTSUPP if not anonymous
 * @release the device unlocks and puts each page; the next access by the processor maps it again
 * @test tests/mm/device-exclusive.test.ts
 */

const FLAGS = FOLL_GET | FOLL_WRITE | FOLL_SPLIT_PMD

/** One pte that maps the folio. */
interface Mapping {
  readonly mm: Mm
  readonly address: number
  readonly leaf: Leaf
  readonly slot: number
}

/**
 * `make_device_exclusive_range`, up to 6.12: takes what is mapped in [start, end) away from the processor until it
 * faults. The caller holds the lock for read, and gives every page that is left in `pages` back with
 * `putExclusivePage`.
 * @param start bytes, page aligned, as `end`
 * @param pages entries of pages that could not be had are 0; those beyond the result are not written
 * @param owner whom MMU notifiers name
 * @returns pages that GUP found, or its errno
 * @rule R-DEX-1
 * @rule R-DEX-2
 * @rule R-DEX-6
 */
export function* makeDeviceExclusiveRange(
  k: Kernel,
  guard: MmapReadGuard,
  start: number,
  end: number,
  pages: PageArray,
  owner: object,
): Kthread<number> {
  const { mm } = guard
  const n = (end - start) / PAGE_SIZE
  const got = yield* getUserPagesRemote(k, mm, start, n, FLAGS, pages, guard)
  const { pfns } = pages
  for (let i = 0; i < got; i++) {
    if (k.exploring) yield PREEMPT
    const pfn = pfns[i]!
    // @rule R-DEX-4
    const isTail = k.memory.frames.head(pfn) !== pfn
    const locked = !isTail && tryLockFolio(k, pfn)
    if (locked && convertFolio(k, mm, start + i * PAGE_SIZE, pfn, owner)) continue
    if (locked) unlockFolio(k, pfn)
    putPage(k, pfn)
    pfns[i] = 0
  }
  return got
}

/**
 * `make_device_exclusive`, 6.18: the same for one page, tails of huge pages included; what else maps the folio stays.
 * @param address in the page
 * @returns its pfn, which `putExclusivePage` gives back; else -errno: that of GUP, -EOPNOTSUPP, -EINTR
 * @rule R-DEX-7
 */
export function* makeDeviceExclusive(
  k: Kernel,
  guard: MmapReadGuard,
  address: number,
  owner: object,
): Kthread<number> {
  const { mm } = guard
  const { frames } = k.memory
  const at = pageAlignDown(address)
  for (;;) {
    const pfn = yield* getUserPageVmaRemote(k, guard, at, FLAGS)
    if (pfn < 0) return pfn
    const head = frames.head(pfn)
    if (!isAnonymousFolio(k, head)) {
      putPage(k, pfn)
      return refuse(k.current, EOPNOTSUPP, 'R-DEX-7', { address: at, why: 'the page is not anonymous' })
    }
    const error = yield* lockFolioKillable(k, head, 'R-DEX-7')
    if (error < 0) {
      putPage(k, pfn)
      return error
    }
    if (k.exploring) yield PREEMPT
    if (mm.notifiers !== null) invalidateRange(mm, at, at + PAGE_SIZE, { event: 'exclusive', owner })
    const mapping = mappingAt(mm, at, pfn)
    if (mapping !== null) {
      convert(k, mapping)
      return pfn
    }
    unlockFolio(k, head)
    putPage(k, pfn)
  }
}

/** The device is done with a page: its lock and its reference go, the entry stays until the processor faults. */
export function putExclusivePage(k: Kernel, pfn: number): void {
  unlockFolio(k, k.memory.frames.head(pfn))
  putPage(k, pfn)
}

/** Small or huge, but not hugetlb. */
function isAnonymousFolio(k: Kernel, head: number): boolean {
  const { frames } = k.memory
  return frames.has(head, PG_ANON) && !frames.has(head, PG_HUGETLB)
}

/** The writable pte of a page, null when it is no longer there. */
function mappingAt(mm: Mm, address: number, pfn: number): Mapping | null {
  const leaf = mm.pageTable.pmd(pmdIndex(address))
  const slot = pteSlot(address)
  const wanted = PTE_PRESENT | PTE_WRITE
  if (!(leaf instanceof Leaf) || leaf.pfn[slot] !== pfn || (leaf.bits[slot]! & wanted) !== wanted) return null
  return { mm, address, leaf, slot }
}

/**
 * `folio_make_device_exclusive`: every pte of a locked folio becomes an entry.
 * @returns whether the page at `address` was mapped writable, and nothing maps the folio any more
 * @rule R-DEX-3
 */
function convertFolio(k: Kernel, mm: Mm, address: number, head: number, owner: object): boolean {
  const { frames } = k.memory
  if (!isAnonymousFolio(k, head)) return false
  const mappings: Mapping[] = []
  walkPtes(k, head, (of, at, leaf, slot) => void mappings.push({ mm: of, address: at, leaf, slot }))
  tellExclusive(mappings, owner)
  const target = mappingAt(mm, address, head)
  for (const mapping of mappings) convert(k, mapping)
  return target !== null && frames.totalMapcount(head) === 0
}

/** One event for each run of addresses. @rule R-DEX-5 */
function tellExclusive(mappings: readonly Mapping[], owner: object): void {
  for (let i = 0; i < mappings.length;) {
    const { mm, address } = mappings[i]!
    let n = 1
    while (mappings[i + n]?.mm === mm && mappings[i + n]!.address === address + n * PAGE_SIZE) n++
    i += n
    if (mm.notifiers !== null)
      invalidateRange(mm, address, address + n * PAGE_SIZE, { event: 'exclusive', owner })
  }
}

/** The reference of the mapping becomes the entry's; the entry remembers whether it was writable. */
function convert(k: Kernel, { leaf, slot }: Mapping): void {
  const { frames } = k.memory
  const bits = leaf.bits[slot]!
  const pfn = leaf.pfn[slot]!
  const head = frames.head(pfn)
  if ((bits & PTE_DIRTY) !== 0) frames.set(head, PG_DIRTY)
  leaf.bits[slot] = exclusiveWord(k, bits)
  if (keepsMapcount(k)) return
  frames.mapcount[pfn]!--
  if (frames.totalMapcount(head) === 0) frames.clear(head, PG_MLOCKED)
}
