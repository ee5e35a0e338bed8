import { PAGE_SIZE, PMD_SIZE } from '../base/units.ts'
import { PG_ANON, PG_HUGETLB } from '../memory/page-flags.ts'
import type { Kernel } from '../mm/kernel.ts'
import { HugePmd, Leaf, PTE_PRESENT, PTE_SPECIAL, PTE_SWAP, pmdIndex, pteSlot } from '../mm/page-table.ts'
import { mappingName } from '../task/proc/mapping-name.ts'
import type { Vma } from '../mm/vma.ts'
import { VM_EXEC, VM_MAYSHARE, VM_READ, VM_SOFTDIRTY, VM_WRITE, vmFlagMnemonics } from '../mm/vm-flags.ts'
import { viewPages } from './engine-pages.ts'
import type { EngineProcess } from './engine-process.ts'
import type { FrameIds } from './frame-ids.ts'
import type { Arena } from './range.ts'
import type { MappingView, ProcessView } from './observation.ts'

/** What a look at the engine depends on besides the engine. */
export interface Baseline {
  /** pages at the start of the program */
  readonly totalVm: number
  /** merged pages are told from others */
  readonly ksmShown: boolean
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
  const pages = viewPages(k, process.space.pageTable, arena, ids, base.ksmShown)
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
    uffd: process.handler?.takeEvents() ?? [],
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
      name: mappingName(k, process.space, vma),
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
