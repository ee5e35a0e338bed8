import { PAGE_SIZE, PMD_SIZE } from '../base/units.ts'
import { PG_ANON, PG_ANON_EXCLUSIVE, PG_HUGETLB, PG_KSM, PG_SWAPBACKED } from '../memory/page-flags.ts'
import type { Kernel } from '../mm/kernel.ts'
import {
  HugePmd,
  Leaf,
  PTE_MARKER_GUARD,
  PTE_MARKER_POISON,
  PTE_MARKER_UFFD_WP,
  PTE_PRESENT,
  PTE_SPECIAL,
  PTE_SWAP,
  PTE_UFFD_WP,
  pmdIndex,
  pteSlot,
} from '../mm/page-table.ts'
import type { Vma } from '../mm/vma.ts'
import { VM_EXEC, VM_MAYSHARE, VM_READ, VM_SOFTDIRTY, VM_WRITE, vmFlagMnemonics } from '../mm/vm-flags.ts'
import type { EngineProcess } from './engine-process.ts'
import type { FrameIds } from './frame-ids.ts'
import type { MappingView, PageView, ProcessView } from './observation.ts'

/** Where the arena lies. */
export interface Arena {
  /** address */
  readonly start: number
  readonly pages: number
}

/** Counters at the start of a program, in pages. */
export interface Baseline {
  readonly totalVm: number
}

const kB = (pages: number): number => pages * (PAGE_SIZE / 1024)

/** Everything about one process that the other side shows of its own. */
export function viewProcess(
  k: Kernel,
  process: EngineProcess,
  arena: Arena,
  base: Baseline,
  ids: FrameIds,
): ProcessView {
  const mm = process.space
  const pages = viewPages(k, process, arena, ids)
  const rings: Record<number, string[] | null> = {}
  for (const [name, ring] of process.rings) {
    const table: string[] = []
    const { buffers } = ring
    for (let slot = 0; buffers !== null && slot < buffers.length; slot++) {
      const buffer = buffers.buffer(slot)
      table.push(buffer === null ? 'none' : `${buffer.ubuf - arena.start}/${buffer.length}`)
    }
    rings[name] = buffers === null ? null : table
  }
  return {
    process: process.number,
    maps: viewMappings(k, process, arena),
    pages,
    size: kB(mm.totalVm - base.totalVm),
    locked: kB(mm.lockedVm),
    pinned: kB(mm.pinnedVm),
    swap: kB(mm.swapents),
    rings,
  }
}

function viewMappings(k: Kernel, process: EngineProcess, arena: Arena): MappingView[] {
  const guard = process.space.mmapLock.tryRead()!
  const lockOnFault = k.release.mm.namesLockOnFault ? 'lf' : '??'
  const views: MappingView[] = []
  const end = arena.start + arena.pages * PAGE_SIZE
  for (let vma = guard.vmas.find(arena.start); vma !== null && vma.start < end; vma = vma.next) {
    const { file, flags } = vma
    views.push({
      first: (vma.start - arena.start) / PAGE_SIZE,
      end: (vma.end - arena.start) / PAGE_SIZE,
      perms: permissions(flags),
      offset: file === null ? 0 : vma.pgoff,
      file: file === null ? 0 : file.mapping.id,
      name: vma.specialName ?? file?.path ?? '',
      flags: vmFlagMnemonics(flags & ~VM_SOFTDIRTY, vma.highFlags, lockOnFault).join(' '),
      ...residentIn(k, process, vma),
    })
  }
  guard.release()
  return views
}

function permissions(flags: number): string {
  const r = (flags & VM_READ) !== 0 ? 'r' : '-'
  const w = (flags & VM_WRITE) !== 0 ? 'w' : '-'
  const x = (flags & VM_EXEC) !== 0 ? 'x' : '-'
  return `${r}${w}${x}${(flags & VM_MAYSHARE) !== 0 ? 's' : 'p'}`
}

/** What smaps counts in one mapping, kB. */
function residentIn(
  k: Kernel,
  process: EngineProcess,
  vma: Vma,
): Pick<MappingView, 'rss' | 'anonymous' | 'huge' | 'hugetlb' | 'swap'> {
  const { frames } = k.memory
  const { pageTable } = process.space
  const sums = { rss: 0, anonymous: 0, huge: 0, hugetlb: 0, swap: 0 }
  const last = Math.ceil(vma.end / PMD_SIZE)
  for (let i = pageTable.nextPmd(pmdIndex(vma.start), last); i >= 0; i = pageTable.nextPmd(i + 1, last)) {
    const entry = pageTable.pmd(i)
    if (entry instanceof HugePmd) {
      if ((entry.bits & PTE_PRESENT) === 0 || k.isHugeZero(entry.pfn)) continue
      if (frames.has(entry.pfn, PG_HUGETLB)) sums.hugetlb += 2048
      else {
        sums.rss += 2048
        if (frames.has(entry.pfn, PG_ANON)) {
          sums.anonymous += 2048
          sums.huge += 2048
        }
      }
    } else if (entry instanceof Leaf) {
      const from = Math.max(vma.start, i * PMD_SIZE)
      const to = Math.min(vma.end, (i + 1) * PMD_SIZE)
      for (let address = from; address < to; address += PAGE_SIZE) {
        const slot = pteSlot(address)
        const bits = entry.bits[slot]!
        if ((bits & PTE_SWAP) !== 0) sums.swap += 4
        if ((bits & PTE_PRESENT) === 0 || (bits & PTE_SPECIAL) !== 0) continue
        sums.rss += 4
        if (frames.has(frames.head(entry.pfn[slot]!), PG_ANON)) sums.anonymous += 4
      }
    }
  }
  for (const index of vma.file?.mapping.swapped.keys() ?? []) {
    const address = vma.start + (index - vma.pgoff) * PAGE_SIZE
    if (address >= vma.start && address < vma.end) sums.swap += 4
  }
  return sums
}

