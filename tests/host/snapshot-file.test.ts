import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import {
  HostError,
  captureProcess,
  parseSnapshot,
  readSnapshot,
  snapshotJsonSchema,
  writeSnapshot,
} from '../../src/host/index.ts'
import type { Snapshot } from '../../src/host/index.ts'

let directory: string
let snapshot: Snapshot
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'pinscope-test-'))
  snapshot = captureProcess(process.pid, { ranges: ['[heap]'], maxTries: 1 })
})
afterAll(() => rmSync(directory, { recursive: true }))

function errorOf(action: () => unknown): HostError {
  try {
    action()
  } catch (error) {
    if (error instanceof HostError) {
      expect(error.message).not.toContain('\n')
      return error
    }
    throw error
  }
  throw new Error('nothing was thrown')
}

test('R-OUT-2 a snapshot survives being written and read', () => {
  const file = join(directory, 'a.json')
  writeSnapshot(file, snapshot)
  expect(readSnapshot(file)).toEqual(snapshot)
})

test('R-OUT-2 every way a snapshot can be broken is one line', () => {
  const text = JSON.stringify(snapshot)
  expect(errorOf(() => parseSnapshot(text.slice(0, text.length / 2), 'a.json'))).toMatchObject({
    kind: 'not-a-snapshot',
    message: expect.stringContaining('cut off'),
  })
  expect(errorOf(() => parseSnapshot('', 'a.json')).message).toContain('empty')
  expect(errorOf(() => parseSnapshot('hello', 'a.json')).message).toContain('not JSON')
  expect(errorOf(() => parseSnapshot('[1]', 'a.json')).message).toContain('schemaVersion')
  expect(errorOf(() => parseSnapshot('null', 'a.json')).message).toContain('schemaVersion')
  expect(errorOf(() => readSnapshot(join(directory, 'none.json')))).toMatchObject({
    kind: 'unreadable',
    message: expect.stringContaining('no such file'),
  })
  expect(errorOf(() => readSnapshot(directory)).message).toContain('directory')
  expect(errorOf(() => writeSnapshot(join(directory, 'no', 'where.json'), snapshot)).kind).toBe('unreadable')
})

test('R-OUT-2 a newer snapshot is named as such', () => {
  const newer = JSON.stringify({ ...snapshot, schemaVersion: 2 })
  expect(errorOf(() => parseSnapshot(newer, 'a.json'))).toMatchObject({
    kind: 'newer-snapshot',
    message: 'a.json was written by a newer pinscope (snapshot version 2); this one reads up to 1',
  })
})

test('R-OUT-2 a violation says where', () => {
  const broken = structuredClone(snapshot) as unknown as {
    mappings: { start: unknown }[]
    pages: { count: number[] }
  }
  broken.mappings[0]!.start = 'low'
  expect(errorOf(() => parseSnapshot(JSON.stringify(broken), 'a.json')).message).toContain('mappings.0.start')
  const uneven = structuredClone(snapshot)
  uneven.pages.count.push(1)
  expect(errorOf(() => parseSnapshot(JSON.stringify(uneven), 'a.json')).message).toContain('pages.count')
  const disordered = structuredClone(snapshot)
  disordered.mappings.reverse()
  expect(errorOf(() => parseSnapshot(JSON.stringify(disordered), 'a.json')).message).toContain(
    'not ascending',
  )
})

test('R-OUT-2 the JSON schema names every top-level field of a real snapshot', () => {
  const schema = snapshotJsonSchema() as { properties: Record<string, unknown>; required: string[] }
  expect(Object.keys(schema.properties).sort()).toEqual(Object.keys(snapshot).sort())
  expect(schema.required.slice().sort()).toEqual(Object.keys(snapshot).sort())
})
