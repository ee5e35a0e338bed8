import { describe, expect, it } from 'vitest'
import { TASK_SIZE } from '../../src/base/units.ts'
import { EIO } from '../../src/base/errno.ts'
import {
  DEV_ZERO,
  F_SEAL_FUTURE_WRITE,
  F_SEAL_WRITE,
  SECRETMEM,
  UNMAPPABLE,
  driverKind,
} from '../../src/mm/file.ts'
import { createFile } from '../../src/mm/filemap.ts'
import {
  MAP_32BIT,
  MAP_ANONYMOUS,
  MAP_DENYWRITE,
  MAP_DROPPABLE,
  MAP_EXECUTABLE,
  MAP_FIXED,
  MAP_FIXED_NOREPLACE,
  MAP_GROWSDOWN,
  MAP_HUGETLB,
  MAP_LOCKED,
  MAP_NONBLOCK,
  MAP_NORESERVE,
  MAP_POPULATE,
  MAP_PRIVATE,
  MAP_SHARED,
  MAP_SHARED_VALIDATE,
  MAP_STACK,
  MAP_SYNC,
} from '../../src/mm/mman.ts'
import { hugetlbPool } from '../../src/mm/hugetlb.ts'
import { mlock, mlock2 } from '../../src/mm/mlock.ts'
import { mprotect } from '../../src/mm/mprotect.ts'
import { munmap } from '../../src/mm/munmap.ts'
import { makePipe } from '../../src/task/pipe.ts'
import { ALL, ANON, H, NEWER, OLDER, P, Q, R, RW, SHARED_ANON, Space, W, X } from './address-space.ts'

