import {
  IPC_CREAT,
  IPC_PRIVATE,
  SHM_EXEC,
  SHM_HUGETLB,
  SHM_NORESERVE,
  SHM_RDONLY,
  SHM_REMAP,
  SHM_RND,
  shmRemove,
  shmStatus,
  shmat,
  shmdt,
  shmget,
} from '../../ipc/shm.ts'
import { PAGE_SIZE } from '../../base/units.ts'
import { MAP_HUGE_SHIFT } from '../../mm/mman.ts'
import { oneCommand } from '../agent-commands.ts'
import { DANGLING, OK, addressOf, answer, call, value } from '../engine-context.ts'
import { arenaAddress, bytesText } from '../range.ts'
import type { Generation } from '../generation.ts'
import type { StepKind, StepKinds } from '../step-kind.ts'
import type { World, WorldProcess } from '../world.ts'

/** System V shared memory: segments by the program's own numbers. */
export type SysvStep =
  | { readonly op: 'shmget'; readonly segment: number; readonly size: number; readonly flags: number }
  | { readonly op: 'shmat'; readonly segment: number; readonly at: number; readonly flags: number }
  | { readonly op: 'shmdt'; readonly at: number }
  /** IPC_RMID */
  | { readonly op: 'shmRemove'; readonly segment: number }
  /** IPC_STAT: how many mappings there are */
  | { readonly op: 'shmCount'; readonly segment: number }

const MOST_SEGMENTS = 3

const HUGE_2MB = 21 << MAP_HUGE_SHIFT
/** a size of huge pages that x86 does not have */
const HUGE_16MB = 24 << MAP_HUGE_SHIFT
const hugeFlags: readonly number[] = [0, 0, 0, 0, 0, SHM_NORESERVE, SHM_NORESERVE, HUGE_2MB, HUGE_16MB]

/** What steps about a segment have in common. */
const onSegment = {
  mayDangle: () => true,
  follow: (_world: World, self: WorldProcess, { segment }: { readonly segment: number }) =>
    self.segments.has(segment),
} satisfies Partial<StepKind<{ readonly segment: number }>>

export const sysvSteps: StepKinds<SysvStep> = {
  shmget: {
    make(generation, process) {
      if (process.segments.length >= MOST_SEGMENTS) return null
      const { random } = generation
      const segment = generation.newName('segment')
      process.segments.push(segment)
      if (generation.large) return { op: 'shmget', segment, ...hugeSegment(generation) }
      const size = random.chance(70) ? random.between(1, 8) * PAGE_SIZE : random.between(0, 5 * PAGE_SIZE)
      const flags = random.pick([0o600, 0o600, 0o600, 0o700, 0o400, 0o600 | SHM_NORESERVE])
      return { op: 'shmget', segment, size, flags }
    },
    text: ({ segment, size, flags }) =>
      `shmget segment ${segment} of ${bytesText(size)} flags 0${flags.toString(8)}`,
    commands: ({ segment, size, flags }) => oneCommand(`shm s${segment} ${size} ${flags}`),
    answer: 'nothing',
    machineWide: ({ flags }) => (flags & SHM_HUGETLB) !== 0,
    creates: ({ segment }) => `segment ${segment}`,
    follow(_world, self, { segment }) {
      self.segments.add(segment)
      return true
    },
    run(engine, self, { segment, size, flags }) {
      const id = self.run(shmget(engine.k, IPC_PRIVATE, size, IPC_CREAT | flags))
      if (id < 0) return answer(engine, id)
      self.segments.set(segment, id)
      return OK
    },
  },
  shmat: {
    ...onSegment,
    make(generation, process) {
      const { random } = generation
      if (process.segments.length === 0) return null
      const { page, pages } = generation.pages(random.chance(50))
      const { unit, large } = generation
      let at = page * unit + (random.chance(10) ? random.below(PAGE_SIZE) : 0)
      // within a huge page, also where the address is rounded
      if (large && random.chance(10)) at += random.below(512) * PAGE_SIZE
      let flags = random.pick([0, 0, 0, SHM_RDONLY, SHM_EXEC])
      if (random.chance(large ? 60 : 40)) flags |= SHM_REMAP
      if (random.chance(15)) flags |= SHM_RND
      generation.mapped({ at: page * unit, length: Math.max(pages, large ? 2 : 4) * unit })
      return { op: 'shmat', segment: random.pick(process.segments), at, flags }
    },
    text: ({ segment, at, flags }) =>
      `shmat segment ${segment} ${arenaAddress(at)} flags 0${flags.toString(8)}`,
    commands: ({ segment, at, flags }) => oneCommand(`sys shmat $s${segment} ${arenaAddress(at)} ${flags}`),
    answer: 'address',
    run(engine, self, { segment, at, flags }) {
      const id = self.segments.get(segment)
      if (id === undefined) return DANGLING
      return call(engine, self, shmat(engine.k, self.space, id, addressOf(engine, at), flags))
    },
  },
  shmdt: {
    make(generation) {
      const { random, large, unit } = generation
      const begun = large && random.chance(60) ? generation.place() : null
      const at = begun?.at ?? generation.pages(false).page * unit
      return { op: 'shmdt', at: at + (random.chance(3) ? 1 : 0) }
    },
    text: ({ at }) => `shmdt ${arenaAddress(at)}`,
    commands: ({ at }) => oneCommand(`sys shmdt ${arenaAddress(at)}`),
    run: (engine, self, { at }) => call(engine, self, shmdt(engine.k, self.space, addressOf(engine, at))),
  },
  shmRemove: {
    ...onSegment,
    make({ random }, { segments }) {
      return segments.length === 0 ? null : { op: 'shmRemove', segment: random.pick(segments) }
    },
    text: ({ segment }) => `remove segment ${segment}`,
    commands: ({ segment }) => oneCommand(`sys shmctl $s${segment} 0 0`),
    run(engine, self, { segment }) {
      const id = self.segments.get(segment)
      return id === undefined ? DANGLING : call(engine, self, shmRemove(engine.k, id))
    },
  },
  shmCount: {
    ...onSegment,
    make({ random }, { segments }) {
      return segments.length === 0 ? null : { op: 'shmCount', segment: random.pick(segments) }
    },
    text: ({ segment }) => `attachments of segment ${segment}`,
    commands: ({ segment }) => oneCommand(`nattch $s${segment}`),
    run(engine, self, { segment }) {
      const id = self.segments.get(segment)
      if (id === undefined) return DANGLING
      const status = self.run(statusOf(engine.k, id))
      return typeof status === 'number' ? answer(engine, status) : value(status.attached)
    },
  },
}

/** Where ranges are of huge pages, segments are, too: of some, of a part of one, now and then of small pages. */
function hugeSegment({ random, unit }: Generation): { size: number; flags: number } {
  const mode = random.pick([0o600, 0o600, 0o600, 0o700, 0o400])
  const size = random.chance(75) ? random.between(1, 4) * unit : random.below(3 * unit)
  if (random.chance(5)) return { size, flags: mode }
  return { size, flags: mode | SHM_HUGETLB | random.pick(hugeFlags) }
}

function* statusOf(
  k: Parameters<typeof shmStatus>[0],
  id: number,
): Generator<never, ReturnType<typeof shmStatus>, void> {
  return shmStatus(k, id)
}
