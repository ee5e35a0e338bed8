import type { ReleaseName } from '../release.ts'

/** What differs in userfaultfd between releases (faults.md §13). */
export interface UffdSwitches {
  /** UFFD_FEATURE_* that UFFDIO_API offers (R-FLT-118) */
  readonly features: number
  /** UFFDIO_REGISTER also offers POISON and MOVE; a bit mask of _UFFDIO_* request numbers for a range */
  readonly rangeIoctls: number
  /** a piece that begins inside its mapping is merged with the mapping behind it: not on 6.1, assumed from 6.6 on (R-FLT-119) */
  readonly mergesCutPieces: boolean
  /** UFFDIO_WRITEPROTECT goes over several mappings and leaves holes out; before, one mapping must hold the range (R-FLT-114) */
  readonly writeProtectAcrossVmas: boolean
  /** UFFDIO_CONTINUE has UFFDIO_CONTINUE_MODE_WP (R-FLT-113) */
  readonly continueWp: boolean
  /** filling a private mapping gives it an anon_vma before anything about it is checked (R-FLT-113) */
  readonly preparesBeforeChecks: boolean
  /** UFFDIO_UNREGISTER only takes mappings that this very descriptor watches (R-FLT-119) */
  readonly unregistersOwnOnly: boolean
  /** swap type of markers in pagemap (R-FLT-161) */
  readonly markerType: number
}

const FEATURES_61 = 0x1fff

const r61: UffdSwitches = {
  features: FEATURES_61,
  rangeIoctls: 0xdc,
  mergesCutPieces: false,
  writeProtectAcrossVmas: false,
  continueWp: false,
  preparesBeforeChecks: false,
  unregistersOwnOnly: false,
  markerType: 30,
}
/** WP_UNPOPULATED came with 6.4, POISON with 6.6: assumed from their publication, not seen */
const v3: UffdSwitches = { ...r61, features: 0x3fff, writeProtectAcrossVmas: true, continueWp: true }
const r66: UffdSwitches = {
  ...v3,
  mergesCutPieces: true,
  markerType: 31,
  features: 0x7fff,
  rangeIoctls: 0x1dc,
}
const r612: UffdSwitches = {
  ...r66,
  features: 0x1ffff,
  rangeIoctls: 0x1fc,
  preparesBeforeChecks: true,
}

export const uffdSwitches: Readonly<Record<ReleaseName, UffdSwitches>> = {
  'gup-v3': v3,
  '6.1': r61,
  '6.6': r66,
  '6.12': r612,
  '6.18': { ...r612, unregistersOwnOnly: true },
}
