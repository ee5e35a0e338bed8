/** Which tagged code was run, seen through V8's own counters on a file made for it. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { isReached, placesIn, type FunctionCoverage } from '../../src/conform/rule-places.ts'
import { ruleTally } from '../../src/conform/rule-tally.ts'

const text = `
/** a constant runs nothing @rule R-X-1 */
export const SIZE = 4096;
/**
 * @rule R-X-2
 * @rule R-X-3.1
 */
export function* called(n) {
    // @rule R-X-4
    if (n > 1)
        // @rule R-X-5
        return 'more'
    yield n
    // @rule R-X-6
    return [n].map((each) => each + 1)
}
/** @rule R-X-7 */
function notCalled() {
    // @rule R-X-8
    return 1
}
/** @rule R-X-9 */
export class Used {
    /** @rule R-X-10 */
    field = notCalled.length
    /** @rule R-X-11 */
    get size() {
        return this.field
    }
    /** @rule R-X-12 */
    static make() {
        return new Used()
    }
    /** @rule R-X-13 */
    async *#walk() {
        yield 1
    }
}
/** @rule R-X-14 */
export class Unused {
    method() {}
}
/** @rule R-X-15 */
export const TABLE = {
    follow() {
        return 1
    },
}
/** @rule R-X-16 */
export const arrow = (n) => n + 1
export function late(n) {
    if (n === 0) return 0
    // @rule R-X-17, R-X-18
    const rest = [n].some((each) => each > 1)
    return rest
}
`

/** Runs some of it; `called` is left at its first yield. */
const runner = `
import { Session } from 'node:inspector'
const session = new Session()
session.connect()
session.post('Profiler.enable')
session.post('Profiler.startPreciseCoverage', { callCount: false, detailed: true })
const { called, Used, TABLE, late } = await import('./tagged.mjs')
called(1).next()
Used.make()
TABLE.follow()
late(0)
session.post('Profiler.takePreciseCoverage', (_, { result }) => {
  console.log(JSON.stringify(result.find(({ url }) => url.endsWith('/tagged.mjs')).functions))
})
`

let functions: readonly FunctionCoverage[] = []

beforeAll(() => {
  const directory = mkdtempSync(path.join(tmpdir(), 'pinscope-test-'))
  try {
    writeFileSync(path.join(directory, 'tagged.mjs'), text)
    writeFileSync(path.join(directory, 'runner.mjs'), runner)
    const ran = execFileSync(process.execPath, [path.join(directory, 'runner.mjs')], { encoding: 'utf8' })
    functions = JSON.parse(ran) as readonly FunctionCoverage[]
  } finally {
    rmSync(directory, { recursive: true })
  }
})

describe('code with a tag was run', () => {
  const places = placesIn('mm/tagged.js', text)

  it('knows every tag but those of constants', () => {
    expect(places.map(({ rule }) => rule)).toEqual(
      Array.from({ length: 18 }, (_, i) => `R-X-${i + 1}${i === 2 ? '.1' : ''}`).slice(1),
    )
  })

  it.each([
    ['R-X-2', true, 'a generator that was called'],
    ['R-X-3.1', true, 'the second tag of one comment'],
    ['R-X-4', true, 'a statement that was come to'],
    ['R-X-5', false, 'a branch that was not taken'],
    ['R-X-6', false, 'what follows a yield that was not gone on from'],
    ['R-X-7', false, 'a function that nobody called'],
    ['R-X-8', false, 'a statement of it'],
    ['R-X-9', true, 'a class of which something was made'],
    ['R-X-10', true, 'a field of it'],
    ['R-X-11', false, 'a getter that nobody asked'],
    ['R-X-12', true, 'a static method that was called'],
    ['R-X-13', false, 'a private method that was not'],
    ['R-X-14', false, 'a class nobody used'],
    ['R-X-15', true, 'a table with a method that was called'],
    ['R-X-16', false, 'an arrow function that was not'],
    ['R-X-17', false, 'a statement with a function in it, after a return'],
    ['R-X-18', false, 'the same, for the other rule of its tag'],
  ])('%s: %s, %s', (rule, expected) => {
    expect(functions.length).toBeGreaterThan(5)
    expect(
      isReached(
        places.find((place) => place.rule === rule)!,
        text,
        functions,
      ),
    ).toBe(expected)
  })

  it('a rule is reached where any of its places was', () => {
    const [first, second] = [places[0]!, { ...places[1]!, rule: places[0]!.rule }]
    const tally = ruleTally([first, second, places[2]!], new Set([1]), 'statements')
    expect(tally).toMatchObject({ reached: 1, of: 2 })
    expect([...tally.unreached]).toEqual([['R-X-4', [places[2]]]])
  })
})
