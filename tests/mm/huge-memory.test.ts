import { describe, expect, it } from 'vitest'
import { PAGE_SIZE, PMD_SIZE } from '../../src/base/units.ts'
import { PG_ANON, PG_DIRTY, PG_SWAPBACKED, PG_UPTODATE } from '../../src/memory/page-flags.ts'
import { regularFileKind } from '../../src/mm/file.ts'
import { createFile, pageCacheInsert } from '../../src/mm/filemap.ts'
import { madvise } from '../../src/mm/madvise.ts'
import {
  MADV_DONTDUMP,
  MADV_DONTNEED,
  MADV_FREE,
  MADV_NOHUGEPAGE,
  MADV_PAGEOUT,
  MAP_SHARED,
  MREMAP_FIXED,
  MREMAP_MAYMOVE,
  PROT_NONE,
  PROT_READ,
} from '../../src/mm/mman.ts'
import { mprotect } from '../../src/mm/mprotect.ts'
import { mremap } from '../../src/mm/mremap.ts'
import { munmap } from '../../src/mm/munmap.ts'
import { HugePmd, PTE_ACCESSED, PTE_DIRTY, PTE_PRESENT, pmdIndex } from '../../src/mm/page-table.ts'
import {
  BASE,
  RELEASES,
  RW,
  counts,
  entryAt,
  exit,
  fork,
  get,
  isExclusive,
  map,
  mapThp,
  pfnAt,
  pin,
  smallKernel,
  touch,
} from '../support/huge.ts'
import { testTask, type TestTask } from '../support/kernel.ts'

const page = (n: number): number => BASE + n * PAGE_SIZE

/** A task that has written one byte of a THP range. */
function withThp(release: (typeof RELEASES)[number]): TestTask {
  const task = testTask(smallKernel(release))
  mapThp(task)
  expect(touch(task, BASE, true)).toBe('ok')
  return task
}

/** The same, with no page of it that holds nothing but zeros. */
function withFullThp(release: (typeof RELEASES)[number]): TestTask {
  const task = withThp(release)
  const head = pfnAt(task, BASE)
  for (let pfn = head; pfn < head + 512; pfn++) task.kernel.memory.contents.write(pfn, 9, Uint8Array.of(1))
  return task
}

