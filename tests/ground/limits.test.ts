import { readFileSync, readdirSync } from 'node:fs'
import path from 'node:path'
import { describe, expect, it } from 'vitest'

const root = path.join(import.meta.dirname, '..', '..')
const limits = readFileSync(path.join(root, 'docs', 'limits.md'), 'utf8')

/** Every place in src that throws Unmodelled, with the rules its call names. */
const places = readdirSync(path.join(root, 'src'), { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.ts'))
  .flatMap((name) => {
    const text = readFileSync(path.join(root, 'src', name), 'utf8')
    return [...text.matchAll(/new Unmodelled\((?:[^'"`]|'[^']*'|`[^`]*`)*?'(R-[A-Z]+-\d+)'/g)].map(
      (match) => ({
        file: name,
        rule: match[1]!,
      }),
    )
  })

describe('docs/limits.md', () => {
  it('finds the places that throw Unmodelled', () => {
    expect(places.length).toBeGreaterThan(10)
  })

  it.each(places)('lists what $file throws as Unmodelled under $rule', ({ rule }) => {
    expect(limits).toMatch(new RegExp(`${rule}(?!\\d)`))
  })
})
