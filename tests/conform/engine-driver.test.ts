import { describe, expect, it } from 'vitest'
import { EngineDriver } from '../../src/conform/engine-driver.ts'
import { generate } from '../../src/conform/generate.ts'
import { isMachineWide } from '../../src/conform/program.ts'
import { themes, type ThemeName } from '../../src/conform/themes.ts'
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
        if (undecided.length === 0) expect(seen).toHaveLength(steps.length)
        // who pins unannounced would disturb the programs that are compared in the pin counters
        const pins = seen.some((each) => 'outcome' in each && (each.acquired ?? 0) + (each.released ?? 0) > 0)
        if (pins) expect(isMachineWide({ ...program, steps })).toBe(true)
      }
    },
  )
})
