import { describe, expect, test } from 'vitest'
import type { ReleaseName } from '../../src/base/release.ts'
import { gupSwitches } from '../../src/base/releases/gup.ts'
import { PAGE_SIZE } from '../../src/base/units.ts'
import {
  FOLL_GET,
  FOLL_HONOR_NUMA_FAULT,
  FOLL_HWPOISON,
  FOLL_INTERRUPTIBLE,
  FOLL_LONGTERM,
  FOLL_PCI_P2PDMA,
  FOLL_PIN,
  FOLL_REMOTE,
  FOLL_SAME_FILE,
  FOLL_TOUCH,
  FOLL_WRITE,
} from '../../src/mm/gup-flags.ts'
import {
  LockedGuard,
  PageArray,
  getUserPagesFastOnly,
  getUserPagesRemote,
  getUserPagesUnlocked,
  pinUserPages,
  pinUserPagesFast,
  pinUserPagesRemote,
  pinUserPagesUnlocked,
} from '../../src/mm/gup.ts'
import { result } from '../support/kernel.ts'
import { World } from './gup-fixture.ts'

const all: ReleaseName[] = ['gup-v3', '6.1', '6.6', '6.12', '6.18']
const modern: ReleaseName[] = ['gup-v3', '6.6', '6.12', '6.18']

/** result of a call together with whether it warned about its arguments */
function rejected(w: World, got: number): [number | string, boolean] {
  return [result(got), w.k.warnings.some((warning) => warning.id.startsWith('gup-'))]
}

describe('rejected arguments', () => {
  test.each(all.map((release) => [release, release === '6.1' ? '-EINVAL' : 0] as const))(
    'GUP vector 10: pin_user_pages with FOLL_GET on %s gives %s (GUP vector 11)',
    (release, expected) => {
      const w = new World(release)
      const got = w.pin(w.map(1), 1, FOLL_GET)
      expect(rejected(w, got.result)).toEqual([expected, true])
      expect(w.task.refusal).toMatchObject({ errno: 22, rule: release === '6.1' ? 'R-GUP-9' : 'R-GUP-7' })
      expect(w.mm.hasPinned).toBe(false)
    },
  )

  test.each(all)('GUP vector 12: pin_user_pages_fast with FOLL_GET on %s', (release) => {
    const w = new World(release)
    expect(rejected(w, w.pinFast(w.map(1), 1, FOLL_GET).result)).toEqual(['-EINVAL', true])
  })

  test.each(all)('GUP vector 13: get_user_pages with FOLL_LONGTERM on %s', (release) => {
    const w = new World(release)
    expect(rejected(w, w.get(w.map(1), 1, FOLL_LONGTERM).result)).toEqual(['-EINVAL', true])
  })

  test('GUP vector 15: pin_user_pages_remote, longterm with a lent lock, on 6.1', () => {
    const w = new World('6.1')
    const a = w.map(1)
    const locked = new LockedGuard(w.mm.mmapLock.tryRead()!)
    const got = w.task.run(pinUserPagesRemote(w.k, w.mm, a, 1, FOLL_LONGTERM, new PageArray(1), locked))
    locked.guard!.release()
    expect(rejected(w, got)).toEqual(['-EINVAL', true])
  })

  test('GUP vector 16: the fast functions do not know FOLL_SAME_FILE', () => {
    const w = new World('gup-v3')
    expect(rejected(w, w.pinFast(w.map(1), 1, FOLL_SAME_FILE).result)).toEqual(['-EINVAL', true])
    expect(w.mm.hasPinned).toBe(false)
  })

  test.each(modern)('GUP vector 17: longterm and PCI_P2PDMA exclude each other on %s', (release) => {
    const w = new World(release)
    expect(rejected(w, w.pin(w.map(1), 1, FOLL_LONGTERM | FOLL_PCI_P2PDMA).result)).toEqual([0, true])
  })

  test.each(
    modern.flatMap((release) => [FOLL_INTERRUPTIBLE, FOLL_HWPOISON].map((flag) => [release, flag] as const)),
  )('R-GUP-10 the fast functions of %s refuse flag %i', (release, flag) => {
    const w = new World(release)
    expect(result(w.pinFast(w.map(1), 1, flag).result)).toBe('-EINVAL')
    expect(w.task.refusal).toMatchObject({ rule: 'R-GUP-10' })
  })

  const calls = {
    get_user_pages: (w: World, a: number, f: number) => w.get(a, 1, f).result,
    get_user_pages_remote: (w: World, a: number, f: number) =>
      w.underLock((guard) => getUserPagesRemote(w.k, w.mm, a, 1, f, new PageArray(1), guard)),
    get_user_pages_unlocked: (w: World, a: number, f: number) =>
      w.task.run(getUserPagesUnlocked(w.k, a, 1, new PageArray(1), f)),
    get_user_pages_fast: (w: World, a: number, f: number) => w.getFast(a, 1, f).result,
    get_user_pages_fast_only: (w: World, a: number, f: number) =>
      w.attempt(1, (pages) =>
        w.task.run(
          (function* () {
            return getUserPagesFastOnly(w.k, a, 1, f, pages)
          })(),
        ),
      ).result,
    pin_user_pages: (w: World, a: number, f: number) => w.pin(a, 1, f).result,
    pin_user_pages_remote: (w: World, a: number, f: number) =>
      w.underLock((guard) => pinUserPagesRemote(w.k, w.mm, a, 1, f, new PageArray(1), guard)),
    pin_user_pages_unlocked: (w: World, a: number, f: number) =>
      w.task.run(pinUserPagesUnlocked(w.k, a, 1, new PageArray(1), f)),
    pin_user_pages_fast: (w: World, a: number, f: number) => w.pinFast(a, 1, f).result,
  }
  const zeroes = ['pin_user_pages', 'pin_user_pages_remote', 'pin_user_pages_unlocked']

  test.each(Object.entries(calls))(
    'R-GUP-8, R-COM-11 what %s returns for FOLL_PIN passed by the caller',
    (name, call) => {
      for (const release of modern) {
        const w = new World(release)
        expect(result(call(w, w.map(1), FOLL_PIN))).toBe(zeroes.includes(name) ? 0 : '-EINVAL')
      }
    },
  )

  test.each(Object.entries(calls).filter(([name]) => name.startsWith('get_')))(
    'R-GUP-1, R-GUP-8 what %s returns for FOLL_LONGTERM on 6.1',
    (name, call) => {
      const w = new World('6.1')
      expect(result(call(w, w.map(1), FOLL_LONGTERM))).toBe(
        name === 'get_user_pages_fast_only' ? 0 : '-EINVAL',
      )
    },
  )

  test('R-GUP-7 FOLL_TOUCH of the caller is tolerated by the series only', () => {
    for (const release of modern) {
      const w = new World(release)
      const got = w.get(w.map(1), 1, FOLL_TOUCH)
      expect(result(got.result)).toBe(release === 'gup-v3' ? 1 : '-EINVAL')
      got.put()
    }
    const w = new World('gup-v3')
    expect(result(w.get(w.map(1), 1, FOLL_REMOTE).result)).toBe('-EINVAL')
  })

  test('R-GUP-7 a pin needs an array', () => {
    for (const release of all) {
      const w = new World(release)
      const a = w.map(1)
      const got = w.underLock((guard) => pinUserPages(w.k, guard, a, 1, 0, null))
      expect(result(got)).toBe(release === '6.1' ? '-EINVAL' : 0)
      expect(result(w.task.run(pinUserPagesFast(w.k, a, 1, 0, null)))).toBe('-EINVAL')
    }
  })

  test('R-COM-24, R-GUP-116 FOLL_SAME_FILE and FOLL_HONOR_NUMA_FAULT have one number on different releases', () => {
    const numbers = all.map((name) => {
      const { FOLL_SAME_FILE: file, FOLL_HONOR_NUMA_FAULT: numa } = gupSwitches[name].flagValues
      return [name, file, numa]
    })
    const bit = 1 << 12
    expect(numbers).toEqual([
      ['gup-v3', bit, null],
      ['6.1', null, null],
      ['6.6', null, bit],
      ['6.12', null, bit],
      ['6.18', null, bit],
    ])
    // here they are two flags, so that neither can be taken for the other
    expect(FOLL_SAME_FILE & FOLL_HONOR_NUMA_FAULT).toBe(0)
  })

  test('R-GUP-5 a flag without a number on the release cannot be passed', () => {
    const w = new World('6.18')
    expect(() => w.pin(w.map(1), 1, FOLL_SAME_FILE)).toThrow('FOLL_SAME_FILE does not exist on 6.18')
    const old = new World('6.1')
    expect(() => old.pin(old.map(1), 1, FOLL_INTERRUPTIBLE)).toThrow(RangeError)
  })

  test('R-GUP-7 the warning is given once', () => {
    const w = new World()
    const a = w.map(1)
    w.pin(a, 1, FOLL_GET)
    w.pin(a, 1, FOLL_GET)
    expect(w.k.warnings).toHaveLength(1)
  })
})

