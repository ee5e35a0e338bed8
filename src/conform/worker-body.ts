/** The thread of a worker: agents of its own, an engine, and jobs from the other side. */
import { parentPort, workerData } from 'node:worker_threads'
import { HostError } from '../host/host-error.ts'
import { startGuestOracle } from './guest-oracle.ts'
import { openHostOracle } from './host-oracle.ts'
import type { Job } from './job.ts'
import type { KernelOracle } from './kernel-oracle.ts'
import type { FromThread, ThreadTask, ToThread } from './worker-messages.ts'
import { LocalWorker, type JobSource } from './worker.ts'

/** Jobs that have come and were not begun. */
class Queue implements JobSource {
  readonly #jobs: Job[] = []
  #waiting: ((more: boolean) => void) | null = null

  put(job: Job): void {
    this.#jobs.push(job)
    this.#waiting?.(true)
    this.#waiting = null
  }

  poll(): Job | null {
    return this.#jobs.shift() ?? null
  }

  more(): Promise<boolean> {
    if (this.#jobs.length > 0) return Promise.resolve(true)
    return new Promise((resolve) => (this.#waiting = resolve))
  }
}

const port = parentPort!
const tell = (message: FromThread): void => port.postMessage(message)

async function live({ kernel, themes, cpu }: ThreadTask): Promise<void> {
  const atEnd = (...words: string[]): void => tell({ atEnd: words })
  const oracle =
    kernel === 'host' ? await openHostOracle({ atEnd }, cpu) : await startGuestOracle(kernel, themes)
  const { hello, release } = oracle
  const worker = new LocalWorker(oracle, (engine) => tell({ engine }))
  const jobs = new Queue()
  port.on('message', (message: ToThread) => {
    if ('job' in message) jobs.put(message.job)
    else if ('stop' in message) void leave(oracle)
    else
      worker.examine(message.examine, message.finding).then(
        (examination) => tell({ examination, time: worker.time }),
        (error: unknown) => fail(error),
      )
  })
  tell({ ready: { hello, release } })
  await worker.work(jobs, (result) => tell({ result, time: worker.time }))
}

async function leave(oracle: KernelOracle): Promise<void> {
  await oracle.stop()
  process.exit()
}

/** What the user can do something about is told; the rest is a bug and ends the thread. */
function fail(error: unknown): void {
  if (!(error instanceof HostError)) throw error
  tell({ failed: error.message })
}

live(workerData as ThreadTask).catch(fail)
