import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { readSpecRules, tableCells } from '../../scripts/rules/spec.ts'
import { root } from './root.ts'

const page = readFileSync(`${root}/docs/how-it-works.md`, 'utf8')

function unique(matches: Iterable<RegExpMatchArray>): string[] {
  return [...new Set([...matches].map((match) => match[1]!))].sort()
}

/** Backticked, and in the drawings. */
const paths = unique(page.matchAll(/(?<![\w./])((?:src|tests|examples)\/[\w./-]*[\w-])/g))
const links = unique(page.matchAll(/\]\(([^)#]+)\)/g))
const rules = unique(page.matchAll(/`(R-[A-Z]+-\d+)`/g))

/** Rows of the structure table: names of ours and the file each of them is in. */
const structures = page
  .split('\n')
  .map(tableCells)
  .filter((cells) => cells !== undefined && cells.length === 4 && cells[2]!.startsWith('`src/'))
  .map((cells) => ({
    linux: cells![0]!,
    names: [...cells![1]!.matchAll(/`(\w+)`/g)].map((match) => match[1]!),
    file: cells![2]!.replaceAll('`', ''),
    notes: [...cells![3]!.matchAll(/`(\w+)`/g)].map((match) => match[1]!),
  }))

/** The name is declared there, re-exported from there, or a member of something declared there. */
function declares(source: string, name: string): boolean {
  return new RegExp(
    [
      `^export (?:declare )?(?:abstract )?(?:class|interface|type|const|let|function\\*?) ${name}\\b`,
      `^export \\{[^}]*\\b${name}\\b[^}]*\\}`,
      `^  (?:readonly |get |static )*${name}(?:[?!]?:|\\(| =)`,
    ].join('|'),
    'm',
  ).test(source)
}

const engineText = readdirSync(`${root}/src`, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.ts'))
  .map((name) => readFileSync(`${root}/src/${name}`, 'utf8'))
  .join('\n')

describe('docs/how-it-works.md', () => {
  it('has a structure table, paths and rules to check', () => {
    expect(structures.length).toBeGreaterThan(30)
    expect(paths.length).toBeGreaterThan(30)
    expect(rules.length).toBeGreaterThan(10)
  })

  it.each(paths)('%s exists', (path) => {
    expect(existsSync(`${root}/${path}`)).toBe(true)
  })

  it.each(links)('the link to %s leads somewhere', (link) => {
    expect(existsSync(`${root}/docs/${link}`)).toBe(true)
  })

  it.each(structures)('$linux: $names in $file', ({ names, file }) => {
    const source = readFileSync(`${root}/${file}`, 'utf8')
    expect(names).not.toEqual([])
    expect(names.filter((name) => !declares(source, name))).toEqual([])
  })

  it('names in the notes of the structure table are names of the source', () => {
    const missing = structures.flatMap((row) => row.notes).filter((name) => !declares(engineText, name))
    expect(missing).toEqual([])
  })

  it('cites rules that the specification has', () => {
    const known = readSpecRules(`${root}/docs/spec`)
    expect(rules.filter((rule) => !known.has(rule))).toEqual([])
  })

  it('names functions and classes outside the table that the source has', () => {
    const prose = page.replaceAll(/```[\s\S]*?```/g, '')
    const ours = unique(prose.matchAll(/`([a-z]+[A-Z]\w*|[A-Z][a-z]+\w*[A-Z]\w*)(?:\(.*?\))?`/g))
    const linux = new Set(['PageAnonExclusive'])
    expect(ours.length).toBeGreaterThan(10)
    expect(ours.filter((name) => !linux.has(name) && !declares(engineText, name))).toEqual([])
  })
})
