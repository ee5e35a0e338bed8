/**
 * A program registers buffers with io_uring. What works, what fails and why, and what is left of a
 * buffer when the program unmaps it.
 *
 *     npx tsx examples/register-buffers.ts
 */
import { Machine, RELEASE_NAMES, SyscallError, formatSize, openIoUring } from '../src/index.ts'

function attempt(what: string, call: () => void): void {
  try {
    call()
    console.log(`${what}: ok`)
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error
    console.log(`${what}: ${error.code}`)
    for (let step = error.reason; step !== null; step = step.cause) {
      const page = step.page === undefined ? '' : `, page ${step.page}`
      const size = step.vma && formatSize(step.vma.end - step.vma.start)
      const mapping = step.vma === undefined ? '' : `, in a mapping of ${size} (${step.vma.backing})`
      const pages =
        step.limit === undefined ? '' : ` (needs ${step.needed}, used ${step.used}, limit ${step.limit})`
      console.log(`  ${step.rule}: ${step.why}${page}${mapping}${pages}`)
    }
  }
}

const machine = new Machine({ release: '6.12', memory: '256M' })
const app = machine.spawn('app', { limits: { memlock: '64k' } })
const ring = openIoUring(app, { entries: 8 })

// a buffer that fits the limit
const buffer = app.mmap({ length: '64k', prot: 'rw' })
app.store(buffer, new Uint8Array([1, 2, 3]))
attempt('64 KiB', () => ring.registerBuffers([{ base: buffer, length: 65536 }]))
console.log(`pinned: ${machine.pins()[0]?.pins} pages`)

// the program forgets that it registered it
app.munmap(buffer, 65536)
console.log(`pinned after munmap: ${machine.pins()[0]?.pins} pages nobody can see`)
ring.unregisterBuffers()

// more than RLIMIT_MEMLOCK, and a range with a read-only part
const big = app.mmap({ length: '128k', prot: 'rw' })
attempt('128 KiB', () => ring.registerBuffers([{ base: big, length: 131072 }]))
app.mprotect(big + 4096 * 3, 4096, 'r')
attempt('5 pages', () => ring.registerBuffers([{ base: big, length: 5 * 4096 }]))

ring.close()
app.exit()
console.log(`audit: ${machine.audit().length} findings`)

// the same program, the same file, five kernels
console.log('a private mapping of an ext4 file:')
for (const release of RELEASE_NAMES) {
  const process = new Machine({ release, memory: '64M' }).spawn('app')
  const fd = process.openFile('/srv/data', '1M', 'ext4')
  const address = process.mmap({ length: 8192, fd })
  const itsRing = openIoUring(process, { entries: 8 })
  attempt(`- on ${release}`, () => itsRing.registerBuffers([{ base: address, length: 8192 }]))
}
