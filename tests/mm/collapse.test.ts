import { describe, expect, it } from 'vitest'
import type { ReleaseName } from '../../src/base/release.ts'
import { PAGE_SIZE, PMD_SIZE } from '../../src/base/units.ts'
import { PG_ANON_EXCLUSIVE, PG_MLOCKED } from '../../src/memory/page-flags.ts'
import { SHMEM } from '../../src/mm/file.ts'
import { createFile } from '../../src/mm/filemap.ts'
import { ksmScan } from '../../src/mm/ksm.ts'
import { madvise } from '../../src/mm/madvise.ts'
import {
  MADV_COLLAPSE,
  MADV_DONTNEED,
  MADV_FREE,
  MADV_GUARD_INSTALL,
  MADV_MERGEABLE,
  MADV_NOHUGEPAGE,
  MADV_PAGEOUT,
  MADV_WILLNEED,
  MAP_SHARED,
} from '../../src/mm/mman.ts'
import { mlock } from '../../src/mm/mlock.ts'
import { mprotect } from '../../src/mm/mprotect.ts'
import { munmap } from '../../src/mm/munmap.ts'
import { Leaf, PTE_SPECIAL, PTE_SWAP, pmdIndex, pteSlot } from '../../src/mm/page-table.ts'
import { loadUser, storeUser } from '../../src/mm/user-access.ts'
import { createUserfaultfd, uffdClose, uffdRegister } from '../../src/mm/userfaultfd.ts'
import {
  BASE,
  RELEASES,
  RW,
  counts,
  entryAt,
  exit,
  fork,
  get,
  map,
  mapThp,
  pfnAt,
  pin,
  smallKernel,
} from '../support/huge.ts'
import { result, testTask, type TestTask } from '../support/kernel.ts'
import { walkFailures } from '../support/walk-failures.ts'

const P = PAGE_SIZE
/** UFFDIO_REGISTER_MODE_MISSING */
const MISSING = 1

function program(release: ReleaseName, pmds = 1): TestTask {
  const task = testTask(smallKernel(release))
  map(task, BASE, pmds * PMD_SIZE)
  return task
}

function advise(task: TestTask, page: number, pages: number, advice: number): number | string {
  return result(task.run(madvise(task.kernel, task.space, BASE + page * P, pages * P, advice)))
}

function collapse(task: TestTask, page = 0, pages = 512): number | string {
  return advise(task, page, pages, MADV_COLLAPSE)
}

function store(task: TestTask, page: number, byte = 1): void {
  const stored = task.run(storeUser(task.kernel, task.space, BASE + page * P, Uint8Array.of(byte)))
  expect(stored).toEqual({ ok: true })
}

function load(task: TestTask, page: number): number {
  const into = new Uint8Array(1)
  expect(task.run(loadUser(task.kernel, task.space, BASE + page * P, into))).toEqual({ ok: true })
  return into[0]!
}

function fill(task: TestTask, from = 0, to = 512): void {
  for (let page = from; page < to; page++) store(task, page, 1 + (page % 200))
}

const isHuge = (task: TestTask, page = 0): boolean => entryAt(task, BASE + page * P)?.huge === true

/** The word of a pte. */
function bitsAt(task: TestTask, page: number): number {
  const leaf = task.space.pageTable.pmd(pmdIndex(BASE + page * P))
  return leaf instanceof Leaf ? leaf.bits[pteSlot(BASE + page * P)]! : 0
}

