import type { HolderSource } from './locks.ts'
import type { Kthread, Sleeper, Wait } from './kthread.ts'

/** Nothing can run and tasks are waiting: names every waiter, what it waits for and who holds it. */
export class DeadlockError extends Error {
  readonly waiters: readonly { task: string; what: string; heldBy: readonly string[] }[]

  constructor(waiters: DeadlockError['waiters']) {
    const lines = waiters.map(
      (w) => `${w.task} waits for ${w.what}${w.heldBy.length > 0 ? `, held by ${w.heldBy.join(', ')}` : ''}`,
    )
    super(`deadlock: ${lines.join('; ')}`)
    this.name = 'DeadlockError'
    this.waiters = waiters
  }
}

/** One thread of kernel execution; C is what the layers above hang on it (`current`). */
export class Task<C, T = unknown> implements Sleeper {
  readonly name: string
  readonly context: C
  readonly #scheduler: Scheduler<C>
  readonly #body: Kthread<T>
  waitingFor: Wait | null = null
  done = false
  /** somebody takes the result and the error from this object; otherwise an error ends the run */
  awaited = false
  result: T | undefined
  error: unknown

  constructor(scheduler: Scheduler<C>, name: string, context: C, body: Kthread<T>) {
    this.#scheduler = scheduler
    this.name = name
    this.context = context
    this.#body = body
  }

  /** Runs until the task sleeps, yields or ends. */
  step(): void {
    try {
      const step = this.#body.next()
      if (step.done === true) {
        this.done = true
        this.result = step.value
        return
      }
      this.waitingFor = step.value
    } catch (error) {
      this.done = true
      this.error = error
    }
  }

  wake(): void {
    this.waitingFor = null
    this.#scheduler.makeRunnable(this)
  }

  /** Interrupts a sleep that allows it; the task finds the signal itself when it resumes. */
  signalled(fatal: boolean): void {
    const wait = this.waitingFor
    if (wait === null || wait.queue === null || wait.signals === 'none') return
    if (wait.signals === 'fatal' && !fatal) return
    wait.queue.dequeue(this)
    this.wake()
  }
}

/**
 * The default scheduler: runs a task until it blocks, then the next in FIFO order. Deterministic.
 * `check/` brings another one that explores every order.
 */
export class Scheduler<C> implements HolderSource {
  readonly #runnable: Task<C>[] = []
  readonly #tasks = new Set<Task<C>>()
  #current: C
  #name: string

  /** @param idle the context in force while no task runs */
  constructor(idle: C) {
    this.#current = idle
    this.#name = 'boot'
  }

  /** `current`: the context of the task that is executing. */
  get current(): C {
    return this.#current
  }

  get holderName(): string {
    return this.#name
  }

  spawn<T>(name: string, context: C, body: Kthread<T>): Task<C, T> {
    const task = new Task(this, name, context, body)
    this.#tasks.add(task as Task<C>)
    this.#runnable.push(task as Task<C>)
    return task
  }

  makeRunnable(task: Task<C, never> | Task<C>): void {
    this.#runnable.push(task as Task<C>)
  }

  /** Runs every runnable task until all have ended or sleep. Returns whether nothing sleeps. */
  runUntilIdle(): boolean {
    for (let task = this.#runnable.shift(); task !== undefined; task = this.#runnable.shift())
      this.#step(task)
    return this.#tasks.size === 0
  }

  /** Runs everything to its end. @throws DeadlockError when tasks sleep that nobody can wake */
  run(): void {
    if (!this.runUntilIdle()) throw this.#deadlock()
  }

  /**
   * Runs one body to its end as `context`; other tasks run while it sleeps.
   * The uncontended case steps the generator once and touches no queue.
   * @throws DeadlockError when it sleeps and nobody can wake it
   */
  call<T>(name: string, context: C, body: Kthread<T>): T {
    const outerContext = this.#current
    const outerName = this.#name
    this.#current = context
    this.#name = name
    let first: IteratorResult<Wait, T>
    try {
      first = body.next()
    } finally {
      this.#current = outerContext
      this.#name = outerName
    }
    if (first.done === true) return first.value
    return this.#finish(name, context, body, first.value)
  }

  #finish<T>(name: string, context: C, body: Kthread<T>, wait: Wait): T {
    const task = new Task(this, name, context, body)
    this.#tasks.add(task as Task<C>)
    task.awaited = true
    task.waitingFor = wait
    this.#park(task as Task<C>)
    for (let next = this.#runnable.shift(); !task.done && next !== undefined; next = this.#runnable.shift()) {
      this.#step(next)
      if (task.done) break
    }
    if (!task.done) throw this.#deadlock()
    if (task.error !== undefined) throw task.error
    return task.result as T
  }

  #step(task: Task<C>): void {
    const outerContext = this.#current
    const outerName = this.#name
    this.#current = task.context
    this.#name = task.name
    task.step()
    this.#current = outerContext
    this.#name = outerName
    if (!task.done) {
      this.#park(task)
      return
    }
    this.#tasks.delete(task)
    if (task.error !== undefined && !task.awaited) throw task.error
  }

  #park(task: Task<C>): void {
    const queue = task.waitingFor?.queue ?? null
    if (queue === null) task.wake()
    else queue.enqueue(task)
  }

  #deadlock(): DeadlockError {
    const waiters = []
    for (const task of this.#tasks) {
      const wait = task.waitingFor
      if (wait !== null)
        waiters.push({ task: task.name, what: wait.what, heldBy: wait.queue?.heldBy() ?? [] })
    }
    return new DeadlockError(waiters)
  }
}
