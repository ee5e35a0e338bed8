/** Packet memory: AF_XDP sockets. */
import { describe, expect, it } from 'vitest'
import type { ReleaseName } from '../../src/base/release.ts'
import {
  SOL_XDP,
  XDP_COPY,
  XDP_PGOFF_RX_RING,
  XDP_RX_RING,
  XDP_SHARED_UMEM,
  XDP_UMEM_COMPLETION_RING,
  XDP_UMEM_FILL_RING,
  XDP_UMEM_REG,
  XDP_ZEROCOPY,
  netDevices,
  xskCreate,
  type SockaddrXdp,
  type XskSocket,
} from '../../src/net/xsk.ts'
import { openDevice, type DeviceHandle } from '../../src/task/device/handle.ts'
import { Process } from '../../src/task/process.ts'
import { Mm } from '../../src/mm/mm.ts'
import { FdTable } from '../../src/task/fd-table.ts'
import { RELEASES, Rig, reason } from '../drivers/rig.ts'
import type { Request } from '../explain/asking.ts'
import { A, type SnapshotSpec } from '../explain/snapshots.ts'
import { P, anon, remarks, told } from './told.ts'

const UMEM_REG: Request = { name: 'xdp:umem-reg' }
const memory: SnapshotSpec = { mappings: [anon(128)] }
const frames = (frameSize: number, more: Request = {}): Request => ({
  ...UMEM_REG,
  length: 32 * frameSize,
  frameSize,
  ...more,
})

type Socket = DeviceHandle<XskSocket>
const open = (app: Process): Socket => openDevice(app, (k) => xskCreate(k))

function rings(socket: Socket, options = [XDP_RX_RING, XDP_UMEM_FILL_RING, XDP_UMEM_COMPLETION_RING]): void {
  for (const option of options) socket.call('setsockopt', (s) => s.setsockopt(SOL_XDP, option, 64, 4))
}

/** A socket with a umem of 4 pages and all rings. */
function ready(rig: Rig): Socket {
  const socket = open(rig.app)
  const reg = { addr: rig.memory('rw4'), len: 4 * P, chunkSize: P }
  socket.call('setsockopt', (s) => s.setsockopt(SOL_XDP, XDP_UMEM_REG, reg, 32))
  rings(socket)
  return socket
}

const bind = (socket: Socket, address: Partial<SockaddrXdp> = {}): number =>
  socket.call('bind', (s) => s.bind({ device: 'lo', ...address }))

/** An interface with several queues, and drivers that may do without copying. */
function interfaceOf(rig: Rig, name: string, zerocopy = false): void {
  netDevices(rig.k).set(name, { name, queues: 4, zerocopy, pools: new Map() })
}

describe('XDP_UMEM_REG', () => {
  it('DRV report 36: frames for jumbo packets are longer than a page (R-XDP-3)', () => {
    const { verdict } = told(memory, frames(9746))
    expect(verdict).toMatchObject({
      errno: 'EINVAL',
      rule: 'R-XDP-3',
      reason: 'a chunk has 2048 to 4096 bytes, huge pages or not',
    })
    expect(told(memory, frames(4096)).verdict.ok).toBe(true)
  })

  it('DRV report 37: frames of 2048+256 bytes are no power of two (R-XDP-3)', () => {
    const { verdict } = told(memory, frames(2304))
    expect(verdict).toMatchObject({ errno: 'EINVAL', rule: 'R-XDP-3' })
    expect(verdict.reason).toContain('no power of two, and XDP_UMEM_UNALIGNED_CHUNK_FLAG is not set')
    expect([2048, 4096].map((size) => told(memory, frames(size)).verdict.ok)).toEqual([true, true])
    expect(told(memory, frames(2304, { unaligned: true })).verdict.ok).toBe(true)
  })

  it('DRV report 38: the kernel takes unaligned frames that a library refuses before it asks', () => {
    const odd = frames(2304, { unaligned: true, length: 31 * P + 100 })
    const answer = told(memory, odd)
    expect(answer.verdict.ok).toBe(true)
    expect(remarks(answer)).toContain(
      'where strace shows no setsockopt(XDP_UMEM_REG) that fails, a library refused before it',
    )
  })

  it('DRV report 39: with the defaults of the library it depends on the area, or on another call (R-XDP-3)', () => {
    const defaults = frames(4096)
    expect(told(memory, defaults).verdict.ok).toBe(true)
    expect(remarks(told(memory, defaults))).toContain(
      'where strace shows no setsockopt(XDP_UMEM_REG) that fails',
    )
    const malloced = told(memory, { ...defaults, start: A + 16 })
    expect(malloced.verdict).toMatchObject({
      errno: 'EINVAL',
      rule: 'R-XDP-3',
      reason: 'the area does not begin with a page',
    })
    expect(told(memory, { ...defaults, length: 32 * 4096 - 1 }).verdict.reason).toBe(
      'the length of the area is no multiple of the chunk size',
    )
    expect(told(memory, { ...defaults, headroom: 4096 }).verdict).toMatchObject({
      errno: 'EINVAL',
      rule: 'R-XDP-5',
    })
  })

  it('DRV report 41: without CAP_NET_RAW there is no socket; one that is handed over will do (R-XDP-1)', () => {
    const answer = told(memory, frames(4096))
    expect(answer.verdict.ok).toBe(true)
    expect(remarks(answer)).toContain('takes CAP_NET_RAW, which it has not: it must be handed an open one')
    const capable = told({ ...memory, capEff: '0000000000002000' }, frames(4096))
    expect(remarks(capable)).not.toContain('which it has not')
    const rig = new Rig('6.18')
    const user = new Process(
      rig.k,
      'user',
      { uid: 1000, limits: {}, capabilities: [] },
      { mm: new Mm(rig.k, 'user'), files: new FdTable() },
    )
    expect(reason(() => open(user).fd)).toMatchObject({
      errno: 1,
      rule: 'R-XDP-1',
      capability: 'CAP_NET_RAW',
    })
    const socket = open(rig.app)
    expect(user.install(socket.device.file.get())).toBe(socket.fd)
    const reg = { addr: rig.memory('rw4', user), len: 4 * P, chunkSize: P }
    const handed = socket.in(user).call('setsockopt', (s) => s.setsockopt(SOL_XDP, XDP_UMEM_REG, reg, 32))
    expect([handed, rig.pinned]).toEqual([0, 4])
    user.exit()
  })
})