describe.each(RELEASES)('transparent huge pages, %s', (release) => {
  const is618 = release === '6.18'

  it('HUGE vector H1, R-HUGE-1: a write gets 512 consecutive pages, one reference, one mapping', () => {
    const app = withThp(release)
    const { pfn, huge, write } = entryAt(app, BASE)!
    expect([huge, write, pfn % 512]).toEqual([true, true, 0])
    expect(counts(app.kernel, pfn)).toEqual({ ref: 1, entire: 1, total: 1, pin: 0 })
    expect(pfnAt(app, page(511))).toBe(pfn + 511)
    expect(isExclusive(app.kernel, pfn)).toBe(true)
    expect(app.space.rssAnon).toBe(512)
  })

  it('HUGE vector H2: without advice, or with MADV_NOHUGEPAGE under always, a write gets one small page', () => {
    const app = testTask(smallKernel(release))
    map(app, BASE, PMD_SIZE)
    touch(app, BASE, true)
    expect(entryAt(app, BASE)).toMatchObject({ huge: false })
    expect(app.space.rssAnon).toBe(1)

    const always = testTask(smallKernel(release, { settings: { thpEnabled: 'always' } }))
    map(always, BASE, 2 * PMD_SIZE)
    touch(always, BASE, true)
    always.run(madvise(always.kernel, always.space, BASE + PMD_SIZE, PMD_SIZE, MADV_NOHUGEPAGE))
    touch(always, BASE + PMD_SIZE, true)
    expect([entryAt(always, BASE)!.huge, entryAt(always, BASE + PMD_SIZE)!.huge]).toEqual([true, false])
  })

  it('R-HUGE-10 PR_SET_THP_DISABLE: a write gets one small page', () => {
    const app = testTask(smallKernel(release))
    mapThp(app)
    app.space.thpDisabled = true
    touch(app, BASE, true)
    expect(app.space.rssAnon).toBe(1)
  })

  it('R-HUGE-10 a page table with a page in it keeps the range small', () => {
    const app = testTask(smallKernel(release))
    mapThp(app, BASE, 3 * PAGE_SIZE)
    touch(app, BASE, true)
    mapThp(app, page(3), PMD_SIZE - 3 * PAGE_SIZE)
    touch(app, page(9), true)
    expect(app.space.rssAnon).toBe(2)
  })

  it('R-HUGE-12 no 2 MiB block is free: one small page', () => {
    const app = testTask(smallKernel(release, { zones: { normal: 511 } }))
    mapThp(app)
    expect(touch(app, BASE, true)).toBe('ok')
    expect([entryAt(app, BASE)!.huge, app.space.rssAnon]).toEqual([false, 1])
  })

  it('HUGE vector H3, R-HUGE-11: a read maps the huge zero folio without accounting', () => {
    const app = testTask(smallKernel(release))
    mapThp(app)
    touch(app, BASE, false)
    const { pfn, huge, write } = entryAt(app, page(511))!
    expect([huge, write, app.kernel.isHugeZero(pfn)]).toEqual([true, false, true])
    expect([app.space.rss, counts(app.kernel, pfn).total]).toEqual([0, 0])
  })

  it('HUGE vector H4, R-HUGE-14: write to the huge zero folio: one small page, a whole THP on 6.18', () => {
    const app = testTask(smallKernel(release))
    mapThp(app)
    touch(app, BASE, false)
    touch(app, page(3), true)
    const [p3, p4] = [entryAt(app, page(3))!, entryAt(app, page(4))!]
    expect([p3.huge, p4.huge]).toEqual([is618, is618])
    expect(p3.write).toBe(true)
    expect(p4.pfn).toBe(is618 ? p3.pfn + 1 : app.kernel.zeroPfn)
    expect(app.space.rssAnon).toBe(is618 ? 512 : 1)
  })

  it('HUGE vector H5, R-HUGE-14: a write pin of a page of the huge zero folio does as a write', () => {
    const app = testTask(smallKernel(release))
    mapThp(app)
    touch(app, BASE, false)
    const held = pin(app, page(3))
    expect(held.result).toBe(1)
    expect(held.pages.pfns[0]).toBe(pfnAt(app, page(3)))
    expect(pfnAt(app, page(4))).toBe(is618 ? pfnAt(app, page(3)) + 1 : app.kernel.zeroPfn)
  })

  it('HUGE vector H6, R-HUGE-13: an area of 2 MiB that starts one page off: one small page', () => {
    const app = testTask(smallKernel(release))
    mapThp(app, page(1))
    touch(app, page(2), true)
    expect([entryAt(app, page(2))!.huge, app.space.rssAnon]).toEqual([false, 1])
  })

  it('HUGE vector H7: munmap of one page splits the PMD, not the folio', () => {
    const app = withThp(release)
    const pfn = pfnAt(app, BASE)
    app.run(munmap(app.kernel, app.space, page(100), PAGE_SIZE))
    expect(entryAt(app, BASE)).toEqual({ pfn, write: true, huge: false })
    expect(counts(app.kernel, pfn)).toEqual({ ref: 511, entire: 0, total: 511, pin: 0 })
    expect([entryAt(app, page(100)), app.space.rssAnon]).toEqual([null, 511])
    expect(isExclusive(app.kernel, pfn + 511)).toBe(true)
    expect(app.kernel.memory.frames.has(pfn, PG_DIRTY)).toBe(true)
  })

  it('HUGE vector H8, R-HUGE-1: a pin of one page is one reference and one pin', () => {
    const app = withThp(release)
    pin(app, page(5))
    expect(counts(app.kernel, pfnAt(app, BASE))).toEqual({ ref: 2, entire: 1, total: 1, pin: 1 })
  })

  it('HUGE vector H9: a pin of all 2 MiB through GUP is 512 pins', () => {
    const app = withThp(release)
    expect(pin(app, BASE, 512).result).toBe(512)
    expect(counts(app.kernel, pfnAt(app, BASE))).toEqual({ ref: 513, entire: 1, total: 1, pin: 512 })
  })

  it('HUGE vector H10, R-HUGE-36: fork with one page pinned copies all 512 for the child', () => {
    const app = withThp(release)
    const pfn = pfnAt(app, BASE)
    pin(app, page(5))
    const child = fork(app)
    expect(entryAt(app, page(5))).toEqual({ pfn: pfn + 5, write: true, huge: false })
    expect(counts(app.kernel, pfn)).toEqual({ ref: 513, entire: 0, total: 512, pin: 1 })
    const own = Array.from({ length: 512 }, (_, i) => pfnAt(child, page(i)))
    expect(own.filter((p) => p === 0 || (p >= pfn && p < pfn + 512))).toEqual([])
    expect(own.every((p) => isExclusive(app.kernel, p))).toBe(true)
  })

  it('HUGE vector H11, R-HUGE-36: after that fork the parent writes its old pages', () => {
    const app = withThp(release)
    pin(app, page(5))
    const pfn = pfnAt(app, page(9))
    fork(app)
    expect(entryAt(app, page(9))).toEqual({ pfn, write: true, huge: false })
    touch(app, page(9), true)
    expect(pfnAt(app, page(9))).toBe(pfn)
  })

  it('HUGE vector H12: fork shares the PMD', () => {
    const app = withThp(release)
    const pfn = pfnAt(app, BASE)
    const child = fork(app)
    expect(counts(app.kernel, pfn)).toEqual({ ref: 2, entire: 2, total: 2, pin: 0 })
    expect(isExclusive(app.kernel, pfn)).toBe(false)
    expect([entryAt(app, BASE), entryAt(child, BASE)]).toEqual(
      Array.from({ length: 2 }, () => ({ pfn, write: false, huge: true })),
    )
    expect(child.space.rssAnon).toBe(512)
  })

  it('HUGE vector H13, R-HUGE-21: a write after fork splits the PMD of the writer only', () => {
    const app = withThp(release)
    const pfn = pfnAt(app, BASE)
    const child = fork(app)
    touch(app, page(7), true)
    expect(pfnAt(app, page(7))).not.toBe(pfn + 7)
    expect(pfnAt(app, page(8))).toBe(pfn + 8)
    expect(entryAt(child, page(7))).toEqual({ pfn: pfn + 7, write: false, huge: true })
    expect(counts(app.kernel, pfn)).toEqual({ ref: 512, entire: 1, total: 512, pin: 0 })
  })

  it('HUGE vector H14: the child gone, the parent writes a page it shared: reused on 6.18 only', () => {
    const app = withThp(release)
    const pfn = pfnAt(app, BASE)
    const child = fork(app)
    touch(app, page(7), true)
    exit(child)
    touch(app, page(8), true)
    expect(pfnAt(app, page(8)) === pfn + 8).toBe(is618)
  })

  it('R-HUGE-20 6.18 copies while another mm maps the folio, wherever mremap put it', () => {
    const app = withThp(release)
    const pfn = pfnAt(app, BASE)
    const child = fork(app)
    touch(app, page(7), true)
    const far = BASE + 64 * PMD_SIZE
    child.run(mremap(app.kernel, child.space, BASE, PMD_SIZE, PMD_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, far))
    touch(app, page(8), true)
    expect(pfnAt(app, page(8))).not.toBe(pfn + 8)
  })

  it('R-HUGE-20 6.18 keeps count of a folio for two address spaces: the third copies even when it is alone', () => {
    const app = withThp(release)
    const early = fork(app)
    touch(app, page(5), true)
    const late = fork(app)
    const pfn = pfnAt(late, page(7))
    app.run(munmap(app.kernel, app.space, BASE, PMD_SIZE))
    exit(early)
    // before 6.18 it copies because other pages of the folio are mapped
    expect(touch(late, page(7), true)).toBe('ok')
    expect(pfnAt(late, page(7))).not.toBe(pfn)
  })

  it.each([
    ['that has the place of one that has gone', 'next', is618],
    ['that came third', 'late', false],
  ])('R-HUGE-20 the child %s', (_which, who, inPlace) => {
    const app = withThp(release)
    const early = fork(app)
    touch(app, page(5), true)
    const late = fork(app)
    exit(early)
    const next = fork(app)
    app.run(munmap(app.kernel, app.space, BASE, PMD_SIZE))
    exit(who === 'next' ? late : next)
    const task = who === 'next' ? next : late
    const pfn = pfnAt(task, page(7))
    touch(task, page(7), true)
    expect(pfnAt(task, page(7)) === pfn).toBe(inPlace)
  })

  it('HUGE vector H15, R-HUGE-21: the child gone, the parent reuses the whole PMD', () => {
    const app = withThp(release)
    const pfn = pfnAt(app, BASE)
    exit(fork(app))
    touch(app, page(7), true)
    expect(entryAt(app, page(7))).toEqual({ pfn: pfn + 7, write: true, huge: true })
    expect(isExclusive(app.kernel, pfn)).toBe(true)
  })

  it('HUGE vector H16, R-HUGE-21: a plain reference prevents that reuse', () => {
    const app = withThp(release)
    const pfn = pfnAt(app, BASE)
    const child = fork(app)
    get(app, page(7))
    exit(child)
    touch(app, page(7), true)
    expect(pfnAt(app, page(7))).not.toBe(pfn + 7)
    expect(entryAt(app, page(8))).toMatchObject({ pfn: pfn + 8, huge: false })
  })

  it('HUGE vector H17: the last mapped page of a folio is reused until 6.6', () => {
    const app = withThp(release)
    const pfn = pfnAt(app, BASE)
    app.run(munmap(app.kernel, app.space, page(1), PMD_SIZE - PAGE_SIZE))
    exit(fork(app))
    touch(app, BASE, true)
    expect(pfnAt(app, BASE) === pfn).toBe(['6.1', 'gup-v3', '6.6'].includes(release))
  })

  it('HUGE vector H18, R-HUGE-29: MADV_DONTNEED of the pinned page leaves the rest', () => {
    const app = withThp(release)
    const pfn = pfnAt(app, BASE)
    pin(app, page(5))
    app.run(madvise(app.kernel, app.space, page(5), PAGE_SIZE, MADV_DONTNEED))
    expect(entryAt(app, page(5))).toBeNull()
    expect(counts(app.kernel, pfn)).toEqual({ ref: 512, entire: 0, total: 511, pin: 1 })
    touch(app, page(5), true)
    expect(entryAt(app, page(5))).toMatchObject({ huge: false, write: true })
    expect(pfnAt(app, page(5))).not.toBe(pfn + 5)
  })

  it('HUGE vector H19: MADV_DONTNEED of all of it orphans the pinned folio', () => {
    const app = withThp(release)
    const pfn = pfnAt(app, BASE)
    const held = pin(app, page(5))
    app.run(madvise(app.kernel, app.space, BASE, PMD_SIZE, MADV_DONTNEED))
    expect(counts(app.kernel, pfn)).toEqual({ ref: 1, entire: 0, total: 0, pin: 1 })
    touch(app, BASE, true)
    expect(entryAt(app, BASE)!.huge).toBe(true)
    expect(pfnAt(app, BASE)).not.toBe(pfn)
    held.release()
    expect(app.kernel.memory.frames.has(pfn, PG_ANON)).toBe(false)
  })

  it('HUGE vector H20, R-HUGE-27: MADV_FREE of a part splits the folio; pinned: it stays one', () => {
    const app = withFullThp(release)
    const { kernel: k, space: mm } = app
    const { frames } = k.memory
    const pfn = pfnAt(app, BASE)
    const held = pin(app, page(9))
    const before = entryAt(app, BASE)
    expect(app.run(madvise(k, mm, page(5), PAGE_SIZE, MADV_FREE))).toBe(0)
    expect(entryAt(app, BASE)).toEqual(before)
    held.release()
    expect(app.run(madvise(k, mm, page(5), PAGE_SIZE, MADV_FREE))).toBe(0)
    expect([entryAt(app, page(5)), frames.isLarge(pfn)]).toEqual([
      { pfn: pfn + 5, write: true, huge: false },
      false,
    ])
    expect([frames.has(pfn + 5, PG_SWAPBACKED), frames.has(pfn + 6, PG_SWAPBACKED)]).toEqual([false, true])
  })

  it('R-HUGE-26 a folio that a child maps too is not split; of one that is, unmapped pages are freed', () => {
    const app = withFullThp(release)
    const { kernel: k, space: mm } = app
    const pfn = pfnAt(app, BASE)
    app.run(munmap(k, mm, page(100), PAGE_SIZE))
    const child = fork(app)
    expect(app.run(madvise(k, mm, page(5), PAGE_SIZE, MADV_FREE))).toBe(0)
    expect(k.memory.frames.isLarge(pfn)).toBe(true)
    exit(child)
    const free = k.memory.buddy.free[0]
    expect(app.run(madvise(k, mm, page(5), PAGE_SIZE, MADV_FREE))).toBe(0)
    expect([k.memory.frames.isLarge(pfn), k.memory.buddy.free[0]]).toEqual([false, free! + 1])
  })

  it('R-HUGE-28 what is unmapped of a THP stays allocated until the last page of it goes', () => {
    const app = withFullThp(release)
    const { kernel: k, space: mm } = app
    const { buddy } = k.memory
    const available = (): number => buddy.free.reduce((sum, pages) => sum + pages, 0)
    const free = available()
    const head = pfnAt(app, BASE)
    app.run(munmap(k, mm, page(256), 256 * PAGE_SIZE))
    app.run(madvise(k, mm, page(1), 255 * PAGE_SIZE, MADV_DONTNEED))
    expect([available(), mm.rssAnon]).toEqual([free, 1])
    // a write makes a new page, beside the old one
    expect(touch(app, page(5), true)).toBe('ok')
    expect([pfnAt(app, page(5)) === head + 5, available()]).toEqual([false, free - 1])
    app.run(munmap(k, mm, BASE, PAGE_SIZE))
    expect(available()).toBe(free - 1 + 512)
  })

  it('R-HUGE-37 a huge page is swapped out as a whole and comes back in small pages', () => {
    const app = withFullThp(release)
    const { kernel: k, space: mm } = app
    k.swap.swapon(600)
    expect(app.run(madvise(k, mm, BASE, PMD_SIZE, MADV_PAGEOUT))).toBe(0)
    expect([mm.swapents, mm.rssAnon, k.swap.used]).toEqual([512, 0, 512])
    expect([touch(app, page(7), true), mm.swapents]).toEqual(['ok', 511])
  })

  it('HUGE vector H23: mremap to an aligned address moves the PMD, to another one its ptes', () => {
    const app = withThp(release)
    const pfn = pfnAt(app, BASE)
    const move = (from: number, to: number): void => {
      expect(
        app.run(mremap(app.kernel, app.space, from, PMD_SIZE, PMD_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, to)),
      ).toBe(to)
    }
    const [aligned, odd] = [BASE + 8 * PMD_SIZE, BASE + 16 * PMD_SIZE + PAGE_SIZE]
    move(BASE, aligned)
    expect(entryAt(app, aligned)).toEqual({ pfn, write: true, huge: true })
    move(aligned, odd)
    expect(entryAt(app, odd)).toEqual({ pfn, write: true, huge: false })
    expect(pfnAt(app, odd + 511 * PAGE_SIZE)).toBe(pfn + 511)
  })

  it('R-FLT-54 mprotect keeps PMD, page and X; write comes back without a fault', () => {
    const app = withThp(release)
    const pfn = pfnAt(app, BASE)
    const protect = (prot: number): void => {
      expect(app.run(mprotect(app.kernel, app.space, BASE, PMD_SIZE, prot))).toBe(0)
    }
    protect(PROT_READ)
    expect(entryAt(app, BASE)).toEqual({ pfn, write: false, huge: true })
    protect(PROT_NONE)
    expect(touch(app, BASE, false)).toBe('SIGSEGV(2)')
    protect(RW)
    expect(entryAt(app, BASE)).toEqual({ pfn, write: true, huge: true })

    // shared with a child: the next write has to fault
    exit(fork(app))
    protect(PROT_READ)
    protect(RW)
    expect(entryAt(app, BASE)!.write).toBe(false)
  })

  it('R-HUGE-25 mprotect of a part splits the PMD', () => {
    const app = withThp(release)
    const pfn = pfnAt(app, BASE)
    app.run(mprotect(app.kernel, app.space, page(4), PAGE_SIZE, PROT_READ))
    expect(entryAt(app, page(4))).toEqual({ pfn: pfn + 4, write: false, huge: false })
    expect(entryAt(app, page(5))).toEqual({ pfn: pfn + 5, write: true, huge: false })
    expect(counts(app.kernel, pfn)).toEqual({ ref: 512, entire: 0, total: 512, pin: 0 })
  })

  it('R-HUGE-25 a border between two VMAs inside a huge page splits the PMD, also when only flags differ', () => {
    const app = withThp(release)
    const pfn = pfnAt(app, BASE)
    app.run(madvise(app.kernel, app.space, page(4), PAGE_SIZE, MADV_DONTDUMP))
    expect(entryAt(app, page(4))).toEqual({ pfn: pfn + 4, write: true, huge: false })
    expect(counts(app.kernel, pfn)).toEqual({ ref: 512, entire: 0, total: 512, pin: 0 })
  })

  it('R-HUGE-25 a border that moves into a huge page splits it', () => {
    const app = testTask(smallKernel(release))
    mapThp(app, BASE, 2 * PMD_SIZE)
    app.run(madvise(app.kernel, app.space, BASE, PMD_SIZE, MADV_DONTDUMP))
    touch(app, page(512), true)
    expect(entryAt(app, page(512))?.huge).toBe(true)
    app.run(madvise(app.kernel, app.space, page(512), 3 * PAGE_SIZE, MADV_DONTDUMP))
    expect(entryAt(app, page(512))?.huge).toBe(false)
  })

  it('R-FLT-76 a moved range has page tables at its new place, so that nothing there becomes a THP', () => {
    const app = testTask(smallKernel(release))
    mapThp(app, BASE, 4 * PAGE_SIZE)
    touch(app, page(0), true)
    const flags = MREMAP_MAYMOVE | MREMAP_FIXED
    app.run(mremap(app.kernel, app.space, page(1), PAGE_SIZE, PMD_SIZE, flags, page(1024)))
    touch(app, page(1030), true)
    expect(entryAt(app, page(1030))?.huge).toBe(false)
  })

  it('R-HUGE-4, R-HUGE-2 PMD split in both after fork: 1024 mappings, 1024 references', () => {
    const app = withThp(release)
    const pfn = pfnAt(app, BASE)
    app.run(mprotect(app.kernel, app.space, page(4), PAGE_SIZE, PROT_READ))
    fork(app)
    expect(counts(app.kernel, pfn)).toEqual({ ref: 1024, entire: 0, total: 1024, pin: 0 })
  })

  it('R-HUGE-35 fork copies a huge zero PMD without accounting', () => {
    const app = testTask(smallKernel(release))
    mapThp(app)
    touch(app, BASE, false)
    const child = fork(app)
    const seen = entryAt(child, BASE)
    expect(seen === null || app.kernel.isHugeZero(seen.pfn)).toBe(true)
    expect(child.space.rss).toBe(0)
  })

  it('R-HUGE-31 a page-cache folio mapped by a PMD: counts, fork skips it, partial unmap drops the PMD', () => {
    const app = testTask(smallKernel(release))
    const { kernel: k, space: mm } = app
    const file = createFile(k, regularFileKind('ext4'), { path: '/data', size: PMD_SIZE })
    const head = k.memory.allocFolio(9, { movable: true })
    pageCacheInsert(k, file.mapping, 0, head)
    k.memory.frames.set(head, PG_UPTODATE)
    map(app, BASE, PMD_SIZE, { file, flags: MAP_SHARED })
    // the allocation's reference becomes the mapping's
    mm.pageTable.setPmd(pmdIndex(BASE), new HugePmd(head, PTE_PRESENT | PTE_ACCESSED | PTE_DIRTY))
    k.memory.frames.addEntireMapcount(head, 1)
    mm.rssFile += 512
    expect(counts(k, head)).toEqual({ ref: 514, entire: 1, total: 1, pin: 0 })

    app.run(mprotect(k, mm, BASE, PMD_SIZE, PROT_READ))
    expect(entryAt(app, BASE)).toEqual({ pfn: head, write: false, huge: true })
    expect(entryAt(fork(app), BASE)).toBeNull()
    app.run(munmap(k, mm, page(3), PAGE_SIZE))
    expect([entryAt(app, BASE), mm.rssFile]).toEqual([null, 0])
    expect(k.memory.frames.has(head, PG_DIRTY)).toBe(true)
    expect(counts(k, head)).toEqual({ ref: 513, entire: 0, total: 0, pin: 0 })
    touch(app, BASE, false)
    expect(pfnAt(app, BASE)).toBe(head)
  })
})
