import { describe, expect, it } from 'vitest'
import { PAGE_SIZE, PMD_SIZE, PUD_SIZE } from '../../src/base/units.ts'
import type { ReleaseName } from '../../src/base/release.ts'
import { PG_HUGETLB } from '../../src/memory/page-flags.ts'
import type { OpenFile } from '../../src/mm/file.ts'
import {
  type HugetlbPool,
  HugetlbSubpool,
  hugetlbFileSetup,
  hugetlbPool,
  punchHugetlb,
  truncateHugetlb,
} from '../../src/mm/hugetlb.ts'
import type { Kernel } from '../../src/mm/kernel.ts'
import { madvise } from '../../src/mm/madvise.ts'
import {
  MADV_DONTNEED,
  MADV_FREE,
  MADV_POPULATE_WRITE,
  MAP_ANONYMOUS,
  MAP_HUGETLB,
  MAP_NORESERVE,
  MAP_PRIVATE,
  MAP_SHARED,
  MREMAP_FIXED,
  MREMAP_MAYMOVE,
  PROT_EXEC,
  PROT_NONE,
  PROT_READ,
} from '../../src/mm/mman.ts'
import { mincore } from '../../src/mm/mincore.ts'
import { mprotect } from '../../src/mm/mprotect.ts'
import { mremap } from '../../src/mm/mremap.ts'
import { munmap } from '../../src/mm/munmap.ts'
import { HugePmd, PTE_MARKER_UFFD_WP, PTE_UFFD_WP, pmdIndex } from '../../src/mm/page-table.ts'
import { loadUser, storeUser } from '../../src/mm/user-access.ts'
import {
  createUserfaultfd,
  uffdCopy,
  uffdRegister,
  uffdUnregister,
  uffdWriteprotect,
} from '../../src/mm/userfaultfd.ts'
import {
  UFFDIO_REGISTER_MODE_MISSING,
  UFFDIO_REGISTER_MODE_WP,
  UFFDIO_WRITEPROTECT_MODE_WP,
} from '../../src/mm/userfaultfd-flags.ts'
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
  pfnAt,
  pin,
  smallKernel,
  touch,
  tryFork,
} from '../support/huge.ts'
import { result, testTask, type TestTask } from '../support/kernel.ts'

const PRIVATE = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB
const SHARED = MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB
const hugePage = (n: number): number => BASE + n * PMD_SIZE

function lab(release: ReleaseName, pages: number): { app: TestTask; k: Kernel; pool: HugetlbPool } {
  const k = smallKernel(release)
  const pool = hugetlbPool(k)
  expect(pool.resize(pages)).toBe(pages)
  return { app: testTask(k), k, pool }
}

/** free and reserved pages of the pool, as /proc/meminfo shows them. */
function meminfo(pool: HugetlbPool): [free: number, reserved: number] {
  return [pool.free, pool.reserved]
}

function memfd(k: Kernel, pages: number, subpool?: HugetlbSubpool): OpenFile {
  return hugetlbFileSetup(k, {
    size: pages * PMD_SIZE,
    pageSize: PMD_SIZE,
    name: '/memfd:huge',
    noreserve: true,
    ...(subpool === undefined ? {} : { subpool }),
  })
}

function unmap(task: TestTask, address: number, length: number): number | string {
  return result(task.run(munmap(task.kernel, task.space, address, length)))
}

function advise(task: TestTask, address: number, length: number, advice: number): number | string {
  return result(task.run(madvise(task.kernel, task.space, address, length, advice)))
}

