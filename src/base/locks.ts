import { WaitQueue, type Kthread, type Wait } from './kthread.ts'

/** Tells a lock who takes it, so that a deadlock report can name holders. */
export interface HolderSource {
  readonly holderName: string
}

/**
 * A reader/writer semaphore with FIFO fairness: a waiting writer keeps new readers out, as
 * `struct rw_semaphore` does after its hand-off.
 */
export class RwSemaphore {
  readonly name: string
  readonly #source: HolderSource
  readonly #readQueue: WaitQueue
  readonly #writeQueue: WaitQueue
  readonly #readers: string[] = []
  #writer: string | null = null

  constructor(name: string, source: HolderSource) {
    this.name = name
    this.#source = source
    const holders = (): readonly string[] => (this.#writer === null ? this.#readers : [this.#writer])
    this.#readQueue = new WaitQueue(`${name} (read)`, holders)
    this.#writeQueue = new WaitQueue(`${name} (write)`, holders)
  }

  get readers(): number {
    return this.#readers.length
  }

  get writeLocked(): boolean {
    return this.#writer !== null
  }

  get locked(): boolean {
    return this.#writer !== null || this.#readers.length > 0
  }

  tryRead(): boolean {
    if (this.#writer !== null || this.#writeQueue.length > 0) return false
    this.#readers.push(this.#source.holderName)
    return true
  }

  tryWrite(): boolean {
    if (this.#writer !== null || this.#readers.length > 0) return false
    this.#writer = this.#source.holderName
    return true
  }

  /** `down_read`: waits for as long as it takes. */
  *read(): Kthread<void> {
    if (this.tryRead()) return
    const wait = this.readWait('none')
    do yield wait
    while (!this.tryReadAfterWait())
  }

  /** `down_write`: waits for as long as it takes. */
  *write(): Kthread<void> {
    while (!this.tryWrite()) yield this.writeWait('none')
  }

  /** What a task that wants to read yields while the lock is taken. */
  readWait(signals: Wait['signals']): Wait {
    return { queue: this.#readQueue, what: this.#readQueue.name, signals }
  }

  writeWait(signals: Wait['signals']): Wait {
    return { queue: this.#writeQueue, what: this.#writeQueue.name, signals }
  }

  /** A reader that waited is let in past queued writers: it was woken together with its whole batch. */
  tryReadAfterWait(): boolean {
    if (this.#writer !== null) return false
    this.#readers.push(this.#source.holderName)
    return true
  }

  releaseRead(): void {
    if (this.#readers.length === 0) throw new Error(`${this.name}: read-released while nobody reads`)
    const at = this.#readers.lastIndexOf(this.#source.holderName)
    this.#readers.splice(at < 0 ? this.#readers.length - 1 : at, 1)
    if (this.#readers.length === 0) this.#wake()
  }

  releaseWrite(): void {
    if (this.#writer === null) throw new Error(`${this.name}: write-released while nobody writes`)
    this.#writer = null
    this.#wake()
  }

  /** Write lock → read lock without a gap; waiting readers come in. */
  downgrade(): void {
    if (this.#writer === null) throw new Error(`${this.name}: downgraded while nobody writes`)
    this.#readers.push(this.#writer)
    this.#writer = null
    this.#readQueue.wakeAll()
  }

  #wake(): void {
    if (this.#writeQueue.length > 0) this.#writeQueue.wakeOne()
    else this.#readQueue.wakeAll()
    if (this.#readQueue.length > 0 && this.#writeQueue.length === 0) this.#readQueue.wakeAll()
  }
}

/** A sleeping mutex. */
export class Mutex {
  readonly name: string
  readonly #source: HolderSource
  readonly #queue: WaitQueue
  #owner: string | null = null

  constructor(name: string, source: HolderSource) {
    this.name = name
    this.#source = source
    this.#queue = new WaitQueue(name, () => (this.#owner === null ? [] : [this.#owner]))
  }

  get locked(): boolean {
    return this.#owner !== null
  }

  tryLock(): boolean {
    if (this.#owner !== null) return false
    this.#owner = this.#source.holderName
    return true
  }

  *lock(): Kthread<void> {
    while (!this.tryLock()) yield { queue: this.#queue, what: this.name, signals: 'none' }
  }

  unlock(): void {
    if (this.#owner === null) throw new Error(`${this.name}: unlocked while not locked`)
    this.#owner = null
    this.#queue.wakeOne()
  }
}
