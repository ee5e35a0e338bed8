import { describe, expect, test } from 'vitest'
import { PMD_SIZE } from '../../src/base/units.ts'
import { PG_ANON_EXCLUSIVE, PG_MLOCKED } from '../../src/memory/page-flags.ts'
import { putExclusivePage } from '../../src/mm/device-exclusive.ts'
import { audit } from '../../src/mm/audit.ts'
import { forkMm } from '../../src/mm/fork.ts'
import { PageArray } from '../../src/mm/gup.ts'
import { madvise } from '../../src/mm/madvise.ts'
import { mincore } from '../../src/mm/mincore.ts'
import { mlock2 } from '../../src/mm/mlock.ts'
import {
  MADV_COLLAPSE,
  MADV_COLD,
  MADV_DONTFORK,
  MADV_DONTNEED,
  MADV_FREE,
  MADV_GUARD_INSTALL,
  MADV_PAGEOUT,
  MADV_POPULATE_READ,
  MADV_WILLNEED,
  MREMAP_FIXED,
  MREMAP_MAYMOVE,
} from '../../src/mm/mman.ts'
import { mprotect } from '../../src/mm/mprotect.ts'
import { mremap } from '../../src/mm/mremap.ts'
import { HugePmd, PTE_PRESENT, PTE_UFFD_WP, PTE_WRITE, pmdIndex } from '../../src/mm/page-table.ts'
import { accessUser, loadUser } from '../../src/mm/user-access.ts'
import {
  UFFDIO_REGISTER_MODE_MISSING,
  UFFDIO_REGISTER_MODE_WP,
  createUserfaultfd,
  uffdCopy,
  uffdMove,
  uffdRegister,
  uffdWriteprotect,
} from '../../src/mm/userfaultfd.ts'
import { result, testTask } from '../support/kernel.ts'
import { NONE, RO, RW, World } from './gup-fixture.ts'

import { P, RELEASES, bits, byte, held, isExclusive, take } from './device-exclusive-fixture.ts'

