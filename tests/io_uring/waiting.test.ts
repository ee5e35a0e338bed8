/** Registrations that sleep in a fault, are killed, or change the pages they pin. */
import { describe, expect, it } from 'vitest'
import { RELEASE_NAMES, type ReleaseName } from '../../src/base/release.ts'
import { IORING_REGISTER_BUFFERS, ioUringRegister } from '../../src/io_uring/register.ts'
import { forkMm } from '../../src/mm/fork.ts'
import { Mm } from '../../src/mm/mm.ts'
import { pmdIndex, pteSlot, Leaf } from '../../src/mm/page-table.ts'
import {
  UFFDIO_REGISTER_MODE_MISSING,
  createUserfaultfd,
  uffdCopy,
  uffdRegister,
} from '../../src/mm/userfaultfd.ts'
import { result, testTask } from '../support/kernel.ts'
import { P, Rig } from './rig.ts'

const FAST: readonly ReleaseName[] = ['6.12', '6.18']

function pfnAt(mm: Mm, address: number): number {
  const leaf = mm.pageTable.pmd(pmdIndex(address))
  return leaf instanceof Leaf ? leaf.pfn[pteSlot(address)]! : 0
}

describe.each(RELEASE_NAMES)('%s', (release) => {
  const fast = FAST.includes(release)

  it('R-URING-34 a page that userfaultfd watches: sleeps with uring_lock held from 6.12 on, EFAULT before', () => {
    const rig = new Rig(release)
    const { k, task, ring } = rig
    const a = rig.anon(4)
    const uffd = createUserfaultfd(k)
    rig.ok(uffdRegister(k, uffd, task.space, a, 4 * P, UFFDIO_REGISTER_MODE_MISSING))
    if (!fast) {
      expect(rig.buffer(a, P)).toEqual({ result: '-EFAULT', acq: 0, rel: 0, vmPin: 0 })
      return
    }
    const results: (number | string)[] = []
    const body = function* (base: number) {
      const arg = { type: 'iovecs', iovecs: [{ base, length: P }] } as const
      results.push(result(yield* ioUringRegister(k, ring, IORING_REGISTER_BUFFERS, arg, 1)))
    }
    k.scheduler.spawn('first', task, body(a))
    k.scheduler.spawn('second', testTask(k, { mm: task.mm }), body(rig.anon(1)))
    expect(k.scheduler.runUntilIdle()).toBe(false)
    expect(ring.uringLock.locked).toBe(true)
    expect(task.space.mmapLock.locked).toBe(false)
    expect(uffd.read()).toMatchObject({ address: a })
    rig.ok(uffdCopy(k, uffd, task.space, a, new Uint8Array(P).fill(7)))
    k.scheduler.run()
    expect(results).toEqual([0, '-EBUSY'])
    expect(rig.pinned).toBe(1)
  })

  it('R-URING-35 a fatal signal: EINTR before anything is pinned, EFAULT after', () => {
    const rig = new Rig(release)
    const a = rig.anon(4)
    rig.task.fatalSignalPending = true
    expect(rig.buffer(a, 4 * P)).toEqual({ result: '-EINTR', acq: 0, rel: 0, vmPin: 0 })
    rig.task.fatalSignalPending = false
    rig.touch(a)
    rig.task.fatalSignalPending = true
    const outcome = rig.buffer(a, 4 * P)
    // the lockless part of 6.12 and later takes the page that is there, and does not look at signals
    if (fast) expect(outcome).toEqual({ result: '-EFAULT', acq: 1, rel: 1, vmPin: 0 })
    else expect(outcome).toEqual({ result: '-EINTR', acq: 0, rel: 0, vmPin: 0 })
    rig.task.fatalSignalPending = false
  })

  it('R-URING-23 registering populates memory and replaces the zero page', () => {
    const rig = new Rig(release)
    const { k, task } = rig
    const a = rig.anon(4)
    rig.touch(a, false)
    expect(pfnAt(task.space, a)).toBe(k.zeroPfn)
    expect(task.space.rssAnon).toBe(0)
    expect(rig.buffer(a, 4 * P).result).toBe(0)
    expect(pfnAt(task.space, a)).not.toBe(k.zeroPfn)
    expect(task.space.rssAnon).toBe(4)
  })

  it('R-URING-23 registering un-shares a page that a child still maps: the parent gets a new one', () => {
    const rig = new Rig(release)
    const { k, task } = rig
    const a = rig.anon(1)
    rig.touch(a)
    const before = pfnAt(task.space, a)
    const child = task.run(forkMm(k, task.space, 'child'))
    if (!(child instanceof Mm)) throw new Error('fork failed')
    expect(rig.buffer(a, P).result).toBe(0)
    expect(pfnAt(child, a)).toBe(before)
    expect(pfnAt(task.space, a)).not.toBe(before)
    expect(rig.ring.buffers!.buffer(0)!.pfnAt(k.memory.frames, 0)).toBe(pfnAt(task.space, a))
  })

  it('R-URING-63, R-URING-67 fork after registering: the parent keeps the pinned page, the child gets a copy', () => {
    const rig = new Rig(release)
    const { k, task } = rig
    const a = rig.anon(3)
    for (let i = 0; i < 3; i++) rig.touch(a + i * P)
    expect(rig.buffer(a, 2 * P).result).toBe(0)
    const pinned = pfnAt(task.space, a)
    const child = task.run(forkMm(k, task.space, 'child'))
    if (!(child instanceof Mm)) throw new Error('fork failed')
    expect(pfnAt(task.space, a)).toBe(pinned)
    expect(pfnAt(child, a)).not.toBe(pinned)
    // the neighbour that is not pinned is shared
    const neighbour = pfnAt(task.space, a + 2 * P)
    expect(pfnAt(child, a + 2 * P)).toBe(neighbour)
    expect([pinned, neighbour].map((pfn) => k.memory.frames.mapcount[pfn])).toEqual([1, 2])
    expect(child.pinnedVm).toBe(0)
    expect(rig.vmPin).toBe(2)
  })
})
