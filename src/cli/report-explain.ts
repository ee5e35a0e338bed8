/** An answer for people: the verdict first, a screenful in all. */
import { formatSize } from '../base/units.ts'
import type { Answer } from '../explain/answer.ts'
import { MEMLOCK_CHARGE } from '../host/snapshot-format.ts'
import { LabelledText } from './labelled-text.ts'
import { reportReleases } from './report-releases.ts'
import { printableStrings, type Terminal } from './terminal.ts'
import { count, pagesAndSize, unseenText } from './words.ts'

export interface ReportOptions {
  /** `--kernel all`: the table over releases is the headline */
  readonly allReleases?: boolean
}

/** Notes of one kind that are shown; the rest is counted. */
const NOTES_SHOWN = 4

/** Lines of text ending in a newline. */
export function reportExplain(received: Answer, terminal: Terminal, options: ReportOptions = {}): string {
  const answer = printableStrings(received)
  const out = new LabelledText(terminal)
  if (options.allReleases === true) {
    out.line(out.colors.bold(`${requestText(answer)} at ${answer.range.start}`))
    out.gap()
    reportReleases(out, answer, true)
    out.gap()
  }
  headline(out, answer)
  out.gap()
  question(out, answer)
  refusal(out, answer)
  memlock(out, answer)
  effects(out, answer)
  for (const [i, line] of answer.kernelLog.entries()) out.field(i === 0 ? 'dmesg' : '', line)
  if (answer.hints.length > 0) {
    out.gap()
    out.items(
      'fix',
      answer.hints.map((hint) => hint.text),
    )
    out.field('', 'tried in the engine: the request then succeeds', out.colors.dim)
  }
  if (options.allReleases !== true && answer.otherReleases.length > 0) {
    out.gap()
    reportReleases(out, answer, false)
  }
  out.gap()
  notes(out, answer)
  return out.text()
}

/** @rule R-OUT-2 */
function headline(out: LabelledText, { verdict, release, releaseVerified, seen }: Answer): void {
  const { bold, dim, red, green, yellow } = out.colors
  const { ok, errno } = verdict
  const paint = ok === null ? yellow : ok ? green : red
  const words = verdictWords(ok, errno)
  const verified = `${releaseVerified ? '' : 'not '}verified on a running ${release} kernel`
  const racy = seen.consistency === 'racy' ? `; ${yellow('racy')}: the process changed while it was read` : ''
  out.line(`${bold(paint(words))} on ${release} ${dim(`(${verified})`)}${racy}`)
}

function verdictWords(ok: boolean | null, errno: string | null): string {
  if (ok === null) return 'cannot be said'
  if (ok) return 'would succeed'
  return errno === null ? 'would fail' : `would fail with ${errno}`
}

function requestText({ request, flags, options, range }: Answer): string {
  const withFlags = flags.length === 0 ? '' : ` with ${flags.join(' | ')}`
  const readOnly = options['access'] === 'read' && flags.length === 0 ? ' (read)' : ''
  return `${request}${readOnly}${withFlags}, ${formatSize(range.length)}`
}

function question(out: LabelledText, answer: Answer): void {
  const {
    range,
    process: { pid, name, uid },
    releaseNote,
    seen,
  } = answer
  out.field('request', `${requestText(answer)} at ${range.start} = ${count(range.pages, 'page')}`)
  if (range.note !== null) out.field('', range.note, out.colors.dim)
  const time = seen.takenAt.replace('T', ' ').replace(/(\.\d+)?Z$/, ' UTC')
  out.field('process', `${pid} (${name}), uid ${uid}, read ${tierWords(seen.tier)} at ${time}`)
  if (releaseNote !== null) out.field('kernel', releaseNote)
}

/** @rule R-ACC-7 */
function tierWords(tier: string): string {
  const words: Readonly<Record<string, string>> = {
    T0: 'without access to it',
    T1: 'without privileges',
    T2: 'with CAP_SYS_PTRACE',
    T3: 'with all privileges',
  }
  return words[tier] ?? tier
}

function refusal(out: LabelledText, { verdict, range }: Answer): void {
  const { page, address, mapping, chain, reason, rule, undecided } = verdict
  const { bold, dim } = out.colors
  if (page !== null || address !== null) {
    const index = page === null ? '' : `page ${page} of 0..${range.pages - 1}`
    out.field('refused', [index, address].filter((part) => part !== null && part !== '').join(', at '))
  }
  if (mapping !== null) {
    const { start, end, flags, backing, name } = mapping
    const named = name === backing ? [backing] : [backing, name]
    const parts = [`${start}-${end}`, permissions(flags), ...named].filter((part) => part !== '')
    out.field('mapping', parts.join('  '))
    out.field('', `VmFlags ${flags.join(' ')}`, dim)
  }
  if (undecided !== null) out.field('because', undecided, bold)
  const decider = chain.at(-1)
  if (decider === undefined) {
    if (reason !== null) out.field('because', reason, bold)
    if (reason !== null && rule !== null) out.field('rule', rule)
    return
  }
  if (decider.why !== null) out.field('because', decider.why, bold)
  out.field('rule', ruleAndSentence(decider))
  // from the check outwards: how the caller's errno came of it
  for (const step of chain.slice(0, -1).reverse()) {
    out.field(
      '',
      `→ ${step.errno}: ${step.why === null ? ruleAndSentence(step) : `${step.why} (${step.rule})`}`,
    )
  }
}

