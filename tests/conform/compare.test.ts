import { describe, expect, it } from 'vitest'
import { Correspondence } from '../../src/conform/compare.ts'
import { EngineDriver, type EngineSetup } from '../../src/conform/engine-driver.ts'
import { compareRuns } from '../../src/conform/lockstep.ts'
import type { Observation } from '../../src/conform/observation.ts'
import { PROGRAM_FORMAT, type Program } from '../../src/conform/program.ts'
import { engineSetup } from './setup.ts'

const program: Program = {
  formatVersion: PROGRAM_FORMAT,
  theme: 'fork',
  steps: [
    { by: 0, op: 'mmap', at: 0, length: 16384, prot: 3, flags: 0x32, file: null, offset: 0 },
    { by: 0, op: 'fill', at: 0, length: 8192, seed: 5 },
    { by: 0, op: 'fork', child: 1 },
    { by: 1, op: 'touch', at: 0 },
    { by: 0, op: 'sum', at: 0, length: 8192 },
  ],
}

function observe(setup: Partial<EngineSetup> = {}): Observation[] {
  return new EngineDriver({ ...engineSetup, ...setup }).runNow(program) as Observation[]
}

type Changeable<T> = T extends object ? { -readonly [K in keyof T]: Changeable<T[K]> } : T
/** An observation that a test may change at will. */
type Loose = Changeable<Observation>

/** The observations with one place changed. */
function changed(step: number, change: (observation: Loose) => void): Observation[] {
  const seen = structuredClone(observe()) as Loose[]
  change(seen[step]!)
  return seen
}

describe('the comparison', () => {
  it('finds nothing where there is nothing, and says what it compared', () => {
    const { finding, steps, facts } = compareRuns(program, observe(), observe())
    expect(finding).toBeNull()
    expect(steps).toBe(5)
    expect(facts).toContain('which pages are the same')
  })

  it('does not mind other ids for the same pages', () => {
    const kernel = observe().map((seen) => ({
      ...seen,
      processes: seen.processes.map((view) => ({
        ...view,
        pages: view.pages.map((page) => ({
          ...page,
          id: typeof page.id === 'number' && page.id > 0 ? page.id + 70 : page.id,
        })),
      })),
    }))
    expect(compareRuns(program, kernel, observe()).finding).toBeNull()
  })

  it.each<[string, number, (seen: Loose) => void, RegExp]>([
    [
      'another result',
      0,
      (seen) => (seen.outcome = { kind: 'errno', errno: 12 }),
      /the kernel answers ENOMEM, the engine 0/,
    ],
    ['other bytes', 4, (seen) => (seen.sum = 1), /bytes that were read/],
    ['a mapping more', 2, (seen) => seen.processes[1]!.maps.pop(), /p1: the engine has the mapping @0\.\.@4/],
    ['another border', 1, (seen) => seen.processes[0]!.maps[0]!.end--, /mapping 0 is @0\.\.@3/],
    ['other permissions', 1, (seen) => (seen.processes[0]!.maps[0]!.perms = 'r--p'), /perms of/],
    ['other VmFlags', 1, (seen) => (seen.processes[0]!.maps[0]!.flags += ' lo'), /VmFlags of/],
    ['a page less', 1, (seen) => seen.processes[0]!.pages[0]!.pages--, /@1 has present/],
    [
      'one page where there are two',
      3,
      (seen) => (seen.processes[0]!.pages[0]!.id = seen.processes[1]!.pages[0]!.id),
      /shows page/,
    ],
    [
      'two pages where there is one',
      2,
      (seen) => (seen.processes[1]!.pages[0]!.id = 99),
      /p1: @0 shows page 99/,
    ],
    [
      'another map count',
      2,
      (seen) => (seen.processes[0]!.pages[0]!.mapCount = 1),
      /mapped 1 times on the kernel, 2 times/,
    ],
    [
      'AnonExclusive',
      2,
      (seen) => (seen.processes[0]!.pages[0]!.flags += ' EXCLUSIVE'),
      /"MMAP ANON SWAPBACKED EXCLUSIVE" on the kernel/,
    ],
    ['another VmSize', 0, (seen) => (seen.processes[0]!.size += 4), /VmSize changed by 20 kB on the kernel/],
  ])('sees %s', (_, step, change, sentence) => {
    const { finding } = compareRuns(program, changed(step, change), observe())
    expect(finding?.step).toBe(step)
    expect(finding?.difference.sentence).toMatch(sentence)
  })

  it('a counter of the whole machine counts as different where no run agrees', () => {
    const agreed = new Set<string>()
    const run = (...steps: number[]): readonly number[] => {
      const kernel = structuredClone(observe()) as Loose[]
      for (const step of steps) kernel[step]!.acquired = 1
      const { finding, disturbed } = compareRuns(program, kernel, observe(), agreed)
      expect(finding).toBeNull()
      for (const { difference } of disturbed) expect(difference.sentence).toMatch(/1 pins acquired/)
      return disturbed.map(({ step }) => step)
    }
    expect(run(2, 4)).toEqual([2, 4])
    expect(run(1, 4)).toEqual([4])
    expect(run(0, 2, 4)).toEqual([4])
    expect(run()).toEqual([])
  })

  it('a page that was replaced between two steps is not the one from before', () => {
    const before = observe()[1]!
    const after = structuredClone(before) as Loose
    after.processes[0]!.pages[0]!.id = 50
    const pairs = new Correspondence()
    expect(pairs.compare(before, before)).toBeNull()
    expect(pairs.compare(after, before)?.what).toBe('id')
  })
})
