/**
 * The bug the series removed: a VMA kept after its lock was dropped. With `checkStaleVmas` the engine
 * stops at the very access and says where the lock was let go.
 *
 *     npx tsx examples/stale-vma.ts
 */
import { Machine, StaleVmaError } from '../src/index.ts'
import { vmaLookup } from '../src/kernel.ts'
import type { Kthread, Mm, Vma } from '../src/kernel.ts'

/** What drivers did: take the VMA along. */
function* borrowVma(mm: Mm, address: number): Kthread<Vma | null> {
  const guard = yield* mm.mmapLock.read()
  const vma = vmaLookup(guard, address)
  guard.release()
  return vma
}

/** What they do now: copy what they need while the lock is held. */
function* backingOf(mm: Mm, address: number): Kthread<string | null> {
  const guard = yield* mm.mmapLock.read()
  const backing = vmaLookup(guard, address)?.backing ?? null
  guard.release()
  return backing
}

function backingOfBorrowed(vma: Vma): string {
  return vma.backing
}

/** The functions of this file on a stack, innermost first. */
function functionsIn(stack: string | undefined): string {
  const names = [...(stack ?? '').matchAll(/at (\w+)[^\n]*stale-vma\.ts/g)].map((match) => match[1])
  return names.join(' < ')
}

const machine = new Machine({ memory: '64M', checkStaleVmas: true })
const app = machine.spawn('app')
const address = app.mmap({ length: 8192 })

const borrowed = app.run(borrowVma(app.mm!, address))!
app.munmap(address, 8192) // another thread, say
try {
  console.log(`backing: ${backingOfBorrowed(borrowed)}`)
} catch (error) {
  if (!(error instanceof StaleVmaError)) throw error
  console.log(`${error.name}: ${error.message}`)
  console.log(`  touched in:  ${functionsIn(error.stack)}`)
  console.log(`  released in: ${functionsIn(error.releasedAt)}`)
}

const again = app.mmap({ length: 8192 })
console.log(`copied under the lock: ${app.run(backingOf(app.mm!, again))}`)
console.log(`audit: ${machine.audit().length} findings`)
