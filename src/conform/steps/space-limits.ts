import { PAGE_SIZE } from '../../base/units.ts'
import { oneCommand } from '../agent-commands.ts'
import { OK } from '../engine-context.ts'
import { bytesText } from '../range.ts'
import type { StepKinds } from '../step-kind.ts'

/** What a process may map. */
export type SpaceLimitStep =
  /** RLIMIT_AS: as much as is used now, and this many bytes */
  | { readonly op: 'roomSpace'; readonly bytes: number }
  /** RLIMIT_DATA: the same; null: a limit of 0, which counts as the hard one for mappings */
  | { readonly op: 'roomData'; readonly bytes: number | null }
  /** RLIMIT_STACK, bytes */
  | { readonly op: 'stackLimit'; readonly bytes: number }

const RLIMIT_DATA = 2
const RLIMIT_STACK = 3
const RLIMIT_AS = 9
/** far more than a program maps */
const PLENTY = 2 ** 40

const rooms: readonly number[] = [0, 1, 2, 3, 4, 6, 8, 12, 16, 30]

export const spaceLimitSteps: StepKinds<SpaceLimitStep> = {
  roomSpace: {
    make: ({ random }) => ({
      op: 'roomSpace',
      bytes: roomOf(random.chance(15), random.pick(rooms), random.pick([0, 0, 4095])),
    }),
    text: ({ bytes }) => `RLIMIT_AS = used + ${bytesText(bytes)}`,
    commands: ({ bytes }) => oneCommand(`room ${RLIMIT_AS} ${bytes}`),
    run(_engine, self, { bytes }) {
      self.limits.as = self.space.totalVm * PAGE_SIZE + bytes
      return OK
    },
  },
  roomData: {
    make: ({ random }) => ({
      op: 'roomData',
      bytes: random.chance(12)
        ? null
        : roomOf(random.chance(15), random.pick(rooms), random.pick([0, 0, 4095])),
    }),
    text: ({ bytes }) => `RLIMIT_DATA = ${bytes === null ? '0' : `used + ${bytesText(bytes)}`}`,
    commands: ({ bytes }) =>
      oneCommand(bytes === null ? `limit ${RLIMIT_DATA} 0` : `room ${RLIMIT_DATA} ${bytes}`),
    run(_engine, self, { bytes }) {
      self.limits.data = bytes === null ? 0 : self.space.dataVm * PAGE_SIZE + bytes
      return OK
    },
  },
  stackLimit: {
    make: ({ random }) => ({
      op: 'stackLimit',
      bytes: random.pick([4, 5, 8, 16, 17, 33, 64, 2048]) * PAGE_SIZE - random.pick([0, 0, 1]),
    }),
    text: ({ bytes }) => `RLIMIT_STACK = ${bytesText(bytes)}`,
    commands: ({ bytes }) => oneCommand(`limit ${RLIMIT_STACK} ${bytes}`),
    run(_engine, self, { bytes }) {
      self.limits.stack = bytes
      return OK
    },
  },
}

function roomOf(plenty: boolean, pages: number, odd: number): number {
  return plenty ? PLENTY : pages * PAGE_SIZE + odd
}
