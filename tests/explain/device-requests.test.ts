/** Requests of devices; what users reported of them is in tests/reports. Columns as in acceptance.test.ts. */
import { describe, expect, it } from 'vitest'
import { PAGE_SIZE } from '../../src/base/units.ts'
import { explain } from '../../src/explain/explain.ts'
import { answerTo, code, row, verdictOn, type Request } from './asking.ts'
import {
  A,
  CAP_IPC_LOCK,
  SHARED_RW,
  fileOn,
  memfd,
  snapshot,
  type MappingSpec,
  type SnapshotSpec,
} from './snapshots.ts'

const P = PAGE_SIZE
const readOnly = 'rd mr mw me ac'
const driver = { kind: 'driver', path: '/dev/vfio/12' } as const
const anon = (pages: number, start = A): MappingSpec => ({ start, pages, look: [['anon', pages]] })
const ext4Shared: MappingSpec = { backing: fileOn('ext4'), flags: SHARED_RW }

const REG_MR: Request = { name: 'rdma:reg-mr' }
const MAP_DMA: Request = { name: 'vfio:map-dma' }
const IOAS_MAP: Request = { name: 'iommufd:ioas-map' }
const UMEM_REG: Request = { name: 'xdp:umem-reg' }
const VHOST_MAP: Request = { name: 'vhost-vdpa:map' }
const REG_UMEM: Request = { name: 'vduse:reg-umem' }
const EVERY = [REG_MR, MAP_DMA, IOAS_MAP, UMEM_REG, VHOST_MAP]

const hintsOf = (spec: SnapshotSpec, request: Request): string =>
  answerTo(spec, request)
    .hints.map(({ text }) => text)
    .join('\n')

describe('ordinary memory', () => {
  it.each(EVERY.map((request) => [request.name!, request] as const))(
    '%s pins it, says how much, and what is taken for granted',
    (_name, request) => {
      const answer = answerTo({ mappings: [anon(16)] }, request, '6.12')
      expect(answer).toMatchObject({ verdict: { ok: true }, pinned: { pages: 16, hugePages: 0 } })
      expect(answer.memlock).toMatchObject({ needed: 16, used: 0, limit: null, exempt: false })
      expect(answer.assumptions.length).toBeGreaterThan(0)
    },
  )

  it('every kind of request answers on every release; 6.1 has no iommufd (R-IOMMUFD-1)', () => {
    expect(EVERY.map((request) => row([anon(8)], request))).toEqual([
      '0 0 0 0 0',
      '0 0 0 0 0',
      'ENOENT 0 0 0 0',
      '0 0 0 0 0',
      '0 0 0 0 0',
    ])
    expect(row([anon(512)], { ...REG_UMEM, bounceSize: 512 * P })).toBe('in in in 0 0')
  })

  it('says of what nobody has tried on 6.18 that 6.12 was taken', () => {
    const said = (request: Request, release: '6.12' | '6.18'): boolean =>
      answerTo({ mappings: [anon(4)] }, request, release).assumptions.some((a) =>
        a.includes('nobody has seen'),
      )
    expect([said(MAP_DMA, '6.18'), said(MAP_DMA, '6.12'), said(UMEM_REG, '6.18')]).toEqual([
      true,
      false,
      false,
    ])
  })

  it('tells the options that were used', () => {
    const { options } = answerTo({ mappings: [anon(4)] }, { ...MAP_DMA, access: 'read', iova: 0x1000 })
    expect(options).toEqual({ access: 'read', iova: '0x1000', iovaBits: 48 })
  })
})

