import { spawn } from 'node:child_process'
import { once } from 'node:events'

/**
 * Allocates memory, touches it, and waits. Its standard input is a pipe from us: when we are gone, however that came
 * about, it sees the end of it and goes too.
 */
const program = `
  const memory = Buffer.alloc(1 << 20, 1)
  process.stdin.resume().on('end', () => process.exit(memory[0] - 1))
  process.stdout.write('ready')
`

/** A process to look at. */
export interface DemoProcess {
  readonly pid: number
  end(): void
}

/** Starts it and waits until its memory is there. */
export async function startDemoProcess(): Promise<DemoProcess> {
  const child = spawn(process.execPath, ['-e', program], { stdio: ['pipe', 'pipe', 'inherit'], env: {} })
  const end = (): void => {
    child.kill('SIGKILL')
  }
  process.once('exit', end)
  const failed = once(child, 'exit').then(([code]) => {
    throw new Error(`the process of the demo ended at once, with ${code}`)
  })
  // after `ready` its end is expected
  failed.catch(() => {})
  await Promise.race([once(child.stdout, 'data'), failed])
  return { pid: child.pid!, end }
}
