import { describe, expect, it } from 'vitest'
import {
  IPC_CREAT,
  IPC_EXCL,
  IPC_PRIVATE,
  SHM_DEST,
  SHM_EXEC,
  SHM_HUGETLB,
  SHM_NORESERVE,
  SHM_RDONLY,
  SHM_REMAP,
  SHM_RND,
  shmRemove,
  shmStatus,
  shmat,
  shmdt,
  shmget,
} from '../../src/ipc/shm.ts'
import { exitMmap } from '../../src/mm/exit-mmap.ts'
import { forkMm } from '../../src/mm/fork.ts'
import { hugetlbPool } from '../../src/mm/hugetlb.ts'
import { madvise } from '../../src/mm/madvise.ts'
import { MADV_REMOVE } from '../../src/mm/mman.ts'
import type { Mm } from '../../src/mm/mm.ts'
import { mprotect } from '../../src/mm/mprotect.ts'
import { mremap } from '../../src/mm/mremap.ts'
import { munmap } from '../../src/mm/munmap.ts'
import { ALL, H, P, Q, R, RW, Space } from '../mm/address-space.ts'
import { testTask } from '../support/kernel.ts'

const segment = (s: Space, pages = 4, flags = 0o600, key = IPC_PRIVATE): number =>
  s.task.run(shmget(s.k, key, pages * P, IPC_CREAT | flags))
const attach = (s: Space, id: number, page: number, flags = 0): number | string =>
  s.call(shmat(s.k, s.mm, id, Q + page * P, flags))
const detach = (s: Space, page: number): number | string => s.call(shmdt(s.k, s.mm, Q + page * P))

function attached(s: Space, id: number): number | null {
  let status: ReturnType<typeof shmStatus> = -1
  s.task.run(
    (function* () {
      status = shmStatus(s.k, id)
    })(),
  )
  return typeof status === 'number' ? null : (status as { attached: number }).attached
}

