import { readFileSync, readdirSync } from 'node:fs'

/** A rule of docs/spec as it is written there. */
export type SpecRule = { id: string; file: string; text: string }

/** One row of a "Test vectors" table. `name` is what tests call it: `GUP vector 5`, `HUGE vector H5`. */
export type SpecVector = { name: string; file: string; action: string }

/** One row of a "Failures users report" table. `name` is what tests call it: `DRV report 5`. */
export type SpecReport = { name: string; file: string; symptom: string; cause: string }

/** Files of docs/spec in the order the documents are read, with the prefix their vectors carry in tests. */
export const specFiles: ReadonlyArray<readonly [file: string, vectorPrefix: string]> = [
  ['gup.md', 'GUP'],
  ['address-space.md', 'AS'],
  ['faults.md', 'FLT'],
  ['huge-pages.md', 'HUGE'],
  ['io-uring.md', 'URING'],
  ['host-observation.md', 'HOST'],
  ['remote-access.md', 'REMOTE'],
  ['drivers.md', 'DRV'],
]

const idPattern = 'R-[A-Z][A-Z0-9]*-\\d+'
const lineStart = new RegExp(`^(?:- )?(\\*\\*)?(${idPattern})(?:\\.\\s+|\\*\\*\\s*|\\s+|$)(.*)$`)
const midLine = new RegExp(`\\. (${idPattern}) (?=\\w)`)

/** Every rule of docs/spec by id. Throws when a file is unknown or an id is given twice. */
export function readSpecRules(directory: string): Map<string, SpecRule> {
  const known = new Set(specFiles.map(([file]) => file))
  const unknown = readdirSync(directory).filter((file) => file.endsWith('.md') && !known.has(file))
  if (unknown.length > 0)
    throw new Error(`docs/spec has files scripts/rules/spec.ts does not list: ${unknown}`)
  const rules = new Map<string, SpecRule>()
  for (const [file] of specFiles) {
    for (const rule of rulesOf(file, readFileSync(`${directory}/${file}`, 'utf8'))) {
      const twin = rules.get(rule.id)
      if (twin) throw new Error(`${rule.id} is defined in ${twin.file} and in ${file}`)
      rules.set(rule.id, rule)
    }
  }
  return rules
}

/** The rules of one file: a rule begins at the start of a line and ends at the next rule or heading. */
function rulesOf(file: string, markdown: string): SpecRule[] {
  const rules: SpecRule[] = []
  let current: SpecRule | undefined
  for (const line of markdown.split('\n')) {
    const start = lineStart.exec(line)
    if (start) {
      current = { id: start[2]!, file, text: start[3]! }
      rules.push(current)
    } else if (line.startsWith('#')) {
      current = undefined
    } else if (current) {
      current.text += `\n${line}`
    }
  }
  return rules.flatMap(splitAtInnerRule)
}

/** Some paragraphs carry a second rule in the middle of a line ("… errno. R-QIB-2 error: …"). */
function splitAtInnerRule(rule: SpecRule): SpecRule[] {
  const inner = midLine.exec(rule.text)
  if (!inner) return [rule]
  const before = { ...rule, text: rule.text.slice(0, inner.index + 1) }
  const after = { id: inner[1]!, file: rule.file, text: rule.text.slice(inner.index + inner[0].length) }
  return [before, ...splitAtInnerRule(after)]
}

/** The rows of every table in the "Test vectors" sections, in the order of `specFiles`. */
export function readSpecVectors(directory: string): SpecVector[] {
  return specFiles.flatMap(([file, prefix]) =>
    vectorsOf(file, prefix, readFileSync(`${directory}/${file}`, 'utf8')),
  )
}

/** Failures that people reported in public, with what their threads ended with. */
export function readSpecReports(directory: string): SpecReport[] {
  return specFiles.flatMap(([file, prefix]) => {
    const section = sectionOf(readFileSync(`${directory}/${file}`, 'utf8'), 'Failures users report')
    const rows = section?.split('\n').map(tableCells) ?? []
    return rows
      .filter((cells) => cells !== undefined && /^\d+$/.test(cells[0]!))
      .map((cells) => ({
        name: `${prefix} report ${cells![0]}`,
        file,
        symptom: cells![1]!,
        cause: cells![3]!,
      }))
  })
}

/** What stands between a heading that begins so and the next one; undefined without it. */
function sectionOf(markdown: string, title: string): string | undefined {
  return new RegExp(`^## \\d+\\. ${title}.*$([\\s\\S]*?)(?=^## |$(?![\\s\\S]))`, 'm').exec(markdown)?.[1]
}

function vectorsOf(file: string, prefix: string, markdown: string): SpecVector[] {
  const section = sectionOf(markdown, 'Test vectors')
  if (section === undefined) throw new Error(`${file} has no section "Test vectors"`)
  const vectors: SpecVector[] = []
  let actionColumn = 1
  for (const line of section.split('\n')) {
    const cells = tableCells(line)
    if (!cells) continue
    if (cells[0] === '#') actionColumn = cells.findIndex((cell) => /action/i.test(cell))
    else if (/^H?\d+$/.test(cells[0]!)) {
      vectors.push({ name: `${prefix} vector ${cells[0]}`, file, action: cells[actionColumn]! })
    }
  }
  return vectors
}

/** The trimmed cells of a markdown table row, `\|` being a literal bar; undefined for any other line. */
export function tableCells(line: string): string[] | undefined {
  if (!line.startsWith('|')) return undefined
  return line
    .replace(/\|\s*$/, '')
    .slice(1)
    .split(/(?<!\\)\|/)
    .map((cell) => cell.trim())
}
