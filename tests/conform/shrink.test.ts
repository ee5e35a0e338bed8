import { describe, expect, it } from 'vitest'
import { generate } from '../../src/conform/generate.ts'
import { shrink } from '../../src/conform/shrink.ts'

describe('shrink', () => {
  it('finds the two steps that matter and their smallest numbers', async () => {
    const program = generate(11, 'files', 40)
    const maps = program.steps.filter((step) => step.op === 'mmap')
    expect(maps.length).toBeGreaterThan(1)
    const { steps } = await shrink(program, async (candidate) => {
      const found = candidate.steps.filter((step) => step.op === 'mmap' && step.length > 4096)
      return found.length > 0 && candidate.steps.some((step) => step.op === 'mprotect')
    })
    expect(steps.map(({ op }) => op).sort()).toEqual(['mmap', 'mprotect'])
    expect(steps.find((step) => step.op === 'mmap')).toMatchObject({ at: 0, length: 8192 })
  })

  it('keeps a program that nothing shorter replaces', async () => {
    const program = generate(5, 'basic', 6)
    expect(
      await shrink(
        program,
        async (candidate) => candidate.steps.length >= program.steps.length && candidate === program,
      ),
    ).toBe(program)
  })

  it('stops after the tries it was given', async () => {
    let tries = 0
    await shrink(
      generate(5, 'space', 40),
      async () => {
        tries++
        return false
      },
      { tries: 25 },
    )
    expect(tries).toBe(25)
  })

  it('stops when its time is over', async () => {
    let tries = 0
    await shrink(
      generate(5, 'space', 40),
      async () => {
        tries++
        await new Promise((resolve) => setTimeout(resolve, 60))
        return false
      },
      { patience: 100 },
    )
    expect(tries).toBeLessThanOrEqual(2)
  })
})
