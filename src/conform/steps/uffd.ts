import type { Kthread } from '../../base/kthread.ts'
import { PAGE_SIZE } from '../../base/units.ts'
import { uffdApi, uffdClose, uffdRegister, uffdUnregister, userfaultfd } from '../../mm/userfaultfd.ts'
import type { Userfaultfd } from '../../mm/userfaultfd.ts'
import { UFFD_API, UFFD_USER_MODE_ONLY } from '../../mm/userfaultfd-flags.ts'
import { oneCommand } from '../agent-commands.ts'
import { DANGLING, OK, addressOf, answer, call, type Done, type EngineContext } from '../engine-context.ts'
import type { EngineProcess } from '../engine-process.ts'
import { uffdRequest, type UffdAnswer } from '../engine-uffd.ts'
import type { Generation, Shadow } from '../generation.ts'
import { arenaAddress, arenaRange, rangeText, type Range } from '../range.ts'
import type { StepKind, StepKinds } from '../step-kind.ts'
import type { World, WorldProcess } from '../world.ts'

/** userfaultfds by the program's own numbers. Each is served by a thread of the process that made it. */
export type UffdStep =
  | ({
      readonly op: 'uffd'
      readonly uffd: number
      readonly userMode: boolean
      readonly features: number
    } & Service)
  /** made by a process that has ended since */
  | {
      readonly op: 'uffdOrphan'
      readonly uffd: number
      readonly userMode: boolean
      readonly features: number
    }
  | { readonly op: 'uffdClose'; readonly uffd: number }
  | ({ readonly op: 'uffdRegister'; readonly uffd: number; readonly mode: number } & Range)
  | ({ readonly op: 'uffdUnregister'; readonly uffd: number } & Range)
  /** what missing pages get from now on */
  | ({ readonly op: 'uffdServe'; readonly uffd: number } & Service)
  /** a request about a range, before anybody faults: numbers of `REQUESTS` */
  | ({
      readonly op: 'uffdDo'
      readonly uffd: number
      readonly request: number
      readonly mode: number
      readonly seed: number
    } & Range)
  | ({
      readonly op: 'uffdMove'
      readonly uffd: number
      readonly source: number
      readonly mode: number
    } & Range)

/** How missing pages are answered: a number of `MISSING_ANSWERS`, the seed of bytes, UFFDIO_COPY_MODE_*. */
interface Service {
  readonly gives: number
  readonly seed: number
  readonly copyMode: number
}

const MISSING_ANSWERS: readonly UffdAnswer[] = ['copy', 'zero', 'poison']
const REQUESTS: readonly UffdAnswer[] = ['copy', 'zero', 'wp', 'unwp', 'continue', 'poison', 'wake']
const MODE_NAMES = ['MISSING', 'WP', 'MINOR']
const MOST_UFFDS = 2
const MOST_WATCHED = 4
/** O_CLOEXEC | O_NONBLOCK */
const OPEN_FLAGS = 0x80800

/** UFFD_FEATURE_EVENT_FORK, REMAP, REMOVE, UNMAP */
const EVENT_FEATURES = [0x2, 0x4, 0x8, 0x40, 0x4e]

const onUffd = {
  mayDangle: () => true,
  follow: (_world: World, self: WorldProcess, { uffd }: { readonly uffd: number }) => self.uffds.has(uffd),
} satisfies Partial<StepKind<{ readonly uffd: number }>>

