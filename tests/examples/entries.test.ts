import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, describe, expect, it } from 'vitest'
import { root } from '../ground/root.ts'
import { run } from './run.ts'

/** Where package.json leads for each name a user imports. */
const manifest = JSON.parse(readFileSync(`${root}/package.json`, 'utf8')) as {
  exports: Record<string, string | { types: string; default: string }>
}
const entries = Object.entries(manifest.exports).flatMap(([subpath, target]) =>
  typeof target === 'string'
    ? []
    : [
        {
          name: `pinscope${subpath.slice(1)}`,
          source: target.default.replace('./dist/', 'src/').replace('.js', '.ts'),
        },
      ],
)
const sourceOf = new Map(entries.map(({ name, source }) => [name, `${root}/${source}`]))

const folder = mkdtempSync(join(tmpdir(), 'pinscope-entries-'))
afterAll(() => rmSync(folder, { recursive: true }))

/** The example of a module comment. `expression // => value` becomes a comparison. */
function exampleOf(source: string): string {
  const comment = /^\/\*\*([\s\S]*?)\*\//.exec(source)
  const block = /```ts\n([\s\S]*?)```/.exec(comment?.[1]?.replaceAll(/^ \* ?/gm, '') ?? '')
  if (block === null) throw new Error('the module comment has no example')
  return block[1]!
}

function program(example: string): { text: string; comparisons: number } {
  let comparisons = 0
  const body = example
    .replaceAll(/from '(pinscope[\w/]*)'/g, (_all, name: string) => {
      const file = sourceOf.get(name)
      if (file === undefined) throw new Error(`package.json does not export ${name}`)
      return `from '${pathToFileURL(file).href}'`
    })
    .replaceAll(
      /^(\s*)(\S.*?) \/\/ => (.*)$/gm,
      (_all, indent: string, expression: string, value: string) => {
        comparisons++
        return `${indent}assert.deepEqual(${expression}, ${value}); compared++`
      },
    )
  const text = `import assert from 'node:assert/strict'\nlet compared = 0\n${body}\nconsole.log(compared)\n`
  return { text, comparisons }
}

describe('library entries', () => {
  it('are these', () => {
    expect(entries.map((entry) => entry.name).sort()).toEqual([
      'pinscope',
      'pinscope/devices',
      'pinscope/explain',
      'pinscope/host',
      'pinscope/kernel',
    ])
  })

  it.each(entries)('$source only re-exports', ({ source }) => {
    const code = readFileSync(`${root}/${source}`, 'utf8').replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, '')
    const rest = code.replaceAll(/export (type )?(\{[^}]*\}|\*) from '[^']+'/g, '').trim()
    expect(rest).toBe('')
  })

  it.each(entries.filter((entry) => entry.name !== 'pinscope/host'))(
    'the example of $name runs and says the truth',
    ({ source }) => {
      const { text, comparisons } = program(exampleOf(readFileSync(`${root}/${source}`, 'utf8')))
      expect(comparisons).toBeGreaterThan(0)
      const file = join(folder, source.replaceAll('/', '-').replace(/ts$/, 'mts'))
      writeFileSync(file, text)
      expect(Number(run(file))).toBe(comparisons)
    },
  )

  it('pinscope names every kernel of the engine', async () => {
    const library = await import('../../src/index.ts')
    expect(Object.keys(library.releases)).toEqual([...library.RELEASE_NAMES])
  })
})
