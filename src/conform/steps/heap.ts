import { PAGE_SIZE } from '../../base/units.ts'
import { brk } from '../../mm/brk.ts'
import { oneCommand } from '../agent-commands.ts'
import { OK, addressOf, call } from '../engine-context.ts'
import { arenaAddress } from '../range.ts'
import type { StepKinds } from '../step-kind.ts'

/** The heap, which is moved into the arena first so that it can be seen. */
export type HeapStep =
  /** prctl(PR_SET_MM_MAP) with RLIMIT_DATA lifted: begins and ends here from now on */
  { readonly op: 'heap'; readonly at: number } | { readonly op: 'brk'; readonly at: number }

export const heapSteps: StepKinds<HeapStep> = {
  heap: {
    make(generation, process) {
      const { random, terrain } = generation
      const at = random.below(terrain.busy) * PAGE_SIZE + (random.chance(15) ? random.below(PAGE_SIZE) : 0)
      process.heap = at
      return { op: 'heap', at }
    },
    text: ({ at }) => `heap at ${arenaAddress(at)}`,
    commands: ({ at }) => oneCommand(`heap ${arenaAddress(at)}`),
    follow(_world, self) {
      self.heap = true
      return true
    },
    run(engine, self, { at }) {
      const { space } = self
      space.startBrk = addressOf(engine, at)
      space.brk = space.startBrk
      return OK
    },
  },
  brk: {
    make(generation, process) {
      if (process.heap === null) return null
      const { random } = generation
      const pages = random.chance(85) ? random.below(8) : random.pick([-1, 0, 20, 40, 2 ** 14])
      const odd = random.chance(40) ? random.below(PAGE_SIZE) : 0
      const at = process.heap + pages * PAGE_SIZE + odd
      generation.mapped({ at: Math.max(0, process.heap), length: Math.max(1, pages) * PAGE_SIZE })
      return { op: 'brk', at }
    },
    text: ({ at }) => `brk ${arenaAddress(at)}`,
    commands: ({ at }) => oneCommand(`sys brk ${arenaAddress(at)}`),
    answer: 'address',
    follow: (_world, self) => self.heap,
    run: (engine, self, { at }) => call(engine, self, brk(engine.k, self.space, addressOf(engine, at))),
  },
}
