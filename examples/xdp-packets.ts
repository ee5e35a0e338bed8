/**
 * AF_XDP: packet memory that goes stale, a socket that outlives close(), and a budget that shrinks with every
 * failed attempt.
 *
 *     npx tsx examples/xdp-packets.ts
 */
import { Machine, SyscallError } from '../src/index.ts'
import { SOL_XDP, XDP_TX_RING, XDP_UMEM_REG, openDevice, xskCreate } from '../src/devices.ts'

const machine = new Machine({ release: '6.18', memory: '64M' })
const app = machine.spawn('sender', { limits: { memlock: '256k' }, capabilities: ['CAP_NET_RAW'] })
const charged = (): number => machine.kernel.user(1000).lockedVm
const open = () => openDevice(app, (kernel) => xskCreate(kernel))

function register(socket: ReturnType<typeof open>, addr: number, len: number): string {
  const reg = { addr, len, chunkSize: 2048 }
  try {
    socket.call('setsockopt', (s) => s.setsockopt(SOL_XDP, XDP_UMEM_REG, reg, 32))
    return 'ok'
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error
    return error.code
  }
}

const frames = app.mmap({ length: '64k' })
const socket = open()
app.store(frames, new TextEncoder().encode('first'))
console.log(`64 KiB of frames: ${register(socket, frames, 65536)}, ${charged()} pages charged to uid 1000`)
const onTheWire = (): string => {
  const bytes = new Uint8Array(5)
  socket.device.umem!.read(0, bytes)
  return String.fromCharCode(...bytes)
}
app.munmap(frames, '64k')
app.mmap({ address: frames, length: '64k', fixed: true })
app.store(frames, new TextEncoder().encode('other'))
console.log(`other memory is mapped there, the frame says "${onTheWire()}"`)

socket.call('setsockopt', (s) => s.setsockopt(SOL_XDP, XDP_TX_RING, 64, 4))
const ring = app.mmap({ length: 4096, shared: true, fd: socket.fd, offset: 0x80000000 })
socket.close()
machine.settle()
console.log(`closed, with its ring mapped: ${charged()} pages charged`)
app.munmap(ring, 4096)
machine.settle()
console.log(`the ring unmapped: ${charged()}`)

app.munmap(frames + 32768, '32k')
const second = open()
const attempts = [1, 2, 3, 4, 5, 6].map(() => register(second, frames, 65536))
console.log(`half of it is a hole: ${attempts.join(' ')}`)
console.log(`what the attempts have left charged: ${charged()} of 64 pages, held by "${leak()}"`)
console.log(
  `good memory now: ${register(second, frames, 32768)}, twice as much: ${register(open(), app.mmap({ length: '128k' }), 131072)}`,
)
app.exit()
machine.settle()
console.log(`audit: ${machine.audit().length} findings`)

function leak(): string {
  return [...machine.kernel.holders].find(({ name }) => name.startsWith('leaked'))!.name
}
