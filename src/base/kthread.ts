/**
 * Kernel code that may sleep is a generator; what it yields is what it waits for.
 *
 * ```
 * function* f(k): Kthread<number> {
 *   const guard = mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.read())
 *   …
 * }
 * ```
 * Code that may not sleep is an ordinary function.
 */

/** Kernel code that may sleep: yields what it waits for, returns T. */
export type Kthread<T> = Generator<Wait, T, void>

/** Who can be put to sleep and woken: a task of the scheduler. */
export interface Sleeper {
  readonly name: string
  wake(): void
}

/** One reason to stop running. `queue === null` is a preemption point: runnable again at once. */
export interface Wait {
  readonly queue: WaitQueue | null
  /** what a deadlock report prints: `mmap_lock of app (read)` */
  readonly what: string
  /** which signals end the sleep early; the sleeper finds out by testing for them after it resumes */
  readonly signals: 'none' | 'fatal' | 'any'
}

/** A preemption point: yielded only while interleavings are explored. */
export const PREEMPT: Wait = { queue: null, what: 'preemption point', signals: 'none' }

/** FIFO queue of sleepers. Sleepers re-test their condition when woken. */
export class WaitQueue {
  readonly name: string
  /** names of those who can end the wait, for the deadlock report */
  readonly heldBy: () => readonly string[]
  readonly #sleepers: Sleeper[] = []

  constructor(name: string, heldBy: () => readonly string[] = () => []) {
    this.name = name
    this.heldBy = heldBy
  }

  get length(): number {
    return this.#sleepers.length
  }

  enqueue(sleeper: Sleeper): void {
    this.#sleepers.push(sleeper)
  }

  /** Takes a sleeper out that was woken by somebody else (a signal). */
  dequeue(sleeper: Sleeper): void {
    const at = this.#sleepers.indexOf(sleeper)
    if (at >= 0) this.#sleepers.splice(at, 1)
  }

  wakeAll(): void {
    for (const sleeper of this.#sleepers.splice(0)) sleeper.wake()
  }

  wakeOne(): void {
    this.#sleepers.shift()?.wake()
  }
}

/** A one-shot event: waiters sleep until somebody completes it. */
export class Completion {
  #done = false
  readonly queue: WaitQueue

  constructor(name: string) {
    this.queue = new WaitQueue(name)
  }

  get done(): boolean {
    return this.#done
  }

  complete(): void {
    this.#done = true
    this.queue.wakeAll()
  }

  *wait(signals: Wait['signals'] = 'none'): Kthread<void> {
    const wait: Wait = { queue: this.queue, what: this.queue.name, signals }
    while (!this.#done) yield wait
  }
}
