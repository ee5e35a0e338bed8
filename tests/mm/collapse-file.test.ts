import { describe, expect, it } from 'vitest'
import { PAGE_SIZE as P, PMD_SIZE } from '../../src/base/units.ts'
import { ORDER_MASK, ORDER_SHIFT, PG_DIRTY, PG_MLOCKED } from '../../src/memory/page-flags.ts'
import { SHMEM, type OpenFile } from '../../src/mm/file.ts'
import { createFile } from '../../src/mm/filemap.ts'
import type { Kernel } from '../../src/mm/kernel.ts'
import { madvise } from '../../src/mm/madvise.ts'
import {
  MADV_COLD,
  MADV_COLLAPSE,
  MADV_DONTNEED,
  MADV_DONTNEED_LOCKED,
  MADV_GUARD_INSTALL,
  MADV_GUARD_REMOVE,
  MADV_HUGEPAGE,
  MADV_NOHUGEPAGE,
  MADV_PAGEOUT,
  MADV_POPULATE_READ,
  MAP_FIXED,
  MAP_PRIVATE,
  MAP_SHARED,
  PROT_READ,
} from '../../src/mm/mman.ts'
import { mlock, mlock2, munlock } from '../../src/mm/mlock.ts'
import { mprotect } from '../../src/mm/mprotect.ts'
import { munmap } from '../../src/mm/munmap.ts'
import { HugePmd, Leaf, PTE_PRESENT, pmdIndex } from '../../src/mm/page-table.ts'
import { punchHole, truncateFile } from '../../src/mm/truncate.ts'
import { accessUser, loadUser, storeUser } from '../../src/mm/user-access.ts'
import {
  createUserfaultfd,
  uffdRegister,
  uffdWriteprotect,
  type Userfaultfd,
} from '../../src/mm/userfaultfd.ts'
import { BASE, counts, exit, fork, get, map, pfnAt, pin, smallKernel } from '../support/huge.ts'
import { result, testTask, type TestTask } from '../support/kernel.ts'
import { walkFailures } from '../support/walk-failures.ts'

const OTHER = BASE + 16 * PMD_SIZE
const THIRD = BASE + 32 * PMD_SIZE

/** A memory file of some pages, and processes that map it. */
class Rig {
  readonly k: Kernel
  readonly task: TestTask
  readonly file: OpenFile

  constructor(pages = 512, k = smallKernel('6.18')) {
    this.k = k
    this.task = testTask(k)
    this.file = createFile(k, SHMEM, { path: '/memfd:m (deleted)', size: pages * P })
    this.map(BASE)
  }

  map(at: number, options: { pages?: number; flags?: number; offset?: number; prot?: number } = {}): void {
    const { pages = 512, flags = MAP_SHARED, offset = 0, prot = 3 } = options
    map(this.task, at, pages * P, { flags: flags | MAP_FIXED, file: this.file, offset: offset * P, prot })
  }

  advise(advice: number, at = BASE, pages = 512, task = this.task): number | string {
    return result(task.run(madvise(this.k, task.space, at, pages * P, advice)))
  }

  collapse(at = BASE, pages = 512): number | string {
    return this.advise(MADV_COLLAPSE, at, pages)
  }

  store(at: number, page: number, byte = page % 200): void {
    const { task } = this
    expect(task.run(storeUser(this.k, task.space, at + page * P, Uint8Array.of(byte)))).toEqual({ ok: true })
  }

  load(at: number, page: number, task = this.task): number {
    const into = new Uint8Array(1)
    expect(task.run(loadUser(this.k, task.space, at + page * P, into))).toEqual({ ok: true })
    return into[0]!
  }

  /** 512 pages in the cache as one, mapped by a PMD. */
  huge(): this {
    for (const page of [1, 5, 100]) this.store(BASE, page)
    expect(this.collapse()).toBe(0)
    return this
  }

