import { describe, expect, test } from 'vitest'
import type { ReleaseName } from '../../src/base/release.ts'
import { PAGE_SIZE } from '../../src/base/units.ts'
import { driverKind } from '../../src/mm/file.ts'
import { LockedGuard } from '../../src/mm/gup.ts'
import { MAP_ANONYMOUS, MAP_GROWSDOWN, MAP_PRIVATE, MAP_SHARED, PROT_EXEC } from '../../src/mm/mman.ts'
import { madvisePopulate, mmPopulate, populateVmaPageRange } from '../../src/mm/populate.ts'
import {
  UFFDIO_REGISTER_MODE_MISSING,
  createUserfaultfd,
  uffdCopy,
  uffdRegister,
} from '../../src/mm/userfaultfd.ts'
import { VM_GROWSDOWN, VM_LOCKED, VM_LOCKONFAULT, VM_PFNMAP } from '../../src/mm/vm-flags.ts'
import { result, testTask } from '../support/kernel.ts'
import { NONE, RO, RW, WO, World } from './gup-fixture.ts'

const all: ReleaseName[] = ['gup-v3', '6.1', '6.6', '6.12', '6.18']

function populateVma(w: World, a: number, pages: number): number {
  return w.underLock((guard) =>
    populateVmaPageRange(w.k, guard.vmas.find(a)!, a, a + pages * PAGE_SIZE, guard),
  )
}

function populate(w: World, a: number, pages: number, ignore = false): number {
  return w.task.run(mmPopulate(w.k, w.mm, a, pages * PAGE_SIZE, ignore))
}

function madvise(w: World, a: number, pages: number, write: boolean): number {
  return w.task.run(madvisePopulate(w.k, w.mm, a, a + pages * PAGE_SIZE, write))
}

const present = (w: World, a: number, pages: number): boolean[] =>
  Array.from({ length: pages }, (_, i) => w.pfn(a + i * PAGE_SIZE) !== 0)

describe.each(all)('populate_vma_page_range on %s', (release) => {
  test('R-GUP-91 private writable memory is broken out of COW', () => {
    const w = new World(release)
    const a = w.map(3)
    expect(populateVma(w, a, 3)).toBe(3)
    for (let i = 0; i < 3; i++) expect(w.pfn(a + i * PAGE_SIZE)).not.toBe(w.k.zeroPfn)
  })

  test('R-GUP-91 read-only memory gets the zero page', () => {
    const w = new World(release)
    const a = w.map(1, { prot: RO })
    expect(populateVma(w, a, 1)).toBe(1)
    expect(w.pfn(a)).toBe(w.k.zeroPfn)
  })

  test('R-GUP-91 PROT_NONE', () => {
    const w = new World(release)
    const a = w.map(1, { prot: NONE })
    expect(result(populateVma(w, a, 1))).toBe('-EFAULT')
    expect(w.task.refusal!.rule).toBe(['6.12', '6.18'].includes(release) ? 'R-GUP-91' : 'R-GUP-16.9')
  })

  test.each([
    ['PROT_EXEC', PROT_EXEC],
    ['PROT_WRITE', WO],
  ])('R-GUP-91 %s only works', (_name, prot) => {
    const w = new World(release)
    const a = w.map(1, { prot })
    expect(populateVma(w, a, 1)).toBe(1)
    expect(w.pfn(a)).not.toBe(0)
  })

  test('R-GUP-91 VM_LOCKONFAULT does nothing and says all', () => {
    const w = new World(release)
    const a = w.map(2)
    const guard = w.mm.mmapLock.tryWrite()!
    const vma = guard.vmas.find(a)!
    vma.flags |= VM_LOCKONFAULT
    guard.release()
    expect(populateVma(w, a, 2)).toBe(2)
    expect(present(w, a, 2)).toEqual([false, false])
  })

  test('R-GUP-91 beyond the end of a file', () => {
    const w = new World(release)
    const a = w.map(2, { file: w.memfd(1), flags: MAP_SHARED })
    expect(populateVma(w, a, 2)).toBe(1)
    expect(result(populateVma(w, a + PAGE_SIZE, 1))).toBe('-EFAULT')
    expect(w.task.refusal).toMatchObject({ rule: 'R-GUP-33', address: a + PAGE_SIZE })
  })

  test('R-GUP-45 the lock is dropped when a page has to be waited for', () => {
    const w = new World(release)
    const a = w.map(2)
    const uffd = createUserfaultfd(w.k)
    w.task.run(uffdRegister(w.k, uffd, w.mm, a + PAGE_SIZE, PAGE_SIZE, UFFDIO_REGISTER_MODE_MISSING))
    const guard = w.mm.mmapLock.tryRead()!
    const locked = new LockedGuard(guard)
    const body = populateVmaPageRange(w.k, guard.vmas.find(a)!, a, a + PAGE_SIZE, locked)
    expect([w.task.run(body), locked.guard]).toEqual([1, guard])
    const second = populateVmaPageRange(
      w.k,
      guard.vmas.find(a + PAGE_SIZE)!,
      a + PAGE_SIZE,
      a + 2 * PAGE_SIZE,
      locked,
    )
    const task = w.k.scheduler.spawn('populate', w.task, second)
    w.k.scheduler.runUntilIdle()
    const other = testTask(w.k, { comm: 'other', mm: w.mm })
    other.run(uffdCopy(w.k, uffd, w.mm, a + PAGE_SIZE, new Uint8Array(PAGE_SIZE)))
    w.k.scheduler.run()
    expect([task.result, locked.guard]).toEqual([0, null])
  })
})

