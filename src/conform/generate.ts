import { PAGE_SIZE } from '../base/units.ts'
import {
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_FIXED_NOREPLACE,
  MAP_GROWSDOWN,
  MAP_HUGETLB,
  MAP_LOCKED,
  MAP_NONBLOCK,
  MAP_NORESERVE,
  MAP_POPULATE,
  MAP_PRIVATE,
  MAP_SHARED,
  MAP_STACK,
  MCL_CURRENT,
  MCL_FUTURE,
  MCL_ONFAULT,
  MREMAP_DONTUNMAP,
  MREMAP_FIXED,
  MREMAP_MAYMOVE,
} from '../mm/mman.ts'
import {
  PROGRAM_FORMAT,
  runnable,
  type Op,
  type Program,
  type Range,
  type Step,
  type StepBody,
} from './program.ts'
import { Random } from './random.ts'
import { themeOf, type Theme, type ThemeName } from './themes.ts'

const RW = 3
/** processes of one program, at most */
const MOST_PROCESSES = 4
/** lengths that no call accepts */
const TOO_LONG: readonly number[] = [2 ** 47, 2 ** 52, -PAGE_SIZE, -1]
const MOST_FILES = 3
const MOST_RINGS = 2

interface Shadow {
  readonly number: number
  readonly parent: number | null
  readonly files: number[]
  readonly rings: number[]
}

/** A program made from a seed: the same seed, theme and length always give the same steps. */
export function generate(seed: number, theme: ThemeName, steps: number): Program {
  const made = new Generator(new Random(seed), themeOf(theme))
  return { formatVersion: PROGRAM_FORMAT, theme, steps: runnable(made.steps(steps)) }
}

/**
 * Makes steps one after the other and remembers roughly what they did, so that later ones meet what earlier
 * ones left: mapped ranges and their borders, open files, living children. It does not know what failed.
 */
class Generator {
  readonly #random: Random
  readonly #theme: Theme
  readonly #processes: Shadow[] = [{ number: 0, parent: null, files: [], rings: [] }]
  /** where something was mapped, the latest last; pages */
  readonly #places: { page: number; pages: number }[] = []
  readonly #sizes = new Map<number, number>()
  /** bytes */
  readonly #unit: number
  #lastFile = 0
  #lastRing = 0
  #lastChild = 0

  constructor(random: Random, theme: Theme) {
    this.#random = random
    this.#theme = theme
    this.#unit = theme.unit * PAGE_SIZE
  }

