import { existsSync, readFileSync } from 'node:fs'
import { format } from 'prettier'
import { callersPage } from './callers.ts'
import { errnosPage } from './errnos.ts'
import { ruleSentence } from './sentence.ts'
import { readSources } from './sources.ts'
import type { SourceFacts } from './sources.ts'
import { readSpecReports, readSpecRules, readSpecVectors, specFiles } from './spec.ts'
import type { SpecReport, SpecRule, SpecVector } from './spec.ts'

const idInText = /\bR-[A-Z][A-Z0-9]*-\d+(?:\.\w+)?/g
const vectorInText = /\b[A-Z]+ vector H?\d+(?!\w)/g
const reportInText = /\b[A-Z]+ report \d+(?!\w)/g

/** What the sources claim and what is wrong with it, and the generated files by path. */
export type RuleTables = {
  files: Map<string, string>
  problems: string[]
  /** Rules and reported failures that must be implemented, or tested, or named in docs/limits.md and are not. */
  unaccounted: string[]
}

/** Reads docs/spec, src and tests under `root` and computes the generated files. Writes nothing. */
export async function ruleTables(root: string): Promise<RuleTables> {
  const rules = readSpecRules(`${root}/docs/spec`)
  const vectors = readSpecVectors(`${root}/docs/spec`)
  const reports = readSpecReports(`${root}/docs/spec`)
  const src = readSources(root, 'src')
  const tests = readSources(root, 'tests').filter(
    (facts) => facts.file.endsWith('.test.ts') && !facts.file.startsWith('tests/ground/'),
  )
  const problems = [
    ...problemsOfRules(rules, src),
    ...problemsOfNames(vectors, tests, vectorsNamed),
    ...problemsOfNames(reports, tests, reportsNamed),
  ]
  const limitsFile = `${root}/docs/limits.md`
  const limits = existsSync(limitsFile) ? readFileSync(limitsFile, 'utf8') : ''
  const unaccounted = [...unaccountedRules(rules, src, limits), ...unaccountedReports(reports, tests, limits)]
  const files = new Map<string, string>()
  files.set('src/explain/rules.generated.ts', await sentencesFile(rules, src))
  files.set('docs/rules.md', rulesPage(rules, src, tests))
  files.set('docs/vectors.md', vectorsPage(vectors, reports, tests, limits))
  const callers = callersPage(root)
  files.set('docs/callers.md', callers.text)
  problems.push(...callers.problems)
  files.set('docs/errnos.md', errnosPage())
  return { files, problems, unaccounted }
}

/** `R-GUP-16.7` → `R-GUP-16`, `7`. */
function splitItem(id: string): [rule: string, item: string | undefined] {
  const dot = id.indexOf('.')
  return dot < 0 ? [id, undefined] : [id.slice(0, dot), id.slice(dot + 1)]
}

function sentenceOf(rules: ReadonlyMap<string, SpecRule>, id: string): string | undefined {
  const [base, item] = splitItem(id)
  const rule = rules.get(base)
  return rule && ruleSentence(rule, item)
}

/** Rule ids that appear in string literals of src: what explain and error messages can print. */
function namedInStrings(facts: SourceFacts): string[] {
  return facts.strings.flatMap((text) => text.match(idInText) ?? [])
}

function problemsOfRules(rules: ReadonlyMap<string, SpecRule>, src: readonly SourceFacts[]): string[] {
  const tagged = new Set(src.flatMap((facts) => facts.tags.map((id) => splitItem(id)[0])))
  return src.flatMap((facts) => {
    const unknown = [...new Set([...facts.tags, ...namedInStrings(facts)])]
      .filter((id) => sentenceOf(rules, id) === undefined)
      .map((id) => `${facts.file}: names ${id}, which docs/spec does not define`)
    const untagged = [...new Set(facts.reasons)]
      .filter((id) => !tagged.has(splitItem(id)[0]))
      .map((id) => `${facts.file}: gives ${id} as a reason, but no check in src carries "@rule ${id}"`)
    return [...unknown, ...untagged]
  })
}

