import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { callersPage } from '../../scripts/rules/callers.ts'

describe('docs/callers.md', () => {
  let tree = ''
  afterEach(() => rmSync(tree, { recursive: true, force: true }))

  function problemsWith(text: string): string[] {
    tree = mkdtempSync(join(tmpdir(), 'pinscope-callers-'))
    mkdirSync(`${tree}/src/net`, { recursive: true })
    writeFileSync(`${tree}/src/net/a.ts`, text)
    return callersPage(tree).problems
  }

  const block = (gup: string): string =>
    [
      'caller a',
      'entry b',
      `gup ${gup}`,
      'lock c',
      'budget d',
      'errno e',
      'release f',
      'test tests/a.test.ts',
    ]
      .map((line) => ` * @${line}\n`)
      .join('')

  it('wants a block of every file that calls GUP', () => {
    expect(problemsWith('yield* pinUserPages(k, guard, 0, 1, 0, pages)\n')).toEqual([
      'src/net/a.ts: calls pin_user_pages, but has no block with @caller',
    ])
    expect(problemsWith('const x = 1\n')).toEqual([])
  })

  it('refuses functions, flags and tests that are not there', () => {
    const code = 'yield* pinUserPages(k, guard, 0, 1, FOLL_WRITE, pages)\n'
    expect(problemsWith(`/*\n${block('pin_user_pages_fast FOLL_LONGTERM')} */\n${code}`)).toEqual([
      'src/net/a.ts: @gup names pin_user_pages_fast, which the file does not use',
      'src/net/a.ts: @gup names FOLL_LONGTERM, which the file does not use',
      'src/net/a.ts: @test tests/a.test.ts does not exist',
    ])
  })
})
