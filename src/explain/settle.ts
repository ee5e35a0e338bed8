import type { Answer, Verdict } from './answer.ts'
import { ask, type Asked, type Preparation, type Question } from './ask.ts'
import type { Doubt, Guesses } from './restoration.ts'
import { undecided } from './verdict.ts'

/** What is tried first; each guess that mattered is then turned round. */
const firstGuesses: Guesses = { hugePages: true, dax: false }

/** What each guess means, true and false. */
const meaning: Readonly<Record<Doubt, readonly [string, string]>> = {
  hugePages: ['512 resident pages in a row are one huge page', '512 resident pages in a row are small pages'],
  dax: ['the file system maps device memory (DAX)', 'the file system does not map device memory (no DAX)'],
}

const unseenBecause: Readonly<Record<Doubt, string>> = {
  hugePages: 'page frame numbers are hidden, and only a part of the mapping is huge',
  dax: 'neither the mount options nor the block device say whether the file is DAX',
}

/**
 * Asks once, and once more for every guess that had to be made. Where the answers differ the verdict is
 * undecided and says on what it hangs; where only the charge differs, the higher one counts and both are told.
 * @returns null when the preparation could not be made
 */
export function settle(question: Question, prepare?: Preparation): Asked | null {
  const first = ask(question, firstGuesses, prepare)
  if (first === null) return null
  let settled = first
  for (const doubt of first.doubts) {
    const guesses = { ...firstGuesses, [doubt]: !firstGuesses[doubt] }
    const other = ask(question, guesses, prepare)
    if (other === null) return null
    settled = reconcile(settled, first, other, doubt)
  }
  return settled
}

function reconcile(settled: Asked, first: Asked, other: Asked, doubt: Doubt): Asked {
  const [whenFirst, whenOther] = firstGuesses[doubt] ? meaning[doubt] : [meaning[doubt][1], meaning[doubt][0]]
  const verdict =
    settled.verdict.ok === null
      ? settled.verdict
      : agree(first.verdict, other.verdict, doubt, [whenFirst, whenOther])
  const charges = sayCharges(first.memlock, other.memlock, [whenFirst, whenOther])
  const told =
    charges ??
    `${whenFirst}: taken for granted, because ${unseenBecause[doubt]}; the verdict does not depend on it`
  return {
    ...settled,
    verdict,
    memlock: higher(settled.memlock, other.memlock),
    pinned: verdict.ok === true ? settled.pinned : null,
    assumptions: [...settled.assumptions, told],
  }
}

function agree(
  first: Verdict,
  other: Verdict,
  doubt: Doubt,
  [whenFirst, whenOther]: readonly [string, string],
): Verdict {
  if (first.ok === other.ok && first.errno === other.errno) return first
  const text = `${say(first)} if ${whenFirst}, ${say(other)} if ${whenOther}; which is not visible: ${unseenBecause[doubt]}`
  return undecided(text, first.rule ?? other.rule)
}

function say(verdict: Verdict): string {
  if (verdict.ok === null) return 'not known'
  return verdict.ok ? 'it would succeed' : `it would fail with ${verdict.errno ?? 'fewer pages than asked'}`
}

function sayCharges(
  first: Answer['memlock'],
  other: Answer['memlock'],
  [whenFirst, whenOther]: readonly [string, string],
): string | null {
  if (first === null || other === null || first.needed === other.needed) return null
  return `it charges ${first.needed} pages to RLIMIT_MEMLOCK if ${whenFirst}, ${other.needed} if ${whenOther}; the higher number is shown`
}

function higher(a: Answer['memlock'], b: Answer['memlock']): Answer['memlock'] {
  if (a === null || b === null) return a ?? b
  return a.needed >= b.needed ? a : b
}