function ruleAndSentence({ rule, sentence }: { rule: string; sentence: string }): string {
  return sentence === rule ? rule : `${rule}: ${sentence}`
}

/** As maps prints them; p and s after VM_MAYSHARE. */
function permissions(flags: readonly string[]): string {
  const letter = (mnemonic: string, yes: string, no = '-'): string => (flags.includes(mnemonic) ? yes : no)
  return letter('rd', 'r') + letter('wr', 'w') + letter('ex', 'x') + letter('ms', 's', 'p')
}

/** @rule R-ST-3 */
function memlock(
  out: LabelledText,
  { memlock: facts, process: { uid }, range, pinned, request }: Answer,
): void {
  if (facts === null) return
  const { needed, used, limit, exempt, capability, budget, liftedBy } = facts
  const onlySmall = pinned === null || pinned.hugePages === 0
  const ring = request.startsWith('io_uring:') && onlySmall && needed > range.pages
  const needs = `needs ${pagesAndSize(needed)}${ring ? ', the ring itself included' : ''}`
  if (exempt) out.field('memlock', `${needs}; no limit applies: the process has CAP_IPC_LOCK`)
  else if (limit === null) out.field('memlock', `${needs}; RLIMIT_MEMLOCK is unlimited`)
  else {
    const amount = used === 0 ? 'none' : pagesAndSize(used)
    const inUse = {
      'user->locked_vm': `uid ${uid} has ${amount} in use (a lower bound)`,
      'mm->locked_vm': `the process has ${amount} locked (VmLck)`,
      'mm->pinned_vm': `the process has ${amount} pinned (VmPin)`,
    }[budget]
    const over = needed + used > limit
    const lifts = liftedBy === null && over ? '; CAP_IPC_LOCK does not lift it here' : ''
    out.field('memlock', `${needs}; ${inUse}; RLIMIT_MEMLOCK allows ${pagesAndSize(limit)}${lifts}`)
    if (over && liftedBy !== null)
      out.field('', `CAP_IPC_LOCK lifts the limit; ${capabilityWords[capability]}`)
  }
}

const capabilityWords: Readonly<Record<NonNullable<Answer['memlock']>['capability'], string>> = {
  effective: 'the process has it',
  'user-namespace': 'the process has it in a user namespace of its own only, where it does not count',
  permitted: 'the process has it permitted, but not effective',
  bounding: 'the process has it in its bounding set only, not effective',
  missing: 'the process does not have it',
  'not-effective': 'the process does not have it effective',
}

/** What requests do that do not pin. */
const verbs: Readonly<Record<string, string>> = {
  'gup:get': 'take references on',
  'kvm:memslot': 'give the guest',
  'sgx:add-pages': 'copy into the enclave',
  'ptrace:peek': 'look at',
  'ptrace:poke': 'write to',
}

function effects(out: LabelledText, { pinned, faultedIn, copied, request, verdict }: Answer): void {
  const parts: string[] = []
  if (faultedIn > 0) parts.push(`fault in ${count(faultedIn, 'absent page')}`)
  if (copied > 0) parts.push(`give ${count(copied, 'shared page')} a private copy`)
  if (pinned !== null) {
    const verb = verbs[request] ?? 'pin'
    const huge = pinned.hugePages === 0 ? '' : `, ${count(pinned.hugePages, 'large folio')} among them`
    parts.push(`${verb} ${pagesAndSize(pinned.pages)}${huge}`)
  }
  if (parts.length === 0) return
  out.field(
    'effect',
    `${verdict.ok === true ? 'would' : 'before it fails it would'} ${parts.join(', then ')}`,
  )
}

function notes(out: LabelledText, { assumptions, unseen, memlock: facts }: Answer): void {
  limited(out, 'assumed', assumptions)
  const limitApplies =
    facts !== null && facts.budget === 'user->locked_vm' && !facts.exempt && facts.limit !== null
  const relevant = unseen.filter(({ what }) => limitApplies || !what.startsWith(MEMLOCK_CHARGE))
  limited(out, 'not seen', relevant.map(unseenText))
}

function limited(out: LabelledText, label: string, texts: readonly string[]): void {
  const shown = texts.slice(0, texts.length === NOTES_SHOWN + 1 ? texts.length : NOTES_SHOWN)
  for (const [i, text] of shown.entries()) out.field(i === 0 ? label : '', text, out.colors.dim)
  if (shown.length < texts.length)
    out.field('', `and ${texts.length - shown.length} more; --json lists all`, out.colors.dim)
}