describe('mm_populate', () => {
  test('R-GUP-91 goes through mappings and stops at an error', () => {
    const w = new World()
    const a = w.map(2)
    w.map(1, { at: a + 2 * PAGE_SIZE, prot: NONE })
    w.map(2, { at: a + 3 * PAGE_SIZE })
    expect(result(populate(w, a, 5))).toBe('-EFAULT')
    expect(present(w, a, 5)).toEqual([true, true, false, false, false])
    expect(populate(w, a, 5, true)).toBe(0)
    expect(present(w, a, 5)).toEqual([true, true, false, true, true])
  })

  test('R-AS-93 raw-PFN mappings are skipped', () => {
    const w = new World()
    const a = w.map(1)
    const b = w.map(1, { at: a + PAGE_SIZE, file: w.file(driverKind('gpu'), 1) })
    w.map(1, { at: a + 2 * PAGE_SIZE })
    const guard = w.mm.mmapLock.tryWrite()!
    guard.vmas.find(b)!.flags |= VM_PFNMAP
    guard.release()
    expect(populate(w, a, 3)).toBe(0)
    expect(present(w, a, 3)).toEqual([true, false, true])
  })

  test('R-GUP-91 waits for a userfaultfd and goes on', () => {
    const w = new World()
    const a = w.map(3)
    const uffd = createUserfaultfd(w.k)
    w.task.run(uffdRegister(w.k, uffd, w.mm, a + PAGE_SIZE, PAGE_SIZE, UFFDIO_REGISTER_MODE_MISSING))
    const task = w.k.scheduler.spawn('populate', w.task, mmPopulate(w.k, w.mm, a, 3 * PAGE_SIZE, false))
    expect(w.k.scheduler.runUntilIdle()).toBe(false)
    expect(present(w, a, 3)).toEqual([true, false, false])
    const other = testTask(w.k, { comm: 'other', mm: w.mm })
    other.run(uffdCopy(w.k, uffd, w.mm, a + PAGE_SIZE, new Uint8Array(PAGE_SIZE)))
    w.k.scheduler.run()
    expect(task.result).toBe(0)
    expect(present(w, a, 3)).toEqual([true, true, true])
  })
})

