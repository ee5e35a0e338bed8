import { isReleaseName, RELEASE_NAMES, releases, type ReleaseName } from '../base/release.ts'
import { Unmodelled } from '../base/unmodelled.ts'
import { devZero, runGupTest, type GupTestResult, type GupTestRun } from '../gup-test/run.ts'
import { GUP_TEST_FLAG_DUMP_PAGES_USE_PIN, GUP_TEST_MAX_PAGES_TO_DUMP } from '../mm/gup-test.ts'
import { SignalError } from '../task/signal-error.ts'
import { SyscallError } from '../task/syscall-error.ts'
import { testedFile } from './gup-test-file.ts'
import type { Choices, GupTestOptions } from './gup-test-options.ts'
import { reportGupTest, reportGupTestJson } from './report-gup-test.ts'
import { UserError } from './user-error.ts'

const MIB = 2 ** 20
const MOST_MIB = 65_536
const MOST_THREADS = 1024

/** What `gup-test` does. @throws UserError */
export function runGupTestCommand(pages: readonly string[], options: GupTestOptions, choices: Choices): void {
  const run = readRun(pages, options, choices)
  let result: GupTestResult
  try {
    result = runGupTest(run)
  } catch (error) {
    process.stderr.write(`${whyItEnded(error, run)}\n`)
    process.exitCode = 1
    return
  }
  for (const line of result.log) process.stderr.write(`kernel log: ${line}\n`)
  for (const line of result.audit) process.stderr.write(`pinscope: the books do not balance: ${line}\n`)
  if (options.json === true) {
    process.stdout.write(reportGupTestJson(run, result))
    process.exitCode = result.threads.some(({ errno }) => errno !== null) ? 1 : 0
    return
  }
  if (run.release === '6.6')
    process.stderr.write('pinscope: what this program prints on 6.6 is not known; this is the text of 6.1\n')
  const { stdout, stderr, status } = reportGupTest(run, result)
  process.stdout.write(stdout)
  process.stderr.write(stderr)
  process.exitCode = status
}

/** @throws UserError */
function readRun(pages: readonly string[], options: GupTestOptions, choices: Choices): GupTestRun {
  const release = readRelease(options.kernel ?? 'gup-v3')
  const { command, dumpsFirst, write, thp } = choices
  const { flagValues } = releases[release].gup
  let gupFlags = numberOf('-F', options.F ?? '0')
  /** @rule R-GUP-107 */
  // the program writes the value that FOLL_TOUCH once had (R-GUP-107)
  if (options.z === true) gupFlags |= 2
  if (write) gupFlags |= flagValues['FOLL_WRITE']!
  const whichPages: number[] = dumpsFirst ? [1] : []
  if (pages.length > GUP_TEST_MAX_PAGES_TO_DUMP)
    throw new UserError(`${pages.length} page numbers; at most ${GUP_TEST_MAX_PAGES_TO_DUMP} can be dumped`)
  for (const [i, page] of pages.entries()) whichPages[i] = numberOf('page', page) + 1
  return {
    release,
    command,
    gupFlags,
    testFlags: options.p === true ? GUP_TEST_FLAG_DUMP_PAGES_USE_PIN : 0,
    size: countOf('-m', options.m ?? '128', MOST_MIB) * MIB,
    nrPagesPerCall: countOf('-n', options.n ?? '1', 2 ** 31 - 1),
    repeats: countOf('-r', options.r ?? '1', 1_000_000),
    threads: countOf('-j', options.j ?? '1', MOST_THREADS),
    thp,
    file: options.f === undefined ? devZero : testedFile(options.f, release),
    shared: options.S === true,
    hugetlb: options.H === true,
    touch: options.z !== true,
    whichPages,
    clock: () => performance.now() * 1000,
  }
}

function readRelease(name: string): ReleaseName {
  if (isReleaseName(name)) return name
  throw new UserError(`unknown kernel "${name}"; known are ${RELEASE_NAMES.join(', ')}`)
}

/** In any base of C: 16, 0x10, 020. */
function numberOf(option: string, text: string): number {
  const n = /^0[0-7]+$/.test(text) ? Number.parseInt(text, 8) : Number(text)
  if (!/^(0x[\da-f]+|\d+)$/i.test(text) || !Number.isSafeInteger(n) || n >= 2 ** 32)
    throw new UserError(`${option} "${text}" is not a number of 32 bits; write 3 or 0x10001`)
  return n
}

function countOf(option: string, text: string, most: number): number {
  const n = Number(text)
  if (!/^\d+$/.test(text) || n === 0 || n > most)
    throw new UserError(`${option} "${text}" is not a number from 1 to ${most}`)
  return n
}

/** One line in the manner of the program, for what ends it. */
function whyItEnded(error: unknown, { file }: GupTestRun): string {
  if (error instanceof SyscallError) return error.message
  if (error instanceof SignalError)
    return `${error.message}: memory of ${file.path} (${file.size} bytes) cannot be touched there`
  if (error instanceof Unmodelled) return `pinscope: ${error.message}`
  throw error
}
