import type { ReleaseName } from '../release.ts'

/** What differs in mm/gup.c between releases (gup.md, section 0.1). */
export interface GupSwitches {
  /**
   * FOLL_SAME_FILE exists: added by the series' patch 4, gone again in 6.5 (R-GUP-17, R-GUP-116)
   * @rule R-GUP-116
   */
  readonly sameFileFlag: boolean
  /** FOLL_HONOR_NUMA_FAULT exists: 6.6 on; without it protnone entries are followed (R-GUP-25) */
  readonly honorNumaFaultFlag: boolean
  /** FOLL_INTERRUPTIBLE and FOLL_PCI_P2PDMA exist: 6.2 on */
  readonly interruptibleFlag: boolean
  /** rejected arguments give 0 instead of -EINVAL in pin_user_pages, _remote and _unlocked: 6.3 on (R-GUP-8) */
  readonly badPinArgumentsGiveZero: boolean
  /** get_user_pages_fast_only reports every error as 0: 6.1 (R-GUP-1) */
  readonly fastOnlyHidesErrors: boolean
  /** 6.1 validates per wrapper instead of in one place (R-GUP-9) */
  readonly perWrapperValidation: boolean
  /** the validator tolerates a caller's FOLL_TOUCH: until 6.5 (R-GUP-7) */
  readonly touchTolerated: boolean
  /** GUP expands a stack below which it is asked to look: until 6.5, not in patched 6.1 (R-GUP-13) */
  readonly expandsStack: boolean
  /** "GUP no longer grows the stack" is logged: 6.5 on (R-GUP-13) */
  readonly warnsAboutStack: boolean
  /** FOLL_PIN counts the 4K zero page: until 6.5, not in patched 6.1 (R-GUP-63) */
  readonly pinsZeroPage: boolean
  /** FOLL_LONGTERM|FOLL_WRITE on a dirty-tracked shared file mapping is -EFAULT: 6.5 on (R-GUP-16.7) */
  readonly refusesDirtyTrackedLongterm: boolean
  /** FOLL_SPLIT_PMD on hugetlb is -EOPNOTSUPP: 6.12 on (R-GUP-16.4) */
  readonly refusesSplitPmdOnHugetlb: boolean
  /** FOLL_FORCE|FOLL_WRITE on private read-only hugetlb works: 6.18 (R-GUP-16.8b) */
  readonly forceWritesHugetlb: boolean
  /** the fast path leaves the huge zero page to the slow one, as it does the small one: seen on 6.18 (R-GUP-57) */
  readonly hugeZeroIsSpecial: boolean
  /** read-only longterm pins of non-anonymous pages in COW mappings break COW first: 6.2 on (R-GUP-26) */
  readonly unsharesFilePages: boolean
  /** with `pages` given a huge mapping is taken in one step: 6.5 on (R-GUP-37) */
  readonly hugeStepWithPages: boolean
  /** hugetlb is walked by a routine of its own (R-GUP-29): until 6.6 */
  readonly separateHugetlbWalk: boolean
  /** a *_fast range that overflows gives -EOVERFLOW, not 0: 6.5 on (R-GUP-10c) */
  readonly fastOverflowIsError: boolean
  /** the fast path refuses folios by mapping: 'none', only for write-longterm pins (6.6), always for small ones (6.12 on) (R-GUP-58) */
  readonly fastFolioCheck: 'none' | 'write-longterm' | 'always'
  /** the fast path tests pinnability before taking the reference: until 6.5 (R-GUP-61) */
  readonly fastPinnableTestFirst: boolean
  /** 0 pages without FOLL_NOWAIT warns and becomes -EFAULT: 6.12 on (R-GUP-47) */
  readonly zeroResultIsFault: boolean
  /** nr_pages == 0 returns before any lock or flag is touched: 6.12 on (R-GUP-11) */
  readonly emptyRangeReturnsFirst: boolean
  /** the slow part of fast longterm pins may drop the lock: not in 6.1 (R-GUP-54) */
  readonly longtermFastMayUnlock: boolean
  /** unpin_user_pages skips null entries: 6.12 on (R-GUP-66) */
  readonly unpinSkipsNull: boolean
  /** FOLL_MADV_POPULATE reports holes as -ENOMEM and permissions as -EINVAL from GUP itself: 6.6 on (R-GUP-39) */
  readonly madvPopulateFlag: boolean
  /** populate_vma_page_range refuses a VMA without access bits at once: 6.12 on (R-GUP-91) */
  readonly populateRefusesNoAccess: boolean
  /** fault_in_safe_writeable reports success after a later failure: the series' base (R-GUP-95) */
  readonly safeWriteableLosesFailure: boolean
  /** a write to a shadow stack needs FOLL_FORCE: 6.6 on (R-GUP-16.8) */
  readonly refusesShadowStackWrites: boolean
  /** the locked loop takes the lock itself where its caller has none, killably; a kill is -EAGAIN: 6.3 on (R-GUP-41) */
  readonly takesLockKillably: boolean
  /** get_dump_page may drop the lock while it waits: 6.1 (R-GUP-90) */
  readonly dumpPageMayUnlock: boolean
  /** __access_remote_vm tries to grow a stack before and during the copy, instead of leaving it to GUP (R-ARV-2, R-ARV-3) */
  readonly remoteVmGrowsStack: 'never' | 'at-start' | 'always'
  /** gup_test has the long-term session that the kernel's own tests use: 6.3 on (R-GUP-105) */
  readonly testHasLongtermSession: boolean
  /** the selftest program speaks TAP: seen in 6.12; 6.6 was not looked at (R-GUP-108, R-GUP-109) */
  readonly selftestOutput: 'text' | 'tap'
  /**
   * Direct I/O holds its pages with FOLL_PIN instead of FOLL_GET: 6.6 on, not in 6.1. Of the series' base it is not
   * known; taken from 6.1 (R-GUP-99)
   */
  readonly directIoPins: boolean
  /** value of each external and internal flag on this release, null where it does not exist (R-GUP-5) */
  readonly flagValues: Readonly<Record<string, number | null>>
}

