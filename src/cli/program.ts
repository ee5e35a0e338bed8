import { readFileSync } from 'node:fs'
import { Command } from 'commander'
import type { ConformOptions } from './conform-command.ts'
import { runDemo } from './demo-command.ts'
import { runExplain } from './explain-command.ts'
import { defineGupTest } from './gup-test-options.ts'
import { conformHelp, demoHelp, explainHelp, gupTestHelp, mainHelp, snapshotHelp } from './help.ts'
import { runSnapshot } from './snapshot-command.ts'
import { printable } from './terminal.ts'

/** The command line. Options are checked by the commands, so that every message is of one kind. */
export function buildProgram(): Command {
  const program = command('pinscope', mainHelp).version(version(), '-V, --version')
  program.addCommand(
    command('explain', explainHelp)
      .option('--pid <PID>')
      .option('--snapshot <FILE>')
      .option('--range <RANGE>')
      .option('--request <REQUEST>')
      .option('--access <ACCESS>')
      .option('--flags <FLAGS>')
      .option('--offset <OFFSET>')
      .option('--iova <ADDRESS>')
      .option('--frame-size <SIZE>')
      .option('--headroom <SIZE>')
      .option('--unaligned')
      .option('--bounce-size <SIZE>')
      .option('--fork-safe')
      .option('--hugepages-safe')
      .option('--iova-bits <N>')
      .option('--kernel <KERNEL>')
      .option('--json')
      .action(runExplain),
  )
  program.addCommand(
    command('snapshot', snapshotHelp)
      .option('--pid <PID>')
      .option('--range <RANGE>', '', (range: string, ranges: string[]) => [...ranges, range], [])
      .option('-o, --output <FILE>')
      .action(runSnapshot),
  )
  program.addCommand(
    command('conform', conformHelp)
      .option('--kernel <KERNEL>')
      .option('--programs <N>')
      .option('--steps <K>')
      .option('--seed <S>')
      .option('--minutes <M>')
      .option('--only <THEME>')
      .option('--jobs <N>')
      .option('--replay <FILE>')
      .option('--coverage')
      .option('--json')
      .action(async (options: ConformOptions) => {
        // what only this command needs is loaded for it alone: the others start faster
        const { runConform } = await import('./conform-command.ts')
        await runConform(options)
      }),
  )
  program.addCommand(defineGupTest(command('gup-test', gupTestHelp)))
  program.addCommand(command('demo', demoHelp).action(runDemo))
  return program
}

function command(name: string, help: string): Command {
  const made = new Command(name)
    .exitOverride()

    .allowExcessArguments(false)
    .configureOutput({
      outputError: (text, write) => write(`pinscope: ${oneLine(text)}; see ${usage(name)} --help\n`),
    })
  made.helpInformation = () => help
  return made
}

function usage(name: string): string {
  return name === 'pinscope' ? name : `pinscope ${name}`
}

function oneLine(text: string): string {
  return printable(
    text
      .replace(/^error: /, '')
      .trim()
      .replaceAll(/\s*\n\s*/g, ' '),
  )
}

function version(): string {
  const manifest = readFileSync(new URL('../../package.json', import.meta.url), 'utf8')
  return (JSON.parse(manifest) as { version: string }).version
}
