import { describe, expect, it } from 'vitest'
import { EFAULT, EINVAL } from '../../src/base/errno.ts'
import { PAGE_SIZE } from '../../src/base/units.ts'
import { FOLL_GET, FOLL_WRITE } from '../../src/mm/gup-flags.ts'
import {
  DUMP_USER_PAGES_TEST,
  GUP_BASIC_TEST,
  GUP_FAST_BENCHMARK,
  GupTestFile,
  PIN_BASIC_TEST,
  PIN_FAST_BENCHMARK,
  PIN_LONGTERM_BENCHMARK,
  PIN_LONGTERM_TEST_READ,
  PIN_LONGTERM_TEST_START,
  PIN_LONGTERM_TEST_STOP,
  type GupTest,
} from '../../src/mm/gup-test.ts'
import { loadUser } from '../../src/mm/user-access.ts'
import { World } from './gup-fixture.ts'

const commands = {
  GUP_FAST_BENCHMARK,
  PIN_FAST_BENCHMARK,
  PIN_LONGTERM_BENCHMARK,
  GUP_BASIC_TEST,
  PIN_BASIC_TEST,
  DUMP_USER_PAGES_TEST,
} as const
const all = Object.entries(commands)
const pinning = all.filter(([name]) => name.startsWith('PIN_'))

function request(addr: number, pages: number, more: Partial<GupTest> = {}): GupTest {
  return {
    getDeltaUsec: 0,
    putDeltaUsec: 0,
    addr,
    size: pages * PAGE_SIZE,
    nrPagesPerCall: 1,
    gupFlags: FOLL_WRITE,
    testFlags: 0,
    whichPages: Array<number>(8).fill(0),
    ...more,
  }
}

/** A world with an open gup_test whose log is kept. */
function opened(world: World): { file: GupTestFile; log: string[] } {
  const log: string[] = []
  let now = 0
  return { file: new GupTestFile(world.k, { clock: () => (now += 10), log: (line) => log.push(line) }), log }
}

describe('R-GUP-100 gup_test', () => {
  it('refuses what it cannot read or does not know, in that order', () => {
    const w = new World()
    const { file } = opened(w)
    expect(w.task.run(file.ioctl(0xc0506799, null))).toBe(-EINVAL)
    expect(w.task.run(file.ioctl(PIN_BASIC_TEST, null))).toBe(-EFAULT)
  })

  it.each(all)('%s holds every page while it runs and none afterwards', (_name, cmd) => {
    const w = new World()
    const { file } = opened(w)
    const test = request(w.map(4, { touched: true }), 4, { nrPagesPerCall: 3 })
    const { pinAcquired } = w.k
    expect(w.task.run(file.ioctl(cmd, test))).toBe(0)
    expect(test).toMatchObject({ size: 4 * PAGE_SIZE, getDeltaUsec: 10, putDeltaUsec: 10 })
    const pins = pinning.some(([, each]) => each === cmd) ? 4 : 0
    expect(w.k.pinAcquired - pinAcquired).toBe(pins)
    expect(w.k.pinReleased).toBe(w.k.pinAcquired)
  })
})

describe('R-GUP-101 R-GUP-102 how far a test got', () => {
  it.each(all)('%s: a step that gets nothing ends at its start', (_name, cmd) => {
    const w = new World()
    const { file } = opened(w)
    const at = w.map(2, { touched: true })
    const test = request(at, 4)
    expect(w.task.run(file.ioctl(cmd, test))).toBe(0)
    expect(test.size).toBe(2 * PAGE_SIZE)
  })

  it('a step that gets a part counts as done to its end', () => {
    const w = new World()
    const { file } = opened(w)
    const test = request(w.map(2, { touched: true }), 16, { nrPagesPerCall: 4 })
    const { pinAcquired } = w.k
    expect(w.task.run(file.ioctl(PIN_BASIC_TEST, test))).toBe(0)
    expect(test.size).toBe(16384)
    expect(w.k.pinAcquired - pinAcquired).toBe(2)
  })

  it('the last step is shorter', () => {
    const w = new World()
    const { file } = opened(w)
    const test = request(w.map(5), 5, { nrPagesPerCall: 4 })
    expect(w.task.run(file.ioctl(GUP_FAST_BENCHMARK, test))).toBe(0)
    expect(test.size).toBe(5 * PAGE_SIZE)
  })
})

describe('R-GUP-103 pages are looked at while they are pinned', () => {
  it.each(['6.6', '6.12', '6.18'] as const)(
    '%s: the zero page is not pinned, which is reported once',
    (release) => {
      const w = new World(release)
      const { file, log } = opened(w)
      const test = request(w.map(4), 4, { gupFlags: 0 })
      expect(w.task.run(file.ioctl(PIN_FAST_BENCHMARK, test))).toBe(0)
      expect(log.filter((line) => /pages\[\d\]/.test(line))).toEqual(['pages[0] is NOT dma-pinned'])
      expect(log.at(-1)).toBe('page dumped because: gup_test failure')
      expect(test.size).toBe(4 * PAGE_SIZE)
    },
  )

  it('gup-v3 pins it like any other page', () => {
    const w = new World('gup-v3')
    const { file, log } = opened(w)
    expect(w.task.run(file.ioctl(PIN_FAST_BENCHMARK, request(w.map(4), 4, { gupFlags: 0 })))).toBe(0)
    expect(log).toEqual([])
  })
})

