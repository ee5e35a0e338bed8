/**
 * Prints how many bytes the engine keeps per resident 4 KiB page at 4 GiB resident: what the process holds
 * more (heap, external, array buffers) with the pages than before the machine existed.
 */
import { resident } from './machine.ts'

function held(): number {
  globalThis.gc?.()
  const { heapUsed, external } = process.memoryUsage()
  // external includes array buffers
  return heapUsed + external
}

// a small machine first, so that compiled code and caches are not counted as pages
resident(2 ** 24, false, '32M')
const before = held()
const machine = resident(4 * 2 ** 30, false, '4112M')
const bytes = held() - before
process.stdout.write(`${bytes / machine.pages}\n`)