describe.each(RELEASES)('MADV_COLLAPSE on %s', (release) => {
  const newer = release === '6.18'

  it('HUGE vector H21: 512 small pages, MADV_COLLAPSE / one pinned', () => {
    const task = program(release)
    fill(task)
    const before = pfnAt(task, BASE)
    const held = pin(task, BASE + 5 * P)
    expect(collapse(task)).toBe('-EAGAIN')
    expect(task.refusal?.rule).toBe('R-HUGE-30')
    expect(pfnAt(task, BASE)).toBe(before)
    held.release()
    expect(collapse(task)).toBe(0)
    expect(isHuge(task)).toBe(true)
    expect(pfnAt(task, BASE)).not.toBe(before)
    expect(counts(task.kernel, pfnAt(task, BASE))).toEqual({ ref: 1, entire: 1, total: 1, pin: 0 })
    expect([0, 7, 511].map((page) => load(task, page))).toEqual([1, 8, 112])
    expect(task.space.rssAnon).toBe(512)
    expect(collapse(task)).toBe(0)
  })

  it('HUGE vector H22: 512 small pages, fork, MADV_COLLAPSE in parent', () => {
    const task = program(release)
    fill(task)
    const child = fork(task)
    expect(collapse(task)).toBe(newer ? 0 : '-EINVAL')
    expect(isHuge(task)).toBe(newer)
    expect(isHuge(child)).toBe(false)
    expect(task.kernel.memory.frames.has(pfnAt(task, BASE), PG_ANON_EXCLUSIVE)).toBe(newer)
    store(task, 3, 77)
    expect([load(task, 3), load(child, 3), load(task, 4)]).toEqual([77, 4, 5])
    exit(child)
  })

  it('R-HUGE-30 a plain reference is in the way as well; one present page is enough', () => {
    const task = program(release)
    store(task, 9, 9)
    const held = get(task, BASE + 9 * P)
    expect(collapse(task)).toBe('-EAGAIN')
    held.release()
    expect(collapse(task)).toBe(0)
    expect([load(task, 9), load(task, 10), task.space.rssAnon]).toEqual([9, 0, 512])
  })

  it('R-HUGE-60 what no page is looked at for', () => {
    const task = program(release, 2)
    expect(collapse(task)).toBe('-EINVAL')
    store(task, 0)
    store(task, 512)
    expect(advise(task, 512, 512, MADV_NOHUGEPAGE)).toBe(0)
    expect(collapse(task, 0, 1024)).toBe('-EINVAL')
    expect([isHuge(task), isHuge(task, 512)]).toEqual([true, false])
    expect(task.refusal?.rule).toBe('R-HUGE-60')
    expect(collapse(task, 0, 1)).toBe(0)
    expect(result(task.run(munmap(task.kernel, task.space, BASE + 511 * P, P)))).toBe(0)
    expect(collapse(task, 0, 1)).toBe('-EINVAL')
    task.space.thpDisabled = true
    expect(collapse(task, 0, 1)).toBe('-EINVAL')
  })

  it('R-HUGE-61 the range is cut to whole 2 MiB', () => {
    const task = program(release, 2)
    store(task, 0)
    store(task, 512)
    expect(collapse(task, 1, 510)).toBe('-EINVAL')
    expect(collapse(task, 1, 511)).toBe(0)
    expect(collapse(task, 1, 512)).toBe(0)
    expect([isHuge(task), isHuge(task, 512)]).toEqual([false, false])
    expect(collapse(task, 1, 1023)).toBe(0)
    expect([isHuge(task), isHuge(task, 512)]).toEqual([false, true])
  })

  it('R-HUGE-61 some failures end the walk, others do not', () => {
    const task = program(release, 3)
    store(task, 0)
    store(task, 512)
    const held = pin(task, BASE)
    expect(collapse(task, 0, 1536)).toBe('-EINVAL')
    expect([isHuge(task), isHuge(task, 512)]).toEqual([false, true])
    held.release()
    expect(collapse(task, 1024, 512)).toBe('-EINVAL')
    expect(collapse(task, 0, 1024)).toBe(0)
  })

  it('R-HUGE-61 a hole that a userfaultfd watches ends the walk', () => {
    const task = program(release, 2)
    store(task, 0)
    for (let page = 512; page < 1024; page++) store(task, page)
    const uffd = createUserfaultfd(task.kernel, { mm: task.space })
    expect(task.run(uffdRegister(task.kernel, uffd, task.space, BASE, 2 * PMD_SIZE, MISSING))).toBe(0)
    const busy = release === '6.12' || release === '6.18'
    expect(collapse(task, 0, 1024)).toBe(busy ? '-EBUSY' : '-EINVAL')
    expect(entryAt(task, BASE + PMD_SIZE)?.huge).toBe(false)
    expect(collapse(task, 512)).toBe(0)
    exit(task)
    task.run(uffdClose(task.kernel, uffd))
  })

  it('R-HUGE-61 an emptied page table becomes zeros', () => {
    const task = program(release)
    store(task, 5)
    expect(advise(task, 5, 1, MADV_DONTNEED)).toBe(0)
    expect(collapse(task)).toBe(newer ? 0 : '-EINVAL')
    expect(load(task, 5)).toBe(0)
  })

  it('R-HUGE-61 what is swapped out comes back first, and stays', () => {
    const task = program(release)
    task.kernel.swap.swapon(1024)
    fill(task)
    expect(advise(task, 0, 16, MADV_PAGEOUT)).toBe(0)
    expect(bitsAt(task, 3) & PTE_SWAP).toBe(PTE_SWAP)
    const held = pin(task, BASE + 40 * P)
    expect(collapse(task)).toBe('-EAGAIN')
    expect(bitsAt(task, 3) & PTE_SWAP).toBe(PTE_SWAP)
    held.release()
    expect(collapse(task)).toBe(0)
    expect([load(task, 3), task.space.swapents, task.kernel.swap.used]).toEqual([4, 0, 0])
  })

  it('R-HUGE-61 a page in the swap cache', () => {
    const task = program(release)
    task.kernel.swap.swapon(1024)
    fill(task)
    expect(advise(task, 0, 16, MADV_PAGEOUT)).toBe(0)
    expect(advise(task, 0, 16, MADV_WILLNEED)).toBe(0)
    const child = fork(task)
    store(task, 40, 44)
    expect([load(task, 3), collapse(task), load(task, 3), load(child, 3)]).toEqual([4, 0, 4, 4])
    exit(child)
  })

  it('R-HUGE-61 a merged page may be there once', () => {
    const task = program(release, 2)
    for (const page of [0, 1, 600]) store(task, page, 5)
    store(task, 2, 6)
    expect(advise(task, 0, 1024, MADV_MERGEABLE)).toBe(0)
    task.run(ksmScan(task.kernel, 4))
    expect(pfnAt(task, BASE)).toBe(pfnAt(task, BASE + P))
    expect(collapse(task)).toBe('-EAGAIN')
    store(task, 1, 7)
    expect(collapse(task)).toBe(0)
    expect([load(task, 0), load(task, 1), load(task, 600)]).toEqual([5, 7, 5])
  })

  it('R-HUGE-61 a split huge page is copied into another one', () => {
    const task = testTask(smallKernel(release))
    mapThp(task)
    store(task, 3, 3)
    const before = pfnAt(task, BASE)
    for (const prot of [1, RW])
      expect(result(task.run(mprotect(task.kernel, task.space, BASE, P, prot)))).toBe(0)
    expect(isHuge(task)).toBe(false)
    const held = pin(task, BASE + 8 * P)
    expect(collapse(task)).toBe('-EAGAIN')
    held.release()
    expect(collapse(task)).toBe(0)
    expect(pfnAt(task, BASE)).not.toBe(before)
    expect(load(task, 3)).toBe(3)
  })

  it('R-HUGE-61 a locked mapping gets a locked page', () => {
    const task = program(release)
    expect(result(task.run(mlock(task.kernel, task.space, BASE, PMD_SIZE)))).toBe(0)
    expect(collapse(task)).toBe(0)
    expect(task.kernel.memory.frames.has(pfnAt(task, BASE), PG_MLOCKED)).toBe(true)
  })

  it('R-HUGE-61 no memory for a huge page', () => {
    const task = program(release)
    store(task, 0)
    task.kernel.failNth({ what: 'allocation', n: 1 })
    expect(collapse(task)).toBe('-ENOMEM')
    expect(collapse(task)).toBe(0)
  })

  it('R-HUGE-62 a huge page that is split', () => {
    const task = testTask(smallKernel(release))
    mapThp(task)
    store(task, 0)
    expect(result(task.run(mlock(task.kernel, task.space, BASE + 50 * P, P)))).toBe(0)
    expect(advise(task, 5, 1, MADV_FREE)).toBe(0)
    const zeroes = newer || release === '6.12'
    expect(task.space.rssAnon).toBe(zeroes ? 2 : 512)
    expect(bitsAt(task, 6) & PTE_SPECIAL).toBe(zeroes ? PTE_SPECIAL : 0)
    const { frames } = task.kernel.memory
    expect([0, 50].map((page) => frames.has(pfnAt(task, BASE + page * P), PG_MLOCKED))).toEqual([false, true])
    expect([0, 5, 50].map((page) => load(task, page))).toEqual([1, 0, 0])
  })
})

