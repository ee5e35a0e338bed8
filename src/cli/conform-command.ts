import { saveFailure, readPrograms } from '../conform/failure-file.ts'
import { startGuestOracle } from '../conform/guest-oracle.ts'
import { startHostOracle } from '../conform/host-oracle.ts'
import { themesOff, type KernelOracle } from '../conform/kernel-oracle.ts'
import { ProgramError } from '../conform/program.ts'
import { ConformRun, namedJobs, randomJobs, type Found, type Job } from '../conform/run.ts'
import { isThemeName, themes, type ThemeName } from '../conform/themes.ts'
import { GUEST_SERIES, type GuestSeries } from '../host/guest/kernel.ts'
import { HostError } from '../host/host-error.ts'
import { beforeInterrupt } from './interrupt.ts'
import { reportConformJson, reportFound, reportSummary, type ConformHead } from './report-conform.ts'
import { outputTerminal } from './terminal.ts'
import { UserError } from './user-error.ts'

interface ConformOptions {
  readonly kernel?: string
  readonly programs?: string
  readonly steps?: string
  readonly seed?: string
  readonly minutes?: string
  readonly only?: string
  readonly replay?: string
  readonly json?: true
}

const PROGRAMS = 1000
const STEPS = 40
/** ms between two lines of progress */
const PROGRESS = 2000

export async function runConform(options: ConformOptions): Promise<void> {
  const { kernel = 'host', replay } = options
  if (!isKernelName(kernel))
    throw new UserError(`unknown kernel "${kernel}"; known are host, ${GUEST_SERIES.join(', ')}`)
  const steps = wholeNumber('--steps', options.steps ?? String(STEPS))
  const minutes = options.minutes === undefined ? Infinity : positive('--minutes', options.minutes)
  const programs =
    options.programs === undefined && minutes < Infinity
      ? Infinity
      : wholeNumber('--programs', options.programs ?? String(PROGRAMS))
  const chosen = themesNamed(options.only)
  const seed = options.seed === undefined ? Date.now() % 2 ** 32 : wholeNumber('--seed', options.seed)
  const named = replay === undefined ? null : readOrRefuse(replay)

  const oracle = await startOrRefuse(
    kernel,
    named === null ? chosen : named.map(({ program }) => program.theme).filter(isThemeName),
  )
  beforeInterrupt(() => oracle.stop())
  try {
    const off = named === null ? themesOff(oracle.hello, chosen) : new Map<ThemeName, string>()
    const on = chosen.filter((name) => !off.has(name))
    if (named === null && on.length === 0)
      throw new UserError(`nothing to run: ${[...off].map(([name, why]) => `${name}: ${why}`).join('; ')}`)
    const head: ConformHead = {
      release: oracle.hello.release,
      who: oracle.hello.uid === 0 ? 'root' : `uid ${oracle.hello.uid}`,
      engine: oracle.release,
      seed: named === null ? seed : null,
      themes: named === null ? on : [...new Set(named.map(({ program }) => program.theme))],
      off: [...off].map(([name, why]) => `${name} (${why})`),
      hidden: oracle.hello.hidden,
    }
    const jobs = named === null ? randomJobs(seed, steps, on, programs) : namedJobs(named)
    await compareAll(oracle, jobs, minutes, head, options.json === true)
  } catch (error) {
    // agents and guests are also started on the way
    throw inOneLine(error)
  } finally {
    await oracle.stop()
  }
}

async function compareAll(
  oracle: KernelOracle,
  jobs: Iterable<Job>,
  minutes: number,
  head: ConformHead,
  json: boolean,
): Promise<void> {
  const run = new ConformRun(oracle)
  const files = new Map<Found, string>()
  const terminal = outputTerminal()
  const began = performance.now()
  let shown = began
  const stop = (): boolean => {
    const now = performance.now()
    if (now - shown >= PROGRESS) {
      shown = now
      const { programs, differing } = run.summary
      const rate = Math.round((programs / (now - began)) * 60_000)
      process.stderr.write(`pinscope: ${programs} programs, ${rate} a minute, ${differing} differences\n`)
    }
    return now - began > minutes * 60_000
  }
  const summary = await run.run(jobs, stop, (found) => {
    const file = saveFailure('conform-failures', found.name, found.seed, found.finding)
    files.set(found, file)
    if (!json) process.stdout.write(`${reportFound(found, file, terminal)}\n`)
  })
  process.stdout.write(json ? reportConformJson(summary, head, files) : reportSummary(summary, head))
  process.exitCode = summary.differing === 0 && summary.deaths.length === 0 ? 0 : 1
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

async function startOrRefuse(kernel: KernelName, names: readonly ThemeName[]): Promise<KernelOracle> {
  try {
    return kernel === 'host' ? await startHostOracle(names) : await startGuestOracle(kernel, names)
  } catch (error) {
    throw inOneLine(error)
  }
}

function inOneLine(error: unknown): unknown {
  return error instanceof HostError ? new UserError(error.message) : error
}
