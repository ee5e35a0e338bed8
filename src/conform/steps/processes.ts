import { oneCommand } from '../agent-commands.ts'
import { DANGLING, OK, answer } from '../engine-context.ts'
import type { StepKinds } from '../step-kind.ts'
import { settleSockets } from './xdp.ts'

/** Processes. */
export type ProcessStep =
  { readonly op: 'fork'; readonly child: number } | { readonly op: 'reap'; readonly child: number }

/** processes of one program, at most */
const MOST_PROCESSES = 4

export const processSteps: StepKinds<ProcessStep> = {
  fork: {
    make(generation, process) {
      const { processes } = generation
      if (processes.length >= MOST_PROCESSES) return null
      const child = generation.newName('child')
      const { files, rings, pipes, uffds, xsks, segments, heap } = process
      processes.push({
        number: child,
        parent: process.number,
        files: [...files],
        rings: [...rings],
        pipes: [...pipes],
        uffds: [...uffds],
        serves: [],
        watched: [...process.watched],
        pairs: [],
        xsks: [...xsks],
        segments: [...segments],
        heap,
      })
      return { op: 'fork', child }
    },
    text: ({ child }) => `fork p${child}`,
    commands: ({ child }) => oneCommand(`fork p${child}`),
    creates: ({ child }) => `process ${child}`,
    follow(world, { files, rings, pipes, uffds, xsks, segments, heap }, { by, child }) {
      world.set(child, {
        parent: by,
        files: new Set(files),
        rings: new Set(rings),
        pipes: new Set(pipes),
        uffds: new Set(uffds),
        serves: new Set(),
        pairs: new Set(),
        xsks: new Set(xsks),
        segments: new Set(segments),
        heap,
      })
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
    settle: (_step, { sockets }) => (sockets ? ['settle'] : []),
    // where memory did not suffice for the fork
    mayDangle: () => true,
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
      settleSockets(engine.k)
      return OK
    },
  },
}
