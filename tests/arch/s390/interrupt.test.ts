import { describe, expect, test } from 'vitest'
import { PAGE_SIZE } from '../../../src/base/units.ts'
import { PG_DIRTY } from '../../../src/memory/page-flags.ts'
import { setAdapterInt, type AdapterInt } from '../../../src/arch/s390/interrupt.ts'
import { loadUser } from '../../../src/mm/user-access.ts'
import { testTask } from '../../support/kernel.ts'
import { RO, World } from '../../mm/gup-fixture.ts'

const RELEASES = ['gup-v3', '6.1', '6.6', '6.12', '6.18'] as const

describe.each(RELEASES)('s390 adapter interrupts on %s', (release) => {
  const irq = (w: World, route: AdapterInt, swap = false, level = 1): number =>
    testTask(w.k, { comm: 'irqfd' }).run(setAdapterInt(w.k, w.mm, { swap }, route, level))
  function word(w: World, address: number): number[] {
    const bytes = new Uint8Array(8)
    w.task.run(loadUser(w.k, w.mm, address, bytes))
    return [...bytes]
  }
  const route = (a: number, b: number): AdapterInt => ({
    indAddr: a + 8,
    indOffset: 3,
    summaryAddr: b,
    summaryOffset: 0,
  })

  test('R-S39-3 sets both bits; a pending summary coalesces', () => {
    const w = new World(release)
    const a = w.map(2)
    const b = a + PAGE_SIZE
    expect(irq(w, route(a, b))).toBe(1)
    expect([word(w, a + 8), word(w, b)]).toEqual([
      [0, 0, 0, 0, 0, 0, 0, 8],
      [0, 0, 0, 0, 0, 0, 0, 1],
    ])
    expect(irq(w, { ...route(a, b), indOffset: 63 })).toBe(0)
    expect(word(w, a + 8)).toEqual([128, 0, 0, 0, 0, 0, 0, 8])
    expect([a, b].map((at) => w.ref(w.pfn(at)))).toEqual([1, 1])
    expect(w.k.memory.frames.has(w.pfn(a), PG_DIRTY)).toBe(true)
  })

  test('R-S39-3 byte-swapped adapters number the bits from the other end', () => {
    const w = new World(release)
    const a = w.map(2)
    expect(irq(w, route(a, a + PAGE_SIZE), true)).toBe(1)
    expect([word(w, a + 8), word(w, a + PAGE_SIZE)]).toEqual([
      [0x10, 0, 0, 0, 0, 0, 0, 0],
      [0x80, 0, 0, 0, 0, 0, 0, 0],
    ])
  })

  test('R-S39-4 both in one page: two references, both dropped', () => {
    const w = new World(release)
    const a = w.map(1)
    expect(irq(w, route(a, a))).toBe(1)
    expect(w.ref(w.pfn(a))).toBe(1)
  })

  test('R-S39-2 no page: -1, and nothing stays held', () => {
    const w = new World(release)
    const a = w.map(1, { touched: true })
    const readOnly = w.map(1, { prot: RO })
    expect(irq(w, route(a, 0x7000000))).toBe(-1)
    expect(irq(w, route(readOnly, a))).toBe(-1)
    expect(w.ref(w.pfn(a))).toBe(1)
    expect(word(w, a + 8)).toEqual([0, 0, 0, 0, 0, 0, 0, 0])
  })

  test('R-S39-2 level 0 does nothing, an unknown adapter is -1', () => {
    const w = new World(release)
    const a = w.map(1)
    expect(irq(w, route(a, a), false, 0)).toBe(0)
    expect(w.pfn(a)).toBe(0)
    expect(w.task.run(setAdapterInt(w.k, w.mm, null, route(a, a), 1))).toBe(-1)
  })
})
