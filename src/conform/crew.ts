import { readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import type { GuestSeries } from '../host/guest/kernel.ts'
import { hostSettings } from './host-oracle.ts'
import type { CoverageGrain } from './rule-coverage.ts'
import { ThreadWorker } from './thread-worker.ts'
import type { ThemeName } from './themes.ts'
import type { OtherSide } from './worker-messages.ts'

/** Workers that talk to one kernel. */
export interface Crew {
  readonly workers: readonly ThreadWorker[]
  /** What they talk to, once all of them do. @throws HostError */
  readonly ready: Promise<OtherSide>
  /** settings of the machine that could not be made, one clause each */
  readonly notSet: readonly string[]
  /** Places of `enginePlaces()` that the engine came to; null: this Node cannot count. */
  reached(): Promise<ReadonlySet<number> | null>
  /** Ends the agents and threads and puts the settings of the machine back. May be called twice, and early. */
  stop(): Promise<void>
}

/** What a crew is for. */
export interface CrewTask {
  readonly kernel: 'host' | GuestSeries
  readonly themes: readonly ThemeName[]
  readonly jobs: number
  /** how closely is looked which tagged code of the engine is run */
  readonly coverage: CoverageGrain
}

/** More agents than this only wait for each other: programs that pin run one at a time. */
const MOST_JOBS = 8

/** As many workers as there are processors; a guest is a whole machine of its own and keeps one busy by itself. */
export function defaultJobs(kernel: 'host' | GuestSeries): number {
  const processors = availableParallelism()
  return kernel === 'host' ? Math.min(processors, MOST_JOBS) : Math.max(1, Math.floor(processors / 2))
}

/** Prepares the machine and starts workers, each with agents on a processor of its own, or a guest of its own. */
export function startCrew({ kernel, themes, jobs, coverage }: CrewTask): Crew {
  const settings = kernel === 'host' ? hostSettings(themes) : null
  const processors = kernel === 'host' ? allowedProcessors() : []
  const atEnd = settings ?? { atEnd: () => {} }
  const workers: ThreadWorker[] = []
  let stopped = false
  const stop = async (): Promise<void> => {
    stopped = true
    await Promise.all(workers.map((worker) => worker.stop()))
    await settings?.restore()
  }
  const start = (number: number): Promise<OtherSide> => {
    const cpu = processors.length === 0 ? null : processors[number % processors.length]!
    const worker = new ThreadWorker({ kernel, themes, cpu, coverage }, atEnd)
    workers.push(worker)
    return worker.ready
  }
  const startAll = async (): Promise<OtherSide> => {
    try {
      // the first one builds or fetches what all of them need
      const other = await start(0)
      if (!stopped) await Promise.all(Array.from({ length: jobs - 1 }, (_, i) => start(i + 1)))
      return other
    } catch (error) {
      await stop()
      throw error
    }
  }
  const reached = async (): Promise<ReadonlySet<number> | null> => {
    if (!process.features.inspector) return null
    const each = await Promise.all(workers.map((worker) => worker.reached()))
    return new Set(each.flatMap((places) => [...places]))
  }
  return { workers, ready: startAll(), notSet: settings?.notSet ?? [], reached, stop }
}

/** Numbers of the processors this process may run on. */
function allowedProcessors(): number[] {
  const list = /^Cpus_allowed_list:\s*(\S+)$/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1] ?? ''
  return list.split(',').flatMap((part) => {
    const [first, last = first] = part.split('-').map(Number)
    return first === undefined || !(first >= 0) || last === undefined
      ? []
      : Array.from({ length: last - first + 1 }, (_, i) => first + i)
  })
}
