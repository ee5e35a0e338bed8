import { defaultJobs, startCrew, type Crew } from '../conform/crew.ts'
import { saveFailure, readPrograms, type NamedProgram } from '../conform/failure-file.ts'
import { namedJobs, randomJobs } from '../conform/job.ts'
import { themesOff } from '../conform/kernel-oracle.ts'
import type { Finding } from '../conform/lockstep.ts'
import { ProgramError } from '../conform/program.ts'
import type { Found } from '../conform/result.ts'
import type { CoverageGrain } from '../conform/rule-coverage.ts'
import { enginePlaces } from '../conform/rule-places.ts'
import { ruleTally } from '../conform/rule-tally.ts'
import { ConformRun } from '../conform/run.ts'
import { isThemeName, themes, type ThemeName } from '../conform/themes.ts'
import type { OtherSide } from '../conform/worker-messages.ts'
import { GUEST_SERIES, type GuestSeries } from '../host/guest/kernel.ts'
import { HostError } from '../host/host-error.ts'
import { beforeInterrupt, type Interruption } from './interrupt.ts'
import { reportConformJson, reportFound, reportSummary, type ConformHead } from './report-conform.ts'
import { startProgress, wipeProgress } from './progress.ts'
import { outputTerminal, printable } from './terminal.ts'
import { UserError } from './user-error.ts'
import { count } from './words.ts'

export interface ConformOptions {
  readonly kernel?: string
  readonly programs?: string
  readonly steps?: string
  readonly seed?: string
  readonly minutes?: string
  readonly only?: string
  readonly jobs?: string
  readonly replay?: string
  readonly coverage?: true
  readonly json?: true
}

const PROGRAMS = 1000
const STEPS = 40
const DIRECTORY = 'conform-failures'

/** What is to be run, once it is known what the kernel can do. */
interface Plan {
  readonly kernel: KernelName
  readonly seed: number
  readonly steps: number
  readonly programs: number
  readonly minutes: number
  readonly chosen: readonly ThemeName[]
  /** instead of random ones */
  readonly named: readonly NamedProgram[] | null
  readonly jobs: number
  readonly coverage: CoverageGrain
  readonly json: boolean
}

export async function runConform(options: ConformOptions): Promise<void> {
  const plan = planOf(options)
  const { kernel, named, chosen } = plan
  const needed = named === null ? chosen : named.map(({ program }) => program.theme).filter(isThemeName)
  const crew = startCrew({ kernel, themes: needed, jobs: plan.jobs, coverage: plan.coverage })
  const conform = new Conform(plan, crew)
  beforeInterrupt(async (why) => {
    await conform.interrupted(why)
    await crew.stop()
  })
  try {
    await conform.run()
  } finally {
    await crew.stop()
  }
}

function planOf(options: ConformOptions): Plan {
  const { kernel = 'host', replay } = options
  if (!isKernelName(kernel))
    throw new UserError(`unknown kernel "${kernel}"; known are host, ${GUEST_SERIES.join(', ')}`)
  const minutes = options.minutes === undefined ? Infinity : positive('--minutes', options.minutes)
  const programs =
    options.programs === undefined && minutes < Infinity
      ? Infinity
      : wholeNumber('--programs', options.programs ?? String(PROGRAMS))
  const jobs = options.jobs === undefined ? defaultJobs(kernel) : wholeNumber('--jobs', options.jobs)
  const named = replay === undefined ? null : readOrRefuse(replay)
  return {
    kernel,
    seed: options.seed === undefined ? Date.now() % 2 ** 32 : seedNumber(options.seed),
    steps: wholeNumber('--steps', options.steps ?? String(STEPS)),
    programs,
    minutes,
    chosen: themesNamed(options.only),
    named,
    // a worker for every few programs: each starts agents of its own
    jobs: Math.min(jobs, Math.ceil((named?.length ?? programs) / PROGRAMS_OF_A_JOB)),
    coverage: options.coverage === true ? 'statements' : 'functions',
    json: options.json === true,
  }
}

/** below this another worker takes longer to start than it saves */
const PROGRAMS_OF_A_JOB = 20

/** One run: what is found is saved and printed as it comes. */
class Conform {
  readonly #plan: Plan
  readonly #crew: Crew
  readonly #run: ConformRun
  readonly #files = new Map<Finding, string>()
  readonly #terminal = outputTerminal()
  #began = performance.now()
  #other: OtherSide | null = null
  #themes: RunThemes = { on: [], off: new Map() }
  #reported = false
  #saved = false