  /** Punches pages [first, first + pages). */
  punch(first: number, pages: number): void {
    expect(this.task.run(punchHole(this.k, this.file.mapping, first * P, pages * P))).toBe(0)
  }

  truncate(bytes: number): void {
    expect(this.task.run(truncateFile(this.k, this.file.mapping, bytes))).toBe(0)
  }

  /** What a table shows: `PMD`, or the pages that are present, in runs; `[8-15]` is one folio as a whole. */
  shows(at = BASE, task = this.task): string {
    const { frames } = this.k.memory
    const entry = task.space.pageTable.pmd(pmdIndex(at))
    if (entry instanceof HugePmd) return 'PMD'
    if (!(entry instanceof Leaf)) return ''
    const pages: string[] = []
    let run: [from: number, to: number, head: number] | null = null
    const flush = (): void => {
      if (run === null) return
      const [from, to, head] = run
      const whole = head >= 0 && to - from + 1 === frames.nrPages(head)
      const text = from === to ? `${from}` : `${from}-${to}`
      pages.push(whole ? `[${text}]` : text)
      run = null
    }
    for (let slot = 0; slot < 512; slot++) {
      const pfn = entry.pfn[slot]!
      if ((entry.bits[slot]! & PTE_PRESENT) === 0) flush()
      else {
        const head = frames.isLarge(pfn) ? frames.head(pfn) : -1
        const same: boolean = run !== null && (run as [number, number, number])[2] === head
        if (!same) flush()
        if (run === null) run = [slot, slot, head]
        else (run as [number, number, number])[1] = slot
      }
    }
    flush()
    return pages.join(' ')
  }

  /** Sizes of the folios in the cache, `2^n` as n, by the index they begin at. */
  folios(): string {
    const { frames } = this.k.memory
    const list: string[] = []
    this.file.mapping.pages.forEach((index, pfn) => {
      if (frames.head(pfn) === pfn) list.push(`${index}:${(frames.flags[pfn]! & ORDER_MASK) >>> ORDER_SHIFT}`)
    })
    return list.sort((a, b) => parseInt(a) - parseInt(b)).join(' ')
  }

  get head(): number {
    return this.file.mapping.pages.get(0)
  }

  end(): void {
    exit(this.task)
    this.file.put()
  }
}

