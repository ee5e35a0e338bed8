import {
  MADV_COLD,
  MADV_DODUMP,
  MADV_DOFORK,
  MADV_DONTDUMP,
  MADV_DONTFORK,
  MADV_DONTNEED,
  MADV_DONTNEED_LOCKED,
  MADV_FREE,
  MADV_GUARD_INSTALL,
  MADV_GUARD_REMOVE,
  MADV_HUGEPAGE,
  MADV_KEEPONFORK,
  MADV_MERGEABLE,
  MADV_NOHUGEPAGE,
  MADV_NORMAL,
  MADV_PAGEOUT,
  MADV_POPULATE_READ,
  MADV_POPULATE_WRITE,
  MADV_RANDOM,
  MADV_REMOVE,
  MADV_SEQUENTIAL,
  MADV_UNMERGEABLE,
  MADV_WILLNEED,
  MADV_WIPEONFORK,
} from '../mm/mman.ts'
import type { Terrain } from './generation.ts'
import type { Op } from './steps.ts'

/** What programs of one kind are made of. */
export interface Theme extends Omit<Terrain, 'locks'> {
  /** what it is about, for --help and reports */
  readonly about: string
  /** pages of the arena */
  readonly arenaPages: number
  /** how often each step occurs */
  readonly weights: Partial<Record<Op, number>>
  /** transparent huge pages for memory that asks for them */
  readonly thp?: true
  /** needs swap space */
  readonly swap?: true
  /** needs KSM */
  readonly ksm?: true
  /** free pages of 2 MiB it needs in the pool */
  readonly hugePages?: number
}

const flagAdvice = [
  MADV_NORMAL,
  MADV_RANDOM,
  MADV_SEQUENTIAL,
  MADV_DONTFORK,
  MADV_DOFORK,
  MADV_DONTDUMP,
  MADV_DODUMP,
  MADV_WIPEONFORK,
  MADV_KEEPONFORK,
  MADV_MERGEABLE,
  MADV_UNMERGEABLE,
  MADV_NOHUGEPAGE,
]
const pageAdvice = [
  MADV_DONTNEED,
  MADV_DONTNEED,
  MADV_DONTNEED_LOCKED,
  MADV_POPULATE_READ,
  MADV_POPULATE_WRITE,
  MADV_POPULATE_WRITE,
  MADV_WILLNEED,
  MADV_COLD,
  MADV_FREE,
  MADV_REMOVE,
  MADV_GUARD_INSTALL,
  MADV_GUARD_REMOVE,
]
const swapAdvice = [
  MADV_PAGEOUT,
  MADV_PAGEOUT,
  MADV_PAGEOUT,
  MADV_PAGEOUT,
  MADV_PAGEOUT,
  MADV_FREE,
  MADV_FREE,
  MADV_WILLNEED,
  MADV_COLD,
  MADV_DONTNEED,
  MADV_POPULATE_READ,
  MADV_POPULATE_WRITE,
  MADV_REMOVE,
  MADV_DONTFORK,
  MADV_WIPEONFORK,
  MADV_KEEPONFORK,
]
const ksmAdvice = [
  MADV_MERGEABLE,
  MADV_MERGEABLE,
  MADV_MERGEABLE,
  MADV_MERGEABLE,
  MADV_UNMERGEABLE,
  MADV_DONTNEED,
  MADV_POPULATE_READ,
  MADV_POPULATE_WRITE,
  MADV_FREE,
  MADV_COLD,
  MADV_PAGEOUT,
  MADV_DONTFORK,
  MADV_WIPEONFORK,
]
const allAdvice = [...pageAdvice, ...flagAdvice]