describe.each(ALL)('SysV shared memory on %s', (release) => {
  it('R-AS-171 shmget', () => {
    const s = new Space(release)
    const get = (key: number, size: number, flags: number): number | string =>
      s.call(shmget(s.k, key, size, flags))
    expect(get(0x1234, P, 0)).toBe('-ENOENT')
    expect(get(IPC_PRIVATE, 0, IPC_CREAT)).toBe('-EINVAL')
    const id = get(0x1234, 2 * P, IPC_CREAT | 0o600)
    expect(get(0x1234, 3 * P, 0)).toBe('-EINVAL')
    expect([get(0x1234, P, 0), get(0x1234, 0, 0o777)]).toEqual([id, '-EACCES'])
    expect(get(0x1234, P, IPC_CREAT | IPC_EXCL)).toBe('-EEXIST')
    expect(get(0x1234, 0, 0o600)).toBe(id)
    expect(s.k.committed).toBe(2)
    get(IPC_PRIVATE, P, SHM_NORESERVE)
    expect(s.k.committed).toBe(2)
  })

  it('R-AS-172 shmat: addresses', () => {
    const s = new Space(release, { capabilities: ['CAP_SYS_RAWIO'] })
    const id = segment(s)
    expect(attach(s, id, 0)).toBe(Q)
    expect(s.flags(0)).toBe('rd wr sh mr mw me ms')
    expect(attach(s, id, 0)).toBe('-EINVAL')
    expect(attach(s, id, 3)).toBe('-EINVAL')
    expect(attach(s, id, 0, SHM_REMAP)).toBe(Q)
    const at = (addr: number, flags: number, which = id): number | string =>
      s.call(shmat(s.k, s.mm, which, addr, flags))
    expect(at(Q + 10 * P + 1, 0)).toBe('-EINVAL')
    expect(at(Q + 10 * P + 1, SHM_RND)).toBe(Q + 10 * P)
    expect(at(0, SHM_REMAP)).toBe('-EINVAL')
    expect(at(5, SHM_RND | SHM_REMAP)).toBe('-EINVAL')
    expect(at(5, SHM_RND)).toBe(0)
    expect(at(-P, 0)).toBe('-EINVAL')
    expect(at(-(2 ** 47), 0)).toBe('-ENOMEM')
    expect(at(0, 0, -1)).toBe('-EINVAL')
    expect(at(0, 0, 77)).toBe('-EINVAL')
    expect(at(0, 0)).toBeGreaterThan(0)
  })

  it('R-AS-172 shmat: access', () => {
    const s = new Space(release)
    expect(attach(s, segment(s), 0, SHM_EXEC)).toBe('-EACCES')
    const id = segment(s, 4, 0o700)
    attach(s, id, 0, SHM_EXEC)
    attach(s, id, 10, SHM_RDONLY)
    expect(s.list()).toEqual(['0+4 rwx', '10+4 r--'])
    expect(s.call(mprotect(s.k, s.mm, Q + 10 * P, P, RW))).toBe('-EACCES')
    s.store(1, 7)
    expect(s.load(11)).toBe(7)
    const other = testTask(s.k, { uid: 7 })
    expect(other.run(shmat(s.k, other.space, id, 0, SHM_RDONLY))).toBe(-13)
    expect(other.run(shmRemove(s.k, id))).toBe(-1)
    other.capabilities.add('CAP_IPC_OWNER')
    expect(other.run(shmat(s.k, other.space, id, Q, 0))).toBe(Q)
    expect(attached(s, id)).toBe(3)
  })

  it('R-AS-172 shmat fails as mmap does and leaves nothing', () => {
    const s = new Space(release, { limits: { as: 2 * P } })
    const id = segment(s)
    expect(attach(s, id, 0)).toBe('-ENOMEM')
    expect(attached(s, id)).toBe(0)
  })

  it('R-AS-173 shmdt takes the pieces of one attachment', () => {
    const s = new Space(release)
    const [id, other] = [segment(s), segment(s, 2)]
    attach(s, id, 0)
    attach(s, other, 1, SHM_REMAP)
    expect(s.list()).toEqual(['0+1 rw-', '1+2 rw-', '3+1 rw-'])
    expect(detach(s, 0)).toBe(0)
    expect(s.list()).toEqual(['1+2 rw-'])
    expect(detach(s, 1)).toBe(0)
    attach(s, id, 0)
    s.call(munmap(s.k, s.mm, Q, P))
    expect(detach(s, 1)).toBe('-EINVAL')
    expect(detach(s, 0)).toBe(0)
    expect(s.call(shmdt(s.k, s.mm, Q + 1))).toBe('-EINVAL')
    expect(s.vmas()).toEqual([])
  })

  it('R-AS-173 shmdt of a moved and of a grown attachment', () => {
    const s = new Space(release)
    const id = segment(s)
    attach(s, id, 0)
    s.call(mremap(s.k, s.mm, Q, P, P, 3, Q + 20 * P))
    expect(s.list()).toEqual(['1+3 rw-', '20+1 rw-'])
    expect(detach(s, 20)).toBe(0)
    expect(s.call(mremap(s.k, s.mm, Q + P, 3 * P, 9 * P, 0, 0))).toBe(Q + P)
    expect(detach(s, 0)).toBe(0)
    expect(s.vmas()).toEqual([])
  })

  it('R-AS-174 nattch counts mappings; a removed segment goes with the last', () => {
    const s = new Space(release)
    const id = segment(s, 4, 0o600, 0x99)
    attach(s, id, 0)
    s.call(mprotect(s.k, s.mm, Q + P, P, R))
    expect(attached(s, id)).toBe(3)
    s.call(mprotect(s.k, s.mm, Q + P, P, RW))
    expect(attached(s, id)).toBe(3)
    const child = s.task.run(forkMm(s.k, s.mm, 'child')) as Mm
    expect(attached(s, id)).toBe(6)
    s.store(2, 5)
    expect(s.call(shmRemove(s.k, id))).toBe(0)
    expect(s.call(shmget(s.k, 0x99, P, 0))).toBe('-ENOENT')
    const status = s.task.run(
      (function* () {
        return shmStatus(s.k, id)
      })(),
    )
    expect(status).toMatchObject({ mode: 0o600 | SHM_DEST, key: 0 })
    expect(attach(s, id, 10)).toBe(Q + 10 * P)
    expect(s.load(12)).toBe(5)
    detach(s, 0)
    s.task.run(exitMmap(s.k, child))
    expect(attached(s, id)).toBe(1)
    detach(s, 10)
    expect(attached(s, id)).toBe(null)
    expect(s.k.committed).toBe(0)
    expect(s.k.mappings.size).toBe(0)
  })

  it('R-AS-174 without attachments it goes at once', () => {
    const s = new Space(release)
    const id = segment(s)
    expect(s.call(shmRemove(s.k, id))).toBe(0)
    expect(s.call(shmRemove(s.k, id))).toBe('-EINVAL')
    expect(s.k.mappings.size).toBe(0)
  })

  it('R-AS-171 huge pages are promised when the segment is made', () => {
    const s = new Space(release, { capabilities: ['CAP_IPC_LOCK'] })
    const pool = hugetlbPool(s.k, H)
    pool.resize(2)
    const get = (size: number, flags: number): number | string =>
      s.call(shmget(s.k, IPC_PRIVATE, size, IPC_CREAT | SHM_HUGETLB | flags))
    expect(get(3 * H, 0)).toBe('-ENOMEM')
    const id = get(P, 0o600) as number
    expect(pool.reserved).toBe(1)
    expect(s.call(shmat(s.k, s.mm, id, Q + P, 0))).toBe('-EINVAL')
    expect(s.call(shmat(s.k, s.mm, id, Q, 0))).toBe(Q)
    s.store(0, 1)
    expect([pool.reserved, pool.free, s.flags(0)]).toEqual([0, 1, 'rd wr sh mr mw me ms de ht'])
    expect(s.call(munmap(s.k, s.mm, Q, P))).toBe('-EINVAL')
    s.call(shmRemove(s.k, id))
    expect(detach(s, 0)).toBe(0)
    expect([pool.reserved, pool.free]).toEqual([0, 2])
    expect(get(P, 12 << 26)).toBe('-EINVAL')
    s.task.capabilities.clear()
    expect(get(P, 0)).toBe('-EPERM')
  })

  it('R-HUGE-58 attaching promises nothing: neither what shmget has not promised nor what a hole took back', () => {
    const s = new Space(release, { capabilities: ['CAP_IPC_LOCK'] })
    const pool = hugetlbPool(s.k, H)
    pool.resize(4)
    const get = (size: number, flags = 0): number =>
      s.call(shmget(s.k, IPC_PRIVATE, size, IPC_CREAT | SHM_HUGETLB | 0o600 | flags)) as number
    const loose = get(H, SHM_NORESERVE)
    expect(s.call(shmat(s.k, s.mm, loose, Q, 0))).toBe(Q)
    expect(pool.reserved).toBe(0)
    s.store(0, 1)
    expect(pool.free).toBe(3)

    const id = get(2 * H)
    expect(s.call(shmat(s.k, s.mm, id, Q + 2 * H, 0))).toBe(Q + 2 * H)
    s.store(2 * (H / P), 1)
    expect([pool.reserved, pool.free]).toEqual([1, 2])
    expect(s.call(madvise(s.k, s.mm, Q + 2 * H, 2 * H, MADV_REMOVE))).toBe(0)
    expect(s.call(shmat(s.k, s.mm, id, Q + 4 * H, 0))).toBe(Q + 4 * H)
    expect([pool.reserved, pool.free]).toEqual([1, 3])
  })
})
