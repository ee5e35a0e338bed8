import { describe, expect, it } from 'vitest'
import { MADV_COLD, MADV_DONTNEED, MADV_PAGEOUT, MADV_WILLNEED } from '../../src/mm/mman.ts'
import type { IovecArray } from '../../src/mm/iovec.ts'
import { processMadvise, type ProcessMadviseCall } from '../../src/task/process-madvise.ts'
import type { ProcessOptions } from '../../src/task/process.ts'
import { findTask } from '../../src/task/task.ts'
import { PAGE_SIZE as P } from '../../src/base/units.ts'
import { result } from '../support/kernel.ts'
import { AT, RELEASES, RemoteRig } from './remote-rig.ts'

const ranges = (...pages: [page: number, pages: number][]): IovecArray =>
  pages.map(([page, length]) => ({ base: AT + page * P, length: length * P }))

describe.each(RELEASES)('process_madvise on %s', (release) => {
  const rig = (caller: ProcessOptions = { capabilities: ['CAP_SYS_NICE'] }): RemoteRig => {
    const made = new RemoteRig(release, { caller })
    made.map(4)
    return made
  }
  const call = (made: RemoteRig, what: Partial<ProcessMadviseCall>, self = false): number | string => {
    const target = findTask(made.kernel, self ? made.caller.pid : made.target.pid)
    const full = { target, ranges: ranges([0, 2]), count: 1, advice: MADV_COLD, flags: 0, ...what }
    return result(made.caller.run(processMadvise(made.kernel, full)))
  }

  it('R-AS-108 refusals in their order', () => {
    const made = rig()
    expect(call(made, { flags: 1, ranges: 'unreadable' })).toBe('-EINVAL')
    expect(call(made, { ranges: 'unreadable', target: null })).toBe('-EFAULT')
    expect(call(made, { count: 1025, target: null })).toBe('-EINVAL')
    expect(call(made, { target: null, advice: 99 })).toBe('-EBADF')
    expect(call(made, { advice: MADV_DONTNEED })).toBe('-EINVAL')
    const stranger = rig({ uid: 5 })
    // 6.13 on looks at the process first, then at the advice
    const late = made.kernel.release.mm.processMadviseSelf === 'any-advice'
    expect(call(stranger, { advice: MADV_DONTNEED })).toBe(late ? '-EACCES' : '-EINVAL')
    expect(call(stranger, {})).toBe('-EACCES')
    expect(call(rig({}), {})).toBe('-EPERM')
    const { target } = made
    const task = findTask(made.kernel, target.pid)
    target.exit()
    expect(call(made, { target: task })).toBe('-ESRCH')
  })

  it('R-AS-108 counts bytes of whole ranges', () => {
    const made = rig()
    expect(call(made, { ranges: ranges([0, 1], [2, 2]), count: 2 })).toBe(3 * P)
    expect(call(made, { ranges: ranges([0, 2], [3, 2]), count: 2 })).toBe(2 * P)
    expect(call(made, { ranges: ranges([3, 2], [0, 1]), count: 2 })).toBe('-ENOMEM')
    expect(call(made, { ranges: [], count: 0 })).toBe(0)
    expect(call(made, { advice: MADV_WILLNEED })).toBe(2 * P)
    expect(call(made, { advice: MADV_PAGEOUT })).toBe(2 * P)
  })

  it('R-AS-108 empty ranges count where something follows them', () => {
    const made = rig()
    const empty = { base: AT + 1, length: 0 }
    const [page] = ranges([0, 1]) as [{ base: number; length: number }]
    expect(call(made, { ranges: [empty] })).toBe(0)
    expect(call(made, { ranges: [page, empty], count: 2 })).toBe(P)
    expect(call(made, { ranges: [empty, page], count: 2 })).toBe('-EINVAL')
    if (made.kernel.release.mm.processMadviseSelf === 'any-advice')
      expect(call(made, { ranges: [empty], advice: 99 }, true)).toBe(0)
  })

  it('R-AS-108 oneself', () => {
    const made = rig({})
    const own = { ranges: [{ base: made.buffer, length: P }] }
    made.caller.store(made.buffer, Uint8Array.of(1))
    const { processMadviseSelf } = made.kernel.release.mm
    expect(call(made, own, true)).toBe(processMadviseSelf === 'needs-nice' ? '-EPERM' : P)
    const any = processMadviseSelf === 'any-advice'
    expect(call(made, { ...own, advice: MADV_DONTNEED }, true)).toBe(any ? P : '-EINVAL')
    expect(made.caller.load(made.buffer, 1)[0]).toBe(any ? 0 : 1)
  })
})
