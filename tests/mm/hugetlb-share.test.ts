import { describe, expect, it } from 'vitest'
import { PAGE_SIZE, PMD_SIZE, PUD_SIZE as GIB } from '../../src/base/units.ts'
import type { OpenFile } from '../../src/mm/file.ts'
import { hugetlbFileSetup, hugetlbPool, punchHugetlb, truncateHugetlb } from '../../src/mm/hugetlb.ts'
import type { Kernel } from '../../src/mm/kernel.ts'
import { madvise } from '../../src/mm/madvise.ts'
import {
  MADV_DONTNEED,
  MAP_FIXED,
  MAP_NORESERVE,
  MAP_SHARED,
  MREMAP_FIXED,
  MREMAP_MAYMOVE,
  PROT_READ,
} from '../../src/mm/mman.ts'
import { mprotect } from '../../src/mm/mprotect.ts'
import { mremap } from '../../src/mm/mremap.ts'
import { accessUser } from '../../src/mm/user-access.ts'
import { munmap } from '../../src/mm/munmap.ts'
import { pmdIndex } from '../../src/mm/page-table.ts'
import { PM_ONCE, PM_PRESENT, pagemapWords } from '../../src/task/proc/pagemap.ts'
import { BASE, RELEASES, counts, exit, fork, map, pfnAt, pin, smallKernel, touch } from '../support/huge.ts'
import { result, testTask, type TestTask } from '../support/kernel.ts'
import { walkFailures } from '../support/walk-failures.ts'

const AT = Math.ceil(BASE / GIB) * GIB
const OTHER = AT + 8 * GIB
const huge = (n: number, at = AT): number => at + n * PMD_SIZE

/** A hugetlb file of 2 GiB with few pages, and processes that map it. */
class Rig {
  readonly k: Kernel
  readonly app: TestTask
  readonly other: TestTask
  readonly file: OpenFile

  constructor(k: Kernel, pages = 8) {
    this.k = k
    hugetlbPool(k).resize(pages)
    const options = { size: 2 * GIB, pageSize: PMD_SIZE, name: '/memfd:h (deleted)', noreserve: true }
    const file = hugetlbFileSetup(k, options)
    if (typeof file === 'number') throw new Error('no file')
    this.file = file
    this.app = testTask(k, { comm: 'app' })
    this.other = testTask(k, { comm: 'other' })
    this.map(this.app)
    this.map(this.other)
  }

  map(task: TestTask, at = AT, length = GIB, more: { prot?: number; offset?: number } = {}): void {
    const flags = MAP_SHARED | MAP_NORESERVE | MAP_FIXED
    expect(map(task, at, length, { file: this.file, flags, ...more })).toBe(at)
  }

  run(task: TestTask, body: Parameters<TestTask['run']>[0]): unknown {
    return result(task.run(body) as number)
  }

  /** `no`, or how often it is mapped, with `shared` where the table is. */
  at(task: TestTask, address: number): string {
    const pfn = pfnAt(task, address)
    if (pfn === 0) return 'no'
    const shared = task.space.pageTable.isShared(pmdIndex(address)) ? ' shared' : ''
    return `${counts(this.k, pfn).total}${shared}`
  }

  once(task: TestTask, address: number): boolean {
    const words = new Uint32Array(2)
    const { pageTable } = task.space
    const isShared = this.k.release.fault.sharedTableIsNotOnce && pageTable.isShared(pmdIndex(address))
    pagemapWords(this.k, pageTable.pmd(pmdIndex(address)), 0, 1, words, true, isShared)
    expect(words[1]! & PM_PRESENT).not.toBe(0)
    return (words[1]! & PM_ONCE) !== 0
  }

  end(): void {
    exit(this.app)
    exit(this.other)
    this.file.put()
  }
}

