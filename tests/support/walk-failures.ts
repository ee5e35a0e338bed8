import { expect } from 'vitest'
import type { ReleaseName } from '../../src/base/release.ts'
import { Unmodelled } from '../../src/base/unmodelled.ts'
import { audit } from '../../src/mm/audit.ts'
import type { FailNth } from '../../src/mm/fail-nth.ts'
import { Kernel } from '../../src/mm/kernel.ts'

/** Prepares a kernel and returns what is then run with something failing; that gives back all it gets. */
export type Scenario = (k: Kernel) => () => void

/** the first so many are walked one by one; the 512 pages of a huge page after that are all alike */
const CLOSELY = 40
const STRIDE = 97

const failures: readonly ((n: number) => FailNth)[] = [
  (n) => ({ what: 'allocation', n }),
  (n) => ({ what: 'migration', n }),
  (n) => ({ what: 'kmalloc', n }),
  (n) => ({ what: 'charge', n }),
  (n) => ({ what: 'dma-map', n }),
  ...(['OOM', 'SIGBUS', 'HWPOISON', 'RETRY'] as const).map((code) => (n: number): FailNth => ({
    what: 'fault',
    n,
    with: code,
  })),
]

/**
 * Lets the first, second, … of each kind fail until nothing is left that could, and audits every counter after
 * each; the scenario starts anew every time.
 * @param nodes of memory; default 1
 * @returns how many failures there were
 */
export function walkFailures(release: ReleaseName, scenario: Scenario, nodes = 1): number {
  let failed = 0
  for (const failure of failures) {
    for (let n = 1, more = true; more; n += n < CLOSELY ? 1 : STRIDE) {
      more = failsOnce(release, scenario, failure(n), nodes)
      if (more) failed++
    }
  }
  return failed
}

/** @returns whether anything failed */
function failsOnce(release: ReleaseName, scenario: Scenario, failure: FailNth, nodes: number): boolean {
  // movable pages come first, so that long-term pins have something to move
  const k = new Kernel({ release, nodes, zones: { normal: 3072, movable: 1024 }, checkStaleVmas: true })
  const act = scenario(k)
  const due = k.failNth(failure)!
  try {
    act()
  } catch (error) {
    // the OOM killer is no part of the model (docs/limits.md)
    if (!(error instanceof Unmodelled && error.message.includes('the OOM killer'))) throw error
  }
  k.failNth(null)
  const where = JSON.stringify(failure)
  expect(audit(k), where).toEqual([])
  for (const mm of k.mms) expect(mm.mmapLock.locked, where).toBe(false)
  return due.happened
}
