import { describe, expect, it } from 'vitest'
import { RELEASE_NAMES, type ReleaseName } from '../../src/base/release.ts'
import {
  IORING_REGISTER_BUFFERS,
  IORING_REGISTER_BUFFERS2,
  IORING_REGISTER_BUFFERS_UPDATE,
  IORING_REGISTER_CLONE_BUFFERS,
  IORING_REGISTER_ENABLE_RINGS,
  IORING_REGISTER_PBUF_RING,
  IORING_REGISTER_PROBE,
  IORING_REGISTER_RESTRICTIONS,
  IORING_REGISTER_USE_REGISTERED_RING,
  IORING_UNREGISTER_BUFFERS,
  ioUringRegister,
} from '../../src/io_uring/register.ts'
import * as register from '../../src/io_uring/register.ts'
import { IORING_SETUP_R_DISABLED, IORING_SETUP_SINGLE_ISSUER } from '../../src/io_uring/setup-flags.ts'
import type { Restriction, RsrcUpdate } from '../../src/io_uring/user-args.ts'
import { result, testTask } from '../support/kernel.ts'
import { H, P, RW, Rig } from './rig.ts'

const GIB = 2 ** 30
const MODERN: readonly ReleaseName[] = ['6.12', '6.18']

describe.each(RELEASE_NAMES)('%s', (release) => {
  const modern = MODERN.includes(release)

  it('URING vector 3: a table is there: EBUSY wins over a bad number and a bad pointer', () => {
    const rig = new Rig(release)
    expect(rig.buffer(rig.anon(1), P).result).toBe(0)
    expect(rig.register([], 0).result).toBe('-EBUSY')
    expect(rig.register('unreadable', 1).result).toBe('-EBUSY')
    expect(rig.register('unreadable', 20000).result).toBe('-EBUSY')
  })

  it('URING vector 4: a table is there: a null pointer is EFAULT all the same', () => {
    const rig = new Rig(release)
    expect(rig.buffer(rig.anon(1), P).result).toBe(0)
    expect(rig.call(IORING_REGISTER_BUFFERS, null, 1).result).toBe('-EFAULT')
    expect(rig.call(IORING_REGISTER_BUFFERS, null, 0).result).toBe('-EFAULT')
  })

  it('URING vector 5: unregister without a table, and with an argument', () => {
    const rig = new Rig(release)
    expect(rig.unregister().result).toBe('-ENXIO')
    expect(rig.call(IORING_UNREGISTER_BUFFERS, 'unreadable', 0).result).toBe('-EINVAL')
    expect(rig.call(IORING_UNREGISTER_BUFFERS, null, 1).result).toBe('-EINVAL')
  })

  it('URING vector 6: 16385 slots are too many before the array is read, 16384 are not', () => {
    const rig = new Rig(release)
    expect(rig.register('unreadable', 16385).result).toBe('-EINVAL')
    expect(rig.register('unreadable', 16384).result).toBe('-EFAULT')
  })

  it('URING vector 7: empty slot and the three ways to be half empty or too long', () => {
    const rig = new Rig(release)
    const a = rig.anon(1)
    expect(rig.buffer(0, 0).result).toBe(0)
    expect(rig.unregister().result).toBe(0)
    expect(rig.buffer(0, 1).result).toBe('-EFAULT')
    expect(rig.buffer(a, 0).result).toBe('-EFAULT')
    expect(rig.buffer(a, GIB + 1).result).toBe('-EFAULT')
  })

  it('URING vector 8: a length of 2^64 - 1', () => {
    const rig = new Rig(release)
    expect(rig.buffer(rig.anon(1), -1).result).toBe(modern ? '-EINVAL' : '-EFAULT')
    expect(rig.buffer(rig.anon(1), 2 ** 63).result).toBe(modern ? '-EINVAL' : '-EFAULT')
    expect(rig.buffer(0, -1).result).toBe(modern ? '-EINVAL' : '-EFAULT')
  })

  it('URING vector 9: buffers at the end of the 64-bit address space', () => {
    const rig = new Rig(release)
    rig.anon(1)
    expect(rig.buffer(-8192, 4096)).toEqual({ result: '-EFAULT', acq: 0, rel: 0, vmPin: 0 })
    expect(rig.buffer(2 ** 64 - 8192, 4096).result).toBe('-EFAULT')
    expect(rig.buffer(-8192, 4097).result).toBe('-EOVERFLOW')
    expect(rig.buffer(-8191, 4096).result).toBe('-EOVERFLOW')
    expect(rig.buffer(-4096, 1).result).toBe('-EOVERFLOW')
  })

  it('R-URING-14 a 32-bit ring counts 31 bits of length', () => {
    const rig = new Rig(release, { setup: { compat: true } })
    expect(rig.buffer(0, 0x80000000).result).toBe(modern ? '-EINVAL' : '-EFAULT')
    expect(rig.buffer(0, 0x7fffffff).result).toBe('-EFAULT')
  })

  it('R-URING-15, R-URING-51 a failing entry takes the earlier ones with it: no pins, no table, no completions', () => {
    const rig = new Rig(release)
    const a = rig.anon(1)
    const outcome = rig.register2({
      nr: 2,
      data: [
        { base: a, length: P },
        { base: 8, length: 1 },
      ],
      tags: [7, 8],
    })
    expect(outcome).toEqual({ result: '-EFAULT', acq: 1, rel: 1, vmPin: 0 })
    expect(rig.ring.cqes).toEqual([])
    expect(rig.unregister().result).toBe('-ENXIO')
  })

  it('R-URING-16 a small page in 16384 slots is pinned and charged 16384 times', () => {
    const rig = new Rig(release)
    const a = rig.anon(1)
    const one = { base: a, length: P }
    expect(rig.register(new Array(16384).fill(one))).toEqual({ result: 0, acq: 16384, rel: 0, vmPin: 16384 })
    expect(rig.unregister()).toMatchObject({ rel: 16384, vmPin: -16384 })
  })

  it('R-URING-10 the checks of BUFFERS2 before anything else', () => {
    const rig = new Rig(release)
    const call = (arg: Parameters<Rig['register2']>[0], size = 32): number | string =>
      rig.call(IORING_REGISTER_BUFFERS2, { type: 'rsrc-register', ...arg }, size).result
    expect(call({ nr: 1, data: null }, 24)).toBe('-EINVAL')
    expect(rig.call(IORING_REGISTER_BUFFERS2, 'unreadable', 32).result).toBe('-EFAULT')
    expect(rig.call(IORING_REGISTER_BUFFERS2, null, 32).result).toBe('-EFAULT')
    expect(call({ nr: 1, data: null, resv2: 7 })).toBe('-EINVAL')
    expect(call({ nr: 1, data: null, flags: 2 })).toBe('-EINVAL')
    expect(call({ nr: 1, data: 'unreadable', flags: 1 })).toBe('-EINVAL')
    expect(call({ nr: 2, data: null, flags: 1 })).toBe(0)
    expect(call({ nr: 0, data: null })).toBe('-EINVAL')
    expect(call({ nr: 1, data: null })).toBe('-EBUSY')
  })

  it('R-URING-13 tags of empty slots', () => {
    const rig = new Rig(release)
    const empty = { base: 0, length: 0 }
    expect(rig.register2({ nr: 1, data: [empty], tags: [5] }).result).toBe('-EINVAL')
    expect(rig.register2({ nr: 1, data: [{ base: 0, length: 4096 }], tags: [5] }).result).toBe('-EFAULT')
    expect(rig.register2({ nr: 2, data: null, tags: [0, 5] }).result).toBe('-EINVAL')
    expect(rig.register2({ nr: 2, data: null, tags: [0, 0] }).result).toBe(0)
  })

  it('R-URING-11 unreadable tags: all at once, or entry by entry on 6.18', () => {
    const rig = new Rig(release)
    const data = [
      { base: 0, length: 1 },
      { base: 0, length: 0 },
    ]
    // both give EFAULT: the reason tells which came first
    expect(rig.register2({ nr: 2, data, tags: [0, 'unreadable'] }).result).toBe('-EFAULT')
    expect(rig.task.refusal?.rule).toBe(release === '6.18' ? 'R-URING-12' : 'R-URING-11')
    expect(rig.register2({ nr: 1, data: [{ base: 0, length: 0 }], tags: 'unreadable' }).result).toBe(
      '-EFAULT',
    )
  })

  it('R-URING-17 the checks of UPDATE in their order', () => {
    const rig = new Rig(release)
    const a = rig.anon(1)
    const good: Omit<RsrcUpdate, 'type'> = { offset: 0, nr: 1, data: [{ base: a, length: P }] }
    const call = (change: Partial<RsrcUpdate>, size = 32): number | string =>
      rig.call(IORING_REGISTER_BUFFERS_UPDATE, { type: 'rsrc-update', ...good, ...change }, size).result
    expect(call({}, 16)).toBe('-EINVAL')
    expect(rig.call(IORING_REGISTER_BUFFERS_UPDATE, 'unreadable', 32).result).toBe('-EFAULT')
    expect(call({ resv: 1 })).toBe('-EINVAL')
    expect(call({ resv2: 1 })).toBe('-EINVAL')
    rig.sparse(2)
    expect(call({ offset: 2 })).toBe('-EINVAL')
    expect(call({ data: null })).toBe('-EFAULT')
    expect(call({ tags: 'unreadable' })).toBe('-EFAULT')
    expect(call({ data: [{ base: 0, length: 0 }], tags: [3] })).toBe('-EINVAL')
    expect(call({ data: [{ base: 0, length: 0 }] })).toBe(1)
    expect(rig.pinned).toBe(0)
    expect(call({ offset: 1 })).toBe(1)
  })

  it('URING vector 48: tags on unregister', () => {
    const rig = new Rig(release)
    const a = rig.anon(2)
    const data = [
      { base: a, length: P },
      { base: a + P, length: P },
    ]
    expect(rig.register2({ nr: 2, data, tags: [11, 12] }).result).toBe(0)
    expect(rig.unregister().result).toBe(0)
    expect(rig.ring.cqes.map(({ userData }) => userData)).toEqual(release === '6.18' ? [12, 11] : [])
  })

  it('URING vector 49, R-URING-18, R-URING-52: an update that fails at its second entry', () => {
    const rig = new Rig(release)
    const a = rig.anon(4)
    const hole = rig.place(1)
    const slots = [0, 1, 2].map((i) => ({ base: a + i * P, length: P }))
    expect(rig.register2({ nr: 3, data: slots, tags: [11, 0, 0] }).result).toBe(0)
    const fresh = { base: a + 3 * P, length: P }
    expect(rig.update(0, [fresh, { base: hole, length: P }, fresh]).result).toBe(1)
    rig.k.settle()
    expect(rig.ring.cqes).toEqual([{ userData: 11, res: 0, flags: 0 }])
    expect(rig.ring.buffers!.buffer(0)!.ubuf).toBe(a + 3 * P)
    expect(rig.ring.buffers!.buffer(1)!.ubuf).toBe(a + P)
  })

  it('R-URING-54 an update without tags takes the tag away', () => {
    const rig = new Rig(release)
    const a = rig.anon(2)
    rig.register2({ nr: 1, data: [{ base: a, length: P }], tags: [11] })
    expect(rig.update(0, [{ base: a + P, length: P }]).result).toBe(1)
    expect(rig.update(0, [{ base: 0, length: 0 }]).result).toBe(1)
    rig.k.settle()
    expect(rig.ring.cqes.map(({ userData }) => userData)).toEqual([11])
  })

  it('URING vector 50: update checks that come before the table', () => {
    const rig = new Rig(release)
    const call = (offset: number, nr: number): number | string =>
      rig.call(IORING_REGISTER_BUFFERS_UPDATE, { type: 'rsrc-update', offset, nr, data: null }, 32).result
    expect(call(0xffffffff, 1)).toBe('-EOVERFLOW')
    expect(call(0, 0)).toBe('-EINVAL')
    expect(call(0, 1)).toBe('-ENXIO')
  })

  it('URING vector 60: a restricted ring refuses before it looks at the argument', () => {
    const rig = new Rig(release, { setup: { flags: IORING_SETUP_R_DISABLED } })
    const restrict = (restrictions: readonly Restriction[]): number | string =>
      rig.call(IORING_REGISTER_RESTRICTIONS, { type: 'restrictions', restrictions }, restrictions.length)
        .result
    expect(restrict([{ allow: 'register-op', opcode: IORING_UNREGISTER_BUFFERS }])).toBe(0)
    expect(restrict([{ allow: 'register-op', opcode: IORING_UNREGISTER_BUFFERS }])).toBe('-EBUSY')
    // R-URING-4: in force from ENABLE_RINGS on
    expect(rig.buffer(rig.anon(1), P).result).toBe(0)
    expect(rig.call(IORING_REGISTER_ENABLE_RINGS, null, 0).result).toBe(0)
    expect(rig.call(IORING_REGISTER_BUFFERS, null, 0).result).toBe('-EACCES')
    expect(restrict([])).toBe('-EACCES')
    expect(rig.pinned).toBe(1)
    expect(rig.unregister().result).toBe(0)
  })

  it('R-URING-2 a ring that is not enabled takes buffers, but no requests', () => {
    const rig = new Rig(release, { setup: { flags: IORING_SETUP_R_DISABLED } })
    expect(rig.buffer(rig.anon(1), P)).toMatchObject({ result: 0, acq: 1 })
    expect(rig.submit([{ opcode: 0 }])).toBe('-EBADFD')
    expect(rig.unregister()).toMatchObject({ result: 0, rel: 1 })
  })

  it('R-URING-4 restrictions and enabling only while the ring is disabled', () => {
    const rig = new Rig(release)
    expect(rig.call(IORING_REGISTER_RESTRICTIONS, null, 0).result).toBe('-EBADFD')
    expect(rig.call(IORING_REGISTER_ENABLE_RINGS, null, 0).result).toBe('-EBADFD')
    const disabled = rig.newRing({ flags: IORING_SETUP_R_DISABLED })
    expect(rig.call(IORING_REGISTER_RESTRICTIONS, null, 0, disabled).result).toBe('-EINVAL')
    expect(rig.call(IORING_REGISTER_RESTRICTIONS, 'unreadable', 1, disabled).result).toBe('-EFAULT')
    const unknown = { type: 'restrictions', restrictions: [{ allow: 'unknown' }] } as const
    expect(rig.call(IORING_REGISTER_RESTRICTIONS, unknown, 1, disabled).result).toBe('-EINVAL')
    const beyond = { type: 'restrictions', restrictions: [{ allow: 'register-op', opcode: 99 }] } as const
    expect(rig.call(IORING_REGISTER_RESTRICTIONS, beyond, 1, disabled).result).toBe('-EINVAL')
    const noOperation = { type: 'restrictions', restrictions: [{ allow: 'sqe-op', opcode: 63 }] } as const
    expect(rig.call(IORING_REGISTER_RESTRICTIONS, noOperation, 1, disabled).result).toBe('-EINVAL')
    expect(rig.call(IORING_REGISTER_ENABLE_RINGS, 'unreadable', 0, disabled).result).toBe('-EINVAL')
    expect(rig.call(IORING_REGISTER_ENABLE_RINGS, null, 0, disabled).result).toBe(0)
    expect(rig.buffer(rig.anon(1), P, disabled).result).toBe(0)
  })

  it('R-URING-1 what the descriptor leads to', () => {
    const rig = new Rig(release)
    const call = (ring: Parameters<Rig['call']>[3], opcode = IORING_REGISTER_BUFFERS): number | string =>
      rig.call(opcode, null, 0, ring).result
    expect(call('closed', 200)).toBe('-EINVAL')
    expect(call('closed')).toBe('-EBADF')
    expect(call('other-file')).toBe('-EOPNOTSUPP')
    expect(call('minus-one')).toBe(release === '6.18' ? '-EINVAL' : '-EBADF')
    const through = IORING_REGISTER_BUFFERS + IORING_REGISTER_USE_REGISTERED_RING
    expect(call('bad-index', through)).toBe('-EINVAL')
    expect(call('closed', through)).toBe(release === '6.1' ? '-EINVAL' : '-EBADF')
    expect(call(rig.ring, IORING_UNREGISTER_BUFFERS + IORING_REGISTER_USE_REGISTERED_RING)).toBe(
      release === '6.1' ? '-EINVAL' : '-ENXIO',
    )
  })

  it('R-URING-1 opcodes beyond the model say so, after their argument check', () => {
    const rig = new Rig(release)
    expect(rig.call(IORING_REGISTER_PBUF_RING, null, 1).result).toBe('-EINVAL')
    expect(() => rig.call(IORING_REGISTER_PROBE, 'unreadable', 1)).toThrow(
      /Unmodelled: io_uring_register opcode 8/,
    )
    expect(rig.ring.uringLock.locked).toBe(false)
    expect(rig.call(IORING_REGISTER_CLONE_BUFFERS, 'unreadable', 1).result).toBe(
      modern ? '-EFAULT' : '-EINVAL',
    )
  })

  it('R-URING-3 SINGLE_ISSUER: the ring is its creator’s, or whose who enables it', () => {
    const rig = new Rig(release)
    const other = testTask(rig.k, { comm: 'other', mm: rig.task.mm })
    const a = rig.anon(1)
    const own = rig.newRing({ flags: IORING_SETUP_SINGLE_ISSUER })
    expect(rig.buffer(a, P, own, other).result).toBe('-EEXIST')
    expect(rig.buffer(a, P, own).result).toBe(0)
    const open = rig.newRing({ flags: IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_R_DISABLED })
    expect(rig.buffer(a, P, open, other).result).toBe(0)
    expect(rig.call(IORING_REGISTER_ENABLE_RINGS, null, 0, open, other).result).toBe(0)
    expect(rig.unregister(open).result).toBe('-EEXIST')
    expect(rig.unregister(open, other).result).toBe(0)
  })

  it('R-URING-83 a second registration waits for the first and finds its table', () => {
    const rig = new Rig(release)
    const a = rig.anon(8)
    const { k, task, ring } = rig
    k.exploring = true
    const results: (number | string)[] = []
    const body = function* (base: number) {
      const value = yield* ioUringRegister(
        k,
        ring,
        IORING_REGISTER_BUFFERS,
        { type: 'iovecs', iovecs: [{ base, length: 4 * P }] },
        1,
      )
      results.push(result(value))
    }
    k.scheduler.spawn('first', task, body(a))
    k.scheduler.spawn('second', testTask(k, { mm: task.mm }), body(a + 4 * P))
    k.scheduler.run()
    k.exploring = false
    expect(results).toEqual([0, '-EBUSY'])
    expect(rig.pinned).toBe(4)
  })
})