const modernFlagValues = {
  FOLL_WRITE: 1 << 0,
  FOLL_GET: 1 << 1,
  FOLL_DUMP: 1 << 2,
  FOLL_FORCE: 1 << 3,
  FOLL_NOWAIT: 1 << 4,
  FOLL_NOFAULT: 1 << 5,
  FOLL_HWPOISON: 1 << 6,
  FOLL_ANON: 1 << 7,
  FOLL_LONGTERM: 1 << 8,
  FOLL_SPLIT_PMD: 1 << 9,
  FOLL_PCI_P2PDMA: 1 << 10,
  FOLL_INTERRUPTIBLE: 1 << 11,
  FOLL_SAME_FILE: null,
  FOLL_HONOR_NUMA_FAULT: 1 << 12,
  FOLL_MIGRATION: null,
  FOLL_TOUCH: 1 << 16,
  FOLL_TRIED: 1 << 17,
  FOLL_REMOTE: 1 << 18,
  FOLL_PIN: 1 << 19,
  FOLL_FAST_ONLY: 1 << 20,
  FOLL_UNLOCKABLE: 1 << 21,
  FOLL_MADV_POPULATE: 1 << 22,
} as const

const r612: GupSwitches = {
  sameFileFlag: false,
  honorNumaFaultFlag: true,
  interruptibleFlag: true,
  badPinArgumentsGiveZero: true,
  fastOnlyHidesErrors: false,
  perWrapperValidation: false,
  touchTolerated: false,
  expandsStack: false,
  warnsAboutStack: true,
  pinsZeroPage: false,
  refusesDirtyTrackedLongterm: true,
  refusesSplitPmdOnHugetlb: true,
  forceWritesHugetlb: false,
  hugeZeroIsSpecial: false,
  unsharesFilePages: true,
  hugeStepWithPages: true,
  separateHugetlbWalk: false,
  fastOverflowIsError: true,
  fastFolioCheck: 'always',
  fastPinnableTestFirst: false,
  zeroResultIsFault: true,
  emptyRangeReturnsFirst: true,
  longtermFastMayUnlock: true,
  unpinSkipsNull: true,
  madvPopulateFlag: true,
  populateRefusesNoAccess: true,
  safeWriteableLosesFailure: false,
  refusesShadowStackWrites: true,
  takesLockKillably: true,
  dumpPageMayUnlock: false,
  remoteVmGrowsStack: 'always',
  testHasLongtermSession: true,
  selftestOutput: 'tap',
  directIoPins: true,
  flagValues: modernFlagValues,
}

