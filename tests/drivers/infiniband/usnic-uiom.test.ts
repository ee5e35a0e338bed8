import { describe, expect, it } from 'vitest'
import { usnicProvider } from '../../../src/drivers/infiniband/usnic-uiom.ts'
import { P, RELEASES, Rig, answer, reason, walkDevice } from '../rig.ts'
import { RR, deregMr, openVerbs, regMr } from './verbs.ts'

describe.each(RELEASES)('usnic on %s', (release) => {
  it('DRV vector 60: a failure after 512 pages leaves them charged (R-USNIC-2, R-USNIC-3)', () => {
    const rig = new Rig(release, { limit: 10_000 })
    const verbs = openVerbs(rig.app, usnicProvider())
    const at = rig.memory('rw512+hole88')
    expect(answer(() => regMr(verbs, at, 600 * P))).toBe('-EFAULT')
    expect([rig.app.mm!.pinnedVm, rig.pinned]).toEqual([512, 0])
  })

  it('R-USNIC-1 limit, EPERM, no bytes, overflow', () => {
    const rig = new Rig(release, { limit: 8 })
    const verbs = openVerbs(rig.app, usnicProvider())
    const at = rig.memory('rw16')
    expect(reason(() => regMr(verbs, at, 9 * P))).toMatchObject({ rule: 'R-USNIC-1', needed: 9, limit: 8 })
    expect(rig.app.mm!.pinnedVm).toBe(0)
    expect(answer(() => regMr(verbs, at, 0))).toBe('-EINVAL')
    expect(answer(() => regMr(verbs, 2 ** 64 - 2 ** 13, 2 ** 13))).toBe('-EINVAL')
    rig.app.setLimit('memlock', 0)
    expect(answer(() => regMr(verbs, at, P))).toBe('-EPERM')
  })

  it('R-USNIC-1 is always for writing: read-only memory is EFAULT whatever is asked for', () => {
    const rig = new Rig(release, { capabilities: ['CAP_IPC_LOCK'], limit: 0 })
    const verbs = openVerbs(rig.app, usnicProvider())
    expect(answer(() => regMr(verbs, rig.memory('ro4'), P, RR))).toBe('-EFAULT')
    expect(regMr(verbs, rig.memory('rw4'), P, RR)).toBe(1)
  })

  it('R-USNIC-4 registrations that overlap share what is mapped', () => {
    const rig = new Rig(release)
    const verbs = openVerbs(rig.app, usnicProvider())
    const at = rig.memory('rw8')
    const first = regMr(verbs, at, 4 * P)
    const second = regMr(verbs, at + 2 * P, 4 * P)
    expect(rig.pinned).toBe(8)
    verbs.device.write(second, 0, new TextEncoder().encode('both'))
    const seen = new Uint8Array(4)
    expect(verbs.device.read(first, 2 * P, seen)).toBe(true)
    expect(rig.text(seen)).toBe('both')
    deregMr(verbs, first)
    expect(verbs.device.read(second, 0, seen)).toBe(true)
    expect(verbs.device.read(second, 4 * P - 4, seen)).toBe(true)
    deregMr(verbs, second)
    expect([rig.pinned, rig.app.mm!.pinnedVm]).toEqual([0, 0])
  })

  it('R-USNIC-3 what a failure leaks is declared, the rest is undone', () => {
    const steps = walkDevice(release, (rig) => {
      const at = rig.memory('rw4+memfd4')
      const verbs = openVerbs(rig.app, usnicProvider())
      return () => deregMr(verbs, regMr(verbs, at, 8 * P))
    })
    expect(steps).toBeGreaterThan(15)
  })
})
