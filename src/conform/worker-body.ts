/** The thread of a worker begins here. */
import { workerData } from 'node:worker_threads'
import type { ThreadTask } from './worker-messages.ts'

const task = workerData as ThreadTask
// before the engine is loaded: V8 counts statements only in what it compiles from now on
const coverage = process.features.inspector
  ? new (await import('./rule-coverage.ts')).RuleCoverage(task.coverage)
  : null
const { live } = await import('./worker-life.ts')
live(task, coverage)