describe('R-GUP-104 pages are dumped', () => {
  it('those asked for; what lies beyond is zeroed', () => {
    const w = new World()
    const { file, log } = opened(w)
    const at = w.map(4, { touched: true })
    const whichPages = [1, 4, 5, 0, 0, 0, 0, 0]
    const test = request(at, 4, { testFlags: 1, whichPages })
    expect(w.task.run(file.ioctl(DUMP_USER_PAGES_TEST, test))).toBe(0)
    expect(test.whichPages).toEqual([1, 4, 0, 0, 0, 0, 0, 0])
    const from = `starting from user virt addr: 0x${at.toString(16)}`
    expect(log.filter((line) => /ZEROING|----/.test(line))).toEqual([
      'ZEROING due to out of range: .which_pages[2]: 5',
      `---- page #0, ${from}`,
      `---- page #3, ${from}`,
    ])
    // a mapping and a pin
    expect(log.filter((line) => line.startsWith('page: refcount:1025 mapcount:1 '))).toHaveLength(2)
    expect(log.at(-1)).toBe('page dumped because: gup_test: dump_pages() test')
  })
})

describe('R-GUP-105 the long-term session', () => {
  it('pins all of the range until it is stopped, and can be read meanwhile', () => {
    const w = new World()
    const { file } = opened(w)
    const at = w.map(4, { touched: true })
    const into = w.map(4)
    const start = { addr: at, size: 4 * PAGE_SIZE, flags: 1 }
    expect(w.task.run(file.ioctl(PIN_LONGTERM_TEST_READ, into))).toBe(-EINVAL)
    expect(w.task.run(file.ioctl(PIN_LONGTERM_TEST_START, start))).toBe(0)
    expect(w.k.pinAcquired - w.k.pinReleased).toBe(4)
    // one session in the whole system
    expect(w.task.run(opened(w).file.ioctl(PIN_LONGTERM_TEST_START, start))).toBe(-EINVAL)
    expect(w.task.run(file.ioctl(PIN_LONGTERM_TEST_READ, into))).toBe(0)
    expect(w.task.run(file.ioctl(PIN_LONGTERM_TEST_READ, null))).toBe(-EFAULT)
    const [first, copied] = [new Uint8Array(PAGE_SIZE), new Uint8Array(PAGE_SIZE)]
    w.task.run(loadUser(w.k, w.task.space, at, first))
    w.task.run(loadUser(w.k, w.task.space, into, copied))
    expect(copied).toEqual(first)
    expect(copied.some((byte) => byte !== 0)).toBe(true)
    expect(w.task.run(file.ioctl(PIN_LONGTERM_TEST_STOP, null))).toBe(0)
    expect(w.task.run(file.ioctl(PIN_LONGTERM_TEST_STOP, null))).toBe(0)
    expect(w.k.pinAcquired).toBe(w.k.pinReleased)
  })

  it.each([
    ['unknown flags', { flags: 4 }],
    ['an unaligned address', { addr: 100 }],
    ['an unaligned size', { size: 100 }],
    ['nothing', { size: 0 }],
  ])('refuses %s', (_what, wrong) => {
    const w = new World()
    const { file } = opened(w)
    const start = { addr: w.map(4), size: 4 * PAGE_SIZE, flags: 0, ...wrong }
    expect(w.task.run(file.ioctl(PIN_LONGTERM_TEST_START, start))).toBe(-EINVAL)
  })

  it.each([0, 2])('unpins what it got when it cannot get all (flags %i)', (flags) => {
    const w = new World()
    const { file } = opened(w)
    const start = { addr: w.map(2, { touched: true }), size: 4 * PAGE_SIZE, flags }
    expect(w.task.run(file.ioctl(PIN_LONGTERM_TEST_START, start))).toBe(-EFAULT)
    expect(w.k.pinAcquired).toBe(w.k.pinReleased)
    expect(w.task.run(file.ioctl(PIN_LONGTERM_TEST_READ, 0))).toBe(-EINVAL)
  })

  it('ends when any gup_test file is closed', () => {
    const w = new World()
    const { file } = opened(w)
    const start = { addr: w.map(2), size: 2 * PAGE_SIZE, flags: 3 }
    expect(w.task.run(file.ioctl(PIN_LONGTERM_TEST_START, start))).toBe(0)
    opened(w).file.put()
    expect(w.k.pinAcquired).toBe(w.k.pinReleased)
  })

  it('is not in 6.1', () => {
    const w = new World('6.1')
    expect(w.task.run(opened(w).file.ioctl(PIN_LONGTERM_TEST_STOP, null))).toBe(-EINVAL)
  })
})

describe('R-GUP-107 flag 2 of -z', () => {
  it('is FOLL_GET, which a pin rejects: size 0', () => {
    const w = new World()
    const { file } = opened(w)
    const at = w.map(2, { touched: true })
    for (const [, cmd] of pinning) {
      const test = request(at, 2, { gupFlags: FOLL_WRITE | FOLL_GET })
      expect(w.task.run(file.ioctl(cmd, test))).toBe(0)
      expect(test.size).toBe(0)
    }
    const test = request(at, 2, { gupFlags: FOLL_WRITE | FOLL_GET })
    expect(w.task.run(file.ioctl(GUP_BASIC_TEST, test))).toBe(0)
    expect(test.size).toBe(2 * PAGE_SIZE)
  })
})
