import type { ReleaseName } from '../release.ts'

/** What differs in the address-space calls between releases (address-space.md, section 22). */
export interface MmSwitches {
  /** private anonymous mmap of a multiple of 2 MiB without hint is aligned, and MAP_STACK sets VM_NOHUGEPAGE: 6.7 on (R-AS-37, R-AS-17) */
  readonly alignsAnonymousForThp: boolean
  /** the same alignment for files whose filesystem has no address method: 6.12 only (R-AS-38) */
  readonly alignsPlainFilesForThp: boolean
  /** MAP_FIXED over something that cannot be unmapped reports that errno; older ones ENOMEM (R-AS-48) */
  readonly fixedReportsUnmapErrno: boolean
  /** checks of mmap that run after the old range is gone: leave a hole on failure (R-AS-47) */
  readonly checksAfterUnmap: 'none' | 'commit' | 'commit-seal-mdwe'
  /** shared read-only mapping of a write-sealed memfd through a writable fd: ok, or EPERM in v3 and 6.6 (R-AS-21) */
  readonly sealedSharedReadAllowed: boolean
  /** mprotect RW→R of an untouched private anonymous VMA gives the commit charge back: 6.7 on (R-AS-64) */
  readonly readOnlyDropsAccount: boolean
  /** a touched range may merge into an untouched neighbour: 6.16 on (R-AS-132) */
  readonly touchedMergesIntoUntouched: boolean
  /** a gap between two compatible VMAs is tried with the previous one first: 6.12 on (R-AS-135) */
  readonly mergePrefersPrevious: boolean
  /** VMAs with a close hook may be expanded by a merge: 6.4 on (R-AS-134) */
  readonly closeHookExpandable: boolean
  /** mseal and MAP_DROPPABLE exist: 6.10/6.11 on (R-AS-115, R-AS-22) */
  readonly hasMseal: boolean
  /** MADV_GUARD_INSTALL exists: 6.13 on (R-AS-103) */
  readonly hasGuardPages: boolean
  /** mremap moves several VMAs at once and checks before it unmaps the target: 6.17 on (R-AS-68, R-AS-75) */
  readonly mremapMultiVma: boolean
  /** hugetlb hints are rounded up, not down: 6.18 (R-AS-41) */
  readonly hugetlbHintRoundsUp: boolean
  /** MREMAP_DONTUNMAP of a locked VMA leaks locked_vm: 6.18 (R-AS-73) */
  readonly dontUnmapLeaksLocked: boolean
  /** what MREMAP_DONTUNMAP moves beside the mapping it comes from merges with it: seen on 6.18, not on 6.1 and 6.12 (R-AS-73) */
  readonly dontUnmapMergesWithSource: boolean
  /** … and not with the mapping on its other side either: seen on 6.1, not on 6.12 (R-AS-73) */
  readonly dontUnmapBesideSourceIsAlone: boolean
  /** an anonymous mapping that MREMAP_DONTUNMAP empties as a whole has the pgoff of its place again: seen on 6.1 and 6.12, not on 6.18 (R-AS-73) */
  readonly dontUnmapResetsPgoff: boolean
  /** PR_SET_MDWE exists: 6.3 on (R-AS-63) */
  readonly hasMdwe: boolean
  /** F_SEAL_EXEC and MFD_NOEXEC_SEAL exist: 6.3 on (R-SEAL-1, R-SEAL-3) */
  readonly hasExecSeal: boolean
  /** munmap and brk shrink hand their write lock down even below a growable VMA: 6.6 on (R-AS-120) */
  readonly munmapAlwaysDowngrades: boolean
  /** F_SEAL_FUTURE_WRITE is looked at by the file's mmap method, after the old range is gone; 6.12 on before it (R-AS-21, R-AS-46) */
  readonly futureWriteSealInMethod: boolean
  /** a THP-aligned file search whose padded hole is aligned already takes its lower end; 6.7 on the upper one (R-AS-39) */
  readonly thpFileAlignTakesLower: boolean
  /** MAP_ABOVE4G belongs to the flags MAP_SHARED_VALIDATE accepts: 6.8 on (R-AS-15) */
  readonly hasAbove4G: boolean
  /** process_madvise on oneself needs CAP_SYS_NICE, does not, or takes any advice: 6.1, 6.12, 6.13 on (R-AS-108) */
  readonly processMadviseSelf: 'needs-nice' | 'plain' | 'any-advice'
  /** /proc/PID/maps calls [heap] what overlaps the heap, not also what only touches it; seen on 6.12 and 6.18, not on 6.1 (R-AS-161) */
  readonly heapLabelStrict: boolean
  /** mappings of secret memory are locked, within the limit; seen on 6.18, not on 6.1 and 6.12 (R-AS-93) */
  readonly secretmemIsLocked: boolean
  /** pipes lie on a mount without exec; seen on 6.18, not on 6.1 and 6.12 (R-AS-10.21) */
  readonly pipesAreNoexec: boolean
  /** the special mappings an exec makes, from below, with their pages; seen on 6.1, 6.12 and 6.18 (R-AS-156) */
  readonly vdsoPages: readonly (readonly [name: string, pages: number])[]
  /** PR_SET_VMA_ANON_NAME takes shared anonymous memory too: 6.2 on (R-AS-109) */
  readonly namesSharedAnonymous: boolean
  /**
   * how move_pages finds pages and tells who maps them: by a walk of page tables that sees PROT_NONE and secret
   * memory, and folio by folio; or as a core dump does, and page by page. Seen on 6.12 and on 6.1 (R-FLT-142)
   */
  readonly movePagesByFolio: boolean
  /** VmFlags has a name for VM_LOCKONFAULT, `lf`; seen on 6.12 and 6.18, `??` on 6.1 (R-AS-5) */
  readonly namesLockOnFault: boolean
}

