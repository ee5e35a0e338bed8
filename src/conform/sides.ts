import { releases } from '../base/release.ts'
import { EngineDriver, type EngineSetup } from './engine-driver.ts'
import { AgentTrouble, KernelDriver, type AgentPort } from './kernel-driver.ts'
import type { Observation, Unanswerable } from './observation.ts'
import { mayHarm, type Program } from './program.ts'

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

/** What both sides showed of one program. */
export interface BothSides {
  readonly kernel: readonly Observation[]
  readonly engine: readonly (Observation | Unanswerable)[]
  /** rules by which the engine refused something */
  readonly refusals: ReadonlySet<string>
}

/** A program on its way: the kernel has it already, the engine mostly runs it when the result is asked for. */
export interface UnderWay {
  /** @throws AgentDied, AgentTrouble */
  result(): Promise<BothSides>
}

interface Drivers {
  readonly engine: EngineDriver
  readonly kernel: KernelDriver
  /** the engine is asked first whether a step would do the machine harm that stays */
  readonly canHarm: boolean
}

/** Both sides of the comparison. */
export class Sides {
  #engineTime = 0
  /** Told the job of each program the engine begins, and null when it has ended it. */
  onEngine: (job: number | null) => void = () => {}
  readonly #source: OracleSource
  readonly #drivers = new Map<Oracle, Drivers>()

  constructor(source: OracleSource) {
    this.#source = source
  }

  /** ms so far: in the engine, and the agents at work. */
  get time(): { readonly engine: number; readonly kernel: number } {
    const kernel = [...this.#drivers.values()].reduce((sum, drivers) => sum + drivers.kernel.busy, 0)
    return { engine: this.#engineTime, kernel }
  }

  /**
   * Sends a program to its kernel. Several may be under way; each kernel runs them in order.
   * @param job for `onEngine`
   */
  async send(program: Program, job: number): Promise<UnderWay> {
    const { engine, kernel, canHarm } = await this.#of(program.theme)
    const early = canHarm || mayHarm(program) ? this.#runEngine(engine, program, job) : null
    const harm = early === null ? -1 : early.engine.findIndex((seen) => 'harmful' in seen)
    const steps = harm < 0 ? program.steps : program.steps.slice(0, harm)
    const sent = kernel.run({ ...program, steps })
    // whoever asks for the result gets the error
    sent.catch(() => {})
    const result = async (): Promise<BothSides> => {
      const ours = early ?? this.#runEngine(engine, program, job)
      const theirs = await sent
      if (theirs.length !== steps.length) throw new AgentTrouble('answers are missing')
      return { kernel: theirs, ...ours }
    }
    return { result }
  }

  /** Sends a program and waits. @throws AgentDied, AgentTrouble */
  async run(program: Program, job: number): Promise<BothSides> {
    const underWay = await this.send(program, job)
    return underWay.result()
  }

  #runEngine(driver: EngineDriver, program: Program, job: number): Omit<BothSides, 'kernel'> {
    const began = performance.now()
    this.onEngine(job)
    const engine = driver.runNow(program)
    this.onEngine(null)
    this.#engineTime += performance.now() - began
    return { engine, refusals: new Set(driver.refusals) }
  }

  async #of(theme: string): Promise<Drivers> {
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
}
