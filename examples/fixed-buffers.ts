/**
 * One io_uring buffer over several mappings, with the same file behind them or not: which kernels register
 * it, and where the bytes of fixed reads and writes really go.
 *
 *     npx tsx examples/fixed-buffers.ts
 */
import { Machine, SyscallError, openIoUring, rootRefusal } from '../src/index.ts'
import type { IoUringHandle, Process, ReleaseName } from '../src/index.ts'

const HALF = 8192

/** Where the two halves of a buffer lie. Each makes both and returns the address of the first. */
const buffers: Record<string, (app: Process) => number> = {
  'one memfd, mapped twice': (app) => {
    const fd = app.memfdCreate('data', 2 * HALF)
    return sideBySide(app, { fd, offset: HALF, shared: true }, { fd, shared: true })
  },
  'two memfds': (app) =>
    sideBySide(
      app,
      { fd: app.memfdCreate('one', HALF), shared: true },
      { fd: app.memfdCreate('two', HALF), shared: true },
    ),
  'anonymous memory and a memfd': (app) =>
    sideBySide(app, {}, { fd: app.memfdCreate('data', HALF), shared: true }),
  'private mappings of two files': (app) =>
    sideBySide(app, { fd: app.openFile('/srv/one', HALF) }, { fd: app.openFile('/srv/two', HALF) }),
  'private mappings of one file': (app) => {
    const fd = app.openFile('/srv/data', 2 * HALF)
    return sideBySide(app, { fd, offset: HALF }, { fd })
  },
}

interface Half {
  readonly fd?: number
  readonly offset?: number
  readonly shared?: boolean
}

function sideBySide(app: Process, first: Half, second: Half): number {
  const address = app.mmap({ length: 2 * HALF })
  app.mmap({ ...first, address, fixed: true, length: HALF })
  app.mmap({ ...second, address: address + HALF, fixed: true, length: HALF })
  return address
}

/** null: registered */
function refusal(release: ReleaseName, buffer: (app: Process) => number): SyscallError | null {
  const app = new Machine({ release, memory: '16M' }).spawn('app')
  const ring = openIoUring(app, { entries: 8 })
  try {
    ring.registerBuffers([{ base: buffer(app), length: 2 * HALF }])
    return null
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error
    return error
  }
}

// before the series 6.1 compares the files of all pages; the series lets GUP do it; later kernels don't ask
const asked: ReleaseName[] = ['6.1', 'gup-v3', '6.12']
console.log(['one buffer over'.padEnd(30), ...asked.map((name) => name.padEnd(12))].join('').trimEnd())
for (const [name, buffer] of Object.entries(buffers)) {
  const cells = asked.map((release) => (refusal(release, buffer)?.code ?? 'registered').padEnd(12))
  console.log([name.padEnd(30), ...cells].join('').trimEnd())
}

console.log('\nwhy not two memfds?')
for (const release of asked) {
  const reason = refusal(release, buffers['two memfds']!)?.reason
  if (!reason) continue
  const { why, rule, page } = rootRefusal(reason)
  console.log(`- ${release}: page ${page}, ${why} (${rule})`)
}

// what a registered buffer is: pages, not addresses
const machine = new Machine({ release: 'gup-v3', memory: '16M' })
const app = machine.spawn('app')
const ring = openIoUring(app, { entries: 8 })
const buffer = buffers['one memfd, mapped twice']!(app)
ring.registerBuffers([{ base: buffer, length: 2 * HALF }])
const file = app.memfdCreate('file', 0)

/** Bytes across the border of the two mappings. */
const border = buffer + HALF - 3

function text(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes).replaceAll('\0', '.')
}

/** Five bytes of the buffer, as a fixed write sends them to a file. */
function sent(from: IoUringHandle): string {
  from.writeFixed({ fd: file, address: border, length: 5 })
  const [done] = from.completions()
  return done!.res < 0 ? `error ${-done!.res}` : text(app.read(file, 5, 0))
}

/** A fixed read of five bytes into the buffer. */
function receive(word: string): void {
  app.write(file, new TextEncoder().encode(word), 0)
  ring.readFixed({ fd: file, address: border, length: 5 })
  ring.completions()
}

console.log('\nfixed reads and writes of the first one, across its border:')
app.store(border, new TextEncoder().encode('HELLO'))
console.log(`the program stores HELLO, the ring sends ${sent(ring)}`)
receive('there')
console.log(`the ring receives there, the program sees ${text(app.load(border, 5))}`)

app.mmap({ address: buffer, fixed: true, length: 2 * HALF })
console.log(`other memory is mapped in its place, the ring still sends ${sent(ring)}`)
receive('ghost')
console.log(
  `the ring receives ghost, the program sees ${text(app.load(border, 5))}, the ring sends ${sent(ring)}`,
)
console.log(`${machine.pins()[0]!.pins} pages are pinned for it`)

ring.close()
app.exit()
console.log(`audit: ${machine.audit().length} findings`)
