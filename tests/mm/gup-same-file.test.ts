import { describe, expect, test } from 'vitest'
import { PAGE_SIZE } from '../../src/base/units.ts'
import { FOLL_LONGTERM, FOLL_SAME_FILE, FOLL_WRITE } from '../../src/mm/gup-flags.ts'
import {
  LockedGuard,
  PageArray,
  getUserPages,
  pinUserPagesRemote,
  pinUserPagesUnlocked,
} from '../../src/mm/gup.ts'
import { MAP_FIXED, MAP_PRIVATE, MAP_SHARED } from '../../src/mm/mman.ts'
import { mmap } from '../../src/mm/mmap.ts'
import { munmap } from '../../src/mm/munmap.ts'
import { unpinUserPages } from '../../src/mm/unpin.ts'
import {
  UFFDIO_REGISTER_MODE_MISSING,
  createUserfaultfd,
  uffdCopy,
  uffdRegister,
  type Userfaultfd,
} from '../../src/mm/userfaultfd.ts'
import type { ReleaseName } from '../../src/base/release.ts'
import { result, testTask } from '../support/kernel.ts'
import { RW, World } from './gup-fixture.ts'

const W = FOLL_WRITE
const LT = FOLL_LONGTERM
const SF = FOLL_SAME_FILE
const all: ReleaseName[] = ['gup-v3', '6.1', '6.6', '6.12', '6.18']

/** registers pages for missing-page messages */
function watch(w: World, address: number, pages: number): Userfaultfd {
  const uffd = createUserfaultfd(w.k)
  expect(
    w.task.run(uffdRegister(w.k, uffd, w.mm, address, pages * PAGE_SIZE, UFFDIO_REGISTER_MODE_MISSING)),
  ).toBe(0)
  return uffd
}

describe('FOLL_SAME_FILE', () => {
  test('GUP vector 20, R-URING-27: anonymous, then memfd: the pages before the change are held', () => {
    const w = new World()
    const a = w.map(4, { touched: true })
    w.map(4, { at: a + 4 * PAGE_SIZE, file: w.memfd(4) })
    const pin = w.pin(a, 8, W | LT | SF)
    expect([pin.result, pin.acquired]).toEqual([4, 4])
    expect(w.task.refusal).toMatchObject({
      rule: 'R-GUP-16.6',
      page: 4,
      address: a + 4 * PAGE_SIZE,
      why: expect.stringMatching(/another file/),
      vma: { backing: 'shmem' },
    })
    pin.unpin()
  })

  test('R-GUP-17 without the flag the same range is complete', () => {
    const w = new World()
    const a = w.map(4, { touched: true })
    w.map(4, { at: a + 4 * PAGE_SIZE, file: w.memfd(4) })
    const pin = w.pin(a, 8, W | LT)
    expect(pin.result).toBe(8)
    expect(w.task.refusal).toBeNull()
    pin.unpin()
  })

  test('GUP vector 24, R-URING-27: two mappings of one memfd', () => {
    const w = new World()
    const file = w.memfd(8)
    const a = w.map(2, { file, offset: 4 })
    w.map(2, { at: a + 2 * PAGE_SIZE, file, offset: 0 })
    const pin = w.pin(a, 4, W | LT | SF)
    expect(pin.result).toBe(4)
    pin.unpin()
  })

  test('R-GUP-17 the type of memory is not looked at', () => {
    const w = new World()
    const file = w.ext4(4)
    const a = w.map(2, { file, flags: MAP_SHARED })
    w.map(2, { at: a + 2 * PAGE_SIZE, file, flags: MAP_PRIVATE, offset: 2 })
    const pin = w.pin(a, 4, SF)
    expect(pin.result).toBe(4)
    pin.unpin()
  })

  test('R-GUP-17, R-URING-27 two memfds of the same size are two files', () => {
    const w = new World()
    const a = w.map(1, { file: w.memfd(1, 'one') })
    w.map(1, { at: a + PAGE_SIZE, file: w.memfd(1, 'two') })
    const pin = w.pin(a, 2, SF)
    expect(pin.result).toBe(1)
    pin.unpin()
  })

  test('R-GUP-17 get_user_pages accepts it too', () => {
    const w = new World()
    const a = w.map(1, { touched: true })
    w.map(1, { at: a + PAGE_SIZE, file: w.memfd(1) })
    const got = w.get(a, 2, SF)
    expect(got.result).toBe(1)
    got.put()
    const none = w.underLock((guard) => getUserPages(w.k, guard, a, 2, SF, null))
    expect(none).toBe(1)
  })

  test('GUP vector 25: a dropped lock forgets the file, and a mixed range is complete', () => {
    const w = new World()
    const a = w.map(1, { touched: true })
    w.map(1, { at: a + PAGE_SIZE })
    const uffd = watch(w, a + PAGE_SIZE, 1)
    const file = w.memfd(1)
    const pages = new PageArray(2)
    const other = testTask(w.k, { comm: 'other', mm: w.mm })
    const pinner = w.k.scheduler.spawn('pinner', w.task, pinUserPagesUnlocked(w.k, a, 2, pages, SF))
    pinner.awaited = true
    expect(w.k.scheduler.runUntilIdle()).toBe(false)
    expect(uffd.read()).toEqual({ event: 'pagefault', flags: 0, address: a + PAGE_SIZE })
    const flags = MAP_SHARED | MAP_FIXED
    other.run(mmap(w.k, w.mm, { addr: a + PAGE_SIZE, length: PAGE_SIZE, prot: RW, flags, file, offset: 0 }))
    uffd.wake(a, a + 2 * PAGE_SIZE)
    w.k.scheduler.run()
    expect(pinner.result).toBe(2)
    expect(pages.pfns[1]).toBe(file.mapping.pages.get(0))
    unpinUserPages(w.k, pages, 2)
  })
})

