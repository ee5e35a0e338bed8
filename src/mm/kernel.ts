import { Scheduler } from '../base/scheduler.ts'
import { releases, type Release, type ReleaseName } from '../base/release.ts'
import { WaitQueue, type Kthread } from '../base/kthread.ts'
import { RwSemaphore } from '../base/locks.ts'
import type { Refusal, RefusalSink } from '../base/refusal.ts'
import type { ZoneSizes } from '../memory/buddy.ts'
import { Memory } from '../memory/memory.ts'
import { HPAGE_PMD_ORDER, TASK_SIZE } from '../base/units.ts'
import { PG_RESERVED } from '../memory/page-flags.ts'
import type { AddressSpace } from './file.ts'
import type { MmObserver } from './events.ts'
import { DueFailure, type FailNth } from './fail-nth.ts'
import type { Capability } from './capability.ts'
import type { HugetlbPool } from './hugetlb.ts'
import { Ksm } from './ksm-state.ts'
import type { Mm } from './mm.ts'
import type { MmapLockHost } from './mmap-lock.ts'
import { SwapArea } from './swap.ts'
import type { UprobeHooks } from './uprobe-hooks.ts'
import { VM_SOFTDIRTY } from './vm-flags.ts'

export type { Capability }
export type RlimitName = 'memlock' | 'as' | 'data' | 'stack' | 'nofile'

/** What mm code asks of `current`. Implemented by the machine's tasks. */
export interface CurrentTask extends RefusalSink {
  readonly comm: string
  readonly pid: number
  /** current->mm; null for a kernel thread */
  mm: Mm | null
  /** real uid */
  readonly uid: number
  /** real gid; where it is missing, the number of the uid */
  readonly gid?: number
  /** personality(2): READ_IMPLIES_EXEC, ADDR_COMPAT_LAYOUT; none where it is missing */
  personality?: number
  /** NUMA node of the processor it runs on; 0 where it is missing */
  node?: number
  signalPending: boolean
  fatalSignalPending: boolean
  /** `min_flt` and `maj_flt`: faults it has taken, in its own memory or on behalf of a GUP call; 0 where missing */
  minFlt?: number
  majFlt?: number
  /** PF_DUMPCORE: it writes its core file and is not to wait for a userfaultfd (R-DMP-4) */
  dumpsCore?: boolean
  /** PF_MEMALLOC_PIN: allocate outside movable zones (R-GUP-50) */
  memallocPin: boolean
  /** soft limit in bytes; Infinity for unlimited */
  rlimit(name: RlimitName): number
  /** hard limit in bytes; a task without this method has none */
  hardRlimit?(name: RlimitName): number
  capable(capability: Capability): boolean
}

/** `struct user_struct`: what all processes of a uid share. */
export interface UserStruct {
  readonly uid: number
  /** pages charged against RLIMIT_MEMLOCK by io_uring, AF_XDP, … (R-URING-41) */
  lockedVm: number
}

/** Somebody outside page tables and caches who holds references; the audit asks each of them. */
export interface PageHolder {
  readonly name: string
  /** Calls back once per page: plain references and pins held on it. */
  forEachReference(visit: (pfn: number, references: number, pins: number) => void): void
  /** Pages this holder has charged to a user's locked_vm and to an mm's pinned_vm or locked_vm (R-URING-41, R-DRV-2). */
  charges?(): readonly PinCharge[]
}

/** What one holder has charged, in pages. */
export interface PinCharge {
  readonly user: UserStruct | null
  readonly lockedVm: number
  readonly mm: Mm | null
  readonly pinnedVm: number
  /** pages of `mm` charged to its locked_vm besides VM_LOCKED memory; default 0 */
  readonly mmLockedVm?: number
}

