import { spawnSync } from 'node:child_process'
import { root } from '../ground/root.ts'

/** Runs a TypeScript program as a reader would and returns what it prints. Fails when the program fails. */
export function run(file: string): string {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--import', 'tsx', file], {
    cwd: root,
    encoding: 'utf8',
  })
  if (status === 0) return stdout
  // without the stack: its frames belong to another process
  const message = stderr.split('\n').filter((line) => !/^\s+at /.test(line))
  throw new Error(`${file} ended with ${status}: ${message.join('\n')}`)
}
