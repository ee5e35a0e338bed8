import { describe, expect, test } from 'vitest'
import { PAGE_SIZE } from '../../src/base/units.ts'
import { TomoyoPageDump, tomoyoDumpPage } from '../../src/security/tomoyo-domain.ts'
import { testTask } from '../support/kernel.ts'
import { NONE, World } from '../mm/gup-fixture.ts'

const RELEASES = ['gup-v3', '6.1', '6.6', '6.12', '6.18'] as const

describe.each(RELEASES)('tomoyo_dump_page on %s', (release) => {
  function dumping(w: World, dump: TomoyoPageDump) {
    const executive = testTask(w.k, { comm: 'exec' })
    return (position: number): boolean => executive.run(tomoyoDumpPage(w.k, w.mm, position, dump))
  }

  test('R-TOM-2 copies from the position to the end of the page, and holds nothing', () => {
    const w = new World(release)
    const a = w.map(2, { touched: true })
    w.write(a + 100, 1, 0x41)
    const dump = new TomoyoPageDump()
    expect(dumping(w, dump)(a + 100)).toBe(true)
    expect([dump.data![0], dump.data![100]]).toEqual([0, 0x41])
    expect(w.ref(w.pfn(a))).toBe(1)
    expect(w.mm.mmapLock.locked).toBe(false)
  })

  test('R-TOM-2 the page dumped last is not copied again, whatever it holds by now', () => {
    const w = new World(release)
    const a = w.map(2, { touched: true })
    const dump = new TomoyoPageDump()
    const at = dumping(w, dump)
    at(a + 100)
    w.write(a, 1, 0x42)
    // not even the part before the first position
    expect([at(a), dump.data![0]]).toEqual([true, 0])
    expect([at(a + PAGE_SIZE), dump.data![0]]).toEqual([true, 2])
    expect([at(a), dump.data![0]]).toEqual([true, 0x42])
  })

  test('R-TOM-2 with force, and false where nothing is', () => {
    const w = new World(release)
    const a = w.map(1, { prot: NONE })
    const at = dumping(w, new TomoyoPageDump())
    expect([at(a), at(a + PAGE_SIZE)]).toEqual([true, false])
  })
})
