/** R-XDP-14: one umem for sockets of several queues and interfaces, as 6.18 was seen to do it on a veth pair. */
import { describe, expect, it } from 'vitest'
import {
  SOL_XDP,
  XDP_RX_RING,
  XDP_SHARED_UMEM,
  XDP_UMEM_COMPLETION_RING,
  XDP_UMEM_FILL_RING,
  XDP_UMEM_REG,
  XDP_ZEROCOPY,
  netDevices,
  xskCreate,
  type XskSocket,
} from '../../src/net/xsk.ts'
import { openDevice, type DeviceHandle } from '../../src/task/device/handle.ts'
import { P, RELEASES, Rig, answer, walkDevice } from '../drivers/rig.ts'

type Socket = DeviceHandle<XskSocket>
const OWN = [XDP_UMEM_FILL_RING, XDP_UMEM_COMPLETION_RING]

/** A socket with a receive ring and the rings named. */
function open(rig: Rig, rings: readonly number[]): Socket {
  const socket = openDevice(rig.app, (k) => xskCreate(k))
  for (const ring of [XDP_RX_RING, ...rings])
    socket.call('setsockopt', (s) => s.setsockopt(SOL_XDP, ring, 64, 4))
  return socket
}

function register(rig: Rig, socket: Socket): number {
  const reg = { addr: rig.memory('rw4'), len: 4 * P, chunkSize: P }
  return socket.call('setsockopt', (s) => s.setsockopt(SOL_XDP, XDP_UMEM_REG, reg, 32))
}

const bind = (socket: Socket, device: string, queue: number, flags = 0): number | string =>
  answer(() => socket.call('bind', (s) => s.bind({ device, queue, flags })))

const share = (socket: Socket, device: string, queue: number, from: Socket): number | string =>
  answer(() =>
    socket.call('bind', (s) =>
      s.bind({ device, queue, flags: XDP_SHARED_UMEM, sharedUmem: from.process.files.get(from.fd) }),
    ),
  )

/** Two interfaces of four queues; a umem is registered and bound to the first queue of v0. */
function veth(rig: Rig, zerocopy = false): Socket {
  for (const name of ['v0', 'v1'])
    netDevices(rig.k).set(name, { name, queues: 4, zerocopy, pools: new Map() })
  const first = open(rig, OWN)
  register(rig, first)
  bind(first, 'v0', 0, zerocopy ? XDP_ZEROCOPY : 0)
  return first
}

describe.each(RELEASES)('a shared umem on %s', (release) => {
  it('R-XDP-14 on the same queue there can be no rings of its own', () => {
    const rig = new Rig(release)
    const first = veth(rig)
    expect(share(open(rig, OWN), 'v0', 0, first)).toBe('-EINVAL')
    expect(share(open(rig, [XDP_UMEM_COMPLETION_RING]), 'v0', 0, first)).toBe('-EINVAL')
    expect(share(open(rig, []), 'v0', 0, first)).toBe(0)
  })

  it('R-XDP-14 elsewhere both rings are needed, before the queue is looked at', () => {
    const rig = new Rig(release)
    const first = veth(rig)
    const other = open(rig, OWN)
    register(rig, other)
    bind(other, 'v1', 0)
    const bare = open(rig, [])
    const half = open(rig, [XDP_UMEM_FILL_RING])
    const whole = open(rig, OWN)
    expect([bare, half, whole].map((socket) => share(socket, 'v1', 0, first))).toEqual([
      '-EINVAL',
      '-EINVAL',
      '-EBUSY',
    ])
    expect(share(whole, 'v1', 9, first)).toBe('-EINVAL')
    expect(share(whole, 'v1', 1, first)).toBe(0)
    expect(answer(() => register(rig, whole))).toBe('-EBUSY')
  })

  it('R-XDP-14 what a socket shares it can share on; a queue is free after the last socket on it', () => {
    const rig = new Rig(release)
    const first = veth(rig)
    const second = open(rig, OWN)
    expect(share(second, 'v0', 1, first)).toBe(0)
    expect(share(open(rig, OWN), 'v0', 2, second)).toBe(0)
    const beside = open(rig, [])
    expect(share(beside, 'v0', 1, first)).toBe('-EINVAL')
    expect(share(beside, 'v0', 1, second)).toBe(0)
    second.close()
    rig.k.settle()
    const late = open(rig, OWN)
    register(rig, late)
    expect(bind(late, 'v0', 1)).toBe('-EBUSY')
    beside.close()
    rig.k.settle()
    expect(bind(late, 'v0', 1)).toBe(0)
  })

  it('R-XDP-12 the pins go with the last socket on any queue, whoever registered them', () => {
    const rig = new Rig(release, { limit: 8 })
    const first = veth(rig)
    const second = open(rig, OWN)
    share(second, 'v1', 3, first)
    expect([rig.pinned, rig.locked()]).toEqual([4, 4])
    first.close()
    rig.k.settle()
    expect([rig.pinned, rig.locked()]).toEqual([4, 4])
    second.close()
    rig.k.settle()
    expect([rig.pinned, rig.locked()]).toEqual([0, 0])
  })

  it('R-XDP-14 without copying it is not known what another queue gets', () => {
    const rig = new Rig(release)
    const first = veth(rig, true)
    expect(() => share(open(rig, OWN), 'v0', 1, first)).toThrow(/^Unmodelled: .*R-XDP-14/)
    expect(share(open(rig, []), 'v0', 0, first)).toBe(0)
  })

  it('R-XDP-14 what fails anywhere is undone, and a killed process leaves nothing', () => {
    const failures = walkDevice(release, (rig) => () => {
      const first = veth(rig)
      share(open(rig, OWN), 'v1', 0, first)
      share(open(rig, []), 'v0', 0, first)
    })
    expect(failures).toBeGreaterThan(5)
  })
})
