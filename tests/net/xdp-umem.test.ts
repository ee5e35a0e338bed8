import { describe, expect, it } from 'vitest'
import type { ReleaseName } from '../../src/base/release.ts'
import { MADV_DONTNEED, MADV_DONTFORK } from '../../src/mm/mman.ts'
import { hugetlbPool } from '../../src/mm/hugetlb.ts'
import type { XdpUmemReg } from '../../src/net/xdp-umem.ts'
import {
  SOL_XDP,
  XDP_MAX_TX_SKB_BUDGET,
  XDP_COPY,
  XDP_PGOFF_TX_RING,
  XDP_RX_RING,
  XDP_SHARED_UMEM,
  XDP_TX_RING,
  XDP_UMEM_COMPLETION_RING,
  XDP_UMEM_FILL_RING,
  XDP_UMEM_REG,
  XDP_ZEROCOPY,
  xskCreate,
  type SockaddrXdp,
  type XskOptionValue,
  type XskSocket,
} from '../../src/net/xsk.ts'
import { openDevice, type DeviceHandle } from '../../src/task/device/handle.ts'
import { Process } from '../../src/task/process.ts'
import { Mm } from '../../src/mm/mm.ts'
import { P, RELEASES, Rig, answer, reason, walkDevice, type RigOptions } from '../drivers/rig.ts'

type Socket = DeviceHandle<XskSocket>

const open = (app: Process): Socket => openDevice(app, (k) => xskCreate(k))

/** XDP_UMEM_REG of so many pages; anything can be said otherwise. */
function reg(socket: Socket, addr: number, pages: number, more: Partial<XdpUmemReg> = {}): number {
  return set(socket, XDP_UMEM_REG, { addr, len: pages * P, chunkSize: P, ...more })
}

function set(socket: Socket, option: number, value: XskOptionValue, length = 32, level = SOL_XDP): number {
  return socket.call('setsockopt', (s) => s.setsockopt(level, option, value, length))
}

function rings(socket: Socket, options = [XDP_TX_RING, XDP_UMEM_FILL_RING, XDP_UMEM_COMPLETION_RING]): void {
  for (const option of options) set(socket, option, 64, 4)
}

const bind = (socket: Socket, address: Partial<SockaddrXdp> = {}): number =>
  socket.call('bind', (s) => s.bind({ device: 'lo', ...address }))

/** What goes out when the frame at an offset is sent: five bytes of the umem. */
function sent(socket: Socket, offset = 0): string {
  const bytes = new Uint8Array(5)
  expect(socket.device.umem!.read(offset, bytes)).toBe(true)
  return String.fromCharCode(...bytes)
}

const SOL_SOCKET = 1
const SOCK_NONBLOCK = 0o4000
const SOCK_CLOEXEC = 0o2000000

const CAP: RigOptions = { capabilities: ['CAP_IPC_LOCK'] }

