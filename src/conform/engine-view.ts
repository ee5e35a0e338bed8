import { PAGE_SIZE } from '../base/units.ts'
import type { Kernel } from '../mm/kernel.ts'
import { mappingName } from '../task/proc/mapping-name.ts'
import { permissions } from '../task/proc/maps-line.ts'
import { SmapsStats } from '../task/proc/smaps-stats.ts'
import type { Vma } from '../mm/vma.ts'
import { VM_SOFTDIRTY, vmFlagMnemonics } from '../mm/vm-flags.ts'
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

/** What smaps counts in one mapping, kB. */
function residentIn(
  k: Kernel,
  process: EngineProcess,
  vma: Vma,
): Pick<MappingView, 'rss' | 'anonymous' | 'huge' | 'hugetlb' | 'swap'> {
  const stats = new SmapsStats()
  stats.gather(k, process.space, vma)
  return {
    rss: kB(stats.resident),
    anonymous: kB(stats.anonymous),
    huge: kB(stats.anonymousThp),
    hugetlb: kB(stats.sharedHugetlb + stats.privateHugetlb),
    swap: kB(stats.swap),
  }
}
