import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { ruleSentence } from '../../scripts/rules/sentence.ts'
import { sourceFacts } from '../../scripts/rules/sources.ts'
import { readSpecRules, readSpecVectors } from '../../scripts/rules/spec.ts'
import { ruleTables } from '../../scripts/rules/tables.ts'
import { root } from './root.ts'

describe('this checkout', async () => {
  const { files, problems, unaccounted } = await ruleTables(root)

  it('names only rules and vectors that docs/spec has', () => {
    expect(problems).toEqual([])
  })

  it('implements every rule of the files it accounts for, or says in docs/limits.md why not', () => {
    expect(unaccounted).toEqual([])
  })

  it.each([...files])('%s is what `npm run rules` writes', (file, text) => {
    expect(existsSync(`${root}/${file}`) && readFileSync(`${root}/${file}`, 'utf8')).toBe(text)
  })
})

describe('rules of docs/spec', () => {
  const rules = readSpecRules(`${root}/docs/spec`)

  it('finds a rule in each of the forms the files use', () => {
    // Paragraph, bold, list item, mid-line, id alone on its line.
    for (const id of ['R-GUP-16', 'R-FLT-1', 'R-AS-1', 'R-COM-1', 'R-QIB-2', 'R-MAP-1', 'R-URING-36']) {
      expect(rules.get(id)?.id).toBe(id)
    }
    expect(rules.get('R-URING-36')!.text).not.toMatch(/^\)/)
  })

  it('has a plain sentence of at most 200 characters for every rule', () => {
    for (const rule of rules.values()) {
      const sentence = ruleSentence(rule)!
      expect(sentence.length, rule.id).toBeLessThanOrEqual(200)
      expect(sentence, rule.id).not.toMatch(/✓|`|\n/)
    }
  })

  it('gives a numbered row of a rule its own sentence', () => {
    expect(ruleSentence(rules.get('R-GUP-16')!, '1')).toBe('VM_IO or VM_PFNMAP → -EFAULT.')
    expect(ruleSentence(rules.get('R-GUP-7')!, '3')).toBe('PIN and GET together.')
    expect(ruleSentence(rules.get('R-GUP-16')!, '99')).toBeUndefined()
  })

  it('numbers the vectors of every file without a gap', () => {
    const vectors = readSpecVectors(`${root}/docs/spec`)
    for (const file of new Set(vectors.map((vector) => vector.file))) {
      const numbers = vectors.filter((v) => v.file === file).map((v) => Number(/\d+$/.exec(v.name)![0]))
      expect(numbers, file).toEqual(numbers.map((_, index) => index + 1))
    }
    expect(vectors.length).toBeGreaterThan(400)
  })
})

describe('a throw-away checkout', () => {
  let tree = ''
  afterEach(() => rmSync(tree, { recursive: true, force: true }))

  async function tablesOf(src: string, test: string): ReturnType<typeof ruleTables> {
    tree = mkdtempSync(join(tmpdir(), 'pinscope-rules-'))
    cpSync(`${root}/docs/spec`, `${tree}/docs/spec`, { recursive: true })
    for (const folder of ['src/mm', 'tests/mm']) mkdirSync(`${tree}/${folder}`, { recursive: true })
    writeFileSync(`${tree}/src/mm/a.ts`, src)
    writeFileSync(`${tree}/tests/mm/a.test.ts`, test)
    return ruleTables(tree)
  }

  it('is refused for a tag, a reason or a vector that does not exist', async () => {
    const src = "/** @rule R-GUP-1, R-GUP-99999 */\nexport const reason = 'R-NOPE-1'\n"
    const { problems } = await tablesOf(src, "it('GUP vector 999: x', f)\n")
    expect(problems).toEqual([
      'src/mm/a.ts: names R-GUP-99999, which docs/spec does not define',
      'src/mm/a.ts: names R-NOPE-1, which docs/spec does not define',
      'src/mm/a.ts: gives R-NOPE-1 as a reason, but no check in src carries "@rule R-NOPE-1"',
      'tests/mm/a.test.ts: names "GUP vector 999", which docs/spec does not have',
    ])
  })

  it('has to account for every rule: by a tag, or by a row of docs/limits.md', async () => {
    const missing = async (limits: string): Promise<string[]> => {
      const first = await tablesOf('// @rule R-GUP-2\n', '')
      expect(first.unaccounted.some((line) => line.startsWith('R-GUP-2 '))).toBe(false)
      writeFileSync(`${tree}/docs/limits.md`, limits)
      return (await ruleTables(tree)).unaccounted.filter((line) => line.startsWith('R-GUP-3 '))
    }
    expect(await missing('')).toEqual(['R-GUP-3 (gup.md) has no "@rule" in src and no row in docs/limits.md'])
    expect(await missing('| what | R-GUP-3 | why |')).toEqual([])
  })

  it('gets its tables from tags and test names', async () => {
    const src = "// @rule R-GUP-16.7\nexport const reason = 'R-GUP-16.7'\n"
    const { files, problems } = await tablesOf(src, "it.each([['GUP vector 5: x']])('%s R-GUP-16', f)\n")
    expect(problems).toEqual([])
    expect(files.get('src/explain/rules.generated.ts')).toContain("'R-GUP-16.7':")
    expect(files.get('docs/rules.md')).toContain('| R-GUP-16 | `src/mm/a.ts:1` | `tests/mm/a.test.ts` |')
    expect(files.get('docs/vectors.md')).toMatch(/^\| GUP vector 5 \| .* \| `tests\/mm\/a.test.ts` \|$/m)
    expect(files.get('docs/vectors.md')).toMatch(/^\| GUP vector 6 \| .* \| pending \|$/m)
  })
})

describe('facts of a source file', () => {
  it('reads tags from comments only', () => {
    const facts = sourceFacts(
      'a.ts',
      "/* @rule R-GUP-1,\n R-GUP-2 */\nconst x = '@rule R-GUP-3'\n// @rule R-GUP-4.\n",
    )
    expect(facts.tags).toEqual(['R-GUP-1', 'R-GUP-2', 'R-GUP-4'])
  })

  it('takes a bare id for a reason, except what is said to be unmodelled', () => {
    const facts = sourceFacts(
      'a.ts',
      "refuse(t, 14, 'R-GUP-1')\nthrow new Unmodelled('x', 'R-GUP-2')\nf('see R-GUP-3')\n",
    )
    expect(facts.reasons).toEqual(['R-GUP-1'])
  })

  it('does not count skipped tests', () => {
    const facts = sourceFacts(
      'a.test.ts',
      "it.skip('A', f)\nit.todo('B')\ndescribe.skipIf(x)('C', f)\nit('D', f)\n",
    )
    expect(facts.strings).toEqual(['C', 'D'])
  })
})
