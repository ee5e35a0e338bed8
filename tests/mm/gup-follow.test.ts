import { describe, expect, test } from 'vitest'
import type { ReleaseName } from '../../src/base/release.ts'
import { PAGE_SIZE } from '../../src/base/units.ts'
import { PG_DIRTY, PG_REFERENCED } from '../../src/memory/page-flags.ts'
import { driverKind } from '../../src/mm/file.ts'
import {
  FOLL_ANON,
  FOLL_FORCE,
  FOLL_GET,
  FOLL_HONOR_NUMA_FAULT,
  FOLL_HWPOISON,
  FOLL_INTERRUPTIBLE,
  FOLL_LONGTERM,
  FOLL_NOFAULT,
  FOLL_NOWAIT,
  FOLL_PIN,
  FOLL_SPLIT_PMD,
  FOLL_WRITE,
} from '../../src/mm/gup-flags.ts'
import {
  PageArray,
  getDumpPage,
  getUserPages,
  getUserPagesUnlocked,
  pinUserPagesUnlocked,
} from '../../src/mm/gup.ts'
import { MAP_PRIVATE, PROT_READ } from '../../src/mm/mman.ts'
import { mprotect } from '../../src/mm/mprotect.ts'
import {
  HugePmd,
  PTE_ACCESSED,
  PTE_MARKER_POISON,
  PTE_PRESENT,
  PTE_PROTNONE,
  PTE_SPECIAL,
  PTE_UFFD_WP,
  PTE_WRITE,
  pmdIndex,
  pteSlot,
} from '../../src/mm/page-table.ts'
import { unpinUserPages } from '../../src/mm/unpin.ts'
import {
  UFFDIO_REGISTER_MODE_MISSING,
  createUserfaultfd,
  uffdRegister,
  uffdUnregister,
} from '../../src/mm/userfaultfd.ts'
import { VMH_SHADOW_STACK, VM_IO, VM_PFNMAP } from '../../src/mm/vm-flags.ts'
import { result, testTask } from '../support/kernel.ts'
import { NONE, RO, WO, World } from './gup-fixture.ts'

const all: ReleaseName[] = ['gup-v3', '6.1', '6.6', '6.12', '6.18']
const W = FOLL_WRITE

function setBits(w: World, address: number, change: (bits: number) => number): void {
  const leaf = w.mm.pageTable.leafFor(address)
  const slot = pteSlot(address)
  leaf.bits[slot] = change(leaf.bits[slot]!)
}