describe('RLIMIT_MEMLOCK', () => {
  const budgets: readonly [Request, string, string, string | null][] = [
    [REG_MR, 'mm->pinned_vm', 'ENOMEM', 'CAP_IPC_LOCK'],
    [MAP_DMA, 'mm->locked_vm', 'ENOMEM', 'CAP_IPC_LOCK'],
    [IOAS_MAP, 'user->locked_vm', 'ENOMEM', 'CAP_IPC_LOCK'],
    [UMEM_REG, 'user->locked_vm', 'ENOBUFS', 'CAP_IPC_LOCK'],
    [VHOST_MAP, 'mm->pinned_vm', 'EFAULT', null],
  ]
  it.each(budgets.map((b) => [b[0].name!, ...b] as const))(
    'R-DRV-1 R-DRV-2 %s: one page over',
    (_name, request, budget, errno, liftedBy) => {
      const spec = { mappings: [anon(16)], memlock: 15 * P }
      const answer = answerTo(spec, request, '6.12')
      expect(answer.verdict).toMatchObject({ ok: false, errno })
      expect(answer.memlock).toEqual({
        needed: 16,
        used: 0,
        limit: 15,
        exempt: false,
        capability: 'not-effective',
        budget,
        liftedBy,
      })
      const hints = answer.hints.map(({ text }) => text).join('\n')
      expect(hints).toContain(`raise RLIMIT_MEMLOCK to at least ${16 * P} bytes`)
      expect(hints.includes('CAP_IPC_LOCK')).toBe(liftedBy !== null)
      expect(answerTo({ ...spec, memlock: 16 * P }, request, '6.12').verdict.ok).toBe(true)
      const capable = answerTo({ ...spec, capEff: CAP_IPC_LOCK }, request, '6.12')
      expect([capable.verdict.ok, capable.memlock?.exempt]).toEqual([liftedBy !== null, liftedBy !== null])
    },
  )

  it('R-DRV-2 what counts already: VmPin for RDMA, VmLck for VFIO, the user for AF_XDP', () => {
    const spec = { mappings: [anon(8)], memlock: 16 * P, pinned: 9 * P, locked: 10 * P, registered: 11 * P }
    expect([REG_MR, MAP_DMA, IOAS_MAP, UMEM_REG].map((r) => answerTo(spec, r, '6.12').memlock!.used)).toEqual(
      [9, 10, 11, 11],
    )
    expect([REG_MR, MAP_DMA, IOAS_MAP, UMEM_REG].map((r) => answerTo(spec, r, '6.12').verdict.ok)).toEqual([
      false,
      false,
      false,
      false,
    ])
  })

  it('R-DRV-5 a limit of 0 is EPERM for RDMA, and an ordinary limit for AF_XDP', () => {
    const rules = [REG_MR, UMEM_REG].map((r) => answerTo({ mappings: [anon(4)], memlock: 0 }, r).verdict)
    expect(rules).toMatchObject([
      { errno: 'EPERM', rule: 'R-DRV-5' },
      { errno: 'ENOBUFS', rule: 'R-XDP-8' },
    ])
  })

  it('R-DRV-17 R-REP-1 a bad buffer over the limit: which of the two is said first', () => {
    const spec = { mappings: [anon(8)], memlock: 10 * P }
    const pages = { pages: 16 }
    const rules = (request: Request): string | null =>
      answerTo(spec, { ...request, ...pages }, '6.12').verdict.rule
    expect([REG_MR, UMEM_REG, IOAS_MAP, MAP_DMA].map(rules)).toEqual([
      'R-UMEM-3',
      'R-XDP-8',
      'R-GUP-15',
      'R-GUP-15',
    ])
    expect(answerTo({ ...spec, memlock: 4 * P }, { ...MAP_DMA, ...pages }, '6.12').verdict.rule).toBe(
      'R-VFIO-4',
    )
  })

  it('R-REP-2 vhost-vdpa: EFAULT outside, what is wrong in the chain', () => {
    const { verdict, assumptions } = answerTo(
      { mappings: [anon(8)], memlock: 4 * P, capEff: CAP_IPC_LOCK },
      VHOST_MAP,
    )
    expect(verdict.errno).toBe('EFAULT')
    expect(verdict.chain.map(({ errno, rule }) => [errno, rule])).toEqual([
      ['EFAULT', 'R-VHOST-1'],
      ['ENOMEM', 'R-VHOST-2'],
    ])
    expect(assumptions.join()).toContain('answers EFAULT for every failure')
  })

  it('R-REP-3 ENOBUFS names what else the uid may have charged', () => {
    const { assumptions } = answerTo({ mappings: [anon(8)], memlock: 4 * P }, UMEM_REG)
    expect(assumptions.join()).toMatch(/uid 1000 charges to locked_vm elsewhere.*R-XDP-10/)
  })
})

