import { readFileSync } from 'node:fs'
import { Session, type Profiler } from 'node:inspector'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { engineRoot, enginePlaces, isReached, type RulePlace } from './rule-places.ts'

/**
 * How closely is looked: at functions costs next to nothing; at statements the engine takes a fifth longer, and the
 * tag of a statement no longer counts because its function was called.
 */
export type CoverageGrain = 'functions' | 'statements'

/** Which tagged code of the engine this thread has run, by V8's own counters: the engine knows nothing of it. */
export class RuleCoverage {
  readonly #session: Session
  readonly #places: readonly RulePlace[]
  /** places of a file, as indexes, by the URL it was loaded from */
  readonly #files = new Map<string, { readonly text: string; readonly open: Set<number> }>()

  /** Starts counting. Statements are counted only in code that is loaded afterwards. */
  constructor(grain: CoverageGrain) {
    this.#places = enginePlaces()
    for (const [i, { file }] of this.#places.entries()) {
      const full = path.join(engineRoot, file)
      const { href } = pathToFileURL(full)
      const own = this.#files.get(href) ?? { text: readFileSync(full, 'utf8'), open: new Set() }
      own.open.add(i)
      this.#files.set(href, own)
    }
    this.#session = new Session()
    this.#session.connect()
    this.#session.post('Profiler.enable')
    this.#session.post('Profiler.startPreciseCoverage', {
      callCount: false,
      detailed: grain === 'statements',
    })
  }

  /** Places that were come to since the last time, as indexes of `enginePlaces()`. */
  take(): number[] {
    const reached: number[] = []
    for (const { url, functions } of this.#counted()) {
      const file = this.#files.get(url)
      if (file === undefined) continue
      for (const i of file.open) {
        if (!isReached(this.#places[i]!, file.text, functions)) continue
        reached.push(i)
        file.open.delete(i)
      }
    }
    return reached
  }

  #counted(): readonly Profiler.ScriptCoverage[] {
    let counted: readonly Profiler.ScriptCoverage[] = []
    // answers at once
    this.#session.post('Profiler.takePreciseCoverage', (error, { result }) => {
      if (error !== null) throw error
      counted = result
    })
    return counted
  }
}
