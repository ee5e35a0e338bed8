import { readdirSync } from 'node:fs'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { errnosPage } from '../../scripts/rules/errnos.ts'
import { ruleSentence } from '../../scripts/rules/sentence.ts'
import { readSpecRules } from '../../scripts/rules/spec.ts'
import { EAGAIN, EBADFD, EFAULT, EHWPOISON, EINVAL, ENOMEM, EPERM } from '../../src/base/errno.ts'
import { reportConformJson, reportSummary, type ConformHead } from '../../src/cli/report-conform.ts'
import { errnoText } from '../../src/conform/errno-text.ts'
import { expectedErrnos, unseenErrnos } from '../../src/conform/expected-errnos.ts'
import { readPrograms } from '../../src/conform/failure-file.ts'
import { ConformRun, type RunSummary } from '../../src/conform/run.ts'
import { OPS, type Op } from '../../src/conform/steps.ts'
import { themes, themeOf, type ThemeName } from '../../src/conform/themes.ts'

const all = Object.keys(themes) as ThemeName[]
const errnos = expectedErrnos.flatMap(({ call, errnos: own }) => own.map((each) => ({ call, ...each })))

/** What a run of `basic` and others is told, with these answers of the kernel. */
function summaryOf(answers: Partial<Record<Op, Readonly<Record<string, number>>>>): RunSummary {
  const { summary } = new ConformRun([])
  for (const [op, outcomes] of Object.entries(answers))
    summary.answers.set(op, new Map(Object.entries(outcomes)))
  return summary
}

const head: ConformHead = {
  release: '6.18.44',
  who: 'root',
  engine: '6.18',
  seed: 1,
  jobs: 1,
  seconds: 1,
  interrupted: null,
  themes: ['basic'],
  off: [],
  hidden: [],
  notSet: [],
}
const LINE = 'errnos of the specifications that the kernel did not answer: '

function unseenLine(summary: RunSummary, more: Partial<ConformHead> = {}): string | undefined {
  const lines = reportSummary(summary, { ...head, ...more }, new Map(), null).split('\n')
  return lines.find((line) => line.startsWith(LINE))?.slice(LINE.length)
}

describe('errnos that docs/spec names for the calls of the step list', () => {
  it('every kind of step has its call, in one place', () => {
    const listed = expectedErrnos.filter(({ completions }) => completions !== true).flatMap(({ ops }) => ops)
    expect(listed.toSorted()).toEqual(OPS.toSorted())
  })

  it('a call without errnos says why, a call with errnos names each once', () => {
    for (const { call, errnos: own, why } of expectedErrnos) {
      expect([call, own.length === 0], call).toEqual([call, why !== undefined])
      expect(new Set(own.map(({ errno }) => errno)).size, call).toBe(own.length)
    }
  })

  it('every rule exists and names the errno', () => {
    const rules = readSpecRules(path.join(import.meta.dirname, '../../docs/spec'))
    for (const { call, errno, rules: named } of errnos) {
      expect(named.length, `${call} ${errno}`).toBeGreaterThan(0)
      for (const id of named) {
        const [base, item] = id.split('.') as [string, string | undefined]
        const rule = rules.get(base)
        expect(rule && ruleSentence(rule, item), `${call} ${errno} ${id}`).toBeDefined()
        if (item === undefined) expect(rule?.text, `${call} ${errno} ${id}`).toContain(errno)
      }
    }
  })

  it('what cannot be reached, or was not yet, says why, and not both', () => {
    for (const { call, errno, unreachable, notYet } of errnos) {
      expect(unreachable === '' || notYet === '', `${call} ${errno}`).toBe(false)
      expect(unreachable !== undefined && notYet !== undefined, `${call} ${errno}`).toBe(false)
    }
  })

  it('what needs another step can be met: a theme or a program of tests/conformance has the step', () => {
    const corpora = path.join(import.meta.dirname, '../conformance')
    const programs = readdirSync(corpora).flatMap((file) => readPrograms(path.join(corpora, file)))
    const made = new Set([
      ...all.flatMap((name) => Object.keys(themeOf(name).weights)),
      ...programs.flatMap(({ program }) => program.steps.map(({ op }) => op)),
    ])
    for (const { call, errno, needs = [] } of errnos)
      expect(
        needs.filter((op) => !made.has(op)),
        `${call} ${errno}`,
      ).toEqual([])
  })

  it('is shown as a table, each errno with its rules', () => {
    const page = errnosPage()
    expect(page).toContain('| munmap (`munmap`) | EINVAL: R-AS-59, R-AS-60 | yes |\n')
    expect(page).toContain('| ENOMEM: R-AS-52, R-AS-60 | no: needs 65,530 mappings')
    expect(page.match(/^\| .* \|$/gm)).toHaveLength(
      1 + errnos.length + expectedErrnos.filter((call) => call.errnos.length === 0).length,
    )
  })
})