describe('ranges of the fast functions', () => {
  const top = 2 ** 64 - PAGE_SIZE

  test.each([
    ['GUP vector 18', '6.1', 0],
    ['GUP vector 18', 'gup-v3', 0],
    ['GUP vector 19', '6.6', '-EOVERFLOW'],
    ['GUP vector 19', '6.12', '-EOVERFLOW'],
    ['R-GUP-10', '6.18', '-EOVERFLOW'],
  ] as const)('%s: the range wraps, %s gives %s', (_vector, release, expected) => {
    const w = new World(release)
    expect(result(w.pinFast(top, 2).result)).toBe(expected)
    expect(w.mm.hasPinned).toBe(true)
  })

  test('R-GUP-10 beyond user memory', () => {
    const w = new World()
    expect(result(w.pinFast(0x7fffffffe000, 2).result)).toBe('-EFAULT')
    expect(result(w.pinFast(0xffff800000000000, 1).result)).toBe('-EFAULT')
  })

  test.each([
    ['gup-v3', 0x10000, 0],
    ['6.18', 0x10000, '-EOVERFLOW'],
    ['6.18', 0, '-EFAULT'],
  ] as const)('R-GUP-10 a negative count on %s from %i gives %s', (release, start, expected) => {
    const w = new World(release)
    const got = w.attempt(1, (pages) => w.task.run(pinUserPagesFast(w.k, start, -1, FOLL_WRITE, pages)))
    expect(result(got.result)).toBe(expected)
  })
})

test.each(all)('R-GUP-11, R-GUP-35, R-GUP-47 no pages asked for, on %s', (release) => {
  const w = new World(release)
  const a = w.map(1)
  expect(w.pin(a, 0).result).toBe(0)
  expect(w.mm.hasPinned).toBe(!['6.12', '6.18'].includes(release))
  // nothing asked for is not "no page and no error"
  expect(w.k.warnings).toEqual([])
  expect(w.pinFast(a, 0).result).toBe(0)
  expect(w.pfn(a)).toBe(0)
})