it('R-URING-5 the numbers of the opcodes', () => {
  const numbers = Object.entries(register).flatMap(([name, value]) =>
    /^IORING_(UN)?REGISTER_/.test(name) ? [[name.replace(/^IORING_/, ''), value]] : [],
  )
  expect(Object.fromEntries(numbers)).toMatchObject({
    REGISTER_BUFFERS: 0,
    UNREGISTER_BUFFERS: 1,
    REGISTER_RESTRICTIONS: 11,
    REGISTER_ENABLE_RINGS: 12,
    REGISTER_BUFFERS2: 15,
    REGISTER_BUFFERS_UPDATE: 16,
    REGISTER_PBUF_RING: 22,
    UNREGISTER_PBUF_RING: 23,
    REGISTER_CLONE_BUFFERS: 30,
    REGISTER_ZCRX_IFQ: 32,
    REGISTER_RESIZE_RINGS: 33,
    REGISTER_MEM_REGION: 34,
  })
})

it('R-URING-11 the argument must suit the opcode', () => {
  const rig = new Rig('gup-v3')
  expect(() => rig.call(IORING_REGISTER_BUFFERS, { type: 'restrictions', restrictions: [] }, 1)).toThrow(
    TypeError,
  )
  expect(rig.ring.uringLock.locked).toBe(false)
})

it('R-URING-16 the same huge page in one buffer twice stays two pins', () => {
  const rig = new Rig('6.18')
  rig.hugePool(1)
  const memfd = rig.hugetlbFile(1)
  const h = rig.map(512, RW, 1, memfd, rig.place(1024))
  rig.mapped(memfd, 512, RW, 1, h + H)
  expect(rig.buffer(h, 2 * H)).toEqual({ result: 0, acq: 1024, rel: 1022, vmPin: 512 })
})
