/**
 * One process reaches into another, by calls that ask GUP for different things: process_vm_readv may do what the
 * program may do, a debugger and /proc/PID/mem may do more, and only the first one pins.
 *
 *     npx tsx examples/remote-access.ts
 */
import { Machine, SyscallError } from '../src/index.ts'

const text = (word: string): Uint8Array => new TextEncoder().encode(word)
const shown = (bytes: Uint8Array): string => String.fromCharCode(...bytes)

const machine = new Machine({ release: '6.18', memory: '64M' })
const tool = machine.spawn('tool')
const app = machine.spawn('app')
const mine = tool.mmap({ length: '4k' })
tool.store(mine, text('from me!'))

/** Readable and writable, read-only, not accessible at all, each with a word in it. */
const places = new Map(
  Object.entries({ rw: 'rw', r: 'r', none: '' } as const).map(([name, prot]) => {
    const at = app.mmap({ length: '4k' })
    app.store(at, text(`was ${name}`.padEnd(8)))
    app.mprotect(at, '4k', prot)
    return [name, at]
  }),
)

/** What a call returns, or the name of its errno. */
function attempt(call: () => number): string {
  try {
    return String(call())
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error
    return error.code
  }
}

tool.remote.attach(app.pid)
const mem = tool.remote.openMem(app.pid)
for (const [name, at] of places) {
  const [local, remote] = [[{ base: mine, length: 8 }], [{ base: at, length: 8 }]]
  const before = machine.kernel.pinAcquired
  const read = attempt(() => tool.remote.vmRead(app.pid, local, remote))
  const pins = machine.kernel.pinAcquired - before
  const write = attempt(() => tool.remote.vmWrite(app.pid, local, remote))
  const peek = shown(tool.remote.peek(app.pid, at))
  tool.remote.poke(app.pid, at, text(`now ${name}`.padEnd(8)))
  const poked = shown(tool.remote.peek(app.pid, at))
  const file = attempt(() => mem.pwrite(mine, 8, at))
  console.log(`${name.padEnd(4)} process_vm_readv ${read} (${pins} pins), writev ${write}`)
  console.log(`     ptrace peeks "${peek.trim()}", pokes "${poked.trim()}"; /proc/PID/mem writes ${file}`)
}

tool.remote.detach(app.pid)
const at = places.get('none')!
console.log(`no longer attached: peek ${attempt(() => tool.remote.peek(app.pid, at).length)}`)
console.log(`the file stays open: it writes ${mem.pwrite(mine, 4, at)}`)

mem.close()
app.exit()
tool.exit()
console.log(`pins: ${machine.kernel.pinAcquired - machine.kernel.pinReleased} left`)
console.log(`audit: ${machine.audit().length} findings`)
