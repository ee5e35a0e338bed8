import { describe, expect, test } from 'vitest'
import { PAGE_SIZE, PMD_SIZE } from '../../src/base/units.ts'
import { hugetlbPool } from '../../src/mm/hugetlb.ts'
import { getDumpPage } from '../../src/mm/gup.ts'
import { MADV_DONTDUMP, MADV_HUGEPAGE } from '../../src/mm/mman.ts'
import { accessUser } from '../../src/mm/user-access.ts'
import {
  UFFDIO_REGISTER_MODE_MISSING,
  createUserfaultfd,
  uffdClose,
  uffdRegister,
} from '../../src/mm/userfaultfd.ts'
import {
  DEFAULT_FILTER,
  DUMP_HUGETLB_SHARED,
  dumpUserRange,
  dumpVmaSnapshot,
} from '../../src/task/coredump.ts'
import { AT, RELEASES, RemoteRig } from './remote-rig.ts'

describe.each(RELEASES)('core dump on %s', (release) => {
  /** `D` data, `z` zero bytes, `.` hole, for every page (or every `step`-th) of the mapping at an address */
  function dump(rig: RemoteRig, at: number, filter = DEFAULT_FILTER, step = 1): string {
    const { kernel: k, target } = rig
    const segment = target.run(dumpVmaSnapshot(k, filter)).find(({ start }) => start === at)!
    let seen = ''
    const done = target.run(
      dumpUserRange(k, segment.start, segment.size, {
        data(bytes) {
          seen += bytes.some((byte) => byte !== 0) ? 'D' : 'z'
          return true
        },
        hole() {
          seen += '.'
          return true
        },
      }),
    )
    expect(done).toBe(true)
    return [...seen].filter((_, i) => i % step === 0).join('')
  }
  const store = (rig: RemoteRig, at: number, ...pages: number[]): void => {
    for (const page of pages) rig.target.store(at + page * PAGE_SIZE, new Uint8Array([1]))
  }

  test('REMOTE vector 60, R-DMP-1: private anonymous memory, read or written', () => {
    const rig = new RemoteRig(release)
    const a = rig.map(16)
    store(rig, a, 0, 1, 8)
    rig.target.load(a + 4 * PAGE_SIZE, 1)
    expect(dump(rig, a)).toBe('DD......D.......')
  })

  test('R-DMP-6 nothing touched: nothing but holes, and nothing is made', () => {
    const rig = new RemoteRig(release)
    const a = rig.map(8)
    expect(dump(rig, a)).toBe('........')
    expect(rig.target.mm!.rssAnon).toBe(0)
  })

  test('REMOTE vector 60, R-DMP-3: PROT_NONE is dumped', () => {
    const rig = new RemoteRig(release)
    const a = rig.map(4)
    store(rig, a, 2)
    rig.target.mprotect(a, 4 * PAGE_SIZE, '')
    expect(dump(rig, a)).toBe('..D.')
  })

  test('REMOTE vector 60: untouched shared memory is made by the dump', () => {
    const rig = new RemoteRig(release)
    const a = rig.target.mmap({ length: 4 * PAGE_SIZE, shared: true })
    store(rig, a, 1)
    expect(dump(rig, a)).toBe('zDzz')
  })

  test('R-DMP-6 a private file mapping: as a whole once a page was copied', () => {
    const rig = new RemoteRig(release)
    const a = rig.mapFile('ext4', { pages: 4 })
    expect(dump(rig, a)).toBe('')
    store(rig, a, 1)
    expect(dump(rig, a)).toBe('zDzz')
  })

  test('R-DMP-5 what is left out as a whole', () => {
    const rig = new RemoteRig(release)
    const anon = rig.map(2, { touched: true })
    rig.target.madvise(anon, 2 * PAGE_SIZE, MADV_DONTDUMP)
    const file = rig.mapFile('ext4', { at: AT + PMD_SIZE, shared: true, touched: true })
    expect([dump(rig, anon), dump(rig, file)]).toEqual(['', ''])
    expect(dump(rig, file, 0xff)).toBe('D')
  })

  test('R-DMP-5 of an ELF file the first page', () => {
    const rig = new RemoteRig(release)
    const fd = rig.target.openFile('/bin/true', 3 * PAGE_SIZE)
    const writer = rig.target.mmap({ length: PAGE_SIZE, shared: true, fd })
    rig.target.store(writer, new Uint8Array([0x7f, 0x45, 0x4c, 0x46]))
    const a = rig.target.mmap({ length: 3 * PAGE_SIZE, prot: 'rx', fd, address: AT, fixed: true })
    expect(dump(rig, a)).toBe('D')
    expect(dump(rig, a, 0)).toBe('')
  })

  test('REMOTE vector 60, R-DMP-4: a page that a userfaultfd serves is a hole at once', () => {
    const rig = new RemoteRig(release)
    const { kernel: k, target } = rig
    const a = target.mmap({ length: 4 * PAGE_SIZE, shared: true })
    store(rig, a, 1)
    const uffd = createUserfaultfd(k)
    const range = [a, 4 * PAGE_SIZE, UFFDIO_REGISTER_MODE_MISSING] as const
    target.run(uffdRegister(k, uffd, target.mm!, ...range))
    expect(dump(rig, a)).toBe('.D..')
    // it is only the dump that does not wait
    const load = k.scheduler.spawn('load', target, accessUser(k, target.mm!, a, false))
    k.scheduler.runUntilIdle()
    expect(load.done).toBe(false)
    target.run(uffdClose(k, uffd))
    k.scheduler.run()
    expect(load.result).toMatchObject({ ok: true })
  })

  test(`${release === '6.1' || release === 'gup-v3' ? 'REMOTE vector 65, R-HTL-1, R-HTL-6:' : 'R-HTL-4, R-HTL-6'} an untouched huge page is a hole`, () => {
    const rig = new RemoteRig(release)
    hugetlbPool(rig.kernel, PMD_SIZE).resize(2)
    const a = rig.map(1024, { at: 0x40000000, hugetlb: true })
    rig.target.store(a + PMD_SIZE, new Uint8Array(PMD_SIZE).fill(1))
    expect(dump(rig, a, DEFAULT_FILTER, 512)).toBe('.D')
    expect(dump(rig, a, DUMP_HUGETLB_SHARED)).toBe('')
  })

  test('R-DMP-2 what is in no page of its own is a hole: zero pages, small and huge, a killed wait', () => {
    const rig = new RemoteRig(release)
    const { kernel: k, target } = rig
    const a = rig.map(512, { at: 0x40000000 })
    target.madvise(a, PMD_SIZE, MADV_HUGEPAGE)
    target.load(a, 1)
    expect(k.isHugeZero(k.memory.frames.head(rig.pfn(target, a)))).toBe(true)
    expect(dump(rig, a, DEFAULT_FILTER, 64)).toBe('........')
    const writer = target.mm!.mmapLock.tryWrite()!
    const waiting = k.scheduler.spawn('dump', target, getDumpPage(k, a))
    k.scheduler.runUntilIdle()
    target.fatalSignalPending = true
    waiting.signalled(true)
    k.scheduler.run()
    expect(waiting.result).toBe(0)
    target.fatalSignalPending = false
    writer.release()
  })

  test('R-DMP-7 the lock is taken for each page, and only a page is held in between', () => {
    const rig = new RemoteRig(release)
    const { kernel: k, target } = rig
    const a = rig.map(3, { touched: true })
    const held: (boolean | number)[] = []
    const sink = {
      data: () => {
        const pages = [0, 1, 2].map((i) => k.memory.frames.refcount[rig.pfn(target, a + i * PAGE_SIZE)]!)
        return held.push(target.mm!.mmapLock.locked, ...pages) > 0
      },
      hole: () => true,
    }
    expect(target.run(dumpUserRange(k, a, 3 * PAGE_SIZE, sink))).toBe(true)
    expect(held).toEqual([false, 2, 1, 1, false, 1, 2, 1, false, 1, 1, 2])
  })

  test('R-DMP-8 a full file or a killed task ends it', () => {
    const rig = new RemoteRig(release)
    const { kernel: k, target } = rig
    const a = rig.map(3, { touched: true })
    let pages = 0
    const sink = { data: () => ++pages < 2, hole: () => true }
    expect(target.run(dumpUserRange(k, a, 3 * PAGE_SIZE, sink))).toBe(false)
    expect(pages).toBe(2)
    target.fatalSignalPending = true
    expect(target.run(dumpUserRange(k, a, 3 * PAGE_SIZE, sink))).toBe(false)
    target.fatalSignalPending = false
    expect([pages, k.memory.frames.refcount[rig.pfn(target, a)]]).toEqual([2, 1])
  })
})
