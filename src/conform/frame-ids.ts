/**
 * Names for frames that can be compared with those of the oracle agent: a frame has the same id as long as
 * every look at the arena finds it mapped somewhere, and never gets an old one again.
 */
export class FrameIds {
  readonly #ids = new Map<number, number>()
  #last = 0

  of(pfn: number): number {
    let id = this.#ids.get(pfn)
    if (id === undefined) {
      id = ++this.#last
      this.#ids.set(pfn, id)
    }
    return id
  }

  /** After a look at every process: frames that nobody maps lose their ids. */
  keepOnly(isMapped: (pfn: number) => boolean): void {
    for (const pfn of this.#ids.keys()) if (!isMapped(pfn)) this.#ids.delete(pfn)
  }
}
