import { readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import type { GuestSeries } from '../host/guest/kernel.ts'
import { hostSettings } from './host-oracle.ts'
import { ThreadWorker } from './thread-worker.ts'
import type { ThemeName } from './themes.ts'
import type { OtherSide } from './worker-messages.ts'

/** Workers that talk to one kernel. */
export interface Crew extends OtherSide {
  readonly workers: readonly ThreadWorker[]
  /** settings of the machine that could not be made, one clause each */
  readonly notSet: readonly string[]
  /** Ends the agents and threads and puts the settings of the machine back. May be called twice. */
  stop(): Promise<void>
}

/** More agents than this only wait for each other: programs that pin run one at a time. */
const MOST_JOBS = 8

/** As many workers as there are processors; a guest is a whole machine of its own and keeps one busy by itself. */
export function defaultJobs(kernel: 'host' | GuestSeries): number {
  const processors = availableParallelism()
  return kernel === 'host' ? Math.min(processors, MOST_JOBS) : Math.max(1, Math.floor(processors / 2))
}

/**
 * Prepares the machine and starts workers, each with agents on a processor of its own, or a guest of its own.
 * @throws HostError
 */
export async function startCrew(
  kernel: 'host' | GuestSeries,
  themes: readonly ThemeName[],
  jobs: number,
): Promise<Crew> {
  const settings = kernel === 'host' ? hostSettings(themes) : null
  const processors = kernel === 'host' ? allowedProcessors() : []
  const atEnd = settings ?? { atEnd: () => {} }
  const started: ThreadWorker[] = []
  const stop = async (): Promise<void> => {
    await Promise.all(started.map((worker) => worker.stop()))
    await settings?.restore()
  }
  const start = async (number: number): Promise<OtherSide> => {
    const cpu = processors.length === 0 ? null : processors[number % processors.length]!
    const worker = new ThreadWorker({ kernel, themes, cpu }, atEnd)
    started.push(worker)
    return worker.ready
  }
  try {
    // the first one builds or fetches what all of them need
    const other = await start(0)
    await Promise.all(Array.from({ length: jobs - 1 }, (_, i) => start(i + 1)))
    return { ...other, workers: started, notSet: settings?.notSet ?? [], stop }
  } catch (error) {
    await stop()
    throw error
  }
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
