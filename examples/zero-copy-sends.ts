/**
 * SEND_ZC of io_uring lends pages to a socket. A result says that the socket has taken the bytes, not that it has copied
 * them: what the program stores before the notification is what a slow reader gets.
 *
 *     npx tsx examples/zero-copy-sends.ts
 */
import {
  IORING_CQE_F_NOTIF,
  Machine,
  SyscallError,
  connectSockets,
  errnoName,
  openIoUring,
} from '../src/index.ts'

const machine = new Machine({ release: '6.18', memory: '64M' })
const server = machine.spawn('server', { limits: { memlock: '64k' } })
const reader = machine.spawn('reader')
const ring = openIoUring(server, { entries: 8 })
const buffer = server.mmap({ length: '16k' })
ring.registerBuffers([{ base: buffer, length: 16384 }])

const text = (word: string): Uint8Array => new TextEncoder().encode(word)
const shown = (bytes: Uint8Array): string => String.fromCharCode(...bytes)
const into = reader.mmap({ length: '4k' })

function completions(): string {
  const seen = ring.completions().map(({ res, flags }) => {
    if ((flags & IORING_CQE_F_NOTIF) !== 0) return 'notification'
    return res < 0 ? errnoName(-res) : `${res} bytes taken`
  })
  return seen.join(', ') || 'nothing'
}

for (const [kind, room] of [
  ['udp', '64k'],
  ['tcp', '4'],
] as const) {
  const [from, to] = connectSockets(server, reader, { kind, room: kind === 'tcp' ? 4 : room })
  server.store(buffer, text('first bytes'))
  ring.sendZc({ fd: from.fd, address: buffer, length: 11, index: 0 })
  console.log(`${kind}: ${completions()}`)
  server.store(buffer, text('FIRST BYTES'))
  let got = ''
  while (got.length < 11) got += shown(reader.load(into, to.receive(into, '4k')))
  console.log(`  stored meanwhile: FIRST BYTES; the reader gets "${got}"`)
  console.log(`  afterwards: ${completions()}`)
  from.close()
  to.close()
}

const [from, to] = connectSockets(server, reader, { room: 4 })
ring.sendZc({ fd: from.fd, address: buffer, length: 16384, index: 0 })
completions()
ring.close()
console.log(`the ring is closed, pinned for the reader: ${machine.pins()[0]?.pins ?? 0} pages`)
server.munmap(buffer, '16k')
let read = 0
while (read < 16384) read += to.receive(into, '4k')
console.log(`it has read all ${read} bytes: ${machine.pins()[0]?.pins ?? 0} pages`)

const small = openIoUring(server, { entries: 8 })
const other = server.mmap({ length: '128k' })
small.sendZc({ fd: from.fd, address: other, length: 131072 })
const [result] = small.completions()
console.log(`without a registered buffer its pages are charged: ${errnoName(-result!.res)}`)

try {
  to.receive(into, '4k')
} catch (error) {
  if (!(error instanceof SyscallError)) throw error
  console.log(`nothing left to read: ${error.code}`)
}
server.exit()
reader.exit()
console.log(`audit: ${machine.audit().length} findings`)
