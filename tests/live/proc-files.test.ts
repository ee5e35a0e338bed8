/** The files of /proc about the memory of a process: the kernel's and the engine's, line by line. */
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readPrograms } from '../../src/conform/failure-file.ts'
import { generate } from '../../src/conform/generate.ts'
import { startHostOracle } from '../../src/conform/host-oracle.ts'
import { themesOff, type KernelOracle } from '../../src/conform/kernel-oracle.ts'
import { stepText } from '../../src/conform/steps.ts'
import type { Program } from '../../src/conform/program.ts'
import type { ThemeName } from '../../src/conform/themes.ts'
import { HostError } from '../../src/host/host-error.ts'
import { compareTexts } from './proc-lockstep.ts'

const timeout = 120_000
const corpus = path.join(import.meta.dirname, '..', 'conformance', 'proc.json')
/**
 * What random programs are about; the programs of the corpus meet what these do not. KSM is left to the corpus: a random
 * page may equal one that somebody else on the machine has merged.
 */
const THEMES = [
  'space',
  'files',
  'disk',
  'fork',
  'locks',
  'seal',
  'advice',
  'sysv',
  'swap',
  'thp',
  'hugetlb',
  'uffd',
  'uffd-thp',
] as const satisfies readonly ThemeName[]
const PROGRAMS = 4
const STEPS = 30

let oracle: KernelOracle | null = null
let why = ''

beforeAll(async () => {
  try {
    oracle = await startHostOracle([...THEMES, 'ksm', 'residence'])
    if (!oracle.hello.release.startsWith('6.18.')) why = `this is Linux ${oracle.hello.release}, not 6.18`
  } catch (error) {
    if (!(error instanceof HostError)) throw error
    why = error.message
  }
}, timeout)
afterAll(() => oracle?.stop())

/** @returns in words what differs, or why it cannot be compared here */
async function differences(program: Program): Promise<string[] | { readonly skip: string }> {
  const theme = program.theme as ThemeName
  if (oracle === null || why !== '') return { skip: why }
  const off = themesOff(oracle.hello, [theme]).get(theme)
  if (off !== undefined) return { skip: `${theme}: ${off}` }
  const found = await compareTexts(await oracle.of(theme), program)
  return found.map(
    ({ step, process, file, kernel, engine }) =>
      `step ${step} (${stepText(program.steps[step]!)}), process ${process}, ${file}: "${kernel}" on the kernel, "${engine}" on the engine`,
  )
}

describe('R-AS-160, R-AS-164, R-AS-165, R-PM-1, R-FLT-166: the files of /proc as this kernel shows them', () => {
  it.for(readPrograms(corpus))('$name', { timeout }, async ({ program }, { skip }) => {
    const found = await differences(program)
    if ('skip' in found) return skip(found.skip)
    expect(found).toEqual([])
  })

  it.for(THEMES)('random programs of the theme %s', { timeout }, async (theme, { skip }) => {
    for (let seed = 1; seed <= PROGRAMS; seed++) {
      const program = generate(seed, theme, STEPS)
      const found = await differences(program)
      if ('skip' in found) return skip(found.skip)
      expect(found, `seed ${seed}`).toEqual([])
    }
  })
})
