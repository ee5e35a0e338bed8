import type { Command } from 'commander'
import type { GupTestCommand, GupTestRun } from '../gup-test/run.ts'

/** letter → test; the last one given counts */
const commandLetters: Readonly<Record<string, GupTestCommand>> = {
  a: 'PIN_FAST_BENCHMARK',
  b: 'PIN_BASIC_TEST',
  L: 'PIN_LONGTERM_BENCHMARK',
  c: 'DUMP_USER_PAGES_TEST',
  U: 'GUP_BASIC_TEST',
  u: 'GUP_FAST_BENCHMARK',
}

/** Values of the options, as commander names them. */
export interface GupTestOptions {
  readonly p?: true
  readonly F?: string
  readonly j?: string
  readonly m?: string
  readonly r?: string
  readonly n?: string
  readonly f?: string
  readonly S?: true
  readonly H?: true
  readonly z?: true
  readonly kernel?: string
  readonly json?: true
}

/** Choices of which the last one given counts. */
export interface Choices {
  command: GupTestCommand
  dumpsFirst: boolean
  write: boolean
  thp: GupTestRun['thp']
}

/** Gives a command the options of the kernel's gup_test, and what they do. */
export function defineGupTest(command: Command): Command {
  const choices: Choices = { command: 'GUP_FAST_BENCHMARK', dumpsFirst: false, write: true, thp: 'unsaid' }
  const flag = (letter: string, choose: () => void): void => {
    command.option(`-${letter}`)
    command.on(`option:${letter}`, choose)
  }
  for (const [letter, name] of Object.entries(commandLetters)) {
    flag(letter, () => {
      choices.command = name
      choices.dumpsFirst ||= letter === 'c'
    })
  }
  flag('t', () => (choices.thp = 'yes'))
  flag('T', () => (choices.thp = 'no'))
  flag('w', () => (choices.write = true))
  flag('W', () => (choices.write = false))
  return command
    .option('-p')
    .option('-F <FLAGS>')
    .option('-j <N>')
    .option('-m <MIB>')
    .option('-r <N>')
    .option('-n <PAGES>')
    .option('-f <FILE>')
    .option('-S')
    .option('-H')
    .option('-z')
    .option('--kernel <KERNEL>')
    .option('--json')
    .argument('[pages...]')
    .allowExcessArguments(true)
    .action(async (pages: string[], options: GupTestOptions) => {
      // the engine is loaded for whoever runs it: the other commands start faster
      const { runGupTestCommand } = await import('./gup-test-command.ts')
      runGupTestCommand(pages, options, choices)
    })
}
