import { FOLL_FORCE } from '../../mm/gup-flags.ts'
import { accessRemoteVm } from '../../mm/access-remote-vm.ts'
import { oneCommand } from '../agent-commands.ts'
import { DANGLING, OK, addressOf, answer } from '../engine-context.ts'
import { addUp, pattern } from '../pattern.ts'
import { arenaRange, rangeText, type Range } from '../range.ts'
import type { Outcome } from '../observation.ts'
import type { StepKinds } from '../step-kind.ts'

/** Processes, and what one does to another. */
export type ProcessStep =
  | { readonly op: 'fork'; readonly child: number }
  | { readonly op: 'reap'; readonly child: number }
  /** /proc/PID/mem of another process of the program, or of itself */
  | ({ readonly op: 'mem'; readonly of: number; readonly write: boolean; readonly seed: number } & Range)

/** processes of one program, at most */
const MOST_PROCESSES = 4
/** bytes the agent moves in one go */
const MOST_BYTES = 32768
const EIO = 5

export const processSteps: StepKinds<ProcessStep> = {
  fork: {
    make(generation, process) {
      const { processes } = generation
      if (processes.length >= MOST_PROCESSES) return null
      const child = generation.newName('child')
      const { files, rings } = process
      processes.push({ number: child, parent: process.number, files: [...files], rings: [...rings] })
      return { op: 'fork', child }
    },
    text: ({ child }) => `fork p${child}`,
    commands: ({ child }) => oneCommand(`fork p${child}`),
    creates: ({ child }) => `process ${child}`,
    follow(world, { files, rings }, { by, child }) {
      world.set(child, { parent: by, files: new Set(files), rings: new Set(rings) })
      return true
    },
    run(engine, self, { child }) {
      const made = self.fork(child)
      if (typeof made === 'number') return answer(engine, made)
      engine.processes.set(child, made)
      return OK
    },
  },
  reap: {
    make({ random, processes }, process) {
      const leaves = processes.filter(
        ({ number, parent }) =>
          parent === process.number && !processes.some((other) => other.parent === number),
      )
      if (leaves.length === 0) return null
      const child = random.pick(leaves)
      processes.splice(processes.indexOf(child), 1)
      return { op: 'reap', child: child.number }
    },
    text: ({ child }) => `reap p${child}`,
    commands: ({ child }) => oneCommand(`reap p${child}`),
    // the last reference to a ring may have gone with the child
    settle: () => ['settle'],
    follow(world, _self, { by, child }) {
      if (world.get(child)?.parent !== by) return false
      if ([...world.values()].some(({ parent }) => parent === child)) return false
      return world.delete(child)
    },
    run(engine, _self, { child }) {
      const process = engine.processes.get(child)
      if (process === undefined) return DANGLING
      engine.processes.delete(child)
      process.exit()
      return OK
    },
  },
  mem: {
    make(generation, process) {
      const { random, processes } = generation
      const children = processes.filter(({ parent }) => parent === process.number)
      const of = children.length > 0 && random.chance(70) ? random.pick(children).number : process.number
      const { at, length } = generation.bytes()
      return {
        op: 'mem',
        of,
        write: random.chance(60),
        seed: random.below(256),
        at,
        length: Math.min(length, MOST_BYTES),
      }
    },
    text: (step) => `/proc/p${step.of}/mem ${step.write ? 'write' : 'read'} ${rangeText(step)}`,
    commands(step) {
      const who = step.of === step.by ? 'self' : `p${step.of}`
      const prepare = `fill &0 ${step.length} ${step.write ? step.seed : 0}`
      const transfer = `mem ${step.write ? 'w' : 'r'} ${who} ${arenaRange(step)} &0`
      if (step.write) return { lines: [prepare, transfer], result: 1, sum: -1 }
      return { lines: [prepare, transfer, `sum &0 ${step.length}`], result: 1, sum: 2 }
    },
    follow: (world, _self, { by, of }) => of === by || world.get(of)?.parent === by,
    run(engine, self, { of, write, seed, at, length }) {
      const target = engine.processes.get(of)
      if (target === undefined) return DANGLING
      const buffer = pattern(write ? seed : 0, 0, length)
      const address = addressOf(engine, at)
      const done = self.run(accessRemoteVm(engine.k, target.space, address, buffer, write, FOLL_FORCE))
      const outcome: Outcome =
        done === 0 && length > 0 ? { kind: 'errno', errno: EIO } : { kind: 'value', value: done }
      return write ? { outcome } : { outcome, sum: addUp(0, buffer) }
    },
  },
}