describe('MADV_COLLAPSE of memory files', () => {
  it('R-HUGE-63 the cache becomes one folio, mapped by a PMD', () => {
    const rig = new Rig()
    for (const page of [0, 3, 100]) rig.store(BASE, page, page + 1)
    expect(rig.collapse()).toBe(0)
    expect(rig.shows()).toBe('PMD')
    expect(counts(rig.k, rig.head)).toEqual({ ref: 513, entire: 1, total: 1, pin: 0 })
    expect(rig.k.memory.frames.has(rig.head, PG_DIRTY)).toBe(true)
    expect([0, 1, 3, 100, 511].map((page) => rig.load(BASE, page))).toEqual([1, 0, 4, 101, 0])
    expect(rig.task.space.rssShmem).toBe(512)
    expect(rig.collapse()).toBe(0)
    rig.end()
  })

  it('R-HUGE-63 others lose their entries, private copies stay', () => {
    const rig = new Rig()
    rig.map(OTHER)
    rig.map(THIRD, { flags: MAP_PRIVATE })
    rig.store(BASE, 0)
    rig.store(BASE, 100)
    for (const at of [OTHER, THIRD]) rig.load(at, 0)
    rig.store(THIRD, 100, 77)
    expect(rig.collapse()).toBe(0)
    expect([rig.shows(OTHER), rig.shows(THIRD)]).toEqual(['', '100'])
    rig.load(OTHER, 9)
    rig.load(THIRD, 9)
    // the table of the private mapping has to stay
    expect([rig.shows(OTHER), rig.shows(THIRD)]).toEqual(['PMD', '0-99 100 101-511'])
    expect([rig.load(THIRD, 100), rig.load(OTHER, 100)]).toEqual([77, 100])
    expect(rig.collapse(THIRD)).toBe('-EINVAL')
    expect(rig.advise(MADV_DONTNEED, THIRD + 100 * P, 1)).toBe(0)
    expect(rig.collapse(THIRD)).toBe(0)
    expect(rig.shows(THIRD)).toBe('PMD')
    rig.end()
  })

  it('R-HUGE-63 a private copy of the caller is in the way, but the cache is collapsed', () => {
    const rig = new Rig()
    rig.map(OTHER, { flags: MAP_PRIVATE })
    rig.store(BASE, 9)
    rig.store(OTHER, 3)
    expect(rig.collapse(OTHER)).toBe('-EINVAL')
    expect([rig.folios(), rig.shows(), rig.shows(OTHER)]).toEqual(['0:9', '', '3'])
    rig.end()
  })

  it('R-HUGE-63 what is in the way', () => {
    const rig = new Rig(1024)
    rig.map(BASE, { pages: 1024 })
    expect(rig.collapse()).toBe('-EINVAL')
    expect(rig.task.refusal?.rule).toBe('R-HUGE-63')
    rig.store(BASE, 1)
    rig.store(BASE, 2)
    rig.store(BASE, 600)
    const held = get(rig.task, BASE + P)
    const shown = rig.shows()
    expect(rig.collapse(BASE, 1024)).toBe('-EAGAIN')
    // nothing is unmapped, and the next 2 MiB are tried
    expect([rig.shows(), rig.shows(BASE + PMD_SIZE)]).toEqual([shown, 'PMD'])
    held.release()
    expect(rig.collapse()).toBe(0)
    const later = pin(rig.task, BASE + P)
    expect(rig.collapse()).toBe(0)
    expect(rig.advise(MADV_DONTNEED)).toBe(0)
    expect(rig.collapse()).toBe(0)
    later.release()
    rig.end()
  })

  it('R-HUGE-63 an empty 2 MiB ends the call, a marker does not', () => {
    const rig = new Rig(1024)
    rig.map(BASE, { pages: 1024 })
    rig.store(BASE, 600)
    expect(rig.collapse(BASE, 1024)).toBe('-EINVAL')
    expect(rig.shows(BASE + PMD_SIZE)).toBe('88')
    rig.store(BASE, 1)
    expect(rig.advise(MADV_GUARD_INSTALL, BASE + 7 * P, 1)).toBe(0)
    expect(rig.collapse(BASE, 1024)).toBe('-EINVAL')
    expect([rig.shows(), rig.shows(BASE + PMD_SIZE), rig.folios()]).toEqual(['', 'PMD', '0:9 512:9'])
    expect(rig.advise(MADV_GUARD_REMOVE, BASE + 7 * P, 1)).toBe(0)
    expect(rig.collapse()).toBe(0)
    rig.end()
  })

  it('R-HUGE-63 pages that are swapped out, files that are shorter', () => {
    const rig = new Rig(20)
    rig.k.swap.swapon(64)
    rig.store(BASE, 3, 7)
    expect(rig.advise(MADV_PAGEOUT, BASE + 3 * P, 1)).toBe(0)
    expect(rig.file.mapping.swapped.size).toBe(1)
    expect(rig.collapse()).toBe(0)
    expect([rig.load(BASE, 3), rig.load(BASE, 400), rig.k.swap.used]).toEqual([7, 0, 0])
    rig.map(OTHER, { pages: 1024 })
    expect(rig.collapse(OTHER, 1024)).toBe('-EINVAL')
    expect(rig.shows(OTHER)).toBe('PMD')
    rig.end()
  })

  it('R-HUGE-63 read-only and private mappings, fork', () => {
    for (const [flags, prot] of [
      [MAP_SHARED, PROT_READ],
      [MAP_PRIVATE, 3],
      [MAP_PRIVATE, PROT_READ],
      [MAP_SHARED, 0],
    ] as const) {
      const rig = new Rig()
      rig.store(BASE, 4)
      rig.map(OTHER, { flags, prot })
      expect(rig.collapse(OTHER)).toBe(0)
      expect([rig.shows(), rig.shows(OTHER)]).toEqual(['', 'PMD'])
      const child = fork(rig.task)
      expect(rig.shows(OTHER, child)).toBe('')
      if (prot !== 0) expect(rig.load(OTHER, 4, child)).toBe(4)
      exit(child)
      rig.end()
    }
  })

  it('R-HUGE-63 what is not known is not guessed', () => {
    const rig = new Rig(512, smallKernel('6.12'))
    rig.store(BASE, 0)
    expect(() => rig.collapse()).toThrow(
      'Unmodelled: MADV_COLLAPSE of a memory file on this release (R-HUGE-63)',
    )
    rig.end()
  })

  it('R-HUGE-63 whatever fails, the books balance', () => {
    const failed = walkFailures('6.18', (k) => {
      const rig = new Rig(1024, k)
      rig.map(BASE, { pages: 1024 })
      k.swap.swapon(64)
      for (const page of [0, 1, 2, 600]) rig.store(BASE, page)
      rig.advise(MADV_PAGEOUT, BASE, 2)
      return () => {
        rig.collapse(BASE, 1024)
        rig.punch(40, 3)
        for (const page of [3, 50, 700]) rig.task.run(accessUser(k, rig.task.space, BASE + page * P, true))
      }
    })
    expect(failed).toBeGreaterThan(5)
  })

  it('R-HUGE-63 another task unmaps the range meanwhile', () => {
    const rig = new Rig()
    rig.store(BASE, 0)
    const { k, task } = rig
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
    expect(rig.shows()).not.toBe('PMD')
    other.mm = null
    rig.end()
  })
})