export const uffdSteps: StepKinds<UffdStep> = {
  uffd: {
    make(generation, process) {
      if (process.uffds.length >= MOST_UFFDS) return null
      const { random } = generation
      const uffd = generation.newName('uffd')
      process.uffds.push(uffd)
      process.serves.push(uffd)
      return {
        op: 'uffd',
        uffd,
        userMode: random.chance(40),
        features: someFeatures(generation),
        ...service(generation),
      }
    },
    text: (step) =>
      `uffd ${step.uffd}${step.userMode ? ' USER_MODE_ONLY' : ''} features ${step.features.toString(16)}, ${serviceText(step)}`,
    commands(step) {
      const open = `uffd u${step.uffd} ${openFlags(step.userMode)} ${step.features}`
      return { lines: [open, handlerLine(step)], result: 0, sum: -1 }
    },
    answer: 'nothing',
    mayDangle: () => true,
    creates: ({ uffd }) => `uffd ${uffd}`,
    follow(_world, self, { uffd }) {
      self.uffds.add(uffd)
      self.serves.add(uffd)
      return true
    },
    run(engine, self, step) {
      const made = self.run(opened(engine, self, step.userMode, step.features))
      if (typeof made === 'number') return answer(engine, made)
      self.uffds.set(step.uffd, made)
      serve(engine, self, made, step)
      return OK
    },
  },
  uffdOrphan: {
    make(generation, process) {
      if (process.uffds.length > 0) return null
      const { random } = generation
      const uffd = generation.newName('uffd')
      process.uffds.push(uffd)
      return { op: 'uffdOrphan', uffd, userMode: random.chance(40), features: someFeatures(generation) }
    },
    text: ({ uffd, userMode, features }) =>
      `uffd ${uffd}${userMode ? ' USER_MODE_ONLY' : ''} features ${features.toString(16)} of a process that is gone`,
    commands: ({ uffd, userMode, features }) =>
      oneCommand(`uffd-orphan u${uffd} ${openFlags(userMode)} ${features}`),
    answer: 'nothing',
    mayDangle: () => true,
    creates: ({ uffd }) => `uffd ${uffd}`,
    follow(_world, self, { uffd }) {
      // while memory is watched a fork may be an event
      if (self.uffds.size > 0) return false
      self.uffds.add(uffd)
      return true
    },
    run(engine, self, { uffd, userMode, features }) {
      const maker = self.fork(-1)
      if (typeof maker === 'number') return answer(engine, maker)
      const made = maker.run(opened(engine, maker, userMode, features))
      maker.exit()
      if (typeof made === 'number') return answer(engine, made)
      self.uffds.set(uffd, made)
      return OK
    },
  },
  uffdClose: {
    ...onUffd,
    make({ random, processes }, process) {
      const own = process.uffds.filter(
        (name) => !processes.some((other) => other !== process && other.uffds.includes(name)),
      )
      if (own.length === 0) return null
      const uffd = random.pick(own)
      process.uffds.splice(process.uffds.indexOf(uffd), 1)
      if (process.serves.includes(uffd)) process.serves.splice(process.serves.indexOf(uffd), 1)
      return { op: 'uffdClose', uffd }
    },
    text: ({ uffd }) => `close uffd ${uffd}`,
    commands: ({ uffd }) => oneCommand(`close u${uffd}`),
    follow(world, self, { uffd }) {
      // while another process has it the ranges stay watched, and nobody would answer
      const shared = [...world.values()].some((other) => other !== self && other.uffds.has(uffd))
      if (shared || !self.uffds.delete(uffd)) return false
      self.serves.delete(uffd)
      return true
    },
    run(engine, self, { uffd }) {
      const open = self.uffds.get(uffd)
      if (open === undefined) return DANGLING
      self.uffds.delete(uffd)
      self.handler?.stop(open)
      if (open.drop()) self.run(uffdClose(engine.k, open))
      return OK
    },
  },
  uffdRegister: {
    ...onUffd,
    make(generation, process) {
      const uffd = someUffd(generation, process)
      if (uffd === null) return null
      const { random } = generation
      const mode = random.chance(95) ? random.pick([1, 1, 2, 3, 3, 3, 3, 3, 4, 5, 6, 7]) : random.pick([0, 8])
      const range = (random.chance(60) ? generation.place() : null) ?? generation.range()
      if (process.watched.push(range) > MOST_WATCHED) process.watched.shift()
      return { op: 'uffdRegister', uffd, mode, ...range }
    },
    text: (step) => `uffd ${step.uffd} register ${rangeText(step)} ${modeText(step.mode)}`,
    commands: (step) => oneCommand(`uffd-reg u${step.uffd} ${arenaRange(step)} ${step.mode}`),
    refusesTooLong: true,
    run: (engine, self, { uffd, at, length, mode }) =>
      onOpen(engine, self, uffd, (open) =>
        call(engine, self, uffdRegister(engine.k, open, open.mm!, addressOf(engine, at), length, mode)),
      ),
  },
  uffdUnregister: {
    ...onUffd,
    make(generation, process) {
      const uffd = someUffd(generation, process)
      return uffd === null ? null : { op: 'uffdUnregister', uffd, ...generation.range() }
    },
    text: (step) => `uffd ${step.uffd} unregister ${rangeText(step)}`,
    commands: (step) => oneCommand(`uffd-unreg u${step.uffd} ${arenaRange(step)}`),
    refusesTooLong: true,
    run: (engine, self, { uffd, at, length }) =>
      onOpen(engine, self, uffd, (open) =>
        call(engine, self, uffdUnregister(engine.k, open, open.mm!, addressOf(engine, at), length)),
      ),
  },
  uffdServe: {
    ...onUffd,
    make(generation, { serves }) {
      if (serves.length === 0) return null
      return { op: 'uffdServe', uffd: generation.random.pick(serves), ...service(generation) }
    },
    text: (step) => `uffd ${step.uffd} answers ${serviceText(step)}`,
    commands: (step) => oneCommand(handlerLine(step)),
    follow: (_world, self, { uffd }) => self.serves.has(uffd),
    run: (engine, self, step) =>
      onOpen(engine, self, step.uffd, (open) => {
        serve(engine, self, open, step)
        return OK
      }),
  },
  uffdDo: {
    ...onUffd,
    make(generation, process) {
      const uffd = someUffd(generation, process)
      if (uffd === null) return null
      const { random } = generation
      const request = random.pick([0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 3, 4, 4, 5, 6])
      const mode = random.chance(70) ? 0 : random.pick([1, 2, 2, 3, 4])
      return {
        op: 'uffdDo',
        uffd,
        request,
        mode,
        seed: random.below(256),
        ...watchedRange(generation, process),
      }
    },
    text: (step) => `uffd ${step.uffd} ${REQUESTS[step.request]} ${rangeText(step)} mode ${step.mode}`,
    commands: (step) =>
      oneCommand(
        `uffd-do u${step.uffd} ${REQUESTS[step.request]} ${arenaRange(step)} ${step.seed} ${step.mode}`,
      ),
    refusesTooLong: true,
    run: (engine, self, step) =>
      onOpen(engine, self, step.uffd, (open) => {
        const { length, seed: argument, mode } = step
        const start = addressOf(engine, step.at)
        const how = REQUESTS[step.request]!
        return call(engine, self, uffdRequest(engine.k, open, { how, start, length, argument, mode }))
      }),
  },
  uffdMove: {
    ...onUffd,
    make(generation, process) {
      const uffd = someUffd(generation, process)
      if (uffd === null) return null
      const { random } = generation
      const mode = random.chance(80) ? random.pick([0, 2]) : random.pick([1, 3, 4])
      return {
        op: 'uffdMove',
        uffd,
        ...watchedRange(generation, process),
        source: generation.range().at,
        mode,
      }
    },
    text: (step) =>
      `uffd ${step.uffd} move ${rangeText(step)} from ${arenaAddress(step.source)} mode ${step.mode}`,
    commands: (step) =>
      oneCommand(`uffd-do u${step.uffd} move ${arenaRange(step)} ${arenaAddress(step.source)} ${step.mode}`),
    refusesTooLong: true,
    run: (engine, self, { uffd, at, length, source, mode }) =>
      onOpen(engine, self, uffd, (open) => {
        const start = addressOf(engine, at)
        const argument = addressOf(engine, source)
        const request = { how: 'move' as const, start, length, argument, mode }
        return call(engine, self, uffdRequest(engine.k, open, request))
      }),
  },
}