function viewPages(k: Kernel, process: EngineProcess, arena: Arena, ids: FrameIds): PageView[] {
  const { pageTable } = process.space
  const views: PageView[] = []
  const end = arena.start + arena.pages * PAGE_SIZE
  const last = Math.ceil(end / PMD_SIZE)
  for (let i = pageTable.nextPmd(pmdIndex(arena.start), last); i >= 0; i = pageTable.nextPmd(i + 1, last)) {
    const entry = pageTable.pmd(i)!
    for (let slot = 0; slot < 512; slot++) {
      const page = (i * PMD_SIZE - arena.start) / PAGE_SIZE + slot
      if (page < 0 || page >= arena.pages) continue
      const huge = entry instanceof HugePmd
      const bits = huge ? entry.bits : entry.bits[slot]!
      if (bits === 0) continue
      const view = viewPage(k, page, bits, huge ? entry.pfn + slot : entry.pfn[slot]!, ids)
      // one entry for 512 pages: pagemap looks at the first page only (R-PM-2)
      views.push(huge ? { ...view, once: once(k, entry.pfn) } : view)
    }
  }
  return views
}

function viewPage(k: Kernel, page: number, bits: number, pfn: number, ids: FrameIds): PageView {
  const uffdWp = (bits & (PTE_UFFD_WP | PTE_MARKER_UFFD_WP)) !== 0
  const nothing = { file: false, once: false, guard: false, flags: '', mapCount: 0 }
  if ((bits & PTE_PRESENT) === 0) {
    const guard = (bits & PTE_MARKER_GUARD) !== 0
    const id = (bits & PTE_SWAP) !== 0 ? 'swap' : markerWord(bits)
    return { ...nothing, page, present: false, swap: true, uffdWp, guard, id }
  }
  if ((bits & PTE_SPECIAL) !== 0)
    return { ...nothing, page, present: true, swap: false, uffdWp, id: 0, flags: 'ZERO' }
  if (k.isHugeZero(pfn)) {
    const flags = pfn === k.hugeZeroPfn ? 'HEAD THP ZERO' : 'TAIL THP ZERO'
    return { ...nothing, page, present: true, swap: false, uffdWp, file: true, id: -1, flags }
  }
  const { frames } = k.memory
  const head = frames.head(pfn)
  const mapCount = frames.pageMapcount(pfn)
  return {
    page,
    present: true,
    swap: false,
    file: !frames.has(head, PG_ANON),
    uffdWp,
    guard: false,
    once: mapCount === 1,
    id: ids.of(pfn),
    flags: flagNames(k, pfn, head),
    mapCount,
  }
}

function once(k: Kernel, pfn: number): boolean {
  return !k.isHugeZero(pfn) && k.memory.frames.pageMapcount(pfn) === 1
}

/** The low half of a marker's entry (R-FLT-161). */
function markerWord(bits: number): string {
  const mask =
    ((bits & PTE_MARKER_UFFD_WP) !== 0 ? 1 : 0) |
    ((bits & PTE_MARKER_POISON) !== 0 ? 2 : 0) |
    ((bits & PTE_MARKER_GUARD) !== 0 ? 4 : 0)
  return `0x${(mask * 32 + 31).toString(16)}`
}

/**
 * kpageflags of a mapped page: what a page of a large folio shows is its head's or its own (R-PM-4). Whether it is
 * anonymous, mapped or huge is known to the head alone.
 * @rule R-FLT-167
 */
function flagNames(k: Kernel, pfn: number, head: number): string {
  const { frames } = k.memory
  const word = k.release.fault.pageFlagsOfHead ? head : pfn
  const names = ['MMAP']
  const anon = frames.has(head, PG_ANON)
  if (anon) names.push('ANON')
  const hugetlb = frames.has(head, PG_HUGETLB)
  if (frames.has(word, PG_SWAPBACKED)) names.push('SWAPBACKED')
  if (frames.isLarge(head)) names.push(pfn === head ? 'HEAD' : 'TAIL')
  if (hugetlb) names.push('HUGE')
  else if (frames.isLarge(head)) names.push('THP')
  if (frames.has(head, PG_KSM)) names.push('KSM')
  else if (anon && frames.has(word, PG_ANON_EXCLUSIVE)) names.push('EXCLUSIVE')
  return names.join(' ')
}
