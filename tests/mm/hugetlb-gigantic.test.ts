import { describe, expect, it } from 'vitest'
import type { ReleaseName } from '../../src/base/release.ts'
import { PAGE_SIZE, PUD_SIZE } from '../../src/base/units.ts'
import { hugetlbFileSetup, hugetlbPool } from '../../src/mm/hugetlb.ts'
import { madvise } from '../../src/mm/madvise.ts'
import {
  MADV_DONTNEED,
  MAP_ANONYMOUS,
  MAP_HUGETLB,
  MAP_HUGE_1GB,
  MAP_PRIVATE,
  MAP_SHARED,
} from '../../src/mm/mman.ts'
import { mprotect } from '../../src/mm/mprotect.ts'
import { mremap } from '../../src/mm/mremap.ts'
import { munmap } from '../../src/mm/munmap.ts'
import { punchHole, truncateFile } from '../../src/mm/truncate.ts'
import { loadUser, storeUser } from '../../src/mm/user-access.ts'
import { counts, entryAt, exit, fork, isExclusive, map, pfnAt, pin, touch, tryFork } from '../support/huge.ts'
import { result, testKernel, testTask, type TestTask } from '../support/kernel.ts'

const P = PAGE_SIZE
const G = PUD_SIZE
const AT = 0x200_0000_0000
const ANON = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_HUGE_1GB

/** A machine with room for two pages of 1 GiB, `pages` of them in the pool. */
function program(release: ReleaseName, pages: number): TestTask {
  const k = testKernel({ release, zones: { normal: 3 * 262_144 } })
  expect(hugetlbPool(k, G).resize(pages)).toBe(pages)
  return testTask(k)
}

function store(task: TestTask, address: number, byte: number): void {
  expect(task.run(storeUser(task.kernel, task.space, address, Uint8Array.of(byte)))).toEqual({ ok: true })
}

function load(task: TestTask, address: number): number {
  const into = new Uint8Array(1)
  expect(task.run(loadUser(task.kernel, task.space, address, into))).toEqual({ ok: true })
  return into[0]!
}

const pool = (task: TestTask): number[] => {
  const { total, free, reserved } = hugetlbPool(task.kernel, G)
  return [total, free, reserved]
}

