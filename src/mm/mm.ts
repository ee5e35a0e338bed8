import { PAGE_SIZE } from '../base/units.ts'
import { MmapLock } from './mmap-lock.ts'
import type { MmuNotifier } from './mmu-notifier.ts'
import { PageTable } from './page-table.ts'
import { VmaTree } from './vma-tree.ts'
import type { Kernel } from './kernel.ts'
import type { UffdChange } from './userfaultfd-events.ts'
import type { UprobeWork } from './uprobe-hooks.ts'

/**
 * `struct mm_struct`: one address space.
 *
 * Lock order: `mmapLock` → (page table, atomic between yields). Fields are protected by `mmapLock`
 * unless they say otherwise.
 * @rule R-AS-1
 * @rule R-FLT-6
 */
export class Mm {
  readonly kernel: Kernel
  /** unique in its kernel */
  readonly id: number
  readonly name: string
  readonly mmapLock: MmapLock
  readonly pageTable = new PageTable()
  /** who is told before entries change (mmu-notifier.ts); null: nobody */
  notifiers: readonly MmuNotifier[] | null = null
  /** users of the address space: tasks, and remote accessors while they work (mm_users) */
  users = 1
  /** changes that userfaultfds are to hear of when the lock has been let go; under mmap_lock */
  uffdChanges: UffdChange[] | null = null
  /** what uprobes have to do in mappings that came or changed before the lock is let go (uprobe-hooks.ts) */
  uprobeWork: UprobeWork[] | null = null

  // pages, R-AS-1
  totalVm = 0
  dataVm = 0
  execVm = 0
  stackVm = 0
  /** pages of VM_LOCKED VMAs, and what drivers charge here (R-DRV-2): VmLck */
  lockedVm = 0
  /** the part of it that belongs to nothing any more (R-AS-73, releases that lose count) */
  lockedVmLost = 0
  /** pages accounted by pinning users: VmPin. Atomic, not under mmapLock */
  pinnedVm = 0
  /** resident pages: MM_ANONPAGES, MM_FILEPAGES, MM_SHMEMPAGES, MM_SWAPENTS. Atomic */
  rssAnon = 0
  rssFile = 0
  rssShmem = 0
  swapents = 0
  /** the most pages that total_vm and the resident pages had before they became fewer (R-ST-7) */
  hiwaterVm = 0
  hiwaterRss = 0
  /** hugetlb pages mapped, in 4 KiB units */
  hugetlbPages = 0
  /** pages of VM_ACCOUNT VMAs: this mm's part of the commit charge */
  committed = 0
  mapCount = 0
  /** VM_LOCKED / VM_LOCKONFAULT put into every new VMA by mlockall(MCL_FUTURE) */
  defFlags = 0
  /** MMF_HAS_PINNED: set by every FOLL_PIN attempt, never cleared, not inherited (R-GUP-72). Atomic */
  hasPinned = false
  /** entries of raw mappings have been made here: VM_PFNMAP mappings may have pages; a child takes it over */
  hasRawEntries = false
  /** soft-dirty bits have been cleared here once: mappings without VM_SOFTDIRTY are tracked; a child takes it over */
  softDirtyCleared = false
  /** MMF_HAS_UPROBES: a breakpoint was put here; a child takes it over */
  hasUprobes = false
  /** seqcount: odd while fork write-protects (R-GUP-76) */
  writeProtectSeq = 0
  /** PR_SET_MDWE */
  mdwe = false
  /** PR_SET_THP_DISABLE */
  thpDisabled = false

  /** SUID_DUMP_USER: whether others of the same user may look at it (PR_SET_DUMPABLE) */
  dumpable = true

  /** where the argument and environment strings lie; 0 0 0 0 before an exec */
  argStart = 0
  argEnd = 0
  envStart = 0
  envEnd = 0

  startCode = 0
  endCode = 0
  startData = 0
  endData = 0
  startBrk = 0
  brk = 0
  startStack = 0
  /** end_data − start_data, what RLIMIT_DATA counts besides the heap */
  get dataSegment(): number {
    return this.endData - this.startData
  }
  /** top-down search starts below here (R-AS-30) */
  mmapBase: number
  mmapLegacyBase: number
  /** search bottom-up (ADDR_COMPAT_LAYOUT) */
  legacyLayout = false

  constructor(kernel: Kernel, name: string) {
    this.kernel = kernel
    this.id = kernel.nextMmId()
    this.name = name
    this.mmapBase = kernel.settings.mmapBase
    this.mmapLegacyBase = kernel.settings.mmapLegacyBase
    this.mmapLock = new MmapLock(this, new VmaTree(kernel.settings.stackGuardGap * PAGE_SIZE), kernel)
    kernel.mms.add(this)
  }

  /** VmRSS in pages. */
  get rss(): number {
    return this.rssAnon + this.rssFile + this.rssShmem
  }

  /** To be called before resident pages become fewer. @rule R-ST-7 */
  updateHiwaterRss(): void {
    const { rss } = this
    if (rss > this.hiwaterRss) this.hiwaterRss = rss
  }
}
