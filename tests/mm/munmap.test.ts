import { describe, expect, it } from 'vitest'
import { PREEMPT, type Kthread } from '../../src/base/kthread.ts'
import { TASK_SIZE } from '../../src/base/units.ts'
import { exitMmap } from '../../src/mm/exit-mmap.ts'
import { HUGETLBFS } from '../../src/mm/file.ts'
import { hugetlbPool } from '../../src/mm/hugetlb.ts'
import {
  MAP_FIXED,
  MAP_GROWSDOWN,
  MAP_HUGETLB,
  MAP_LOCKED,
  MAP_NORESERVE,
  MAP_SHARED,
} from '../../src/mm/mman.ts'
import { mprotect } from '../../src/mm/mprotect.ts'
import { mseal } from '../../src/mm/mseal.ts'
import { munmap } from '../../src/mm/munmap.ts'
import { testTask } from '../support/kernel.ts'
import { ALL, ANON, H, NEWER, P, Q, R, RW, Space } from './address-space.ts'

describe.each(ALL)('munmap on %s', (release) => {
  it('AS vector 20: arguments', () => {
    const s = new Space(release)
    s.at(0, 2)
    s.at(4, 2)
    expect(s.call(munmap(s.k, s.mm, Q + 1, P))).toBe('-EINVAL')
    expect(s.call(munmap(s.k, s.mm, Q, 0))).toBe('-EINVAL')
    expect(s.call(munmap(s.k, s.mm, TASK_SIZE, P))).toBe('-EINVAL')
    expect(s.call(munmap(s.k, s.mm, Q, -1))).toBe('-EINVAL')
    expect(s.call(munmap(s.k, s.mm, TASK_SIZE - P, P))).toBe(0)
    expect(s.call(munmap(s.k, s.mm, Q + P, 4 * P))).toBe(0)
    expect(s.list()).toEqual(['0+1 rw-', '5+1 rw-'])
    expect(s.call(munmap(s.k, s.mm, Q, 1))).toBe(0)
    expect(s.list()).toEqual(['5+1 rw-'])
  })

  it('AS vector 21: a part of a huge page', () => {
    const s = new Space(release)
    s.map({ addr: Q, length: 2 * H, flags: ANON | MAP_HUGETLB | MAP_NORESERVE | MAP_FIXED })
    expect(HUGETLBFS.hugetlb).toBe(true)
    expect(s.call(munmap(s.k, s.mm, Q, P))).toBe('-EINVAL')
    expect(s.call(munmap(s.k, s.mm, Q + P, H))).toBe('-EINVAL')
    expect(s.list()).toEqual(['0+1024 rw-'])
    expect(s.call(munmap(s.k, s.mm, Q, H))).toBe(0)
    expect(s.list()).toEqual(['512+512 rw-'])
    hugetlbPool(s.k).resize(0)
  })

  it('R-AS-61, R-AS-1, R-AS-96, R-AS-145 counters, resident pages and the file go', () => {
    const s = new Space(release)
    const file = s.file(8)
    s.at(0, 4, RW, ANON | MAP_LOCKED)
    s.at(8, 4, RW, MAP_SHARED, file)
    for (let page = 8; page < 12; page++) expect(s.touch(page)).toBe(true)
    expect([s.mm.lockedVm, s.mm.rssAnon, s.mm.rssFile, file.refs]).toEqual([4, 4, 4, 2])
    expect(file.mapping.writableMappings).toBe(1)
    expect(s.call(munmap(s.k, s.mm, Q + 2 * P, 20 * P))).toBe(0)
    expect([s.mm.lockedVm, s.mm.rssAnon, s.mm.rssFile, file.refs]).toEqual([2, 2, 0, 1])
    expect(file.mapping.writableMappings).toBe(0)
    expect([s.mm.totalVm, s.mm.dataVm, s.mm.committed, s.mm.mapCount]).toEqual([2, 2, 2, 1])
    expect(s.touch(2)).toBe(false)
  })

  it.each([false, true])('R-AS-120 the pages go under the read lock, a stack above: %s', (stack) => {
    const s = new Space(release)
    s.at(0, 1024)
    for (const page of [0, 600]) s.touch(page)
    if (stack) s.at(1400, 1, RW, ANON | MAP_GROWSDOWN)
    s.k.exploring = true
    const task = s.k.scheduler.spawn('munmap', s.task, munmap(s.k, s.mm, Q, 1024 * P))
    let shared = false
    const look = function* (): Kthread<void> {
      while (!task.done) {
        const guard = s.mm.mmapLock.tryRead()
        if (guard !== null && s.mm.rssAnon > 0) shared ||= guard.vmas.find(Q)?.start !== Q
        guard?.release()
        yield PREEMPT
      }
    }
    s.k.scheduler.spawn('reader', testTask(s.k), look())
    s.k.scheduler.run()
    s.k.exploring = false
    expect(shared).toBe(!(stack && (release === '6.1' || release === 'gup-v3')))
  })

  it('R-AS-125 every piece of a file mapping holds the file', () => {
    const s = new Space(release)
    const file = s.file(3)
    s.at(0, 3, R, MAP_SHARED, file)
    s.call(munmap(s.k, s.mm, Q + P, P))
    expect(file.refs).toBe(3)
    file.put()
    expect(s.touch(2, false)).toBe(true)
    s.call(munmap(s.k, s.mm, Q, 3 * P))
    expect(s.k.mappings.size).toBe(0)
  })

  it('R-AS-148 page tables vanish with the last mapping of their span', () => {
    const s = new Space(release)
    s.at(0, 4)
    s.touch(0)
    expect(s.mm.pageTable.leaves).toBe(1)
    s.call(munmap(s.k, s.mm, Q, 4 * P))
    expect(s.mm.pageTable.leaves).toBe(0)
  })

  it('R-AS-148 a table that a neighbour shares stays, empty or not, until the neighbour goes', () => {
    const s = new Space(release)
    s.at(0, 2)
    s.at(8, 2)
    s.touch(0)
    s.call(munmap(s.k, s.mm, Q, 2 * P))
    expect(s.mm.pageTable.leaves).toBe(1)
    s.call(munmap(s.k, s.mm, Q + 8 * P, 2 * P))
    expect(s.mm.pageTable.leaves).toBe(0)
  })

  it('R-AS-158, R-FLT-77 exit unmaps everything', () => {
    const s = new Space(release)
    const file = s.file(4)
    s.at(0, 4)
    s.at(8, 4, RW, MAP_SHARED, file)
    s.touch(1)
    s.touch(9)
    const { mm } = s
    s.task.run(exitMmap(s.k, mm))
    expect([mm.mapCount, mm.totalVm, mm.rss, s.k.committed, file.refs]).toEqual([0, 0, 0, 0, 1])
    expect(s.k.mms.has(mm)).toBe(false)
  })
})