describe('faults on large folios of memory files', () => {
  it('R-HUGE-66 a PMD where address and VMA allow it', () => {
    const rig = new Rig().huge()
    rig.map(OTHER)
    rig.store(OTHER, 7, 5)
    rig.map(THIRD, { flags: MAP_PRIVATE })
    rig.load(THIRD, 3)
    expect([rig.shows(OTHER), rig.shows(THIRD)]).toEqual(['PMD', 'PMD'])
    expect([rig.load(THIRD, 7), rig.load(BASE, 7)]).toEqual([5, 5])
    // a write makes a private copy, and the rest comes back by its table
    rig.store(THIRD, 5, 9)
    expect(rig.shows(THIRD)).toBe('5')
    rig.load(THIRD, 200)
    expect(rig.shows(THIRD)).toBe('0-4 5 6-511')
    rig.end()
  })

  it('R-HUGE-66 all 512 entries where a table stands or no huge page is wanted', () => {
    const rig = new Rig().huge()
    rig.map(OTHER)
    expect(rig.advise(MADV_NOHUGEPAGE, OTHER)).toBe(0)
    rig.store(OTHER, 9)
    expect(rig.shows(OTHER)).toBe('[0-511]')
    expect(rig.advise(MADV_DONTNEED, OTHER + 40 * P, 100)).toBe(0)
    rig.store(OTHER, 50)
    expect(rig.shows(OTHER)).toBe('0-39 50 140-511')
    rig.load(OTHER, 60)
    expect(rig.shows(OTHER)).toBe('[0-511]')
    expect(rig.advise(MADV_HUGEPAGE, OTHER)).toBe(0)
    // the table goes with the last entry
    expect(rig.advise(MADV_DONTNEED, OTHER)).toBe(0)
    rig.load(OTHER, 60)
    expect(rig.shows(OTHER)).toBe('PMD')
    rig.end()
  })

  it('R-HUGE-66 small pieces where the VMA does not hold the folio', () => {
    const rig = new Rig().huge()
    rig.map(OTHER, { pages: 100 })
    rig.load(OTHER, 33)
    rig.store(OTHER, 70)
    expect(rig.shows(OTHER)).toBe('32-47 70')
    rig.map(THIRD, { offset: 1, pages: 511 })
    rig.load(THIRD, 33)
    rig.store(THIRD, 300)
    expect(rig.shows(THIRD)).toBe('32-47 300')
    rig.task.run(munmap(rig.k, rig.task.space, BASE, P))
    expect(rig.shows()).toBe('')
    rig.load(BASE, 30)
    expect(rig.shows()).toBe('16-31')
    rig.end()
  })

  it('R-HUGE-66 beyond the end of the file', () => {
    const short = new Rig(20)
    short.store(BASE, 0)
    expect(short.collapse()).toBe(0)
    short.map(OTHER)
    const beyond = (page: number): boolean =>
      short.task.run(accessUser(short.k, short.task.space, OTHER + page * P, false)).ok
    expect([beyond(300), beyond(32)]).toEqual([false, false])
    expect(short.task.run(accessUser(short.k, short.task.space, OTHER + 25 * P, true)).ok).toBe(false)
    // a read looks around
    expect(beyond(25)).toBe(true)
    expect(short.shows(OTHER)).toBe('PMD')
    expect(beyond(300)).toBe(true)
    short.end()
  })

  it('R-HUGE-66 mlocked when all of it is mapped at once', () => {
    const rig = new Rig().huge()
    const { k, task, head } = rig
    const isLocked = (): boolean => k.memory.frames.has(head, PG_MLOCKED)
    expect(task.run(mlock(k, task.space, BASE, PMD_SIZE))).toBe(0)
    expect(isLocked()).toBe(true)
    expect(task.run(munlock(k, task.space, BASE + 5 * P, P))).toBe(0)
    expect([isLocked(), rig.shows()]).toEqual([false, ''])
    rig.load(BASE, 0)
    expect([isLocked(), rig.shows()]).toEqual([false, '0-4'])
    rig.map(OTHER)
    expect(rig.advise(MADV_NOHUGEPAGE, OTHER)).toBe(0)
    expect(task.run(mlock2(k, task.space, OTHER, PMD_SIZE, 1))).toBe(0)
    rig.load(OTHER, 3)
    expect([isLocked(), rig.shows(OTHER)]).toEqual([true, '[0-511]'])
    expect(rig.advise(MADV_DONTNEED_LOCKED, OTHER + 5 * P, 1)).toBe(0)
    expect(isLocked()).toBe(false)
    rig.load(OTHER, 5)
    expect([isLocked(), rig.shows(OTHER)]).toEqual([false, '[0-511]'])
    rig.end()
  })

  it('R-HUGE-25 mprotect of a part removes the PMD', () => {
    const rig = new Rig().huge()
    expect(rig.task.run(mprotect(rig.k, rig.task.space, BASE + 5 * P, P, PROT_READ))).toBe(0)
    expect(rig.shows()).toBe('')
    rig.load(BASE, 5)
    rig.load(BASE, 0)
    rig.store(BASE, 100)
    expect(rig.shows()).toBe('0-5 100')
    expect(rig.task.run(mprotect(rig.k, rig.task.space, BASE, PMD_SIZE, 3))).toBe(0)
    expect(rig.collapse()).toBe(0)
    expect(rig.shows()).toBe('PMD')
    rig.end()
  })
})