  constructor(plan: Plan, crew: Crew) {
    this.#plan = plan
    this.#crew = crew
    this.#run = new ConformRun(crew.workers, {
      onFound: (found) => this.#found(found),
      onUnsteady: (name, seed, finding) => {
        const file = this.#save(`unsteady-${name}`, seed, finding)
        if (file !== null) this.#files.set(finding, file)
      },
    })
  }

  async run(): Promise<void> {
    const { kernel, seed, steps, programs, minutes, chosen, named } = this.#plan
    const started = startProgress(kernel === 'host' ? 'starting the agents' : `starting the kernel ${kernel}`)
    const other = await inOneLine(() => this.#crew.ready).finally(started)
    this.#other = other
    this.#themes = themesFor(other, chosen, named)
    const jobs = named === null ? randomJobs(seed, steps, this.#themes.on, programs) : namedJobs(named)
    this.#began = performance.now()
    const end = this.#began + minutes * 60_000
    const endProgress = this.#showProgress()
    try {
      await inOneLine(() => this.#run.run(jobs, () => performance.now() > end))
    } finally {
      endProgress()
      // also when it ends early: what was run, was run
      await this.#report(other, null)
    }
    process.exitCode = this.#exitCode()
  }

  /** The run ends here, whatever it was at; what it has found is kept. */
  async interrupted(why: Interruption): Promise<void> {
    if (this.#reported) return
    this.#run.abandon()
    wipeProgress()
    const before = this.#other === null ? 'before the first program' : `after ${this.#soFar()}`
    process.stderr.write(`pinscope: ${WORDS[why]} ${before}; stopping\n`)
    if (why !== 'output' && this.#other !== null) await this.#report(this.#other, why)
    process.exitCode ||= this.#exitCode()
  }

  #soFar(): string {
    const { programs, differing } = this.#run.summary
    const saved = this.#saved ? `, saved in ${DIRECTORY}` : ''
    return `${count(programs, 'program')}, ${count(differing, 'difference')}${saved}`
  }

  #showProgress(): () => void {
    return startProgress('running programs', () => {
      const rate = Math.round((this.#run.summary.programs / (performance.now() - this.#began)) * 60_000)
      return `${this.#soFar()}, ${rate} programs a minute`
    })
  }

  #found(found: Found): void {
    const file = found.saved ?? this.#save(found.name, found.seed, found.finding)
    if (file !== null) this.#files.set(found.finding, file)
    if (!this.#plan.json) process.stdout.write(`${reportFound(found, file, this.#terminal)}\n`)
  }

  /** A place that cannot be written to must not end a run. */
  #save(name: string, seed: number | null, finding: Finding): string | null {
    try {
      const file = saveFailure(DIRECTORY, name, seed, finding)
      this.#saved = true
      return file
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error)
      process.stderr.write(`pinscope: ${name} cannot be saved: ${printable(why)}\n`)
      return null
    }
  }

  async #report({ hello, release }: OtherSide, interrupted: Interruption | null): Promise<void> {
    const reached = await this.#crew.reached()
    if (this.#reported) return
    this.#reported = true
    const { named, seed, json, jobs } = this.#plan
    const { on, off } = this.#themes
    const head: ConformHead = {
      release: hello.release,
      who: hello.uid === 0 ? 'root' : `uid ${hello.uid}`,
      engine: release,
      seed: named === null ? seed : null,
      jobs,
      seconds: (performance.now() - this.#began) / 1000,
      interrupted,
      themes: on,
      off: [...off].map(([name, why]) => `${name} (${why})`),
      hidden: hello.hidden,
      notSet: this.#crew.notSet,
    }
    const rules = reached === null ? null : ruleTally(enginePlaces(), reached, this.#plan.coverage)
    const report = json ? reportConformJson : reportSummary
    process.stdout.write(report(this.#run.summary, head, this.#files, rules))
  }

  #exitCode(): number {
    const { differing, deaths } = this.#run.summary
    return differing === 0 && deaths.length === 0 ? 0 : 1
  }
}

/** Themes of the programs of a run, and those that were asked for and cannot be run, each with the reason. */
interface RunThemes {
  readonly on: readonly ThemeName[]
  readonly off: ReadonlyMap<ThemeName, string>
}

function themesFor(
  { hello }: OtherSide,
  chosen: readonly ThemeName[],
  named: readonly NamedProgram[] | null,
): RunThemes {
  if (named !== null) {
    const themes = named.map(({ program }) => program.theme).filter(isThemeName)
    return { on: [...new Set(themes)], off: new Map() }
  }
  const off = themesOff(hello, chosen)
  const on = chosen.filter((name) => !off.has(name))
  if (on.length === 0)
    throw new UserError(`nothing to run: ${[...off].map(([name, why]) => `${name}: ${why}`).join('; ')}`)
  return { on, off }
}

const WORDS: Readonly<Record<Interruption, string>> = {
  SIGINT: 'interrupted',
  SIGTERM: 'ended by SIGTERM',
  output: 'nobody reads the output any more:',
}

function themesNamed(only: string | undefined): ThemeName[] {
  const all = Object.keys(themes) as ThemeName[]
  if (only === undefined) return all
  return only.split(',').map((word) => {
    const name = word.trim()
    if (!isThemeName(name)) throw new UserError(`unknown theme "${name}"; known are ${all.join(', ')}`)
    return name
  })
}

function wholeNumber(option: string, text: string): number {
  const n = Number(text)
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(n) || (n === 0 && option !== '--seed'))
    throw new UserError(`${option} "${text}" is not a whole number`)
  return n
}

/** Seeds have 32 bits. */
function seedNumber(text: string): number {
  const seed = wholeNumber('--seed', text)
  if (seed >= 2 ** 32) throw new UserError(`--seed "${text}" is not below 2^32`)
  return seed
}

function positive(option: string, text: string): number {
  const n = Number(text)
  if (!(n > 0)) throw new UserError(`${option} "${text}" is not a number above 0`)
  return n
}

function readOrRefuse(file: string): ReturnType<typeof readPrograms> {
  try {
    return readPrograms(file)
  } catch (error) {
    if (error instanceof ProgramError) throw new UserError(`--replay ${error.message}`)
    throw error
  }
}

type KernelName = 'host' | GuestSeries

function isKernelName(name: string): name is KernelName {
  return name === 'host' || GUEST_SERIES.some((series) => series === name)
}

/** Agents and guests are also started on the way. */
async function inOneLine<T>(body: () => Promise<T>): Promise<T> {
  try {
    return await body()
  } catch (error) {
    throw error instanceof HostError ? new UserError(error.message) : error
  }
}