describe.each(ALL)('mmap on %s', (release) => {
  const space = (): Space => new Space(release)

  it('AS vector 1, R-AS-14: a misaligned offset is looked at even for anonymous memory', () => {
    expect(space().try({ offset: 1 })).toBe('-EINVAL')
  })

  it('AS vector 2: a bad descriptor beats a zero length and a missing type', () => {
    expect(space().try({ length: 0, flags: 0 })).toBe('-EBADF')
  })

  it('AS vector 3: length zero', () => {
    expect(space().try({ length: 0, flags: MAP_ANONYMOUS })).toBe('-EINVAL')
  })

  it('AS vector 4: a length that wraps', () => {
    expect(space().try({ length: -1 })).toBe('-ENOMEM')
    expect(space().try({ length: 2 ** 64 - 1 })).toBe('-ENOMEM')
  })

  it('AS vector 5: anonymous memory has no MAP_SHARED_VALIDATE', () => {
    expect(space().try({ flags: MAP_ANONYMOUS | MAP_SHARED_VALIDATE })).toBe('-EINVAL')
  })

  it('AS vector 6, R-AS-16: unknown flags with and without validation', () => {
    const s = space()
    const file = s.file(1)
    expect(s.try({ flags: MAP_SHARED_VALIDATE | 0x800000, file })).toBe('-EOPNOTSUPP')
    expect(s.try({ flags: MAP_SHARED | 0x800000, file })).toBeGreaterThan(0)
  })

  it('AS vector 7, R-AS-15: MAP_FIXED_NOREPLACE is not a flag that MAP_SHARED_VALIDATE knows', () => {
    const s = space()
    expect(s.try({ addr: Q, flags: MAP_SHARED_VALIDATE | MAP_FIXED_NOREPLACE, file: s.file(1) })).toBe(
      '-EOPNOTSUPP',
    )
  })

  it('AS vector 8: shared and writable needs a descriptor opened for writing', () => {
    const s = space()
    expect(s.try({ flags: MAP_SHARED, file: s.file(1, { writable: false }) })).toBe('-EACCES')
  })

  it('AS vector 9, R-AS-20: a shared mapping of a read-only descriptor', () => {
    const s = space()
    s.at(0, 1, R, MAP_SHARED, s.file(1, { writable: false }))
    expect(s.flags(0)).toBe('rd mr me ms')
    expect(s.call(mprotect(s.k, s.mm, Q, P, RW))).toBe('-EACCES')
  })

  it('AS vector 10: a descriptor that cannot be read', () => {
    const s = space()
    expect(s.try({ prot: R, flags: MAP_PRIVATE, file: s.file(1, { readable: false }) })).toBe('-EACCES')
  })

  it('AS vector 11: a directory', () => {
    const s = space()
    const file = createFile(s.k, UNMAPPABLE, { path: '/', size: 0, writable: false })
    expect(s.try({ prot: R, flags: MAP_PRIVATE, file })).toBe('-ENODEV')
    expect(s.try({ flags: MAP_SHARED, file })).toBe('-EACCES')
    expect(s.try({ flags: MAP_PRIVATE | MAP_GROWSDOWN, file })).toBe('-ENODEV')
  })

  it('AS vector 12: the largest file offset', () => {
    const s = space()
    const file = s.file(1)
    expect(s.try({ flags: MAP_SHARED, file, offset: 2 ** 63 - P })).toBe('-EOVERFLOW')
    expect(s.try({ flags: MAP_SHARED, file, offset: 2 ** 63 - 2 * P })).toBeGreaterThan(0)
  })

  it('R-AS-10.15 a device and a pipe end at 2^64 - 1', () => {
    const s = space()
    const { read } = makePipe(s.k)
    const zero = createFile(s.k, DEV_ZERO, { path: '/dev/zero', size: 0 })
    const flags = MAP_SHARED
    for (const [offset, length, overflows] of [
      [-P, P, true],
      [-2 * P, P, false],
      [-2 * P, 2 * P, true],
      [2 ** 62, P, false],
    ] as const) {
      const pipe = s.try({ prot: R, flags, file: read.file, offset, length })
      expect(pipe).toBe(overflows ? '-EOVERFLOW' : '-ENODEV')
      const device = s.try({ prot: R, flags: MAP_PRIVATE, file: zero, offset, length })
      expect(device === '-EOVERFLOW').toBe(overflows)
    }
  })

  it('R-AS-10.22 a pipe cannot be mapped, nor executed', () => {
    const s = space()
    const { read, write } = makePipe(s.k)
    expect(s.try({ prot: R, flags: MAP_PRIVATE, file: read.file })).toBe('-ENODEV')
    const executed = release === '6.18' ? '-EPERM' : '-ENODEV'
    expect(s.try({ prot: R | 4, flags: MAP_PRIVATE, file: read.file })).toBe(executed)
    expect(s.try({ flags: MAP_SHARED, file: read.file })).toBe('-EACCES')
    expect(s.try({ prot: R | 4, flags: MAP_PRIVATE, file: write.file })).toBe('-EACCES')
    for (const end of [read, write]) end.put()
  })

  it('AS vector 13, R-AS-31: the top of user space', () => {
    const s = space()
    const flags = ANON | MAP_FIXED
    expect(s.try({ addr: 0x7fffffffe000, flags })).toBe(0x7fffffffe000)
    expect(s.try({ addr: 0x7fffffffe000, length: 2 * P, flags })).toBe('-ENOMEM')
    expect(s.try({ addr: -4097, flags })).toBe('-ENOMEM')
  })

  it('R-AS-12 an address in the last page is taken for an error', () => {
    expect(space().try({ addr: -1, flags: ANON | MAP_FIXED })).toBe('-EPERM')
    expect(space().try({ addr: -12, flags: ANON | MAP_FIXED_NOREPLACE })).toBe('-ENOMEM')
    expect(space().try({ addr: -22, flags: ANON | MAP_FIXED })).toBe('-EINVAL')
    expect(space().try({ addr: -4096, flags: ANON | MAP_FIXED })).toBe('-ENOMEM')
  })

  it('AS vector 14: MAP_FIXED_NOREPLACE beats a missing type', () => {
    const s = space()
    s.at(0, 2)
    expect(s.try({ addr: Q + P, flags: MAP_ANONYMOUS | MAP_FIXED_NOREPLACE })).toBe('-EEXIST')
  })

  it('AS vector 15: alignment beats MAP_FIXED_NOREPLACE', () => {
    const s = space()
    s.at(0, 2)
    expect(s.try({ addr: Q + 1, flags: ANON | MAP_FIXED | MAP_FIXED_NOREPLACE })).toBe('-EINVAL')
  })

  it('AS vector 16: low addresses', () => {
    const flags = ANON | MAP_FIXED
    const s = space()
    expect(s.try({ addr: 0, flags })).toBe('-EPERM')
    expect(s.try({ addr: 4096, flags })).toBe(4096)
    const raw = new Space(release, { capabilities: ['CAP_SYS_RAWIO'] })
    expect(raw.try({ addr: 0, flags })).toBe(0)
  })

  it('AS vector 17: RLIMIT_MEMLOCK 0 without CAP_IPC_LOCK', () => {
    const s = new Space(release, { limits: { memlock: 0 } })
    expect(s.try({ flags: ANON | MAP_LOCKED })).toBe('-EPERM')
    expect(s.call(mlock(s.k, s.mm, Q, 0))).toBe('-EPERM')
    expect(s.call(mlock2(s.k, s.mm, Q, P, 2))).toBe('-EINVAL')
  })

  it('AS vector 18: RLIMIT_MEMLOCK used up', () => {
    const s = new Space(release, { limits: { memlock: 4 * P } })
    s.at(0, 4)
    s.at(8, 1)
    expect(s.call(mlock(s.k, s.mm, Q, 4 * P))).toBe(0)
    expect(s.try({ flags: ANON | MAP_LOCKED })).toBe('-EAGAIN')
    expect(s.call(mlock(s.k, s.mm, Q + 8 * P, P))).toBe('-ENOMEM')
    expect(s.call(mlock(s.k, s.mm, Q, 2 * P))).toBe(0)
    expect(s.mm.lockedVm).toBe(4)
  })

  it('AS vector 19, R-AS-37: 4 MiB without a hint', () => {
    const s = space()
    const top = s.map({ length: 3 * P })
    const big = s.map({ length: 2 * H, prot: R })
    if (s.k.release.mm.alignsAnonymousForThp) expect(big % H).toBe(0)
    else expect(big + 2 * H).toBe(top)
  })

  it('AS vector 57: a driver that refuses leaves a hole', () => {
    const s = space()
    s.at(0, 4)
    const kind = { ...driverKind('device'), mmapMethod: () => -EIO }
    const file = createFile(s.k, kind, { path: '/dev/x', size: 0 })
    expect(s.try({ addr: Q + P, flags: MAP_SHARED | MAP_FIXED, file })).toBe('-EIO')
    expect(s.list()).toEqual(['0+1 rw-', '2+2 rw-'])
  })

  it('AS vector 58: RLIMIT_AS counts what is replaced as credit', () => {
    const s = new Space(release, { limits: { as: 4 * P } })
    s.at(0, 4)
    s.store(0, 7)
    expect(s.try({ addr: Q, length: 5 * P, flags: ANON | MAP_FIXED })).toBe('-ENOMEM')
    expect(s.load(0)).toBe(7)
    expect(s.try({ addr: Q, length: 4 * P, flags: ANON | MAP_FIXED })).toBe(Q)
    expect(s.load(0)).toBe(0)
  })

  it('AS vector 56: max_map_count', () => {
    const s = new Space(release, {}, { settings: { maxMapCount: 3 } })
    s.at(0, 5)
    s.at(10, 1, R)
    s.at(20, 1)
    expect(s.call(munmap(s.k, s.mm, Q + 2 * P, P))).toBe('-ENOMEM')
    expect(s.call(munmap(s.k, s.mm, Q, P))).toBe(0)
    expect(s.call(mprotect(s.k, s.mm, Q + P, P, R))).toBe('-ENOMEM')
    s.at(30, 1)
    expect(s.mm.mapCount).toBe(4)
    expect(s.try({})).toBe('-ENOMEM')
  })

  it('AS vector 59: a private huge page is reserved, used and given back', () => {
    const s = space()
    const pool = hugetlbPool(s.k)
    pool.resize(4)
    const address = s.map({ length: 1, flags: ANON | MAP_HUGETLB })
    expect([pool.reserved, pool.free]).toEqual([1, 4])
    expect(s.touch((address - Q) / P)).toBe(true)
    expect([pool.reserved, pool.free]).toEqual([0, 3])
    expect(s.call(munmap(s.k, s.mm, address, H))).toBe(0)
    expect([pool.reserved, pool.free]).toEqual([0, 4])
    pool.resize(0)
  })

  it('R-AS-11, R-AS-13 the earlier check wins', () => {
    const s = new Space(release, { limits: { memlock: 0, as: 8 * P } })
    s.at(0, 2)
    const file = s.file(1, { writable: false })
    // EEXIST over EPERM (mlock) and RLIMIT_AS
    expect(s.try({ addr: Q, length: 16 * P, flags: ANON | MAP_FIXED_NOREPLACE | MAP_LOCKED })).toBe('-EEXIST')
    // address over mlock
    expect(s.try({ length: TASK_SIZE + P, flags: ANON | MAP_LOCKED })).toBe('-ENOMEM')
    // mlock over EACCES
    expect(s.try({ flags: MAP_SHARED | MAP_LOCKED, file })).toBe('-EPERM')
    // EOVERFLOW over EACCES and EOPNOTSUPP
    expect(s.try({ flags: MAP_SHARED_VALIDATE | 0x800000, file, offset: 2 ** 63 - P })).toBe('-EOVERFLOW')
    // EOPNOTSUPP over EACCES
    expect(s.try({ flags: MAP_SHARED_VALIDATE | 0x800000, file })).toBe('-EOPNOTSUPP')
    // EACCES over RLIMIT_AS
    expect(s.try({ length: 16 * P, flags: MAP_SHARED, file })).toBe('-EACCES')
    // EPERM (min addr) over a missing type
    expect(s.try({ addr: 0, flags: MAP_ANONYMOUS | MAP_FIXED })).toBe('-EPERM')
  })

  it('R-AS-10.21 R-AS-10.18 R-AS-10.19 noexec mounts, swap files and append-only files', () => {
    const s = space()
    const file = s.file(2)
    file.mapping.noexec = true
    expect(s.try({ prot: R | X, flags: MAP_PRIVATE, file })).toBe('-EPERM')
    s.at(0, 1, R, MAP_PRIVATE, file)
    expect(s.flags(0)).toBe('rd mr mw')
    file.mapping.swapFile = true
    expect(s.try({ flags: MAP_SHARED, file })).toBe('-ETXTBSY')
    file.mapping.swapFile = false
    file.mapping.appendOnly = true
    expect(s.try({ prot: R, flags: MAP_SHARED, file })).toBe('-EACCES')
  })

  it('R-AS-5 flags of new mappings', () => {
    const s = space()
    s.at(0, 1)
    s.at(2, 1, R)
    s.at(4, 1, RW, SHARED_ANON)
    s.at(6, 1, RW, MAP_PRIVATE, s.file(1))
    s.at(8, 1, RW, ANON | MAP_STACK)
    s.at(10, 1, RW, ANON | MAP_NORESERVE)
    s.at(12, 1, W, ANON | MAP_GROWSDOWN)
    expect(s.flags(0)).toBe('rd wr mr mw me ac')
    expect(s.flags(2)).toBe('rd mr mw me')
    expect(s.flags(4)).toBe('rd wr sh mr mw me ms')
    expect(s.flags(6)).toBe('rd wr mr mw me ac')
    expect(s.flags(8)).toBe(
      s.k.release.mm.alignsAnonymousForThp ? 'rd wr mr mw me ac nh' : 'rd wr mr mw me ac',
    )
    expect(s.flags(10)).toBe('rd wr mr mw me nr')
    expect(s.flags(12)).toBe('wr mr mw me gd ac')
  })

  it('R-AS-22 MAP_DROPPABLE', () => {
    const s = space()
    const flags = MAP_ANONYMOUS | MAP_DROPPABLE
    if (!s.k.release.mm.hasMseal) {
      expect(s.try({ flags })).toBe('-EINVAL')
      return
    }
    s.at(0, 1, RW, flags)
    expect(s.flags(0)).toBe('rd wr mr mw me nr wf dd dp')
    expect(s.try({ flags: flags | MAP_GROWSDOWN })).toBe('-EINVAL')
    expect(s.try({ flags: flags | MAP_LOCKED })).toBe('-EINVAL')
    expect(s.try({ flags: MAP_DROPPABLE, file: s.file(1) })).toBe('-EINVAL')
    expect(s.k.committed).toBe(0)
  })

  it("R-AS-23 MAP_SYNC is the file method's to refuse", () => {
    const s = space()
    s.at(0, 1)
    expect(s.try({ addr: Q, flags: MAP_SHARED | MAP_SYNC | MAP_FIXED, file: s.file(1) })).toBe('-EOPNOTSUPP')
    // after the point of no return: the old page is gone
    expect(s.list()).toEqual([])
    s.at(0, 1, RW, MAP_SHARED | MAP_SYNC, s.memfd(1))
    expect(s.flags(0)).toContain('sf')
  })

  it('R-AS-21 write-sealed memory files', () => {
    const s = space()
    const early = s.k.release.mm.sealedSharedReadAllowed
    const file = s.memfd(1)
    file.mapping.seals = F_SEAL_WRITE
    expect(s.try({ flags: MAP_SHARED, file })).toBe('-EPERM')
    if (early) {
      s.at(0, 1, R, MAP_SHARED, file)
      expect(s.flags(0)).toBe('rd sh mr me ms')
    } else expect(s.try({ prot: R, flags: MAP_SHARED, file })).toBe('-EPERM')
    expect(s.try({ flags: MAP_PRIVATE, file })).toBeGreaterThan(0)
    const future = s.memfd(1)
    future.mapping.seals = F_SEAL_FUTURE_WRITE
    s.at(4, 1)
    expect(s.try({ addr: Q + 4 * P, flags: MAP_SHARED | MAP_FIXED, file: future })).toBe('-EPERM')
    expect(s.touch(4)).toBe(!s.k.release.mm.futureWriteSealInMethod)
    s.at(6, 1, R, MAP_SHARED, future)
    expect(s.flags(6)).toBe('rd sh mr me ms')
  })

  it('R-AS-18 only private memory grows down, and nothing is kept free below it', () => {
    const s = space()
    expect(s.try({ flags: SHARED_ANON | MAP_GROWSDOWN })).toBe('-EINVAL')
    s.at(1, 1, RW, ANON | MAP_GROWSDOWN)
    s.at(0, 1, R)
    expect(s.list()).toEqual(['0+1 r--', '1+1 rw-'])
  })

  it('R-AS-140, R-AS-141 what a mapping counts as', () => {
    const s = space()
    const counted = (prot: number, flags: number): number[] => {
      const { totalVm, dataVm, execVm, stackVm } = s.mm
      s.map({ length: 3 * P, prot, flags })
      return [s.mm.totalVm - totalVm, s.mm.dataVm - dataVm, s.mm.execVm - execVm, s.mm.stackVm - stackVm]
    }
    expect(counted(RW, ANON)).toEqual([3, 3, 0, 0])
    expect(counted(R, ANON)).toEqual([3, 0, 0, 0])
    expect(counted(0, ANON)).toEqual([3, 0, 0, 0])
    expect(counted(R | X, ANON)).toEqual([3, 0, 3, 0])
    expect(counted(R | X, SHARED_ANON)).toEqual([3, 0, 3, 0])
    expect(counted(RW | X, ANON)).toEqual([3, 3, 0, 0])
    expect(counted(RW, SHARED_ANON)).toEqual([3, 0, 0, 0])
    expect(counted(R | X, ANON | MAP_GROWSDOWN)).toEqual([3, 0, 0, 3])
  })

  it('R-AS-17, R-AS-19 what is populated at once, and how little it matters when it cannot be', () => {
    const resident = (prot: number, flags: number): number => {
      const s = space()
      s.map({ length: 4 * P, prot, flags })
      return s.mm.rssAnon
    }
    expect(resident(RW, ANON | MAP_POPULATE)).toBe(4)
    expect(resident(RW, ANON | MAP_POPULATE | MAP_NONBLOCK)).toBe(0)
    expect(resident(RW, ANON | MAP_LOCKED)).toBe(4)
    expect(resident(0, ANON | MAP_LOCKED)).toBe(0)
    const s = space()
    s.at(0, 1, RW, ANON | MAP_DENYWRITE | MAP_EXECUTABLE)
    expect(s.flags(0)).toBe('rd wr mr mw me ac')
  })

  it('R-AS-51, R-AS-56 hugetlb memory is populated by MAP_LOCKED and MAP_POPULATE, and not locked', () => {
    for (const how of [MAP_LOCKED, MAP_POPULATE]) {
      const s = space()
      const pool = hugetlbPool(s.k)
      pool.resize(2)
      s.map({ addr: Q, length: H, flags: ANON | MAP_HUGETLB | MAP_FIXED | how })
      expect([pool.free, s.mm.lockedVm, s.flags(0).includes('lo')]).toEqual([1, 0, false])
    }
  })

  it('R-AS-38 secret memory of whole huge pages: aligned on 6.12, packed elsewhere', () => {
    const s = new Space(release, {}, { settings: { mmapBase: Q + 8 * H + 7 * P } })
    const file = createFile(s.k, SECRETMEM, { path: '/secretmem (deleted)', size: 2 * H })
    const at = s.map({ length: 2 * H, flags: MAP_SHARED, file })
    expect(at).toBe(release === '6.12' ? Q + 6 * H : Q + 6 * H + 7 * P)
  })

  it('R-AS-93 secret memory is shared, on 6.18 locked, counted and limited', () => {
    const s = new Space(release, { limits: { memlock: 2 * P } })
    const file = createFile(s.k, SECRETMEM, { path: '/secretmem (deleted)', size: 4 * P })
    expect(s.try({ flags: MAP_PRIVATE, file })).toBe('-EINVAL')
    const counted = release === '6.18'
    if (counted) expect(s.try({ length: 3 * P, flags: MAP_SHARED, file })).toBe('-EAGAIN')
    s.at(0, 2, RW, MAP_SHARED, file)
    expect(s.flags(0)).toBe(counted ? 'rd wr sh mr mw me ms lo dd' : 'rd wr sh mr mw me ms dd')
    expect(s.mm.lockedVm).toBe(counted ? 2 : 0)
  })

  it('R-AS-40 R-AS-49 what is charged and what is refused', () => {
    const s = new Space(release, {}, { settings: { totalRamAndSwap: 100 } })
    s.at(0, 10)
    s.at(20, 10, R)
    s.at(40, 10, RW, MAP_SHARED, s.file(10))
    expect(s.k.committed).toBe(10)
    const shared = s.map({ length: 10 * P, prot: R, flags: SHARED_ANON })
    expect(s.k.committed).toBe(20)
    s.call(munmap(s.k, s.mm, shared, 5 * P))
    expect(s.k.committed).toBe(20)
    s.call(munmap(s.k, s.mm, shared + 5 * P, 5 * P))
    expect(s.k.committed).toBe(10)
    expect(s.try({ length: 101 * P })).toBe('-ENOMEM')
    expect(s.try({ length: 101 * P, prot: R, flags: SHARED_ANON })).toBe('-ENOMEM')
    expect(s.try({ length: 101 * P, flags: ANON | MAP_NORESERVE })).toBeGreaterThan(0)
    s.at(1000, 101, R)
    expect(s.call(mprotect(s.k, s.mm, Q + 1000 * P, 101 * P, RW))).toBe('-ENOMEM')
    expect(s.call(mprotect(s.k, s.mm, Q + 1000 * P, 50 * P, RW))).toBe(0)
  })

  it('R-AS-49 strict overcommit', () => {
    const settings = { overcommit: 'never' as const, commitLimit: 50, adminReserve: 10, userReserve: 0 }
    const s = new Space(release, {}, { settings })
    expect(s.try({ length: 40 * P })).toBe('-ENOMEM')
    s.at(0, 39, RW, ANON | MAP_NORESERVE)
    expect(s.flags(0)).toBe('rd wr mr mw me ac')
    expect(s.try({})).toBe('-ENOMEM')
    expect(s.try({ prot: R })).toBeGreaterThan(0)
  })

  it('R-AS-50 RLIMIT_DATA', () => {
    const s = new Space(release, { limits: { data: 4 * P } })
    s.at(0, 4)
    expect(s.try({})).toBe('-ENOMEM')
    expect(s.try({ flags: ANON | MAP_NORESERVE })).toBe('-ENOMEM')
    s.at(10, 1, R)
    expect(s.call(mprotect(s.k, s.mm, Q + 10 * P, P, RW))).toBe('-ENOMEM')
    expect(s.try({ flags: SHARED_ANON })).toBeGreaterThan(0)
    expect(s.try({ flags: ANON | MAP_GROWSDOWN })).toBeGreaterThan(0)
  })

  it('R-AS-55 MAP_POPULATE makes pages resident and reports no error', () => {
    const s = space()
    s.map({ length: 4 * P, flags: ANON | MAP_POPULATE })
    expect(s.mm.rssAnon).toBe(4)
    expect(s.try({ length: 4 * P, prot: 0, flags: ANON | MAP_POPULATE })).toBeGreaterThan(0)
    expect(s.mm.rssAnon).toBe(4)
  })

  it('R-AS-57 hugetlb offsets and the pool', () => {
    const s = space()
    const pool = hugetlbPool(s.k)
    pool.resize(2)
    expect(s.try({ length: 3 * H, flags: ANON | MAP_HUGETLB })).toBe('-ENOMEM')
    expect(s.try({ length: 3 * H, flags: ANON | MAP_HUGETLB | MAP_NORESERVE })).toBeGreaterThan(0)
    expect(s.try({ flags: ANON | MAP_HUGETLB | (20 << 26) })).toBe('-EINVAL')
    expect(s.try({ flags: MAP_PRIVATE | MAP_HUGETLB, file: s.file(1), length: 0 })).toBe('-EINVAL')
    expect(s.try({ addr: Q + P, flags: ANON | MAP_HUGETLB | MAP_FIXED })).toBe('-EINVAL')
    const huge = s.map({ addr: Q, length: H, flags: ANON | MAP_HUGETLB | MAP_FIXED })
    // R-AS-48
    const refused = s.k.release.mm.fixedReportsUnmapErrno ? '-EINVAL' : '-ENOMEM'
    expect(s.try({ addr: huge + P, flags: ANON | MAP_FIXED })).toBe(refused)
    expect(s.try({ addr: huge, length: H, flags: ANON | MAP_FIXED })).toBe(huge)
    pool.resize(0)
  })

  it('R-AS-32 R-AS-45 hints', () => {
    const s = space()
    s.at(0, 2)
    s.at(300, 1, RW, ANON | MAP_GROWSDOWN)
    expect(s.map({ addr: Q + 2 * P + 0x123, prot: R })).toBe(Q + 2 * P)
    expect(s.map({ addr: Q + P })).not.toBe(Q + P)
    expect(s.map({ addr: Q + 43 * P, prot: R })).toBe(Q + 43 * P)
    expect(s.map({ addr: Q + 44 * P, prot: R })).not.toBe(Q + 44 * P)
    expect(s.map({ addr: 4097 })).toBe(65536)
    expect(s.map({ addr: -P })).toBeGreaterThan(Q)
    expect(s.map({ addr: Q + 44 * P, flags: ANON | MAP_FIXED })).toBe(Q + 44 * P)
  })

  it('R-AS-34 the highest hole is filled from its top', () => {
    const s = new Space(release, {}, { settings: { mmapBase: Q + 20 * P } })
    s.at(10, 1, R)
    s.at(13, 1, R)
    s.at(16, 4, R)
    expect((s.map({ length: 2 * P, prot: 0 }) - Q) / P).toBe(14)
    expect((s.map({ length: 3 * P, prot: 0 }) - Q) / P).toBe(7)
    // nothing left below: bottom up from the legacy base
    s.map({ addr: 65536, length: Q + 20 * P - 65536, prot: 0, flags: ANON | MAP_FIXED })
    expect(s.map({ prot: X })).toBe(s.mm.mmapLegacyBase)
  })

  it('R-AS-36 MAP_32BIT', () => {
    const s = space()
    expect(s.try({ length: 2 ** 30 + P, flags: ANON | MAP_32BIT })).toBe('-ENOMEM')
    expect(s.map({ flags: ANON | MAP_32BIT })).toBe(0x40000000)
    expect(s.map({ addr: 0x20000000, flags: ANON | MAP_32BIT })).toBe(0x20000000)
    expect(s.map({ addr: 0x90000000, prot: R, flags: ANON | MAP_32BIT })).toBeLessThan(0x80000000)
    expect(s.map({ addr: 0x90000000, flags: ANON | MAP_32BIT | MAP_FIXED })).toBe(0x90000000)
  })

  it('R-AS-39 files of a THP-aware filesystem', () => {
    const s = space()
    const file = s.file(4096)
    const lower = s.k.release.mm.thpFileAlignTakesLower
    expect(s.map({ length: 2 * H, prot: R, flags: MAP_SHARED, file }) % H).toBe(0)
    expect(s.map({ length: 2 * H - P, prot: R, flags: MAP_SHARED, file, offset: P }) % H).toBe(P)
    expect(s.map({ addr: Q, length: 2 * H, prot: R, flags: MAP_SHARED, file })).toBe(Q)
    s.at(16384 + 2 * 512 + 256, 1)
    expect(s.map({ addr: Q + 16384 * P, length: 2 * H, prot: R, flags: MAP_SHARED, file })).not.toBe(
      Q + 16384 * P,
    )
    const top = new Space(release, {}, { settings: { mmapBase: Q + 8 * H } })
    const found = top.map({ length: 2 * H, prot: R, flags: MAP_SHARED, file: top.file(4096) })
    expect(found).toBe(lower ? Q + 5 * H : Q + 6 * H)
  })

  it('R-AS-41 hugetlb hints', () => {
    const s = space()
    const address = s.map({ addr: Q + 0x1234, flags: ANON | MAP_HUGETLB | MAP_NORESERVE })
    expect(address).toBe(release === '6.18' ? Q + H : Q)
  })

  it('R-AS-42 files whose address the kernel chooses', () => {
    const s = space()
    const file = createFile(
      s.k,
      { ...driverKind('ring'), kernelChoosesAddress: true },
      { path: 'anon_inode:[io_uring]', size: P },
    )
    expect(s.try({ addr: Q, flags: MAP_SHARED, file })).toBe('-EINVAL')
    expect(s.try({ addr: Q, flags: MAP_SHARED | MAP_FIXED, file })).toBe('-EINVAL')
    expect(s.try({ flags: MAP_SHARED, file })).toBeGreaterThan(0)
  })
})

