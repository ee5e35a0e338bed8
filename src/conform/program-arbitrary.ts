import { Arbitrary, Stream, Value, type Random as Generator } from 'fast-check'
import { candidates, type Candidate, type Place } from './candidates.ts'
import { makeProgram } from './make-program.ts'
import type { Program } from './program.ts'
import { Random } from './random.ts'
import type { ThemeName } from './themes.ts'

/**
 * Programs of a theme, for fast-check: to generate, to shorten, and as input of a property.
 *
 * ```ts
 * fc.assert(fc.property(new ProgramArbitrary('fork', 20), (program) => holdsFor(program)))
 * ```
 */
export class ProgramArbitrary extends Arbitrary<Program> {
  readonly #theme: ThemeName
  readonly #steps: number

  /** @param steps of each program, about */
  constructor(theme: ThemeName, steps: number) {
    super()
    this.#theme = theme
    this.#steps = steps
  }

  override generate(generator: Generator): Value<Program> {
    return new Value(makeProgram(new Random(generator), this.#theme, this.#steps), null)
  }

  override canShrinkWithoutContext(value: unknown): value is Program {
    return typeof value === 'object' && value !== null && 'formatVersion' in value && 'steps' in value
  }

  /** @param context where the search for a shorter one has come to; undefined: it has not begun */
  override shrink(value: Program, context: unknown): Stream<Value<Program>> {
    const from = (context ?? null) as Place | null
    return new Stream(candidates(value, from)).map(({ program, next }: Candidate) => new Value(program, next))
  }
}