describe.each(NEWER)('mseal on %s', (release) => {
  it('AS vector 49: sealed pages in the middle', () => {
    const s = new Space(release)
    s.at(0, 8)
    expect(s.call(mseal(s.k, s.mm, Q + 2 * P, 2 * P, 0))).toBe(0)
    expect(s.list()).toEqual(['0+2 rw-', '2+2 rw-', '4+4 rw-'])
    expect(s.call(munmap(s.k, s.mm, Q, 8 * P))).toBe('-EPERM')
    expect(s.list()).toEqual(['0+2 rw-', '2+2 rw-', '4+4 rw-'])
    expect(s.call(mprotect(s.k, s.mm, Q, 8 * P, R))).toBe('-EPERM')
    expect(s.list()).toEqual(['0+2 r--', '2+2 rw-', '4+4 rw-'])
    expect(s.try({ addr: Q + 2 * P, flags: ANON | MAP_FIXED })).toBe('-EPERM')
  })

  it('R-AS-115, R-AS-117 arguments and holes', () => {
    const s = new Space(release)
    s.at(0, 2)
    expect(s.call(mseal(s.k, s.mm, Q, P, 1))).toBe('-EINVAL')
    expect(s.call(mseal(s.k, s.mm, Q + 1, P, 0))).toBe('-EINVAL')
    expect(s.call(mseal(s.k, s.mm, Q, -1, 0))).toBe('-EINVAL')
    expect(s.call(mseal(s.k, s.mm, Q, 0, 0))).toBe(0)
    expect(s.call(mseal(s.k, s.mm, Q, 3 * P, 0))).toBe('-ENOMEM')
    expect(s.flags(0)).not.toContain('sl')
    expect(s.call(mseal(s.k, s.mm, Q, P, 0))).toBe(0)
    expect(s.call(mseal(s.k, s.mm, Q, 2 * P, 0))).toBe(0)
    // R-AS-117
    expect(s.list()).toEqual(['0+2 rw-'])
  })
})