describe.each(RELEASES)('XDP_UMEM_REG on %s', (release) => {
  it('DRV vector 1: a page over the limit is ENOBUFS, and no counter moves (R-DRV-1)', () => {
    const rig = new Rig(release, { limit: 32 })
    const socket = open(rig.app)
    const at = rig.memory('rw64')
    expect(reason(() => reg(socket, at, 33))).toMatchObject({
      rule: 'R-XDP-8',
      needed: 33,
      used: 0,
      limit: 32,
      budget: 'user->locked_vm',
      capability: 'CAP_IPC_LOCK',
    })
    expect(answer(() => reg(socket, at, 33))).toBe('-ENOBUFS')
    expect([rig.locked(), rig.app.mm!.rss, rig.pinned]).toEqual([0, 0, 0])
  })

  it('DRV vector 2, DRV vector 3: the limit itself is fine, and counts for all sockets of the user (R-DRV-2, R-DRV-4)', () => {
    const rig = new Rig(release, { limit: 32 })
    const at = rig.memory('rw64')
    expect(reg(open(rig.app), at, 32)).toBe(0)
    expect([rig.locked(), rig.app.mm!.pinnedVm, rig.app.mm!.lockedVm, rig.pinned]).toEqual([32, 0, 0, 32])
    rig.app.setLimit('memlock', 40 * P)
    const second = open(rig.app)
    expect(answer(() => reg(second, at, 9))).toBe('-ENOBUFS')
    expect(reg(second, at, 8)).toBe(0)
    expect(rig.locked()).toBe(40)
    const other = rig.spawn('other', { limit: 40 })
    expect(answer(() => reg(open(other), rig.memory('rw1', other), 1))).toBe('-ENOBUFS')
  })

  it('DRV vector 4: who has CAP_IPC_LOCK is not charged at all (R-XDP-8)', () => {
    const rig = new Rig(release, { ...CAP, limit: 0 })
    expect(reg(open(rig.app), rig.memory('rw600'), 600)).toBe(0)
    expect([rig.locked(), rig.pinned, rig.app.mm!.rss]).toEqual([0, 600, 600])
  })

  it('DRV vector 5, DRV vector 6: the limit is looked at before the memory (R-DRV-17)', () => {
    const rig = new Rig(release, { limit: 3 })
    const socket = open(rig.app)
    const at = rig.memory('hole4')
    expect(answer(() => reg(socket, at, 4))).toBe('-ENOBUFS')
    rig.app.setLimit('memlock', 100 * P)
    expect(answer(() => reg(socket, at, 4))).toBe('-EFAULT')
    expect(rig.locked()).toBe(0)
  })

  it('DRV vector 7, DRV vector 8: a short pin leaves what it did not pin charged, for good (R-XDP-10)', () => {
    const rig = new Rig(release, { limit: 100 })
    const at = rig.memory('rw8+hole8')
    const socket = open(rig.app)
    expect(answer(() => reg(socket, at, 16))).toBe('-ENOMEM')
    expect([rig.locked(), rig.pinned]).toEqual([8, 0])
    expect(reason(() => reg(socket, at, 16))).toMatchObject({ rule: 'R-XDP-9', page: 8, got: 8, wanted: 16 })
    socket.close()
    rig.k.settle()
    expect(rig.locked()).toBe(16)
  })

  it('DRV vector 9: nothing is charged that could stay so with CAP_IPC_LOCK', () => {
    const rig = new Rig(release, CAP)
    expect(answer(() => reg(open(rig.app), rig.memory('rw8+hole8'), 16))).toBe('-ENOMEM')
    expect([rig.locked(), rig.pinned]).toEqual([0, 0])
  })

  it.each([
    ['DRV vector 10: rw4+ro4', 'rw4+ro4', '-ENOMEM'],
    ['DRV vector 10: ro4', 'ro4+ro4', '-EFAULT'],
    ['DRV vector 12: MAP_PRIVATE file', 'ext4p8', 0],
    ['DRV vector 12: memfd', 'memfd8', 0],
    ['DRV vector 13: secretmem', 'secret8', '-EFAULT'],
    ['DRV vector 13: PROT_NONE', 'none8', '-EFAULT'],
  ])('%s (R-DRV-8, R-DRV-10)', (_name, layout, expected) => {
    const rig = new Rig(release, CAP)
    expect(answer(() => reg(open(rig.app), rig.memory(layout), 8))).toBe(expected)
  })

  it('DRV vector 11: a shared mapping of a disk file is refused since 6.6', () => {
    const rig = new Rig(release, CAP)
    const accepted = release === '6.1' || release === 'gup-v3'
    expect(answer(() => reg(open(rig.app), rig.memory('ext4s8'), 8))).toBe(accepted ? 0 : '-EFAULT')
  })

  it('DRV vector 12: hugetlb; DRV vector 25: it is not free again before the umem is (R-DRV-13, R-XDP-7)', () => {
    const rig = new Rig(release, CAP)
    const pool = hugetlbPool(rig.k)
    pool.resize(2)
    const at = rig.app.mmap({ length: '2M', hugetlb: true })
    expect(answer(() => reg(open(rig.app), at, 512, { chunkSize: 2 * P }))).toBe('-EINVAL')
    const socket = open(rig.app)
    expect(reg(socket, at, 4)).toBe(0)
    rig.app.munmap(at, '2M')
    expect(pool.free).toBe(1)
    socket.close()
    expect(pool.free).toBe(1)
    rig.k.settle()
    expect(pool.free).toBe(2)
  })

  const anon: readonly (readonly [string, Partial<XdpUmemReg>, number | string])[] = [
    ['DRV vector 14: chunk 3000, aligned', { chunkSize: 3000, len: 3000 * 8 }, '-EINVAL'],
    ['DRV vector 14: chunk 3000, unaligned', { chunkSize: 3000, flags: 1 }, 0],
    ['DRV vector 15: chunk 8192', { chunkSize: 8192 }, '-EINVAL'],
    ['R-XDP-3 chunk 1024', { chunkSize: 1024 }, '-EINVAL'],
    ['R-XDP-3 a length that is no multiple', { len: 8 * P - 1 }, '-EINVAL'],
    ['R-XDP-3 a length that is no multiple, unaligned chunks', { len: 8 * P - 1, flags: 1 }, 0],
    ['R-XDP-3 no bytes', { len: 0 }, '-EINVAL'],
    ['R-XDP-3 shorter than a chunk', { len: 2048 }, '-EINVAL'],
    ['R-XDP-3 2^45 bytes', { len: 2 ** 45 }, '-EINVAL'],
    ['R-XDP-3 2^43 bytes in chunks of 2048', { len: 2 ** 43, chunkSize: 2048 }, '-EINVAL'],
    ['R-XDP-3 the area wraps', { addr: 2 ** 64 - 2 ** 13 }, '-EINVAL'],
    ['R-XDP-3 a length of -1 bytes wraps, unaligned chunks', { len: -1, flags: 1 }, '-EINVAL'],
    ['R-XDP-3 a length of -1 pages wraps', { len: -P }, '-EINVAL'],
    ['R-XDP-4 an unknown flag', { flags: 8 }, '-EINVAL'],
    ['R-XDP-9 an array of 32 GiB', { addr: 0, len: 2 ** 44 - P }, '-ENOMEM'],
  ]
  it.each(anon)('%s', (_name, more, expected) => {
    const rig = new Rig(release, CAP)
    expect(answer(() => reg(open(rig.app), rig.memory('rw8'), 8, more))).toBe(expected)
  })

  it('R-XDP-3 the address must begin a page; three chunks of half a page are charged as two pages', () => {
    const rig = new Rig(release, { limit: 100 })
    const at = rig.memory('rw8')
    expect(answer(() => reg(open(rig.app), at + 2048, 4))).toBe('-EINVAL')
    expect(reg(open(rig.app), at, 0, { len: 3 * 2048, chunkSize: 2048 })).toBe(0)
    expect(rig.locked()).toBe(2)
  })

  it('R-XDP-2 the option, its length, the pointer, the socket, then the arguments; DRV vector 20, DRV vector 21', () => {
    const rig = new Rig(release, CAP)
    const socket = open(rig.app)
    const good = { addr: rig.memory('rw8'), len: 8 * P, chunkSize: P }
    expect(answer(() => set(socket, XDP_UMEM_REG, good, 32, 6))).toBe('-ENOPROTOOPT')
    expect(answer(() => set(socket, XDP_UMEM_REG, good, -1, 6))).toBe('-EINVAL')
    expect(() => set(socket, XDP_UMEM_REG, good, 32, SOL_SOCKET)).toThrow(/SOL_SOCKET.*R-XDP-2/)
    expect(answer(() => set(socket, 99, good))).toBe('-ENOPROTOOPT')
    expect(answer(() => set(socket, XDP_UMEM_REG, 'unreadable', 8))).toBe('-EINVAL')
    expect(answer(() => set(socket, XDP_UMEM_REG, 'unreadable', 32))).toBe('-EFAULT')
    expect(answer(() => set(socket, XDP_UMEM_REG, { ...good, flags: 0xffffffff }, 32))).toBe('-EINVAL')
    expect(set(socket, XDP_UMEM_REG, { ...good, flags: 0xffffffff }, 28)).toBe(0)
    expect(answer(() => set(socket, XDP_UMEM_REG, { ...good, chunkSize: 1 }))).toBe('-EBUSY')
  })

  it('R-DRV-9 DRV vector 22: a page that a userfaultfd would have to serve is EFAULT, or a short pin', () => {
    const rig = new Rig(release, CAP)
    const at = rig.memory('rw8')
    rig.app.touch(at, 4 * P)
    const uffd = rig.watch(at, 8)
    expect(answer(() => reg(open(rig.app), at + 4 * P, 4))).toBe('-EFAULT')
    expect(answer(() => reg(open(rig.app), at, 8))).toBe('-ENOMEM')
    expect(reg(open(rig.app), at, 4)).toBe(0)
    expect(uffd.read()).toBeNull()
  })

  it('R-XDP-9 R-DRV-6 what fails anywhere is undone, and a killed process leaves nothing', () => {
    const steps = walkDevice(
      release,
      (rig) => {
        const at = rig.memory('rw4+memfd4')
        const socket = open(rig.app)
        return () => {
          reg(socket, at, 8)
          rings(socket)
          bind(socket)
        }
      },
      { limit: 64 },
    )
    expect(steps).toBeGreaterThan(20)
  })
})

