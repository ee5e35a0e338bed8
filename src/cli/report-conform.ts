import { FACTS } from '../conform/compare.ts'
import { columns } from '../conform/columns.ts'
import { errnoText } from '../conform/errno-text.ts'
import type { Found, RunSummary } from '../conform/run.ts'
import { stepText } from '../conform/steps.ts'
import type { Terminal } from './terminal.ts'
import { count } from './words.ts'

/** Rows of the two columns around a difference that are shown although both sides agree. */
const MOST_ROWS = 40

/** One difference: the sentence, the shortest program, both columns, how to run it again. */
export function reportFound({ name, finding }: Found, file: string, terminal: Terminal): string {
  const { bold, red, dim } = terminal.colors
  const { program, step, difference, kernel, engine } = finding
  const lines = [`${red('difference')} in ${bold(name)}, step ${step}: ${difference.sentence}`, '']
  for (const [i, each] of program.steps.entries())
    lines.push(`  ${i === step ? bold(`${i} ${stepText(each)}`) : dim(`${i} ${stepText(each)}`)}`)
  lines.push('', `    ${'kernel'.padEnd(60)} engine`)
  const rows = columns(kernel, engine)
  const shown = rows.length > MOST_ROWS ? rows.filter(({ same }) => !same) : rows
  for (const row of shown.slice(0, MOST_ROWS)) {
    const text = `${row.kernel.padEnd(60)} ${row.engine}`
    lines.push(row.same ? dim(`    ${text}`) : `  ≠ ${text}`)
  }
  lines.push('', `  pinscope conform --replay ${file}`, '')
  return `${lines.join('\n')}\n`
}

/** What was run and compared; the last line is the result. */
export function reportSummary(summary: RunSummary, head: ConformHead): string {
  const { programs, steps, differing, facts, unmodelled, allowed, unsteady, deaths, coverage, found, time } =
    summary
  const lines = [
    `kernel ${head.release} (${head.who}), engine ${head.engine}, seed ${head.seed ?? 'none'}, themes: ${head.themes.join(', ')}`,
  ]
  if (head.off.length > 0) lines.push(`themes off: ${head.off.join('; ')}`)
  for (const hidden of head.hidden) lines.push(`not seen: ${hidden}`)
  for (const [why, n] of unmodelled) lines.push(`ended early: ${why}: ${count(n, 'program')}`)
  for (const [id, n] of allowed) lines.push(`allowed: ${id}: in ${count(n, 'program')}`)
  const disturbed = unsteady.filter(({ machineWide }) => machineWide).length
  if (disturbed > 0)
    lines.push(
      `not repeatable: counters of the whole machine: ${count(disturbed, 'run')} differed, the next did not`,
    )
  for (const { name, step, difference, machineWide } of unsteady)
    if (!machineWide) lines.push(`not repeatable: ${name} step ${step}: ${difference.sentence}`)
  for (const { name, message } of deaths) lines.push(`died: ${name}: ${message}`)
  const calls = [...coverage]
    .sort(([a], [b]) => a.localeCompare(b))
    .map(
      ([op, outcomes]) =>
        `${op} ${[...outcomes].map(([outcome, n]) => `${outcomeName(outcome)}×${n}`).join(' ')}`,
    )
  if (calls.length > 0) lines.push(`answers of the kernel: ${calls.join('; ')}`)
  const rate = (ms: number): string => (ms === 0 ? '–' : Math.round((steps / ms) * 1000).toLocaleString('en'))
  lines.push(`steps a second: engine ${rate(time.engine)}, kernel and wire ${rate(time.kernel)}`)
  const compared = FACTS.filter((fact) => facts.has(fact))
  lines.push(`compared: ${compared.length === 0 ? 'nothing' : compared.join(', ')}`)
  if (found.length > 1) lines.push(`kinds of difference: ${found.length}`)
  const died = deaths.length === 0 ? '' : `, ${count(deaths.length, 'death')}`
  lines.push(
    `${count(programs, 'program')}, ${count(steps, 'step')}, ${count(differing, 'difference')}${died}`,
  )
  return `${lines.join('\n')}\n`
}

/** What a run was about. */
export interface ConformHead {
  readonly release: string
  /** `root`, `uid 1000` */
  readonly who: string
  readonly engine: string
  readonly seed: number | null
  readonly themes: readonly string[]
  /** theme: why it is off */
  readonly off: readonly string[]
  /** what the oracle cannot see here */
  readonly hidden: readonly string[]
}

function outcomeName(outcome: string): string {
  return /^\d+$/.test(outcome) ? errnoText(Number(outcome)) : outcome
}

/** For machines. */
export function reportConformJson(
  summary: RunSummary,
  head: ConformHead,
  files: ReadonlyMap<Found, string>,
): string {
  const { programs, steps, differing, found, facts, unmodelled, allowed, unsteady, deaths, coverage, time } =
    summary
  const object = {
    schemaVersion: 1,
    ...head,
    programs,
    steps,
    differences: differing,
    found: found.map((each) => ({
      name: each.name,
      seed: each.seed,
      programs: each.programs,
      step: each.finding.step,
      fact: each.finding.difference.fact,
      difference: each.finding.difference.sentence,
      file: files.get(each) ?? null,
      program: each.finding.program,
    })),
    compared: FACTS.filter((fact) => facts.has(fact)),
    unmodelled: Object.fromEntries(unmodelled),
    allowed: Object.fromEntries(allowed),
    unsteady: unsteady.map(({ name, step, difference, machineWide }) => ({
      name,
      step,
      fact: difference.fact,
      difference: difference.sentence,
      machineWide,
    })),
    deaths,
    coverage: Object.fromEntries([...coverage].map(([op, outcomes]) => [op, Object.fromEntries(outcomes)])),
    milliseconds: time,
  }
  return `${JSON.stringify(object, null, 2)}\n`
}
