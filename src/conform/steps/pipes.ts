import { BufferIter, UserIter } from '../../mm/iov-iter.ts'
import { makePipe, pipeRead, pipeWrite, type PipeEnd } from '../../task/pipe.ts'
import {
  SPLICE_F_GIFT,
  SPLICE_F_MORE,
  SPLICE_F_MOVE,
  SPLICE_F_NONBLOCK,
  vmsplice,
} from '../../task/vmsplice.ts'
import { oneCommand } from '../agent-commands.ts'
import { DANGLING, OK, addressOf, counted, type Done } from '../engine-context.ts'
import type { EngineProcess } from '../engine-process.ts'
import { TOO_LONG, type Generation, type Shadow } from '../generation.ts'
import { addUp, pattern } from '../pattern.ts'
import { arenaRange, bytesText, rangeText, type Range } from '../range.ts'
import type { StepKinds } from '../step-kind.ts'
import type { World, WorldProcess } from '../world.ts'

/** Pipes by the program's own numbers: pages that stay referenced until somebody reads them. Nobody waits. */
export type PipeStep =
  | { readonly op: 'pipe'; readonly pipe: number }
  | { readonly op: 'closeEnd'; readonly pipe: number; readonly write: boolean }
  /** the pages of a range go into the pipe */
  | ({ readonly op: 'vmsplice'; readonly pipe: number; readonly flags: number } & Range)
  /** bytes of the pipe are stored into a range, by vmsplice */
  | ({ readonly op: 'vmspliceOut'; readonly pipe: number; readonly flags: number } & Range)
  /** reads and adds up what comes out */
  | { readonly op: 'drain'; readonly pipe: number; readonly length: number }
  /** writes bytes made from the seed */
  | { readonly op: 'feed'; readonly pipe: number; readonly length: number; readonly seed: number }
  /** read(2) into a range */
  | ({ readonly op: 'pipeRead'; readonly pipe: number } & Range)
  /** write(2) from a range */
  | ({ readonly op: 'pipeWrite'; readonly pipe: number } & Range)

const MOST_PIPES = 2
/** bytes that fit into the agent's scratch memory */
const MOST_BYTES = 32768
/** the number of vmsplice(2) */
const SYS_VMSPLICE = 278

type OnPipe = { readonly pipe: number }

/** What steps that use one end of a pipe have in common. */
function onEnd(write: boolean): {
  mayDangle: () => boolean
  follow: (world: World, self: WorldProcess, step: OnPipe) => boolean
} {
  return {
    mayDangle: () => true,
    follow: (_world, self, { pipe }) => self.pipes.has(endName(pipe, write)),
  }
}

