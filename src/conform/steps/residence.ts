import { PAGE_SIZE } from '../../base/units.ts'
import { mincore } from '../../mm/mincore.ts'
import { msync } from '../../mm/msync.ts'
import { remapFilePages } from '../../mm/remap-file-pages.ts'
import { loadUser } from '../../mm/user-access.ts'
import { oneCommand } from '../agent-commands.ts'
import { addressOf, call } from '../engine-context.ts'
import { TOO_LONG } from '../generation.ts'
import { namedBits } from '../named-bits.ts'
import { addUp } from '../pattern.ts'
import { arenaAddress, arenaRange, rangeText, type Range } from '../range.ts'
import type { StepKinds } from '../step-kind.ts'

/** What is in memory and on storage, and which pages of its file a mapping shows. */
export type ResidenceStep =
  | ({ readonly op: 'msync'; readonly flags: number } & Range)
  /** the answer goes to the arena, and is added up there */
  | ({ readonly op: 'mincore'; readonly vec: number } & Range)
  | ({
      readonly op: 'remapPages'
      readonly prot: number
      readonly pgoff: number
      readonly flags: number
    } & Range)

/** one byte each */
const MOST_PAGES = 64

export const residenceSteps: StepKinds<ResidenceStep> = {
  msync: {
    make: (generation) => ({
      op: 'msync',
      ...generation.range(false, TOO_LONG),
      flags: generation.random.pick([0, 1, 1, 2, 4, 4, 4, 4, 6, 3, 5, 8]),
    }),
    text: (step) => `msync ${rangeText(step)} ${namedBits(step.flags, 'MS_')}`,
    commands: (step) => oneCommand(`sys msync ${arenaRange(step)} ${step.flags}`),
    run: (engine, self, { at, length, flags }) =>
      call(engine, self, msync(engine.k, self.space, addressOf(engine, at), length, flags)),
  },
  mincore: {
    make(generation) {
      const { at, length } = generation.range(false, TOO_LONG)
      const fits = length > MOST_PAGES * PAGE_SIZE && length < 2 ** 47
      return {
        op: 'mincore',
        at,
        length: fits ? MOST_PAGES * PAGE_SIZE : length,
        vec: generation.address(),
      }
    },
    text: (step) => `mincore ${rangeText(step)} into ${arenaAddress(step.vec)}`,
    commands(step) {
      const vec = arenaAddress(step.vec)
      return {
        lines: [`sys mincore ${arenaRange(step)} ${vec}`, `sum ${vec} ${answerLength(step)}`],
        result: 0,
        sum: 1,
      }
    },
    refusesTooLong: true,
    run(engine, self, step) {
      const { k } = engine
      const vec = addressOf(engine, step.vec)
      const done = call(engine, self, mincore(k, self.space, addressOf(engine, step.at), step.length, vec))
      const bytes = new Uint8Array(answerLength(step))
      const read = self.run(loadUser(k, self.space, vec, bytes))
      return read.ok ? { ...done, sum: addUp(0, bytes) } : done
    },
  },
  remapPages: {
    make(generation) {
      const { random } = generation
      return {
        op: 'remapPages',
        ...generation.range(false, TOO_LONG),
        prot: random.chance(95) ? 0 : 1,
        pgoff: random.chance(95) ? random.below(10) : random.pick([-1, 2 ** 51 - 1, 2 ** 52]),
        flags: random.pick([0, 0, 0, 0x10000, 0x10000, 0x2000, 0x100]),
      }
    },
    text: (step) =>
      `remap_file_pages ${rangeText(step)} prot ${step.prot} page ${step.pgoff} flags 0x${step.flags.toString(16)}`,
    commands: (step) =>
      oneCommand(`sys remap_file_pages ${arenaRange(step)} ${step.prot} ${step.pgoff} ${step.flags}`),
    refusesTooLong: true,
    run(engine, self, { at, length, prot, pgoff, flags }) {
      const address = addressOf(engine, at)
      return call(engine, self, remapFilePages(engine.k, self.space, address, length, prot, pgoff, flags))
    },
  },
}

function answerLength({ length }: Range): number {
  return Math.min(MOST_PAGES, Math.max(1, Math.ceil(length / PAGE_SIZE)))
}