const r66: GupSwitches = {
  ...r612,
  selftestOutput: 'text',
  refusesSplitPmdOnHugetlb: false,
  fastFolioCheck: 'write-longterm',
  zeroResultIsFault: false,
  emptyRangeReturnsFirst: false,
  unpinSkipsNull: false,
  populateRefusesNoAccess: false,
}

const v3: GupSwitches = {
  ...r66,
  sameFileFlag: true,
  honorNumaFaultFlag: false,
  touchTolerated: true,
  expandsStack: true,
  warnsAboutStack: false,
  pinsZeroPage: true,
  refusesDirtyTrackedLongterm: false,
  hugeStepWithPages: false,
  separateHugetlbWalk: true,
  fastOverflowIsError: false,
  fastFolioCheck: 'none',
  fastPinnableTestFirst: true,
  madvPopulateFlag: false,
  safeWriteableLosesFailure: true,
  refusesShadowStackWrites: false,
  remoteVmGrowsStack: 'never',
  directIoPins: false,
  flagValues: {
    ...modernFlagValues,
    FOLL_SAME_FILE: 1 << 12,
    FOLL_HONOR_NUMA_FAULT: null,
    FOLL_MADV_POPULATE: null,
  },
}

const r61: GupSwitches = {
  ...v3,
  sameFileFlag: false,
  interruptibleFlag: false,
  badPinArgumentsGiveZero: false,
  fastOnlyHidesErrors: true,
  perWrapperValidation: true,
  expandsStack: false,
  pinsZeroPage: false,
  unsharesFilePages: false,
  longtermFastMayUnlock: false,
  safeWriteableLosesFailure: false,
  takesLockKillably: false,
  dumpPageMayUnlock: true,
  remoteVmGrowsStack: 'at-start',
  testHasLongtermSession: false,
  flagValues: {
    FOLL_WRITE: 0x1,
    FOLL_TOUCH: 0x2,
    FOLL_GET: 0x4,
    FOLL_DUMP: 0x8,
    FOLL_FORCE: 0x10,
    FOLL_NOWAIT: 0x20,
    FOLL_NOFAULT: 0x80,
    FOLL_HWPOISON: 0x100,
    FOLL_MIGRATION: 0x400,
    FOLL_TRIED: 0x800,
    FOLL_REMOTE: 0x2000,
    FOLL_ANON: 0x8000,
    FOLL_LONGTERM: 0x10000,
    FOLL_SPLIT_PMD: 0x20000,
    FOLL_PIN: 0x40000,
    FOLL_FAST_ONLY: 0x80000,
    FOLL_PCI_P2PDMA: null,
    FOLL_INTERRUPTIBLE: null,
    FOLL_SAME_FILE: null,
    FOLL_HONOR_NUMA_FAULT: null,
    FOLL_UNLOCKABLE: null,
    FOLL_MADV_POPULATE: null,
  },
}

export const gupSwitches: Readonly<Record<ReleaseName, GupSwitches>> = {
  'gup-v3': v3,
  '6.1': r61,
  '6.6': r66,
  '6.12': r612,
  '6.18': { ...r612, forceWritesHugetlb: true, hugeZeroIsSpecial: true },
}
