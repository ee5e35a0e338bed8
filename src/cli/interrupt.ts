import { setTimeout as sleep } from 'node:timers/promises'
import type { Worker } from 'node:worker_threads'
import { wipeProgress } from './progress.ts'

const workers = new Set<Worker>()
const cleanups: (() => Promise<void>)[] = []

/** How long a thread may take to stop, ms; it cannot while the kernel keeps it waiting in a read. */
const GRACE = 300

/** Ctrl-C ends that thread too. @returns undoes it */
export function stopOnInterrupt(worker: Worker): () => void {
  workers.add(worker)
  return () => {
    workers.delete(worker)
  }
}

/** Ctrl-C waits for this before the program ends: it puts something outside of the program back. */
export function beforeInterrupt(cleanup: () => Promise<void>): void {
  cleanups.push(cleanup)
}

/** From now on Ctrl-C ends the program quietly with 130. */
export function exitOnInterrupt(): void {
  process.once('SIGINT', () => void exit())
}

async function exit(): Promise<void> {
  wipeProgress()
  await Promise.allSettled(cleanups.map((cleanup) => cleanup()))
  const stopped = Promise.all([...workers].map(stop)).then(() => true)
  // process.exit() waits for the threads; the signal's own effect does not
  if (await Promise.race([stopped, sleep(GRACE, false)])) process.exit(130)
  process.kill(process.pid, 'SIGINT')
}

async function stop(worker: Worker): Promise<void> {
  // nobody wants to hear of its end any more
  worker.removeAllListeners()
  await worker.terminate()
}