describe('the pool', () => {
  it('R-HUGE-40 pages come from the buddy allocator and go back to it', () => {
    const { k, pool } = lab('6.18', 4)
    const free = k.memory.buddy.free[0]!
    pool.resize(1)
    expect([pool.total, pool.free, k.memory.buddy.free[0]]).toEqual([1, 1, free + 3 * 512])
    expect(pool.resize(1000)).toBeLessThan(32)
    let marked = 0
    for (let pfn = 1; pfn < k.memory.frames.count; pfn++) if (k.memory.frames.has(pfn, PG_HUGETLB)) marked++
    expect(marked).toBe(pool.free * 512)
  })

  it('R-HUGE-40 overcommit: surplus pages are made on demand and leave when they are free', () => {
    const { app, pool } = lab('6.18', 1)
    pool.overcommit = 2
    expect(map(app, BASE, 4 * PMD_SIZE, { flags: PRIVATE })).toBe('-ENOMEM')
    expect(map(app, BASE, 3 * PMD_SIZE, { flags: PRIVATE })).toBe(BASE)
    expect([pool.total, pool.surplus, ...meminfo(pool)]).toEqual([3, 2, 3, 3])
    for (let i = 0; i < 3; i++) expect(touch(app, hugePage(i), true)).toBe('ok')
    expect(meminfo(pool)).toEqual([0, 0])
    unmap(app, BASE, 3 * PMD_SIZE)
    expect([pool.total, pool.surplus, ...meminfo(pool)]).toEqual([1, 0, 1, 0])
  })

  it('R-HUGE-51 a surplus page that MADV_DONTNEED frees leaves the pool and is not promised again', () => {
    const { app, pool } = lab('6.18', 0)
    pool.overcommit = 2
    map(app, BASE, 2 * PMD_SIZE, { flags: PRIVATE })
    const seen = [[pool.total, ...meminfo(pool)]]
    for (const step of ['touch', 'dontneed', 'touch']) {
      if (step === 'touch') touch(app, BASE, true)
      else advise(app, BASE, PMD_SIZE, MADV_DONTNEED)
      seen.push([pool.total, ...meminfo(pool)])
    }
    unmap(app, BASE, 2 * PMD_SIZE)
    seen.push([pool.total, ...meminfo(pool)])
    expect(seen).toEqual([
      [2, 2, 2],
      [2, 1, 1],
      [1, 1, 1],
      [2, 1, 1],
      [0, 0, 0],
    ])
  })

  it('R-HUGE-40 shrinking below what is in use leaves surplus pages', () => {
    const { app, pool } = lab('6.18', 2)
    map(app, BASE, 2 * PMD_SIZE, { flags: PRIVATE })
    touch(app, BASE, true)
    expect(pool.resize(0)).toBe(0)
    expect([pool.total, pool.surplus, pool.free]).toEqual([2, 2, 1])
    unmap(app, BASE, 2 * PMD_SIZE)
    expect([pool.total, pool.surplus, pool.free]).toEqual([0, 0, 0])
  })

  it('R-HUGE-58 there are pages of 2 MiB and of 1 GiB, and nothing else', () => {
    expect(() => hugetlbPool(smallKernel('6.18'), 64 * 1024)).toThrow('Unmodelled')
    expect(hugetlbPool(smallKernel('6.18'), 2 ** 30).resize(1)).toBe(0)
  })

  it('R-HUGE-58 SysV: shmget reserves the pages of the file', () => {
    const { k, pool } = lab('6.18', 2)
    const make = (pages: number): OpenFile | number =>
      hugetlbFileSetup(k, { size: pages * PMD_SIZE, pageSize: PMD_SIZE, name: '/SYSV0', noreserve: false })
    expect(make(3)).toBe(-12)
    const file = make(2) as OpenFile
    expect(meminfo(pool)).toEqual([2, 2])
    file.put()
    expect(meminfo(pool)).toEqual([2, 0])
  })
})