  steps(count: number): Step[] {
    const steps: Step[] = []
    // something to work on comes first
    for (const op of ['memfd', 'disk', 'hugefd', 'ring'] as const) {
      if (this.#theme.weights[op] !== undefined && this.#random.chance(70))
        this.#push(steps, this.#processes[0]!, op)
    }
    for (let i = this.#random.between(1, 3); i > 0; i--)
      steps.push({ by: 0, ...this.#mmap(this.#processes[0]!, true) })
    while (steps.length < count) {
      const process = this.#random.chance(60) ? this.#processes[0]! : this.#random.pick(this.#processes)
      this.#push(steps, process, this.#random.weighted<Op>(this.#theme.weights))
    }
    return steps
  }

  #push(steps: Step[], process: Shadow, op: Op): void {
    const body = this.#body(process, op)
    if (body !== null) steps.push({ by: process.number, ...body })
  }

  /** null: there is nothing such a step could be about */
  #body(process: Shadow, op: Op): StepBody | null {
    const random = this.#random
    switch (op) {
      case 'mmap':
        return this.#mmap(process)
      case 'munmap':
        return { op, ...this.#range(false, TOO_LONG) }
      case 'mlock':
      case 'munlock':
      case 'mseal':
        return { op, ...this.#range() }
      case 'mprotect':
        return { op, ...this.#range(), prot: random.pick([0, 1, 1, RW, RW, RW, 2, 5, 7]) }
      case 'mremap':
        return this.#mremap()
      case 'madvise':
        return { op, ...this.#range(), advice: random.pick(this.#theme.advice) }
      case 'mlock2':
        return { op, ...this.#range(), flags: random.pick([0, 1, 1, 1, 2]) }
      case 'mlockall':
        return {
          op,
          flags: random.pick([
            MCL_CURRENT,
            MCL_FUTURE,
            MCL_CURRENT | MCL_FUTURE,
            MCL_CURRENT | MCL_ONFAULT,
            MCL_FUTURE | MCL_ONFAULT,
            0,
            8,
          ]),
        }
      case 'munlockall':
        return { op }
      case 'load':
      case 'touch':
        return { op, at: this.#address() }
      case 'fill':
        return { op, ...this.#bytes(), seed: random.below(256) }
      case 'sum':
        return { op, ...this.#bytes() }
      case 'memfd':
      case 'disk':
      case 'hugefd':
        return this.#file(process, op)
      case 'close': {
        if (process.files.length === 0) return null
        return { op, file: process.files.splice(random.below(process.files.length), 1)[0]! }
      }
      case 'ftruncate': {
        if (process.files.length === 0) return null
        const file = random.pick(process.files)
        const size = random.chance(70)
          ? random.between(0, this.#unit === PAGE_SIZE ? 10 : 3) * this.#unit
          : random.below(10 * PAGE_SIZE)
        this.#sizes.set(file, size)
        return { op, file, size }
      }
      case 'punch': {
        if (process.files.length === 0) return null
        const unit = random.chance(70) ? this.#unit : 1000
        const offset = random.below(unit === this.#unit && unit > PAGE_SIZE ? 3 : 10) * unit
        return { op, file: random.pick(process.files), offset, length: random.between(1, 5) * unit }
      }
      case 'fork': {
        if (this.#processes.length >= MOST_PROCESSES) return null
        const child = ++this.#lastChild
        const { files, rings } = process
        this.#processes.push({ number: child, parent: process.number, files: [...files], rings: [...rings] })
        return { op, child }
      }
      case 'reap': {
        const leaves = this.#processes.filter(
          ({ number, parent }) =>
            parent === process.number && !this.#processes.some((other) => other.parent === number),
        )
        if (leaves.length === 0) return null
        const child = random.pick(leaves)
        this.#processes.splice(this.#processes.indexOf(child), 1)
        return { op, child: child.number }
      }
      case 'ring': {
        if (process.rings.length >= MOST_RINGS) return null
        const ring = ++this.#lastRing
        process.rings.push(ring)
        return { op, ring, entries: random.pick([1, 4, 8, 64]) }
      }
      case 'closeRing': {
        if (process.rings.length === 0) return null
        return { op, ring: process.rings.splice(random.below(process.rings.length), 1)[0]! }
      }
      case 'register':
      case 'registerEmpty':
      case 'update':
      case 'unregister':
        return process.rings.length === 0 ? null : this.#onRing(random.pick(process.rings), op)
      case 'memlock': {
        const pages = random.pick([0, 1, 2, 4, 5, 8, 9, 16, 64, 2048])
        return { op, bytes: Math.max(0, pages * PAGE_SIZE + random.pick([0, 0, 0, -1, 1])) }
      }
      case 'ipcLock':
        return { op, on: random.chance(40) }
      case 'mem': {
        const children = this.#processes.filter(({ parent }) => parent === process.number)
        const of = children.length > 0 && random.chance(70) ? random.pick(children).number : process.number
        const { at, length } = this.#bytes()
        return {
          op,
          of,
          write: random.chance(60),
          seed: random.below(256),
          at,
          length: Math.min(length, 32768),
        }
      }
    }
  }

  /** @param roomy one of the first: large, writable and where it is wanted */
  #mmap(process: Shadow, roomy = false): StepBody {
    const random = this.#random
    let { at, length } = this.#range(true, TOO_LONG)
    if (roomy) {
      const half = this.#theme.busy / 2
      at = random.below(half) * this.#unit
      length = random.between(Math.min(4, half), half) * this.#unit
    }
    let kind = random.weighted(this.#theme.maps)
    if (kind === 'file' && process.files.length === 0) kind = 'private'
    const prot = roomy ? RW : random.pick([RW, RW, RW, RW, RW, 1, 0, 2, 7])
    let flags = kind === 'private' ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED | MAP_ANONYMOUS
    if (kind === 'hugetlb')
      flags = (random.chance(70) ? MAP_PRIVATE : MAP_SHARED) | MAP_ANONYMOUS | MAP_HUGETLB
    let file: number | null = null
    let offset = 0
    if (kind === 'file') {
      file = random.pick(process.files)
      offset = random.chance(60) ? 0 : random.between(0, this.#unit === PAGE_SIZE ? 8 : 2) * this.#unit
      flags = random.chance(50) ? MAP_SHARED : MAP_PRIVATE
      if (random.chance(3)) offset += 1
    }
    const place = random.below(100)
    if (roomy || place < 70) flags |= MAP_FIXED
    else if (place < 82) flags |= MAP_FIXED_NOREPLACE
    const extra = random.below(100)
    if (roomy) {
      // nothing unusual
    } else if (extra < 8) flags |= MAP_POPULATE
    else if (extra < 10) flags |= MAP_POPULATE | MAP_NONBLOCK
    else if (extra < 13) flags |= MAP_NORESERVE
    else if (extra < 15) flags |= MAP_STACK
    else if (extra < 16) flags |= MAP_GROWSDOWN
    else if (extra < 20 && this.#theme.weights.mlock !== undefined) flags |= MAP_LOCKED
    if (at < 0) at = 0
    if (length > 0 && length <= 64 * this.#unit) {
      this.#places.push({ page: Math.floor(at / this.#unit), pages: Math.ceil(length / this.#unit) })
      if (this.#places.length > 6) this.#places.shift()
    }
    return { op: 'mmap', at, length, prot, flags, file, offset }
  }

  #mremap(): StepBody {
    const random = this.#random
    const { at, length } = this.#range(false, TOO_LONG)
    const pages = Math.min(64, Math.max(0, Math.floor(length / this.#unit)))
    const grown = random.chance(40)
      ? pages + random.between(1, 4)
      : random.chance(50)
        ? pages
        : random.between(1, Math.max(1, pages))
    let flags: number = random.pick([
      0,
      0,
      MREMAP_MAYMOVE,
      MREMAP_MAYMOVE | MREMAP_FIXED,
      MREMAP_MAYMOVE | MREMAP_FIXED,
    ])
    if (random.chance(20)) flags |= MREMAP_DONTUNMAP
    if (random.chance(2)) flags |= 8
    const newLength = ((flags & MREMAP_DONTUNMAP) !== 0 && random.chance(80) ? pages : grown) * this.#unit
    const to = random.below(this.#unit === PAGE_SIZE ? this.#theme.busy + 8 : this.#theme.busy) * this.#unit
    if ((flags & MREMAP_FIXED) !== 0 && newLength > 0) {
      this.#places.push({ page: to / this.#unit, pages: newLength / this.#unit })
      if (this.#places.length > 6) this.#places.shift()
    }
    return { op: 'mremap', at, length, newLength, flags, to }
  }

  #file(process: Shadow, op: 'memfd' | 'disk' | 'hugefd'): StepBody | null {
    const random = this.#random
    if (process.files.length >= MOST_FILES) return null
    const file = ++this.#lastFile
    process.files.push(file)
    if (op === 'hugefd') return { op, file, size: random.between(1, 3) * this.#unit }
    const size = random.chance(70) ? random.between(1, 8) * PAGE_SIZE : random.between(1, 6 * PAGE_SIZE)
    this.#sizes.set(file, size)
    const seed = random.below(256)
    if (op === 'disk') return { op, file, size, seed }
    return { op, file, size, seed: random.chance(60) ? seed : null }
  }

  #onRing(ring: number, op: 'register' | 'registerEmpty' | 'update' | 'unregister'): StepBody {
    const random = this.#random
    switch (op) {
      case 'register': {
        const count = random.chance(70) ? 1 : random.between(2, 4)
        return { op, ring, buffers: Array.from({ length: count }, () => this.#buffer()) }
      }
      case 'registerEmpty':
        return { op, ring, slots: random.between(1, 4) }
      case 'update': {
        const count = random.chance(70) ? 1 : 2
        const buffers = Array.from({ length: count }, () =>
          random.chance(20) ? { at: 0, length: 0 } : this.#buffer(),
        )
        return { op, ring, slot: random.below(4), buffers }
      }
      case 'unregister':
        return { op, ring }
    }
  }

  /** Where something may be: mostly what is mapped, its parts and its borders. */
  #range(fresh = false, tooLong: readonly number[] = [-PAGE_SIZE, -1]): Range {
    const random = this.#random
    const { page, pages } = this.#pages(fresh)
    let at = page * this.#unit
    let length = pages * this.#unit
    if (this.#unit > PAGE_SIZE && !fresh && random.chance(40)) {
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

  #pages(fresh: boolean): { page: number; pages: number } {
    const random = this.#random
    const { busy } = this.#theme
    if (this.#places.length === 0 || random.chance(fresh ? 60 : 15)) {
      const most = this.#unit > PAGE_SIZE ? 3 : random.chance(80) ? 6 : 16
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

  #address(): number {
    const { page, pages } = this.#pages(false)
    return (
      (page + this.#random.below(pages)) * this.#unit +
      (this.#unit > PAGE_SIZE ? this.#random.pick([0, 1, 5, 511, 300]) * PAGE_SIZE : 0) +
      (this.#random.chance(30) ? this.#random.below(PAGE_SIZE) : 0)
    )
  }

  /** What is registered: whole huge pages as well. */
  #buffer(): Range {
    if (this.#unit === PAGE_SIZE || this.#random.chance(50)) return this.#bytes()
    const { page, pages } = this.#pages(false)
    return { at: page * this.#unit, length: Math.min(pages, 3) * this.#unit }
  }

  /** A range that need not begin or end with a page. */
  #bytes(): Range {
    const random = this.#random
    const { page, pages } = this.#pages(false)
    let start = page * this.#unit
    if (this.#unit > PAGE_SIZE) start += random.pick([0, 0, 3, 508, 510]) * PAGE_SIZE
    if (random.chance(60)) return { at: start, length: Math.min(pages * this.#theme.unit, 8) * PAGE_SIZE }
    return {
      at: start + random.below(PAGE_SIZE),
      length: random.between(1, Math.min(pages, 4) * PAGE_SIZE),
    }
  }
}
