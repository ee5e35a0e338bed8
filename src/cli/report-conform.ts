import { FACTS } from '../conform/compare.ts'
import { columns } from '../conform/columns.ts'
import { errnoText } from '../conform/errno-text.ts'
import { unseenErrnos, type UnseenErrno } from '../conform/expected-errnos.ts'
import type { Finding } from '../conform/lockstep.ts'
import { PROGRAM_FORMAT } from '../conform/program.ts'
import { COMPLETION, type Found } from '../conform/result.ts'
import { sourceLines } from '../conform/rule-places.ts'
import type { RuleTally } from '../conform/rule-tally.ts'
import type { RunSummary, Unsteady } from '../conform/run.ts'
import { stepText } from '../conform/steps.ts'
import type { ThemeName } from '../conform/themes.ts'
import type { Terminal } from './terminal.ts'
import { count } from './words.ts'

/** Rows of the two columns around a difference that are shown although both sides agree. */
const MOST_ROWS = 40
/** names of programs that are listed in one line */
const MOST_NAMES = 10

/** One difference: the sentence, the shortest program, both columns, how to run it again. */
export function reportFound(
  { name, finding, examined }: Found,
  file: string | null,
  terminal: Terminal,
): string {
  const { bold, red, dim } = terminal.colors
  const { program, step, difference, kernel, engine } = finding
  const lines = [`${red('difference')} in ${bold(name)}, step ${step}: ${difference.sentence}`, '']
  if (!examined) lines.push('  seen once: the run ended before the program was run again and shortened', '')
  for (const [i, each] of program.steps.entries())
    lines.push(`  ${i === step ? bold(`${i} ${stepText(each)}`) : dim(`${i} ${stepText(each)}`)}`)
  lines.push('', `    ${'kernel'.padEnd(60)} engine`)
  const rows = columns(kernel, engine)
  const shown = rows.length > MOST_ROWS ? rows.filter(({ same }) => !same) : rows
  for (const row of shown.slice(0, MOST_ROWS)) {
    const text = `${row.kernel.padEnd(60)} ${row.engine}`
    lines.push(row.same ? dim(`    ${text}`) : `  ≠ ${text}`)
  }
  if (file !== null) lines.push('', `  pinscope conform --replay ${file}`)
  return `${lines.join('\n')}\n\n`
}

/** What a run was about. */
export interface ConformHead {
  readonly release: string
  /** `root`, `uid 1000` */
  readonly who: string
  readonly engine: string
  readonly seed: number | null
  /** workers */
  readonly jobs: number
  readonly seconds: number
  /** what ended the run before it was done */
  readonly interrupted: 'SIGINT' | 'SIGTERM' | 'output' | null
  readonly themes: readonly ThemeName[]
  /** theme: why it is off */
  readonly off: readonly string[]
  /** what the oracle cannot see here */
  readonly hidden: readonly string[]
  /** settings of the machine that could not be made */
  readonly notSet: readonly string[]
}

/** What was run and compared; the last line is the result. */
export function reportSummary(
  summary: RunSummary,
  head: ConformHead,
  files: ReadonlyMap<Finding, string>,
  rules: RuleTally | null,
): string {
  const { programs, steps, differing, facts, found } = summary
  const seed = head.seed === null ? 'none' : `${head.seed} (programs of format ${PROGRAM_FORMAT})`
  const lines = [
    `kernel ${head.release} (${head.who}), engine ${head.engine}, seed ${seed}, themes: ${head.themes.join(', ')}`,
  ]
  if (head.off.length > 0) lines.push(`themes off: ${head.off.join('; ')}`)
  for (const hidden of head.hidden) lines.push(`not seen: ${hidden}`)
  for (const notSet of head.notSet) lines.push(`not set: ${notSet}`)
  lines.push(...incidents(summary, files))
  lines.push(
    ...coverage(summary),
    ...unseenLine(unseen(summary, head)),
    ...ruleLines(rules),
    rates(summary, head),
  )
  const compared = FACTS.filter((fact) => facts.has(fact))
  lines.push(`compared: ${compared.length === 0 ? 'nothing' : compared.join(', ')}`)
  if (facts.has('pin counters'))
    lines.push(
      `pin counters: compared in ${count(summary.machineWide, 'program')} with steps that pin or use huge pages of the pool, each alone on this machine`,
    )
  if (found.length > 1) lines.push(`kinds of difference: ${found.length}`)
  const ended = head.interrupted === null ? '' : `; not complete, ended by ${head.interrupted}`
  lines.push(`${programs} programs, ${steps} steps, ${differing} differences${ended}`)
  return `${lines.join('\n')}\n`
}

function incidents(summary: RunSummary, files: ReadonlyMap<Finding, string>): string[] {
  const { unmodelled, allowed, unsteady, deaths, accidents } = summary
  return [
    ...[...unmodelled].map(([why, n]) => `ended early: ${why}: ${count(n, 'program')}`),
    ...[...allowed].map(([id, n]) => `allowed: ${id}: in ${count(n, 'program')}`),
    ...disturbances(unsteady.filter(({ machineWide }) => machineWide)),
    ...unsteady
      .filter(({ machineWide }) => !machineWide)
      .map(({ name, finding: { step, difference }, finding }) => {
        const file = files.get(finding)
        const saved = file === undefined ? '' : `; saved as ${file}`
        return `not repeatable: ${name} step ${step}: ${difference.sentence}${saved}`
      }),
    ...accidents.map(({ name, message }) => `not repeatable: ${name}: ${message}; it went well another time`),
    ...deaths.map(({ name, message }) => `died: ${name}: ${message}`),
  ]
}

