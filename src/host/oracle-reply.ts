/** What the oracle agent answers; `docs/oracle-protocol.md` is the manual. */

/** `[first, end, perms, offset, file, name]`: pages relative to the arena, offset in pages, file id or 0. */
export type OracleMapping = [number, number, string, number, number, string]

/** Names a page frame: a number, 0 = zero page, -1 = huge zero page, `'swap'`, a marker's word, null = unseen. */
export type OraclePageId = number | string | null

/**
 * `[index, bits, id]`, from level 3 on kpageflags and kpagecount where they can be read; of runs of more than one page
 * also their number.
 */
export type OraclePage = [
  index: number,
  bits: number,
  id: OraclePageId,
  flags?: number | null,
  count?: number | null,
  pages?: number,
]

/** `[VmFlags, Rss, Anonymous, Swap, Locked, AnonHugePages, ShmemPmdMapped, Hugetlb]`, kB. */
export type OracleVma = [string, number, number, number, number, number, number, number]

/** `[free, reserved]` 2 MiB pages of the machine; reserved can be below zero (R-HUGE-52). */
export type OraclePool = [free: number, reserved: number]

/** One reply. Which fields are there depends on the command and on the observation level (R-AG-4). */
export interface OracleReply {
  /** Result: a number, or a hex string outside ±2^53. A failed system call: -errno. */
  r: number | string
  /**
   * 0, the errno, or why there is no result: a signal's name, `USAGE` (nothing was done), `DIED` (the agent or
   * the child ended in this command, `status` is its wait status), `HUNG` (killed, because it did not answer),
   * `NOT RUN` (an earlier line of the script ended the agent).
   */
  e: number | string
  why?: string
  /** The greeting of an agent that is process 1: the reply to nothing. */
  ready?: true
  /** With `DIED`: told by process 1 of a virtual machine, whose agent has ended. */
  agent?: true
  code?: number
  addr?: number
  status?: number
  done?: number
  /** µs of work since the reset before */
  busy?: number
  sum?: number
  bytes?: number
  v?: string
  w?: string[]
  features?: number | string
  ioctls?: string
  scans?: number
  missing?: number
  cqe?: [number | string, number, number][]
  uffd?: [number, number, number, number][]
  events?: [number, number, number][]
  all?: [number, number, string, string][]
  maps?: OracleMapping[]
  size?: number
  lck?: number
  pin?: number
  swap?: number
  rss?: [number, number, number] | null
  pm?: OraclePage[]
  acq?: number
  rel?: number
  flt?: number
  pool?: OraclePool
  vma?: OracleVma[]
  rings?: Record<string, string[] | null>
}

/** What runs the programs, and what it cannot see (`hidden`, whole sentences). */
export interface OracleHello {
  version: number
  release: string
  /** First address of the arena. */
  arena: number
  /** Size of the arena. */
  pages: number
  uid: number
  pid1: boolean
  /** Effective capabilities, hex. */
  capEff: string
  pfn: boolean
  kpageflags: boolean
  refresh: boolean
  uring: boolean
  /** `uffdKernel`: faults taken inside the kernel are handled, too. */
  uffd: boolean
  uffdKernel: boolean
  /** CONFIG_MEMORY_FAILURE */
  memoryFailure: boolean
  xdp: boolean
  /** Sizes of huge pages, kB; `hugetlbFree`: 2 MiB pages neither used nor reserved. */
  hugetlb: number[]
  hugetlbFree: number
  /** The pool as programs find it; only where the agent was told to look at it. */
  pool?: OraclePool
  thp: boolean
  /** The resident counters are exact. */
  rss: boolean
  /** The heap can be moved into the arena. */
  heap: boolean
  /** Anonymous memory can be named (CONFIG_ANON_VMA_NAME). */
  names: boolean
  /** 1 when there is swap. */
  swap: number
  /** ksmd can be started. */
  ksm: boolean
  /** kpageflags tells merged pages from others. */
  ksmShown: boolean
  /** RLIMIT_MEMLOCK, bytes; -1 = none. */
  memlock: number
  disk: string | null
  tmp: string | null
  /** kB of address space that belong to the agent itself. */
  own: number
  /** Bytes of its data segment, which RLIMIT_DATA counts besides the heap. */
  data: number
  /** Pages that other processes of this user have charged to RLIMIT_MEMLOCK; 0 where it cannot be told. */
  locked: number
  hidden: string[]
}