/** Machine facts that the mm reads; sysctls, sysfs, boot parameters. */
export interface MmSettings {
  /** vm.mmap_min_addr used for hints and searching (R-AS-45) */
  mmapMinAddr: number
  /** the value the EPERM check uses (dac_mmap_min_addr) */
  dacMmapMinAddr: number
  maxMapCount: number
  /** pages */
  stackGuardGap: number
  mmapBase: number
  mmapLegacyBase: number
  overcommit: 'heuristic' | 'always' | 'never'
  /** pages of RAM plus swap, what heuristic overcommit compares with; null = not known, never refuse */
  totalRamAndSwap: number | null
  /** pages; CommitLimit for overcommit 'never' */
  commitLimit: number
  /** pages that 'never' keeps back for those with CAP_SYS_ADMIN (admin_reserve_kbytes) */
  adminReserve: number
  /** pages that 'never' keeps back from one big process (user_reserve_kbytes) */
  userReserve: number
  thpEnabled: 'always' | 'madvise' | 'never'
  thpUseZeroPage: boolean
  /** proc_mem.force_override=: who may force accesses through /proc/PID/mem, where the release asks (R-MEM-8) */
  procMemForce: 'always' | 'ptrace' | 'never'
  /** kernel.yama.ptrace_scope; 0 also where Yama is not loaded (R-PTR-8) */
  ptraceScope: 0 | 1 | 2 | 3
  /** CONFIG_ANON_VMA_NAME: memory can be named (R-AS-109) */
  anonVmaName: boolean
  /** CONFIG_MEM_SOFT_DIRTY: which pages were written can be tracked (R-FLT-163) */
  softDirty: boolean
  /** CONFIG_MEMORY_FAILURE: a poisoned page gives SIGBUS with its own si_code (R-FLT-20) */
  memoryFailure: boolean
  /** the vsyscall page is there: maps ends with its line (R-AS-162) */
  vsyscall: boolean
  /** the processor has protection keys: smaps has a line for the key, 0 for all memory here (R-AS-164) */
  protectionKeys: boolean
  /** vm.unprivileged_userfaultfd: anybody's userfaultfd may serve faults of the kernel */
  unprivilegedUserfaultfd: boolean
  /** an arm64 machine whose processor tags memory (MTE): PROT_MTE means something (R-MTE-9) */
  mte: boolean
}

export interface KernelOptions {
  release?: ReleaseName | Release
  /** pages of each zone; default 262,144 (1 GiB) of NORMAL */
  zones?: ZoneSizes
  /** NUMA nodes, numbered from 0, all online; memory is divided among them in equal parts; default 1 */
  nodes?: number
  settings?: Partial<MmSettings>
  /** hand out VMAs that throw when touched too late; tests and the explorer */
  checkStaleVmas?: boolean
}

export interface Warning {
  readonly id: string
  readonly message: string
}

const defaultSettings: MmSettings = {
  mmapMinAddr: 65536,
  dacMmapMinAddr: 4096,
  maxMapCount: 65530,
  stackGuardGap: 256,
  mmapBase: TASK_SIZE - 128 * 1024 * 1024,
  mmapLegacyBase: 0x2aaaaaaab000,
  overcommit: 'heuristic',
  totalRamAndSwap: null,
  commitLimit: Number.MAX_SAFE_INTEGER,
  adminReserve: 2048,
  userReserve: 32_768,
  thpEnabled: 'madvise',
  thpUseZeroPage: true,
  procMemForce: 'always',
  ptraceScope: 0,
  anonVmaName: true,
  softDirty: false,
  memoryFailure: true,
  vsyscall: true,
  protectionKeys: false,
  unprivilegedUserfaultfd: false,
  mte: false,
}

class BootTask implements CurrentTask {
  readonly comm = 'swapper'
  readonly pid = 0
  readonly uid = 0
  mm: Mm | null = null
  refusal: Refusal | null = null
  signalPending = false
  fatalSignalPending = false
  memallocPin = false
  rlimit(): number {
    return Infinity
  }
  capable(): boolean {
    return true
  }
}

/**
 * One running kernel: physical memory, the release it behaves like, and everything global that mm code
 * shares. Holds no I/O, no clock, no randomness.
 */
export class Kernel implements MmapLockHost {
  readonly release: Release
  readonly memory: Memory
  readonly settings: MmSettings
  readonly checkStaleVmas: boolean
  readonly scheduler: Scheduler<CurrentTask>
  readonly mms = new Set<Mm>()
  /** by `AddressSpace.id` */
  readonly mappings = new Map<number, AddressSpace>()
  readonly users = new Map<number, UserStruct>()
  readonly holders = new Set<PageHolder>()
  /** hugetlb pools by page size in bytes */
  readonly hugetlbPools = new Map<number, HugetlbPool>()
  /** what ksmd knows */
  readonly ksm = new Ksm()
  /** swap entries and the swap cache */
  readonly swap: SwapArea
  /** `dup_mmap_sem`: no address space is copied while breakpoints are put into all of them (R-UPR-5) */
  readonly dupMmapSem: RwSemaphore
  /** who watches the mappings of files that have uprobes; null: there are none */
  uprobes: UprobeHooks | null = null
  /** woken whenever folios that were being moved are in place again (migrate.ts), or are unlocked (folio-lock.ts) */
  readonly migrationDone = new WaitQueue('migration')
  /** vmstat pgfault and pgmajfault (R-FLT-22) */
  pgfault = 0
  pgmajfault = 0
  /** vmstat nr_foll_pin_acquired / nr_foll_pin_released */
  pinAcquired = 0
  pinReleased = 0
  /** pages charged system-wide (Committed_AS) */
  committed = 0
  /** page tables of hugetlb mappings have been shared: HugetlbPages of a process tells who faulted, not who maps */
  sharesTables = false
  /** what HugetlbPages of processes that are gone did not come back to 0 by, pages */
  hugetlbPagesLost = 0
  /** the shared 4 KiB page of zeros */
  readonly zeroPfn: number
  #hugeZeroPfn = 0
  /** page loops yield after this many pages; 1 under the explorer */
  batch = 512
  /** interleavings are being explored: code yields PREEMPT at its preemption points */
  exploring = false
  observer: MmObserver | null = null
  /** told of a task that exits or execs, before its files and its memory go */
  readonly exitHooks = new Set<(task: CurrentTask) => void>()
  /** what a task that execs waits for after that, while its old program is still there */
  readonly execHooks = new Set<(task: CurrentTask) => Kthread<void>>()
  /** what the kernel does of its own accord some time later, by whose it is; no clock runs here */
  readonly delayedWork = new Map<object, () => void>()
  /** something that is to fail soon; tests only */
  dueFailure: DueFailure | null = null
  readonly warnings: Warning[] = []
  readonly #warned = new Set<string>()
  #lastId = 0

