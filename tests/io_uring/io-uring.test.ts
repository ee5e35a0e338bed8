import { EINVAL, ENOMEM } from '../../src/base/errno.ts'
import { describe, expect, it } from 'vitest'
import { RELEASE_NAMES, type ReleaseName } from '../../src/base/release.ts'
import { type IoUring, ioUringSetup } from '../../src/io_uring/io-uring.ts'
import * as flag from '../../src/io_uring/setup-flags.ts'
import type { SetupParams } from '../../src/io_uring/setup-flags.ts'
import { FdTable } from '../../src/task/fd-table.ts'
import { exitMmap } from '../../src/mm/exit-mmap.ts'
import { result, testKernel, testTask } from '../support/kernel.ts'
import { P, Rig } from './rig.ts'

function setup(release: ReleaseName, params: SetupParams): number | string {
  const k = testKernel({ release, zones: { normal: 4096 } })
  const ring = testTask(k, { uid: 0, capabilities: ['CAP_IPC_LOCK'] }).run(ioUringSetup(k, params))
  return typeof ring === 'number' ? result(ring) : 'ring'
}

describe.each(RELEASE_NAMES)('%s', (release) => {
  const since65 = release !== '6.1' && release !== 'gup-v3'
  const rows: readonly [string, SetupParams, string][] = [
    ['parameters that cannot be read', { entries: 0, unreadable: true }, '-EFAULT'],
    ['a reserved field', { entries: 4, reserved: 1 }, '-EINVAL'],
    ['an unknown flag', { entries: 4, flags: 1 << 25 }, '-EINVAL'],
    ['no entries', { entries: 0 }, '-EINVAL'],
    ['32768 entries', { entries: 32768 }, 'ring'],
    ['32769 entries', { entries: 32769 }, '-EINVAL'],
    ['40000 entries, clamped', { entries: 40000, flags: flag.IORING_SETUP_CLAMP }, 'ring'],
    ['REGISTERED_FD_ONLY alone', { entries: 4, flags: flag.IORING_SETUP_REGISTERED_FD_ONLY }, '-EINVAL'],
    ['DEFER_TASKRUN alone', { entries: 4, flags: flag.IORING_SETUP_DEFER_TASKRUN }, '-EINVAL'],
    [
      'DEFER_TASKRUN with SINGLE_ISSUER',
      { entries: 4, flags: flag.IORING_SETUP_DEFER_TASKRUN | flag.IORING_SETUP_SINGLE_ISSUER },
      'ring',
    ],
    ['SQ_AFF alone', { entries: 4, flags: flag.IORING_SETUP_SQ_AFF }, '-EINVAL'],
    ['TASKRUN_FLAG alone', { entries: 4, flags: flag.IORING_SETUP_TASKRUN_FLAG }, '-EINVAL'],
    [
      'SQPOLL with COOP_TASKRUN',
      { entries: 4, flags: flag.IORING_SETUP_SQPOLL | flag.IORING_SETUP_COOP_TASKRUN },
      '-EINVAL',
    ],
    ['CQSIZE 0', { entries: 4, flags: flag.IORING_SETUP_CQSIZE, cqEntries: 0 }, '-EINVAL'],
    [
      'CQSIZE below the submission queue',
      { entries: 4, flags: flag.IORING_SETUP_CQSIZE, cqEntries: 2 },
      '-EINVAL',
    ],
    ['CQSIZE rounded up', { entries: 4, flags: flag.IORING_SETUP_CQSIZE, cqEntries: 3 }, 'ring'],
    ['CQSIZE 70000', { entries: 4, flags: flag.IORING_SETUP_CQSIZE, cqEntries: 70000 }, '-EINVAL'],
    [
      'CQSIZE 70000, clamped',
      { entries: 4, flags: flag.IORING_SETUP_CQSIZE | flag.IORING_SETUP_CLAMP, cqEntries: 70000 },
      'ring',
    ],
    ['NO_SQARRAY', { entries: 4, flags: flag.IORING_SETUP_NO_SQARRAY }, since65 ? 'ring' : '-EINVAL'],
    [
      'CQE_MIXED',
      { entries: 4, flags: flag.IORING_SETUP_CQE_MIXED },
      release === '6.18' ? 'ring' : '-EINVAL',
    ],
  ]
  it.each(rows)('R-URING-6 %s', (_, params, expected) => {
    expect(setup(release, params)).toBe(expected)
  })

  it('R-URING-6 SQ_AFF alone is seen after the memory of the rings is charged, and gives it back', () => {
    const k = testKernel({ release, zones: { normal: 256 } })
    const task = testTask(k, { uid: 45050, limits: { memlock: 0 } })
    const params = { entries: 4, flags: flag.IORING_SETUP_SQ_AFF }
    // only 6.18 charges the memory of the rings
    expect(task.run(ioUringSetup(k, params))).toBe(release === '6.18' ? -ENOMEM : -EINVAL)
    const rich = testTask(k, { uid: 45050, limits: { memlock: 64 * P } })
    expect([rich.run(ioUringSetup(k, params)), k.user(45050).lockedVm]).toEqual([-EINVAL, 0])
  })

  it('R-URING-7 whose limit counts is decided when the ring is made', () => {
    const k = testKernel({ release, zones: { normal: 256 } })
    const task = testTask(k, { uid: 45050, limits: { memlock: 64 * P } })
    const limited = task.run(ioUringSetup(k, { entries: 4 })) as IoUring
    task.capabilities.add('CAP_IPC_LOCK')
    const free = task.run(ioUringSetup(k, { entries: 4 })) as IoUring
    expect(limited.user).toBe(k.user(45050))
    expect(free.user).toBeNull()
    expect([limited.mmAccount, free.mmAccount]).toEqual([task.mm, task.mm])
  })

  it('URING vector 52, R-URING-9: the buffers stay while anybody holds the file of the ring', () => {
    const rig = new Rig(release)
    expect(rig.buffer(rig.anon(4), 4 * P).result).toBe(0)
    const files = new FdTable()
    const fd = files.install(rig.ring.file, 16)
    const copy = files.clone()
    files.close(fd)
    expect(rig.pinned).toBe(4)
    copy.closeAll()
    expect(rig.pinned).toBe(0)
    expect(rig.vmPin).toBe(0)
    expect(rig.k.holders.has(rig.ring)).toBe(false)
    expect(rig.buffer(rig.anon(1), P).result).toBe('-ENXIO')
  })

  it('R-URING-69 pins and charges outlive the creator', () => {
    const rig = new Rig(release)
    const { k, task } = rig
    const mm = task.space
    expect(rig.buffer(rig.anon(4), 4 * P).result).toBe(0)
    mm.users = 0
    task.run(exitMmap(k, mm))
    expect(rig.pinned).toBe(4)
    expect(mm.pinnedVm).toBe(4)
    const survivor = testTask(k, { comm: 'survivor' })
    expect(rig.unregister(rig.ring, survivor).result).toBe(0)
    expect(mm.pinnedVm).toBe(0)
    expect(rig.pinned).toBe(0)
  })

  it('R-URING-53 no tags when the ring ends', () => {
    const rig = new Rig(release)
    rig.register2({ nr: 1, data: [{ base: rig.anon(1), length: P }], tags: [5] })
    rig.ring.file.put()
    expect(rig.ring.cqes).toEqual([])
    expect(rig.pinned).toBe(0)
  })
})
