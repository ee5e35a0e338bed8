import { RELEASE_NAMES } from '../base/release.ts'
import type { Answer } from '../explain/answer.ts'
import { INDENT, type LabelledText } from './labelled-text.ts'
import { table } from './text-layout.ts'

type Row = Answer['otherReleases'][number]

/**
 * The same request on the modelled releases.
 * @param headline all of them with the verdict's own, marked; else the others, in one line where they agree
 */
export function reportReleases(out: LabelledText, answer: Answer, headline: boolean): void {
  const { verdict } = answer
  const own: Row = {
    release: answer.release,
    verified: answer.releaseVerified,
    ok: verdict.ok,
    errno: verdict.errno,
    rule: verdict.rule,
    reason: verdict.reason ?? verdict.undecided,
  }
  const rows = inOrder(headline ? [own, ...answer.otherReleases] : answer.otherReleases)
  if (!headline) {
    const agreeing = rows.every((row) => sameAnswer(row, own) && row.verified === rows[0]!.verified)
    const names = rows.map((row) => row.release)
    if (agreeing) {
      out.field(
        'elsewhere',
        `the same on ${names.join(', ')} ${verifiedWord(rows[0]!.verified, names.length)}`,
      )
      return
    }
    const differing = rows
      .filter((row) => row.ok !== own.ok || row.errno !== own.errno)
      .map((row) => row.release)
    out.field(
      'elsewhere',
      differing.length === 0 ? 'the same answer' : `another answer on ${differing.join(', ')}`,
    )
  }
  for (const [i, lines] of table(
    rows.map((row) => cells(row, own, headline)),
    headline ? 2 : INDENT,
    out.width,
  ).entries()) {
    paintRow(out, rows[i]!, lines, headline && rows[i] === own)
  }
}

function inOrder(rows: readonly Row[]): Row[] {
  const order: readonly string[] = RELEASE_NAMES
  return rows.toSorted((a, b) => order.indexOf(a.release) - order.indexOf(b.release))
}

/** Same words for the user; a success has no reason to compare. */
function sameAnswer(row: Row, own: Row): boolean {
  return row.ok === own.ok && row.errno === own.errno && row.reason === own.reason
}

function verifiedWord(verified: boolean, releases: number): string {
  if (verified) return '(verified)'
  return releases === 1 ? '(not verified there)' : '(not verified on any of them)'
}

function cells(row: Row, own: Row, headline: boolean): string[] {
  const same = row !== own && row.ok !== true && sameAnswer(row, own)
  return [
    row.release,
    row.verified ? 'verified' : 'not verified',
    answerWord(row),
    same ? (headline ? `as ${own.release}` : 'same reason') : reasonAndRule(row),
  ]
}

function answerWord({ ok, errno }: Row): string {
  if (ok === null) return 'cannot be said'
  return ok ? 'succeeds' : (errno ?? 'fails')
}

function reasonAndRule({ reason, rule }: Row): string {
  if (reason === null) return rule ?? ''
  return rule === null || reason.includes(rule) ? reason : `${reason} (${rule})`
}

function paintRow(out: LabelledText, row: Row, lines: readonly string[], marked: boolean): void {
  const { bold, red, green, yellow } = out.colors
  const word = answerWord(row)
  const paint = row.ok === null ? yellow : row.ok ? green : red
  const [first, ...rest] = lines
  const at = first!.indexOf(` ${word}`, first!.indexOf('verified')) + 1
  const painted = `${first!.slice(0, at)}${paint(word)}${first!.slice(at + word.length)}`
  out.line(marked ? `${bold('>')} ${painted.slice(2)}` : painted)
  for (const line of rest) out.line(line)
}
