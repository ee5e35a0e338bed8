import { loadUser } from '../../mm/user-access.ts'
import { MPOL_MF_MOVE, MPOL_MF_MOVE_ALL, movePages } from '../../task/move-pages.ts'
import { DANGLING, addressOf, counted } from '../engine-context.ts'
import { addUp, pattern } from '../pattern.ts'
import { arenaAddress } from '../range.ts'
import type { StepKinds } from '../step-kind.ts'
import { ARENA_START, BEYOND, isHarmless, nameOf, reaches, relative } from './remote.ts'

/** On which node pages are, and moving them to another. */
export interface PlacementStep {
  readonly op: 'movePages'
  /** null: a pid that nobody has */
  readonly of: number | null
  readonly places: readonly number[]
  /** null: only where they are */
  readonly nodes: readonly number[] | null
  readonly flags: number
  /** where the answers go; null: to memory outside of the arena */
  readonly status: number | null
  /** the lists themselves cannot be read */
  readonly badPages: boolean
  readonly badNodes: boolean
}

const SYS_MOVE_PAGES = 279
/** where the agent keeps the nodes and the answers in its scratch memory */
const NODES = 8192
const ANSWERS = 16384
/** what is there before */
const SEED = 90
/** an address where no list can be read */
const NOWHERE = 8
const INT = 4

export const placementSteps: StepKinds<PlacementStep> = {
  movePages: {
    make(generation, process) {
      const { random } = generation
      // more than the kernel answers at once, now and then
      const n = random.pick([1, 2, 3, 4, 6, 9, 16, 17, 24])
      const places = Array.from({ length: n }, () =>
        random.chance(4) ? random.pick(BEYOND) - ARENA_START : generation.address(),
      )
      const node = (): number => (random.chance(4) ? random.pick([1, -1, 63, 64, 1024, 2 ** 31 - 1]) : 0)
      const odd = random.below(100)
      const all = odd < 20
      return {
        op: 'movePages',
        of: odd === 99 ? null : relative(generation, process),
        places,
        nodes: random.chance(50) ? null : places.map(node),
        flags: odd < 5 ? random.pick([1, 8, 6, 0, 16]) : all ? MPOL_MF_MOVE_ALL : MPOL_MF_MOVE,
        status: random.chance(60) ? null : generation.address() & -INT,
        badPages: odd === 98 || odd === 96,
        badNodes: odd === 97 || odd === 96,
      }
    },
    text({ of, places, nodes, flags, status, badPages, badNodes }) {
      const what = badPages ? 'unreadable' : places.map(arenaAddress).join(' ')
      const to = badNodes && nodes !== null ? 'unreadable' : nodes === null ? '' : nodes.join(' ')
      const target = nodes === null ? '' : ` to [${to}]`
      const into = status === null ? '' : ` into ${arenaAddress(status)}`
      return `move_pages ${of === null ? 'nobody' : `p${of}`} [${what}]${target} flags ${flags}${into}`
    },
    commands(step) {
      const { by, of, places, nodes, flags } = step
      const pid = of === null ? '-1' : `#${nameOf(of, by)}`
      const status = step.status === null ? `&${ANSWERS}` : arenaAddress(step.status)
      const where = step.badPages ? NOWHERE : '&0'
      const to = nodes === null ? 0 : step.badNodes ? NOWHERE : `&${NODES}`
      return {
        lines: [
          `put 0 ${places.map(arenaAddress).join(' ')}`,
          `put ${NODES} ${words(nodes ?? [])}`,
          `fill &${ANSWERS} ${places.length * INT} ${SEED}`,
          `sys ${SYS_MOVE_PAGES} ${pid} ${places.length} ${where} ${to} ${status} ${flags}`,
          `sum ${status} ${places.length * INT}`,
        ],
        result: 3,
        sum: 4,
      }
    },
    follow: (world, _self, { by, of, places }) =>
      places.every((at) => isHarmless({ at, length: 0 })) && (of === null || reaches(world, by, of)),
    run(engine, self, step) {
      const { k } = engine
      const target = step.of === null ? null : engine.processes.get(step.of)
      if (target === undefined) return DANGLING
      const count = step.places.length
      const place = step.status === null ? null : addressOf(engine, step.status)
      const bytes = pattern(SEED, 0, count * INT)
      const call = {
        pid: target === null ? -1 : target.pid,
        count,
        pages: step.badPages ? [] : step.places.map((at) => addressOf(engine, at)),
        nodes: step.nodes === null ? null : step.badNodes ? [] : step.nodes,
        status: place ?? new Int32Array(bytes.buffer, bytes.byteOffset, count),
        flags: step.flags,
      }
      const done = counted(self.run(movePages(k, call)))
      if (place === null) return { ...done, sum: addUp(0, bytes) }
      const read = self.run(loadUser(k, self.space, place, bytes))
      return read.ok ? { ...done, sum: addUp(0, bytes) } : done
    },
  },
}

/** Ints two by two, as the agent writes words. */
function words(nodes: readonly number[]): string {
  const pairs = Array.from({ length: Math.ceil(nodes.length / 2) }, (_, i) => {
    const [low, high] = [nodes[2 * i]!, nodes[2 * i + 1] ?? 0].map((node) =>
      (node >>> 0).toString(16).padStart(8, '0'),
    )
    return `0x${high}${low}`
  })
  return pairs.length === 0 ? '0' : pairs.join(' ')
}
