import { existsSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { tableCells } from '../../scripts/rules/spec.ts'
import { root } from './root.ts'

type Row = { seed: string; ours: string[]; change: string; tests: string[]; state: string }

const rows: Row[] = readFileSync(`${root}/docs/seed-map.md`, 'utf8')
  .split('\n')
  .map(tableCells)
  .filter((cells) => cells !== undefined && /^`.*\.[ch]`$/.test(cells[0]!))
  .map((cells) => ({
    seed: cells![0]!.replaceAll('`', ''),
    ours: paths(cells![1]!),
    change: cells![2]!,
    tests: paths(cells![3]!),
    state: cells![4]!,
  }))

function paths(cell: string): string[] {
  return [...cell.matchAll(/`([^`]+)`/g)].map((match) => match[1]!)
}

describe('docs/seed-map.md', () => {
  it('has the thirty files of the series, each once', () => {
    expect(rows.length).toBe(30)
    expect(new Set(rows.map((row) => row.seed)).size).toBe(30)
  })

  it.each(rows)('$seed has a known state and one home', (row) => {
    expect(row.state).toMatch(/^(built|not built yet \(later issue\))$/)
    expect(row.change).toMatch(/^(\d\/7|all)/)
    expect(row.ours.length).toBe(1)
    expect(row.ours[0]).toMatch(/^src\/[\w/-]+\.ts$/)
  })

  it.each(rows.filter((row) => row.state === 'built'))('$seed is built: its files and tests exist', (row) => {
    expect(row.tests.length).toBeGreaterThan(0)
    for (const file of [...row.ours, ...row.tests]) expect(existsSync(`${root}/${file}`), file).toBe(true)
  })

  it.each(rows.filter((row) => row.state !== 'built'))(
    '$seed is not built: its file does not exist',
    (row) => {
      for (const file of row.ours) expect(existsSync(`${root}/${file}`), file).toBe(false)
    },
  )

  it.each(rows.filter((row) => row.state === 'built'))('$seed: no GUP call is given VMAs', (row) => {
    const calls = row.ours.flatMap((file) => [
      ...readFileSync(`${root}/${file}`, 'utf8').matchAll(
        /\b(?:get|pin)UserPages(?:Remote|Fast|Unlocked|FastOnly)?\(([^()]*)/g,
      ),
    ])
    for (const [, given] of calls) expect(given).not.toMatch(/\bvmas?\b/i)
  })
})