/** Part of what was registered. */
function watchedRange(generation: Generation, { watched }: Shadow): Range {
  const { random, unit } = generation
  const whole = watched.at(random.below(Math.max(1, watched.length)))
  if (whole === undefined || whole.length < unit || random.chance(25)) return generation.range()
  const pages = Math.floor(whole.length / unit)
  const first = random.below(pages)
  const some = random.between(1, Math.min(4, pages - first))
  const range = { at: whole.at + first * unit, length: some * unit }
  // where ranges consist of huge pages, small ones inside of them matter too
  if (!generation.large || random.chance(60)) return range
  return { at: range.at + random.below(512) * PAGE_SIZE, length: random.between(1, 8) * PAGE_SIZE }
}

/** userfaultfd(2) and UFFDIO_API; -errno of the one that fails. */
function* opened(
  { k }: EngineContext,
  self: EngineProcess,
  userMode: boolean,
  features: number,
): Kthread<Userfaultfd | number> {
  yield* []
  const made = userfaultfd(k, self.space, userMode ? UFFD_USER_MODE_ONLY : 0)
  if (typeof made === 'number') return made
  const agreed = uffdApi(k, made, UFFD_API, features)
  return agreed < 0 ? agreed : made
}

function openFlags(userMode: boolean): number {
  return OPEN_FLAGS | (userMode ? UFFD_USER_MODE_ONLY : 0)
}

function someFeatures({ random }: Generation): number {
  let features = 0
  if (random.chance(8)) features |= 0x80
  if (random.chance(30)) features |= 0x2000
  if (random.chance(8)) features |= 0x8000
  if (random.chance(20)) features |= random.pick(EVENT_FEATURES)
  if (random.chance(5)) features |= 0x800
  return features
}

function service({ random }: Generation): Service {
  return {
    gives: random.pick([0, 0, 0, 0, 1, 1, 2]),
    seed: random.below(256),
    copyMode: random.chance(25) ? 2 : 0,
  }
}

function serviceText({ gives, seed, copyMode }: Service): string {
  return `${MISSING_ANSWERS[gives]} seed ${seed}${copyMode === 0 ? '' : ' protected'}`
}

function handlerLine({ uffd, gives, seed, copyMode }: Service & { readonly uffd: number }): string {
  return `uffd-handler u${uffd} ${MISSING_ANSWERS[gives]} ${seed} ${copyMode}`
}

function modeText(mode: number): string {
  const names = MODE_NAMES.filter((_, bit) => (mode & (1 << bit)) !== 0)
  return names.length === 0 ? `mode ${mode}` : names.join('|')
}

function someUffd({ random }: Generation, { uffds }: Shadow): number | null {
  return uffds.length === 0 ? null : random.pick(uffds)
}

function onOpen(
  _engine: EngineContext,
  self: EngineProcess,
  name: number,
  act: (uffd: Userfaultfd) => Done,
): Done {
  const open = self.uffds.get(name)
  return open === undefined ? DANGLING : act(open)
}

function serve(engine: EngineContext, self: EngineProcess, uffd: Userfaultfd, step: Service): void {
  const { gives, seed, copyMode } = step
  self.handlerIn(engine.arena).serve({ uffd, how: MISSING_ANSWERS[gives]!, seed, mode: copyMode })
}
