import { describe, expect, test } from 'vitest'
import { PAGE_SIZE } from '../../../src/base/units.ts'
import { exitMmap } from '../../../src/mm/exit-mmap.ts'
import { ASYNC_PF_PER_VCPU, KvmAsyncPf } from '../../../src/virt/kvm/async-pf.ts'
import {
  UFFDIO_REGISTER_MODE_MISSING,
  createUserfaultfd,
  uffdCopy,
  uffdRegister,
} from '../../../src/mm/userfaultfd.ts'
import { testTask } from '../../support/kernel.ts'
import { World } from '../../mm/gup-fixture.ts'

const RELEASES = ['gup-v3', '6.1', '6.6', '6.12', '6.18'] as const

describe.each(RELEASES)('async_pf on %s', (release) => {
  test('R-APF-2 brings a private page in, for writing, and holds nothing', () => {
    const w = new World(release)
    const a = w.map(1)
    const async = new KvmAsyncPf(w.k, w.mm)
    expect([async.setup(a), async.queued, async.complete()]).toEqual([true, 1, null])
    testTask(w.k, { comm: 'kworker', mm: null }).run(async.work.shift()!)
    expect(w.pfn(a)).not.toBe(w.k.zeroPfn)
    expect(w.ref(w.pfn(a))).toBe(1)
    expect([async.complete(), async.queued]).toEqual([a, 0])
  })

  test('R-APF-3 a failure completes as well', () => {
    const w = new World(release)
    const async = new KvmAsyncPf(w.k, w.mm)
    expect(async.setup(0x7000000)).toBe(true)
    testTask(w.k, { mm: null }).run(async.work.shift()!)
    expect(async.complete()).toBe(0x7000000)
  })

  test('R-APF-1 at most 64 at once, none without an address', () => {
    const w = new World(release)
    const async = new KvmAsyncPf(w.k, w.mm)
    expect(async.setup(null)).toBe(false)
    for (let i = 0; i < ASYNC_PF_PER_VCPU; i++) expect(async.setup(i * PAGE_SIZE)).toBe(true)
    expect(async.setup(0)).toBe(false)
    const worker = testTask(w.k, { mm: null })
    for (const work of async.work.splice(0)) worker.run(work)
    expect([async.complete(), async.setup(0)]).toEqual([0, true])
    worker.run(async.work.shift()!)
  })

  test('R-APF-2 it sleeps for a userfaultfd and drops the lock meanwhile', () => {
    const w = new World(release)
    const a = w.map(1)
    const uffd = createUserfaultfd(w.k)
    w.task.run(uffdRegister(w.k, uffd, w.mm, a, PAGE_SIZE, UFFDIO_REGISTER_MODE_MISSING))
    const async = new KvmAsyncPf(w.k, w.mm)
    async.setup(a)
    const work = w.k.scheduler.spawn('kworker', testTask(w.k, { mm: null }), async.work.shift()!)
    w.k.scheduler.runUntilIdle()
    expect([work.done, w.mm.mmapLock.locked, async.complete()]).toEqual([false, false, null])
    w.task.run(uffdCopy(w.k, uffd, w.mm, a, new Uint8Array(PAGE_SIZE)))
    w.k.scheduler.run()
    expect(async.complete()).toBe(a)
  })

  test('R-APF-1 the process exits before the work runs', () => {
    const w = new World(release)
    const a = w.map(1)
    const async = new KvmAsyncPf(w.k, w.mm)
    async.setup(a)
    const holds = w.k.release.kvm.asyncPfHoldsMm
    expect(w.mm.users).toBe(holds ? 2 : 1)
    w.mm.users--
    if (w.mm.users === 0) w.task.run(exitMmap(w.k, w.mm))
    testTask(w.k, { mm: null }).run(async.work.shift()!)
    expect([w.k.mms.has(w.mm), async.complete()]).toEqual([false, a])
  })
})
