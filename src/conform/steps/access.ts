import type { Kthread } from '../../base/kthread.ts'
import { PAGE_SIZE } from '../../base/units.ts'
import { accessUser, loadUser, storeUser, type AccessResult } from '../../mm/user-access.ts'
import { oneCommand } from '../agent-commands.ts'
import { OK, addressOf, signal, value, type Done, type EngineContext } from '../engine-context.ts'
import type { EngineProcess } from '../engine-process.ts'
import { addUp, pattern } from '../pattern.ts'
import { arenaAddress, arenaRange, rangeText, type Range } from '../range.ts'
import type { StepKinds } from '../step-kind.ts'

/** Loads and stores by the program itself. */
export type AccessStep =
  /** loads one byte */
  | { readonly op: 'load'; readonly at: number }
  /** one write fault: adds 0 to a byte */
  | { readonly op: 'touch'; readonly at: number }
  /** stores bytes made from the seed */
  | ({ readonly op: 'fill'; readonly seed: number } & Range)
  /** loads bytes and adds them up */
  | ({ readonly op: 'sum' } & Range)

export const accessSteps: StepKinds<AccessStep> = {
  load: {
    make: (generation) => ({ op: 'load', at: generation.address() }),
    text: ({ at }) => `load ${arenaAddress(at)}`,
    commands: ({ at }) => oneCommand(`peek ${arenaAddress(at)}`),
    run(engine, self, { at }) {
      const byte = new Uint8Array(1)
      const result = self.run(loadUser(engine.k, self.space, addressOf(engine, at), byte))
      return result.ok ? value(byte[0]!) : signal(result, at, 0)
    },
  },
  touch: {
    make: (generation) => ({ op: 'touch', at: generation.address() }),
    text: ({ at }) => `touch ${arenaAddress(at)}`,
    commands: ({ at }) => oneCommand(`touch w ${arenaAddress(at)}`),
    run(engine, self, { at }) {
      const result = self.run(accessUser(engine.k, self.space, addressOf(engine, at), true))
      return result.ok ? OK : signal(result, at, 0)
    },
  },
  fill: {
    make: (generation) => ({ op: 'fill', ...generation.bytes(), seed: generation.seed() }),
    text: (step) => `fill ${rangeText(step)} seed ${step.seed}`,
    commands: (step) => oneCommand(`fill ${arenaRange(step)} ${step.seed}`),
    run(engine, self, { at, length, seed }) {
      const failed = inPages(engine, self, { at, length }, (address, part, done) =>
        storeUser(engine.k, self.space, address, pattern(seed, done, part)),
      )
      return failed === null ? value(length) : signal(failed.result, at + failed.done, failed.done)
    },
  },
  sum: {
    make: (generation) => ({ op: 'sum', ...generation.bytes() }),
    text: (step) => `sum ${rangeText(step)}`,
    commands: (step) => oneCommand(`sum ${arenaRange(step)}`, 0),
    answer: 'nothing',
    run(engine, self, range): Done {
      const bytes = new Uint8Array(range.length)
      const failed = inPages(engine, self, range, (address, part, done) =>
        loadUser(engine.k, self.space, address, bytes.subarray(done, done + part)),
      )
      if (failed !== null) return signal(failed.result, range.at + failed.done, 0)
      return { ...OK, sum: addUp(0, bytes) }
    },
  },
}

/** Goes through a range page by page. @returns where it was stopped, null: nowhere */
function inPages(
  engine: EngineContext,
  self: EngineProcess,
  { at, length }: Range,
  access: (address: number, part: number, done: number) => Kthread<AccessResult>,
): { readonly result: AccessResult & { ok: false }; readonly done: number } | null {
  for (let done = 0; done < length;) {
    const address = addressOf(engine, at + done)
    const part = Math.min(length - done, PAGE_SIZE - (address % PAGE_SIZE))
    const result = self.run(access(address, part, done))
    if (!result.ok) return { result, done }
    done += part
  }
  return null
}
