import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import * as z from 'zod'
import { findDemoRanges, type DemoRanges } from '../../src/cli/demo-ranges.ts'
import { startDemoProcess, type DemoProcess } from '../../src/cli/demo-process.ts'
import { AnswerSchema, type Answer } from '../../src/explain/answer.ts'
import { root } from '../ground/root.ts'
import { run, terminalControl } from './run.ts'

let target: DemoProcess
let ranges: DemoRanges
let directory: string

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'pinscope-'))
  target = await startDemoProcess()
  ranges = findDemoRanges(target.pid)
})
afterAll(() => {
  target.end()
  rmSync(directory, { recursive: true, force: true })
})

function ask(range: string, ...more: string[]): string[] {
  return ['explain', '--pid', String(target.pid), '--range', range, '--request', 'gup:pin', ...more]
}

/** What must not depend on when it was asked and how the facts came. */
function lasting(answer: Answer): unknown {
  return { ...answer, seen: null, releaseNote: null, unseen: null }
}

describe('explain on a live process', () => {
  it('memory it may write: would succeed, exit 0', async () => {
    const { code, stdout, stderr } = await run(ask(ranges.writable.range))
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout).toMatch(/^would succeed on /)
    expect(stdout).toContain('pin 16 pages (64 KiB)')
  })

  it('code of a file: would fail with EFAULT, exit 1, says where and why', async () => {
    const { code, stdout, stderr } = await run(ask(ranges.readOnly.range))
    expect({ code, stderr }).toEqual({ code: 1, stderr: '' })
    expect(stdout).toMatch(/^would fail with EFAULT on /)
    expect(stdout).toMatch(/refused +page 0 of 0\.\.15, at 0x/)
    expect(stdout).toMatch(/mapping +0x[0-9a-f]+-0x[0-9a-f]+ {2}r-xp/)
    expect(stdout).toMatch(/rule +R-GUP-16/)
  })

  it('the same memory for reading: would succeed', async () => {
    const { code, stdout } = await run(ask(ranges.readOnly.range, '--access', 'read'))
    expect(stdout).toMatch(/^would succeed on /)
    expect(code).toBe(0)
  })

  it('a range with a hole in it is a question like any other: EFAULT at the first missing page', async () => {
    const maps = readFileSync(`/proc/${target.pid}/maps`, 'latin1').trim().split('\n')
    const bounds = maps.map((line) =>
      line
        .split(' ')[0]!
        .split('-')
        .map((address) => Number.parseInt(address, 16)),
    )
    const at = maps.findIndex(
      (line, i) =>
        line.includes(' rw-p ') &&
        !line.includes('[') &&
        bounds[i + 1]![0]! - bounds[i]![1]! >= 8192 &&
        !maps[i + 1]!.includes('[stack'),
    )
    const end = bounds[at]![1]!
    const { code, stdout } = await run(ask(`0x${(end - 4096).toString(16)}+8k`, '--json'))
    const answer = JSON.parse(stdout) as Answer
    expect(answer.verdict).toMatchObject({
      ok: false,
      errno: 'EFAULT',
      page: 1,
      address: `0x${end.toString(16)}`,
    })
    expect(code).toBe(1)
  })

  it('never writes colour into a pipe, NO_COLOR or not', async () => {
    for (const env of [{}, { NO_COLOR: '1' }, { TERM: 'xterm-256color' }]) {
      const { stdout } = await run(ask(ranges.readOnly.range), { env })
      expect(stdout).not.toMatch(terminalControl)
    }
  })

  it('--kernel all: every release in a table before the verdict', async () => {
    const { stdout } = await run(ask(ranges.readOnly.range, '--kernel', 'all'))
    const table = stdout.slice(0, stdout.search(/^would /m))
    for (const release of ['gup-v3', '6.1', '6.6', '6.12', '6.18']) {
      expect(table).toMatch(new RegExp(`^[> ] ${release.replace('.', '\\.')} +(not )?verified +EFAULT`, 'm'))
    }
    expect(table.match(/^> /gm)).toHaveLength(1)
  })

  it('--kernel RELEASE answers for that release', async () => {
    const { stdout } = await run(ask(ranges.writable.range, '--kernel', '6.1', '--json'))
    expect(JSON.parse(stdout)).toMatchObject({ release: '6.1', releaseNote: null })
  })
})

