import { describe, expect, it } from 'vitest'
import type { ReleaseName } from '../../src/base/release.ts'
import { PAGE_SIZE, PMD_SIZE } from '../../src/base/units.ts'
import { PG_SWAPBACKED } from '../../src/memory/page-flags.ts'
import { madvise } from '../../src/mm/madvise.ts'
import { MADV_COLD, MADV_DONTNEED, MADV_FREE, MADV_PAGEOUT, PROT_READ } from '../../src/mm/mman.ts'
import { mprotect } from '../../src/mm/mprotect.ts'
import { munmap } from '../../src/mm/munmap.ts'
import { BASE, RELEASES, RW, exit, fork, mapThp, pfnAt, smallKernel, touch } from '../support/huge.ts'
import { testTask, type TestTask } from '../support/kernel.ts'

const page = (n: number): number => BASE + n * PAGE_SIZE

/** A task with a huge page that holds no zeros. */
function withThp(release: ReleaseName): TestTask {
  const task = testTask(smallKernel(release))
  mapThp(task)
  touch(task, BASE, true)
  const head = pfnAt(task, BASE)
  for (let pfn = head; pfn < head + 512; pfn++) task.kernel.memory.contents.write(pfn, 9, Uint8Array.of(1))
  return task
}

function advise(task: TestTask, first: number, pages: number, advice: number): void {
  task.run(madvise(task.kernel, task.space, page(first), pages * PAGE_SIZE, advice))
}

function unmap(task: TestTask, first: number, end: number): void {
  task.run(munmap(task.kernel, task.space, page(first), (end - first) * PAGE_SIZE))
}

/** Who maps what of one huge page, parent and child. */
const sharings = {
  /** the parent by its PMD, the child its end */
  pmd(parent: TestTask): TestTask {
    const child = fork(parent)
    unmap(child, 0, 500)
    return child
  },
  /** each one half, so that no page is mapped twice */
  halves: (parent: TestTask) => apart(parent, 0),
  /** the same, and both the first page */
  first: (parent: TestTask) => apart(parent, 1),
}

/** By ptes: the first `common` pages both, 256 more the parent, the rest the child. */
function apart(parent: TestTask, common: number): TestTask {
  const child = fork(parent)
  touch(parent, page(5), true)
  unmap(child, common, common + 256)
  advise(parent, common + 256, 256 - common, MADV_DONTNEED)
  return child
}

describe.each(RELEASES)('R-HUGE-67 %s', (release) => {
  const old = release !== '6.12' && release !== '6.18'
  const guesses = release === '6.12'

  it.each([
    ['pmd', old, false],
    ['halves', old || guesses, old || guesses],
    ['first', old, false],
  ] as const)('advice on a page of a folio shared as "%s" splits it or not', (how, cold, free) => {
    for (const [advice, splits] of [
      [MADV_COLD, cold],
      [MADV_PAGEOUT, cold],
      [MADV_FREE, free],
    ] as const) {
      const app = withThp(release)
      const child = sharings[how](app)
      advise(app, 8, 1, advice)
      expect(app.kernel.memory.frames.isLarge(pfnAt(app, page(8)))).toBe(!splits)
      exit(child)
    }
  })

  it('a folio that is left alone ends the advice for its 2 MiB up to 6.6', () => {
    const app = withThp(release)
    const child = fork(app)
    for (const n of [5, 6]) touch(app, page(n), true)
    advise(app, 4, 3, MADV_FREE)
    const kept = [5, 6].map((n) => app.kernel.memory.frames.has(pfnAt(app, page(n)), PG_SWAPBACKED))
    expect(kept).toEqual([old, old])
    exit(child)
  })

  it('a folio that is mapped by ptes is split up to 6.6 also where all of it is advised', () => {
    for (const advice of [MADV_COLD, MADV_FREE]) {
      const app = withThp(release)
      for (const prot of [PROT_READ, RW]) app.run(mprotect(app.kernel, app.space, page(8), PAGE_SIZE, prot))
      app.run(madvise(app.kernel, app.space, BASE, PMD_SIZE, advice))
      expect(app.kernel.memory.frames.isLarge(pfnAt(app, BASE))).toBe(!old)
    }
  })

  it('R-HUGE-37 a huge page that is paged out without swap space is split, its zeros become the zero page', () => {
    const app = testTask(smallKernel(release))
    mapThp(app)
    touch(app, BASE, true)
    app.kernel.memory.contents.write(pfnAt(app, BASE), 9, Uint8Array.of(1))
    app.run(madvise(app.kernel, app.space, BASE, PMD_SIZE, MADV_PAGEOUT))
    const { zeroPfn } = app.kernel
    const zeros = release === '6.12' || release === '6.18'
    expect([pfnAt(app, BASE) === zeroPfn, pfnAt(app, page(1)) === zeroPfn]).toEqual([false, zeros])
  })
})