/** Files of docs/spec of which every rule is either implemented or named in docs/limits.md with a reason. */
const accountedFiles: ReadonlySet<string> = new Set([
  'gup.md',
  'address-space.md',
  'faults.md',
  'huge-pages.md',
  'io-uring.md',
  'remote-access.md',
  'drivers.md',
])

function unaccountedRules(
  rules: ReadonlyMap<string, SpecRule>,
  src: readonly SourceFacts[],
  limits: string,
): string[] {
  const tagged = new Set(src.flatMap((facts) => facts.tags.map((id) => splitItem(id)[0])))
  const named = new Set(limits.match(idInText)?.map((id) => splitItem(id)[0]))
  return [...rules.values()]
    .filter(({ id, file }) => accountedFiles.has(file) && !tagged.has(id) && !named.has(id))
    .map(({ id, file }) => `${id} (${file}) has no "@rule" in src and no row in docs/limits.md`)
}

function problemsOfNames(
  rows: readonly { readonly name: string }[],
  tests: readonly SourceFacts[],
  named: (facts: SourceFacts) => string[],
): string[] {
  const known = new Set(rows.map((row) => row.name))
  const prefixes = new Set(rows.map((row) => row.name.split(' ')[0]))
  return tests.flatMap((facts) =>
    named(facts)
      .filter((name) => prefixes.has(name.split(' ')[0]) && !known.has(name))
      .map((name) => `${facts.file}: names "${name}", which docs/spec does not have`),
  )
}

function vectorsNamed(facts: SourceFacts): string[] {
  return facts.strings.flatMap((text) => text.match(vectorInText) ?? [])
}

function reportsNamed(facts: SourceFacts): string[] {
  return facts.strings.flatMap((text) => text.match(reportInText) ?? [])
}

/** Failures that people reported, that no test rebuilds and of which docs/limits.md does not say why. */
export function unaccountedReports(
  reports: readonly SpecReport[],
  tests: readonly SourceFacts[],
  limits: string,
): string[] {
  const accounted = new Set([...tests.flatMap(reportsNamed), ...(limits.match(reportInText) ?? [])])
  return reports
    .filter(({ name }) => !accounted.has(name))
    .map(({ name, file }) => `${name} (${file}) has no test and no row in docs/limits.md`)
}

async function sentencesFile(
  rules: ReadonlyMap<string, SpecRule>,
  src: readonly SourceFacts[],
): Promise<string> {
  const ids = [...new Set(src.flatMap((facts) => [...facts.tags, ...namedInStrings(facts)]))]
  const rows = ids
    .filter((id) => sentenceOf(rules, id) !== undefined)
    .sort(byId)
    .map((id) => `  ${JSON.stringify(id)}: ${JSON.stringify(sentenceOf(rules, id))},`)
  const text = [
    '// Generated from docs/spec by `npm run rules`; edit the rule there.',
    '',
    '/** One plain sentence per rule that src names, by rule id. */',
    'export const ruleSentences: Readonly<Record<string, string>> = {',
    ...rows,
    '}',
    '',
  ].join('\n')
  return format(text, {
    parser: 'typescript',
    semi: false,
    singleQuote: true,
    printWidth: 110,
    trailingComma: 'all',
  })
}