describe('MADV_COLLAPSE on 6.18', () => {
  it('R-HUGE-61 a guard marker is met when what is before it has come back', () => {
    const task = program('6.18')
    task.kernel.swap.swapon(1024)
    fill(task)
    expect(advise(task, 0, 16, MADV_PAGEOUT)).toBe(0)
    expect(advise(task, 8, 1, MADV_GUARD_INSTALL)).toBe(0)
    expect(collapse(task)).toBe('-EINVAL')
    expect([7, 9].map((page) => bitsAt(task, page) & PTE_SWAP)).toEqual([0, PTE_SWAP])
    const held = pin(task, BASE + 40 * P)
    expect(collapse(task)).toBe('-EAGAIN')
    held.release()
  })

  it('R-HUGE-61 a memory file: what is refused before its pages are looked at', () => {
    const task = program('6.18')
    const file = createFile(task.kernel, SHMEM, { path: '/memfd:m (deleted)', size: PMD_SIZE })
    map(task, BASE, PMD_SIZE, { flags: MAP_SHARED, file })
    expect([collapse(task, 0, 1), collapse(task, 1, 1)]).toEqual([0, '-EINVAL'])
    expect(advise(task, 0, 512, MADV_NOHUGEPAGE)).toBe(0)
    expect(collapse(task)).toBe('-EINVAL')
  })

  it('R-HUGE-30 another task unmaps the range meanwhile', () => {
    const task = program('6.18')
    const { kernel: k } = task
    store(task, 0)
    k.exploring = true
    const other = testTask(k, { mm: task.space })
    const collapsing = k.scheduler.spawn(
      'collapse',
      task,
      madvise(k, task.space, BASE, PMD_SIZE, MADV_COLLAPSE),
    )
    k.scheduler.spawn('munmap', other, munmap(k, task.space, BASE + 20 * P, P))
    k.scheduler.run()
    k.exploring = false
    expect([0, -22]).toContain(collapsing.result)
    expect(isHuge(task)).toBe(false)
  })

  it('R-HUGE-30 every failure leaves the books balanced', () => {
    const failed = walkFailures('6.18', (k) => {
      const task = testTask(k)
      map(task, BASE, 2 * PMD_SIZE)
      k.swap.swapon(64)
      fill(task, 0, 20)
      fill(task, 512, 520)
      advise(task, 0, 8, MADV_PAGEOUT)
      return () => void collapse(task, 0, 1024)
    })
    expect(failed).toBeGreaterThan(2)
  })
})