describe.each(RELEASES)('hugetlb, %s', (release) => {
  const restores = release === '6.12' || release === '6.18'

  it('R-HUGE-41 mmap reserves, the first touch of a page turns a promise into a page', () => {
    const { app, k, pool } = lab(release, 8)
    map(app, BASE, 4 * PMD_SIZE, { flags: PRIVATE })
    expect(meminfo(pool)).toEqual([8, 4])
    touch(app, hugePage(1), false)
    expect([...meminfo(pool), app.space.hugetlbPages, app.space.rss]).toEqual([7, 3, 512, 0])
    map(app, hugePage(8), 3 * PMD_SIZE, { flags: SHARED })
    expect(meminfo(pool)).toEqual([7, 6])
    touch(app, hugePage(9), true)
    expect(meminfo(pool)).toEqual([6, 5])
    unmap(app, hugePage(8), 3 * PMD_SIZE)
    unmap(app, BASE, 4 * PMD_SIZE)
    expect([...meminfo(pool), k.mappings.size]).toEqual([8, 0, 0])
  })

  it('R-AS-58, R-HUGE-41 a length of one byte is one huge page; NORESERVE reserves nothing, PROT_NONE does', () => {
    const { app, pool } = lab(release, 4)
    map(app, BASE, 1, { flags: PRIVATE, prot: PROT_NONE })
    expect([meminfo(pool), app.space.totalVm]).toEqual([[4, 1], 512])
    map(app, hugePage(8), 100 * PMD_SIZE, { flags: PRIVATE | MAP_NORESERVE })
    expect(meminfo(pool)).toEqual([4, 1])
  })

  it('R-AS-57 shared mappings of one file reserve its pages once', () => {
    const { app, k, pool } = lab(release, 4)
    const file = memfd(k, 3)
    map(app, BASE, 2 * PMD_SIZE, { file, flags: MAP_SHARED })
    map(app, hugePage(8), 3 * PMD_SIZE, { file, flags: MAP_SHARED })
    expect(meminfo(pool)).toEqual([4, 3])
    unmap(app, hugePage(8), 3 * PMD_SIZE)
    expect(meminfo(pool)).toEqual([4, 3])
    expect(truncateHugetlb(k, file.mapping, PMD_SIZE)).toBe(0)
    expect(meminfo(pool)).toEqual([4, 1])
    expect(result(truncateHugetlb(k, file.mapping, PAGE_SIZE))).toBe('-EINVAL')
  })

  it('R-HUGE-41 ftruncate takes back what is promised beyond the end, also where the file grows', () => {
    const { app, k, pool } = lab(release, 4)
    const file = memfd(k, 0)
    map(app, BASE, 3 * PMD_SIZE, { file, flags: MAP_SHARED, prot: PROT_NONE })
    expect([meminfo(pool), file.mapping.size]).toEqual([[4, 3], 0])
    expect(truncateHugetlb(k, file.mapping, PMD_SIZE)).toBe(0)
    expect(meminfo(pool)).toEqual([4, 1])
    expect(truncateHugetlb(k, file.mapping, 0)).toBe(0)
    expect(meminfo(pool)).toEqual([4, 0])
  })

  it('R-HUGE-51 truncation drops marks of userfaultfd, also where the file grows; a hole leaves them', () => {
    const { app, k } = lab(release, 4)
    const file = memfd(k, 4)
    map(app, BASE, 4 * PMD_SIZE, { file, flags: MAP_SHARED })
    const uffd = createUserfaultfd(k, { mm: app.space })
    const range = [BASE, 4 * PMD_SIZE] as const
    app.run(uffdRegister(k, uffd, app.space, ...range, UFFDIO_REGISTER_MODE_WP))
    const mark = (): number =>
      app.run(uffdWriteprotect(k, uffd, app.space, ...range, UFFDIO_WRITEPROTECT_MODE_WP))
    const marked = (): boolean[] =>
      [0, 1, 2, 3].map((i) => {
        const entry = app.space.pageTable.pmd(pmdIndex(hugePage(i)))
        return entry instanceof HugePmd && entry.bits === PTE_MARKER_UFFD_WP
      })
    mark()
    expect(marked()).toEqual([true, true, true, true])
    punchHugetlb(k, file.mapping, PMD_SIZE, PMD_SIZE)
    expect(marked()).toEqual([true, true, true, true])
    truncateHugetlb(k, file.mapping, 2 * PMD_SIZE)
    expect(marked()).toEqual([true, true, false, false])
    mark()
    truncateHugetlb(k, file.mapping, 3 * PMD_SIZE)
    expect(marked()).toEqual([true, true, true, false])
    // MADV_DONTNEED leaves them also where nobody watches for writes any more
    app.run(uffdRegister(k, uffd, app.space, ...range, UFFDIO_REGISTER_MODE_MISSING))
    advise(app, BASE, 3 * PMD_SIZE, MADV_DONTNEED)
    expect(marked()).toEqual([true, true, true, false])
  })

  it('R-AS-111 mincore: mapped huge pages count; the cache is asked where the table of entries is missing', () => {
    const { app, k } = lab(release, 4)
    const file = memfd(k, 2)
    const [beside, apart] = [BASE + 4 * PMD_SIZE, BASE + 8 * PUD_SIZE]
    const vec = BASE + 2 * PUD_SIZE
    map(app, vec, PAGE_SIZE)
    for (const at of [BASE, beside, apart]) map(app, at, 2 * PMD_SIZE, { file, flags: MAP_SHARED })
    touch(app, hugePage(1), false)
    const seen = (at: number): number[] => {
      expect(result(app.run(mincore(k, app.space, at, 2 * PMD_SIZE, vec)))).toBe(0)
      const bytes = new Uint8Array(1024)
      k.memory.contents.read(pfnAt(app, vec), 0, bytes)
      return [...bytes.keys()].filter((i) => bytes[i] === 1)
    }
    const second = [...new Array(512).keys()].map((i) => 512 + i)
    expect(seen(BASE)).toEqual(second)
    expect(seen(beside)).toEqual([])
    // before 6.7 the cache is asked for huge pages 0, 1, 2, …, and then from 1 on
    expect(seen(apart)).toEqual(release === '6.12' || release === '6.18' ? second : [1, 512])
    map(app, apart + 4 * PMD_SIZE, PAGE_SIZE)
    touch(app, apart + 4 * PMD_SIZE, true)
    expect(seen(apart)).toEqual([])
  })

  it('R-HUGE-50 fork drops write protection by userfaultfd where nobody watches the child, on 6.1 of absent pages only', () => {
    const { app, k } = lab(release, 4)
    map(app, BASE, 2 * PMD_SIZE, { file: memfd(k, 2), flags: MAP_PRIVATE })
    const uffd = createUserfaultfd(k, { mm: app.space })
    const range = [BASE, 2 * PMD_SIZE] as const
    touch(app, BASE, false)
    app.run(uffdRegister(k, uffd, app.space, ...range, UFFDIO_REGISTER_MODE_WP))
    app.run(uffdWriteprotect(k, uffd, app.space, ...range, UFFDIO_WRITEPROTECT_MODE_WP))
    const child = fork(app)
    const bits = [0, 1].map((i) => {
      const entry = child.space.pageTable.pmd(pmdIndex(hugePage(i)))
      return entry instanceof HugePmd && (entry.bits & (PTE_UFFD_WP | PTE_MARKER_UFFD_WP)) !== 0
    })
    expect(bits).toEqual([release !== '6.12' && release !== '6.18', false])
    exit(child)
  })

  it('R-HUGE-40 a mount with a size is a limit of its own', () => {
    const { app, k, pool } = lab(release, 4)
    const file = memfd(k, 4, new HugetlbSubpool(2))
    expect(map(app, BASE, 3 * PMD_SIZE, { file, flags: MAP_SHARED })).toBe('-ENOMEM')
    expect(app.refusal?.why).toBe('the mount of the huge page file has no room for this many huge pages')
    expect(map(app, BASE, 3 * PMD_SIZE, { file, flags: MAP_SHARED | MAP_NORESERVE })).toBe(BASE)
    expect([0, 1, 2].map((i) => touch(app, hugePage(i), true))).toEqual(['ok', 'ok', 'SIGBUS(2)'])
    punchHugetlb(k, file.mapping, 0, PMD_SIZE)
    expect(touch(app, hugePage(2), true)).toBe('ok')
    expect(meminfo(pool)).toEqual([2, 0])
  })

  it('R-HUGE-46 beyond the end of the file: SIGBUS', () => {
    const { app, k } = lab(release, 4)
    const file = memfd(k, 2)
    map(app, BASE, 2 * PMD_SIZE, { file, flags: MAP_SHARED })
    truncateHugetlb(k, file.mapping, PMD_SIZE)
    expect([touch(app, BASE, true), touch(app, hugePage(1), true)]).toEqual(['ok', 'SIGBUS(2)'])
  })

  it('R-HUGE-4 a page of a file: references of the cache, one mapping; the second mapping is one more', () => {
    const { app, k } = lab(release, 4)
    const file = memfd(k, 1)
    map(app, BASE, PMD_SIZE, { file, flags: MAP_SHARED })
    touch(app, BASE, false)
    const { pfn, write } = entryAt(app, BASE)!
    expect(write).toBe(true)
    const cache = restores ? 512 : 1
    expect(counts(k, pfn)).toEqual({ ref: cache + 1, entire: 1, total: 1, pin: 0 })
    map(app, hugePage(4), PMD_SIZE, { file, flags: MAP_SHARED })
    touch(app, hugePage(4), false)
    expect(counts(k, pfn)).toEqual({ ref: cache + 2, entire: 2, total: 2, pin: 0 })
  })

  it('R-HUGE-47 a private mapping of a file copies the page it shows when it is written', () => {
    const { app, k, pool } = lab(release, 4)
    const file = memfd(k, 1)
    map(app, BASE, PMD_SIZE, { file, flags: MAP_SHARED })
    app.run(storeUser(k, app.space, BASE + 5 * PAGE_SIZE, Uint8Array.of(7)))
    map(app, hugePage(4), PMD_SIZE, { file, flags: MAP_PRIVATE })
    touch(app, hugePage(4), false)
    expect(entryAt(app, hugePage(4))).toEqual({ pfn: pfnAt(app, BASE), write: false, huge: true })
    touch(app, hugePage(4), true)
    expect(pfnAt(app, hugePage(4))).not.toBe(pfnAt(app, BASE))
    const byte = new Uint8Array(1)
    app.run(loadUser(k, app.space, hugePage(4) + 5 * PAGE_SIZE, byte))
    expect([byte[0], ...meminfo(pool)]).toEqual([7, 2, 0])
  })

  it('HUGE vector H24, R-HUGE-3: private: a read allocates an exclusive page, a write keeps it', () => {
    const { app, k } = lab(release, 4)
    map(app, BASE, PMD_SIZE, { flags: PRIVATE })
    touch(app, BASE, false)
    const { pfn, write } = entryAt(app, BASE)!
    expect([write, isExclusive(k, pfn)]).toEqual([false, true])
    expect(counts(k, pfn)).toEqual({ ref: 1, entire: 1, total: 1, pin: 0 })
    touch(app, BASE + PAGE_SIZE, true)
    expect(entryAt(app, BASE)).toEqual({ pfn, write: true, huge: true })
  })

  it('HUGE vector H25: private, fork, the parent writes, the pool has room', () => {
    const { app, k, pool } = lab(release, 4)
    map(app, BASE, PMD_SIZE, { flags: PRIVATE })
    touch(app, BASE, true)
    const old = pfnAt(app, BASE)
    const child = fork(app)
    expect(counts(k, old)).toEqual({ ref: 2, entire: 2, total: 2, pin: 0 })
    expect([isExclusive(k, old), entryAt(app, BASE)!.write, child.space.hugetlbPages]).toEqual([
      false,
      false,
      512,
    ])
    touch(app, BASE, true)
    expect(pfnAt(app, BASE)).not.toBe(old)
    expect(entryAt(child, BASE)).toEqual({ pfn: old, write: false, huge: true })
    exit(child)
    exit(app)
    expect(meminfo(pool)).toEqual([4, 0])
  })

  it('R-AS-152, R-HUGE-42 a child has no reservation: its pages come from what is left over', () => {
    const { app, pool } = lab(release, 4)
    map(app, BASE, 4 * PMD_SIZE, { flags: PRIVATE })
    const child = fork(app)
    expect([touch(child, BASE, true), ...meminfo(pool)]).toEqual(['SIGBUS(2)', 4, 4])
    exit(child)
    expect(meminfo(pool)).toEqual([4, 4])
    expect(touch(app, hugePage(3), true)).toBe('ok')
  })

  it.each([false, true])('HUGE vector H26: the child exits first, a GET reference held: %s', (isHeld) => {
    const { app } = lab(release, 4)
    map(app, BASE, PMD_SIZE, { flags: PRIVATE })
    touch(app, BASE, true)
    const old = pfnAt(app, BASE)
    const child = fork(app)
    exit(child)
    if (isHeld) get(app, BASE)
    touch(app, BASE, true)
    expect(entryAt(app, BASE)).toEqual({ pfn: old, write: true, huge: true })
  })

  it('HUGE vector H27: one page, private written, fork, the parent writes: the child loses it', () => {
    const { app, k } = lab(release, 4)
    const file = memfd(k, 1, new HugetlbSubpool(1))
    map(app, BASE, PMD_SIZE, { file, flags: MAP_PRIVATE })
    touch(app, BASE, true)
    const old = pfnAt(app, BASE)
    const child = fork(app)
    touch(app, BASE, true)
    expect(entryAt(app, BASE)).toEqual({ pfn: old, write: true, huge: true })
    expect(entryAt(child, BASE)).toBeNull()
    expect(touch(child, BASE, false)).toBe('SIGBUS(2)')
    expect([counts(k, old).ref, isExclusive(k, old)]).toEqual([1, true])
  })

  it('R-HUGE-48 who only maps the place, and not the page that is taken, is not marked', () => {
    const { app } = lab(release, 2)
    map(app, BASE, 2 * PMD_SIZE, { flags: PRIVATE })
    touch(app, hugePage(1), true)
    const first = fork(app)
    touch(app, BASE, true)
    const second = fork(app)
    touch(app, BASE, true)
    expect(touch(second, BASE, false)).toBe('SIGBUS(2)')
    exit(app)
    exit(second)
    expect(touch(first, BASE, true)).toBe('ok')
    exit(first)
  })

  it('R-HUGE-48 of two mappings of the place the first in the file is marked, whichever shows the page', () => {
    const { app, k } = lab(release, 4)
    const file = memfd(k, 3)
    const [low, high] = [hugePage(4), hugePage(8)]
    map(app, high, PMD_SIZE, { file, flags: MAP_PRIVATE, offset: PMD_SIZE })
    map(app, low, 2 * PMD_SIZE, { file, flags: MAP_PRIVATE })
    touch(app, high, true)
    const child = fork(app)
    expect(touch(child, low, true)).toBe('ok')
    touch(app, high, true)
    expect(entryAt(child, high)).toBeNull()
    unmap(app, low, 2 * PMD_SIZE)
    expect([touch(child, low + PMD_SIZE, true), touch(child, high, true)]).toEqual(['SIGBUS(2)', 'ok'])
    exit(child)
  })

  it('HUGE vector H28: one page, fork, the child writes: SIGBUS, it still reads; its pin is refused', () => {
    const { app, k } = lab(release, 4)
    const file = memfd(k, 1, new HugetlbSubpool(1))
    map(app, BASE, PMD_SIZE, { file, flags: MAP_PRIVATE })
    touch(app, BASE, true)
    const child = fork(app)
    expect(touch(child, BASE, true)).toBe('SIGBUS(2)')
    expect(touch(child, BASE, false)).toBe('ok')
    expect(pfnAt(child, BASE)).toBe(pfnAt(app, BASE))
    expect(pin(child, BASE).result).toBe('-EFAULT')
  })

  it('HUGE vector H29, R-GUP-73: a pinned private page is copied at fork; no page left: ENOMEM', () => {
    const { app, k, pool } = lab(release, 2)
    map(app, BASE, PMD_SIZE, { flags: PRIVATE })
    touch(app, BASE, true)
    app.run(storeUser(k, app.space, BASE + 9, Uint8Array.of(42)))
    const before = entryAt(app, BASE)
    pin(app, BASE)
    const child = fork(app)
    expect(entryAt(app, BASE)).toEqual(before)
    expect(entryAt(child, BASE)).toMatchObject({ write: true, huge: true })
    expect(pfnAt(child, BASE)).not.toBe(before!.pfn)
    const byte = new Uint8Array(1)
    child.run(loadUser(k, child.space, BASE + 9, byte))
    expect(byte[0]).toBe(42)
    expect([tryFork(app), pool.free]).toEqual(['-ENOMEM', 0])
  })

  it('HUGE vector H30, R-HUGE-55, R-HTL-7: NORESERVE, pool exhausted: touch SIGBUS, pin and populate EFAULT', () => {
    const { app } = lab(release, 0)
    map(app, BASE, PMD_SIZE, { flags: PRIVATE | MAP_NORESERVE })
    expect(touch(app, BASE, true)).toBe('SIGBUS(2)')
    expect(pin(app, BASE).result).toBe('-EFAULT')
    expect(advise(app, BASE, PMD_SIZE, MADV_POPULATE_WRITE)).toBe('-EFAULT')
  })

  it('HUGE vector H31: a private mapping larger than the pool: mmap ENOMEM', () => {
    const { app, pool } = lab(release, 2)
    expect(map(app, BASE, 3 * PMD_SIZE, { flags: PRIVATE })).toBe('-ENOMEM')
    expect(app.refusal).toMatchObject({ rule: 'R-HUGE-41', wanted: 3, got: 2 })
    expect(meminfo(pool)).toEqual([2, 0])
  })

  it('HUGE vector H32: hugetlb memfd pinned, punched, touched: another page, the old one only pinned', () => {
    const { app, k, pool } = lab(release, 4)
    const file = memfd(k, 1)
    map(app, BASE, PMD_SIZE, { file, flags: MAP_SHARED })
    touch(app, BASE, true)
    const old = pfnAt(app, BASE)
    const held = pin(app, BASE)
    expect(punchHugetlb(k, file.mapping, 0, PMD_SIZE)).toBe(0)
    expect(entryAt(app, BASE)).toBeNull()
    touch(app, BASE, true)
    expect(pfnAt(app, BASE)).not.toBe(old)
    expect(counts(k, old)).toEqual({ ref: 1, entire: 0, total: 0, pin: 1 })
    expect(meminfo(pool)).toEqual([2, 0])
    held.release()
    expect(meminfo(pool)).toEqual([3, 0])
  })

  it('R-HUGE-51 a hole takes private copies with it, as truncation does; its edges are zeroed in place', () => {
    const { app, k } = lab(release, 4)
    const file = memfd(k, 2)
    map(app, BASE, 2 * PMD_SIZE, { file, flags: MAP_SHARED })
    app.run(storeUser(k, app.space, hugePage(1) + 3 * PAGE_SIZE - 1, Uint8Array.of(1, 2)))
    map(app, hugePage(4), PMD_SIZE, { file, flags: MAP_PRIVATE })
    touch(app, hugePage(4), true)
    punchHugetlb(k, file.mapping, 0, PMD_SIZE + 3 * PAGE_SIZE)
    expect([pfnAt(app, BASE), pfnAt(app, hugePage(4))]).toEqual([0, 0])
    const bytes = new Uint8Array(2)
    app.run(loadUser(k, app.space, hugePage(1) + 3 * PAGE_SIZE - 1, bytes))
    expect([...bytes]).toEqual([0, 2])
    truncateHugetlb(k, file.mapping, 0)
    expect([pfnAt(app, hugePage(1)), pfnAt(app, hugePage(4))]).toEqual([0, 0])
  })

  it('R-AS-48 MAP_FIXED reserves for the new mapping before the file of the old one goes', () => {
    const { app, pool } = lab(release, 3)
    map(app, BASE, 2 * PMD_SIZE, { flags: SHARED })
    const again = map(app, BASE, 2 * PMD_SIZE, { flags: SHARED })
    expect(again).toBe('-ENOMEM')
    expect(meminfo(pool)).toEqual([3, 0])
    expect(map(app, BASE, 2 * PMD_SIZE, { flags: PRIVATE })).toBe(BASE)
  })

  it('HUGE vector H33, R-HUGE-52: private, pinned, unmapped: out of the pool until unpinned, one promise too few', () => {
    const { app, pool } = lab(release, 6)
    map(app, BASE, PMD_SIZE, { flags: PRIVATE })
    touch(app, BASE, true)
    const held = pin(app, BASE)
    expect(meminfo(pool)).toEqual([5, 0])
    unmap(app, BASE, PMD_SIZE)
    expect(meminfo(pool)).toEqual([5, restores ? -1 : 0])
    // R-HUGE-52: only what is free can be promised
    expect(map(app, BASE, 6 * PMD_SIZE, { flags: PRIVATE })).toBe('-ENOMEM')
    held.release()
    expect(meminfo(pool)).toEqual([6, 0])
  })

  it('R-HUGE-51 MADV_DONTNEED gives a private owner its promise back from 6.12 on', () => {
    const { app, pool } = lab(release, 6)
    map(app, BASE, 2 * PMD_SIZE, { flags: PRIVATE })
    touch(app, BASE, true)
    expect(meminfo(pool)).toEqual([5, 1])
    expect(advise(app, BASE, PMD_SIZE, MADV_DONTNEED)).toBe(0)
    expect(meminfo(pool)).toEqual([6, restores ? 2 : 1])
    unmap(app, BASE, 2 * PMD_SIZE)
    expect(meminfo(pool)).toEqual([6, 0])
  })

  it('R-HUGE-51 the owner drops a page its child still maps: on 6.18 the promise comes back with the page', () => {
    const { app, pool } = lab(release, 6)
    map(app, BASE, PMD_SIZE, { flags: PRIVATE })
    touch(app, BASE, true)
    const child = fork(app)
    advise(app, BASE, PMD_SIZE, MADV_DONTNEED)
    expect(meminfo(pool)).toEqual([5, 0])
    exit(child)
    expect(meminfo(pool)).toEqual([6, release === '6.18' ? 1 : 0])
  })

  it('R-HUGE-51 a hole takes back what was handed out, truncation every promise beyond', () => {
    const { app, k, pool } = lab(release, 6)
    const file = memfd(k, 4)
    map(app, BASE, 4 * PMD_SIZE, { file, flags: MAP_SHARED })
    touch(app, BASE, true)
    expect(meminfo(pool)).toEqual([5, 3])
    punchHugetlb(k, file.mapping, 0, 2 * PMD_SIZE)
    expect(meminfo(pool)).toEqual([6, 3])
    touch(app, BASE, true)
    expect(meminfo(pool)).toEqual([5, 3])
    truncateHugetlb(k, file.mapping, PMD_SIZE)
    expect(meminfo(pool)).toEqual([5, 0])
  })

  it('R-HUGE-42 what a parent copied after fork is promised again when it is dropped', () => {
    const { app, pool } = lab(release, 6)
    map(app, BASE, PMD_SIZE, { flags: PRIVATE })
    touch(app, BASE, true)
    const child = fork(app)
    touch(app, BASE, true)
    expect(meminfo(pool)).toEqual([4, 0])
    advise(app, BASE, PMD_SIZE, MADV_DONTNEED)
    expect(meminfo(pool)).toEqual([5, restores ? 1 : 0])
    exit(child)
    expect(meminfo(pool)).toEqual([6, restores ? 1 : 0])
    exit(app)
    expect(meminfo(pool)).toEqual([6, 0])
  })

  it('HUGE vector H34: MADV_DONTNEED unaligned EINVAL, short length nothing; MADV_FREE EINVAL', () => {
    const { app } = lab(release, 2)
    map(app, BASE, PMD_SIZE, { flags: PRIVATE })
    touch(app, BASE, true)
    const before = entryAt(app, BASE)
    expect(advise(app, BASE + PAGE_SIZE, PAGE_SIZE, MADV_DONTNEED)).toBe('-EINVAL')
    expect(advise(app, BASE, PAGE_SIZE, MADV_DONTNEED)).toBe(0)
    expect(advise(app, BASE, PMD_SIZE, MADV_FREE)).toBe('-EINVAL')
    expect(entryAt(app, BASE)).toEqual(before)
  })

  it('R-HUGE-43 munmap and mprotect of a part: EINVAL', () => {
    const { app, k } = lab(release, 2)
    map(app, BASE, 2 * PMD_SIZE, { flags: PRIVATE })
    expect(unmap(app, BASE, PAGE_SIZE)).toBe('-EINVAL')
    expect(result(app.run(mprotect(k, app.space, BASE, PAGE_SIZE, PROT_READ)))).toBe('-EINVAL')
    expect(unmap(app, hugePage(1), PMD_SIZE)).toBe(0)
  })

  it('R-HUGE-41 the halves of a split VMA give back what each was promised', () => {
    const { app, pool } = lab(release, 4)
    map(app, BASE, 4 * PMD_SIZE, { flags: PRIVATE })
    touch(app, hugePage(1), true)
    expect(meminfo(pool)).toEqual([3, 3])
    unmap(app, hugePage(1), 2 * PMD_SIZE)
    expect(meminfo(pool)).toEqual([4, 2])
    expect([touch(app, BASE, true), touch(app, hugePage(3), true)]).toEqual(['ok', 'ok'])
    expect(meminfo(pool)).toEqual([2, 0])
    exit(app)
    expect(meminfo(pool)).toEqual([4, 0])
  })

  it('R-HUGE-53 mremap moves page, pin and promise', () => {
    const { app, k, pool } = lab(release, 4)
    map(app, BASE, 2 * PMD_SIZE, { flags: PRIVATE })
    touch(app, BASE, true)
    const { pfn } = entryAt(app, BASE)!
    pin(app, BASE)
    const to = hugePage(16)
    const moved = app.run(
      mremap(k, app.space, BASE, 2 * PMD_SIZE, 2 * PMD_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, to),
    )
    expect([moved, ...meminfo(pool)]).toEqual([to, 3, 1])
    expect(entryAt(app, to)).toEqual({ pfn, write: true, huge: true })
    expect(counts(k, pfn)).toEqual({ ref: 2, entire: 1, total: 1, pin: 1 })
    expect([touch(app, to + PMD_SIZE, true), ...meminfo(pool)]).toEqual(['ok', 2, 0])
  })

  it('R-HUGE-59 mremap of a part takes the promise along; what the rest was promised is lost', () => {
    const { app, k, pool } = lab(release, 4)
    map(app, BASE, 3 * PMD_SIZE, { flags: PRIVATE })
    const to = hugePage(16)
    app.run(mremap(k, app.space, hugePage(1), PMD_SIZE, PMD_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, to))
    expect(meminfo(pool)).toEqual([4, 3])
    expect([touch(app, to, true), ...meminfo(pool)]).toEqual(['ok', 3, 2])
    // pages 0 and 2 are promised nothing any more: page 0 takes the one page that is left over
    expect([touch(app, BASE, true), ...meminfo(pool)]).toEqual(['ok', 2, 2])
    expect(touch(app, hugePage(2), true)).toBe('SIGBUS(2)')
    exit(app)
    expect([...meminfo(pool), pool.orphaned]).toEqual([4, 2, 2])
  })

  it('R-HUGE-59 a part that is a mapping of its own before it moves costs the rest nothing', () => {
    const { app, k, pool } = lab(release, 4)
    map(app, BASE, 2 * PMD_SIZE, { flags: PRIVATE })
    app.run(mprotect(k, app.space, hugePage(1), PMD_SIZE, PROT_READ))
    const to = hugePage(16)
    app.run(mremap(k, app.space, hugePage(1), PMD_SIZE, PMD_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, to))
    expect([touch(app, BASE, true), ...meminfo(pool)]).toEqual(['ok', 3, 1])
    exit(app)
    expect([...meminfo(pool), pool.orphaned]).toEqual([4, 0, 0])
  })

  it('R-HUGE-59 the rest of a mapping that lost pages to its owner may have new ones', () => {
    const { app, k } = lab(release, 3)
    map(app, BASE, 2 * PMD_SIZE, { flags: PRIVATE })
    for (const page of [0, 1]) touch(app, hugePage(page), true)
    const child = fork(app)
    map(app, hugePage(8), PMD_SIZE, { flags: SHARED })
    touch(app, hugePage(8), true)
    touch(app, BASE, true)
    expect(touch(child, BASE, true)).toBe('SIGBUS(2)')
    unmap(app, hugePage(8), PMD_SIZE)
    expect(touch(child, BASE, true)).toBe('SIGBUS(2)')
    const to = hugePage(16)
    child.run(mremap(k, child.space, hugePage(1), PMD_SIZE, PMD_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, to))
    expect(touch(child, BASE, true)).toBe('ok')
    unmap(child, BASE, PMD_SIZE)
    child.run(madvise(k, child.space, to, PMD_SIZE, MADV_DONTNEED))
    expect(touch(child, to, true)).toBe('SIGBUS(2)')
    exit(child)
  })

  it.each([
    ['RO, then RW', [PROT_READ, RW]],
    ['RWX', [RW | PROT_EXEC]],
  ])('R-HUGE-43 mprotect %s: a private page keeps its place, the next write reuses it', (_, protections) => {
    const { app, k } = lab(release, 2)
    map(app, BASE, PMD_SIZE, { flags: PRIVATE })
    touch(app, BASE, true)
    const pfn = pfnAt(app, BASE)
    for (const prot of protections) app.run(mprotect(k, app.space, BASE, PMD_SIZE, prot))
    expect(entryAt(app, BASE)).toEqual({ pfn, write: false, huge: true })
    touch(app, BASE, true)
    expect(entryAt(app, BASE)).toEqual({ pfn, write: true, huge: true })
  })

  it('R-HUGE-43 mprotect RO, then RW: a shared page is writable at once', () => {
    const { app, k } = lab(release, 2)
    map(app, BASE, PMD_SIZE, { flags: SHARED })
    touch(app, BASE, false)
    const before = entryAt(app, BASE)
    expect(before!.write).toBe(true)
    for (const prot of [PROT_READ, RW]) app.run(mprotect(k, app.space, BASE, PMD_SIZE, prot))
    expect(entryAt(app, BASE)).toEqual(before)
  })

  it('R-AS-76 an old length near 2^64 is 0 in whole huge pages: the mapping would grow, nothing is unmapped', () => {
    const { app, k } = lab(release, 1)
    map(app, BASE, PMD_SIZE, { flags: SHARED })
    const flags = MREMAP_MAYMOVE | MREMAP_FIXED
    const moved = app.run(mremap(k, app.space, BASE, -PAGE_SIZE, PAGE_SIZE, flags, BASE + 4 * PMD_SIZE))
    expect(result(moved)).toBe('-EINVAL')
    touch(app, BASE, true)
    expect(entryAt(app, BASE)).toMatchObject({ huge: true })
  })

  it.each([
    ['private', PRIVATE],
    ['shared', SHARED],
  ])(
    'R-FLT-126 UFFDIO_COPY into a %s mapping finds no huge page that is not promised: EEXIST',
    (_kind, flags) => {
      const { app, k, pool } = lab(release, 1)
      const file = memfd(k, 1)
      map(app, BASE + 4 * PMD_SIZE, PMD_SIZE, { file, flags: MAP_SHARED })
      expect(map(app, BASE, PMD_SIZE, { flags: flags | MAP_NORESERVE })).toBe(BASE)
      expect(meminfo(pool)).toEqual([1, 1])
      const uffd = createUserfaultfd(k, { mm: app.space })
      app.run(uffdRegister(k, uffd, app.space, BASE, PMD_SIZE, UFFDIO_REGISTER_MODE_MISSING))
      const copy = (): number | string =>
        result(app.run(uffdCopy(k, uffd, app.space, BASE, new Uint8Array(PMD_SIZE))))
      expect(copy()).toBe('-EEXIST')
      expect(meminfo(pool)).toEqual([1, 1])
      app.run(munmap(k, app.space, BASE + 4 * PMD_SIZE, PMD_SIZE))
      file.put()
      expect(copy()).toBe(PMD_SIZE)
    },
  )

  it('R-FLT-126 a range that ends inside a huge page is not watched at all, and need not be unwatched', () => {
    const { app, k } = lab(release, 1)
    map(app, BASE - PAGE_SIZE, PAGE_SIZE)
    map(app, BASE, PMD_SIZE, { flags: PRIVATE })
    const uffd = createUserfaultfd(k, { mm: app.space })
    const range = [BASE - PAGE_SIZE, 2 * PAGE_SIZE] as const
    const watched = (): number => {
      const guard = app.space.mmapLock.tryRead()!
      const count = [BASE - PAGE_SIZE, BASE].filter((at) => guard.vmas.find(at)!.uffd !== null).length
      guard.release()
      return count
    }
    expect(result(app.run(uffdRegister(k, uffd, app.space, ...range, UFFDIO_REGISTER_MODE_MISSING)))).toBe(
      '-EINVAL',
    )
    expect(watched()).toBe(0)
    app.run(uffdRegister(k, uffd, app.space, BASE - PAGE_SIZE, PAGE_SIZE, UFFDIO_REGISTER_MODE_MISSING))
    expect(watched()).toBe(1)
    expect(app.run(uffdUnregister(k, uffd, app.space, ...range))).toBe(0)
    expect(watched()).toBe(0)
  })
})
