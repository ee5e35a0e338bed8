import { readFileSync } from 'node:fs'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { conformanceRuns, isVerified, type ConformanceRun } from '../../src/base/conformance-record.ts'
import { RELEASE_NAMES, releases } from '../../src/base/release.ts'

const run: ConformanceRun = {
  release: '6.12',
  kernel: '6.12.0',
  as: 'root',
  programs: 2000,
  steps: 80_000,
  differences: 0,
  seed: 1,
  date: '2026-01-01',
  commit: '0000000',
}

describe('verified', () => {
  it('needs a run of enough programs without a difference', () => {
    expect(isVerified('6.12', [])).toBe(false)
    expect(isVerified('6.12', [run])).toBe(true)
    expect(isVerified('6.12', [{ ...run, programs: 1999 }])).toBe(false)
    expect(isVerified('6.12', [{ ...run, differences: 1 }])).toBe(false)
    expect(isVerified('6.1', [run])).toBe(false)
    expect(isVerified('6.12', [{ ...run, as: 'unprivileged' }])).toBe(false)
  })

  it('needs both users on the kernel of the host', () => {
    const root = { ...run, release: '6.18', programs: 20_000 } as const
    const other = { ...run, release: '6.18', as: 'unprivileged', programs: 5000 } as const
    expect([isVerified('6.18', [root]), isVerified('6.18', [other])]).toEqual([false, false])
    expect(isVerified('6.18', [root, other])).toBe(true)
  })

  it('is out of reach where no kernel can be asked', () => {
    for (const release of ['gup-v3', '6.6'] as const)
      expect(isVerified(release, [{ ...run, release, programs: 10 ** 6 }])).toBe(false)
  })

  it('is what the record says', () => {
    for (const name of RELEASE_NAMES) expect(releases[name].verified).toBe(isVerified(name))
    for (const { kernel, release } of conformanceRuns) expect(kernel.startsWith(`${release}.`)).toBe(true)
  })
})

describe('docs/limits.md on gup-v3', () => {
  it('lists exactly the switches in which gup-v3 is like neither neighbour', () => {
    const text = readFileSync(path.join(import.meta.dirname, '..', '..', 'docs', 'limits.md'), 'utf8')
    const section = text.slice(text.indexOf('### gup-v3: what no kernel here can confirm'))
    const rows = section.slice(0, section.indexOf('\n\nConfirmed')).matchAll(/^\| `(\w+\.\w+)` /gm)
    const alone: string[] = []
    for (const group of ['gup', 'mm', 'fault', 'ioUring', 'kvm', 'remote', 'uffd', 'uprobes'] as const) {
      const [old, own, next] = (['6.1', 'gup-v3', '6.12'] as const).map(
        (name) =>
          new Map(Object.entries(releases[name][group]).map(([key, value]) => [key, JSON.stringify(value)])),
      )
      for (const [key, value] of own!)
        if (value !== old!.get(key) && value !== next!.get(key)) alone.push(`${group}.${key}`)
    }
    expect([...rows].map(([, name]) => name)).toEqual(alone)
  })
})
