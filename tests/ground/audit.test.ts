import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { dirname, normalize } from 'node:path'
import { describe, expect, it } from 'vitest'
import { root } from './root.ts'

// Every engine test ends with the audit of every counter; the helper that does so is tests/support/kernel.ts.
const engineTests = ['memory', 'mm', 'task', 'io_uring']
  .filter((folder) => existsSync(`${root}/tests/${folder}`))
  .flatMap((folder) =>
    readdirSync(`${root}/tests/${folder}`, { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.test.ts'))
      .map((name) => `tests/${folder}/${name}`),
  )

describe('the audit at the end of engine tests', () => {
  it('has tests to look at', () => {
    expect(engineTests.length).toBeGreaterThan(0)
  })

  it.each(engineTests)('%s uses tests/support/kernel.ts', (file) => {
    const specifiers = [
      ...readFileSync(`${root}/${file}`, 'utf8').matchAll(/^(?:import|\}).*from '(\..*)'$/gm),
    ]
    const imported = specifiers.map((match) => normalize(`${dirname(file)}/${match[1]}`))
    expect(imported).toContain('tests/support/kernel.ts')
  })
})