describe.each(RELEASES)('bind on %s', (release: ReleaseName) => {
  it('DRV report 40: the queue is free only when the closed socket has been released (R-XDP-12, R-XDP-13)', () => {
    const rig = new Rig(release)
    const first = ready(rig)
    bind(first)
    const ring = rig.app.mmap({ length: P, shared: true, fd: first.fd, offset: XDP_PGOFF_RX_RING })
    const second = ready(rig)
    expect(reason(() => bind(second))).toMatchObject({ errno: 16, rule: 'R-XDP-14' })
    first.close()
    rig.k.settle()
    expect(reason(() => bind(second))).toMatchObject({
      errno: 16,
      rule: 'R-XDP-13',
      why: 'the socket that was bound to this queue is closed, but mappings of its rings keep it',
    })
    rig.app.munmap(ring, P)
    expect(reason(() => bind(second))).toMatchObject({
      errno: 16,
      rule: 'R-XDP-12',
      why: expect.stringContaining('a work item lets go of the queue a little later') as string,
    })
    rig.k.settle()
    expect(bind(second)).toBe(0)
  })

  it('DRV report 42: a second queue of a shared umem gets a pool of its own: no pin fails there (R-XDP-14)', () => {
    const rig = new Rig(release, { limit: 4 })
    interfaceOf(rig, 'eth0')
    const first = ready(rig)
    bind(first, { device: 'eth0' })
    const second = open(rig.app)
    rings(second)
    const share = (): number =>
      bind(second, {
        device: 'eth0',
        queue: 1,
        flags: XDP_SHARED_UMEM,
        sharedUmem: rig.app.files.get(first.fd),
      })
    // no page is pinned or charged for it, whatever the limit
    expect([rig.pinned, rig.locked()]).toEqual([4, 4])
    rig.k.failNth({ what: 'kmalloc', n: 1 })
    expect(reason(share)).toMatchObject({
      errno: 12,
      rule: 'R-XDP-14',
      why: 'there is no memory for the buffer pool of the queue; the umem stays as it is',
    })
    rig.k.failNth(null)
    expect(share()).toBe(0)
    expect([rig.pinned, rig.locked()]).toEqual([4, 4])
  })

  it('DRV report 43: the umem is there, and the driver cannot do without copying (R-XDP-14)', () => {
    const rig = new Rig(release)
    interfaceOf(rig, 'eth0')
    const socket = ready(rig)
    expect(reason(() => bind(socket, { device: 'eth0', flags: XDP_ZEROCOPY }))).toMatchObject({
      errno: 95,
      rule: 'R-XDP-14',
      why: 'the driver of the interface cannot do without copying: XDP_COPY would do',
    })
    expect(bind(socket, { device: 'eth0', flags: XDP_COPY })).toBe(0)
  })
})
