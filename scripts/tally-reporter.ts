import { writeSync } from 'node:fs'
import type { Reporter, SerializedError, TestCase, TestModule } from 'vitest/node'

type Tally = { passed: number; failed: number; skipped: number }

/**
 * Ends a run with every skipped test by name, what the tests against the live kernel came to, and the
 * closing figures alone on the last line: `N passed, N failed, N skipped`. A file that cannot be loaded
 * and an error outside any test count as one failure each.
 */
export default class TallyReporter implements Reporter {
  onTestRunEnd(
    modules: ReadonlyArray<TestModule>,
    unhandled: ReadonlyArray<SerializedError>,
    reason: 'passed' | 'interrupted' | 'failed',
  ): void {
    const total: Tally = { passed: 0, failed: unhandled.length, skipped: 0 }
    const live: Tally = { passed: 0, failed: 0, skipped: 0 }
    const lines: string[] = []
    for (const module of modules) {
      const tally = tallyOf(module)
      add(total, tally)
      if (module.relativeModuleId.startsWith('tests/live/')) add(live, tally)
      for (const test of module.children.allTests('skipped'))
        lines.push(`skipped: ${skippedLine(module, test)}`)
    }
    if (reason !== 'passed' && total.failed === 0) total.failed = 1
    if (live.passed + live.failed + live.skipped > 0)
      lines.push(`tests/live, on this kernel: ${figures(live)}`)
    lines.push(figures(total))
    // At exit, so that nothing another reporter prints comes after the last line.
    process.on('exit', () => writeSync(1, `${lines.join('\n')}\n`))
  }
}

function tallyOf(module: TestModule): Tally {
  const tally: Tally = { passed: 0, failed: module.errors().length, skipped: 0 }
  for (const suite of module.children.allSuites()) tally.failed += suite.errors().length
  for (const test of module.children.allTests()) {
    const state = test.result().state
    if (state === 'passed') tally.passed++
    else if (state === 'failed') tally.failed++
    else tally.skipped++
  }
  return tally
}

function add(sum: Tally, tally: Tally): void {
  sum.passed += tally.passed
  sum.failed += tally.failed
  sum.skipped += tally.skipped
}

function figures({ passed, failed, skipped }: Tally): string {
  return `${passed} passed, ${failed} failed, ${skipped} skipped`
}

function skippedLine(module: TestModule, test: TestCase): string {
  const result = test.result()
  const note = result.state === 'skipped' && result.note ? ` (${result.note})` : ''
  return `${module.relativeModuleId}: ${test.fullName}${note}`
}
