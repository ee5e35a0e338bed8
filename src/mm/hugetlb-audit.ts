import { PG_HUGETLB, PG_HUGETLB_RESERVED } from '../memory/page-flags.ts'
import type { HugetlbPool, HugetlbSubpool } from './hugetlb-pool.ts'
import { pagesPerHuge, type HugetlbFile } from './hugetlb-reserve.ts'
import type { Kernel } from './kernel.ts'

/**
 * Recomputes the counters of the huge page pools: every huge page is free or in use, and what is reserved
 * is what files and private mappings were promised and did not take, less the pages that bring a promise
 * back once they are freed (R-HUGE-52).
 * @param expect reports a difference
 */
export function auditHugetlb(
  k: Kernel,
  expect: (what: string, expected: number, actual: number) => void,
): void {
  if (k.hugetlbPools.size === 0) return
  const promises = promisesByFile(k)
  for (const pool of k.hugetlbPools.values()) auditPool(k, pool, promises, expect)
}

/** Promised and not taken, by file. */
function promisesByFile(k: Kernel): Map<HugetlbFile, number> {
  const promises = new Map<HugetlbFile, number>()
  for (const { hugetlb, pages } of k.mappings.values()) {
    if (hugetlb === null) continue
    let open = 0
    for (const index of hugetlb.reserved) if (pages.get(index) === 0) open++
    promises.set(hugetlb, open)
  }
  for (const mm of k.mms) {
    const guard = mm.mmapLock.tryRead()
    if (guard === null) continue
    for (let vma = guard.vmas.first; vma !== null; vma = vma.next) {
      const map = vma.hugetlb?.map ?? null
      const file = vma.file?.mapping.hugetlb ?? null
      if (map === null || file === null) continue
      const unit = pagesPerHuge(vma)
      const first = vma.pgoff / unit
      promises.set(file, (promises.get(file) ?? 0) + map.count(first, first + vma.pages / unit))
    }
    guard.release()
  }
  return promises
}

function auditPool(
  k: Kernel,
  pool: HugetlbPool,
  promises: Map<HugetlbFile, number>,
  expect: (what: string, expected: number, actual: number) => void,
): void {
  const { frames } = k.memory
  const name = `hugetlb pool ${pool.pageSize}`
  let total = 0
  let free = 0
  let due = 0
  const subpools = new Map<HugetlbSubpool, number>()
  for (let head = pool.nrPages; head < frames.count; head += pool.nrPages) {
    if (!frames.has(head, PG_HUGETLB) || frames.order(head) !== pool.order) continue
    total++
    if (frames.refcount[head] === 0) free++
    const isDue = frames.has(head, PG_HUGETLB_RESERVED)
    if (isDue) due++
    const subpool = pool.subpoolOf(head)
    if (subpool !== null && !isDue) subpools.set(subpool, (subpools.get(subpool) ?? 0) + 1)
  }
  let reserved = pool.orphaned - due
  for (const [file, open] of promises) {
    if (file.pool !== pool) continue
    reserved += open
    if (file.subpool !== null) subpools.set(file.subpool, (subpools.get(file.subpool) ?? 0) + open)
  }
  expect(`${name}: total`, total, pool.total)
  expect(`${name}: free`, free, pool.free)
  expect(`${name}: reserved`, reserved, pool.reserved)
  for (const [subpool, used] of subpools)
    expect(`${name}: used of the mount`, used + subpool.orphaned, subpool.used)
}
