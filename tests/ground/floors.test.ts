import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { root } from './root.ts'

const cruiser = `${root}/node_modules/dependency-cruiser/bin/dependency-cruise.mjs`

/** Names of the rules violated in the `src/` under `directory`, as `from: rule`. */
function violations(directory: string): string[] {
  const config = `${root}/.dependency-cruiser.cjs`
  const args = [cruiser, 'src', '--config', config, '--output-type', 'json']
  const report = runNode(args, directory)
  const found = JSON.parse(report) as { summary: { violations: { from: string; rule: { name: string } }[] } }
  return found.summary.violations.map(({ from, rule }) => `${from}: ${rule.name}`).sort()
}

function runNode(args: string[], cwd: string): string {
  return execFileSync(process.execPath, args, { cwd, encoding: 'utf8', maxBuffer: 1 << 28 })
}

describe('floors', () => {
  let tree = ''
  afterEach(() => rmSync(tree, { recursive: true, force: true }))

  function fixture(files: Record<string, string>): string {
    tree = mkdtempSync(join(tmpdir(), 'pinscope-floors-'))
    const all = { 'package.json': '{"type":"module","dependencies":{"leftpad":"1"}}', ...files }
    for (const [name, text] of Object.entries(all)) {
      mkdirSync(dirname(join(tree, name)), { recursive: true })
      writeFileSync(join(tree, name), text)
    }
    return tree
  }

  const empty = 'export {}\n'
  const rows: [name: string, files: Record<string, string>, expected: string[]][] = [
    [
      'an upward import',
      { 'src/base/a.ts': "import '../mm/b.ts'\n", 'src/mm/b.ts': empty },
      ['src/base/a.ts: floor-0-imports-only-down'],
    ],
    [
      'an upward import of a type',
      {
        'src/mm/a.ts': "import type { B } from '../task/b.ts'\nexport type A = B\n",
        'src/task/b.ts': 'export type B = 1\n',
      },
      ['src/mm/a.ts: floor-2-imports-only-down'],
    ],
    [
      'host imported by a caller of GUP and the other way round',
      {
        'src/io_uring/a.ts': "import '../host/b.ts'\n",
        'src/host/b.ts': empty,
        'src/host/c.ts': "import '../net/d.ts'\n",
        'src/net/d.ts': empty,
      },
      ['src/host/c.ts: floor-4-host-alone', 'src/io_uring/a.ts: floor-4-io_uring-alone'],
    ],
    [
      'a tool importing the command line',
      { 'src/explain/a.ts': "import '../cli/b.ts'\n", 'src/cli/b.ts': empty },
      ['src/explain/a.ts: floor-5-imports-only-down'],
    ],
    [
      'Node in the engine',
      {
        'src/memory/a.ts': "import 'node:fs'\n",
        'src/io_uring/b.ts': "import { x } from 'path'\nexport { x }\n",
      },
      ['src/io_uring/b.ts: engine-without-node', 'src/memory/a.ts: engine-without-node'],
    ],
    [
      'a package in the engine',
      {
        'src/task/a.ts': "import 'leftpad'\n",
        'node_modules/leftpad/package.json': '{"name":"leftpad","version":"1.0.0","main":"index.js"}',
        'node_modules/leftpad/index.js': '',
      },
      ['src/task/a.ts: engine-without-packages'],
    ],
    [
      'a browser entry that reaches Node through host',
      {
        'src/kernel.ts': "export * from './explain/a.ts'\n",
        'src/explain/a.ts': "import '../host/b.ts'\n",
        'src/host/b.ts': "import 'node:fs'\n",
      },
      ['src/kernel.ts: entries-run-in-a-browser'],
    ],
    [
      'an entry file imported from inside',
      { 'src/explain/a.ts': "import '../index.ts'\n", 'src/index.ts': empty },
      ['src/explain/a.ts: no-import-of-entry-files'],
    ],
    [
      'a folder without a floor',
      { 'src/attic/a.ts': "import '../base/b.ts'\n", 'src/base/b.ts': empty },
      ['src/attic/a.ts: known-folders-only'],
    ],
    ['an import of nothing', { 'src/mm/a.ts': "import './gone.ts'\n" }, ['src/mm/a.ts: resolvable']],
    [
      'imports that go down, and Node in host',
      {
        'src/cli/a.ts': "import '../explain/b.ts'\n",
        'src/explain/b.ts': "import '../host/c.ts'\nimport '../io_uring/d.ts'\n",
        'src/host/c.ts': "import 'node:fs'\nimport '../base/e.ts'\n",
        'src/io_uring/d.ts': "import '../mm/f.ts'\nimport './g.ts'\n",
        'src/io_uring/g.ts': empty,
        'src/mm/f.ts': "import '../base/e.ts'\n",
        'src/base/e.ts': empty,
      },
      [],
    ],
  ]
  it.each(rows)('%s is judged as it should be', (_name, files, expected) => {
    expect(violations(fixture(files))).toEqual(expected)
  })

  it('src obeys them', () => {
    expect(violations(root)).toEqual([])
  })

  it('entry files only re-export', () => {
    const entries = readdirSync(`${root}/src`).filter((name) => name.endsWith('.ts'))
    for (const entry of entries) {
      const code = readFileSync(`${root}/src/${entry}`, 'utf8').replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, '')
      const rest = code
        .replace(/export\s+(type\s+)?(\*(\s+as\s+\w+)?|\{[^}]*\})\s+from\s+'[^']+'/g, '')
        .trim()
      expect(rest, `src/${entry} must only re-export`).toBe('')
    }
  })
})
