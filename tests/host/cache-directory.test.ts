import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { cacheDirectory } from '../../src/host/cache-directory.ts'
import { HostError } from '../../src/host/host-error.ts'

let directory = ''
beforeEach(() => (directory = mkdtempSync(path.join(tmpdir(), 'pinscope-test-'))))
afterEach(() => {
  vi.unstubAllEnvs()
  rmSync(directory, { recursive: true })
})

describe('where things are kept that are made once', () => {
  it('is inside the package while that can be written', () => {
    expect(cacheDirectory('native', directory)).toBe(path.join(directory, 'native'))
  })

  it("is the user's cache directory otherwise", () => {
    vi.stubEnv('XDG_CACHE_HOME', directory)
    expect(cacheDirectory('native', '/dev/null')).toBe(path.join(directory, 'pinscope', 'native'))
  })

  it('is nowhere when neither can be written: one line that says what to do', () => {
    vi.stubEnv('XDG_CACHE_HOME', '/dev/null')
    const look = (): string => cacheDirectory('native', '/dev/null')
    expect(look).toThrow(HostError)
    expect(look).toThrow(/^\/dev\/null\/pinscope\/native cannot be written \(ENOTDIR\); set XDG_CACHE_HOME/)
  })
})