  constructor(options: KernelOptions = {}) {
    const { release = 'gup-v3' } = options
    this.release = typeof release === 'string' ? releases[release] : release
    this.settings = { ...defaultSettings, ...options.settings }
    this.checkStaleVmas = options.checkStaleVmas ?? false
    this.memory = new Memory(options.zones ?? { normal: 262_144 }, options.nodes)
    this.scheduler = new Scheduler<CurrentTask>(new BootTask())
    this.swap = new SwapArea(this.memory)
    this.dupMmapSem = new RwSemaphore('dup_mmap_sem', this)
    this.holders.add(this.swap)
    this.zeroPfn = this.memory.allocFolio(0, { movable: false })
    this.memory.frames.set(this.zeroPfn, PG_RESERVED)
  }

  /** `current`. */
  get current(): CurrentTask {
    return this.scheduler.current
  }

  get holderName(): string {
    return this.scheduler.holderName
  }

  get fatalSignalPending(): boolean {
    return this.scheduler.current.fatalSignalPending
  }

  /** Runs kernel code as a task to its end. @throws DeadlockError */
  run<T>(task: CurrentTask, body: Kthread<T>): T {
    return this.scheduler.call(task.comm, task, body)
  }

  /** Time passes: what was put off happens, and tasks that can run do. */
  settle(): void {
    const due = [...this.delayedWork.values()]
    this.delayedWork.clear()
    for (const work of due) work()
    this.scheduler.runUntilIdle()
  }

  /** What every new or expanded mapping has: VM_SOFTDIRTY where that is configured (R-AS-5). */
  get newVmaFlags(): number {
    return this.settings.softDirty ? VM_SOFTDIRTY : 0
  }

  /** The huge zero folio, made at first use. 0 when memory is exhausted. */
  get hugeZeroPfn(): number {
    if (this.#hugeZeroPfn === 0) {
      const pfn = this.memory.allocFolio(HPAGE_PMD_ORDER, { movable: false })
      if (pfn === 0) return 0
      this.memory.frames.set(pfn, PG_RESERVED)
      this.#hugeZeroPfn = pfn
    }
    return this.#hugeZeroPfn
  }

  isHugeZero(pfn: number): boolean {
    return this.#hugeZeroPfn !== 0 && this.memory.frames.head(pfn) === this.#hugeZeroPfn
  }

  /**
   * Lets something fail, once, the n-th time it is tried from now on; null calls it off.
   * @returns what tells whether it has happened
   * @public
   */
  failNth(failure: FailNth | null): DueFailure | null {
    const due = failure === null ? null : new DueFailure(failure)
    this.dueFailure = due
    this.memory.failAllocation = due === null ? null : () => due.hits('allocation')
    return due
  }

  /** Ids for mms, address spaces and anon_vmas: small, positive, never reused. */
  nextId(): number {
    return ++this.#lastId
  }

  nextMmId(): number {
    return this.nextId()
  }

  user(uid: number): UserStruct {
    let user = this.users.get(uid)
    if (user === undefined) {
      user = { uid, lockedVm: 0 }
      this.users.set(uid, user)
    }
    return user
  }

  /** `WARN_ON_ONCE`: remembered always, reported once per id. */
  warnOnce(id: string, message: string): void {
    if (this.#warned.has(id)) return
    this.#warned.add(id)
    this.warnings.push({ id, message })
    this.observer?.({ type: 'warn', id, message })
  }
}
