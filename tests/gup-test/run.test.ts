import { describe, expect, it } from 'vitest'
import { releases } from '../../src/base/release.ts'
import { Unmodelled } from '../../src/base/unmodelled.ts'
import { flagsFromWord } from '../../src/gup-test/flag-words.ts'
import { GUP_TEST_COMMANDS, devZero, runGupTest, type GupTestRun } from '../../src/gup-test/run.ts'
import {
  FOLL_GET,
  FOLL_HONOR_NUMA_FAULT,
  FOLL_SAME_FILE,
  FOLL_TOUCH,
  FOLL_WRITE,
} from '../../src/mm/gup-flags.ts'
import { SignalError } from '../../src/task/signal-error.ts'
import { SHMEM } from '../../src/mm/file.ts'

const MIB = 2 ** 20

function asked(more: Partial<GupTestRun> = {}): GupTestRun {
  return {
    release: 'gup-v3',
    command: 'PIN_FAST_BENCHMARK',
    gupFlags: 1,
    testFlags: 0,
    size: 2 * MIB,
    nrPagesPerCall: 1,
    repeats: 1,
    threads: 1,
    thp: 'unsaid',
    file: devZero,
    shared: false,
    hugetlb: false,
    touch: true,
    whichPages: [],
    clock: () => 0,
    ...more,
  }
}

const memories = [
  ['-t', { thp: 'yes' }],
  ['-T', { thp: 'no' }],
  ['-H', { hugetlb: true }],
] as const
const matrix = memories.flatMap(([memory, kind]) =>
  (
    [
      'GUP_FAST_BENCHMARK',
      'GUP_BASIC_TEST',
      'PIN_FAST_BENCHMARK',
      'PIN_BASIC_TEST',
      'PIN_LONGTERM_BENCHMARK',
    ] as const
  )
    .flatMap((command) => [1, 0].map((gupFlags) => ({ ...kind, command, gupFlags })))
    .flatMap((run) => [true, false].map((shared) => ({ ...run, shared })))
    .map((run) => ({ ...run, memory })),
)

describe("R-GUP-110 the matrix of the kernel's script", () => {
  it.each(matrix)(
    '$memory $command flags $gupFlags shared $shared: everything is had and released',
    (run) => {
      for (const nrPagesPerCall of [1, 512, 123]) {
        const { threads, log, audit } = runGupTest(asked({ ...run, release: '6.12', nrPagesPerCall }))
        expect(threads).toEqual([{ rounds: [{ get: 0, put: 0, size: 2 * MIB }], errno: null }])
        expect({ log, audit }).toEqual({ log: [], audit: [] })
      }
    },
  )
})

describe('R-GUP-106 the program', () => {
  it('repeats benchmarks, and only those', () => {
    for (const command of Object.keys(GUP_TEST_COMMANDS) as (keyof typeof GUP_TEST_COMMANDS)[]) {
      const { threads } = runGupTest(asked({ command, repeats: 3, size: MIB }))
      expect(threads[0]!.rounds).toHaveLength(command.endsWith('_BENCHMARK') ? 3 : 1)
    }
  })

  it('gives every thread a copy of the request on the same memory', () => {
    const { threads, audit } = runGupTest(asked({ threads: 4, command: 'PIN_BASIC_TEST', size: MIB }))
    expect(threads.map(({ rounds }) => rounds[0]!.size)).toEqual([MIB, MIB, MIB, MIB])
    expect(audit).toEqual([])
  })

  it('dies of SIGBUS when the file is shorter than the memory', () => {
    const file = { path: 'short', kind: SHMEM, size: 4096 }
    expect(() => runGupTest(asked({ file }))).toThrow(SignalError)
  })
})

describe('R-GUP-5 gup_flags are numbers of the release', () => {
  it.each([
    ['6.1', 0x2, FOLL_TOUCH],
    ['gup-v3', 0x2, FOLL_GET],
    ['gup-v3', 1 << 12, FOLL_SAME_FILE],
    ['6.12', 1 << 12, FOLL_HONOR_NUMA_FAULT],
    ['6.1', 0x5, FOLL_WRITE | FOLL_GET],
  ] as const)('%s: 0x%x', (release, word, flags) => {
    expect(flagsFromWord(word, releases[release])).toBe(flags)
  })

  it('does not guess what an unused bit does', () => {
    expect(() => flagsFromWord(1 << 12, releases['6.1'])).toThrow(Unmodelled)
    expect(() => flagsFromWord(0x80000000, releases['gup-v3'])).toThrow('gup_flags bit 0x80000000')
  })
})
