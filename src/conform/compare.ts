import { errnoText } from './errno-text.ts'
import { arenaAddress } from './range.ts'
import { comparePages } from './compare-pages.ts'
import type { HugePool, MappingView, Observation, Outcome, PageRun, ProcessView } from './observation.ts'
import { Pairs } from './pairs.ts'

/** What was compared; the closing line of a run lists them. */
export const FACTS = [
  'results, errnos and signals',
  'bytes read',
  'completions',
  'mappings with permissions, offsets and files',
  'VmFlags',
  'resident and huge pages of each mapping',
  'page-table entries',
  'which pages are the same',
  'map counts',
  'page flags with AnonExclusive',
  'VmSize, VmLck, VmPin, VmSwap',
  'registered buffers',
  'userfaultfd events and how they were answered',
  'pin counters',
  'the pool of huge pages',
  "the engine's own books",
] as const
export type Fact = (typeof FACTS)[number]

/** The first thing that is not the same. */
export interface Difference {
  readonly fact: Fact
  /** which of its kind, for `allowed.ts` and for telling whether two runs show the same difference */
  readonly what: string
  /** one sentence */
  readonly sentence: string
  /** what each side showed for the fact; a page with everything else about it */
  readonly process: number | null
  readonly page: PageDifference | null
  /** of a counter: what the kernel has more than the engine */
  readonly more?: number
}

export interface PageDifference {
  readonly page: number
  readonly kernel: PageRun | null
  readonly engine: PageRun | null
}

/** Which ids of one side are which of the other, over a whole program. */
export class Correspondence {
  readonly #frames = new Pairs()
  readonly #files = new Pairs()
  readonly seen = new Set<Fact>()

  /** The first difference between the two sides after one step, `null` when there is none. */
  compare(kernel: Observation, engine: Observation): Difference | null {
    return this.differences(kernel, engine).next().value ?? null
  }

  /** All differences in the order in which they matter; stops being exact after the first. */
  *differences(kernel: Observation, engine: Observation): Generator<Difference, undefined, void> {
    this.seen.add('results, errnos and signals')
    const ours = outcomeText(engine.outcome)
    const theirs = outcomeText(kernel.outcome)
    if (ours !== theirs)
      yield made('results, errnos and signals', 'outcome', `the kernel answers ${theirs}, the engine ${ours}`)
    if (kernel.sum !== null || engine.sum !== null) {
      this.seen.add('bytes read')
      if (kernel.sum !== engine.sum)
        yield made('bytes read', 'sum', 'the bytes that were read are not the same')
    }
    if (kernel.completions !== null || engine.completions !== null) {
      this.seen.add('completions')
      const [theirCqes, ourCqes] = [kernel.completions, engine.completions].map((cqes) =>
        JSON.stringify(cqes),
      )
      if (theirCqes !== ourCqes)
        yield made('completions', 'cqe', `the kernel completes ${theirCqes}, the engine ${ourCqes}`)
    }
    yield* this.#processes(kernel.processes, engine.processes)
    yield* this.#counter('acquired', kernel, engine)
    yield* this.#counter('released', kernel, engine)
    yield* this.#pool(kernel.pool, engine.pool)
  }

