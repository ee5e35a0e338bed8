import { releases } from '../base/release.ts'
import type { GupTestResult, GupTestRound, GupTestRun } from '../gup-test/run.ts'

/** What the program prints, and its exit status. */
export interface GupTestReport {
  readonly stdout: string
  readonly stderr: string
  readonly status: number
}

/** The output of the kernel's program, of the time of that release. */
export function reportGupTest(run: GupTestRun, result: GupTestResult): GupTestReport {
  return releases[run.release].gup.selftestOutput === 'tap' ? asTap(run, result) : asText(run, result)
}

/** @rule R-GUP-108 */
function asText(run: GupTestRun, { threads }: GupTestResult): GupTestReport {
  const out: string[] = []
  for (const { rounds, errno } of threads) {
    for (const round of rounds) {
      const short = round.size !== run.size
      if (isBenchmark(run)) {
        out.push(`${timeText(run, round)}${short ? `, truncated (size: ${round.size})` : ''}`)
      } else {
        out.push(`${run.command}: done`)
        if (short) out.push(`Truncated (size: ${round.size})`)
      }
    }
    // the process ends here, its other threads with it
    if (errno !== null) return { stdout: lines(out), stderr: `ioctl: ${errno}\n`, status: 1 }
  }
  return { stdout: lines(out), stderr: '', status: 0 }
}

/**
 * Every piece that the older program printed became a message of its own, hence the lonely `# `.
 * @rule R-GUP-109
 */
function asTap(run: GupTestRun, { threads }: GupTestResult): GupTestReport {
  const out = ['TAP version 13', `1..${threads.length}`]
  for (const [i, { rounds, errno }] of threads.entries()) {
    for (const round of rounds) {
      const short = round.size !== run.size
      if (isBenchmark(run)) {
        out.push(`# ${timeText(run, round)}${short ? `# , truncated (size: ${round.size})` : ''}# `)
      } else {
        out.push(`# ${run.command}: done`)
        if (short) out.push(`# Truncated (size: ${round.size})`)
      }
    }
    out.push(errno === null ? `ok ${i + 1} ioctl status 0` : `not ok ${i + 1} ioctl status -1`)
  }
  const failed = threads.filter(({ errno }) => errno !== null).length
  out.push(`# Totals: pass:${threads.length - failed} fail:${failed} xfail:0 xpass:0 skip:0 error:0`)
  return { stdout: lines(out), stderr: '', status: 0 }
}

/** For machines: what was run and what each thread saw. */
export function reportGupTestJson(run: GupTestRun, result: GupTestResult): string {
  const { release, command, size, nrPagesPerCall, gupFlags, testFlags, shared, hugetlb } = run
  const report = {
    schemaVersion: 1,
    release,
    command,
    size,
    nrPagesPerCall,
    gupFlags,
    testFlags,
    file: hugetlb ? null : run.file.path,
    shared,
    hugetlb,
    threads: result.threads,
    log: result.log,
  }
  return `${JSON.stringify(report, null, 2)}\n`
}

function isBenchmark({ command }: GupTestRun): boolean {
  return command.endsWith('_BENCHMARK')
}

function timeText({ command }: GupTestRun, { get, put }: GupTestRound): string {
  return `${command}: Time: get:${get} put:${put} us`
}

function lines(list: readonly string[]): string {
  return list.map((line) => `${line}\n`).join('')
}