describe('splitting large folios of memory files', () => {
  it.each([
    [1, 1, '0:0 2:0 3:0 4:2 8:3 16:4 32:5 64:6 128:7 256:8'],
    [0, 1, '1:0 2:1 4:2 8:3 16:4 32:5 64:6 128:7 256:8'],
    [511, 1, '0:8 256:7 384:6 448:5 480:4 496:3 504:2 508:1 510:0'],
    [256, 256, '0:8'],
    [0, 256, '256:0 257:0 258:1 260:2 264:3 272:4 288:5 320:6 384:7'],
    [3, 509, '0:1 2:0'],
    [0, 512, ''],
    [100, 200, '0:6 64:5 96:2 300:0 301:0 302:1 304:4 320:6 384:7'],
  ])('R-HUGE-65 a hole at %i of %i pages', (first, pages, folios) => {
    const rig = new Rig().huge()
    rig.map(OTHER)
    rig.load(OTHER, 0)
    rig.punch(first, pages)
    expect([rig.folios(), rig.shows(), rig.shows(OTHER)]).toEqual([folios, '', ''])
    const kept = [1, 5, 100].filter((page) => page < first || page >= first + pages)
    for (const page of [1, 5, 100]) expect(rig.load(BASE, page)).toBe(kept.includes(page) ? page : 0)
    rig.end()
  })

  it('R-HUGE-65 truncation in the middle of a page', () => {
    const rig = new Rig().huge()
    rig.store(BASE, 300)
    rig.truncate(100 * P + 1)
    expect([rig.folios(), rig.shows()]).toEqual(['0:6 64:5 96:2 100:0', ''])
    rig.truncate(PMD_SIZE)
    expect([100, 300].map((page) => rig.load(BASE, page))).toEqual([100, 0])
    rig.end()
  })

  it('R-HUGE-65 a hole inside one page', () => {
    const rig = new Rig().huge()
    expect(rig.task.run(punchHole(rig.k, rig.file.mapping, 9 * P + 5, 100))).toBe(0)
    expect([rig.shows(), rig.folios()]).toEqual(['', '0:3 8:0 9:0 10:1 12:2 16:4 32:5 64:6 128:7 256:8'])
    rig.end()
  })

  it('R-HUGE-65 a reference keeps the folio whole', () => {
    const rig = new Rig().huge()
    const held = get(rig.task, BASE + 7 * P)
    expect(rig.task.run(punchHole(rig.k, rig.file.mapping, 9 * P + 5, 100))).toBe(0)
    expect(rig.shows()).toBe('PMD')
    rig.punch(2, 4)
    expect([rig.folios(), rig.shows()]).toEqual(['0:9', ''])
    expect([1, 5, 100].map((page) => rig.load(BASE, page))).toEqual([1, 0, 100])
    expect(rig.shows()).toBe('PMD')
    rig.truncate(50 * P)
    expect([rig.folios(), rig.shows()]).toEqual(['0:9', ''])
    rig.truncate(PMD_SIZE)
    expect([1, 100].map((page) => rig.load(BASE, page))).toEqual([1, 0])
    held.release()
    rig.end()
  })

  it('R-HUGE-65 what lies beyond the end of the file goes', () => {
    const rig = new Rig(20)
    rig.store(BASE, 0)
    expect(rig.collapse()).toBe(0)
    rig.punch(1, 1)
    expect(rig.folios()).toBe('0:0 2:0 3:0 4:2 8:3 16:4')
    rig.load(BASE, 17)
    expect(rig.shows()).toBe('[16-31]')
    rig.end()
  })

  it('R-HUGE-66 pieces are mapped as wholes', () => {
    const rig = new Rig().huge()
    rig.punch(1, 1)
    rig.load(BASE, 40)
    expect(rig.shows()).toBe('[32-63]')
    rig.load(BASE, 3)
    expect(rig.shows()).toBe('0 2-3 [4-7] [8-15] [32-63]')
    rig.store(BASE, 200)
    expect(rig.shows()).toBe('0 2-3 [4-7] [8-15] [32-63] [128-255]')
    rig.map(OTHER, { offset: 40, pages: 30 })
    rig.load(OTHER, 3)
    rig.store(OTHER, 25)
    expect(rig.shows(OTHER)).toBe('0-15 25')
    expect(rig.collapse()).toBe(0)
    expect([rig.shows(), rig.shows(OTHER), rig.folios()]).toEqual(['PMD', '', '0:9'])
    rig.end()
  })

  it('R-HUGE-66 a piece that sticks out of the window of a read at either end is mapped as a whole', () => {
    const rig = new Rig().huge()
    rig.punch(10, 1)
    rig.map(OTHER + 3 * P, { pages: 500 })
    rig.load(OTHER, 18)
    expect(rig.shows(OTHER)).toBe('[15-18] [19-34]')
    rig.end()
  })

  it('R-HUGE-65 pins on pieces, each its own', () => {
    const rig = new Rig().huge()
    rig.punch(1, 1)
    expect(rig.advise(MADV_POPULATE_READ)).toBe(0)
    const pinned = pin(rig.task, BASE + 41 * P)
    expect(counts(rig.k, rig.k.memory.frames.head(pfnAt(rig.task, BASE + 41 * P)))).toEqual({
      ref: 65,
      entire: 0,
      total: 32,
      pin: 1,
    })
    expect(rig.collapse()).toBe('-EAGAIN')
    rig.punch(40, 1)
    // the folio of the pinned page stays, the hole reads as zeros
    expect(rig.folios()).toContain('32:5')
    pinned.release()
    const small = pin(rig.task, BASE + 2 * P)
    rig.punch(0, 512)
    expect(rig.folios()).toBe('')
    small.release()
    rig.end()
  })

  it('R-HUGE-65 COLD on a part splits into single pages', () => {
    const rig = new Rig().huge()
    rig.map(OTHER)
    rig.load(OTHER, 0)
    const held = get(rig.task, BASE)
    expect(rig.advise(MADV_COLD, BASE + 5 * P, 1)).toBe(0)
    expect(rig.shows()).toBe('PMD')
    held.release()
    expect(rig.advise(MADV_COLD)).toBe(0)
    expect(rig.shows()).toBe('PMD')
    const child = fork(rig.task)
    rig.load(BASE, 0, child)
    expect(rig.advise(MADV_COLD, BASE + 5 * P, 1)).toBe(0)
    expect(rig.shows()).toBe('PMD')
    exit(child)
    expect(rig.advise(MADV_COLD, BASE + 5 * P, 1)).toBe(0)
    expect([rig.shows(), rig.shows(OTHER), rig.folios().includes(':9')]).toEqual(['', '', false])
    rig.load(BASE, 20)
    expect(rig.shows()).toBe('16-31')
    rig.end()
  })

  it('R-HUGE-37 MADV_PAGEOUT of a whole one is not modelled', () => {
    const rig = new Rig().huge()
    expect(() => rig.advise(MADV_PAGEOUT)).toThrow('Unmodelled: MADV_PAGEOUT of a large page of a file')
    rig.task.space.mmapLock.semaphore.releaseRead()
    rig.end()
  })
})

