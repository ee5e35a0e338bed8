import { errnoName } from '../base/errno.ts'
import type { Refusal } from '../base/refusal.ts'
import { rootRefusal } from '../base/refusal.ts'
import { PAGE_SIZE, pageAlignDown } from '../base/units.ts'
import { vmFlagMnemonics } from '../mm/vm-flags.ts'
import type { Answer, Verdict } from './answer.ts'
import { pagesOf, type Outcome, type RequestRange } from './request.ts'
import { ruleSentences } from './rules.generated.ts'

const blank: Verdict = {
  ok: null,
  errno: null,
  rule: null,
  page: null,
  address: null,
  reason: null,
  mapping: null,
  chain: [],
  undecided: null,
}

/** A verdict that says why none can be given. */
export function undecided(text: string, rule: string | null): Verdict {
  return { ...blank, rule, undecided: text }
}

/** What the outcome of a request means to whoever made it: success is every page. */
export function verdictOf(outcome: Outcome, refusal: Refusal | null, range: RequestRange): Verdict {
  if (outcome.result >= 0 && outcome.held === pagesOf(range)) return { ...blank, ok: true }
  const root = refusal === null ? null : rootRefusal(refusal)
  const page = refusedPage(refusal, range)
  const address = refusedAddress(refusal)
  const errno = outcome.result < 0 ? errnoName(outcome.result) : root === null ? null : errnoName(root.errno)
  return {
    ok: false,
    errno,
    rule: root?.rule ?? null,
    page,
    address: address === null ? null : hex(address),
    reason: root === null ? null : (root.why ?? sentenceOf(root.rule)),
    mapping: mappingFacts(refusal),
    chain: chainOf(refusal),
    undecided: null,
  }
}

/** The deepest step that knows where it happened. */
function refusedAddress(refusal: Refusal | null): number | null {
  let address: number | null = null
  for (let step = refusal; step !== null; step = step.cause) {
    if (step.address !== undefined) address = pageAlignDown(step.address)
  }
  return address
}

function refusedPage(refusal: Refusal | null, range: RequestRange): number | null {
  const address = refusedAddress(refusal)
  if (address === null) return refusal === null ? null : (rootRefusal(refusal).page ?? null)
  const page = (address - pageAlignDown(range.start)) / PAGE_SIZE
  return page >= 0 && page < pagesOf(range) ? page : null
}

function mappingFacts(refusal: Refusal | null): Verdict['mapping'] {
  let facts: Verdict['mapping'] = null
  for (let step = refusal; step !== null; step = step.cause) {
    if (step.vma === undefined) continue
    const { start, end, flags, highFlags, backing, name } = step.vma
    facts = { start: hex(start), end: hex(end), flags: vmFlagMnemonics(flags, highFlags), backing, name }
  }
  return facts
}

/** The rule in one sentence. */
export function sentenceOf(rule: string): string {
  return ruleSentences[rule] ?? rule
}

function chainOf(refusal: Refusal | null): Verdict['chain'] {
  const chain: Verdict['chain'] = []
  for (let step = refusal; step !== null; step = step.cause) {
    chain.push({
      errno: errnoName(step.errno),
      rule: step.rule,
      sentence: sentenceOf(step.rule),
      why: step.why ?? null,
    })
  }
  return chain
}

/** `0x7f…` */
export function hex(address: number): Answer['range']['start'] {
  return `0x${address.toString(16)}`
}
