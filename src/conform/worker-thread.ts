import { Worker as Thread } from 'node:worker_threads'
import { HostError } from '../host/host-error.ts'
import type { AtEnd } from '../host/oracle-settings.ts'
import type { FromThread, OtherSide, ThreadTask, ToThread } from './worker-messages.ts'

/** ms after which an engine that has not ended a program never will */
const ENDLESS = 60_000
/** ms a thread may take to end its agents */
const GRACE = 3000

/** How a thread ended: in the engine, with the program of a job (-1: of an examination), or with an error. */
export type ThreadEnd = { readonly job: number; readonly message: string } | { readonly error: unknown }

/** What a thread tells about its work. */
export type Report = Extract<FromThread, { readonly time: unknown } | { readonly reached: unknown }>

/** One thread that runs programs on a kernel and on the engine, and the watch over it. */
export class WorkerThread {
  /** What it talks to. @throws HostError when there is none */
  readonly ready: Promise<OtherSide>
  readonly #thread: Thread
  readonly #gone: Promise<void>
  /** what the engine is at */
  #job: number | null = null
  #watch: NodeJS.Timeout | null = null
  #stopped = false

  /** @param onEnd is told once when it ended by itself */
  constructor(
    task: ThreadTask,
    atEnd: AtEnd,
    onReport: (report: Report) => void,
    onEnd: (end: ThreadEnd) => void,
  ) {
    // from a folder of dist/ beside conform/, too: the command is bundled in dist/cli
    this.#thread = new Thread(new URL('../conform/worker-body.js', import.meta.url), { workerData: task })
    const end = (how: ThreadEnd): void => {
      this.#look(null, end)
      if (!this.#stopped) onEnd(how)
      this.#stopped = true
      void this.#thread.terminate()
    }
    this.ready = new Promise((resolve, reject) => {
      this.#thread.on('message', (message: FromThread) => {
        if ('ready' in message) resolve(message.ready)
        else if ('atEnd' in message) atEnd.atEnd(...message.atEnd)
        else if ('engine' in message) this.#look(message.engine, end)
        else if ('failed' in message) {
          reject(new HostError('unsupported', message.failed))
          end({ error: new HostError('unsupported', message.failed) })
        } else onReport(message)
      })
      this.#thread.on('error', (error: NodeJS.ErrnoException) => {
        reject(error)
        const full = error.code === 'ERR_WORKER_OUT_OF_MEMORY' && this.#job !== null
        end(full ? { job: this.#job!, message: 'the engine ran out of memory' } : { error })
      })
    })
    // whoever asks gets the error
    this.ready.catch(() => {})
    this.#gone = new Promise((resolve) => {
      this.#thread.once('exit', (code) => {
        if (!this.#stopped) end({ error: new Error(`a working thread ended with ${code} and said nothing`) })
        resolve()
      })
    })
  }

  tell(message: ToThread): void {
    this.#thread.postMessage(message)
  }

  /** Ends its agents and the thread. */
  async stop(): Promise<void> {
    if (this.#watch !== null) clearTimeout(this.#watch)
    this.#stopped = true
    this.tell({ stop: true })
    const slow = setTimeout(() => void this.#thread.terminate(), GRACE)
    await this.#gone
    clearTimeout(slow)
  }

  /** The engine has begun a program, or ended one. */
  #look(job: number | null, end: (how: ThreadEnd) => void): void {
    this.#job = job
    if (this.#watch !== null) clearTimeout(this.#watch)
    this.#watch = null
    if (job === null) return
    const message = `the engine did not end it within ${ENDLESS / 1000} seconds`
    this.#watch = setTimeout(() => end({ job, message }), ENDLESS)
  }
}