const r61: MmSwitches = {
  alignsAnonymousForThp: false,
  alignsPlainFilesForThp: false,
  fixedReportsUnmapErrno: false,
  checksAfterUnmap: 'commit',
  sealedSharedReadAllowed: true,
  readOnlyDropsAccount: false,
  touchedMergesIntoUntouched: false,
  mergePrefersPrevious: false,
  closeHookExpandable: false,
  hasMseal: false,
  hasGuardPages: false,
  mremapMultiVma: false,
  hugetlbHintRoundsUp: false,
  dontUnmapLeaksLocked: false,
  dontUnmapMergesWithSource: false,
  dontUnmapBesideSourceIsAlone: true,
  dontUnmapResetsPgoff: true,
  hasMdwe: false,
  hasExecSeal: false,
  munmapAlwaysDowngrades: false,
  futureWriteSealInMethod: true,
  thpFileAlignTakesLower: true,
  hasAbove4G: false,
  processMadviseSelf: 'needs-nice',
  heapLabelStrict: false,
  secretmemIsLocked: false,
  pipesAreNoexec: false,
  vdsoPages: [
    ['[vvar]', 4],
    ['[vdso]', 2],
  ],
  namesSharedAnonymous: false,
  movePagesByFolio: false,
  namesLockOnFault: false,
}
const v3: MmSwitches = {
  ...r61,
  checksAfterUnmap: 'commit-seal-mdwe',
  sealedSharedReadAllowed: false,
  closeHookExpandable: true,
  namesSharedAnonymous: true,
  hasMdwe: true,
  hasExecSeal: true,
}
const r66: MmSwitches = { ...v3, munmapAlwaysDowngrades: true }
const r612: MmSwitches = {
  ...r66,
  alignsAnonymousForThp: true,
  alignsPlainFilesForThp: true,
  fixedReportsUnmapErrno: true,
  checksAfterUnmap: 'none',
  sealedSharedReadAllowed: true,
  readOnlyDropsAccount: true,
  mergePrefersPrevious: true,
  dontUnmapBesideSourceIsAlone: false,
  processMadviseSelf: 'plain',
  heapLabelStrict: true,
  movePagesByFolio: true,
  hasMseal: true,
  namesLockOnFault: true,
  futureWriteSealInMethod: false,
  thpFileAlignTakesLower: false,
  hasAbove4G: true,
}

export const mmSwitches: Readonly<Record<ReleaseName, MmSwitches>> = {
  'gup-v3': v3,
  '6.1': r61,
  '6.6': r66,
  '6.12': r612,
  '6.18': {
    ...r612,
    alignsPlainFilesForThp: false,
    touchedMergesIntoUntouched: true,
    secretmemIsLocked: true,
    pipesAreNoexec: true,
    processMadviseSelf: 'any-advice',
    vdsoPages: [
      ['[vvar]', 4],
      ['[vvar_vclock]', 2],
      ['[vdso]', 2],
    ],
    hasGuardPages: true,
    mremapMultiVma: true,
    hugetlbHintRoundsUp: true,
    dontUnmapLeaksLocked: true,
    dontUnmapMergesWithSource: true,
    dontUnmapResetsPgoff: false,
  },
}