const small = { arenaPages: 64, unit: 1, busy: 24, advice: allAdvice } as const
const large = { arenaPages: 4096, unit: 512, busy: 6 } as const
const access = { load: 6, touch: 10, fill: 6, sum: 4 }
const space = { mmap: 12, munmap: 6, mprotect: 8, mremap: 6, madvise: 10 }
const files = { memfd: 3, close: 1, ftruncate: 3, punch: 2 }
const pins = { ring: 3, closeRing: 1, register: 6, registerEmpty: 1, update: 3, unregister: 2 }
const uffd = {
  uffd: 4,
  uffdClose: 1,
  uffdRegister: 10,
  uffdUnregister: 2,
  uffdServe: 2,
  uffdDo: 12,
  uffdMove: 2,
}
const locks = { mlock: 3, mlock2: 2, munlock: 3, mlockall: 1, munlockall: 1 }

const thpAdvice = [
  MADV_HUGEPAGE,
  MADV_HUGEPAGE,
  MADV_HUGEPAGE,
  MADV_HUGEPAGE,
  MADV_NOHUGEPAGE,
  MADV_DONTNEED,
  MADV_DONTNEED_LOCKED,
  MADV_POPULATE_READ,
  MADV_POPULATE_WRITE,
  MADV_GUARD_INSTALL,
  MADV_GUARD_REMOVE,
]
const hugetlbAdvice = [
  MADV_DONTNEED,
  MADV_POPULATE_READ,
  MADV_POPULATE_WRITE,
  MADV_REMOVE,
  MADV_DONTFORK,
  MADV_DOFORK,
  MADV_DONTDUMP,
]
const pipes = {
  pipe: 2,
  closeEnd: 1,
  vmsplice: 12,
  vmspliceOut: 2,
  drain: 7,
  feed: 2,
  pipeRead: 2,
  pipeWrite: 2,
}
const transfers = { pread: 6, pwrite: 6 }