/** Counters that another run of the same program did not show. */
function disturbances(unsteady: readonly Unsteady[]): string[] {
  if (unsteady.length === 0) return []
  const names = [...new Set(unsteady.map(({ name }) => name))]
  const some = names.length > MOST_NAMES ? `${names.slice(0, MOST_NAMES).join(', ')} …` : names.join(', ')
  return [
    `not repeatable: counters of the whole machine: ${count(unsteady.length, 'step')} of ${count(names.length, 'program')} differed in one run and not in another: ${some}`,
  ]
}

/** What the kernel was seen to answer, and what the engine went through. */
function coverage({ answers, refusals }: RunSummary): string[] {
  const lines: string[] = []
  if (answers.size > 0) {
    const pairs = [...answers.values()].reduce((sum, outcomes) => sum + outcomes.size, 0)
    lines.push(`answers of the kernel (${answers.size} kinds of step, ${pairs} outcomes):`)
    for (const [op, outcomes] of [...answers].sort(([a], [b]) => a.localeCompare(b)))
      lines.push(`  ${op}: ${[...outcomes].map(([outcome, n]) => `${outcomeName(outcome)} ${n}`).join(', ')}`)
  }
  if (refusals.size > 0)
    lines.push(
      `refusals of the engine by ${count(refusals.size, 'rule')}: ${[...refusals].sort().join(', ')}`,
    )
  return lines
}

/** Programs out of files are about something else than all that may happen. */
function unseen({ answers }: RunSummary, { seed, themes, engine }: ConformHead): readonly UnseenErrno[] {
  return seed === null ? [] : unseenErrnos(answers, themes, engine)
}

function unseenLine(errnos: readonly UnseenErrno[]): string[] {
  if (errnos.length === 0) return []
  const each = errnos.map(({ call, errno, rules }) => `${call}: ${errno} (${rules.join(' ')})`)
  return [`errnos of the specifications that the kernel did not answer: ${each.join('; ')}`]
}

/** Tagged code of the engine that no program came to, and the count. */
function ruleLines(rules: RuleTally | null): string[] {
  if (rules === null) return []
  if (rules.counted === 'functions')
    return [`rules: ${rules.reached} of ${rules.of} in functions of the engine that ran (closer: --coverage)`]
  const lines = rules.unreached.size === 0 ? [] : ['rules of the engine that no program came to:']
  for (const [rule, places] of rules.unreached) lines.push(`  ${rule}: ${sourceLines(places).join(', ')}`)
  return [...lines, `rules: ${rules.reached} of ${rules.of} reached`]
}

function rates({ programs, steps, time }: RunSummary, { jobs, seconds }: ConformHead): string {
  const perSecond = (ms: number): string =>
    ms > 0 ? Math.round((steps / ms) * 1000).toLocaleString('en') : '–'
  const perMinute = seconds > 0 ? Math.round((programs / seconds) * 60).toLocaleString('en') : '–'
  return `rates: ${perMinute} programs a minute with ${count(jobs, 'worker')}; of one worker, steps a second: engine ${perSecond(time.engine)}, kernel ${perSecond(time.kernel)}`
}

function outcomeName(outcome: string): string {
  if (/^\d+$/.test(outcome)) return errnoText(Number(outcome))
  if (!outcome.startsWith(COMPLETION)) return outcome
  return COMPLETION + errnoText(Number(outcome.slice(COMPLETION.length)))
}

/** For machines. */
export function reportConformJson(
  summary: RunSummary,
  head: ConformHead,
  files: ReadonlyMap<Finding, string>,
  rules: RuleTally | null,
): string {
  const { programs, steps, differing, found, facts, unsteady, answers, refusals } = summary
  const object = {
    schemaVersion: 1,
    formatVersion: PROGRAM_FORMAT,
    ...head,
    programs,
    steps,
    differences: differing,
    found: found.map((each) => ({
      name: each.name,
      seed: each.seed,
      programs: each.programs,
      examined: each.examined,
      step: each.finding.step,
      fact: each.finding.difference.fact,
      difference: each.finding.difference.sentence,
      file: files.get(each.finding) ?? null,
      program: each.finding.program,
    })),
    compared: FACTS.filter((fact) => facts.has(fact)),
    pinCountersIn: summary.machineWide,
    unmodelled: Object.fromEntries(summary.unmodelled),
    allowed: Object.fromEntries(summary.allowed),
    unsteady: unsteady.map(({ name, finding, machineWide }) => ({
      name,
      step: finding.step,
      fact: finding.difference.fact,
      difference: finding.difference.sentence,
      machineWide,
      file: files.get(finding) ?? null,
    })),
    deaths: summary.deaths,
    accidents: summary.accidents,
    answers: Object.fromEntries([...answers].map(([op, outcomes]) => [op, Object.fromEntries(outcomes)])),
    unseenErrnos: unseen(summary, head),
    refusals: [...refusals].sort(),
    rules:
      rules === null
        ? null
        : {
            counted: rules.counted,
            reached: rules.reached,
            of: rules.of,
            unreached: Object.fromEntries(
              [...rules.unreached].map(([rule, places]) => [rule, sourceLines(places)]),
            ),
          },
    milliseconds: summary.time,
  }
  return `${JSON.stringify(object, null, 2)}\n`
}
