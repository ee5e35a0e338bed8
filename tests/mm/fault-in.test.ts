import { describe, expect, test } from 'vitest'
import type { ReleaseName } from '../../src/base/release.ts'
import { PAGE_SIZE } from '../../src/base/units.ts'
import { FAULT_FLAG_WRITE } from '../../src/mm/fault-flags.ts'
import { faultInReadable, faultInSafeWriteable, faultInWriteable } from '../../src/mm/fault-in.ts'
import { LockedGuard, fixupUserFault } from '../../src/mm/gup.ts'
import {
  UFFDIO_REGISTER_MODE_MISSING,
  createUserfaultfd,
  uffdCopy,
  uffdRegister,
} from '../../src/mm/userfaultfd.ts'
import { loadUser } from '../../src/mm/user-access.ts'
import { result, testTask } from '../support/kernel.ts'
import { RO, WO, World } from './gup-fixture.ts'

const all: ReleaseName[] = ['gup-v3', '6.1', '6.6', '6.12', '6.18']

function byteAt(w: World, address: number): number {
  const byte = new Uint8Array(1)
  expect(w.task.run(loadUser(w.k, w.mm, address, byte)).ok).toBe(true)
  return byte[0]!
}

describe.each(all)('fault_in_* on %s', (release) => {
  test('R-GUP-95 readable touches every page and stores nothing', () => {
    const w = new World(release)
    const a = w.map(3)
    expect(w.task.run(faultInReadable(w.k, a + 100, 2 * PAGE_SIZE))).toBe(0)
    expect([0, 1, 2].map((i) => w.pfn(a + i * PAGE_SIZE))).toEqual([w.k.zeroPfn, w.k.zeroPfn, w.k.zeroPfn])
  })

  test('R-GUP-95 the rest behind the first page that fails', () => {
    const w = new World(release)
    const a = w.map(2)
    expect(w.task.run(faultInReadable(w.k, a + 100, 3 * PAGE_SIZE))).toBe(PAGE_SIZE + 100)
    expect(w.task.run(faultInWriteable(w.k, a + 100, 3 * PAGE_SIZE))).toBe(PAGE_SIZE + 100)
    expect(w.task.run(faultInReadable(w.k, a + 2 * PAGE_SIZE, 10))).toBe(10)
  })

  test('R-GUP-95 writeable destroys the byte at the start and at each further page', () => {
    const w = new World(release)
    const a = w.map(2, { touched: true })
    w.write(a + 100, 1, 9)
    expect(w.task.run(faultInWriteable(w.k, a + 100, PAGE_SIZE))).toBe(0)
    expect([byteAt(w, a), byteAt(w, a + 100), byteAt(w, a + PAGE_SIZE)]).toEqual([1, 0, 0])
  })

  test('R-GUP-95 safe_writeable changes nothing', () => {
    const w = new World(release)
    const a = w.map(2, { touched: true })
    expect(w.task.run(faultInSafeWriteable(w.k, a, 2 * PAGE_SIZE))).toBe(0)
    expect([byteAt(w, a), byteAt(w, a + PAGE_SIZE)]).toEqual([1, 2])
  })

  test('R-GUP-95 safe_writeable and a later failure', () => {
    const w = new World(release)
    const a = w.map(1)
    w.map(1, { at: a + PAGE_SIZE, prot: RO })
    const rest = w.task.run(faultInSafeWriteable(w.k, a, 2 * PAGE_SIZE))
    expect(rest).toBe(release === 'gup-v3' ? 0 : PAGE_SIZE)
    expect(w.task.run(faultInSafeWriteable(w.k, a + PAGE_SIZE, 8))).toBe(8)
  })

  test('R-GUP-95 not user memory', () => {
    const w = new World(release)
    for (const f of [faultInReadable, faultInWriteable, faultInSafeWriteable]) {
      expect(w.task.run(f(w.k, 0x7ffffffff000, 8))).toBe(8)
      expect(w.task.run(f(w.k, 0x7ffffffff000, 0))).toBe(0)
    }
  })
})

describe('fixup_user_fault', () => {
  test.each(all)('R-GUP-95 permission and holes on %s', (release) => {
    const w = new World(release)
    const rw = w.map(1)
    const ro = w.map(1, { prot: RO })
    const wo = w.map(1, { prot: WO })
    const fixup = (address: number, flags: number): number | string =>
      result(w.underLock((guard) => fixupUserFault(w.k, w.mm, address, flags, guard)))
    expect(fixup(rw, FAULT_FLAG_WRITE)).toBe(0)
    expect(w.pfn(rw)).not.toBe(w.k.zeroPfn)
    expect(fixup(ro, 0)).toBe(0)
    expect([fixup(ro, FAULT_FLAG_WRITE), fixup(wo, 0), fixup(0x7000000, 0)]).toEqual([
      '-EFAULT',
      '-EFAULT',
      '-EFAULT',
    ])
  })

  test('R-GUP-95 the lock is held again after a wait, by another guard', () => {
    const w = new World()
    const a = w.map(1)
    const uffd = createUserfaultfd(w.k)
    w.task.run(uffdRegister(w.k, uffd, w.mm, a, PAGE_SIZE, UFFDIO_REGISTER_MODE_MISSING))
    const guard = w.mm.mmapLock.tryRead()!
    const locked = new LockedGuard(guard)
    const task = w.k.scheduler.spawn('futex', w.task, fixupUserFault(w.k, w.mm, a, FAULT_FLAG_WRITE, locked))
    w.k.scheduler.runUntilIdle()
    const other = testTask(w.k, { comm: 'other', mm: w.mm })
    other.run(uffdCopy(w.k, uffd, w.mm, a, new Uint8Array(PAGE_SIZE)))
    w.k.scheduler.run()
    expect(task.result).toBe(0)
    expect(guard.held).toBe(false)
    expect(locked.guard!.held).toBe(true)
    locked.guard!.release()
  })

  test('R-GUP-95 a task being killed', () => {
    const w = new World()
    const a = w.map(1)
    const locked = new LockedGuard(w.mm.mmapLock.tryRead()!)
    w.task.fatalSignalPending = true
    expect(result(w.task.run(fixupUserFault(w.k, w.mm, a, 0, locked)))).toBe('-EINTR')
    locked.guard!.release()
  })
})
