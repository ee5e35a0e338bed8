import { afterEach, describe, expect, it, vi } from 'vitest'
import { outputTerminal, printable, printableStrings } from '../../src/cli/terminal.ts'

describe('printable', () => {
  it.each([
    ['/usr/lib/größe.so', '/usr/lib/größe.so'],
    ['a\nb\tc', 'a\\x0ab\\x09c'],
    ['\u001b[31m', '\\x1b[31m'],
    ['\u009b31m', '\\x9b31m'],
    ['abc\u202egnp', 'abc\\u202egnp'],
  ])('%j', (text, shown) => {
    expect(printable(text)).toBe(shown)
  })

  it('reaches every text of a value and nothing else', () => {
    const value = { a: ['x\n', 1, null, true], b: { c: 'y\r' } }
    expect(printableStrings(value)).toEqual({ a: ['x\\x0a', 1, null, true], b: { c: 'y\\x0d' } })
  })
})

describe('colour', () => {
  afterEach(() => {
    vi.unstubAllEnvs()
    vi.restoreAllMocks()
  })

  const rows: readonly [isTTY: boolean, env: Record<string, string>, colored: boolean][] = [
    [true, { TERM: 'xterm' }, true],
    [true, { TERM: 'xterm', NO_COLOR: '' }, true],
    [true, { TERM: 'xterm', NO_COLOR: '1' }, false],
    [true, { TERM: 'dumb' }, false],
    [false, { TERM: 'xterm' }, false],
    [false, { TERM: 'xterm', FORCE_COLOR: '1' }, false],
  ]

  it.each(rows)('terminal %s, %j: %s', (isTTY, env, colored) => {
    vi.stubEnv('NO_COLOR', undefined)
    for (const [name, value] of Object.entries(env)) vi.stubEnv(name, value)
    const before = { isTTY: process.stdout.isTTY, columns: process.stdout.columns }
    Object.assign(process.stdout, { isTTY, columns: 90 })
    try {
      const { colors, width } = outputTerminal()
      expect(colors.red('x') !== 'x').toBe(colored)
      expect(width).toBe(isTTY ? 90 : 100)
    } finally {
      Object.assign(process.stdout, before)
    }
  })
})