  *#processes(kernel: readonly ProcessView[], engine: readonly ProcessView[]): Generator<Difference> {
    const here = new Map(engine.map((view) => [view.process, view]))
    for (const view of kernel) {
      const ours = here.get(view.process)
      here.delete(view.process)
      if (ours === undefined)
        yield made('results, errnos and signals', 'process', `only the kernel has p${view.process}`)
      else yield* this.#views(view, ours)
    }
    for (const process of here.keys())
      yield made('results, errnos and signals', 'process', `only the engine has p${process}`)
  }

  *#counter(which: 'acquired' | 'released', kernel: Observation, engine: Observation): Generator<Difference> {
    if (kernel[which] === null) return
    this.seen.add('pin counters')
    if (kernel[which] === engine[which]) return
    const sentence = `the kernel counts ${kernel[which]} pins ${which} during the step, the engine ${engine[which]}`
    yield { ...made('pin counters', which, sentence), more: kernel[which] - engine[which]! }
  }

  *#pool(kernel: HugePool | null, engine: HugePool | null): Generator<Difference> {
    if (kernel === null || engine === null) return
    this.seen.add('the pool of huge pages')
    for (const key of ['free', 'reserved'] as const) {
      if (kernel[key] === engine[key]) continue
      const sentence = `${kernel[key]} huge pages are ${key} on the kernel, ${engine[key]} on the engine`
      yield made('the pool of huge pages', key, sentence)
    }
  }

  *#views(kernel: ProcessView, engine: ProcessView): Generator<Difference> {
    const { process } = kernel
    const tell = (
      fact: Fact,
      what: string,
      sentence: string,
      page: PageDifference | null = null,
    ): Difference => ({
      fact,
      what,
      sentence: `p${process}: ${sentence}`,
      process,
      page,
    })
    yield* this.#mappings(kernel, engine, tell)
    yield* this.#pages(kernel, engine, tell)
    this.seen.add('VmSize, VmLck, VmPin, VmSwap')
    for (const key of ['size', 'locked', 'pinned', 'swap'] as const) {
      if (kernel[key] === null || kernel[key] === engine[key]) continue
      const name = { size: 'VmSize', locked: 'VmLck', pinned: 'VmPin', swap: 'VmSwap' }[key]
      const sentence = `${name} changed by ${kernel[key]} kB on the kernel since the start, by ${engine[key]} kB on the engine`
      yield tell('VmSize, VmLck, VmPin, VmSwap', key, sentence)
    }
    yield* this.#events(kernel, engine, tell)
    for (const [ring, table] of Object.entries(kernel.rings)) {
      this.seen.add('registered buffers')
      const ours = JSON.stringify(engine.rings[Number(ring)])
      const theirs = JSON.stringify(table)
      if (ours !== theirs)
        yield tell(
          'registered buffers',
          'table',
          `ring ${ring} shows ${theirs} on the kernel, ${ours} on the engine`,
        )
    }
  }

  *#events(kernel: ProcessView, engine: ProcessView, tell: Tell): Generator<Difference> {
    if (kernel.uffd.length === 0 && engine.uffd.length === 0) return
    const fact = 'userfaultfd events and how they were answered'
    this.seen.add(fact)
    const most = Math.max(kernel.uffd.length, engine.uffd.length)
    let at = 0
    while (at < most && kernel.uffd[at] === engine.uffd[at]) at++
    if (at === most) return
    const there = kernel.uffd[at] ?? 'nothing more'
    const here = engine.uffd[at] ?? 'nothing more'
    yield tell(
      fact,
      'uffd',
      `event ${at} answered (event flags page result) is ${there} on the kernel, ${here} on the engine`,
    )
  }

  *#mappings(kernel: ProcessView, engine: ProcessView, tell: Tell): Generator<Difference> {
    const fact = 'mappings with permissions, offsets and files'
    this.seen.add(fact)
    const count = Math.max(kernel.maps.length, engine.maps.length)
    for (let i = 0; i < count; i++) {
      const theirs = kernel.maps[i]
      const ours = engine.maps[i]
      if (theirs === undefined) {
        yield tell(fact, 'maps', `the engine has the mapping ${mappingText(ours!)}, the kernel does not`)
        return
      }
      if (ours === undefined || theirs.first !== ours.first || theirs.end !== ours.end) {
        const found = ours === undefined ? 'nothing more' : mappingText(ours)
        yield tell(
          fact,
          'maps',
          `mapping ${i} is ${mappingText(theirs)} on the kernel, ${found} on the engine`,
        )
        return
      }
      for (const key of ['perms', 'offset', 'name'] as const) {
        if (theirs[key] !== ours[key])
          yield tell(
            fact,
            key,
            `${key} of ${mappingText(theirs)} is "${theirs[key]}" on the kernel, "${ours[key]}" on the engine`,
          )
      }
      if (this.#files.match(theirs.file, ours.file) === 0)
        yield tell(fact, 'file', `${mappingText(theirs)} maps another file on the engine than on the kernel`)
      this.seen.add('VmFlags')
      if (theirs.flags !== ours.flags)
        yield tell(
          'VmFlags',
          'VmFlags',
          `VmFlags of ${mappingText(theirs)} are "${theirs.flags}" on the kernel, "${ours.flags}" on the engine`,
        )
    }
  }

  *#pages(kernel: ProcessView, engine: ProcessView, tell: Tell): Generator<Difference> {
    yield* comparePages(kernel.pages, engine.pages, this.#frames, this.seen, tell)
    this.seen.add('resident and huge pages of each mapping')
    for (const [i, mapping] of kernel.maps.entries()) {
      for (const key of ['rss', 'anonymous', 'huge', 'hugetlb', 'swap'] as const) {
        const there = mapping[key]
        const here = engine.maps[i]?.[key]
        if (there !== here)
          yield tell(
            'resident and huge pages of each mapping',
            key,
            `"${key}" of ${mappingText(mapping)} is ${there} kB on the kernel, ${here} kB on the engine`,
          )
      }
    }
  }
}

export type Tell = (fact: Fact, what: string, sentence: string, page?: PageDifference | null) => Difference

function made(fact: Fact, what: string, sentence: string): Difference {
  return { fact, what, sentence, process: null, page: null }
}

/** An outcome in one or two words. */
export function outcomeText(outcome: Outcome): string {
  switch (outcome.kind) {
    case 'value':
      return String(outcome.value)
    case 'outside':
      return 'an address outside the arena'
    case 'errno':
      return errnoText(outcome.errno)
    case 'signal': {
      const done = outcome.done > 0 ? ` after ${outcome.done} bytes` : ''
      return `${outcome.signal} code ${outcome.code} at ${arenaAddress(outcome.at)}${done}`
    }
    case 'dangling':
      return 'that there is no such descriptor'
  }
}

/** `@3..@5 rw-p /memfd:f0 (deleted)+2` */
export function mappingText({ first, end, perms, offset, name }: MappingView): string {
  const file = name === '' ? '' : ` ${name}+${offset}`
  return `@${first}..@${end} ${perms}${file}`
}
