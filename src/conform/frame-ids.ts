/**
 * Names for frames that can be compared with those of the oracle agent: a frame has the same id as long as
 * every look at the arena finds it mapped somewhere, and never gets an old one again.
 *
 * Every look at all processes is a round. A frame keeps its id when it was seen in the round before this one.
 */
export class FrameIds {
  readonly #ids: Int32Array
  readonly #rounds: Int32Array
  #round = 1
  #last = 0

  /** @param frames page frames of the machine */
  constructor(frames: number) {
    this.#ids = new Int32Array(frames)
    this.#rounds = new Int32Array(frames)
  }

  /** From now on only frames that are seen again keep their ids. */
  nextRound(): void {
    this.#round++
  }

  /** The id of a frame that is seen; a new one when it has none. */
  of(pfn: number): number {
    if (!this.keep(pfn)) {
      this.#ids[pfn] = ++this.#last
      this.#rounds[pfn] = this.#round
    }
    return this.#ids[pfn]!
  }

  /** Sees a frame without giving it an id. @returns whether it has one */
  keep(pfn: number): boolean {
    if (this.#ids[pfn] === 0 || this.#rounds[pfn]! < this.#round - 1) return false
    this.#rounds[pfn] = this.#round
    return true
  }
}
