import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startDemoProcess } from '../../src/cli/demo-process.ts'
import { run } from './run.ts'

let directory: string
let good: string

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'pinscope-'))
  const target = await startDemoProcess()
  const file = join(directory, 'good.json')
  const { code, stderr } = await run([
    'snapshot',
    '--pid',
    String(target.pid),
    '--range',
    '[stack]',
    '-o',
    file,
  ])
  target.end()
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  good = readFileSync(file, 'utf8')
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const damages: readonly [name: string, damage: (text: string) => string, says: RegExp][] = [
  [
    'cut off',
    (text) => text.slice(0, text.length / 2),
    /is not a snapshot: it is cut off or damaged; take it again/,
  ],
  ['empty', () => '', /is not a snapshot: it is empty/],
  ['not JSON', () => 'maps of my process', /is not a snapshot: it is not JSON/],
  [
    'of a newer version',
    (text) => text.replace('"schemaVersion":1', '"schemaVersion":2'),
    /was written by a newer pinscope \(snapshot version 2\)/,
  ],
  ['other JSON', () => '{"name":"package"}', /is not a snapshot: it has no schemaVersion/],
  ['without a field', (text) => text.replace('"tier":', '"tear":'), /is not a valid snapshot: tier/],
]

describe('a snapshot that cannot be used is one clear line and exit 2', () => {
  it.each(damages)('%s', async (name, damage, says) => {
    const file = join(directory, `${name}.json`)
    const text = damage(good)
    expect(text).not.toBe(good)
    writeFileSync(file, text)
    const args = ['explain', '--snapshot', file, '--range', '[stack]', '--request', 'gup:pin']
    const { code, stdout, stderr } = await run(args)
    expect(stderr).toMatch(/^pinscope: [^\n]+\n$/)
    expect(stderr).toMatch(says)
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toContain(file)

    const piped = await run(args.with(2, '-'), { input: text })
    expect(piped).toEqual({ code: 2, stdout: '', stderr: stderr.replaceAll(file, 'standard input') })
  })

  it('no such file', async () => {
    const { code, stderr } = await run(['explain', '--snapshot', '/no/such.json', '--request', 'gup:pin'])
    expect({ code, stderr }).toEqual({
      code: 2,
      stderr: 'pinscope: cannot read snapshot /no/such.json: there is no such file\n',
    })
  })

  it('a range it was not taken for', async () => {
    const file = join(directory, 'good.json')
    const { code, stderr } = await run([
      'explain',
      '--snapshot',
      file,
      '--range',
      '[heap]',
      '--request',
      'gup:pin',
    ])
    expect(stderr).toMatch(
      /^pinscope: the snapshot holds pages of .* only, not of .*; take one with that range\n$/,
    )
    expect(code).toBe(2)
  })

  it('an output file that cannot be written', async () => {
    const { code, stdout, stderr } = await run([
      'snapshot',
      '--pid',
      String(process.pid),
      '--range',
      '[stack]',
      '-o',
      '/no/such/app.json',
    ])
    expect({ code, stdout, stderr }).toEqual({
      code: 2,
      stdout: '',
      stderr: 'pinscope: cannot write /no/such/app.json: its directory does not exist\n',
    })
  })
})
