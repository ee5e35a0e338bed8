import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Buddy } from '../../src/memory/buddy.ts'
import { Frames } from '../../src/memory/frames.ts'
import { Memory, ReferenceError } from '../../src/memory/memory.ts'
import { ZONE_CMA, ZONE_MOVABLE, ZONE_NORMAL } from '../../src/memory/page-flags.ts'
import { testKernel } from '../support/kernel.ts'

describe('buddy allocator', () => {
  it('hands out aligned, disjoint blocks and joins everything back together', () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ order: fc.integer({ min: 0, max: 9 }), keep: fc.boolean() }), { maxLength: 80 }),
        (requests) => {
          const frames = new Frames(1 + 4096)
          const buddy = new Buddy(frames, { normal: 4096 })
          const owner = new Map<number, number>()
          const live: [number, number][] = []
          for (const { order, keep } of requests) {
            const pfn = buddy.alloc(order, { movable: false })
            if (pfn === 0) continue
            expect(pfn % (1 << order)).toBe(0)
            for (let page = pfn; page < pfn + (1 << order); page++) {
              expect(owner.has(page)).toBe(false)
              owner.set(page, pfn)
            }
            live.push([pfn, order])
            if (!keep) {
              const [oldest, size] = live.shift()!
              for (let page = oldest; page < oldest + (1 << size); page++) owner.delete(page)
              buddy.release(oldest, size)
            }
            expect(buddy.free[ZONE_NORMAL]).toBe(4096 - owner.size)
          }
          const before = new Frames(1 + 4096)
          const fresh = new Buddy(before, { normal: 4096 })
          for (const [pfn, order] of live) buddy.release(pfn, order)
          const blocks = (b: Buddy): string[] => {
            const all: string[] = []
            b.forEachFreeBlock((pfn, order) => all.push(`${pfn}/${order}`))
            return all.sort()
          }
          expect(blocks(buddy)).toEqual(blocks(fresh))
        },
      ),
    )
  })

  it('movable requests come from MOVABLE, then CMA, then NORMAL; others from NORMAL only', () => {
    const memory = new Memory({ normal: 64, movable: 8, cma: 8 })
    const zones = Array.from({ length: 20 }, () =>
      memory.frames.zone(memory.allocFolio(0, { movable: true })),
    )
    expect(zones).toEqual([
      ...Array(8).fill(ZONE_MOVABLE),
      ...Array(8).fill(ZONE_CMA),
      ...Array(4).fill(ZONE_NORMAL),
    ])
    expect(memory.frames.zone(memory.allocFolio(0, { movable: false }))).toBe(ZONE_NORMAL)
  })

  it('returns 0 when nothing fits, and never pfn 0', () => {
    const memory = new Memory({ normal: 3 })
    const pfns = [1, 2, 3, 4].map(() => memory.allocFolio(0, { movable: false }))
    expect(pfns.filter((pfn) => pfn > 0)).toHaveLength(3)
    expect(pfns[3]).toBe(0)
  })
})

describe('folio references', () => {
  it('the last put frees the folio, one more is an error', () => {
    const kernel = testKernel()
    const { memory } = kernel
    const free = memory.buddy.free[ZONE_NORMAL]!
    const pfn = memory.allocFolio(9, { movable: false })
    expect([memory.frames.isLarge(pfn + 5), memory.frames.head(pfn + 511)]).toEqual([true, pfn])
    memory.get(pfn + 7, 2)
    memory.put(pfn, 2)
    memory.contents.write(pfn + 3, 100, new Uint8Array([7]))
    expect(memory.buddy.free[ZONE_NORMAL]).toBe(free - 512)
    memory.put(pfn + 100)
    expect(memory.buddy.free[ZONE_NORMAL]).toBe(free)
    expect(memory.contents.stored).toBe(0)
    expect(() => memory.put(pfn)).toThrow(ReferenceError)
  })

  it('R-GUP-70 a small folio with 1024 references looks pinned, a large one only with pins', () => {
    const kernel = testKernel()
    const { memory } = kernel
    const { frames } = memory
    const small = memory.allocFolio(0, { movable: false })
    memory.get(small, 1022)
    expect(frames.maybeDmaPinned(small)).toBe(false)
    memory.get(small)
    expect(frames.maybeDmaPinned(small)).toBe(true)
    memory.put(small, 1024)
    const large = memory.allocFolio(9, { movable: false })
    memory.get(large, 2000)
    expect(frames.maybeDmaPinned(large + 3)).toBe(false)
    frames.addPincount(large, 1)
    expect(frames.maybeDmaPinned(large + 3)).toBe(true)
    frames.addPincount(large, -1)
    memory.put(large, 2001)
  })
})