describe('mmap over existing memory', () => {
  it.each(OLDER)('R-AS-47 %s: refused after the old range is gone', (release) => {
    const settings = { overcommit: 'never' as const, commitLimit: 10, adminReserve: 0, userReserve: 0 }
    const s = new Space(release, {}, { settings })
    s.at(0, 6)
    expect(s.try({ addr: Q, length: 11 * P, flags: ANON | MAP_FIXED })).toBe('-ENOMEM')
    expect(s.list()).toEqual([])
  })

  it.each(NEWER)('R-AS-47 %s: refused before, with the old pages as credit', (release) => {
    const settings = { overcommit: 'never' as const, commitLimit: 10, adminReserve: 0, userReserve: 0 }
    const s = new Space(release, {}, { settings })
    s.at(0, 6)
    s.store(0, 5)
    expect(s.try({ addr: Q, length: 11 * P, flags: ANON | MAP_FIXED })).toBe('-ENOMEM')
    expect(s.load(0)).toBe(5)
    expect(s.try({ addr: Q, length: 3 * P, flags: ANON | MAP_FIXED })).toBe(Q)
    expect(s.mm.committed).toBe(6)
  })

  it('R-AS-46 PR_SET_MDWE', () => {
    const s = new Space('6.18')
    s.at(0, 1)
    s.mm.mdwe = true
    expect(s.try({ addr: Q, prot: RW | X, flags: ANON | MAP_FIXED })).toBe('-EACCES')
    expect(s.list()).toEqual(['0+1 rw-'])
    const old = new Space('gup-v3')
    old.at(0, 1)
    old.mm.mdwe = true
    expect(old.try({ addr: Q, prot: RW | X, flags: ANON | MAP_FIXED })).toBe('-EACCES')
    expect(old.list()).toEqual([])
  })
})
