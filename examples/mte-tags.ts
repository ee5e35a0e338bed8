/**
 * A debugger reads and writes the MTE tags of another process on an arm64 machine, page after page, as far as the
 * memory has tags. An address that carries a tag itself shows what the series' look-up of the VMA changed.
 *
 *     npx tsx examples/mte-tags.ts
 */
import { Machine, SyscallError, rootRefusal } from '../src/index.ts'
import { PTRACE_PEEKMTETAGS, PTRACE_POKEMTETAGS, mtePtraceCopyTags, stg } from '../src/devices.ts'

for (const release of ['6.1', 'gup-v3'] as const) {
  const machine = new Machine({ release, memory: '64M', settings: { mte: true } })
  const app = machine.spawn('app')
  const debug = machine.spawn('debugger')
  const { kernel } = machine

  const heap = app.mmap({ length: '8k', prot: 'rw' })
  app.mprotect(heap, 4096, 'rwm')
  app.run(stg(kernel, app.mm!, heap, new Uint8Array([3, 3, 9, 9])))

  debug.remote.attach(app.pid)
  const buffer = debug.mmap({ length: '4k' })
  const ask = (what: string, request: 33 | 34, address: number, length: number, tag = 0): void => {
    const iovec = { base: buffer, length }
    try {
      debug.call('ptrace', mtePtraceCopyTags(kernel, app.pid, request, { address, tag }, iovec))
      const shown =
        request === PTRACE_PEEKMTETAGS ? `: ${debug.load(buffer, Math.min(4, length)).join(' ')}` : ''
      console.log(`${what}: ${iovec.length} tags${shown}`)
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error
      console.log(
        `${what}: ${error.code}, ${rootRefusal(error.reason!).why} (${rootRefusal(error.reason!).rule})`,
      )
    }
  }
  console.log(`${release}:`)
  ask('PEEK 4', PTRACE_PEEKMTETAGS, heap, 4)
  ask('PEEK 300, the second page has no tags', PTRACE_PEEKMTETAGS, heap, 300)
  ask('PEEK there', PTRACE_PEEKMTETAGS, heap + 4096, 4)
  debug.store(buffer, new Uint8Array([1, 2]))
  ask('POKE 2', PTRACE_POKEMTETAGS, heap + 16, 2)
  ask('PEEK 4', PTRACE_PEEKMTETAGS, heap, 4)
  ask('PEEK 4 at an address with tag 3', PTRACE_PEEKMTETAGS, heap, 4, 3)
  for (const { message } of machine.kernel.warnings) console.log(`warning: ${message}`)
  app.exit()
  debug.exit()
  console.log(`audit: ${machine.audit().length} findings`)
}
