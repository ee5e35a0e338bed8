/** memfd_pin_folios (R-GUP-97); what calls it is in tests/drivers/iommufd/map-file.test.ts. */
import { describe, expect, it } from 'vitest'
import type { ReleaseName } from '../../src/base/release.ts'
import { PAGE_SIZE, PMD_SIZE } from '../../src/base/units.ts'
import { ZONE_MOVABLE, ZONE_NORMAL } from '../../src/memory/page-flags.ts'
import { regularFileKind, type OpenFile } from '../../src/mm/file.ts'
import { createFile, readIntoCache } from '../../src/mm/filemap.ts'
import { memfdPinFolios } from '../../src/mm/gup-memfd.ts'
import { hugetlbFileSetup, hugetlbPool } from '../../src/mm/hugetlb.ts'
import type { PageHolder } from '../../src/mm/kernel.ts'
import { PageArray } from '../../src/mm/page-array.ts'
import { shmemFileSetup } from '../../src/mm/shmem.ts'
import { shmemSwapOut } from '../../src/mm/shmem-swap.ts'
import { unpinUserPage } from '../../src/mm/unpin.ts'
import { walkFailures } from '../support/walk-failures.ts'
import { result, testTask } from '../support/kernel.ts'
import { World } from './gup-fixture.ts'

const P = PAGE_SIZE
const HAVING: readonly ReleaseName[] = ['6.12', '6.18']

/** The folios of one call, held until `unpin`. */
interface Pinned {
  readonly result: number | string
  readonly heads: readonly number[]
  readonly offset: number
  unpin(): void
}

function pin(w: World, file: OpenFile | null, start: number, end: number, max = 64): Pinned {
  const folios = new PageArray(max)
  const stretch = { offset: -1 }
  const n = w.task.run(memfdPinFolios(w.k, file, start, end, folios, stretch))
  const heads = n < 0 ? [] : [...folios.pfns.subarray(0, n)]
  const holder: PageHolder = {
    name: 'memfd_pin_folios',
    forEachReference: (visit) => heads.forEach((pfn) => visit(pfn, 0, 1)),
  }
  w.k.holders.add(holder)
  return {
    result: result(n),
    heads,
    offset: stretch.offset,
    unpin() {
      for (const pfn of heads) unpinUserPage(w.k, pfn)
      w.k.holders.delete(holder)
    },
  }
}

