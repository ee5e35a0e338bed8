import type { ReleaseName } from '../release.ts'

/** What differs in virt/kvm between releases (remote-access.md, sections 13 and 14). */
export interface KvmSwitches {
  /** a signal ends the wait for a page, KVM_PFN_ERR_SIGPENDING: 6.12 on, the series' base not verified (R-KVM-2) */
  readonly interruptible: boolean
  /** FOLL_HONOR_NUMA_FAULT is asked for: 6.6 on, seen in 6.12 (R-KVM-3) */
  readonly honorsNumaFault: boolean
  /** after an error of the slow path the page is probed again for poison: not in the tree behind 6.18 (R-KVM-3) */
  readonly probesHwpoison: boolean
  /** asynchronous faults hold a user reference of the mm from their set-up on: 6.1; the others get one when they run (R-APF-1) */
  readonly asyncPfHoldsMm: boolean
}

const r61: KvmSwitches = {
  interruptible: false,
  honorsNumaFault: false,
  probesHwpoison: true,
  asyncPfHoldsMm: true,
}
const r66: KvmSwitches = { ...r61, honorsNumaFault: true }
const r612: KvmSwitches = { ...r66, interruptible: true, asyncPfHoldsMm: false }

export const kvmSwitches: Readonly<Record<ReleaseName, KvmSwitches>> = {
  // not verified: taken from 6.1
  'gup-v3': r61,
  '6.1': r61,
  '6.6': r66,
  '6.12': r612,
  '6.18': { ...r612, probesHwpoison: false },
}