const headrooms: readonly (readonly [string, ReleaseName, number, number | string])[] = [
  ['DRV vector 16', '6.1', 1344, 0],
  ['DRV vector 16', '6.1', 1345, '-EINVAL'],
  ['DRV vector 16', '6.12', 1344, 0],
  ['DRV vector 16', '6.12', 1345, '-EINVAL'],
  ['DRV vector 16', '6.18', 1344, 0],
  ['DRV vector 16', '6.18', 1345, '-EINVAL'],
  ['DRV vector 17', 'gup-v3', 1791, 0],
  ['DRV vector 17', 'gup-v3', 1792, '-EINVAL'],
]

describe('what differs between releases', () => {
  it.each(headrooms)('%s: on %s headroom %i of 2048 (R-XDP-5)', (_name, release, headroom, expected) => {
    const rig = new Rig(release, CAP)
    const at = rig.memory('rw8')
    expect(answer(() => reg(open(rig.app), at, 8, { chunkSize: 2048, headroom }))).toBe(expected)
  })

  it('R-XDP-5 of 6.6 it is not known which of the two', () => {
    const rig = new Rig('6.6', CAP)
    const at = rig.memory('rw8')
    expect(() => reg(open(rig.app), at, 8, { chunkSize: 2048, headroom: 1345 })).toThrow('Unmodelled')
    expect(answer(() => reg(open(rig.app), at, 8, { chunkSize: 2048, headroom: 1792 }))).toBe('-EINVAL')
    expect(reg(open(rig.app), at, 8, { chunkSize: 2048, headroom: 1344 })).toBe(0)
  })

  it.each([
    ['6.18', 8, 0],
    ['6.18', 0, 0],
    ['6.18', 20, '-EINVAL'],
    ['6.18', 256, '-EINVAL'],
    ['6.12', 8, '-EINVAL'],
    ['6.12', 16, 0],
    ['6.6', 16, '-EINVAL'],
  ] as const)(
    'DRV vector 18: on %s TX metadata of %i bytes (R-XDP-6)',
    (release, txMetadataLen, expected) => {
      const rig = new Rig(release, CAP)
      const at = rig.memory('rw8')
      expect(answer(() => reg(open(rig.app), at, 8, { flags: 4, txMetadataLen }))).toBe(expected)
    },
  )

  it.each([
    ['6.1', '-EINVAL'],
    ['gup-v3', '-EINVAL'],
    ['6.6', '-EINVAL'],
    ['6.12', 0],
    ['6.18', 0],
  ] as const)('DRV vector 19: on %s flag 2 (R-XDP-4)', (release, expected) => {
    const rig = new Rig(release, CAP)
    const at = rig.memory('rw8')
    expect(answer(() => reg(open(rig.app), at, 8, { flags: 2 }))).toBe(expected)
  })
})