describe.each(RELEASES)('device-exclusive entries on %s', (release) => {
  const keeps = release === '6.18'

  test('REMOTE vector 66: fork maps the page again and shares it (R-DEX-9)', () => {
    const w = new World(release)
    const a = w.map(1, { touched: true })
    const [pfn] = take(w, a).pfns
    const child = w.fork()
    expect([w.pfn(a), w.pfn(a, child.space), w.ref(pfn!)]).toEqual([pfn, pfn, 2])
    for (const mm of [w.mm, child.space]) expect(bits(w, a, mm) & (PTE_PRESENT | PTE_WRITE)).toBe(PTE_PRESENT)
    expect(w.k.memory.frames.has(pfn!, PG_ANON_EXCLUSIVE)).toBe(false)
    w.write(a, 1, 5)
    expect([byte(w, a), byte(w, a, child)]).toEqual([5, 1])
    w.exit(child)
  })

  test('REMOTE vector 67: fork fails while the device holds the page, unless the child does not get it (R-DEX-9)', () => {
    const w = new World(release)
    const a = w.map(2, { touched: true })
    const letGo = held(w, take(w, a + P, 1, { keep: true }).pfns)
    expect(result(w.task.run(forkMm(w.k, w.mm, 'child')) as number)).toBe('-ENOMEM')
    expect(w.task.refusal).toMatchObject({ rule: 'R-FLT-66', cause: { rule: 'R-DEX-9', address: a + P } })
    expect(isExclusive(w, a + P)).toBe(true)
    w.task.run(madvise(w.k, w.mm, a + P, P, MADV_DONTFORK))
    w.exit(w.fork())
    letGo()
    expect([byte(w, a), byte(w, a + P)]).toEqual([1, 2])
  })

  test('REMOTE vector 69: what is zapped is gone, the device keeps the page until it lets go (R-DEX-10)', () => {
    const w = new World(release)
    const a = w.map(4, { touched: true })
    const { pfns } = take(w, a, 3, { keep: true })
    const letGo = held(w, pfns)
    expect(w.task.run(madvise(w.k, w.mm, a, P, MADV_DONTNEED))).toBe(0)
    expect(w.unmap(a + P, 1)).toBe(0)
    expect([w.pfn(a), w.pfn(a + P), w.mm.rssAnon]).toEqual([0, 0, 2])
    expect(pfns.map((pfn) => [w.ref(pfn), w.k.memory.frames.mapcount[pfn]])).toEqual([
      [1, 0],
      [1, 0],
      [2, keeps ? 1 : 0],
    ])
    expect(byte(w, a)).toBe(0)
    expect(audit(w.k)).toEqual([])
    const mm = w.mm
    w.exit(w.task)
    expect(mm.rssAnon).toBe(0)
    expect(audit(w.k)).toEqual([])
    letGo()
  })

  test('R-DEX-11 advice that looks at mapped pages passes the entry by', () => {
    const w = new World(release)
    const a = w.map(1, { touched: true })
    const [pfn] = take(w, a).pfns
    for (const advice of [MADV_FREE, MADV_COLD, MADV_PAGEOUT, MADV_WILLNEED]) {
      expect(w.task.run(madvise(w.k, w.mm, a, P, advice))).toBe(0)
      expect([isExclusive(w, a), w.pfn(a)]).toEqual([true, pfn])
    }
    expect(w.task.run(madvise(w.k, w.mm, a, P, MADV_POPULATE_READ))).toBe(0)
    expect([isExclusive(w, a), w.pfn(a), byte(w, a)]).toEqual([false, pfn, 1])
    take(w, a)
    expect(w.task.run(mlock2(w.k, w.mm, a, P, 0))).toBe(0)
    expect([isExclusive(w, a), w.pfn(a)]).toEqual([false, pfn])
    take(w, a)
    const vec = new Uint8Array(1)
    const answer = w.map(1)
    expect(w.task.run(mincore(w.k, w.mm, a, P, answer))).toBe(0)
    w.task.run(loadUser(w.k, w.mm, answer, vec))
    expect(vec[0]).toBe(1)
    if (!keeps) return
    expect(w.task.run(madvise(w.k, w.mm, a, P, MADV_GUARD_INSTALL)) < 0).toBe(true)
    const b = w.map(1, { touched: true })
    take(w, b)
    expect(w.task.run(madvise(w.k, w.mm, b, P, MADV_GUARD_INSTALL))).toBe(0)
    expect(isExclusive(w, b)).toBe(false)
  })

  test('R-DEX-11 MADV_COLLAPSE maps the pages again and collapses them', () => {
    const w = new World(release, { zones: { normal: 4096 } })
    const a = w.map(512, { touched: true })
    take(w, a)
    take(w, a + 5 * P)
    expect(w.task.run(madvise(w.k, w.mm, a, PMD_SIZE, MADV_COLLAPSE))).toBe(0)
    expect(w.mm.pageTable.pmd(pmdIndex(a))).toBeInstanceOf(HugePmd)
    expect([byte(w, a), byte(w, a + 5 * P)]).toEqual([1, 6])
  })

  test('R-DEX-11 MADV_COLLAPSE waits for the device, and gives up', () => {
    const w = new World(release, { zones: { normal: 4096 } })
    const a = w.map(512, { touched: true })
    const [pfn] = take(w, a, 1, { keep: true }).pfns
    const advised = w.k.scheduler.spawn('advice', w.task, madvise(w.k, w.mm, a, PMD_SIZE, MADV_COLLAPSE))
    w.k.scheduler.runUntilIdle()
    expect(advised.result).toBeUndefined()
    putExclusivePage(w.k, pfn!)
    w.k.scheduler.runUntilIdle()
    expect([result(advised.result as number), isExclusive(w, a)]).toEqual(['-EAGAIN', true])
    expect(w.task.run(madvise(w.k, w.mm, a, PMD_SIZE, MADV_COLLAPSE))).toBe(0)
  })

  test('R-DEX-11 locked memory stays locked', () => {
    const w = new World(release)
    const a = w.map(1, { touched: true })
    w.task.run(mlock2(w.k, w.mm, a, P, 0))
    const [pfn] = take(w, a).pfns
    const isLocked = (): boolean => w.k.memory.frames.has(pfn!, PG_MLOCKED)
    expect(isLocked()).toBe(keeps)
    expect([byte(w, a), isLocked()]).toEqual([1, true])
    take(w, a)
  })

  test('REMOTE vector 68: mprotect leaves the entry; the page comes back as the memory is protected then (R-DEX-11)', () => {
    const w = new World(release)
    const a = w.map(1, { touched: true })
    const [pfn] = take(w, a).pfns
    const protect = (prot: number): number => w.task.run(mprotect(w.k, w.mm, a, P, prot))
    expect([protect(RO), isExclusive(w, a)]).toEqual([0, true])
    expect(w.task.run(accessUser(w.k, w.mm, a, true))).toMatchObject({ signal: 'SIGSEGV', code: 2 })
    expect(isExclusive(w, a)).toBe(true)
    expect(result(take(w, a).result)).toBe('-EFAULT')
    expect([byte(w, a), w.pfn(a), bits(w, a) & PTE_WRITE]).toEqual([1, pfn, 0])
    expect(protect(RW)).toBe(0)
    const { pgfault } = w.k
    w.write(a, 1, 3)
    expect([w.k.pgfault, w.pfn(a)]).toEqual([pgfault, pfn])
    take(w, a)
    expect([protect(NONE), protect(RW), isExclusive(w, a)]).toEqual([0, 0, true])
    w.write(a, 1, 4)
    expect([w.k.pgfault - pgfault, w.pfn(a), byte(w, a)]).toEqual([1, pfn, 4])
  })

  test('R-DEX-11 mremap moves the entry', () => {
    const w = new World(release)
    const a = w.map(1, { touched: true })
    const to = w.map(1)
    const [pfn] = take(w, a).pfns
    const flags = MREMAP_MAYMOVE | MREMAP_FIXED
    expect(w.task.run(mremap(w.k, w.mm, a, P, P, flags, to))).toBe(to)
    expect([w.pfn(a), isExclusive(w, to), w.pfn(to)]).toEqual([0, true, pfn])
    expect([byte(w, to), isExclusive(w, to)]).toEqual([1, false])
    expect([take(w, to).pfns, byte(w, to)]).toEqual([[pfn], 1])
  })

  test('R-DEX-12 GUP maps the page again, also the fast path; a page may be pinned and exclusive', () => {
    const w = new World(release)
    const a = w.map(1, { touched: true })
    const [pfn] = take(w, a).pfns
    expect(w.getFastOnly(a)).toBe(0)
    const pin = w.pinFast(a, 1)
    expect([pin.result, pin.pfns, isExclusive(w, a)]).toEqual([1, [pfn], false])
    expect([take(w, a).pfns, isExclusive(w, a)]).toEqual([[pfn], true])
    // pinned, so fork copies it for the child
    const child = w.fork()
    expect([w.pfn(a), w.pfn(a, child.space) === pfn]).toEqual([pfn, false])
    w.exit(child)
    pin.unpin()
  })

  test('R-DEX-12 whoever wants a page that the device holds waits for its lock', () => {
    const w = new World(release)
    const a = w.map(2, { touched: true })
    const { pfns } = take(w, a, 2, { keep: true })
    const { scheduler } = w.k
    const pages = new PageArray(1)
    const reader = scheduler.spawn('reader', w.task, accessUser(w.k, w.mm, a, false))
    const pinner = scheduler.spawn('pinner', w.task, w.attemptLater(a + P, 1, 0, pages))
    scheduler.runUntilIdle()
    expect([reader.result, pinner.result, isExclusive(w, a)]).toEqual([undefined, undefined, true])
    for (const pfn of pfns) putExclusivePage(w.k, pfn)
    scheduler.runUntilIdle()
    expect([reader.result, pinner.result]).toEqual([{ ok: true }, 1])
    expect(pages.pfns[0]).toBe(pfns[1])
    w.unpinOne(pages.pfns[0]!)
  })

  test('R-DEX-12 a process that is killed while it waits goes at once', () => {
    const w = new World(release)
    const a = w.map(1, { touched: true })
    const letGo = held(w, take(w, a, 1, { keep: true }).pfns)
    const other = testTask(w.k, { mm: w.mm })
    const waiting = w.k.scheduler.spawn('reader', other, accessUser(w.k, w.mm, a, false))
    w.k.scheduler.runUntilIdle()
    other.fatalSignalPending = true
    waiting.signalled(true)
    w.k.scheduler.runUntilIdle()
    expect(waiting.result).toMatchObject({ ok: false, signal: 'SIGKILL' })
    expect([w.mm.mmapLock.locked, isExclusive(w, a)]).toEqual([false, true])
    letGo()
  })

  test('R-DEX-14 userfaultfd', () => {
    const w = new World(release)
    const a = w.map(4)
    w.write(a)
    const uffd = createUserfaultfd(w.k, { mm: w.mm })
    const modes = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP
    expect(w.task.run(uffdRegister(w.k, uffd, w.mm, a, 4 * P, modes))).toBe(0)
    const [pfn] = take(w, a).pfns
    expect(result(w.task.run(uffdCopy(w.k, uffd, w.mm, a, new Uint8Array(P))))).toBe('-EEXIST')
    expect(w.task.run(uffdWriteprotect(w.k, uffd, w.mm, a, P, 1))).toBe(0)
    expect([isExclusive(w, a), bits(w, a) & PTE_UFFD_WP]).toEqual([true, PTE_UFFD_WP])
    expect(byte(w, a)).toBe(1)
    expect([w.pfn(a), bits(w, a) & (PTE_UFFD_WP | PTE_WRITE)]).toEqual([pfn, PTE_UFFD_WP])
    expect(w.task.run(uffdWriteprotect(w.k, uffd, w.mm, a, P, 0))).toBe(0)
    take(w, a)
    w.task.run(uffdWriteprotect(w.k, uffd, w.mm, a, P, 1))
    w.task.run(uffdWriteprotect(w.k, uffd, w.mm, a, P, 0))
    expect([isExclusive(w, a), bits(w, a) & PTE_UFFD_WP]).toEqual([true, 0])
    w.write(a, 1, 4)
    expect([w.pfn(a), byte(w, a)]).toEqual([pfn, 4])
    take(w, a)
    expect([result(w.task.run(uffdMove(w.k, uffd, w.mm, a + 3 * P, a, P))), isExclusive(w, a)]).toEqual([
      '-EFAULT',
      true,
    ])
  })
})
