import { PAGE_FLAG_BITS, idAfter, type PageRun } from './observation.ts'

/** Traits of a page-table entry, as bits. */
export const PRESENT = 1
export const SWAP = 2
export const FILE = 4
export const UFFD_WP = 8
export const GUARD = 16
export const ONCE = 32

/** Flags of a page, as bits in the order of `PAGE_FLAG_BITS`. */
export const [MMAP, ANON, SWAPBACKED, HEAD, TAIL, HUGE, KSM, THP, ZERO, EXCLUSIVE] = PAGE_FLAG_BITS.map(
  (_, i) => 1 << i,
) as [number, number, number, number, number, number, number, number, number, number]

/** flags → their names */
const names: string[] = Array.from({ length: 1 << PAGE_FLAG_BITS.length }, (_, flags) =>
  PAGE_FLAG_BITS.filter((_bit, i) => (flags & (1 << i)) !== 0)
    .map(([, name]) => name)
    .join(' '),
)

/** Takes pages in ascending order and joins those that look alike. */
export class RunBuilder {
  readonly #runs: PageRun[] = []
  #page = 0
  #pages = 0
  #traits = 0
  #id: number | string | null = 0
  #flags = 0
  #mapCount = 0
  readonly #shown: number

  /** @param hidden flags that are left out */
  constructor(hidden = 0) {
    this.#shown = ~hidden
  }

  /**
   * @param traits PRESENT and the like
   * @param allFlags MMAP and the like
   */
  add(page: number, traits: number, id: number | string | null, allFlags: number, mapCount: number): void {
    const pages = this.#pages
    const flags = allFlags & this.#shown
    if (
      pages > 0 &&
      page === this.#page + pages &&
      traits === this.#traits &&
      flags === this.#flags &&
      mapCount === this.#mapCount &&
      id === idAfter(this.#id, pages)
    ) {
      this.#pages++
      return
    }
    this.#end()
    this.#page = page
    this.#pages = 1
    this.#traits = traits
    this.#id = id
    this.#flags = flags
    this.#mapCount = mapCount
  }

  /** All of them. */
  runs(): readonly PageRun[] {
    this.#end()
    return this.#runs
  }

  #end(): void {
    if (this.#pages === 0) return
    const traits = this.#traits
    this.#runs.push({
      page: this.#page,
      pages: this.#pages,
      present: (traits & PRESENT) !== 0,
      swap: (traits & SWAP) !== 0,
      file: (traits & FILE) !== 0,
      uffdWp: (traits & UFFD_WP) !== 0,
      guard: (traits & GUARD) !== 0,
      once: (traits & ONCE) !== 0,
      id: this.#id,
      flags: names[this.#flags]!,
      mapCount: this.#mapCount,
    })
    this.#pages = 0
  }
}
