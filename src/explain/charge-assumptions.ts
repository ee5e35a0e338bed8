import { PMD_SIZE } from '../base/units.ts'
import { pageRunsIn } from '../host/page-runs.ts'
import { PM_FILE, PM_PRESENT } from '../host/pagemap.ts'
import type { Snapshot } from '../host/snapshot.ts'
import { mappingsOf } from './mappings.ts'
import type { RequestRange } from './request.ts'

/**
 * What a charge to RLIMIT_MEMLOCK takes for granted: it counts whole folios (R-URING-44), whose sizes are
 * mostly not visible.
 */
export function chargeAssumptions(snapshot: Snapshot, range: RequestRange): string[] {
  const { thp } = snapshot.system
  if (thp === null)
    return [
      'no settings of transparent huge pages were read: memory not yet touched is taken to get small pages',
    ]
  const assumptions: string[] = []
  if (thp.enabled !== 'never' && hasHiddenAnonymousPages(snapshot, range)) {
    assumptions.push(
      'resident pages outside huge mappings are taken for small ones: a page of a huge page that was split up would be charged with all of it (page frame numbers are hidden)',
    )
  }
  const makesOtherSizes = thp.sizes.some(
    ({ size, enabled }) =>
      size !== PMD_SIZE &&
      (enabled === 'inherit' ? thp.enabled !== 'never' : enabled !== null && enabled !== 'never'),
  )
  if (makesOtherSizes) {
    assumptions.push(
      'memory not yet touched is taken to get 4 KiB or 2 MiB pages; this machine also makes other sizes, which are charged whole',
    )
  }
  const shmem = mappingsOf(snapshot, range).some(
    ({ backing }) => backing.kind === 'shmem' || backing.kind === 'sysv',
  )
  if (shmem && thp.shmemEnabled !== 'never' && thp.shmemEnabled !== 'deny') {
    assumptions.push(
      'shared memory not yet touched is taken to get small pages; this machine may give it huge ones, which are charged whole',
    )
  }
  return assumptions
}

function hasHiddenAnonymousPages(snapshot: Snapshot, { start, length }: RequestRange): boolean {
  for (const run of pageRunsIn(snapshot.pages, start, start + length)) {
    if ((run.bits & (PM_PRESENT | PM_FILE)) === PM_PRESENT && run.kpageflags < 0) return true
  }
  return false
}
