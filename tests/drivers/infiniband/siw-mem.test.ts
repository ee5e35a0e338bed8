import { describe, expect, it } from 'vitest'
import { siwProvider } from '../../../src/drivers/infiniband/siw-mem.ts'
import { P, RELEASES, Rig, answer, reason, walkDevice } from '../rig.ts'
import { LW, RR, deregMr, openVerbs, regMr } from './verbs.ts'

const CAP = { capabilities: ['CAP_IPC_LOCK' as const] }

describe.each(RELEASES)('siw on %s', (release) => {
  const byItself = release === '6.1' || release === 'gup-v3' || release === '6.6'

  it('DRV vector 59: CAP_IPC_LOCK does not help before 6.8 (R-SIW-1, R-SIW-2, R-SIW-4)', () => {
    const rig = new Rig(release, { ...CAP, limit: 8 })
    const verbs = openVerbs(rig.app, siwProvider())
    const at = rig.memory('rw16')
    expect(answer(() => regMr(verbs, at, 16 * P))).toBe(byItself ? '-ENOMEM' : 1)
    expect([rig.app.mm!.pinnedVm, rig.pinned]).toEqual(byItself ? [0, 0] : [16, 16])
  })

  it('R-SIW-1 the size is compared with what mlock leaves of the limit, and with nothing when it is exceeded', () => {
    const rig = new Rig(release, { limit: 16 })
    const verbs = openVerbs(rig.app, siwProvider())
    const locked = rig.memory('rw12')
    rig.app.mlock(locked, 12 * P)
    const at = rig.memory('rw16')
    if (byItself) {
      expect(reason(() => regMr(verbs, at, 5 * P))).toMatchObject({
        rule: 'R-SIW-1',
        needed: 5,
        used: 12,
        limit: 16,
        budget: 'mm->locked_vm',
      })
      rig.app.setLimit('memlock', 11 * P)
      expect(regMr(verbs, at, 8 * P)).toBe(1)
      expect(reason(() => regMr(verbs, at, 4 * P))).toMatchObject({ rule: 'R-SIW-2', used: 8, limit: 11 })
    } else expect(regMr(verbs, at, 16 * P)).toBe(1)
  })

  it('R-SIW-2 a limit of 0 is EPERM, unless the size is compared first; no bytes are EINVAL', () => {
    const rig = new Rig(release, { limit: 0 })
    const verbs = openVerbs(rig.app, siwProvider())
    const at = rig.memory('rw4')
    expect(answer(() => regMr(verbs, at, P))).toBe(byItself ? '-ENOMEM' : '-EPERM')
    expect(answer(() => regMr(verbs, at, 0))).toBe('-EINVAL')
  })

  it('R-SIW-3 pins more than a page of pointers, unwinds at a hole, and forgets nothing', () => {
    const rig = new Rig(release)
    const verbs = openVerbs(rig.app, siwProvider())
    const at = rig.memory('rw600+hole4+ro4')
    const mr = regMr(verbs, at, 600 * P)
    verbs.device.write(mr, 599 * P, new Uint8Array([7]))
    expect(rig.app.load(at + 599 * P, 1)[0]).toBe(7)
    expect(answer(() => regMr(verbs, at, 601 * P))).toBe('-EFAULT')
    expect([rig.pinned, rig.app.mm!.pinnedVm]).toEqual([600, 600])
    expect(regMr(verbs, at + 604 * P, P, RR)).toBe(2)
    expect(answer(() => regMr(verbs, at + 604 * P, P, LW))).toBe('-EFAULT')
    deregMr(verbs, mr)
    verbs.close()
    expect([rig.pinned, rig.app.mm!.pinnedVm]).toEqual([0, 0])
  })

  it.each([
    ['R-SIW-5 an answer that does not fit', { response: 'too-small' as const }, '-EINVAL'],
    ['R-SIW-5 an answer that cannot be written', { response: 'unreadable' as const }, '-EFAULT'],
    ['R-SIW-1 no more regions', { maxMr: 0 }, '-ENOMEM'],
  ])('%s', (_name, options, expected) => {
    const rig = new Rig(release)
    const verbs = openVerbs(rig.app, siwProvider(options))
    expect(answer(() => regMr(verbs, rig.memory('rw4'), P))).toBe(expected)
    expect([rig.pinned, rig.app.mm!.pinnedVm]).toEqual([0, 0])
  })

  it('R-SIW-3 what fails anywhere is undone, and a killed process leaves nothing', () => {
    const steps = walkDevice(
      release,
      (rig) => {
        const at = rig.memory('rw4+memfd4')
        const verbs = openVerbs(rig.app, siwProvider())
        return () => deregMr(verbs, regMr(verbs, at, 8 * P))
      },
      { limit: 64 },
    )
    expect(steps).toBeGreaterThan(20)
  })
})
