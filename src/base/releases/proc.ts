import type { ReleaseName } from '../release.ts'

/** What differs in the files of /proc/PID (address-space.md section 21, host-observation.md sections 2 to 5). */
export interface ProcSwitches {
  /** smaps has a line KSM; seen on 6.12 and 6.18, not on 6.1 (R-AS-164) */
  readonly smapsShowsKsm: boolean
  /** the number of THPeligible is padded as the others are; seen on 6.12 and 6.18, not on 6.1 (R-AS-164) */
  readonly padsThpEligible: boolean
  /** smaps counts nothing of a huge page in memory without any access: seen on 6.1 (R-SMAPS-7) */
  readonly smapsOmitsInaccessibleThp: boolean
  /** bit 58 of pagemap marks a guard page: 6.18 (R-FLT-161) */
  readonly pagemapShowsGuards: boolean
  /** status has the lines Kthread and untag_mask; seen on 6.12 and 6.18, not on 6.1 (R-ST-1) */
  readonly statusShowsKthread: boolean
  /** PROCMAP_QUERY exists: 6.11 on (R-MAPS-5) */
  readonly hasProcmapQuery: boolean
}

const r61: ProcSwitches = {
  smapsShowsKsm: false,
  padsThpEligible: false,
  smapsOmitsInaccessibleThp: true,
  pagemapShowsGuards: false,
  statusShowsKthread: false,
  hasProcmapQuery: false,
}
const r612: ProcSwitches = {
  smapsShowsKsm: true,
  padsThpEligible: true,
  smapsOmitsInaccessibleThp: false,
  pagemapShowsGuards: false,
  statusShowsKthread: true,
  hasProcmapQuery: true,
}

export const procSwitches: Readonly<Record<ReleaseName, ProcSwitches>> = {
  // not known; taken from 6.1
  'gup-v3': r61,
  '6.1': r61,
  '6.6': r61,
  '6.12': r612,
  '6.18': { ...r612, pagemapShowsGuards: true },
}
