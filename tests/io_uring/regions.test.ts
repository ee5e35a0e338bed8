import { describe, expect, it } from 'vitest'
import { RELEASE_NAMES } from '../../src/base/release.ts'
import { IORING_REGISTER_PBUF_RING, IORING_UNREGISTER_PBUF_RING } from '../../src/io_uring/register.ts'
import { IORING_OFF_CQ_RING, IORING_OFF_PBUF_RING, IORING_OFF_SQES } from '../../src/io_uring/ring-file.ts'
import { IORING_SETUP_NO_MMAP } from '../../src/io_uring/setup-flags.ts'
import { ioUringSetup } from '../../src/io_uring/io-uring.ts'
import type { BufReg } from '../../src/io_uring/user-args.ts'
import { MAP_PRIVATE } from '../../src/mm/mman.ts'
import { VM_DONTEXPAND, VM_MIXEDMAP } from '../../src/mm/vm-flags.ts'
import { result } from '../support/kernel.ts'
import { P, PROT_READ, RW, Rig, type Outcome } from './rig.ts'

const limited = (room: number): object => ({
  task: { comm: 'user', uid: 1000, limits: { memlock: room * P } },
})

describe.each(RELEASE_NAMES)('%s', (release) => {
  const modern = release === '6.18'
  const mmapKind = release !== '6.1' && release !== 'gup-v3'
  /** how a release maps rings was not looked at everywhere (R-URING-36) */
  const mapped = release !== '6.6' && release !== 'gup-v3'

  const pbuf = (rig: Rig, arg: Partial<BufReg>): Outcome =>
    rig.call(IORING_REGISTER_PBUF_RING, { type: 'buf-reg', ringAddr: 0, entries: 8, bgid: 1, ...arg }, 1)
  const unpbuf = (rig: Rig, arg: Partial<BufReg>): Outcome =>
    rig.call(IORING_UNREGISTER_PBUF_RING, { type: 'buf-reg', ringAddr: 0, entries: 0, bgid: 1, ...arg }, 1)

  it('URING vector 57: which of two errors of a ring of buffers comes first', () => {
    const rig = new Rig(release)
    expect(pbuf(rig, { entries: 3 }).result).toBe(modern ? '-EINVAL' : '-EFAULT')
    for (const entries of [0, 3, 65536, 2 ** 31])
      expect(pbuf(rig, { ringAddr: rig.anon(1), entries }).result).toBe('-EINVAL')
    expect(pbuf(rig, { ringAddr: 100, resv: 1 }).result).toBe('-EINVAL')
    expect(pbuf(rig, { ringAddr: rig.anon(1) + 8 }).result).toBe('-EINVAL')
    expect(pbuf(rig, {}).result).toBe('-EFAULT')
    expect(pbuf(rig, { ringAddr: rig.place(1) }).result).toBe('-EFAULT')
    expect(pbuf(rig, { ringAddr: rig.anon(1, PROT_READ) }).result).toBe('-EFAULT')
    expect(rig.call(IORING_REGISTER_PBUF_RING, 'unreadable', 1).result).toBe('-EFAULT')
    expect(rig.pinned).toBe(0)
  })

  it('URING vector 58: a ring of buffers in memory of the kernel', () => {
    const rig = new Rig(release)
    const a = rig.anon(1)
    if (!mmapKind) {
      expect(pbuf(rig, { flags: 1 }).result).toBe('-EINVAL')
      return
    }
    expect(pbuf(rig, { flags: 1, ringAddr: a }).result).toBe(modern ? 0 : '-EINVAL')
    expect(pbuf(rig, { flags: 1, bgid: 2 })).toEqual({ result: 0, acq: 0, rel: 0, vmPin: 0 })
    expect(pbuf(rig, { flags: 4, bgid: 3 }).result).toBe('-EINVAL')
    const offset = IORING_OFF_PBUF_RING + 2 * 65536
    const at = rig.mapRing(rig.ring, offset, 1) as number
    rig.store(at, 'B')
    expect(unpbuf(rig, { bgid: 2 }).result).toBe(0)
    expect(rig.sees(at)).toBe('B')
    expect(rig.mapRing(rig.ring, offset, 1)).toBe('-ENOMEM')
    rig.unmap(at, 1)
  })

  it('URING vector 59: 32768 descriptors are 128 pages, pinned, and in no VmPin', () => {
    const rig = new Rig(release)
    expect(pbuf(rig, { ringAddr: rig.anon(128), entries: 32768 })).toEqual({
      result: 0,
      acq: 128,
      rel: 0,
      vmPin: 0,
    })
    expect(pbuf(rig, { ringAddr: rig.anon(1) }).result).toBe('-EEXIST')
    expect(unpbuf(rig, { flags: 1 }).result).toBe('-EINVAL')
    expect(unpbuf(rig, { bgid: 64 }).result).toBe('-ENOENT')
    expect(unpbuf(rig, {})).toEqual({ result: 0, acq: 0, rel: 128, vmPin: 0 })
    expect(rig.call(IORING_UNREGISTER_PBUF_RING, 'unreadable', 1).result).toBe('-EFAULT')
  })

  it('R-URING-78 until 6.6 the first group below 64 makes all of them, also when its ring is refused', () => {
    const rig = new Rig(release)
    const early = release !== '6.12' && release !== '6.18'
    expect(unpbuf(rig, { bgid: 3 }).result).toBe('-ENOENT')
    expect(pbuf(rig, { ringAddr: 64 * P, bgid: 70 }).result).toBe('-EFAULT')
    expect(unpbuf(rig, { bgid: 3 }).result).toBe('-ENOENT')
    expect(pbuf(rig, { ringAddr: 64 * P, bgid: 3 }).result).toBe('-EFAULT')
    for (const bgid of [0, 3, 63]) expect(unpbuf(rig, { bgid }).result).toBe(early ? '-EINVAL' : '-ENOENT')
    for (const bgid of [64, 70]) expect(unpbuf(rig, { bgid }).result).toBe('-ENOENT')
  })

  it('R-URING-76 256 descriptors need one page, whatever lies behind it', () => {
    const rig = new Rig(release)
    const a = rig.anon(2)
    rig.protect(a + P, 1, 0)
    expect(pbuf(rig, { ringAddr: a, entries: 256 })).toMatchObject({ result: 0, acq: 1 })
    expect(pbuf(rig, { ringAddr: a, entries: 512, bgid: 2 }).result).toBe('-EFAULT')
    expect(rig.mapRing(rig.ring, IORING_OFF_PBUF_RING + 65536, 1)).toBe('-ENOMEM')
    rig.ring.file.put()
    expect(rig.pinned).toBe(0)
  })

  it('R-URING-49 rings of buffers are charged to the user on 6.18 only', () => {
    const rig = new Rig(release, limited(130))
    const used = rig.k.user(1000).lockedVm
    expect(used).toBe(modern ? 2 : 0)
    expect(pbuf(rig, { ringAddr: rig.anon(129), entries: 32768 }).result).toBe(0)
    expect(rig.k.user(1000).lockedVm).toBe(modern ? 130 : 0)
    expect(pbuf(rig, { ringAddr: rig.anon(1), bgid: 2 })).toMatchObject({
      result: modern ? '-ENOMEM' : 0,
      rel: 0,
    })
    if (mmapKind) expect(pbuf(rig, { flags: 1, bgid: 3 }).result).toBe(modern ? '-ENOMEM' : 0)
    unpbuf(rig, {})
    expect(rig.k.user(1000).lockedVm).toBe(used)
  })

  const noMmap = (rig: Rig, ringsAddr: number, sqesAddr: number, entries = 4): number | string => {
    const made = rig.task.run(
      ioUringSetup(rig.k, { entries, flags: IORING_SETUP_NO_MMAP, ringsAddr, sqesAddr }),
    )
    if (typeof made === 'number') return result(made)
    expect(rig.mapRing(made, 0, 1)).toBe('-ENOMEM')
    const { pinned } = rig
    made.file.put()
    return pinned
  }

  it('R-URING-79 a ring on the program’s own memory', () => {
    const rig = new Rig(release)
    const a = rig.anon(4)
    if (!mmapKind) {
      expect(noMmap(rig, a, a + P)).toBe('-EINVAL')
      return
    }
    expect(noMmap(rig, a, a + P)).toBe(2)
    expect(noMmap(rig, a, a)).toBe(2)
    expect([noMmap(rig, 0, a), noMmap(rig, a, 0)]).toEqual(['-EFAULT', '-EFAULT'])
    expect([noMmap(rig, a + 8, a), noMmap(rig, a, a + 8)]).toEqual(['-EINVAL', '-EINVAL'])
    expect(noMmap(rig, a, rig.place(1))).toBe('-EFAULT')
    expect(noMmap(rig, rig.anon(1, PROT_READ), a)).toBe('-EFAULT')
    // 128 entries: two pages each
    const big = rig.anon(5)
    rig.unmap(big + 2 * P, 1)
    expect(noMmap(rig, big, big + 3 * P, 128)).toBe(release === '6.6' ? contiguity(rig, big) : 4)
    expect(noMmap(rig, big + P, big + 3 * P, 128)).toBe('-EFAULT')
    expect(noMmap(rig, big + 3 * P, big + P, 128)).toBe('-EFAULT')
    expect(rig.pinned).toBe(0)
  })

  /** What 6.6 answers depends on where the two pages happen to lie. */
  function contiguity(rig: Rig, a: number): number | string {
    const follows = (at: number): boolean => rig.pfnAt(at + P) === rig.pfnAt(at) + 1
    for (const page of [0, 1, 3, 4]) rig.touch(a + page * P)
    return follows(a) && follows(a + 3 * P) ? 4 : '-EINVAL'
  }

  if (mapped) {
    it('R-URING-98, R-AS-153 the parts of a ring can be mapped; what lies beyond them is empty', () => {
      const rig = new Rig(release)
      const at = rig.mapRing(rig.ring, 0, 2) as number
      const again = rig.mapRing(rig.ring, IORING_OFF_CQ_RING, 1) as number
      const entries = rig.mapRing(rig.ring, IORING_OFF_SQES, 1) as number
      rig.store(at, 'Q')
      expect([rig.sees(again), rig.sees(entries), rig.sees(at + P)]).toEqual(['Q', '.', 'SIGBUS'])
      const vma = rig.task.space.mmapLock.tryRead()!
      const { flags } = vma.vmas.find(at)!
      vma.release()
      expect(flags & (VM_DONTEXPAND | VM_MIXEDMAP)).toBe(VM_DONTEXPAND | VM_MIXEDMAP)
      expect(rig.mapRing(rig.ring, 0x20000000, 1)).toBe('-ENOMEM')
      expect(typeof rig.mapRing(rig.ring, 0x4000, 1)).toBe(release === '6.1' ? 'string' : 'number')
      expect(rig.mapRing(rig.ring, 0, 1, MAP_PRIVATE, RW | 4) === '-EPERM').toBe(modern)
      const child = rig.fork()
      expect(rig.sees(at, child)).toBe('Q')
      rig.exit(child)
    })

    it('URING vector 52: the pins stay while the ring is mapped', () => {
      const rig = new Rig(release)
      rig.buffer(rig.anon(4), 4 * P)
      const first = rig.mapRing(rig.ring, 0, 1) as number
      const second = rig.mapRing(rig.ring, IORING_OFF_SQES, 1) as number
      rig.ring.file.put()
      expect([rig.pinned, rig.vmPin]).toEqual([4, 4])
      rig.unmap(first, 1)
      expect(rig.pinned).toBe(4)
      rig.unmap(second, 1)
      expect([rig.pinned, rig.vmPin]).toEqual([0, 0])
    })

    it('R-URING-31 the ring’s own memory as a buffer', () => {
      const rig = new Rig(release)
      const at = rig.mapRing(rig.ring, 0, 1) as number
      expect(rig.buffer(at, P).result).toBe(release === '6.1' ? '-EOPNOTSUPP' : 0)
      rig.unregister()
      rig.unmap(at, 1)
    })
  } else {
    it('R-URING-36 how this release maps rings is not known: every check of such a mapping stops', () => {
      const rig = new Rig(release)
      expect(rig.ring.file.mapping.kind.unclassified).toEqual({
        what: `how release ${release} maps io_uring's own rings`,
        rule: 'R-URING-36',
        from: 'checks',
      })
    })
  }
})
