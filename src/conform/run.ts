import { releases } from '../base/release.ts'
import type { Difference, Fact } from './compare.ts'
import { EngineDriver, type EngineSetup } from './engine-driver.ts'
import { generate } from './generate.ts'
import { AgentDied, AgentTrouble, KernelDriver, type AgentPort } from './kernel-driver.ts'
import { compareRuns, isMachineWide, type Comparison, type Finding } from './lockstep.ts'
import type { NamedProgram } from './failure-file.ts'
import type { Program } from './program.ts'
import { shrink } from './shrink.ts'
import type { ThemeName } from './themes.ts'

/** A kernel to compare with, ready to run programs. */
export interface Oracle {
  readonly agent: AgentPort
  /** what the engine must imitate to be comparable */
  readonly setup: EngineSetup
  /** false: without privilege nobody sees which frames are mapped */
  readonly framesVisible: boolean
}

/** Where programs of each theme can be run: themes differ in the size of the arena and in huge pages. */
export interface OracleSource {
  of(theme: string): Promise<Oracle>
}

/** A difference that was found, shortened. */
export interface Found {
  /** theme and seed, or the name in its file */
  readonly name: string
  readonly seed: number | null
  readonly finding: Finding
  /** programs that showed the same kind of difference */
  programs: number
}

/** A difference that went away. */
export interface Unsteady {
  /** theme and seed, or the name in its file */
  readonly name: string
  readonly step: number
  readonly difference: Difference
  /** in a counter of the whole machine, which other processes change as well */
  readonly machineWide: boolean
}

/** A program that the kernel's side did not survive. */
export interface Death {
  /** theme and seed, or the name in its file */
  readonly name: string
  /** one sentence */
  readonly message: string
}

export interface RunSummary {
  programs: number
  steps: number
  /** programs that showed a difference */
  differing: number
  /** one for each kind of difference */
  readonly found: Found[]
  readonly facts: Set<Fact>
  /** reason → programs that ended early because the engine has no model of a step, or it would do harm */
  readonly unmodelled: Map<string, number>
  /** id → programs in which the kernel took that freedom */
  readonly allowed: Map<string, number>
  /** what one run of a program showed and the next one did not: somebody else disturbed the kernel's side */
  readonly unsteady: Unsteady[]
  /** programs that ended the agent or the kernel */
  readonly deaths: Death[]
  /** step → outcome → how often, as the kernel answered */
  readonly coverage: Map<string, Map<string, number>>
  /** ms spent in the engine and on the kernel's side */
  readonly time: { engine: number; kernel: number }
}

/** Programs to run, in order. */
export interface Job {
  readonly name: string
  readonly seed: number | null
  readonly program: Program
}

/** Random programs: seed, seed + 1, …, the themes in turn. */
export function* randomJobs(
  seed: number,
  steps: number,
  names: readonly ThemeName[],
  count: number,
): Generator<Job> {
  for (let i = 0; i < count; i++) {
    const theme = names[i % names.length]!
    const own = seed + Math.floor(i / names.length)
    yield { name: `${theme}-${own}`, seed: own, program: generate(own, theme, steps) }
  }
}

export function* namedJobs(programs: readonly NamedProgram[]): Generator<Job> {
  for (const { name, program } of programs) yield { name, seed: null, program }
}

/** of one program, until what it shows is the same again and again */
const MOST_RUNS = 12

interface Sides {
  readonly engine: EngineDriver
  readonly kernel: KernelDriver
  /** the engine is asked first whether a step would do the machine harm that stays */
  readonly canHarm: boolean
}

/** Runs programs on the kernel and on the engine and compares them. */
export class ConformRun {
  readonly summary: RunSummary = {
    programs: 0,
    steps: 0,
    differing: 0,
    found: [],
    facts: new Set(),
    unmodelled: new Map(),
    allowed: new Map(),
    unsteady: [],
    deaths: [],
    coverage: new Map(),
    time: { engine: 0, kernel: 0 },
  }
  readonly #source: OracleSource
  readonly #drivers = new Map<Oracle, Sides>()
  readonly #kinds = new Map<string, Found>()

  constructor(source: OracleSource) {
    this.#source = source
  }