describe('memory that is refused', () => {
  it('R-UMEM-4 a read-only mapping is not for a device that writes; reading is fine', () => {
    const spec = { mappings: [{ flags: readOnly, look: [['anon', 4]] } as MappingSpec] }
    expect(answerTo(spec, REG_MR).verdict).toMatchObject({ errno: 'EFAULT', rule: 'R-GUP-16.8' })
    expect(hintsOf(spec, REG_MR)).toContain('ask for read access only (--access read)')
    expect(row(spec, { ...REG_MR, access: 'read' })).toBe('0 0 0 0 0')
    const shared = { mappings: [{ backing: memfd, flags: 'rd sh mr ms' } as MappingSpec] }
    expect(row(shared, { ...REG_MR, access: 'read' })).toBe('fa 0 0 0 0')
  })

  it('R-GUP-16.1 mappings of device memory; VFIO looks their frames up, which is outside the model', () => {
    const spec = { mappings: [{ backing: driver, flags: `${SHARED_RW} io pf de dd` } as MappingSpec] }
    for (const request of [REG_MR, IOAS_MAP, UMEM_REG, VHOST_MAP])
      expect(answerTo(spec, request, '6.12').verdict).toMatchObject({ errno: 'EFAULT', rule: 'R-GUP-16.1' })
    expect(answerTo(spec, MAP_DMA, '6.12').verdict.ok).toBeNull()
  })

  it('R-UMEM-11 a file on device memory', () => {
    const pmem = [{ backing: fileOn('ext4', 'yes'), flags: SHARED_RW } as MappingSpec]
    expect(row(pmem, REG_MR)).toBe('op op op op op')
  })

  it('R-DRV-10 shared mappings of disk files since 6.6', () => {
    expect(EVERY.map((request) => row([ext4Shared], request))).toEqual([
      '0 0 fa fa fa',
      '0 0 fa fa fa',
      'ENOENT 0 fa fa fa',
      '0 0 fa fa fa',
      '0 0 fa fa fa',
    ])
    expect(hintsOf({ mappings: [ext4Shared] }, REG_MR)).toContain('use a memfd or a tmpfs file')
  })

  it('R-DRV-8 the same hole: ENOMEM where one call pins all, EFAULT where it is asked again', () => {
    const codes = EVERY.map((request) =>
      code(verdictOn(snapshot({ mappings: [anon(4)] }), '6.12', { ...request, pages: 8 })),
    )
    expect(codes).toEqual(['fa', 'fa', 'fa', 'nomem', 'fa'])
  })
})

describe('arguments', () => {
  it('R-XDP-3 R-XDP-5 frames that are too long, or no power of two', () => {
    const spec = { mappings: [anon(64)] }
    const frames = (frameSize: number, more: Request = {}): object =>
      answerTo(spec, { ...UMEM_REG, length: 30 * frameSize, frameSize, ...more }).verdict
    expect(frames(9746)).toMatchObject({ errno: 'EINVAL', rule: 'R-XDP-3' })
    expect(frames(2304)).toMatchObject({
      errno: 'EINVAL',
      reason: expect.stringContaining('power of two') as string,
    })
    expect(frames(2304, { unaligned: true })).toMatchObject({ ok: true })
    expect(frames(2048, { headroom: 1345 })).toMatchObject({ errno: 'EINVAL', rule: 'R-XDP-5' })
  })

  it('R-VDUSE-1 the size must be that of the bounce buffers', () => {
    const spec = { mappings: [anon(512)] }
    expect(answerTo(spec, REG_UMEM).verdict).toMatchObject({ errno: 'EINVAL', rule: 'R-VDUSE-1' })
    expect(answerTo(spec, { ...REG_UMEM, bounceSize: 512 * P }, '6.12').verdict.ok).toBe(true)
  })

  it('R-IOMMUFD-2 R-VFIO-2 parts of pages cannot be mapped', () => {
    for (const request of [MAP_DMA, IOAS_MAP])
      expect(answerTo({ mappings: [anon(8)] }, { ...request, length: 100 }).verdict.errno).toBe('EINVAL')
  })

  it('refuses options that mean nothing to a request', () => {
    const seen = snapshot({ mappings: [{}] })
    const ask = (request: string, more: object) => () =>
      explain({ snapshot: seen, range: { start: A, length: P }, request, ...more })
    expect(ask('gup:pin', { iova: 0 })).toThrow(
      /--iova goes with rdma:reg-mr, vfio:map-dma, .* and kvm:memslot, not with gup:pin/,
    )
    expect(ask('rdma:reg-mr', { frameSize: 2048 })).toThrow(
      '--frame-size goes with xdp:umem-reg, not with rdma:reg-mr',
    )
    expect(ask('vduse:reg-umem', { access: 'read' })).toThrow('vduse:reg-umem decides that itself')
    expect(ask('vfio:map-dma', { iova: -1 })).toThrow('-1 is no address of a device')
  })
})