describe.each(all)('flags on %s', (release) => {
  test('R-GUP-31 FOLL_NOFAULT takes what is there only', () => {
    const w = new World(release)
    const a = w.map(2)
    w.write(a)
    const got = w.pinFast(a, 2, FOLL_NOFAULT)
    expect(got.result).toBe(1)
    expect(w.task.refusal).toMatchObject({ rule: 'R-GUP-31', page: 1, address: a + PAGE_SIZE })
    got.unpin()
    w.fork()
    expect(result(w.pin(a, 1, FOLL_NOFAULT).result)).toBe('-EFAULT')
    expect(w.task.refusal!.why).toMatch(/shared/)
  })

  test('R-GUP-48, R-GUP-32 FOLL_NOWAIT stops at the page that would have to be waited for', () => {
    const w = new World(release)
    const a = w.map(2)
    w.write(a)
    const uffd = createUserfaultfd(w.k)
    w.task.run(uffdRegister(w.k, uffd, w.mm, a + PAGE_SIZE, PAGE_SIZE, UFFDIO_REGISTER_MODE_MISSING))
    const got = w.get(a, 2, FOLL_NOWAIT)
    expect(got.result).toBe(1)
    got.put()
    expect(w.get(a + PAGE_SIZE, 1, FOLL_NOWAIT).result).toBe(0)
    expect(uffd.read()).toBeNull()
    const pages = new PageArray(2)
    expect(w.task.run(getUserPagesUnlocked(w.k, a + PAGE_SIZE, 1, pages, FOLL_NOWAIT))).toBe(0)
    expect(w.mm.mmapLock.locked).toBe(false)
  })

  test('R-GUP-16.2 FOLL_ANON', () => {
    const w = new World(release)
    const file = w.ext4(2)
    const a = w.map(1, { file, flags: MAP_PRIVATE, touched: true })
    expect(result(w.get(a, 1, FOLL_ANON).result)).toBe('-EFAULT')
    const got = w.get(w.map(1), 1, FOLL_ANON)
    expect(got.result).toBe(1)
    got.put()
  })

  test.each([
    ['VM_IO', VM_IO],
    ['VM_PFNMAP', VM_PFNMAP],
  ])('R-GUP-16.1 %s', (_name, flag) => {
    const w = new World(release)
    const a = w.map(1, { file: w.file(driverKind('gpu'), 1) })
    const guard = w.mm.mmapLock.tryWrite()!
    guard.vmas.find(a)!.flags |= flag
    guard.release()
    expect(result(w.get(a, 1, FOLL_FORCE).result)).toBe('-EFAULT')
    expect(w.task.refusal).toMatchObject({ rule: 'R-GUP-16.1', vma: { backing: 'gpu' } })
  })

  test('R-GUP-16.3 long-term pin of DAX', () => {
    const w = new World(release)
    const file = w.ext4(1)
    file.mapping.dax = true
    const a = w.map(1, { file, flags: MAP_PRIVATE })
    expect(result(w.pin(a, 1, FOLL_LONGTERM).result)).toBe('-EOPNOTSUPP')
  })

  test('R-GUP-16.8 a shadow stack', () => {
    const w = new World(release)
    const a = w.map(1)
    const guard = w.mm.mmapLock.tryWrite()!
    guard.vmas.find(a)!.highFlags |= VMH_SHADOW_STACK
    guard.release()
    const got = w.get(a, 1, W)
    expect(result(got.result)).toBe(['gup-v3', '6.1'].includes(release) ? 1 : '-EFAULT')
    got.put()
  })

  test('R-GUP-25 a NUMA hinting entry', () => {
    const w = new World(release)
    const a = w.map(1, { touched: true })
    const modern = !['gup-v3', '6.1'].includes(release)
    const hint = (): void => setBits(w, a, (bits) => (bits | PTE_PROTNONE) & ~PTE_WRITE)
    const hinted = (): boolean => (w.mm.pageTable.bitsAt(a) & PTE_PROTNONE) !== 0
    hint()
    w.get(a, 1).put()
    expect(hinted()).toBe(modern)
    hint()
    w.get(a, 1, FOLL_FORCE).put()
    expect(hinted()).toBe(true)
    if (modern) {
      w.get(a, 1, FOLL_HONOR_NUMA_FAULT).put()
      expect(hinted()).toBe(false)
    }
    w.write(a)
  })

  test('R-GUP-25 a PROT_NONE mapping has no hints to honour', () => {
    const w = new World(release)
    const a = w.map(1, { touched: true })
    expect(w.task.run(mprotect(w.k, w.mm, a, PAGE_SIZE, NONE))).toBe(0)
    const honour = ['gup-v3', '6.1'].includes(release) ? 0 : FOLL_HONOR_NUMA_FAULT
    const got = w.get(a, 1, FOLL_FORCE | honour)
    expect(got.result).toBe(1)
    got.put()
  })

  test('R-GUP-22 a forced write goes through an exclusive read-only entry, not through a watched one', () => {
    const w = new World(release)
    const a = w.map(1, { touched: true })
    expect(w.task.run(mprotect(w.k, w.mm, a, PAGE_SIZE, PROT_READ))).toBe(0)
    const before = w.pfn(a)
    const faults = w.k.pgfault
    w.get(a, 1, FOLL_FORCE | W).put()
    expect([w.pfn(a), w.k.pgfault]).toEqual([before, faults])
    setBits(w, a, (bits) => bits | PTE_UFFD_WP)
    expect(result(w.getNoFault(a, FOLL_FORCE | W))).toBe('-EFAULT')
    setBits(w, a, (bits) => bits & ~PTE_UFFD_WP)
    w.fork()
    expect(result(w.getNoFault(a, FOLL_FORCE | W))).toBe('-EFAULT')
  })

  test('R-GUP-24 FOLL_TOUCH marks accessed, and dirty what is written through a clean entry', () => {
    const w = new World(release)
    const a = w.map(1, { touched: true })
    const { frames } = w.k.memory
    const pfn = w.pfn(a)
    frames.clear(pfn, PG_REFERENCED | PG_DIRTY)
    w.get(a, 1).put()
    expect([frames.has(pfn, PG_REFERENCED), frames.has(pfn, PG_DIRTY)]).toEqual([true, false])
    w.get(a, 1, W).put()
    expect(frames.has(pfn, PG_DIRTY)).toBe(false)
    setBits(w, a, () => PTE_PRESENT | PTE_WRITE | PTE_ACCESSED)
    w.get(a, 1, W).put()
    expect(frames.has(pfn, PG_DIRTY)).toBe(true)
  })

  test('R-GUP-30 mapped without a page structure', () => {
    const w = new World(release)
    const a = w.map(2)
    w.write(a)
    w.mm.pageTable.leafFor(a).set(pteSlot(a) + 1, 12345678, PTE_PRESENT | PTE_SPECIAL)
    const got = w.get(a, 2)
    expect(got.result).toBe(1)
    got.put()
    expect(result(w.get(a + PAGE_SIZE, 1).result)).toBe('-EEXIST')
    expect(w.task.refusal!.rule).toBe('R-GUP-30')
    expect(w.underLock((guard) => getUserPages(w.k, guard, a, 2, 0, null))).toBe(2)
    expect(w.mm.pageTable.bitsAt(a + PAGE_SIZE) & PTE_ACCESSED).not.toBe(0)
    expect(w.task.run(getDumpPage(w.k, a + PAGE_SIZE))).toBe(0)
    w.mm.pageTable.leafFor(a).set(pteSlot(a) + 1, 0, 0)
  })

  test('R-GUP-33 a poisoned page', () => {
    const w = new World(release)
    const a = w.map(1)
    w.mm.pageTable.leafFor(a).set(pteSlot(a), 0, PTE_MARKER_POISON)
    expect(result(w.get(a, 1).result)).toBe('-EFAULT')
    expect(result(w.get(a, 1, FOLL_HWPOISON).result)).toBe('-EHWPOISON')
    w.mm.pageTable.leafFor(a).set(pteSlot(a), 0, 0)
  })

  test('R-GUP-33 no memory for the page', () => {
    const w = new World(release, { zones: { normal: 64 } })
    const a = w.map(100)
    const pin = w.pinFast(a, 100, W)
    expect(pin.result).toBeGreaterThan(30)
    expect(pin.result).toBeLessThan(65)
    expect(w.task.refusal).toMatchObject({ rule: 'R-GUP-33', errno: 12, page: pin.result })
    expect(result(w.pin(a + pin.result * PAGE_SIZE, 1, W).result)).toBe('-ENOMEM')
    pin.unpin()
  })

  test('R-GUP-27 FOLL_SPLIT_PMD goes on page by page', () => {
    const w = new World(release)
    const a = w.mapThp()
    w.write(a)
    const head = w.pfn(a)
    const got = w.get(a + 3 * PAGE_SIZE, 1, FOLL_SPLIT_PMD)
    expect(got.pfns).toEqual([head + 3])
    expect(w.mm.pageTable.pmd(pmdIndex(a)) instanceof HugePmd).toBe(false)
    got.put()
  })

  test('R-GUP-27 a shared THP is unshared before a read pin', () => {
    const w = new World(release)
    const a = w.mapThp()
    w.write(a)
    const before = w.pfn(a)
    const child = w.fork()
    const pin = w.pin(a + PAGE_SIZE, 1)
    expect(pin.pfns[0]).toBe(w.pfn(a + PAGE_SIZE))
    expect(pin.pfns[0]).not.toBe(before + 1)
    expect(w.pfn(a + PAGE_SIZE, child.space)).toBe(before + 1)
    pin.unpin()
  })

  test('R-GUP-26 a file page in a private mapping', () => {
    const w = new World(release)
    const file = w.ext4(1)
    const a = w.map(1, { file, flags: MAP_PRIVATE })
    const short = w.pin(a, 1)
    expect(short.pfns).toEqual([file.mapping.pages.get(0)])
    short.unpin()
    const long = w.pin(a, 1, FOLL_LONGTERM)
    expect(long.pfns[0] === file.mapping.pages.get(0)).toBe(release === '6.1')
    long.unpin()
  })

  test('R-GUP-26 a page of a shared mapping has nothing to unshare', () => {
    const w = new World(release)
    const file = w.memfd(1)
    const a = w.map(1, { file, prot: RO })
    const pin = w.pin(a, 1, FOLL_LONGTERM)
    expect(pin.pfns).toEqual([file.mapping.pages.get(0)])
    pin.unpin()
  })

  test('R-GUP-58 a page that belongs to nobody', () => {
    const w = new World(release)
    const a = w.map(1, { file: w.file(driverKind('gpu'), 1) })
    const pfn = w.k.memory.allocFolio(0, { movable: false })
    w.k.memory.frames.mapcount[pfn] = 1
    w.mm.rssFile++
    w.mm.pageTable.leafFor(a).set(pteSlot(a), pfn, PTE_PRESENT | PTE_WRITE)
    const got = w.getFast(a, 1, FOLL_NOFAULT)
    expect(got.pfns).toEqual([pfn])
    const marked = w.k.memory.frames.has(pfn, PG_REFERENCED)
    got.put()
    const only = w.getFastOnly(a)
    expect(only).toBe(['6.12', '6.18'].includes(release) ? 0 : 1)
    expect(marked).toBe(true)
  })

  test('R-GUP-32, R-GUP-44 the retry says that it is one', () => {
    const w = new World(release)
    const a = w.map(1)
    const uffd = createUserfaultfd(w.k)
    w.task.run(uffdRegister(w.k, uffd, w.mm, a, PAGE_SIZE, UFFDIO_REGISTER_MODE_MISSING))
    const pages = new PageArray(1)
    const task = w.k.scheduler.spawn('pinner', w.task, pinUserPagesUnlocked(w.k, a, 1, pages, W))
    w.k.scheduler.runUntilIdle()
    const other = testTask(w.k, { comm: 'other', mm: w.mm })
    const major = w.k.pgmajfault
    other.run(uffdUnregister(w.k, uffd, w.mm, a, PAGE_SIZE))
    w.k.scheduler.run()
    // a fault that is a second try counts as major (R-FLT-22)
    expect([task.result, w.k.pgmajfault - major]).toEqual([1, 1])
    unpinUserPages(w.k, pages, 1)
  })

  test('R-GUP-14, R-GAT-1, R-GAT-2 the vsyscall page', () => {
    const w = new World(release)
    const vsyscall = 0xffffffffff600000
    expect([result(w.get(vsyscall, 1).result), result(w.get(vsyscall, 1, W).result)]).toEqual([
      '-EFAULT',
      '-EFAULT',
    ])
    expect(w.task.refusal!.rule).toBe('R-GUP-14')
  })

  test('R-GUP-21 permissions of the VMA are the slow path’s business', () => {
    const w = new World(release)
    const a = w.map(1, { prot: WO })
    expect(result(w.getFast(a, 1).result)).toBe('-EFAULT')
    w.write(a)
    const got = w.getFast(a, 1)
    expect(got.result).toBe(1)
    got.put()
    expect(result(w.getFast(w.map(1, { prot: RO }), 1, W).result)).toBe('-EFAULT')
  })
})