  /** Both sides for programs of a theme. */
  async #sides(theme: string): Promise<Sides> {
    const oracle = await this.#source.of(theme)
    let drivers = this.#drivers.get(oracle)
    if (drivers === undefined) {
      const { agent, setup, framesVisible } = oracle
      const releasesLate = releases[setup.release].ioUring.releasesReplacedLate
      drivers = {
        engine: new EngineDriver(setup),
        kernel: new KernelDriver(agent, setup.arena, framesVisible, releasesLate),
        canHarm: setup.pool !== null,
      }
      this.#drivers.set(oracle, drivers)
    }
    return drivers
  }

  /**
   * Runs jobs until there are no more or `stop` says so.
   * @param onFound is told about each new kind of difference, after shrinking
   */
  async run(jobs: Iterable<Job>, stop: () => boolean, onFound: (found: Found) => void): Promise<RunSummary> {
    for (const job of jobs) {
      if (stop()) break
      try {
        await this.#one(job, onFound)
      } catch (error) {
        if (!(error instanceof AgentDied)) throw error
        this.summary.deaths.push({ name: job.name, message: error.message })
      }
    }
    return this.summary
  }

  async #one({ name, seed, program }: Job, onFound: (found: Found) => void): Promise<void> {
    const { summary } = this
    const comparison = await this.#undisturbed(name, program, true)
    summary.programs++
    summary.steps += comparison.steps
    for (const fact of comparison.facts) summary.facts.add(fact)
    if (comparison.unmodelled !== null) count(summary.unmodelled, comparison.unmodelled)
    for (const id of comparison.allowed) count(summary.allowed, id)
    const first = await this.#steady(name, program, comparison.finding)
    if (first === null) return
    summary.differing++
    const kind = kindOf(first.program, first.step, first.difference)
    const known = this.#kinds.get(kind)
    if (known !== undefined) {
      known.programs++
      return
    }
    const finding = await this.#shortest(name, first, kind)
    const found: Found = { name, seed, finding, programs: 1 }
    this.#kinds.set(kind, found)
    summary.found.push(found)
    onFound(found)
  }

  /**
   * Runs a program until each counter of the whole machine has agreed at each step at least once; one that never
   * does is a difference like any other.
   */
  async #undisturbed(name: string, program: Program, counted: boolean): Promise<Comparison> {
    const agreed = new Set<string>()
    let comparison = await this.#compare(program, counted, agreed)
    for (let runs = 1; runs < MOST_RUNS; runs++) {
      const { disturbed } = comparison
      if (disturbed.length === 0) return comparison
      comparison = await this.#compare(program, false, agreed)
      for (const { step, difference } of disturbed)
        if (agreed.has(`${step} ${difference.what}`))
          this.summary.unsteady.push({ name, step, difference, machineWide: true })
    }
    const [finding] = comparison.disturbed
    return finding === undefined ? comparison : { ...comparison, finding, steps: finding.step + 1 }
  }

  /**
   * What one run shows and the next one does not was somebody else's doing: the difference that shows in four
   * runs one after the other, null when a run shows none at all.
   */
  async #steady(name: string, program: Program, first: Finding | null): Promise<Finding | null> {
    let finding = first
    for (let same = 1, runs = 1; finding !== null && same < 4 && runs < MOST_RUNS; runs++) {
      if (isMachineWide(finding.difference)) return finding
      const { finding: next } = await this.#undisturbed(name, program, false)
      if (next !== null && sameFinding(next, finding)) same++
      else {
        const { step, difference } = finding
        this.summary.unsteady.push({ name, step, difference, machineWide: false })
        finding = next
        same = 1
      }
    }
    return finding
  }

  async #shortest(name: string, finding: Finding, kind: string): Promise<Finding> {
    let best = finding
    const steps = finding.program.steps.slice(0, finding.step + 1)
    await shrink({ ...finding.program, steps }, async (candidate) => {
      const { finding: again } = await this.#undisturbed(name, candidate, false)
      if (again === null || kindOf(candidate, again.step, again.difference) !== kind) return false
      best = again
      return true
    })
    return best
  }

  async #compare(program: Program, counted: boolean, agreed: Set<string>): Promise<Comparison> {
    const { summary } = this
    const sides = await this.#sides(program.theme)
    const began = performance.now()
    const pending = sides.canHarm ? null : sides.kernel.run(program)
    const sent = performance.now()
    const engine = sides.engine.runNow(program)
    const answered = performance.now()
    const harm = engine.findIndex((seen) => 'harmful' in seen)
    const steps = harm < 0 ? program.steps : program.steps.slice(0, harm)
    const kernel = await (pending ?? sides.kernel.run({ ...program, steps }))
    if (kernel.length !== steps.length) throw new AgentTrouble('answers are missing')
    summary.time.engine += answered - sent
    summary.time.kernel += performance.now() - answered + (sent - began)
    if (counted) {
      for (const [i, { outcome }] of kernel.entries()) {
        const { op } = program.steps[i]!
        let own = summary.coverage.get(op)
        if (own === undefined) summary.coverage.set(op, (own = new Map()))
        count(
          own,
          outcome.kind === 'errno'
            ? String(outcome.errno)
            : outcome.kind === 'signal'
              ? outcome.signal
              : 'ok',
        )
      }
    }
    return compareRuns(program, kernel, engine, agreed)
  }
}

function sameFinding(a: Finding | null, b: Finding): boolean {
  return a !== null && a.step === b.step && a.difference.sentence === b.difference.sentence
}

function count(counts: Map<string, number>, key: string): void {
  counts.set(key, (counts.get(key) ?? 0) + 1)
}

/** Differences of one kind most likely have one cause. */
function kindOf(program: Program, step: number, { fact, what, page }: Difference): string {
  const { op, ...rest } = program.steps[step]!
  const advice = 'advice' in rest ? rest.advice : ''
  const side = page === null ? '' : `${page.kernel === null}${page.engine === null}`
  return [fact, what, op, advice, side].join('|')
}
