import type { ReleaseName } from '../base/release.ts'
import { PAGE_SIZE, PMD_SIZE, PTRS_PER_PTE } from '../base/units.ts'
import { HostError } from '../host/host-error.ts'
import type { Snapshot } from '../host/snapshot.ts'
import { Kernel, type MmSettings, type PageHolder, type PinCharge } from '../mm/kernel.ts'
import { Mm } from '../mm/mm.ts'
import { Restoration, type Doubt, type Guesses, type Window } from './restoration.ts'
import { RestoredTask } from './restored-task.ts'
import { restoreHugetlbPool } from './restore-hugetlb.ts'
import { restorePages } from './restore-pages.ts'
import { restoreVmas } from './restore-vmas.ts'

/** An observed process inside an engine that behaves like one release. */
export interface Restored {
  readonly snapshot: Snapshot
  readonly kernel: Kernel
  readonly task: RestoredTask
  readonly mm: Mm
  /** what the answer takes for granted because nobody can see it */
  readonly assumptions: readonly string[]
  /** guesses that were needed in the range */
  readonly doubts: readonly Doubt[]
}

/** Pages the request may need besides those it finds and copies of them: rings, huge pages at the edges. */
const SLACK_PAGES = 16_384
/** 64 GiB: what one machine of the engine holds at 20 bytes a page */
const MAX_PAGES = 2 ** 24

/** Registrations seen outside the engine: their charges count, their pins are not this engine's. */
class EarlierRegistrations implements PageHolder {
  readonly name = 'registrations seen in the snapshot'
  readonly #charge: PinCharge

  constructor(charge: PinCharge) {
    this.#charge = charge
  }

  forEachReference(): void {
    // a pin is visible in no file: which of the restored pages they hold is not known
  }

  charges(): readonly PinCharge[] {
    return [this.#charge]
  }
}

/**
 * Builds an engine that holds what the snapshot shows of one range: the mappings, the pages, the limits.
 * Pages outside the range and its 2 MiB neighbourhood are left out; a request never looks there.
 * @throws Unmodelled when the range holds something the engine cannot hold
 * @throws HostError for a range beyond 64 GiB
 */
export function restore(snapshot: Snapshot, release: ReleaseName, range: Window, guesses: Guesses): Restored {
  const start = Math.floor(range.start / PMD_SIZE) * PMD_SIZE
  const window = { start, end: Math.ceil(range.end / PMD_SIZE) * PMD_SIZE }
  const pages = (window.end - window.start) / PAGE_SIZE
  if (pages > MAX_PAGES) {
    throw new HostError(
      'usage',
      `the range is longer than 64 GiB, which is more than one request can be tried on; ask for a part of it`,
    )
  }
  // every page may be copied, and every hugetlb page have a spare one
  const hugetlb = snapshot.mappings.some((m) => m.backing.kind === 'hugetlb')
  const kernel = new Kernel({
    release,
    zones: { normal: (hugetlb ? 4 : 2) * pages + SLACK_PAGES },
    settings: settingsOf(snapshot),
  })
  const task = new RestoredTask(snapshot)
  const mm = new Mm(kernel, task.comm)
  task.mm = mm
  mm.thpDisabled = snapshot.process.thpEnabled === false
  const restoration = new Restoration(kernel, mm, release, range, guesses)
  restoreHugetlbPool(restoration, snapshot, pages / PTRS_PER_PTE)
  const guard = mm.mmapLock.tryWrite()!
  const vmas = restoreVmas(restoration, guard, snapshot)
  guard.release()
  restorePages(restoration, snapshot, vmas, window)
  restoreCharges(kernel, task, mm, snapshot)
  return { snapshot, kernel, task, mm, assumptions: restoration.assumptions, doubts: restoration.doubts }
}

function settingsOf(snapshot: Snapshot): Partial<MmSettings> {
  const { thp, sysctl } = snapshot.system
  const settings: Partial<MmSettings> = {}
  if (thp !== null) {
    if (thp.enabled === 'always' || thp.enabled === 'madvise' || thp.enabled === 'never')
      settings.thpEnabled = thp.enabled
    settings.thpUseZeroPage = thp.useZeroPage
  }
  const scope = sysctl['kernel.yama.ptrace_scope']
  if (scope === '1' || scope === '2' || scope === '3') settings.ptraceScope = Number(scope) as 1 | 2 | 3
  const maxMapCount = Number(sysctl['vm.max_map_count'])
  if (maxMapCount > 0) settings.maxMapCount = maxMapCount
  return settings
}

/** @rule R-ST-3 */
function restoreCharges(kernel: Kernel, task: RestoredTask, mm: Mm, snapshot: Snapshot): void {
  const user = kernel.user(task.uid)
  const lockedVm = Math.ceil(snapshot.userRegistered.bytes / PAGE_SIZE)
  const pinnedVm = Math.ceil((snapshot.process.memory?.pinned ?? 0) / PAGE_SIZE)
  // VmLck is what mlock has locked, which the mappings show, and what devices have charged there (R-DRV-2)
  const locked = Math.ceil((snapshot.process.memory?.locked ?? 0) / PAGE_SIZE)
  const mmLockedVm = Math.max(0, locked - mm.lockedVm)
  user.lockedVm += lockedVm
  mm.pinnedVm += pinnedVm
  mm.lockedVm += mmLockedVm
  kernel.holders.add(new EarlierRegistrations({ user, lockedVm, mm, pinnedVm, mmLockedVm }))
}
