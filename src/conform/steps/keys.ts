import { CAPABILITY_BITS, type Capability } from '../../mm/capability.ts'
import { IPC_CREAT, IPC_EXCL, SHM_NORESERVE, shmget } from '../../ipc/shm.ts'
import { PAGE_SIZE } from '../../base/units.ts'
import { oneCommand } from '../agent-commands.ts'
import { OK, answer } from '../engine-context.ts'
import { bytesText } from '../range.ts'
import type { StepKinds } from '../step-kind.ts'

/** System V segments found by keys, and what a process may without being asked. */
export type KeyStep =
  /** the program's own keys, from 1 on; flags with IPC_CREAT, IPC_EXCL and the permissions asked for */
  | {
      readonly op: 'shmKey'
      readonly segment: number
      readonly key: number
      readonly size: number
      readonly flags: number
    }
  /** a capability, by its bit, in the effective set */
  | { readonly op: 'capability'; readonly capability: number; readonly on: boolean }

const MOST_SEGMENTS = 6
/** keys that programs use: few, so that they meet */
const KEYS = 3
/** keys an agent has (docs/oracle-protocol.md) */
const MOST_KEYS = 15

const creates: readonly number[] = [IPC_CREAT, IPC_CREAT, IPC_CREAT, IPC_CREAT | IPC_EXCL, IPC_EXCL, 0]
const modes: readonly number[] = [0o600, 0o600, 0o600, 0o400, 0o200, 0o700, 0o060, 0o006, 0]

/** What steps take away: what the calls of their themes ask for, and nothing the agent needs. */
const dropped = ['CAP_NET_RAW', 'CAP_IPC_OWNER', 'CAP_IPC_OWNER'] as const satisfies readonly Capability[]

export const keySteps: StepKinds<KeyStep> = {
  shmKey: {
    make(generation, process) {
      if (process.segments.length >= MOST_SEGMENTS) return null
      const { random } = generation
      const segment = generation.newName('segment')
      process.segments.push(segment)
      const key = random.between(1, KEYS)
      const pages = random.pick([1, 1, 2, 2, 3, 4])
      const size = random.chance(80) ? pages * PAGE_SIZE : random.below(4 * PAGE_SIZE) * random.below(2)
      let flags = random.pick(creates) | random.pick(modes)
      if (random.chance(5)) flags |= SHM_NORESERVE
      return { op: 'shmKey', segment, key, size, flags }
    },
    text: ({ segment, key, size, flags }) =>
      `shmget segment ${segment} by key ${key}, ${bytesText(size)}, flags 0${flags.toString(8)}`,
    commands: ({ segment, key, size, flags }) => oneCommand(`shm-key s${segment} ${key} ${size} ${flags}`),
    answer: 'nothing',
    creates: ({ segment }) => `segment ${segment}`,
    follow(_world, self, { segment, key }) {
      if (key < 1 || key > MOST_KEYS) return false
      self.segments.add(segment)
      return true
    },
    run(engine, self, { segment, key, size, flags }) {
      const id = self.run(shmget(engine.k, key, size, flags))
      if (id < 0) return answer(engine, id)
      self.segments.set(segment, id)
      return OK
    },
  },
  capability: {
    make: ({ random }) => ({
      op: 'capability',
      capability: CAPABILITY_BITS[random.pick(dropped)],
      on: random.chance(45),
    }),
    text: ({ capability, on }) => `${nameOf(capability) ?? capability} ${on ? 'on' : 'off'}`,
    commands: ({ capability, on }) => oneCommand(`cap ${capability} ${on ? 'on' : 'off'}`),
    // others the agent needs itself, or nothing here asks for
    follow: (_world, _self, { capability }) => dropped.some((each) => CAPABILITY_BITS[each] === capability),
    run(_engine, self, { capability, on }) {
      const name = nameOf(capability)
      if (name === undefined) throw new Error(`capability ${capability} is not of the step list`)
      if (on) self.capabilities.add(name)
      else self.capabilities.delete(name)
      return OK
    },
  },
}

function nameOf(bit: number): Capability | undefined {
  return dropped.find((each) => CAPABILITY_BITS[each] === bit)
}
