/** Engine machines as the native programs find theirs: resident memory in shuffled frames. */
import { PAGE_SIZE } from '../src/base/units.ts'
import { accessUser } from '../src/mm/user-access.ts'
import { Machine } from '../src/task/machine.ts'
import type { Process } from '../src/task/process.ts'

export interface Resident {
  readonly machine: Machine
  readonly process: Process
  readonly address: number
  readonly pages: number
}

/** A small deterministic generator: benchmarks repeat, tests of benchmarks too (Numerical Recipes' constants). */
function* numbers(seed: number): Generator<number, never, void> {
  let state = seed >>> 0
  for (;;) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    yield state
  }
}

/**
 * A process on release 6.18 with resident private anonymous memory.
 * @param shuffled touch pages in random order, so that neighbours do not have neighbouring frames
 */
export function resident(bytes: number, shuffled: boolean, memory: string): Resident {
  const machine = new Machine({ release: '6.18', memory, settings: { thpEnabled: 'never' } })
  const process = machine.spawn('bench', { capabilities: ['CAP_IPC_LOCK'] })
  const address = process.mmap({ length: bytes })
  const pages = bytes / PAGE_SIZE
  const touch = (page: number): void => {
    process.run(accessUser(machine.kernel, process.mm!, address + page * PAGE_SIZE, true))
  }
  if (shuffled) for (const page of permutation(pages)) touch(page)
  else for (let page = 0; page < pages; page++) touch(page)
  return { machine, process, address, pages }
}

/** 0 … n-1 in an order that is always the same. */
function permutation(n: number): Uint32Array {
  const order = Uint32Array.from({ length: n }, (_, i) => i)
  const random = numbers(1)
  for (let i = n - 1; i > 0; i--) {
    const j = random.next().value % (i + 1)
    const swap = order[i]!
    order[i] = order[j]!
    order[j] = swap
  }
  return order
}

/** Nanoseconds that `work` takes. */
export function nanoseconds(work: () => void): number {
  const start = process.hrtime.bigint()
  work()
  return Number(process.hrtime.bigint() - start)
}
