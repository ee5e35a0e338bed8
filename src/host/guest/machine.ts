import { type ChildProcess, spawn } from 'node:child_process'
import type { Duplex } from 'node:stream'
import { AGENT_FD, CONSOLE_FD } from './command-line.ts'
import { findProgram } from './tools.ts'

/** Lines of the kernel's messages that are kept. */
const KEPT = 200

/** QEMU as a child process. */
export class RunningMachine {
  /** The agent's lines, both ways. */
  readonly agent: Duplex
  /** Resolves when QEMU has ended and everything it wrote is read. */
  readonly gone: Promise<void>

  readonly #process: ChildProcess
  readonly #started = performance.now()
  readonly #messages: string[] = []
  #running = true
  #stopped = false
  #end: 'DIED' | 'HUNG' = 'DIED'
  #complaints = ''

  constructor(qemu: string, words: readonly string[]) {
    // A group of its own: Ctrl-C is for the one who runs the guest; its end closes the port, which ends the agent.
    // A guest that hangs would outlive its port, so where setpriv is there the kernel ends it with us.
    const setpriv = findProgram('setpriv')
    const [program, ...first] = setpriv === null ? [qemu] : [setpriv, '--pdeathsig', 'KILL', qemu]
    const child = spawn(program!, [...first, ...words], {
      stdio: ['ignore', 'ignore', 'pipe', 'pipe', 'pipe'],
      detached: true,
    })
    this.#process = child
    child.stderr!.setEncoding('utf8').on('data', (chunk: string) => (this.#complaints += chunk))
    this.agent = child.stdio[AGENT_FD] as Duplex
    this.#listen(child.stdio[CONSOLE_FD] as Duplex)
    this.gone = new Promise((resolve) => {
      const ended = (): void => {
        this.#running = false
        resolve()
      }
      child.on('error', (error) => {
        this.#complaints += error.message
        ended()
      })
      child.on('close', ended)
    })
  }

  get running(): boolean {
    return this.#running
  }

  /** It was ended on purpose. */
  get stopped(): boolean {
    return this.#stopped
  }

  /** How it ended, when it ended by itself. */
  get end(): 'DIED' | 'HUNG' {
    return this.#end
  }

  get pid(): number {
    return this.#process.pid!
  }

  /** The last lines of the kernel's messages since the agent runs, without time stamps. */
  get messages(): readonly string[] {
    return this.#messages
  }

  /** What the kernel said about its end; else what QEMU complained about. */
  lastWords(): string {
    const panic = this.#messages.findLast((line) => line.includes('Kernel panic'))
    const words = panic ?? this.#messages.at(-1) ?? this.#complaints.trim().split('\n').at(-1)
    return words || 'it left no message'
  }

  /**
   * Waits until the agent is up.
   *
   * @param ready fulfilled by the agent's first line
   * @returns ms since the start, null when the machine ended before or `timeout` ms were not enough
   */
  async booted(ready: Promise<void>, timeout: number): Promise<number | null> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, timeout)))
    const up = await Promise.race([
      ready.then(() => true),
      this.gone.then(() => false),
      late.then(() => false),
    ])
    clearTimeout(timer)
    if (!up) return null
    // what a boot says would be mistaken for last words
    this.#messages.length = 0
    return performance.now() - this.#started
  }

  /** Ends it because it does not answer. */
  giveUp(): void {
    this.#end = 'HUNG'
    this.#process.kill('SIGKILL')
  }

  /** Ends it; nothing in it is worth keeping. */
  async stop(): Promise<void> {
    if (this.#running) this.#stopped = true
    this.#process.kill('SIGKILL')
    await this.gone
  }

  #listen(console: Duplex): void {
    let rest = ''
    console.setEncoding('latin1').on('data', (chunk: string) => {
      const lines = (rest + chunk).split('\n')
      rest = lines.pop()!
      for (const line of lines) this.#messages.push(line.replace(/^\[ *\d+\.\d+\] /, '').trimEnd())
      if (this.#messages.length > KEPT) this.#messages.splice(0, this.#messages.length - KEPT)
    })
    console.on('error', () => {})
  }
}