describe.each(['6.1', '6.12', '6.18'] as const)('hugetlb pages of 1 GiB, %s', (release) => {
  it('R-HUGE-58 one page from pool to pool: promise, fault, pin, unmap', () => {
    const task = program(release, 2)
    const { kernel: k } = task
    expect(map(task, AT, 2 * G, { flags: ANON })).toBe(AT)
    expect(pool(task)).toEqual([2, 2, 2])
    expect(map(task, AT + 4 * G, G, { flags: ANON })).toBe('-ENOMEM')
    store(task, AT + 700 * 2 ** 20 + 5, 7)
    expect(pool(task)).toEqual([2, 1, 1])
    const head = pfnAt(task, AT)
    expect([head % 262_144, pfnAt(task, AT + G - P), isExclusive(k, head)]).toEqual([0, head + 262_143, true])
    expect(counts(k, head)).toEqual({ ref: 1, entire: 1, total: 1, pin: 0 })
    expect(task.space.hugetlbPages).toBe(262_144)
    const held = pin(task, AT + 2 ** 21 - P, 600)
    expect([held.result, held.pages.pfns[0], held.pages.pfns[599]]).toEqual([600, head + 511, head + 1110])
    expect(counts(k, head)).toEqual({ ref: 601, entire: 1, total: 1, pin: 600 })
    expect(result(task.run(munmap(k, task.space, AT, G)))).toBe(0)
    expect([pool(task)[1], task.space.hugetlbPages]).toEqual([1, 0])
    held.release()
    expect(pool(task)).toEqual([2, 2, 1])
    expect(result(task.run(munmap(k, task.space, AT + G, G)))).toBe(0)
    expect(pool(task)).toEqual([2, 2, 0])
    expect(hugetlbPool(k, G).resize(0)).toBe(0)
  })

  it('R-HUGE-41 ranges, lengths and offsets are whole pages', () => {
    const task = program(release, 1)
    const { kernel: k } = task
    expect(map(task, AT + 2 ** 21, G, { flags: ANON })).toBe('-EINVAL')
    expect(map(task, AT, 4096, { flags: ANON })).toBe(AT)
    store(task, AT, 1)
    expect(result(task.run(munmap(k, task.space, AT, 2 ** 21)))).toBe('-EINVAL')
    expect(result(task.run(mprotect(k, task.space, AT + 2 ** 21, 2 ** 21, 1)))).toBe('-EINVAL')
    expect(result(task.run(madvise(k, task.space, AT, 2 ** 21, MADV_DONTNEED)))).toBe(0)
    expect(load(task, AT)).toBe(1)
    expect(result(task.run(madvise(k, task.space, AT, G, MADV_DONTNEED)))).toBe(0)
    expect([pool(task)[1], load(task, AT)]).toEqual([1, 0])
  })

  it('R-HUGE-50 fork shares the page, a write copies it or takes it back', () => {
    const task = program(release, 2)
    const { kernel: k } = task
    map(task, AT, G, { flags: ANON })
    store(task, AT + 3, 3)
    const head = pfnAt(task, AT)
    const child = fork(task)
    expect(counts(k, head)).toEqual({ ref: 2, entire: 2, total: 2, pin: 0 })
    expect([entryAt(task, AT + 5 * 2 ** 21)?.write, isExclusive(k, head)]).toEqual([false, false])
    store(task, AT + 600 * 2 ** 20, 9)
    const copy = pfnAt(task, AT)
    expect([copy === head, pfnAt(task, AT + G - P), pfnAt(child, AT)]).toEqual([false, copy + 262_143, head])
    expect([load(task, AT + 3), load(child, AT + 600 * 2 ** 20)]).toEqual([3, 0])
    expect(touch(child, AT, true)).toBe('ok')
    expect(pfnAt(child, AT)).toBe(head)
    exit(child)
    expect(pool(task)[1]).toBe(1)
  })

  it('R-HUGE-48 the owner takes the page back when there is no other; a pinned one cannot be forked', () => {
    const task = program(release, 1)
    map(task, AT, G, { flags: ANON })
    store(task, AT, 3)
    const head = pfnAt(task, AT)
    const child = fork(task)
    expect(touch(child, AT, true)).toBe('SIGBUS(2)')
    store(task, AT, 4)
    expect([pfnAt(task, AT), pfnAt(child, AT)]).toEqual([head, 0])
    expect(touch(child, AT, false)).toBe('SIGBUS(2)')
    exit(child)
    const held = pin(task, AT)
    expect(tryFork(task)).toBe('-ENOMEM')
    held.release()
  })

  it('R-HUGE-47 what is promised to the rest of the mapping is not used for a copy', () => {
    const task = program(release, 2)
    map(task, AT, 2 * G, { flags: ANON })
    store(task, AT, 3)
    const head = pfnAt(task, AT)
    const child = fork(task)
    store(task, AT, 4)
    expect([pfnAt(task, AT), pool(task)]).toEqual([head, [2, 1, 1]])
    exit(child)
    expect(pool(task)).toEqual([2, 1, 1])
  })

  it('R-HUGE-51 a file: two mappings, a hole, truncation; R-HUGE-53 mremap', () => {
    const task = program(release, 2)
    const { kernel: k } = task
    const file = hugetlbFileSetup(k, {
      name: '/memfd:g (deleted)',
      size: 2 * G,
      pageSize: G,
      noreserve: true,
    })
    map(task, AT, 2 * G, { flags: MAP_SHARED, file })
    map(task, AT + 4 * G, 2 * G, { flags: MAP_SHARED, file })
    store(task, AT + G - 1, 5)
    store(task, AT + G, 6)
    expect([load(task, AT + 5 * G - 1), load(task, AT + 5 * G)]).toEqual([5, 6])
    expect(counts(k, pfnAt(task, AT)).entire).toBe(2)
    expect(result(task.run(mremap(k, task.space, AT, G, G, 3, AT + 8 * G)))).toBe(AT + 8 * G)
    expect(load(task, AT + 9 * G - 1)).toBe(5)
    expect(task.run(punchHole(k, file.mapping, G, G))).toBe(0)
    expect([pool(task)[1], load(task, AT + 5 * G)]).toEqual([1, 0])
    expect(task.run(truncateFile(k, file.mapping, G))).toBe(0)
    expect([pool(task)[1], touch(task, AT + 5 * G, true)]).toEqual([1, 'SIGBUS(2)'])
    expect(result(task.run(truncateFile(k, file.mapping, 2 ** 21)))).toBe('-EINVAL')
    file.put()
  })

  it('R-HUGE-43 mprotect of all of it, and what the next write does', () => {
    const task = program(release, 1)
    const { kernel: k } = task
    map(task, AT, G, { flags: ANON })
    store(task, AT, 1)
    const head = pfnAt(task, AT)
    for (const prot of [1, 3]) expect(result(task.run(mprotect(k, task.space, AT, G, prot)))).toBe(0)
    expect(entryAt(task, AT + 100 * 2 ** 21)?.write).toBe(false)
    store(task, AT + 100 * 2 ** 21, 2)
    expect([pfnAt(task, AT), entryAt(task, AT)?.write, entryAt(task, AT + G - P)?.write]).toEqual([
      head,
      true,
      true,
    ])
  })

  it('R-HUGE-40 the pool takes a free GiB and gives it back to small pages', () => {
    const task = program(release, 1)
    const { kernel: k } = task
    const gigantic = hugetlbPool(k, G)
    gigantic.overcommit = 5
    map(task, AT, G, { flags: ANON })
    store(task, AT, 1)
    // surplus pages of this size are not made
    expect(map(task, AT + 4 * G, G, { flags: ANON })).toBe('-ENOMEM')
    expect(gigantic.resize(5)).toBe(2)
    expect(gigantic.resize(0)).toBe(0)
    expect(pool(task)).toEqual([1, 0, 0])
    expect(result(task.run(munmap(k, task.space, AT, G)))).toBe(0)
    expect(pool(task)).toEqual([0, 0, 0])
  })
})
