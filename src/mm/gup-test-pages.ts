import type { Kernel, PageHolder } from './kernel.ts'
import type { PageArray } from './page-array.ts'
import { putPage, unpinRange } from './unpin.ts'

/** Pages that gup_test holds: an array of fixed room, filled step by step. */
export class GupTestPages implements PageHolder {
  readonly name: string
  readonly pfns: Int32Array
  /** pages held */
  count = 0
  #pinned = false
  readonly #k: Kernel

  private constructor(k: Kernel, name: string, pfns: Int32Array) {
    this.#k = k
    this.name = name
    this.pfns = pfns
  }

  /** @returns null when there is no memory for so many entries */
  static allocate(k: Kernel, room: number, name: string): GupTestPages | null {
    let pfns: Int32Array
    try {
      pfns = new Int32Array(room)
    } catch {
      return null
    }
    const made = new GupTestPages(k, name, pfns)
    k.holders.add(made)
    return made
  }

  get room(): number {
    return this.pfns.length
  }

  /** Takes over the first `n` pages of what a GUP call returned. */
  add(pages: PageArray, n: number, pinned: boolean): void {
    this.#pinned = pinned
    if (n === 1) this.pfns[this.count] = pages.pfns[0]!
    else this.pfns.set(pages.pfns.subarray(0, n), this.count)
    this.count += n
  }

  /** Releases everything. */
  free(): void {
    if (this.#pinned) unpinRange(this.#k, this.pfns, 0, this.count)
    else for (let i = 0; i < this.count; i++) putPage(this.#k, this.pfns[i]!)
    this.count = 0
    this.#k.holders.delete(this)
  }

  forEachReference(visit: (pfn: number, references: number, pins: number) => void): void {
    for (let i = 0; i < this.count; i++) {
      if (this.#pinned) visit(this.pfns[i]!, 0, 1)
      else visit(this.pfns[i]!, 1, 0)
    }
  }
}
