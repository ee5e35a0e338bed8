/** What the thread of a worker does: agents of its own, an engine, and jobs from the other side. */
import { parentPort } from 'node:worker_threads'
import { HostError } from '../host/host-error.ts'
import { startGuestOracle } from './guest-oracle.ts'
import { openHostOracle } from './host-oracle.ts'
import type { Job } from './job.ts'
import type { KernelOracle } from './kernel-oracle.ts'
import type { RuleCoverage } from './rule-coverage.ts'
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

/** ms between two reports of the rules that were come to: a thread that hangs takes with it what it did not tell */
const SELDOM = 5000

/** Opens its side of the kernel and works until it is told to stop. */
export function live(task: ThreadTask, coverage: RuleCoverage | null): void {
  const jobs = new Queue()
  let own: { readonly oracle: KernelOracle; readonly worker: LocalWorker } | null = null
  let told = performance.now()
  const tellReached = (): void => {
    tell({ reached: coverage?.take() ?? [] })
    told = performance.now()
  }
  port.on('message', (message: ToThread) => {
    if ('job' in message) jobs.put(message.job)
    else if ('stop' in message) void leave(own?.oracle ?? null)
    else if ('reached' in message) tellReached()
    else if (own !== null) examine(own.worker, message)
  })
  const work = async (): Promise<void> => {
    const oracle = await open(task)
    const worker = new LocalWorker(oracle, (engine) => tell({ engine }))
    own = { oracle, worker }
    tell({ ready: { hello: oracle.hello, release: oracle.release } })
    await worker.work(jobs, (result) => {
      tell({ result, time: worker.time })
      if (coverage !== null && performance.now() - told > SELDOM) tellReached()
    })
  }
  work().catch(fail)
}

function open({ kernel, themes, cpu }: ThreadTask): Promise<KernelOracle> {
  const atEnd = (...words: string[]): void => tell({ atEnd: words })
  return kernel === 'host' ? openHostOracle({ atEnd }, cpu) : startGuestOracle(kernel, themes)
}

function examine(worker: LocalWorker, message: Extract<ToThread, { readonly examine: unknown }>): void {
  worker.examine(message.examine, message.finding).then(
    (examination) => tell({ examination, time: worker.time }),
    (error: unknown) => fail(error),
  )
}

/** What is being started ends with the thread. */
async function leave(oracle: KernelOracle | null): Promise<void> {
  await oracle?.stop()
  process.exit()
}

/** What the user can do something about is told; the rest is a bug and ends the thread. */
function fail(error: unknown): void {
  if (!(error instanceof HostError)) throw error
  tell({ failed: error.message })
}
