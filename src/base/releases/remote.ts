import type { ReleaseName } from '../release.ts'

/** What differs where one process reaches into another (remote-access.md). */
export interface RemoteSwitches {
  /** proc_mem.force_override decides about FOLL_FORCE: 6.12 on, and in patched 6.1; before, always forced (R-MEM-8) */
  readonly memForceOverride: boolean
  /** /proc/PID/mem and environ of a task without mm cannot be opened (ESRCH): 6.12 on; before, they read as empty (R-MEM-1, R-CMD-2) */
  readonly openNeedsMm: boolean
  /** a vector of one entry is cut to MAX_RW_COUNT before its end is looked at; seen on 6.12 and 6.18, not on 6.1 (R-PVM-1) */
  readonly cutsSingleIovec: boolean
  /** where __access_remote_tags has the VMA from: GUP itself, a look-up of its own, or the helper, as seen on 6.12 (R-MTE-7, R-COM-20) */
  readonly tagsVma: 'from-gup' | 'looked-up' | 'helper'
  /** PTRACE_PEEKMTETAGS of no tags is EFAULT: seen on 6.12; before, what is returned was never set (R-MTE-6) */
  readonly noTagsIsFault: boolean
  /** hugetlb memory can have tags: seen on 7.2, not on 6.12 (R-MTE-9) */
  readonly hugetlbHasTags: boolean
  /** generic_access_phys follows entries of 2 MiB and 1 GiB: 6.12 on; 6.1 walks to a pte (R-ARV-5) */
  readonly accessFollowsHugeEntries: boolean
}

const v3: RemoteSwitches = {
  memForceOverride: false,
  openNeedsMm: false,
  cutsSingleIovec: false,
  tagsVma: 'looked-up',
  noTagsIsFault: false,
  hugetlbHasTags: false,
  accessFollowsHugeEntries: false,
}
const r61: RemoteSwitches = { ...v3, memForceOverride: true, tagsVma: 'from-gup' }
const r612: RemoteSwitches = {
  memForceOverride: true,
  openNeedsMm: true,
  cutsSingleIovec: true,
  tagsVma: 'helper',
  noTagsIsFault: true,
  hugetlbHasTags: false,
  accessFollowsHugeEntries: true,
}

export const remoteSwitches: Readonly<Record<ReleaseName, RemoteSwitches>> = {
  'gup-v3': v3,
  '6.1': r61,
  // not known; taken from 6.1, as is whether the series' base cuts vectors; the helper is there (R-COM-23)
  '6.6': { ...r61, tagsVma: 'helper', noTagsIsFault: true },
  '6.12': r612,
  '6.18': { ...r612, hugetlbHasTags: true },
}