function rulesPage(
  rules: ReadonlyMap<string, SpecRule>,
  src: readonly SourceFacts[],
  tests: readonly SourceFacts[],
): string {
  const implementedIn = placesOfTags(src)
  const testedIn = filesBy(tests, (facts) => namedInStrings(facts).map((id) => splitItem(id)[0]))
  const lines = [
    '# Rules and where they live',
    '',
    'Generated by `npm run rules` from the `@rule` tags in `src/` and the test names in `tests/`.',
    'A rule is pending until a check in `src/` carries its tag; that a rule has a tag says that code for it',
    'exists, the named tests say what of it is exercised.',
    '',
    `${implementedIn.size} of ${rules.size} rules implemented.`,
    '',
  ]
  for (const [file] of specFiles) {
    const ofFile = [...rules.values()].filter((rule) => rule.file === file)
    const done = ofFile.filter((rule) => implementedIn.has(rule.id))
    const pending = ofFile.filter((rule) => !implementedIn.has(rule.id))
    lines.push(`## ${file}: ${done.length} of ${ofFile.length}`, '')
    if (done.length > 0) {
      lines.push('| rule | implemented in | tests that name it |', '|---|---|---|')
      for (const { id } of done) {
        lines.push(`| ${id} | ${fileList(implementedIn.get(id))} | ${fileList(testedIn.get(id)) || '–'} |`)
      }
      lines.push('')
    }
    if (pending.length > 0) lines.push(`Pending: ${pending.map((rule) => rule.id).join(', ')}.`, '')
  }
  return lines.join('\n')
}

function vectorsPage(
  vectors: readonly SpecVector[],
  reports: readonly SpecReport[],
  tests: readonly SourceFacts[],
  limits: string,
): string {
  const coveredIn = filesBy(tests, vectorsNamed)
  const covered = vectors.filter((vector) => coveredIn.has(vector.name))
  const lines = [
    '# Test vectors and the tests that cover them',
    '',
    'Generated by `npm run rules`. A vector is covered when a test is named after it: the text',
    '`GUP vector 5` stands in a test name or in the first string of a data row of `tests/`.',
    '',
    `${covered.length} of ${vectors.length} vectors covered.`,
    '',
  ]
  for (const [file] of specFiles) {
    const ofFile = vectors.filter((vector) => vector.file === file)
    const done = ofFile.filter((vector) => coveredIn.has(vector.name)).length
    lines.push(
      `## ${file}: ${done} of ${ofFile.length}`,
      '',
      '| vector | setup → action | covered by |',
      '|---|---|---|',
    )
    for (const vector of ofFile) {
      lines.push(
        `| ${vector.name} | ${vector.action} | ${fileList(coveredIn.get(vector.name)) || 'pending'} |`,
      )
    }
    lines.push('')
  }
  return [...lines, ...reportLines(reports, tests, limits)].join('\n')
}

function reportLines(
  reports: readonly SpecReport[],
  tests: readonly SourceFacts[],
  limits: string,
): string[] {
  const rebuiltIn = filesBy(tests, reportsNamed)
  const unmodelled = new Set(limits.match(reportInText))
  const where = ({ name }: SpecReport): string =>
    fileList(rebuiltIn.get(name)) || (unmodelled.has(name) ? '`docs/limits.md`' : 'pending')
  return [
    `## Failures that users reported: ${reports.filter(({ name }) => rebuiltIn.has(name)).length} of ${reports.length} rebuilt`,
    '',
    '| report | symptom | what its thread ended with | rebuilt by |',
    '|---|---|---|---|',
    ...reports.map((report) => `| ${report.name} | ${report.symptom} | ${report.cause} | ${where(report)} |`),
    '',
  ]
}

/** Rule → `file:line` of its tags. */
function placesOfTags(sources: readonly SourceFacts[]): Map<string, string[]> {
  const places = new Map<string, string[]>()
  for (const { file, tags, tagLines } of sources) {
    for (const [i, id] of tags.entries()) {
      const [rule] = splitItem(id)
      places.set(rule, [...(places.get(rule) ?? []), `${file}:${tagLines[i]}`])
    }
  }
  return places
}

function filesBy(
  sources: readonly SourceFacts[],
  keys: (facts: SourceFacts) => string[],
): Map<string, string[]> {
  const files = new Map<string, string[]>()
  for (const facts of sources) {
    for (const key of new Set(keys(facts))) files.set(key, [...(files.get(key) ?? []), facts.file])
  }
  return files
}

function fileList(files: readonly string[] = []): string {
  return files.map((file) => `\`${file}\``).join(', ')
}

/** `R-GUP-9` before `R-GUP-16` before `R-GUP-16.7`. */
function byId(a: string, b: string): number {
  return a.localeCompare(b, 'en', { numeric: true })
}
