import { Unmodelled } from '../base/unmodelled.ts'
import { PMD_SIZE, PTRS_PER_PTE } from '../base/units.ts'
import type { ReleaseName } from '../base/release.ts'
import { audit } from '../mm/audit.ts'
import { hugetlbPool, type HugetlbPool } from '../mm/hugetlb.ts'
import { Kernel, type Capability } from '../mm/kernel.ts'
import { DANGLING, addressOf, type EngineContext } from './engine-context.ts'
import { keepFrames } from './engine-pages.ts'
import { EngineProcess } from './engine-process.ts'
import { viewProcess, type Baseline } from './engine-view.ts'
import { leaks } from '../task/device/leak.ts'
import { FrameIds } from './frame-ids.ts'
import type { Driver, HugePool, Observation, Unanswerable } from './observation.ts'
import type { Program } from './program.ts'
import type { Arena } from './range.ts'
import { stepKind, type Step } from './steps.ts'

/** The machine the engine imitates: what the other side says about itself. */
export interface EngineSetup {
  readonly release: ReleaseName
  readonly arena: Arena
  readonly uid: number
  readonly capabilities: ReadonlySet<Capability>
  /** RLIMIT_MEMLOCK at the start, bytes */
  readonly memlock: number
  /** kB an agent process has outside the arena */
  readonly own: number
  /** bytes of that which are data */
  readonly ownData: number
  /** bytes of its data segment, which RLIMIT_DATA counts besides the heap */
  readonly dataSegment: number
  /** pages that other processes of this user have charged to RLIMIT_MEMLOCK */
  readonly othersLocked: number
  readonly thp: 'always' | 'madvise' | 'never'
  readonly thpDisabled: boolean
  /** anonymous memory can be named */
  readonly names: boolean
  /** the pool of 2 MiB pages: what is free, and what others were promised; null: there is none */
  readonly pool: HugePool | null
  /** the other side tells merged pages from others */
  readonly ksmShown: boolean
  /** pages of swap space */
  readonly swapSlots: number
  /** anybody's userfaultfd may serve faults of the kernel */
  readonly userfaultfdForAll: boolean
  /** CONFIG_MEMORY_FAILURE */
  readonly memoryFailure: boolean
}

/** Runs programs on the engine. */
export class EngineDriver implements Driver {
  /** Rules by which the engine refused something in the last program. */
  readonly refusals = new Set<string>()
  readonly #setup: EngineSetup

  constructor(setup: EngineSetup) {
    this.#setup = setup
  }

  async run(program: Program): Promise<readonly (Observation | Unanswerable)[]> {
    return this.runNow(program)
  }

  /** The same without waiting: the engine never does. */
  runNow({ steps }: Program): (Observation | Unanswerable)[] {
    this.refusals.clear()
    const run = new EngineRun(this.#setup, this.refusals)
    const seen: (Observation | Unanswerable)[] = []
    try {
      for (const step of steps) {
        const after = run.step(step)
        const harmful = run.harm()
        if (harmful !== null) return [...seen, { harmful }]
        seen.push(after)
      }
      const findings = run.end()
      if (findings.length > 0) seen.push({ broken: `the books do not balance: ${findings.join('; ')}` })
    } catch (error) {
      if (error instanceof Unmodelled) seen.push({ unmodelled: error.message })
      else seen.push({ broken: error instanceof Error ? (error.stack ?? error.message) : String(error) })
    }
    return seen
  }
}

export class EngineRun implements EngineContext {
  readonly k: Kernel
  readonly arena: Arena
  readonly memlock: number
  readonly capabilities: ReadonlySet<Capability>
  readonly processes = new Map<number, EngineProcess>()
  readonly #ids: FrameIds
  readonly #refusals: Set<string>
  readonly #base: Baseline
  readonly #pool: HugetlbPool | null
  readonly #othersPromises: number