export const pipeSteps: StepKinds<PipeStep> = {
  pipe: {
    answer: 'nothing',
    creates: ({ pipe }) => `pipe ${pipe}`,
    make(generation, process) {
      if (process.pipes.length >= MOST_PIPES) return null
      const pipe = generation.newName('pipe')
      process.pipes.push(pipe)
      return { op: 'pipe', pipe }
    },
    text: ({ pipe }) => `pipe ${pipe}`,
    commands: ({ pipe }) => oneCommand(`pipe q${pipe}`),
    follow(_world, self, { pipe }) {
      for (const write of [false, true]) self.pipes.add(endName(pipe, write))
      return true
    },
    run({ k }, self, { pipe }) {
      const { read, write } = makePipe(k, true)
      self.pipes.set(endName(pipe, false), read)
      self.pipes.set(endName(pipe, true), write)
      return OK
    },
  },
  closeEnd: {
    mayDangle: () => true,
    make: ({ random }, process) =>
      process.pipes.length === 0
        ? null
        : { op: 'closeEnd', pipe: random.pick(process.pipes), write: random.chance(50) },
    text: ({ pipe, write }) => `close the ${write ? 'writing' : 'reading'} end of pipe ${pipe}`,
    commands: ({ pipe, write }) => oneCommand(`close q${pipe}.${write ? 'w' : 'r'}`),
    follow: (_world, self, { pipe, write }) => self.pipes.delete(endName(pipe, write)),
    run(_engine, self, { pipe, write }) {
      const end = self.pipes.get(endName(pipe, write))
      self.pipes.delete(endName(pipe, write))
      end?.put()
      return end === undefined ? DANGLING : OK
    },
  },
  vmsplice: {
    ...onEnd(true),
    refusesTooLong: true,
    make: (generation, process) => {
      const pipe = somePipe(generation, process)
      if (pipe === null) return null
      return { op: 'vmsplice', pipe, ...splicedRange(generation), flags: spliceFlags(generation) }
    },
    text: (step) => `vmsplice ${rangeText(step)} into pipe ${step.pipe} ${flagsText(step.flags)}`,
    commands: (step) => oneCommand(`vmsplice q${step.pipe} ${arenaRange(step)} ${step.flags}`),
    run: (engine, self, step) =>
      withEnd(self, step.pipe, true, (end) =>
        counted(
          self.run(
            vmsplice(
              engine.k,
              end,
              [{ base: addressOf(engine, step.at), length: step.length }],
              1,
              step.flags,
            ),
          ),
        ),
      ),
  },
  vmspliceOut: {
    ...onEnd(false),
    make: (generation, process) => {
      const pipe = somePipe(generation, process)
      if (pipe === null) return null
      return { op: 'vmspliceOut', pipe, ...generation.bytes(), flags: spliceFlags(generation) }
    },
    text: (step) => `vmsplice pipe ${step.pipe} into ${rangeText(step)} ${flagsText(step.flags)}`,
    commands: (step) => ({
      lines: [`put 0 ${arenaRange(step)}`, `sys ${SYS_VMSPLICE} $q${step.pipe}.r &0 1 ${step.flags}`],
      result: 1,
      sum: -1,
    }),
    run: (engine, self, step) =>
      withEnd(self, step.pipe, false, (end) =>
        counted(
          self.run(
            vmsplice(
              engine.k,
              end,
              [{ base: addressOf(engine, step.at), length: step.length }],
              1,
              step.flags,
            ),
          ),
        ),
      ),
  },
  drain: {
    ...onEnd(false),
    make: (generation, process) => {
      const pipe = somePipe(generation, process)
      return pipe === null ? null : { op: 'drain', pipe, length: someBytes(generation) }
    },
    text: ({ pipe, length }) => `drain ${bytesText(length)} of pipe ${pipe}`,
    commands: ({ pipe, length }) => ({
      lines: [`fill &0 ${length} 0`, `sys read $q${pipe}.r &0 ${length}`, `sum &0 ${length}`],
      result: 1,
      sum: 2,
    }),
    run: ({ k }, self, { pipe, length }) =>
      withEnd(self, pipe, false, (end) => {
        const buffer = pattern(0, 0, length)
        const result = self.run(pipeRead(k, end, new BufferIter(buffer)))
        return { ...counted(result), sum: addUp(0, buffer) }
      }),
  },
  feed: {
    ...onEnd(true),
    make: (generation, process) => {
      const pipe = somePipe(generation, process)
      const { random } = generation
      return pipe === null
        ? null
        : { op: 'feed', pipe, length: someBytes(generation), seed: random.below(256) }
    },
    text: ({ pipe, length, seed }) => `feed ${bytesText(length)} seed ${seed} to pipe ${pipe}`,
    commands: ({ pipe, length, seed }) => oneCommand(`feed q${pipe} ${length} ${seed}`),
    run: ({ k }, self, { pipe, length, seed }) =>
      withEnd(self, pipe, true, (end) =>
        counted(self.run(pipeWrite(k, end, new BufferIter(pattern(seed, 0, length))))),
      ),
  },
  pipeRead: {
    ...onEnd(false),
    make: (generation, process) => {
      const pipe = somePipe(generation, process)
      return pipe === null ? null : { op: 'pipeRead', pipe, ...generation.bytes() }
    },
    text: (step) => `read pipe ${step.pipe} into ${rangeText(step)}`,
    commands: (step) => oneCommand(`sys read $q${step.pipe}.r ${arenaRange(step)}`),
    run: (engine, self, step) =>
      withEnd(self, step.pipe, false, (end) =>
        counted(
          self.run(
            pipeRead(engine.k, end, userMemory(engine.k, self, addressOf(engine, step.at), step.length)),
          ),
        ),
      ),
  },
  pipeWrite: {
    ...onEnd(true),
    make: (generation, process) => {
      const pipe = somePipe(generation, process)
      return pipe === null ? null : { op: 'pipeWrite', pipe, ...generation.bytes() }
    },
    text: (step) => `write ${rangeText(step)} to pipe ${step.pipe}`,
    commands: (step) => oneCommand(`sys write $q${step.pipe}.w ${arenaRange(step)}`),
    run: (engine, self, step) =>
      withEnd(self, step.pipe, true, (end) =>
        counted(
          self.run(
            pipeWrite(engine.k, end, userMemory(engine.k, self, addressOf(engine, step.at), step.length)),
          ),
        ),
      ),
  },
}

function userMemory(k: EngineProcess['kernel'], self: EngineProcess, base: number, length: number): UserIter {
  return new UserIter(k, self.space, [{ base, length }])
}

export function endName(pipe: number, write: boolean): string {
  return `${pipe}${write ? 'w' : 'r'}`
}

function withEnd(self: EngineProcess, pipe: number, write: boolean, use: (end: PipeEnd) => Done): Done {
  const end = self.pipes.get(endName(pipe, write))
  return end === undefined ? DANGLING : use(end)
}

function somePipe({ random }: Generation, { pipes }: Shadow): number | null {
  return pipes.length === 0 ? null : random.pick(pipes)
}

/** Rarely more than a pipe holds. */
function splicedRange(generation: Generation): Range {
  const { random } = generation
  if (random.chance(20)) {
    const { at } = generation.bytes()
    return { at, length: random.between(4, 40) * 4096 }
  }
  return random.chance(15) ? generation.range(false, TOO_LONG) : generation.bytes()
}

/** Always NONBLOCK: nobody would end the wait. */
function spliceFlags({ random }: Generation): number {
  const more = random.below(20)
  if (more === 0) return SPLICE_F_NONBLOCK | 16
  if (more <= 4) return SPLICE_F_NONBLOCK | SPLICE_F_GIFT
  return more === 5 ? SPLICE_F_NONBLOCK | SPLICE_F_MOVE | SPLICE_F_MORE : SPLICE_F_NONBLOCK
}

function flagsText(flags: number): string {
  const names = { MOVE: SPLICE_F_MOVE, NONBLOCK: SPLICE_F_NONBLOCK, MORE: SPLICE_F_MORE, GIFT: SPLICE_F_GIFT }
  const known = Object.entries(names).filter(([, bit]) => (flags & bit) !== 0)
  const rest = flags & ~15
  return [...known.map(([name]) => name), ...(rest === 0 ? [] : [String(rest)])].join('|')
}

function someBytes({ random }: Generation): number {
  switch (random.below(4)) {
    case 0:
      return random.between(1, 8) * 4096
    case 1:
      return random.between(0, 100)
    default:
      return random.between(1, random.chance(50) ? 5000 : MOST_BYTES)
  }
}
