import { execFile } from 'node:child_process'

/** What a command printed and how it ended; `status` is null when it could not be started. */
export interface Ran {
  readonly status: number | null
  readonly stdout: string
  /** Last line of the error output, for people. */
  readonly complaint: string
}

/** Runs a command to its end, in the C locale; never throws. */
export function run(command: string, words: readonly string[], cwd?: string): Promise<Ran> {
  const env = { ...process.env, LC_ALL: 'C', DEBIAN_FRONTEND: 'noninteractive' }
  const options = { env, maxBuffer: 64 << 20, ...(cwd === undefined ? {} : { cwd }) }
  return new Promise((resolve) => {
    execFile(command, words, options, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : null
      const complaint = stderr.trim().split('\n').at(-1) || error?.message || ''
      resolve({ status: code, stdout, complaint })
    })
  })
}