  constructor(setup: EngineSetup, refusals: Set<string>) {
    this.#refusals = refusals
    this.arena = setup.arena
    this.memlock = setup.memlock
    this.capabilities = setup.capabilities
    const { pool } = setup
    this.k = new Kernel({
      release: setup.release,
      zones: {
        normal: (setup.arena.pages > 512 ? 49_152 : 20_480) + (pool === null ? 0 : pool.free * PTRS_PER_PTE),
      },
      settings: {
        thpEnabled: setup.thp,
        unprivilegedUserfaultfd: setup.userfaultfdForAll,
        memoryFailure: setup.memoryFailure,
        anonVmaName: setup.names,
      },
    })
    this.#ids = new FrameIds(this.k.memory.frames.count)
    if (pool !== null) {
      const ours = hugetlbPool(this.k, PMD_SIZE)
      ours.resize(pool.free)
      ours.promiseOthers(pool.reserved)
    }
    this.#pool = pool === null ? null : hugetlbPool(this.k, PMD_SIZE)
    this.#othersPromises = pool?.reserved ?? 0
    this.k.swap.swapon(setup.swapSlots)
    chargeOthers(this.k, setup)
    const first = EngineProcess.first(this.k, setup)
    this.processes.set(0, first)
    this.k.ksm.enter(first.space)
    this.#base = { totalVm: first.space.totalVm, ksmShown: setup.ksmShown }
  }

  /** @throws Unmodelled */
  step(step: Step): Observation {
    const k = this.k
    const self = this.processes.get(step.by)
    const { pinAcquired, pinReleased } = k
    const kind = stepKind(step.op)
    // a call that is never made replaces nothing
    const isMade = self !== undefined && kind.isMade?.(self, step) !== false
    if (isMade) this.#forgetReplaced(step, self)
    const done = isMade ? kind.run(this, self, step) : DANGLING
    // threads that answer userfaultfd events note them down
    k.scheduler.runUntilIdle()
    for (let refusal = self?.refusal ?? null; refusal !== null; refusal = refusal.cause)
      this.#refusals.add(refusal.rule)
    if (self !== undefined) self.refusal = null
    k.scheduler.runUntilIdle()
    const others = [...this.processes.values()].filter(({ number }) => number !== step.by)
    const alive = this.processes.get(step.by)
    const order = alive === undefined ? others : [alive, ...others]
    this.#ids.nextRound()
    const processes = order.map((each) => viewProcess(k, each, this.arena, this.#base, this.#ids))
    return {
      outcome: done.outcome,
      sum: done.sum ?? null,
      completions: done.completions ?? null,
      acquired: k.pinAcquired - pinAcquired,
      released: k.pinReleased - pinReleased,
      pool: this.#pool === null ? null : { free: this.#pool.free, reserved: this.#pool.reserved },
      processes,
    }
  }

  /** What a kernel would have lost for good by now; null: nothing. */
  harm(): string | null {
    if (this.#pool !== null && this.#pool.orphaned > this.#othersPromises)
      return 'the kernel would lose huge pages for good (R-HUGE-59)'
    const [leaked] = leaks(this.k)
    return leaked === undefined ? null : `the kernel would lose something for good: ${leaked}`
  }

  /** Everything exits. @returns counters that are not what they must be, before and after */
  end(): string[] {
    const before = this.#audit()
    for (const process of this.processes.values()) process.exit()
    return [...before, ...this.#audit()]
  }

  #audit(): string[] {
    return audit(this.k).map(({ what, expected, actual }) => `${what}: ${actual}, must be ${expected}`)
  }

  /** A step that frees frames and takes new ones counts as two (docs/oracle-protocol.md, page ids). */
  #forgetReplaced(step: Step, self: EngineProcess | undefined): void {
    const range = stepKind(step.op).replaces?.(step) ?? null
    if (range === null) return
    if (range === 'anywhere') {
      this.forgetFrames()
      return
    }
    const start = addressOf(this, range.at)
    this.#ids.nextRound()
    for (const process of this.processes.values()) {
      const gone = process === self ? { start, end: start + range.length } : NOTHING
      keepFrames(process.space.pageTable, this.arena, this.#ids, gone)
    }
  }

  forgetFrames(): void {
    // a frame that was not seen in the round before has no id
    this.#ids.nextRound()
    this.#ids.nextRound()
  }
}

/** What is charged to the user by processes outside of the program, for as long as it lasts. */
function chargeOthers(k: Kernel, { uid, othersLocked }: EngineSetup): void {
  const user = k.user(uid)
  user.lockedVm += othersLocked
  k.holders.add({
    name: 'other processes',
    forEachReference() {},
    charges: () => [{ user, lockedVm: othersLocked, mm: null, pinnedVm: 0 }],
  })
}

const NOTHING = { start: 0, end: 0 }
