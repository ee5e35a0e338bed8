import { runInBackground } from './background.ts'
import { parsePid } from './options.ts'
import { writeOutputFile } from './output-file.ts'
import { reportSnapshot } from './report-snapshot.ts'
import { outputTerminal } from './terminal.ts'
import { UserError } from './user-error.ts'

interface SnapshotOptions {
  readonly pid?: string
  readonly range: readonly string[]
  readonly output?: string
}

export async function runSnapshot({ pid, range, output }: SnapshotOptions): Promise<void> {
  if (pid === undefined) throw new UserError('--pid is missing: which process? see pinscope snapshot --help')
  const number = parsePid(pid)
  const summary = await runInBackground(
    { kind: 'snapshot', pid: number, ranges: range },
    `reading process ${number}`,
  )
  if (output === undefined || output === '-') {
    process.stdout.write(summary.text)
    return
  }
  writeOutputFile(output, summary.text)
  process.stdout.write(reportSnapshot(summary, output, outputTerminal()))
}