describe.each(HAVING)('memfd_pin_folios on %s', (release) => {
  it('R-GUP-97 pins what is there, makes what is missing, and says where in the first folio it begins', () => {
    const w = new World(release)
    const file = shmemFileSetup(w.k, 'm', 8 * P)
    readIntoCache(w.k, file.mapping, 2, 3)
    const old = file.mapping.pages.get(2)
    const held = pin(w, file, P + 100, 4 * P - 1)
    expect([held.result, held.offset, held.heads[1]]).toEqual([3, 100, old])
    expect([1, 2, 3].map((index) => file.mapping.pages.get(index))).toEqual(held.heads)
    expect([w.k.pinAcquired, file.mapping.pages.get(4)]).toEqual([3, 0])
    held.unpin()
    expect(w.k.pinReleased).toBe(3)
    file.put()
  })

  it('R-GUP-97 no more than there is room for', () => {
    const w = new World(release)
    const file = shmemFileSetup(w.k, 'm', 8 * P)
    const held = pin(w, file, 0, 8 * P - 1, 3)
    expect([held.result, file.mapping.pages.get(3)]).toEqual([3, 0])
    held.unpin()
    file.put()
  })

  it('R-GUP-97 what is refused', () => {
    const w = new World(release)
    const file = shmemFileSetup(w.k, 'm', 4 * P)
    const disk = createFile(w.k, regularFileKind('ext4'), { path: '/f', size: 4 * P })
    expect([
      pin(w, file, -1, 1).result,
      pin(w, file, 2, 1).result,
      pin(w, file, 0, P, 0).result,
      pin(w, null, 0, P).result,
      pin(w, disk, 0, P).result,
      pin(w, file, 0, 4 * P).result,
    ]).toEqual(new Array(6).fill('-EINVAL'))
    expect(w.task.refusal).toMatchObject({
      rule: 'R-GUP-97',
      why: 'the range ends behind the end of the file',
    })
    expect(w.k.pinAcquired).toBe(0)
    file.put()
    disk.put()
  })

  it('R-GUP-97 R-GUP-50 a page in a movable zone is moved; a new one is made where it may stay', () => {
    const w = new World(release, { zones: { normal: 4096, movable: 4096 } })
    const file = shmemFileSetup(w.k, 'm', 4 * P)
    readIntoCache(w.k, file.mapping, 0, 2)
    const zone = (index: number): number => w.k.memory.frames.zone(file.mapping.pages.get(index))
    w.k.memory.contents.write(file.mapping.pages.get(1), 0, new Uint8Array([42]))
    expect([zone(0), zone(1)]).toEqual([ZONE_MOVABLE, ZONE_MOVABLE])
    const held = pin(w, file, 0, 3 * P - 1)
    expect([held.result, zone(0), zone(1), zone(2)]).toEqual([3, ZONE_NORMAL, ZONE_NORMAL, ZONE_NORMAL])
    const bytes = new Uint8Array(1)
    w.k.memory.contents.read(held.heads[1]!, 0, bytes)
    expect(bytes[0]).toBe(42)
    expect([w.k.pinAcquired, w.k.pinReleased]).toEqual([6, 3])
    held.unpin()
    file.put()
  })

  it('R-GUP-97 R-GUP-50 one that somebody holds cannot be moved: nothing stays pinned', () => {
    const w = new World(release, { zones: { normal: 4096, movable: 4096 } })
    const file = shmemFileSetup(w.k, 'm', 4 * P)
    readIntoCache(w.k, file.mapping, 0, 2)
    const held = file.mapping.pages.get(1)
    w.k.memory.get(held)
    const holder: PageHolder = { name: 'reader', forEachReference: (visit) => visit(held, 1, 0) }
    w.k.holders.add(holder)
    expect(pin(w, file, 0, 2 * P - 1).result).toBe('-ENOMEM')
    expect(w.task.refusal).toMatchObject({ rule: 'R-GUP-50' })
    expect(w.k.pinAcquired - w.k.pinReleased).toBe(0)
    w.k.holders.delete(holder)
    w.k.memory.put(held)
    file.put()
  })

  it('R-GUP-97 a page that is swapped out comes back', () => {
    const w = new World(release)
    w.k.swap.swapon(8)
    const file = shmemFileSetup(w.k, 'm', 4 * P)
    readIntoCache(w.k, file.mapping, 1, 2)
    w.k.memory.contents.write(file.mapping.pages.get(1), 0, new Uint8Array([7]))
    expect(shmemSwapOut(w.k, file.mapping, 1)).toBe(true)
    const held = pin(w, file, P, 2 * P - 1)
    const bytes = new Uint8Array(1)
    w.k.memory.contents.read(held.heads[0]!, 0, bytes)
    expect([held.result, bytes[0]]).toEqual([1, 7])
    held.unpin()
    file.put()
  })

  it('R-GUP-97 a huge page is one folio and one pin; without one in the pool it is ENOMEM', () => {
    const w = new World(release)
    hugetlbPool(w.k).resize(2)
    const file = hugetlbFileSetup(w.k, { name: 'h', size: 3 * PMD_SIZE, pageSize: PMD_SIZE, noreserve: true })
    const held = pin(w, file, PMD_SIZE - P, PMD_SIZE + 3 * P)
    expect([held.result, held.offset, w.k.pinAcquired]).toEqual([2, PMD_SIZE - P, 2])
    expect(pin(w, file, 0, 3 * PMD_SIZE - 1).result).toBe('-ENOMEM')
    expect([w.k.pinAcquired - w.k.pinReleased, hugetlbPool(w.k).free]).toEqual([2, 0])
    held.unpin()
    file.put()
    expect(hugetlbPool(w.k).free).toBe(2)
  })

  it('R-GUP-97 what fails anywhere is undone', () => {
    const failures = walkFailures(release, (k) => {
      const task = testTask(k)
      const file = shmemFileSetup(k, 'm', 8 * P)
      k.run(
        task,
        sized(() => readIntoCache(k, file.mapping, 0, 2)),
      )
      return () => {
        const folios = new PageArray(8)
        const n = task.run(memfdPinFolios(k, file, 0, 8 * P - 1, folios, { offset: 0 }))
        for (let i = 0; i < n; i++) unpinUserPage(k, folios.pfns[i]!)
        file.put()
      }
    })
    expect(failures).toBeGreaterThan(5)
  })
})

// oxlint-disable-next-line require-yield -- does not sleep
function* sized(body: () => number): Generator<never, number, void> {
  return body()
}
