/** The benchmark's frame and its native programs, on small sizes. */
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { type BenchCase, runCase } from '../../bench/case.ts'
import { nativeFork, nativeMmap, nativePin, spawnManyMappings } from '../../bench/native.ts'
import { findCompiler } from '../../scripts/cc.ts'
import { noIoUring } from './kinds.ts'

const missing = process.platform === 'linux' ? (findCompiler() ? null : 'no C compiler') : 'not Linux'

function counting(engine: number[], native?: (number | { skip: string })[]): BenchCase {
  const order = { name: 'counting', unit: 'ns', limit: 0.5, engine: async () => engine.shift()! }
  return native ? { ...order, native: async () => native.shift()! } : order
}

describe('BENCH frame', () => {
  it('BENCH a ratio above its limit is not ok, one at the limit is', async () => {
    const slow = await runCase(counting([4, 6, 100], [10, 8, 1]), 3)
    expect(slow).toMatchObject({ engine: 6, native: 8, ratio: 0.75, ok: false })
    expect(await runCase(counting([4, 4, 4], [8, 8, 8]), 3)).toMatchObject({ ratio: 0.5, ok: true })
  })

  it('BENCH a skipped native half is named and fails nothing', async () => {
    const result = await runCase(counting([9, 9], [{ skip: 'no C compiler' }]), 2)
    expect(result).toMatchObject({ engine: 9, native: { skip: 'no C compiler' }, ratio: null, ok: null })
  })

  it('BENCH without a native half the limit is one on the engine alone', async () => {
    expect(await runCase(counting([0.4]), 1)).toMatchObject({ native: null, ratio: null, ok: true })
    expect(await runCase(counting([0.6]), 1)).toMatchObject({ ok: false })
  })
})

describe(`BENCH native programs${missing ? `: skipped, ${missing}` : ''}`, () => {
  const ring = missing ?? noIoUring()
  it.skipIf(ring)(`BENCH pin and unpin${ring ? `: skipped, ${ring}` : ''}`, async () => {
    expect(await nativePin(4)).toBeGreaterThan(0)
  })

  it.skipIf(missing)('BENCH fork, mmap + munmap', async () => {
    expect(await nativeFork(4)).toBeGreaterThan(0)
    expect(await nativeMmap(10)).toBeGreaterThan(0)
  })

  it.skipIf(missing)('BENCH a process with many mappings has them while it is asked', async () => {
    const process = await spawnManyMappings(500)
    if ('skip' in process) throw new Error(process.skip)
    try {
      const maps = readFileSync(`/proc/${process.pid}/maps`, 'utf8').split('\n')
      expect(maps.length).toBeGreaterThan(process.mappings)
      const mapped = maps.some((line) => {
        const [start, end] = line
          .split(' ')[0]!
          .split('-')
          .map((text) => Number.parseInt(text, 16))
        return start! <= process.address && process.address + process.length <= end!
      })
      expect(mapped).toBe(true)
    } finally {
      await process.stop()
    }
  })
})
