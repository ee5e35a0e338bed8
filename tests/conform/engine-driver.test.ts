import { describe, expect, it } from 'vitest'
import { EngineDriver } from '../../src/conform/engine-driver.ts'
import { generate } from '../../src/conform/generate.ts'
import { PROGRAM_FORMAT, isMachineWide, mayHarm, type Program } from '../../src/conform/program.ts'
import { themes, type ThemeName } from '../../src/conform/themes.ts'
import { MADV_POPULATE_WRITE } from '../../src/mm/mman.ts'
import { engineSetup } from './setup.ts'

/** What the kernel itself leaves to the disk, and the engine therefore names instead of acting out (docs/limits.md). */
const UP_TO_THE_DISK = /\(R-DIO-1[45]\)$/

describe('the engine under random programs', () => {
  it.each(Object.keys(themes) as ThemeName[])(
    'theme %s: no crash, no unmodelled step, no unannounced pins, and the books balance',
    (theme) => {
      const driver = new EngineDriver(engineSetup)
      for (let seed = 0; seed < 25; seed++) {
        const { steps, ...program } = generate(seed, theme, 40)
        const seen = driver.runNow({ ...program, steps })
        const undecided = seen.filter((each) => 'unmodelled' in each && UP_TO_THE_DISK.test(each.unmodelled))
        const stopped = seen.filter((each) => 'broken' in each || 'unmodelled' in each)
        expect(stopped).toEqual(undecided)
        const harmful = seen.findIndex((each) => 'harmful' in each)
        const length = harmful < 0 ? steps.length : harmful + 1
        if (undecided.length === 0) expect(seen).toHaveLength(length)
        // who pins unannounced would disturb the programs that are compared in the pin counters
        const pins = seen.some((each) => 'outcome' in each && (each.acquired ?? 0) + (each.released ?? 0) > 0)
        if (pins) expect(isMachineWide({ ...program, steps })).toBe(true)
      }
    },
  )
})

describe('what is not modelled', () => {
  it('R-HUGE-48 which of two mappings of the same place loses a page that the owner takes', () => {
    const pool = { free: 2, reserved: 0 }
    const driver = new EngineDriver({ ...engineSetup, arena: { start: 2 ** 44, pages: 4608 }, pool })
    const map = { by: 0, op: 'mmap', length: 2 ** 21, prot: 3, flags: 0x12, file: 1, offset: 0 } as const
    const seen = driver.runNow({
      formatVersion: PROGRAM_FORMAT,
      theme: 'hugetlb',
      steps: [
        { by: 0, op: 'hugefd', file: 1, size: 0 },
        { ...map, at: 0 },
        { ...map, at: 2 ** 21 },
        { by: 0, op: 'touch', at: 2 ** 21 },
        { by: 0, op: 'fork', child: 1 },
        { by: 0, op: 'touch', at: 2 ** 21 },
      ],
    })
    expect(seen.at(-1)).toEqual({
      unmodelled: 'Unmodelled: which of several mappings of a huge page loses it (R-HUGE-48)',
    })
  })
})

describe('programs whose answers differ between releases', () => {
  it.each([
    ['6.1', 95],
    ['6.18', 14],
  ] as const)('R-URING-77 on %s a ring of buffers in the pages of a file is errno %i', (release, errno) => {
    const driver = new EngineDriver({ ...engineSetup, release })
    const seen = driver.runNow({
      formatVersion: PROGRAM_FORMAT,
      theme: 'restricted',
      steps: [
        { by: 0, op: 'disk', file: 1, size: 8192, seed: 7 },
        { by: 0, op: 'mmap', at: 0, length: 8192, prot: 3, flags: 0x11, file: 1, offset: 0 },
        { by: 0, op: 'ringDisabled', ring: 1, entries: 4, setup: 0 },
        { by: 0, op: 'pbufRing', ring: 1, group: 0, at: 0, entries: 256, mapped: false },
      ],
    })
    expect(seen[3]).toMatchObject({ outcome: { kind: 'errno', errno } })
  })
})

describe('what would cost the machine something for good', () => {
  const register = { by: 0, op: 'xskRegister', socket: 1, at: 0, chunk: 4096, headroom: 0, flags: 0 } as const
  const partly = [
    { by: 0, op: 'mmap', at: 0, length: 4096, prot: 3, flags: 50, file: null, offset: 0 },
    { by: 0, op: 'xskSocket', socket: 1 },
    { ...register, length: 8192 },
  ] as const
  const program = (steps: Program['steps']): Program => ({
    formatVersion: PROGRAM_FORMAT,
    theme: 'xdp',
    steps,
  })

  it('R-XDP-10 a registration that is pinned in part ends the program where its charge would be lost', () => {
    const driver = new EngineDriver(engineSetup)
    const steps: Program['steps'] = [{ by: 0, op: 'ipcLock', on: false }, ...partly]
    const seen = driver.runNow(program([...steps, { by: 0, op: 'xskClose', socket: 1 }]))
    expect(seen).toHaveLength(4)
    expect(seen[3]).toEqual({ harmful: expect.stringMatching(/for good.*R-XDP-10/) as string })
    expect(mayHarm(program(steps))).toBe(true)
    expect(mayHarm(program(steps.slice(0, 2)))).toBe(false)
  })

  it('R-XDP-8 with CAP_IPC_LOCK nothing is charged, and nothing lost', () => {
    const driver = new EngineDriver(engineSetup)
    const seen = driver.runNow(program(partly))
    expect(seen[2]).toMatchObject({ outcome: { kind: 'errno', errno: 12 } })
  })
})

it('keeps as many userfaultfd events of one step as the agent does', () => {
  const pages = 2100
  const length = pages * 4096
  const driver = new EngineDriver({ ...engineSetup, arena: { ...engineSetup.arena, pages } })
  const steps: Program['steps'] = [
    { by: 0, op: 'mmap', at: 0, length, prot: 3, flags: 50, file: null, offset: 0 },
    { by: 0, op: 'uffd', uffd: 1, userMode: false, features: 0, gives: 0, seed: 1, copyMode: 2 },
    { by: 0, op: 'uffdRegister', uffd: 1, mode: 3, at: 0, length },
    // each page is missing first, then protected
    { by: 0, op: 'madvise', at: 0, length, advice: MADV_POPULATE_WRITE },
  ]
  const [populated] = driver.runNow({ formatVersion: PROGRAM_FORMAT, theme: 'uffd', steps }).slice(-1)
  if (populated === undefined || !('processes' in populated)) throw new Error('the program was not run')
  expect(populated.outcome.kind).toBe('value')
  expect(populated.processes[0]!.uffd).toHaveLength(4096)
})
