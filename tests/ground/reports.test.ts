/** Every failure that docs/spec lists as reported by users is rebuilt in a test, or docs/limits.md says why not. */
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { readSources, sourceFacts } from '../../scripts/rules/sources.ts'
import { readSpecReports } from '../../scripts/rules/spec.ts'
import { unaccountedReports } from '../../scripts/rules/tables.ts'
import { root } from './root.ts'

const reports = readSpecReports(`${root}/docs/spec`)

describe('failures that users reported (drivers.md §15)', () => {
  const tests = readSources(root, 'tests').filter(
    ({ file }) => file.endsWith('.test.ts') && !file.startsWith('tests/ground/'),
  )
  const limits = readFileSync(`${root}/docs/limits.md`, 'utf8')

  it('are numbered without a gap', () => {
    expect(reports.map(({ name }) => name)).toEqual(reports.map((_, i) => `DRV report ${i + 1}`))
    expect(reports.length).toBeGreaterThan(40)
  })

  it.each(reports)('$name: $symptom', (report) => {
    expect(unaccountedReports([report], tests, limits)).toEqual([])
  })
})

describe('a row that nobody rebuilt', () => {
  const row = reports.slice(0, 1)
  const missing = ['DRV report 1 (drivers.md) has no test and no row in docs/limits.md']

  it('fails without a test of its name, and with a skipped one', () => {
    expect(unaccountedReports(row, [], '')).toEqual(missing)
    expect(unaccountedReports(row, [sourceFacts('a.test.ts', "it.skip('DRV report 1: x', f)")], '')).toEqual(
      missing,
    )
    expect(unaccountedReports(row, [sourceFacts('a.test.ts', "it('DRV report 11: x', f)")], '')).toEqual(
      missing,
    )
  })

  it('passes with a test of its name, or a row of docs/limits.md', () => {
    expect(unaccountedReports(row, [sourceFacts('a.test.ts', "it('DRV report 1: x', f)")], '')).toEqual([])
    expect(unaccountedReports(row, [], '| what | DRV report 1 | why |')).toEqual([])
  })
})
