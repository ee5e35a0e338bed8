import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { RELEASE_NAMES } from '../../src/base/release.ts'
import { buildProgram } from '../../src/cli/program.ts'
import { themes } from '../../src/conform/themes.ts'
import { requests } from '../../src/explain/requests.ts'
import { root } from '../ground/root.ts'
import { run } from './run.ts'

const program = buildProgram()
const { version } = JSON.parse(readFileSync(`${root}/package.json`, 'utf8')) as { version: string }

describe('help', () => {
  it.each(program.commands.map((command) => [command.name(), command] as const))(
    'of %s names every option it has and no other',
    (_, command) => {
      const help = command.helpInformation()
      const described = [...help.matchAll(/^ {2}(?:-\w, )?(--[a-z][a-z-]*)/gm)].map((match) => match[1]!)
      const existing = command.options.flatMap(({ long }) => long ?? [])
      expect(described.sort()).toEqual([...existing, '--help'].sort())
      // gup-test has the letters of the kernel's program and no words for them
      for (const { short } of command.options)
        if (short !== undefined) expect(help).toMatch(new RegExp(`^ {2}(?:-\\w, )*${short}\\b`, 'm'))
    },
  )

  it('names every command that exists and no other', () => {
    const help = program.helpInformation()
    const list = help.slice(help.indexOf('COMMAND [OPTIONS]'), help.indexOf('-h, --help'))
    const described = [...list.matchAll(/^ {2}([a-z-]+) {2}/gm)].map((match) => match[1])
    expect(described).toEqual(program.commands.map((command) => command.name()))
  })

  it('of explain names every request and every kernel', () => {
    const help = program.commands.find((command) => command.name() === 'explain')!.helpInformation()
    for (const word of [...Object.keys(requests), ...RELEASE_NAMES, 'host', 'all'])
      expect(help).toContain(word)
  })

  it('of conform names every theme and no other', () => {
    const help = program.commands.find((command) => command.name() === 'conform')!.helpInformation()
    const list = /only these kinds of programs, separated by commas: ([a-z,\s-]*?)\n {2}--/.exec(help)![1]!
    expect(list.split(/,\s+/)).toEqual(Object.keys(themes))
  })

  it('fits 100 columns', () => {
    for (const command of [program, ...program.commands]) {
      expect(
        command
          .helpInformation()
          .split('\n')
          .filter((line) => line.length > 100),
      ).toEqual([])
    }
  })

  it.each([
    [['--help']],
    [['explain', '--help']],
    [['snapshot', '-h']],
    [['demo', '--help']],
    [['help']],
    [['help', 'explain']],
  ])('goes to stdout with exit 0: %j', async (args) => {
    const { code, stdout, stderr } = await run(args)
    expect(stdout).toMatch(/^pinscope[^\n]*: [\s\S]*Usage: pinscope[\s\S]*Example/)
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  })

  it('--version', async () => {
    expect(await run(['--version'])).toEqual({ code: 0, stdout: `${version}\n`, stderr: '' })
  })
})