describe.each(RELEASES)('page tables of hugetlb mappings, %s', (release) => {
  const rig = (pages?: number): Rig => new Rig(smallKernel(release), pages)
  const newer = release === '6.12' || release === '6.18'

  it('HUGE vector H35: two processes map the same aligned 1 GiB hugetlb range', () => {
    const r = rig()
    const { app, other, k } = r
    touch(app, huge(0), true)
    touch(app, huge(1), true)
    expect([r.at(app, AT), r.at(other, AT), r.once(app, AT)]).toEqual(['1', 'no', true])
    touch(other, huge(0), false)
    expect([r.at(app, AT), r.at(other, AT), r.at(other, huge(1))]).toEqual(Array(3).fill('1 shared'))
    const { ref } = counts(k, pfnAt(app, AT))
    expect([ref, r.once(app, AT), r.once(other, AT)]).toEqual([newer ? 513 : 2, !newer, !newer])
    touch(other, huge(2), true)
    expect(r.at(app, huge(2))).toBe('1 shared')
    expect([app.space.hugetlbPages, other.space.hugetlbPages]).toEqual([1024, 512])
    r.end()
  })

  it('R-HUGE-56 MADV_DONTNEED leaves the table to the others', () => {
    const r = rig()
    const { app, other, k } = r
    for (const page of [0, 1]) touch(app, huge(page), true)
    touch(other, AT, false)
    expect(r.run(app, madvise(k, app.space, AT, PMD_SIZE, MADV_DONTNEED))).toBe(0)
    expect([r.at(app, AT), r.at(app, huge(1)), r.at(other, AT)]).toEqual(['no', 'no', '1'])
    expect([app.space.hugetlbPages, r.once(other, AT)]).toEqual([1024, true])
    touch(app, AT, false)
    expect([r.at(app, huge(1)), app.space.hugetlbPages]).toEqual(['1 shared', 1024])
    expect(r.run(other, munmap(k, other.space, AT, GIB))).toBe(0)
    expect([r.at(app, AT), r.at(other, AT)]).toEqual(['1', 'no'])
    r.end()
  })

  it('R-HUGE-56 the last one counts for all', () => {
    const r = rig()
    const { app, other, k } = r
    for (const page of [0, 1]) touch(app, huge(page), true)
    touch(other, huge(2), true)
    expect(r.run(app, munmap(k, app.space, AT, GIB))).toBe(0)
    expect(app.space.hugetlbPages).toBe(1024)
    expect(r.run(other, munmap(k, other.space, AT, GIB))).toBe(0)
    expect(other.space.hugetlbPages).toBe(512 - 3 * 512)
    r.end()
  })

  it('R-HUGE-56 mprotect of a part: a table of its own from then on', () => {
    const r = rig()
    const { app, other, k } = r
    for (const page of [0, 5]) touch(app, huge(page), true)
    touch(other, AT, false)
    expect(r.run(app, mprotect(k, app.space, huge(5), PMD_SIZE, PROT_READ))).toBe(0)
    expect([r.at(app, AT), r.at(app, huge(5)), r.at(other, AT)]).toEqual(['no', 'no', '1'])
    touch(other, huge(3), true)
    expect(r.at(app, huge(3))).toBe('no')
    touch(app, AT, false)
    expect([r.at(app, AT), r.at(other, AT), r.at(other, huge(3))]).toEqual(['2', '2', '1'])
    // whole, and the same again
    expect(r.run(other, mprotect(k, other.space, AT, GIB, PROT_READ))).toBe(0)
    expect(r.at(other, AT)).toBe('2')
    r.end()
  })

  it('R-HUGE-56 truncation and holes reach everybody', () => {
    const r = rig()
    const { app, other, k, file } = r
    for (const page of [0, 3, 5]) touch(app, huge(page), true)
    touch(other, AT, false)
    expect(truncateHugetlb(k, file.mapping, 4 * PMD_SIZE)).toBe(0)
    expect([r.at(app, huge(5)), r.at(other, huge(5))]).toEqual(['no', 'no'])
    expect([touch(app, huge(0), true), touch(other, huge(0), true)]).toEqual(['ok', 'ok'])
    expect(r.at(app, huge(3))).toBe('1 shared')
    expect(punchHugetlb(k, file.mapping, 3 * PMD_SIZE, PMD_SIZE)).toBe(0)
    expect([r.at(app, huge(3)), r.at(other, huge(3)), hugetlbPool(k).free]).toEqual(['no', 'no', 7])
    r.end()
  })

  it('R-HUGE-56 who shares with whom', () => {
    const r = rig()
    const { app, other, k } = r
    touch(app, AT, true)
    r.map(other, OTHER)
    touch(other, OTHER, false)
    expect(r.at(other, OTHER)).toBe('1 shared')
    // another protection, another place in the file, less than the GiB, a private mapping
    r.map(other, OTHER, GIB, { prot: PROT_READ })
    touch(other, OTHER, false)
    expect(r.at(other, OTHER)).toBe('2')
    r.map(other, OTHER, GIB, { offset: PMD_SIZE })
    touch(other, OTHER, false)
    expect(r.at(other, OTHER)).toBe('1')
    r.map(other, OTHER, GIB - PMD_SIZE)
    expect(r.run(other, munmap(k, other.space, OTHER + GIB - PMD_SIZE, PMD_SIZE))).toBe(0)
    touch(other, OTHER, false)
    expect(r.at(other, OTHER)).toBe('2')
    // two GiB, the first of which is the same
    r.map(other, OTHER, 2 * GIB)
    touch(other, OTHER, false)
    expect(r.at(other, OTHER)).toBe('1 shared')
    // the same process
    r.map(app, OTHER)
    touch(app, OTHER, false)
    expect([r.at(app, OTHER), r.at(app, AT)]).toEqual(['1 shared', '1 shared'])
    r.end()
  })

  it('R-HUGE-56 fork, mremap, pins', () => {
    const r = rig()
    const { app, k } = r
    for (const page of [0, 1]) touch(app, huge(page), true)
    const child = fork(app)
    expect(r.at(child, AT)).toBe('no')
    touch(child, AT, false)
    expect(r.at(child, huge(1))).toBe('1 shared')
    const held = pin(child, AT)
    expect(r.run(child, mremap(k, child.space, AT, GIB, GIB, MREMAP_MAYMOVE | MREMAP_FIXED, OTHER))).toBe(
      OTHER,
    )
    touch(child, OTHER, false)
    expect([pfnAt(child, OTHER), counts(k, pfnAt(app, AT)).pin]).toEqual([pfnAt(app, AT), 1])
    exit(child)
    expect(r.at(app, AT)).toBe('1')
    held.release()
    r.end()
  })
})

describe('page tables of hugetlb mappings', () => {
  it('R-HUGE-56 whatever fails, the books balance', () => {
    const failed = walkFailures('6.18', (k) => {
      const r = new Rig(k, 2)
      touch(r.app, AT, true)
      return () => {
        for (const page of [0, 1]) r.other.run(accessUser(k, r.other.space, huge(page), true))
        r.run(r.app, mprotect(k, r.app.space, AT + PMD_SIZE, PMD_SIZE, PROT_READ))
        r.run(r.other, munmap(k, r.other.space, AT, PAGE_SIZE * 512))
      }
    })
    expect(failed).toBeGreaterThan(3)
  })
})