/** All kinds of programs that both sides can run. */
export const themes = {
  basic: {
    ...small,
    about: 'private anonymous memory: mmap, munmap, mprotect, loads and stores',
    weights: { mmap: 12, munmap: 6, mprotect: 8, ...access },
    maps: { private: 1 },
  },
  space: {
    ...small,
    about: 'anonymous memory and every address-space call',
    weights: { ...space, ...access },
    maps: { private: 3, shared: 1 },
  },
  files: {
    ...small,
    about: 'memory files: mappings, truncation, holes, private copies',
    weights: { ...space, ...access, ...files },
    maps: { file: 4, private: 1, shared: 1 },
  },
  disk: {
    ...small,
    about: 'files on a disk: mappings, truncation, holes, private copies',
    weights: { ...space, ...access, disk: 3, close: 1, ftruncate: 2, punch: 2 },
    maps: { file: 4, private: 1 },
  },
  fork: {
    ...small,
    about: 'fork and exit, copy on write between processes',
    weights: { ...space, ...access, touch: 16, fork: 5, reap: 3, memfd: 1 },
    maps: { private: 5, shared: 1, file: 1 },
  },
  pins: {
    ...small,
    about: 'buffers registered with io_uring, and what happens to their pages',
    weights: { ...space, ...access, ...pins, memfd: 2, ftruncate: 1, punch: 1 },
    maps: { private: 4, shared: 1, file: 2 },
  },
  'fork-pins': {
    ...small,
    about: 'pinned pages, fork and copy on write',
    weights: { ...space, ...access, ...pins, fork: 4, reap: 2, memfd: 1 },
    maps: { private: 5, shared: 1, file: 1 },
  },
  limits: {
    ...small,
    about: 'RLIMIT_MEMLOCK just met and just missed, CAP_IPC_LOCK',
    weights: { ...space, ...access, ...pins, mlock: 4, mlock2: 1, munlock: 2, memlock: 4, ipcLock: 3 },
    maps: { private: 4, shared: 1 },
  },
  locks: {
    ...small,
    about: 'mlock and its relatives',
    weights: { ...space, ...access, ...locks, memfd: 1, fork: 1, reap: 1 },
    maps: { private: 4, shared: 1, file: 1 },
  },
  seal: {
    ...small,
    about: 'sealed mappings',
    weights: { ...space, ...access, mseal: 3 },
    maps: { private: 4, shared: 1 },
  },
  mem: {
    ...small,
    about: '/proc/PID/mem of a process and its child',
    weights: { ...space, ...access, mem: 10, fork: 3, reap: 1, memfd: 1 },
    maps: { private: 4, shared: 1, file: 1 },
  },
  'process-vm': {
    ...small,
    about: 'process_vm_readv and process_vm_writev between parent and child',
    weights: { ...space, ...access, ...files, processVm: 16, fork: 3, reap: 1, disk: 1 },
    maps: { private: 4, shared: 1, file: 3 },
  },
  ptrace: {
    ...small,
    about: 'words peeked and poked into a child, /proc/PID/mem',
    weights: { ...space, ...access, ...files, ptrace: 12, mem: 5, fork: 4, reap: 1, disk: 1 },
    maps: { private: 4, shared: 1, file: 3 },
  },
  vmsplice: {
    ...small,
    about: 'pages in pipes, and what happens to them before they are read',
    weights: { ...space, ...access, ...pipes, ...files, fork: 3, reap: 2 },
    maps: { private: 5, shared: 1, file: 3 },
  },
  'file-io': {
    ...small,
    about: 'read and write of files from and into any memory',
    weights: { ...space, ...access, ...transfers, ...files, disk: 2, fork: 1, reap: 1 },
    maps: { private: 4, shared: 1, file: 3 },
  },
  'direct-io': {
    ...small,
    about: 'direct I/O: short pins, the page cache around it, partial transfers',
    weights: {
      ...space,
      ...access,
      pread: 10,
      pwrite: 10,
      disk: 3,
      direct: 6,
      memfd: 1,
      close: 1,
      ftruncate: 2,
      punch: 2,
      fsync: 1,
      fork: 2,
      reap: 1,
    },
    maps: { private: 4, shared: 1, file: 4 },
  },
  swap: {
    ...small,
    about: 'pages swapped out with MADV_PAGEOUT and freed lazily: fork, pins, locks, files',
    swap: true,
    advice: swapAdvice,
    weights: {
      ...space,
      ...access,
      ...files,
      ...pins,
      madvise: 24,
      fork: 4,
      reap: 3,
      mem: 2,
      mlock: 1,
      munlock: 1,
    },
    maps: { private: 6, shared: 1, file: 2 },
  },
  ksm: {
    ...small,
    about: 'equal pages merged by ksmd: copies, fork, pins, what undoes it',
    ksm: true,
    advice: ksmAdvice,
    // a page of one is the next page of another
    seeds: [0, 17, 34],
    weights: {
      ...space,
      ...access,
      ...pins,
      fill: 12,
      madvise: 14,
      ksm: 8,
      fork: 4,
      reap: 2,
      mem: 2,
      memfd: 1,
      mlock: 1,
    },
    maps: { private: 6, shared: 1, file: 2 },
  },
  thp: {
    ...large,
    about: 'transparent huge pages: faults, splits, fork, pins',
    thp: true,
    advice: thpAdvice,
    weights: {
      mmap: 6,
      munmap: 3,
      mprotect: 5,
      mremap: 4,
      madvise: 14,
      ...access,
      ...pins,
      fork: 3,
      reap: 2,
      mlock: 1,
    },
    maps: { private: 1 },
  },
  'remote-thp': {
    ...large,
    about: 'transparent huge pages reached from another process',
    thp: true,
    advice: [MADV_HUGEPAGE, MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_DONTNEED, MADV_POPULATE_WRITE],
    weights: {
      mmap: 6,
      munmap: 3,
      mprotect: 5,
      madvise: 12,
      ...access,
      processVm: 8,
      ptrace: 6,
      mem: 4,
      fork: 4,
      reap: 1,
    },
    maps: { private: 1 },
  },
  'remote-hugetlb': {
    ...large,
    about: 'hugetlb mappings reached from another process',
    hugePages: 8,
    advice: [MADV_DONTNEED, MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_DONTFORK, MADV_DOFORK],
    weights: {
      mmap: 10,
      munmap: 4,
      mprotect: 8,
      madvise: 4,
      ...access,
      processVm: 8,
      ptrace: 6,
      mem: 4,
      hugefd: 3,
      fork: 4,
      reap: 1,
    },
    maps: { hugetlb: 3, file: 3, private: 1 },
  },
  hugetlb: {
    ...large,
    about: 'hugetlb mappings and files: reservations, fork, holes, pins',
    hugePages: 8,
    advice: hugetlbAdvice,
    weights: {
      mmap: 10,
      munmap: 4,
      mprotect: 5,
      mremap: 2,
      madvise: 6,
      ...access,
      ...pins,
      hugefd: 3,
      close: 1,
      ftruncate: 2,
      punch: 2,
      fork: 3,
      reap: 2,
    },
    maps: { hugetlb: 3, file: 3, private: 1 },
  },
  'thp-io': {
    ...large,
    about: 'transparent huge pages in pipes and under direct I/O',
    thp: true,
    advice: thpAdvice,
    weights: {
      mmap: 6,
      munmap: 3,
      mprotect: 5,
      mremap: 4,
      madvise: 14,
      ...access,
      ...pipes,
      disk: 2,
      direct: 3,
      pread: 8,
      pwrite: 8,
      fork: 3,
      reap: 2,
    },
    maps: { private: 1 },
  },
  'hugetlb-io': {
    ...large,
    about: 'hugetlb pages in pipes and under direct I/O',
    hugePages: 8,
    advice: hugetlbAdvice,
    weights: {
      mmap: 10,
      munmap: 4,
      mprotect: 5,
      madvise: 6,
      ...access,
      ...pipes,
      hugefd: 3,
      disk: 2,
      direct: 3,
      pread: 8,
      pwrite: 8,
      ftruncate: 1,
      punch: 2,
      fork: 3,
      reap: 2,
    },
    maps: { hugetlb: 3, file: 3, private: 1 },
  },
  uffd: {
    ...small,
    about: 'userfaultfd: missing, protected and minor pages, answered by a thread',
    // MADV_GUARD_INSTALL over protected pages of a file never ends (R-FLT-78)
    advice: allAdvice.filter((advice) => advice !== MADV_GUARD_INSTALL),
    weights: {
      mmap: 5,
      munmap: 2,
      mprotect: 4,
      mremap: 4,
      madvise: 8,
      ...access,
      touch: 12,
      ...uffd,
      memfd: 3,
      ftruncate: 1,
      punch: 1,
      ring: 2,
      register: 3,
      unregister: 1,
      fork: 2,
      reap: 1,
      mem: 2,
      mlock: 1,
      munlock: 1,
    },
    maps: { private: 4, shared: 2, file: 3 },
  },
  'uffd-thp': {
    ...large,
    about: 'userfaultfd on transparent huge pages',
    thp: true,
    advice: [
      MADV_HUGEPAGE,
      MADV_HUGEPAGE,
      MADV_HUGEPAGE,
      MADV_NOHUGEPAGE,
      MADV_DONTNEED,
      MADV_POPULATE_READ,
      MADV_POPULATE_WRITE,
    ],
    weights: {
      mmap: 6,
      munmap: 2,
      mprotect: 3,
      mremap: 3,
      madvise: 14,
      ...access,
      ...uffd,
      ...pins,
      fork: 2,
      reap: 1,
    },
    maps: { private: 1 },
  },
  'uffd-hugetlb': {
    ...large,
    about: 'userfaultfd on hugetlb mappings',
    hugePages: 8,
    advice: [MADV_DONTNEED, MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_REMOVE, MADV_DONTFORK],
    weights: {
      mmap: 8,
      munmap: 3,
      mprotect: 3,
      mremap: 2,
      madvise: 5,
      ...access,
      ...uffd,
      ...pins,
      hugefd: 3,
      close: 1,
      ftruncate: 1,
      punch: 1,
      fork: 2,
      reap: 1,
    },
    maps: { hugetlb: 3, file: 3, private: 1 },
  },
} as const satisfies Record<string, Theme>

export type ThemeName = keyof typeof themes

export function isThemeName(name: string): name is ThemeName {
  return Object.hasOwn(themes, name)
}

export function themeOf(name: ThemeName): Theme {
  return themes[name]
}
