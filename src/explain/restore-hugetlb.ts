import { PMD_SIZE } from '../base/units.ts'
import { Unmodelled } from '../base/unmodelled.ts'
import { anonExclusive, pageRunsIn, type PageRun } from '../host/page-runs.ts'
import { PM_FILE, PM_PRESENT } from '../host/pagemap.ts'
import type { Snapshot } from '../host/snapshot.ts'
import { PG_ANON_EXCLUSIVE } from '../memory/page-flags.ts'
import { pageCacheInsert } from '../mm/filemap.ts'
import { allocHugetlb, hugetlbBits, makeHugetlbAnon, mapHugetlb } from '../mm/hugetlb-map.ts'
import { hugetlbPool } from '../mm/hugetlb-pool.ts'
import { hugetlbFile, hugetlbIndex, hugetlbReserve } from '../mm/hugetlb-reserve.ts'
import { PTE_DIRTY, PTE_WRITE, pmdIndex } from '../mm/page-table.ts'
import type { Vma } from '../mm/vma.ts'
import { VM_MAYSHARE, VM_NORESERVE, VM_WRITE } from '../mm/vm-flags.ts'
import { machineTooSmall, type Restoration, type Window } from './restoration.ts'

/** Huge pages of 2 MiB that nobody has and nobody was promised. */
export function spareHugePages(snapshot: Snapshot): number {
  const pool = snapshot.system.hugetlbPools.find((p) => p.pageSize === PMD_SIZE)
  if (pool === undefined) return 0
  return Math.max(0, pool.free - pool.reserved) + Math.max(0, pool.overcommit - pool.surplus)
}

/**
 * Gives the pool the pages it has beyond all promises, as many as a request of that size can use.
 * Afterwards `restoreHugetlb` adds to it what each mapping has or was promised.
 * @rule R-HUGE-40
 */
export function restoreHugetlbPool(to: Restoration, snapshot: Snapshot, wanted: number): void {
  const seen = snapshot.system.hugetlbPools.find((p) => p.pageSize === PMD_SIZE)
  if (seen === undefined) return
  const pool = hugetlbPool(to.kernel, PMD_SIZE)
  pool.overcommit = Math.min(wanted, Math.max(0, seen.overcommit - seen.surplus))
  pool.resize(Math.min(wanted, Math.max(0, seen.free - seen.reserved)))
}

/**
 * The pages of a hugetlb mapping in a window of whole 2 MiB, and the promises made for those that are absent:
 * without VM_NORESERVE every page was promised at mmap time.
 * @rule R-HUGE-41
 */
export function restoreHugetlb(to: Restoration, snapshot: Snapshot, vma: Vma, window: Window): void {
  const { kernel } = to
  const pool = hugetlbPool(kernel, PMD_SIZE)
  const first = hugetlbIndex(vma, window.start)
  const pages = (window.end - window.start) / PMD_SIZE
  const promised = (vma.flags & VM_NORESERVE) === 0
  if (promised) {
    pool.resize(pool.total - pool.surplus + pages)
    if (hugetlbReserve(kernel, vma, vma.file!, first, first + pages) < 0) throw machineTooSmall()
  }
  let absent = 0
  for (let span = window.start; span < window.end; span += PMD_SIZE) {
    const run = presentRun(snapshot, span)
    if (run === null) absent++
    else mapSeenPage(to, snapshot, vma, span, run)
  }
  if (absent === 0 || spareHugePages(snapshot) >= absent || !to.inRange(window)) return
  if ((vma.flags & VM_MAYSHARE) !== 0) {
    to.assume(
      'huge pages of the file that are not mapped are taken for not allocated: the pool has too few spare ones to tell it does not matter',
    )
  } else if (promised) {
    to.assume(
      'the process is taken for the one that made its hugetlb mapping and owns the reservation; a forked child owns none',
    )
  }
}

function presentRun(snapshot: Snapshot, span: number): PageRun | null {
  for (const run of pageRunsIn(snapshot.pages, span, span + PMD_SIZE)) {
    if ((run.bits & PM_PRESENT) !== 0) return run
    throw new Unmodelled('a hugetlb entry that is neither present nor empty', 'R-FLT-161')
  }
  return null
}

function mapSeenPage(to: Restoration, snapshot: Snapshot, vma: Vma, span: number, run: PageRun): void {
  const { kernel, mm } = to
  const { mapping } = vma.file!
  const index = hugetlbIndex(vma, span)
  if ((vma.flags & VM_MAYSHARE) !== 0 || (run.bits & PM_FILE) !== 0) {
    let head = mapping.pages.get(index)
    if (head === 0) {
      head = takePage(to, vma, hugetlbFile(kernel, mapping).reserved.has(index))
      pageCacheInsert(kernel, mapping, index, head)
      hugetlbFile(kernel, mapping).reserved.add(index)
    } else kernel.memory.get(head)
    mapHugetlb(kernel, mm, pmdIndex(span), head, hugetlbBits(vma))
    return
  }
  const map = vma.hugetlb?.map ?? null
  const fromReserve = map !== null && map.has(index)
  const head = takePage(to, vma, fromReserve)
  if (fromReserve) map.take(index)
  makeHugetlbAnon(kernel, mm, vma, head, index)
  let writable = (vma.flags & VM_WRITE) !== 0
  if (anonExclusive(run, true) === 'no') {
    if (spareHugePages(snapshot) === 0)
      throw new Unmodelled('a shared private huge page while the pool has none to spare', 'R-HUGE-48')
    kernel.memory.frames.clear(head, PG_ANON_EXCLUSIVE)
    to.others.shareHuge(head, true)
    writable = false
  }
  mapHugetlb(kernel, mm, pmdIndex(span), head, hugetlbBits(vma) | (writable ? PTE_WRITE | PTE_DIRTY : 0))
}

/** One page more in the pool, taken out of it at once. @returns its head */
function takePage(to: Restoration, vma: Vma, fromReserve: boolean): number {
  const file = hugetlbFile(to.kernel, vma.file!.mapping)
  if (!fromReserve) file.pool.resize(file.pool.total - file.pool.surplus + 1)
  const head = allocHugetlb(to.kernel, file, fromReserve)
  if (head === 0) throw machineTooSmall()
  return head
}
