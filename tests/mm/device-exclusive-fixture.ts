/** Steps that tests of device-exclusive pages are made of. */
import { PAGE_SIZE } from '../../src/base/units.ts'
import {
  makeDeviceExclusive,
  makeDeviceExclusiveRange,
  putExclusivePage,
} from '../../src/mm/device-exclusive.ts'
import { PageArray } from '../../src/mm/gup.ts'
import { registerNotifier } from '../../src/mm/mmu-notifier.ts'
import { PTE_DEVICE_EXCLUSIVE } from '../../src/mm/page-table.ts'
import { loadUser } from '../../src/mm/user-access.ts'
import type { World } from './gup-fixture.ts'

export const P = PAGE_SIZE
/** releases that make ranges exclusive */
export const RANGES = ['gup-v3', '6.1', '6.6', '6.12'] as const
export const RELEASES = [...RANGES, '6.18'] as const
export const OWNER = {}

/** Pages taken from the processor, as either function has them: 0 for what could not be had. */
export function take(w: World, at: number, n = 1, { keep = false } = {}): { result: number; pfns: number[] } {
  const pages = new PageArray(n)
  let got = 0
  if (w.k.release.fault.deviceExclusive === 'range')
    got = w.underLock((guard) => makeDeviceExclusiveRange(w.k, guard, at, at + n * P, pages, OWNER))
  else
    for (; got >= 0 && got < n; got++) {
      const pfn = w.underLock((guard) => makeDeviceExclusive(w.k, guard, at + got * P, OWNER))
      if (pfn < 0) return { result: got > 0 ? got : pfn, pfns: [...pages.pfns.subarray(0, got)] }
      pages.pfns[got] = pfn
      if (!keep) putExclusivePage(w.k, pfn)
    }
  const pfns = [...pages.pfns.subarray(0, Math.max(0, got))]
  if (!keep && w.k.release.fault.deviceExclusive === 'range')
    for (const pfn of pfns) if (pfn !== 0) putExclusivePage(w.k, pfn)
  return { result: got, pfns }
}

export function bits(w: World, at: number, mm = w.mm): number {
  return mm.pageTable.bitsAt(at)
}

export function isExclusive(w: World, at: number, mm = w.mm): boolean {
  return (bits(w, at, mm) & PTE_DEVICE_EXCLUSIVE) !== 0
}

export function byte(w: World, at: number, task = w.task): number {
  const into = new Uint8Array(1)
  task.run(loadUser(w.k, task.space, at, into))
  return into[0]!
}

/** What MMU notifiers hear from now on. */
export function listen(w: World): string[] {
  const heard: string[] = []
  registerNotifier(w.mm, {
    start: 0,
    end: Infinity,
    invalidate: (start, end, { event, owner }) =>
      void heard.push(`${event} ${owner === OWNER ? 'mine' : owner} ${(end - start) / P}`),
  })
  return heard
}

/** A reference of the test's own, which the audit is told of. */
export function held(w: World, pfns: number[]): () => void {
  const holder = {
    name: 'the device',
    forEachReference: (visit: (pfn: number, references: number, pins: number) => void): void => {
      for (const pfn of pfns) visit(pfn, 1, 0)
    },
  }
  w.k.holders.add(holder)
  return () => {
    w.k.holders.delete(holder)
    for (const pfn of pfns) putExclusivePage(w.k, pfn)
  }
}
