import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { dirname, normalize } from 'node:path'
import { describe, expect, it } from 'vitest'
import { root } from './root.ts'

// Every engine test ends with the audit of every counter; the helper that does so is tests/support/kernel.ts.
const SUPPORT = 'tests/support/kernel.ts'
const engineTests = ['memory', 'mm', 'task', 'io_uring', 'drivers', 'net', 'virt', 'arch', 'security']
  .filter((folder) => existsSync(`${root}/tests/${folder}`))
  .flatMap((folder) =>
    readdirSync(`${root}/tests/${folder}`, { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.test.ts'))
      .map((name) => `tests/${folder}/${name}`),
  )

/** What a file imports, directly and through other files of tests/. */
function reaches(file: string, seen: Set<string> = new Set()): Set<string> {
  const text = readFileSync(`${root}/${file}`, 'utf8')
  for (const match of text.matchAll(/^(?:import |\} from |import )(?:.*from )?'(\..*)'$/gm)) {
    const imported = normalize(`${dirname(file)}/${match[1]}`)
    if (seen.has(imported)) continue
    seen.add(imported)
    if (imported.startsWith('tests/')) reaches(imported, seen)
  }
  return seen
}

/** Whether anything of tests/ that a file reaches makes a kernel. */
function makesKernels(file: string): boolean {
  const sources = [file, ...reaches(file)].filter((name) => name.startsWith('tests/'))
  return sources.some((name) =>
    /new (?:Kernel|Machine)\(|testKernel\(/.test(readFileSync(`${root}/${name}`, 'utf8')),
  )
}

describe('the audit at the end of engine tests', () => {
  it('has tests to look at, most of which make kernels', () => {
    expect(engineTests.filter(makesKernels).length).toBeGreaterThan(engineTests.length / 2)
  })

  it.each(engineTests.filter(makesKernels))('%s uses tests/support/kernel.ts', (file) => {
    expect([...reaches(file)]).toContain(SUPPORT)
  })

  it.each(engineTests)('%s makes every kernel through it', (file) => {
    const text = readFileSync(`${root}/${file}`, 'utf8')
    const unwatched = text
      .split('\n')
      .filter((line) => /new (?:Kernel|Machine)\(/.test(line) && !/watchMachine\(|toThrow/.test(line))
    expect(unwatched).toEqual([])
  })
})
