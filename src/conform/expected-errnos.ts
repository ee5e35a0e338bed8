import type { ErrnoName } from '../base/errno.ts'
import { errnoText } from './errno-text.ts'
import type { CallErrnos, ExpectedErrno } from './errnos/entry.ts'
import { fileErrnos } from './errnos/files.ts'
import { processErrnos } from './errnos/processes.ts'
import { ringErrnos } from './errnos/rings.ts'
import { spaceErrnos } from './errnos/space.ts'
import { COMPLETION, type Counts2 } from './result.ts'
import type { Op } from './steps.ts'
import { themeOf, type ThemeName } from './themes.ts'

/** Every kind of step, by the system call it makes, and the errnos that docs/spec names for that call. */
export const expectedErrnos: readonly CallErrnos[] = [
  ...spaceErrnos,
  ...fileErrnos,
  ...processErrnos,
  ...ringErrnos,
]

/** An errno that could have come up and did not. */
export interface UnseenErrno {
  readonly call: string
  readonly errno: ErrnoName
  readonly rules: readonly string[]
}

/**
 * What docs/spec names for the calls of a run and the kernel did not answer.
 * @param answers of the run: step → outcome → how often
 * @param names of the themes that were run
 * @param release that the kernel was compared with
 */
export function unseenErrnos(
  answers: Counts2,
  names: readonly ThemeName[],
  release: string,
): readonly UnseenErrno[] {
  const steps = new Set(names.flatMap((name) => Object.keys(themeOf(name).weights) as Op[]))
  const isAskedFor = ({ on, needs = [], unreachable }: ExpectedErrno): boolean =>
    unreachable === undefined &&
    (on === undefined || on.some((each) => each === release)) &&
    needs.every((op) => steps.has(op))
  return expectedErrnos
    .filter(({ ops }) => ops.some((op) => steps.has(op)))
    .flatMap((call) => {
      const seen = seenBy(call, answers)
      return call.errnos
        .filter((expected) => isAskedFor(expected) && !seen.has(expected.errno))
        .map(({ errno, rules }) => ({ call: call.call, errno, rules }))
    })
}

function seenBy({ ops, completions = false }: CallErrnos, answers: Counts2): ReadonlySet<string> {
  const outcomes = ops.flatMap((op) => [...(answers.get(op)?.keys() ?? [])])
  const errnos = completions
    ? outcomes.filter((text) => text.startsWith(COMPLETION)).map((text) => text.slice(COMPLETION.length))
    : outcomes
  return new Set(errnos.filter((text) => /^\d+$/.test(text)).map((text) => errnoText(Number(text))))
}
