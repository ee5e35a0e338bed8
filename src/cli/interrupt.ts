import { setTimeout as sleep } from 'node:timers/promises'
import type { Worker } from 'node:worker_threads'
import { wipeProgress } from './progress.ts'
import { printable } from './terminal.ts'

/** What ends the program before it is done; `output`: nobody reads what it prints, or it cannot be written. */
export type Interruption = 'SIGINT' | 'SIGTERM' | 'output'

const workers = new Set<Worker>()
const cleanups: ((why: Interruption) => Promise<void>)[] = []
const EXIT = { SIGINT: 130, SIGTERM: 143 } as const
const signals = ['SIGINT', 'SIGTERM'] as const

/** How long a thread may take to stop, and a reader to take the last words, ms. */
const GRACE = 300

let ending = false

/** Ctrl-C ends that thread too. @returns undoes it */
export function stopOnInterrupt(worker: Worker): () => void {
  workers.add(worker)
  return () => {
    workers.delete(worker)
  }
}

/** Waited for before the program is ended by a signal: it puts something outside of the program back. */
export function beforeInterrupt(cleanup: (why: Interruption) => Promise<void>): void {
  cleanups.push(cleanup)
}

/**
 * From now on Ctrl-C ends the program quietly with 130, and SIGTERM with 143. A second signal does not wait for
 * anything.
 */
export function exitOnInterrupt(): void {
  for (const signal of signals) process.once(signal, () => void exit(signal, EXIT[signal]))
  process.stdout.on('error', outputFailed)
  process.stderr.on('error', (error: NodeJS.ErrnoException) => {
    // the answer is on stdout; what is only said beside it may get lost
    if (error.code === 'EPIPE') outputFailed(error)
  })
}

/** A reader that has seen enough (`| head`) is no error, and what was found stays the exit code. */
function outputFailed(error: NodeJS.ErrnoException): void {
  if (ending) return
  if (error.code === 'EPIPE') return void exit('output')
  process.stderr.write(`pinscope: the output cannot be written: ${printable(error.message)}\n`)
  void exit('output', 2)
}

/** @param code what the program exits with; as it stands when absent */
async function exit(why: Interruption, code?: number): Promise<void> {
  if (ending) return
  ending = true
  for (const signal of signals) process.removeAllListeners(signal)
  wipeProgress()
  const settled = await Promise.allSettled(cleanups.map((cleanup) => cleanup(why)))
  for (const each of settled)
    if (each.status === 'rejected') process.stderr.write(`pinscope: ${printable(String(each.reason))}\n`)
  const stopped = Promise.all([...workers].map(stop)).then(() => true)
  await Promise.race([said(), sleep(GRACE)])
  // process.exit() waits for the threads, which cannot end while the kernel keeps them waiting in a read; the
  // signal's own effect does not
  if (await Promise.race([stopped, sleep(GRACE, false)])) process.exit(code)
  process.kill(process.pid, why === 'output' ? 'SIGTERM' : why)
}

/** When everything that was printed has been read. */
function said(): Promise<void> {
  return new Promise((resolve) => void process.stdout.write('', () => resolve()))
}

async function stop(worker: Worker): Promise<void> {
  // nobody wants to hear of its end any more
  worker.removeAllListeners()
  await worker.terminate()
}