describe('explain --json', () => {
  const shipped = JSON.parse(readFileSync(`${root}/schema/answer.schema.json`, 'utf8'))

  it('fits the shipped schema, for success and failure', async () => {
    for (const { range } of [ranges.writable, ranges.readOnly]) {
      const { stdout, stderr } = await run(ask(range, '--json'))
      const answer: unknown = JSON.parse(stdout)
      expect(z.fromJSONSchema(shipped).parse(answer)).toEqual(answer)
      expect(AnswerSchema.parse(answer)).toEqual(answer)
      expect(stderr).toBe('')
    }
  })

  it('has the same keys whatever the answer', async () => {
    const keys: string[][] = []
    for (const { range } of [ranges.writable, ranges.readOnly]) {
      const { stdout } = await run(ask(range, '--json'))
      const answer = JSON.parse(stdout) as Answer
      keys.push([...Object.keys(answer), ...Object.keys(answer.verdict).map((key) => `verdict.${key}`)])
    }
    expect(keys[0]).toEqual(keys[1])
    expect(keys[0]).toEqual([
      ...shipped.required,
      ...shipped.properties.verdict.required.map((key: string) => `verdict.${key}`),
    ])
  })
})

describe('snapshot, then explain --snapshot', () => {
  it('gives the answer of the live process, for success and failure', async () => {
    for (const [name, { range }] of Object.entries(ranges)) {
      const file = join(directory, `${name}.json`)
      const taken = await run(['snapshot', '--pid', String(target.pid), '--range', range, '-o', file])
      expect({ code: taken.code, stderr: taken.stderr }).toEqual({ code: 0, stderr: '' })
      expect(taken.stdout).toContain(file)
      const live = await run(ask(range, '--json'))
      const stored = await run(['explain', '--snapshot', file, '--request', 'gup:pin', '--json'])
      expect(lasting(JSON.parse(stored.stdout))).toEqual(lasting(JSON.parse(live.stdout)))
      expect(stored.code).toBe(live.code)
    }
  })

  it('whole process through a pipe: any range of it can be asked', async () => {
    const { code, stdout, stderr } = await run(['snapshot', '--pid', String(target.pid)])
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    for (const [range, expected] of [
      [ranges.writable.range, 0],
      [ranges.readOnly.range, 1],
    ] as const) {
      const args = ['explain', '--snapshot', '-', '--range', range, '--request', 'gup:pin']
      const asked = await run(args, { input: stdout })
      expect({ code: asked.code, stderr: asked.stderr }).toEqual({ code: expected, stderr: '' })
    }
    const without = await run(['explain', '--snapshot', '-', '--request', 'gup:pin'], { input: stdout })
    expect(without.stderr).toMatch(/--range is missing: this snapshot was not taken for one range only/)
  })

  it('says which kernel the snapshot came from', async () => {
    const { stdout } = await run(['snapshot', '--pid', String(target.pid), '--range', ranges.writable.range])
    const elsewhere = stdout.replace(/"release":"[^"]*"/, '"release":"6.1.0-49-amd64"')
    const args = ['explain', '--snapshot', '-', '--request', 'gup:pin', '--json']
    const asked = await run(args, { input: elsewhere })
    expect(JSON.parse(asked.stdout)).toMatchObject({
      release: '6.1',
      releaseNote: 'the kernel it was taken on (6.1.0-49-amd64) is modelled as release 6.1',
    })
  })

  it('leaves nothing but the file behind', () => {
    expect(readdirSync(directory).filter((name) => !name.endsWith('.json'))).toEqual([])
  })
})