describe('the socket and its life', () => {
  it('R-XDP-1 CAP_NET_RAW is asked for by socket(2) only', () => {
    const rig = new Rig('6.18')
    const create = (type: number, protocol: number): number | string =>
      answer(() => openDevice(rig.app, (k) => xskCreate(k, type, protocol)).fd)
    expect([create(2, 0), create(3, 1)]).toEqual(['-ESOCKTNOSUPPORT', '-EPROTONOSUPPORT'])
    expect([create(11, 0), create(-1, 0), create(3 | 0o2000, 0)]).toEqual(['-EINVAL', '-EINVAL', '-EINVAL'])
    expect(create(3 | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)).toBeGreaterThan(-1)
    const bare = new Process(rig.k, 'bare', {}, { mm: new Mm(rig.k, 'bare'), files: rig.app.files })
    expect(reason(() => open(bare).fd)).toMatchObject({ rule: 'R-XDP-1', capability: 'CAP_NET_RAW' })
    const inherited = open(rig.app).in(bare)
    expect(reg(inherited, rig.memory('rw4', bare), 4)).toBe(0)
    bare.exit()
  })

  it('R-XDP-16 the budget of one call lies between 32 and the slots of the transmit ring', () => {
    const rig = new Rig('6.18')
    const socket = open(rig.app)
    const budget = (value: XskOptionValue, length = 4): number | string =>
      answer(() => set(socket, XDP_MAX_TX_SKB_BUDGET, value, length))
    expect([budget(32), budget('unreadable'), budget(32, 8)]).toEqual(['-EACCES', '-EFAULT', '-EINVAL'])
    set(socket, XDP_TX_RING, 64, 4)
    expect([31, 32, 64, 65].map((value) => budget(value))).toEqual(['-EACCES', 0, 0, '-EACCES'])
    for (const release of ['6.1', '6.12'] as const) {
      const older = open(new Rig(release).app)
      expect(answer(() => set(older, XDP_MAX_TX_SKB_BUDGET, 64, 4))).toBe('-ENOPROTOOPT')
    }
  })

  it('DRV vector 23: after MADV_DONTNEED the old bytes are sent (R-DRV-11, R-XDP-11)', () => {
    const rig = new Rig('6.18', CAP)
    const at = rig.memory('rw4')
    const socket = open(rig.app)
    rig.store(at, 'first')
    reg(socket, at, 4)
    rig.store(at, 'again')
    expect(sent(socket)).toBe('again')
    rig.app.madvise(at, P, MADV_DONTNEED)
    rig.store(at, 'newer')
    expect(sent(socket)).toBe('again')
    socket.device.umem!.write(1, new TextEncoder().encode('---'))
    expect(rig.text(rig.app.load(at, 5))).toBe('newer')
  })

  it('R-DRV-11 mprotect and mremap keep the pages, a new mapping does not', () => {
    const rig = new Rig('6.18', CAP)
    const at = rig.memory('rw4')
    const socket = open(rig.app)
    reg(socket, at, 4)
    const moved = rig.app.mremap(at, 4 * P, 4 * P, 3, 0x40000000)
    rig.store(moved, 'moved')
    expect(sent(socket)).toBe('moved')
    rig.app.mprotect(moved, 4 * P, '')
    expect(sent(socket)).toBe('moved')
    rig.app.munmap(moved, 4 * P)
    rig.app.mmap({ address: moved, length: 4 * P, fixed: true })
    rig.store(moved, 'other')
    expect(sent(socket)).toBe('moved')
  })

  it('DRV vector 24: after fork the parent is heard, the child is not (R-DRV-12)', () => {
    const rig = new Rig('6.18', CAP)
    const at = rig.memory('rw4')
    const socket = open(rig.app)
    rig.store(at, 'first')
    reg(socket, at, 4)
    rig.app.madvise(at + P, P, MADV_DONTFORK)
    const child = rig.app.fork()
    rig.store(at, 'mine!')
    rig.store(at, 'child', child)
    expect(sent(socket.in(child))).toBe('mine!')
    expect(() => child.load(at + P, 1)).toThrow('SIGSEGV')
    child.exit()
  })

  it('R-XDP-15 DRV vector 26: exec and exit of the registrant leave it charged while another one has the socket (R-DRV-14)', () => {
    const rig = new Rig('6.18', { limit: 64 })
    const child = rig.app.fork()
    const socket = open(child)
    child.setCloseOnExec(socket.fd, false)
    reg(socket, rig.memory('rw16', child), 16)
    child.exec({ path: '/bin/sleep' })
    expect([rig.locked(), rig.pinned]).toEqual([16, 16])
    const heir = child.fork()
    child.exit()
    rig.k.settle()
    expect(rig.locked()).toBe(16)
    heir.exit()
    expect(rig.locked()).toBe(16)
    rig.k.settle()
    expect([rig.locked(), rig.pinned]).toEqual([0, 0])
  })

  it('R-XDP-13 DRV vector 27: a mapped ring keeps the socket, its queue and its pins after close (R-XDP-12)', () => {
    const rig = new Rig('6.18', CAP)
    const first = open(rig.app)
    reg(first, rig.memory('rw4'), 4)
    rings(first)
    bind(first)
    const ring = rig.app.mmap({ length: P, shared: true, fd: first.fd, offset: XDP_PGOFF_TX_RING })
    rig.store(ring, 'ring!')
    expect(answer(() => reg(first, 0, 1))).toBe('-EBUSY')
    expect(answer(() => bind(first))).toBe('-EBUSY')
    first.close()
    rig.k.settle()
    const second = open(rig.app)
    reg(second, rig.memory('rw4'), 4)
    rings(second)
    expect(answer(() => bind(second))).toBe('-EBUSY')
    expect(rig.pinned).toBe(8)
    rig.app.munmap(ring, P)
    expect(answer(() => bind(second))).toBe('-EBUSY')
    rig.k.settle()
    expect(rig.pinned).toBe(4)
    expect(bind(second)).toBe(0)
  })

  it('DRV vector 28: root of a user namespace has no CAP_IPC_LOCK that counts (R-DRV-3)', () => {
    const rig = new Rig('6.18')
    const root = rig.spawn('root in a namespace', { uid: 100_000, limit: 4 })
    const at = rig.memory('rw8', root)
    expect(answer(() => reg(open(root), at, 5))).toBe('-ENOBUFS')
    expect(reg(open(root), at, 4)).toBe(0)
    root.exit()
  })

  it('R-DRV-5 a limit of 0 is an ordinary limit here', () => {
    const rig = new Rig('6.18', { limit: 0 })
    expect(answer(() => reg(open(rig.app), rig.memory('rw1'), 1))).toBe('-ENOBUFS')
  })

  it('R-DRV-18 an unmapped address tells how much of the budget is used, without using any', () => {
    const rig = new Rig('6.18', { limit: 64 })
    reg(open(rig.app), rig.memory('rw64'), 11)
    const socket = open(rig.app)
    const at = rig.memory('hole8')
    const over = (limit: number): boolean => {
      rig.app.setLimit('memlock', limit * P)
      return answer(() => reg(socket, at, 1)) === '-ENOBUFS'
    }
    let limit = 0
    while (over(limit)) limit++
    expect([limit - 1, rig.locked()]).toEqual([11, 11])
  })

  it('R-XDP-14 bind: flags, the interface, rings, umem, queue, mode', () => {
    const rig = new Rig('6.18', CAP)
    const socket = open(rig.app)
    const at = (address: Partial<SockaddrXdp>): number | string => answer(() => bind(socket, address))
    expect(at({ flags: 0x80, device: 'none' })).toBe('-EINVAL')
    expect(at({ device: 'none' })).toBe('-ENODEV')
    expect(at({})).toBe('-EINVAL')
    rings(socket, [XDP_RX_RING])
    expect(at({})).toBe('-EINVAL')
    expect(answer(() => set(socket, XDP_RX_RING, 64, 4))).toBe('-EINVAL')
    expect(answer(() => set(socket, XDP_TX_RING, 63, 4))).toBe('-EINVAL')
    reg(socket, rig.memory('rw4'), 4)
    expect(at({})).toBe('-EINVAL')
    rings(socket)
    expect(at({ queue: 99 })).toBe('-EINVAL')
    expect(at({ flags: XDP_ZEROCOPY })).toBe('-EOPNOTSUPP')
    expect(at({ flags: XDP_SHARED_UMEM | XDP_COPY })).toBe('-EINVAL')
    expect(at({ flags: XDP_SHARED_UMEM })).toBe('-EINVAL')
    expect(at({})).toBe(0)
    expect(answer(() => set(socket, XDP_RX_RING, 64, 4))).toBe('-EBUSY')
    const sharer = open(rig.app)
    rings(sharer, [XDP_TX_RING])
    const share = (fd: number): number | string =>
      answer(() => bind(sharer, { flags: XDP_SHARED_UMEM, sharedUmem: rig.app.files.get(fd) }))
    expect([share(99), share(open(rig.app).fd), share(socket.fd)]).toEqual(['-ENOTSOCK', '-EBADF', 0])
    socket.close()
    rig.k.settle()
    expect(rig.pinned).toBe(4)
    sharer.close()
    rig.k.settle()
    expect(rig.pinned).toBe(0)
  })
})
