import { PAGE_SIZE } from '../base/units.ts'
import type { Difference, Fact, PageDifference, Tell } from './compare.ts'
import { idAfter, pageOfRun, type PageRun } from './observation.ts'
import type { Pairs } from './pairs.ts'
import { arenaAddress } from './range.ts'

/**
 * Compares what two page tables show.
 * @param frames which frames of one side are which of the other
 * @param seen gets what was compared
 */
export function* comparePages(
  kernel: readonly PageRun[],
  engine: readonly PageRun[],
  frames: Pairs,
  seen: Set<Fact>,
  tell: Tell,
): Generator<Difference> {
  seen.add('page-table entries')
  for (const piece of sideBySide(kernel, engine)) {
    // most are the same, and sentences are made only where they are needed
    const { theirs, ours } = piece
    if (theirs !== null && ours !== null && same({ ...piece, theirs, ours }, frames, seen)) continue
    yield* differences(piece, frames, tell)
  }
}

/** Whether two pieces of runs show the same. */
function same({ page, pages, theirs: k, ours: e }: Common, frames: Pairs, seen: Set<Fact>): boolean {
  if (TRAITS.some((key) => k[key] !== e[key])) return false
  if (k.present && k.mapCount !== null) {
    seen.add('map counts')
    if (k.mapCount !== e.mapCount) return false
  }
  if (k.present && k.flags !== null) {
    seen.add('page flags with AnonExclusive')
    if (k.flags !== e.flags) return false
  }
  if (k.id === null) return true
  seen.add('which pages are the same')
  return sameFrames(frames, idAfter(k.id, page - k.page)!, idAfter(e.id, page - e.page)!, pages) === pages
}

/** In what two pieces of runs are not the same, and from which page on. */
function* differences(
  { page, pages, theirs: k, ours: e }: Piece,
  frames: Pairs,
  tell: Tell,
): Generator<Difference> {
  const both = (at: number): PageDifference => ({
    page: at,
    kernel: k === null ? null : pageOfRun(k, at),
    engine: e === null ? null : pageOfRun(e, at),
  })
  const where = arenaAddress(page * PAGE_SIZE)
  const { kernel, engine } = both(page)
  if (kernel === null || engine === null) {
    const has = kernel === null ? 'engine' : 'kernel'
    const not = kernel === null ? 'kernel' : 'engine'
    yield tell(
      'page-table entries',
      'entry',
      `${where} has ${pageText((kernel ?? engine)!)} on the ${has}, nothing on the ${not}`,
      both(page),
    )
    return
  }
  for (const key of TRAITS) {
    if (kernel[key] !== engine[key])
      yield tell(
        'page-table entries',
        key,
        `${where} is "${key}" on the ${kernel[key] ? 'kernel' : 'engine'} only: ${pageText(kernel)} there, ${pageText(engine)} on the engine`,
        both(page),
      )
  }
  if (kernel.id !== null) {
    const at = page + sameFrames(frames, kernel.id, engine.id!, pages)
    if (at < page + pages)
      yield tell(
        'which pages are the same',
        'id',
        `${arenaAddress(at * PAGE_SIZE)} shows page ${String(both(at).kernel!.id)} on the kernel, page ${String(both(at).engine!.id)} on the engine, which stand for different ones`,
        both(at),
      )
  }
  if (kernel.mapCount !== null && kernel.present && kernel.mapCount !== engine.mapCount)
    yield tell(
      'map counts',
      'mapCount',
      `the page at ${where} is mapped ${kernel.mapCount} times on the kernel, ${engine.mapCount} times on the engine`,
      both(page),
    )
  if (kernel.flags !== null && kernel.present && kernel.flags !== engine.flags)
    yield tell(
      'page flags with AnonExclusive',
      'flags',
      `the page at ${where} is "${kernel.flags}" on the kernel, "${engine.flags}" on the engine`,
      both(page),
    )
}

/** How many pages in a row from these two on are the same frame on both sides. */
function sameFrames(frames: Pairs, kernel: number | string, engine: number | string, pages: number): number {
  const special = (id: number | string): boolean => typeof id === 'string' || id <= 0
  if (special(kernel) || special(engine)) return kernel === engine ? pages : 0
  return frames.match(kernel as number, engine as number, pages)
}

const TRAITS = ['present', 'swap', 'file', 'uffdWp', 'guard', 'once'] as const

/** A piece of the arena in which neither side goes on to another run. */
interface Piece {
  readonly page: number
  readonly pages: number
  readonly theirs: PageRun | null
  readonly ours: PageRun | null
}

/** A piece that both sides have something in. */
type Common = { readonly [Key in keyof Piece]: NonNullable<Piece[Key]> }

function* sideBySide(kernel: readonly PageRun[], engine: readonly PageRun[]): Generator<Piece> {
  let i = 0
  let j = 0
  let at = 0
  for (;;) {
    while (i < kernel.length && endOf(kernel[i]!) <= at) i++
    while (j < engine.length && endOf(engine[j]!) <= at) j++
    const k = kernel[i]
    const e = engine[j]
    if (k === undefined && e === undefined) return
    at = Math.max(at, Math.min(k?.page ?? Infinity, e?.page ?? Infinity))
    const theirs = k !== undefined && k.page <= at ? k : null
    const ours = e !== undefined && e.page <= at ? e : null
    const end = Math.min(
      k === undefined ? Infinity : theirs === null ? k.page : endOf(k),
      e === undefined ? Infinity : ours === null ? e.page : endOf(e),
    )
    yield { page: at, pages: end - at, theirs, ours }
    at = end
  }
}

function endOf({ page, pages }: PageRun): number {
  return page + pages
}

/** `present file once #3 ×1 MMAP ANON` */
export function pageText(view: PageRun): string {
  const bits = TRAITS.filter((key) => view[key])
  const id = view.id === null ? '#?' : `#${view.id}`
  const count = view.mapCount === null ? '' : `×${view.mapCount}`
  return [...bits, id, count, view.flags ?? ''].filter((word) => word !== '').join(' ')
}