describe('the line about errnos that a run did not see', () => {
  const mmap = { [EINVAL]: 1, [ENOMEM]: 1, 17: 1, 13: 1, 19: 1, 26: 1, ok: 3 }
  const others = { munmap: { [EINVAL]: 2 }, mprotect: { [EINVAL]: 1, [ENOMEM]: 4 } }

  it('names the call, the errno and its rules, for the themes of the run', () => {
    const line = unseenLine(summaryOf({ mmap: { ...mmap }, ...others, munmap: { ok: 9 } }))
    expect(line).toBe('munmap: EINVAL (R-AS-59 R-AS-60)')
    expect(unseenLine(summaryOf({}))).toContain('mprotect: ENOMEM (R-AS-62 R-AS-63)')
    expect(unseenLine(summaryOf({}))).not.toMatch(/madvise|EINTR|EPERM/)
  })

  it('is not there when all were seen, or when the programs come out of files', () => {
    expect(unseenLine(summaryOf({ mmap, ...others }))).toBeUndefined()
    expect(unseenLine(summaryOf({}), { seed: null })).toBeUndefined()
  })

  it('asks for what another step leads to only where that step is made', () => {
    const named = (name: ThemeName): string[] =>
      unseenErrnos(new Map(), [name], '6.18').map(({ call, errno }) => `${call} ${errno}`)
    expect(named('space')).not.toContain('munmap EPERM')
    expect(named('seal')).toContain('munmap EPERM')
  })

  it.each([
    ['6.1', ['ENOSYS']],
    ['6.12', ['EINVAL', 'ENOMEM']],
    ['6.18', ['EINVAL', 'ENOMEM']],
  ])('R-AS-115 on %s mseal may answer %s', (release, expected) => {
    const unseen = unseenErrnos(new Map(), ['seal'], release).filter(({ call }) => call === 'mseal')
    expect(unseen.map(({ errno }) => errno)).toEqual(expected)
  })

  it('tells what calls return from what their requests complete with', () => {
    const unseen = (outcomes: Record<string, number>): string[] =>
      unseenErrnos(new Map([['transfer', new Map(Object.entries(outcomes))]]), ['fixed-io'], '6.18')
        .filter(({ call }) => call === 'completions of reads and writes')
        .map(({ errno }) => errno)
    expect(unseen({ [EFAULT]: 1 })).toContain('EFAULT')
    expect(unseen({ [`completion ${EFAULT}`]: 1 })).not.toContain('EFAULT')
  })

  it('JSON has the same', () => {
    const json = reportConformJson(summaryOf({ mmap, ...others, munmap: {} }), head, new Map(), null)
    expect(JSON.parse(json)).toMatchObject({
      unseenErrnos: [{ call: 'munmap', errno: 'EINVAL', rules: ['R-AS-59', 'R-AS-60'] }],
    })
  })
})

describe('answers of the kernel in the report', () => {
  it.each([
    [EAGAIN, 'EAGAIN'],
    [EBADFD, 'EBADFD'],
    [EHWPOISON, 'EHWPOISON'],
    [95, 'EOPNOTSUPP'],
    [21, 'EISDIR'],
    [4000, 'errno 4000'],
  ])('%i is %s', (errno, name) => expect(errnoText(errno)).toBe(name))

  it('have names, those of completions, too', () => {
    const summary = summaryOf({ batch: { [EBADFD]: 2, [`completion ${EPERM}`]: 1 } })
    expect(reportSummary(summary, head, new Map(), null)).toContain('  batch: EBADFD 2, completion EPERM 1\n')
  })
})
