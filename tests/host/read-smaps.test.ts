import { readFileSync } from 'node:fs'
import { afterAll, describe, expect, test } from 'vitest'
import { parseMaps } from '../../src/host/maps.ts'
import { readSmaps } from '../../src/host/read-smaps.ts'
import { python, startTarget } from './live.ts'

describe.skipIf(python === null)('a budget for smaps (needs python3)', async () => {
  const target = python === null ? null! : startTarget('huge')
  const [low, huge, high] = python === null ? [0, 0, 0] : ((await target.line()) as [number, number, number])
  afterAll(() => target.end())
  const directory = `/proc/${target?.pid}`
  const read = (smallResident: number, spans = [{ start: low, end: high + 4096 }]) => {
    const { records } = parseMaps(readFileSync(`${directory}/maps`, 'latin1'))
    return { reading: readSmaps(directory, records, spans, smallResident, 2000) }
  }

  test('R-COST-1 with little resident memory everything is read', () => {
    const { reading } = read(2 ** 26)
    expect(reading.seenTo).toBe(Infinity)
    expect(reading.records.map((record) => record.start)).toEqual([low, huge, high])
  })

  test('R-COST-1 a mapping that may take too long is not entered, those before it are read', () => {
    // As if 1 TiB were resident in it: the walk would take half a minute.
    const { reading } = read(2 ** 40)
    expect(reading.seenTo).toBe(huge)
    expect(reading.records.map((record) => record.start)).toEqual([low])
  })

  test('R-COST-1 what lies before a slow mapping costs nothing extra', () => {
    const { reading } = read(2 ** 40, [{ start: low, end: low + 4096 }])
    expect(reading.seenTo).toBe(Infinity)
    expect(reading.records.map((record) => record.start)).toEqual([low])
  })
})
