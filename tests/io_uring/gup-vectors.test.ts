/** The vectors of gup.md that go through io_pin_pages: what it makes of GUP's answer on each release. */
import { describe, expect, it } from 'vitest'
import { MAP_PRIVATE, MAP_SHARED } from '../../src/mm/mman.ts'
import { regularFileKind } from '../../src/mm/file.ts'
import { P, RW, Rig } from './rig.ts'

/** Four touched anonymous pages with four touched memfd pages behind them. */
function anonymousThenMemfd(rig: Rig): number {
  const a = rig.anon(4, RW, rig.place(8))
  rig.mapped(rig.memfd(4), 4, RW, MAP_SHARED, a + 4 * P)
  for (let page = 0; page < 8; page++) rig.touch(a + page * P)
  return a
}

describe('io_pin_pages over [anonymous ×4][memfd ×4]', () => {
  it('GUP vector 20, R-GUP-18: v3 holds the first four, unpins them and answers -EFAULT', () => {
    const rig = new Rig('gup-v3')
    expect(rig.buffer(anonymousThenMemfd(rig), 8 * P)).toMatchObject({ result: '-EFAULT', acq: 4, rel: 4 })
  })

  it('GUP vector 21, R-GUP-18: 6.1 pins all eight, sees the other file, unpins them and answers -EINVAL', () => {
    const rig = new Rig('6.1')
    expect(rig.buffer(anonymousThenMemfd(rig), 8 * P)).toMatchObject({ result: '-EINVAL', acq: 8, rel: 8 })
  })

  it.each(['6.12', '6.18'] as const)('GUP vector 22, R-GUP-18: %s has no rule about files', (release) => {
    const rig = new Rig(release)
    expect(rig.buffer(anonymousThenMemfd(rig), 8 * P)).toMatchObject({ result: 0, acq: 8, rel: 0 })
  })
})

describe('io_pin_pages over [ext4 private ×2][anonymous ×2]', () => {
  it.each([
    ['6.1', '-EOPNOTSUPP', 4],
    ['gup-v3', '-EFAULT', 2],
    ['6.12', 0, 4],
    ['6.18', 0, 4],
  ] as const)('GUP vector 23, R-GUP-18: %s answers %s', (release, result, acquired) => {
    const rig = new Rig(release)
    const a = rig.mapped(rig.file(regularFileKind('ext4'), 2), 2, RW, MAP_PRIVATE, rig.place(4))
    rig.anon(2, RW, a + 2 * P)
    const released = result === 0 ? 0 : acquired
    expect(rig.buffer(a, 4 * P)).toMatchObject({ result, acq: acquired, rel: released })
  })
})