describe('the lock and userfaultfd', () => {
  test.each(all)(
    'GUP vector 26, R-GUP-6, R-GUP-42: the page goes while it is waited for, on %s',
    (release) => {
      const w = new World(release)
      const a = w.map(2)
      w.write(a)
      const uffd = watch(w, a + PAGE_SIZE, 1)
      const other = testTask(w.k, { comm: 'other', mm: w.mm })
      const pages = new PageArray(2)
      const locked = new LockedGuard(w.mm.mmapLock.tryRead()!)
      const acquired = w.k.pinAcquired
      const body = pinUserPagesRemote(w.k, w.mm, a, 2, 0, pages, locked)
      const pinner = w.k.scheduler.spawn('pinner', w.task, body)
      pinner.awaited = true
      expect(w.k.scheduler.runUntilIdle()).toBe(false)
      expect(w.k.pinAcquired - acquired).toBe(1)
      expect(other.run(munmap(w.k, w.mm, a + PAGE_SIZE, PAGE_SIZE))).toBe(0)
      uffd.wake(a, a + 2 * PAGE_SIZE)
      w.k.scheduler.run()
      expect([pinner.result, locked.guard, w.k.pinAcquired - acquired]).toEqual([1, null, 1])
      expect(w.task.refusal).toMatchObject({ rule: 'R-GUP-15', page: 1, address: a + PAGE_SIZE })
      unpinUserPages(w.k, pages, 1)
    },
  )

  test.each(all)(
    'GUP vector 27, R-GUP-6: a lock that must be kept gets -EFAULT and no message, on %s',
    (release) => {
      const w = new World(release)
      const a = w.map(1)
      const uffd = watch(w, a, 1)
      expect(result(w.pin(a, 1, W).result)).toBe('-EFAULT')
      expect(uffd.read()).toBeNull()
      expect(w.task.refusal).toMatchObject({ rule: 'R-GUP-33', page: 0, cause: { rule: 'R-FLT-120' } })
    },
  )

  test.each(['gup-v3', '6.6', '6.12', '6.18'] as const)(
    'GUP vector 28: fast blocks through a signal, on %s',
    (release) => {
      const w = new World(release)
      const a = w.map(1)
      const uffd = watch(w, a, 1)
      const other = testTask(w.k, { comm: 'other', mm: w.mm })
      const pages = new PageArray(1)
      const body = w.attemptLater(a, 1, W, pages)
      const pinner = w.k.scheduler.spawn('pinner', w.task, body)
      pinner.awaited = true
      w.k.scheduler.runUntilIdle()
      expect(uffd.read()).not.toBeNull()
      w.task.signalPending = true
      pinner.signalled(false)
      expect(w.k.scheduler.runUntilIdle()).toBe(false)
      expect(other.run(uffdCopy(w.k, uffd, w.mm, a, new Uint8Array(PAGE_SIZE)))).toBe(PAGE_SIZE)
      w.k.scheduler.run()
      expect(pinner.result).toBe(1)
      unpinUserPages(w.k, pages, 1)
    },
  )

  test('GUP vector 28, R-GUP-54: on 6.1 a long-term fast pin cannot wait', () => {
    const w = new World('6.1')
    const a = w.map(1)
    watch(w, a, 1)
    expect(result(w.pinFast(a, 1, W | LT).result)).toBe('-EFAULT')
  })

  test('R-GUP-44 a fatal signal ends the wait with -EINTR and nothing held', () => {
    const w = new World()
    const a = w.map(1)
    watch(w, a, 1)
    const pages = new PageArray(1)
    const pinner = w.k.scheduler.spawn('pinner', w.task, pinUserPagesUnlocked(w.k, a, 1, pages, W))
    pinner.awaited = true
    w.k.scheduler.runUntilIdle()
    w.task.fatalSignalPending = true
    pinner.signalled(true)
    w.k.scheduler.run()
    expect(result(pinner.result!)).toBe('-EINTR')
    expect(w.task.refusal).toMatchObject({ rule: 'R-GUP-44', page: 0 })
    expect(w.mm.mmapLock.locked).toBe(false)
  })

  test('R-GUP-41 killed while waiting for the lock', () => {
    const w = new World()
    const a = w.map(1)
    const writer = w.mm.mmapLock.tryWrite()!
    const pages = new PageArray(1)
    const pinner = w.k.scheduler.spawn('pinner', w.task, pinUserPagesUnlocked(w.k, a, 1, pages, W))
    pinner.awaited = true
    w.k.scheduler.runUntilIdle()
    w.task.fatalSignalPending = true
    pinner.signalled(true)
    w.k.scheduler.run()
    expect(result(pinner.result!)).toBe('-EAGAIN')
    writer.release()
  })

  test('R-GUP-46 pages of mappings that never existed together', () => {
    const w = new World()
    const a = w.map(3)
    w.write(a)
    const uffd = watch(w, a + PAGE_SIZE, 1)
    const other = testTask(w.k, { comm: 'other', mm: w.mm })
    const pages = new PageArray(3)
    const pinner = w.k.scheduler.spawn('pinner', w.task, pinUserPagesUnlocked(w.k, a, 3, pages, W))
    pinner.awaited = true
    w.k.scheduler.runUntilIdle()
    const first = pages.pfns[0]!
    other.run(munmap(w.k, w.mm, a, PAGE_SIZE))
    other.run(uffdCopy(w.k, uffd, w.mm, a + PAGE_SIZE, new Uint8Array(PAGE_SIZE)))
    w.k.scheduler.run()
    expect(pinner.result).toBe(3)
    expect([pages.pfns[0], w.pfn(a)]).toEqual([first, 0])
    unpinUserPages(w.k, pages, 3)
  })
})