describe('large folios of memory files under a userfaultfd', () => {
  const [MISSING, WP, MINOR] = [1, 2, 4]

  function watch(rig: Rig, at: number, mode: number, pages = 512): Userfaultfd {
    const uffd = createUserfaultfd(rig.k, { mm: rig.task.space })
    expect(rig.task.run(uffdRegister(rig.k, uffd, rig.task.space, at, pages * P, mode))).toBe(0)
    return uffd
  }

  function protect(rig: Rig, uffd: Userfaultfd, at: number, pages: number): void {
    const mode = 1
    expect(rig.task.run(uffdWriteprotect(rig.k, uffd, rig.task.space, at, pages * P, mode))).toBe(0)
  }

  it('R-HUGE-63 a hole while a missing page of the file is waited for', () => {
    const rig = new Rig(1024)
    rig.map(BASE, { pages: 1024 })
    rig.map(OTHER, { pages: 1024 })
    rig.store(BASE, 0)
    rig.store(BASE, 600)
    // a mapping that begins right behind them is in the way, too
    watch(rig, OTHER + PMD_SIZE, MISSING)
    expect(rig.collapse(BASE, 1024)).toBe('-EBUSY')
    expect([rig.shows(), rig.shows(BASE + PMD_SIZE), rig.folios()]).toEqual(['', '88', '0:0 600:0'])
    for (let page = 0; page < 512; page++) rig.store(BASE, page)
    expect(rig.collapse()).toBe(0)
    rig.load(OTHER, 9)
    expect([rig.shows(), rig.shows(OTHER)]).toEqual(['PMD', 'PMD'])
    rig.end()
  })

  it('R-HUGE-63 a missing page further on in the file is not in the way', () => {
    const rig = new Rig(2048)
    rig.store(BASE, 0)
    rig.map(OTHER, { offset: 1024 })
    watch(rig, OTHER, MISSING)
    expect(rig.collapse()).toBe(0)
    rig.end()
  })

  it('R-HUGE-66 watched for missing pages: a PMD, or a page alone', () => {
    const rig = new Rig().huge()
    rig.map(OTHER)
    watch(rig, OTHER, MISSING)
    rig.load(OTHER, 9)
    expect(rig.shows(OTHER)).toBe('PMD')
    expect(rig.advise(MADV_NOHUGEPAGE, OTHER)).toBe(0)
    expect(rig.advise(MADV_DONTNEED, OTHER)).toBe(0)
    rig.store(OTHER, 9)
    expect(rig.shows(OTHER)).toBe('9')
    rig.load(OTHER, 40)
    expect(rig.shows(OTHER)).toBe('[0-511]')
    rig.end()
  })

  it('R-HUGE-66 watched for writes: protection takes the PMD apart', () => {
    const rig = new Rig().huge()
    const uffd = watch(rig, BASE, WP)
    expect([rig.shows(), rig.collapse()]).toEqual(['PMD', 0])
    protect(rig, uffd, BASE + 5 * P, 3)
    expect(rig.shows()).toBe('')
    rig.load(BASE, 9)
    rig.store(BASE, 20)
    expect(rig.shows()).toBe('9 20')
    expect(rig.collapse()).toBe('-EINVAL')
    rig.end()
  })

  it('R-HUGE-63 protected entries become markers, the watched VMA gets no PMD', () => {
    const rig = new Rig(1024)
    rig.map(BASE, { pages: 1024 })
    rig.map(OTHER)
    for (const page of [0, 600]) rig.store(BASE, page)
    rig.load(OTHER, 0)
    const uffd = watch(rig, OTHER, WP)
    protect(rig, uffd, OTHER, 512)
    expect(rig.collapse()).toBe(0)
    expect([rig.shows(), rig.shows(OTHER)]).toEqual(['PMD', ''])
    rig.load(OTHER, 9)
    expect(rig.shows(OTHER)).toBe('9')
    const own = watch(rig, BASE, WP, 1024)
    expect(own).not.toBe(uffd)
    expect(rig.advise(MADV_DONTNEED)).toBe(0)
    expect(rig.collapse(BASE, 1024)).toBe('-EINVAL')
    expect([rig.shows(), rig.shows(BASE + PMD_SIZE), rig.folios()]).toEqual(['', '', '0:9 512:9'])
    rig.end()
  })

  it('R-HUGE-63 R-HUGE-66 MINOR mode is not known', () => {
    const rig = new Rig().huge()
    rig.map(OTHER)
    watch(rig, OTHER, MINOR)
    expect(() => rig.collapse()).toThrow(
      'Unmodelled: MADV_COLLAPSE of a memory file that a userfaultfd watches',
    )
    expect(() => rig.load(OTHER, 3)).toThrow('Unmodelled: a fault on a huge page of a memory file')
    rig.task.space.mmapLock.semaphore.releaseRead()
    rig.end()
  })
})
