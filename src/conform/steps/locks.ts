import { EINVAL } from '../../base/errno.ts'
import { PAGE_SIZE } from '../../base/units.ts'
import { MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT } from '../../mm/mman.ts'
import { mlock, mlock2, mlockall, munlock, munlockall } from '../../mm/mlock.ts'
import { oneCommand } from '../agent-commands.ts'
import { OK, addressOf, answer, call } from '../engine-context.ts'
import { namedBits } from '../named-bits.ts'
import { arenaRange, bytesText, rangeText, type Range } from '../range.ts'
import type { StepKinds } from '../step-kind.ts'

/** Locked memory and what limits it. */
export type LockStep =
  | ({ readonly op: 'mlock' } & Range)
  | ({ readonly op: 'mlock2'; readonly flags: number } & Range)
  | ({ readonly op: 'munlock' } & Range)
  | { readonly op: 'mlockall'; readonly flags: number }
  | { readonly op: 'munlockall' }
  /** RLIMIT_MEMLOCK, soft */
  | { readonly op: 'memlock'; readonly bytes: number }
  /** CAP_IPC_LOCK in the effective set */
  | { readonly op: 'ipcLock'; readonly on: boolean }

const CAP_IPC_LOCK = 14
const RLIMIT_MEMLOCK = 8

export const lockSteps: StepKinds<LockStep> = {
  mlock: {
    make: (generation) => ({ op: 'mlock', ...generation.range() }),
    text: (step) => `mlock ${rangeText(step)}`,
    commands: (step) => oneCommand(`sys mlock ${arenaRange(step)}`),
    run: (engine, self, { at, length }) =>
      call(engine, self, mlock(engine.k, self.space, addressOf(engine, at), length)),
  },
  mlock2: {
    make: (generation) => ({
      op: 'mlock2',
      ...generation.range(),
      flags: generation.random.pick([0, 1, 1, 1, 2]),
    }),
    text: (step) => `mlock2 ${rangeText(step)} flags ${step.flags}`,
    commands: (step) => oneCommand(`sys mlock2 ${arenaRange(step)} ${step.flags}`),
    run: (engine, self, { at, length, flags }) =>
      call(engine, self, mlock2(engine.k, self.space, addressOf(engine, at), length, flags)),
  },
  munlock: {
    make: (generation) => ({ op: 'munlock', ...generation.range() }),
    text: (step) => `munlock ${rangeText(step)}`,
    commands: (step) => oneCommand(`sys munlock ${arenaRange(step)}`),
    run: (engine, self, { at, length }) =>
      call(engine, self, munlock(engine.k, self.space, addressOf(engine, at), length)),
  },
  mlockall: {
    make: ({ random }) => ({
      op: 'mlockall',
      flags: random.pick([
        MCL_CURRENT,
        MCL_FUTURE,
        MCL_CURRENT | MCL_FUTURE,
        MCL_CURRENT | MCL_ONFAULT,
        MCL_FUTURE | MCL_ONFAULT,
        0,
        8,
      ]),
    }),
    text: ({ flags }) => `mlockall ${namedBits(flags, 'MCL_')}`,
    commands: ({ flags }) => oneCommand(`sys mlockall ${flags}`),
    run: (engine, self, { flags }) => call(engine, self, mlockall(engine.k, self.space, flags)),
  },
  munlockall: {
    make: () => ({ op: 'munlockall' }),
    text: () => 'munlockall',
    commands: () => oneCommand('sys munlockall'),
    run: (engine, self) => call(engine, self, munlockall(engine.k, self.space)),
  },
  memlock: {
    make({ random }) {
      const pages = random.pick([0, 1, 2, 4, 5, 8, 9, 16, 64, 2048])
      return { op: 'memlock', bytes: Math.max(0, pages * PAGE_SIZE + random.pick([0, 0, 0, -1, 1])) }
    },
    text: ({ bytes }) => `RLIMIT_MEMLOCK = ${bytesText(bytes)}`,
    commands: ({ bytes }) => oneCommand(`limit ${RLIMIT_MEMLOCK} ${bytes}`),
    run(engine, self, { bytes }) {
      // above the hard limit, which nobody lowers
      if (bytes > engine.memlock) return answer(engine, -EINVAL)
      self.memlock = bytes
      return OK
    },
  },
  ipcLock: {
    make: ({ random }) => ({ op: 'ipcLock', on: random.chance(40) }),
    text: ({ on }) => `CAP_IPC_LOCK ${on ? 'on' : 'off'}`,
    commands: ({ on }) => oneCommand(`cap ${CAP_IPC_LOCK} ${on ? 'on' : 'off'}`),
    run(_engine, self, { on }) {
      if (on) self.capabilities.add('CAP_IPC_LOCK')
      else self.capabilities.delete('CAP_IPC_LOCK')
      return OK
    },
  },
}
