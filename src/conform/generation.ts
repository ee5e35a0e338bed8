import { PAGE_SIZE } from '../base/units.ts'
import type { Random } from './random.ts'
import type { Range } from './range.ts'

/** Lengths that no call accepts. */
export const TOO_LONG: readonly number[] = [2 ** 47, 2 ** 52, -PAGE_SIZE, -1]
/** pieces of mapped memory that are remembered */
const MOST_PLACES = 6

/** Where programs of a theme take place and what they map. */
export interface Terrain {
  /** pages that ranges mostly consist of: 512 where huge pages matter */
  readonly unit: 1 | 512
  /** units, at the start of the arena, that most steps stay in: little room makes ranges overlap */
  readonly busy: number
  readonly advice: readonly number[]
  /** what mmap maps */
  readonly maps: Partial<Record<'private' | 'shared' | 'file' | 'hugetlb', number>>
  /** what stored bytes are made from; absent: anything below 256 */
  readonly seeds?: readonly number[]
  /** files of a disk are written many pages at a time */
  readonly bulk?: true
  /** the theme has steps that lock memory */
  readonly locks: boolean
}

/** A process as far as the generator follows it. */
export interface Shadow {
  readonly number: number
  readonly parent: number | null
  readonly files: number[]
  readonly rings: number[]
  readonly pipes: number[]
  readonly uffds: number[]
  /** userfaultfds it made itself */
  readonly serves: number[]
  /** ranges that were registered with one, the latest last */
  readonly watched: Range[]
  /** connected pairs of sockets */
  readonly pairs: number[]
  readonly xsks: number[]
  readonly segments: number[]
  /** where its heap begins, bytes; null: outside of the arena */
  heap: number | null
}

/**
 * What the generator remembers of the steps it has made, so that later ones meet what earlier ones left: mapped
 * ranges and their borders, open files, living children. It does not know what failed.
 */
export class Generation {
  readonly random: Random
  readonly terrain: Terrain
  /** bytes that ranges mostly consist of */
  readonly unit: number
  readonly processes: Shadow[] = [
    {
      number: 0,
      parent: null,
      files: [],
      rings: [],
      pipes: [],
      uffds: [],
      serves: [],
      watched: [],
      pairs: [],
      xsks: [],
      segments: [],
      heap: null,
    },
  ]
  /** where something was mapped, the latest last; units */
  readonly #places: { page: number; pages: number }[] = []
  readonly #last = { file: 0, ring: 0, child: 0, pipe: 0, uffd: 0, socket: 0, segment: 0, pair: 0 }
  /**
   * files of a disk's filesystem, and how long each is at least, bytes, and whether many pages at once were written to
   * it; shared by all that are the same file
   */
  readonly disks = new Map<number, { size: number; bulk?: true }>()
  /** ring → what was registered with it, slot by slot, most likely */
  readonly registered = new Map<number, Range[]>()
  /** memory files made so that they may be sealed */
  readonly sealables = new Set<number>()
  /** what each pair of sockets is */
  readonly pairKinds = new Map<number, number>()
  /** files opened with O_DIRECT */
  readonly directs = new Set<number>()

  constructor(random: Random, terrain: Terrain) {
    this.random = random
    this.terrain = terrain
    this.unit = terrain.unit * PAGE_SIZE
  }

  /** ranges are made of huge pages */
  get large(): boolean {
    return this.unit > PAGE_SIZE
  }

  /** A name that no other step has used. */
  newName(what: 'file' | 'ring' | 'child' | 'pipe' | 'uffd' | 'socket' | 'segment' | 'pair'): number {
    return ++this.#last[what]
  }

  /** Something is mapped here now, most likely. Bytes. */
  mapped({ at, length }: Range): void {
    this.#places.push({ page: Math.floor(at / this.unit), pages: Math.ceil(length / this.unit) })
    if (this.#places.length > MOST_PLACES) this.#places.shift()
  }

  /**
   * Where something may be: mostly what is mapped, its parts and its borders.
   * @param fresh rather where nothing is mapped
   */
  range(fresh = false, tooLong: readonly number[] = [-PAGE_SIZE, -1]): Range {
    const { random } = this
    const { page, pages } = this.pages(fresh)
    let at = page * this.unit
    let length = pages * this.unit
    if (this.large && !fresh && random.chance(40)) {
      // a part of a huge page
      at += random.below(512) * PAGE_SIZE
      length = random.between(1, random.chance(50) ? 8 : 700) * PAGE_SIZE
    }
    const odd = random.below(200)
    if (odd === 0) at += random.between(1, PAGE_SIZE - 1)
    else if (odd <= 4) length -= random.between(1, PAGE_SIZE - 1)
    else if (odd === 5) length = 0
    else if (odd === 6) length = random.pick(tooLong)
    return { at, length }
  }

  /** All of what was mapped at once, most likely; null: nothing was. Bytes. */
  place(): Range | null {
    if (this.#places.length === 0) return null
    const { page, pages } = this.random.pick(this.#places)
    return { at: page * this.unit, length: pages * this.unit }
  }

  /** Whole units. */
  pages(fresh: boolean): { page: number; pages: number } {
    const { random } = this
    const { busy } = this.terrain
    if (this.#places.length === 0 || random.chance(fresh ? 60 : 15)) {
      const most = this.large ? 3 : random.chance(80) ? 6 : 16
      return { page: random.below(busy), pages: random.between(1, most) }
    }
    const { page, pages } = random.pick(this.#places)
    switch (random.below(6)) {
      case 0:
        return { page, pages }
      case 1: {
        const skip = random.below(pages)
        return { page: page + skip, pages: random.between(1, pages - skip) }
      }
      case 2:
        return { page: Math.max(0, page - random.between(0, 2)), pages: random.between(1, 3) }
      case 3:
        return { page: page + pages - 1, pages: random.between(1, 3) }
      case 4:
        return { page: page + pages, pages: random.between(1, 3) }
      default:
        return { page: page + random.below(pages), pages: 1 }
    }
  }

  /** One byte. */
  address(): number {
    const { random } = this
    const { page, pages } = this.pages(false)
    return (
      (page + random.below(pages)) * this.unit +
      (this.large ? random.pick([0, 1, 5, 511, 300]) * PAGE_SIZE : 0) +
      (random.chance(30) ? random.below(PAGE_SIZE) : 0)
    )
  }

  /** What stored bytes are made from. */
  seed(): number {
    const { seeds } = this.terrain
    return seeds === undefined ? this.random.below(256) : this.random.pick(seeds)
  }

  /** A range that need not begin or end with a page. */
  bytes(): Range {
    const { random } = this
    const { page, pages } = this.pages(false)
    let start = page * this.unit
    if (this.large) start += random.pick([0, 0, 3, 508, 510]) * PAGE_SIZE
    if (random.chance(60)) return { at: start, length: Math.min(pages * this.terrain.unit, 8) * PAGE_SIZE }
    return {
      at: start + random.below(PAGE_SIZE),
      length: random.between(1, Math.min(pages, 4) * PAGE_SIZE),
    }
  }
}