test.each(['gup-v3', '6.6', '6.12', '6.18'] as const)(
  'R-GUP-32, R-GUP-44 FOLL_INTERRUPTIBLE stops for any signal on %s',
  (release) => {
    const w = new World(release)
    const a = w.map(2)
    w.write(a)
    const uffd = createUserfaultfd(w.k)
    w.task.run(uffdRegister(w.k, uffd, w.mm, a + PAGE_SIZE, PAGE_SIZE, UFFDIO_REGISTER_MODE_MISSING))
    const pages = new PageArray(2)
    const body = pinUserPagesUnlocked(w.k, a, 2, pages, W | FOLL_INTERRUPTIBLE)
    const task = w.k.scheduler.spawn('pinner', w.task, body)
    w.k.scheduler.runUntilIdle()
    w.task.signalPending = true
    task.signalled(false)
    w.k.scheduler.run()
    w.task.signalPending = false
    expect(task.result).toBe(1)
    expect(w.task.refusal).toMatchObject({ rule: 'R-GUP-44', errno: 4, page: 1 })
    unpinUserPages(w.k, pages, 1)
  },
)

test('R-GUP-24 on 6.1 FOLL_PIN of the caller with FOLL_GET reaches the walk', () => {
  const w = new World('6.1')
  const a = w.map(1, { touched: true })
  const pages = new PageArray(1)
  expect(result(w.task.run(getUserPagesUnlocked(w.k, a, 1, pages, FOLL_GET | FOLL_PIN)))).toBe('-EINVAL')
  expect(w.k.warnings).toHaveLength(1)
})