describe.each(all)('MADV_POPULATE on %s', (release) => {
  test('R-GUP-94 read and write', () => {
    const w = new World(release)
    const a = w.map(2)
    expect(madvise(w, a, 2, false)).toBe(0)
    expect(w.pfn(a)).toBe(w.k.zeroPfn)
    expect(madvise(w, a, 2, true)).toBe(0)
    expect(w.pfn(a)).not.toBe(w.k.zeroPfn)
  })

  test('R-GUP-39, R-GUP-92, R-GUP-94 a missing permission and secretmem are -EINVAL', () => {
    const w = new World(release)
    expect(result(madvise(w, w.map(1, { prot: RO }), 1, true))).toBe('-EINVAL')
    expect(w.task.refusal).toMatchObject({ cause: { rule: 'R-GUP-16.8' } })
    expect(result(madvise(w, w.map(1, { prot: WO }), 1, false))).toBe('-EINVAL')
    expect(result(madvise(w, w.map(1, { file: w.secretmem(1) }), 1, false))).toBe('-EINVAL')
  })

  test('R-GUP-94 beyond the end of a file is -EFAULT', () => {
    const w = new World(release)
    const a = w.map(2, { file: w.memfd(1), flags: MAP_SHARED })
    expect(result(madvise(w, a, 2, false))).toBe('-EFAULT')
    expect(present(w, a, 2)).toEqual([true, false])
  })

  test('R-GUP-39, R-GUP-93, R-GUP-94 a hole is -ENOMEM; what lies behind it depends on the release', () => {
    const w = new World(release)
    const a = w.map(2)
    w.map(1, { at: a + 3 * PAGE_SIZE })
    expect(result(madvise(w, a, 4, true))).toBe('-ENOMEM')
    const behind = ['gup-v3', '6.1'].includes(release)
    expect(present(w, a, 4)).toEqual([true, true, false, behind])
  })

  test('R-GUP-94 being killed is -EINTR', () => {
    const w = new World(release)
    const a = w.map(1)
    w.task.fatalSignalPending = true
    expect(result(madvise(w, a, 1, true))).toBe('-EINTR')
    w.task.fatalSignalPending = false
  })
})

test('R-AS-9 the part a locked stack grows by is populated', () => {
  const w = new World('gup-v3')
  const a = w.map(1, {
    at: 0x20000000,
    flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN,
    touched: true,
    prot: RW,
  })
  const guard = w.mm.mmapLock.tryWrite()!
  const vma = guard.vmas.find(a)!
  vma.flags |= VM_LOCKED
  expect(vma.flags & VM_GROWSDOWN).not.toBe(0)
  guard.release()
  w.task.limits.memlock = Infinity
  w.mm.lockedVm += 1
  const got = w.get(a - 3 * PAGE_SIZE, 1)
  expect(got.result).toBe(1)
  expect(present(w, a - 3 * PAGE_SIZE, 4)).toEqual([true, true, true, true])
  got.put()
})

describe('faults by runs', () => {
  test('R-FLT-35 what a run faults in is what page after page would be', () => {
    const look = (exploring: boolean): unknown => {
      const w = new World('6.18', { zones: { normal: 4096, movable: 700 } })
      const a = w.map(1200)
      w.write(a + 5 * PAGE_SIZE)
      w.read(a + 9 * PAGE_SIZE)
      w.k.exploring = exploring
      const [faults, filled] = [w.k.pgfault, madvise(w, a, 1200, true)]
      w.k.exploring = false
      const pages = Array.from({ length: 1200 }, (_, i) => {
        const pfn = w.pfn(a + i * PAGE_SIZE)
        const { flags, index, mapcount, refcount } = w.k.memory.frames
        return [pfn, flags[pfn], index[pfn], mapcount[pfn], refcount[pfn]]
      })
      return { filled, faults: w.k.pgfault - faults, rss: w.mm.rssAnon, pages }
    }
    expect(look(false)).toEqual(look(true))
  })

  test('R-GUP-94 memory runs out in the middle of a run', () => {
    const w = new World('6.18', { zones: { normal: 64 } })
    const a = w.map(200)
    expect(() => madvise(w, a, 200, true)).not.toThrow()
    expect(w.mm.rssAnon).toBeGreaterThan(40)
    expect(w.k.memory.buddy.free[0]).toBe(0)
  })
})
