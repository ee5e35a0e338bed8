/**
 * Runs the work in a second thread, so that Ctrl-C and the progress line work while files of /proc are read and
 * the engine runs. This file is both sides: the thread is started on it again.
 */
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads'
import type { Job, JobResult } from './job.ts'
import { stopOnInterrupt } from './interrupt.ts'
import { startProgress } from './progress.ts'
import { UserError } from './user-error.ts'

interface Task {
  readonly pinscopeJob: Job
}

type Reply = { readonly result: JobResult<Job> } | { readonly userError: string }

/**
 * Does a job and shows progress on stderr when it takes long.
 * @param doing what to call it there: `reading process 1234`
 * @throws UserError when the input is at fault; any other error is a bug
 */
export async function runInBackground<J extends Job>(job: J, doing: string): Promise<JobResult<J>> {
  const task: Task = { pinscopeJob: job }
  const worker = new Worker(new URL(import.meta.url), { workerData: task })
  const forget = stopOnInterrupt(worker)
  const endProgress = startProgress(doing)
  try {
    const reply = await new Promise<Reply>((resolve, reject) => {
      worker.once('message', resolve)
      worker.once('error', reject)
      worker.once('exit', (code) =>
        reject(new Error(`the working thread ended with ${code} and said nothing`)),
      )
    })
    if ('userError' in reply) throw new UserError(reply.userError)
    return reply.result as JobResult<J>
  } finally {
    forget()
    endProgress()
  }
}

function taskOfThisThread(): Task | null {
  if (isMainThread || typeof workerData !== 'object' || workerData === null) return null
  return 'pinscopeJob' in workerData ? (workerData as Task) : null
}

const task = taskOfThisThread()
if (task !== null) {
  // only this thread needs the engine: the other one starts faster without it
  const { doJob } = await import('./job.ts')
  let reply: Reply
  try {
    reply = { result: await doJob(task.pinscopeJob) }
  } catch (error) {
    if (!(error instanceof UserError)) throw error
    reply = { userError: error.message }
  }
  parentPort!.postMessage(reply)
}
