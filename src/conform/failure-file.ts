import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import type { Finding } from './lockstep.ts'
import { PROGRAM_FORMAT, ProgramError, parseProgram, type Program } from './program.ts'
import { stepText } from './steps.ts'

/** One program of a file, with the name it has there. */
export interface NamedProgram {
  readonly name: string
  readonly program: Program
  /** the file it was saved in as a difference, which a replay shows as it stands; null: it comes from somewhere else */
  readonly saved: string | null
}

/**
 * Writes a finding where `--replay` finds it again.
 * @returns the path of the file
 */
export function saveFailure(directory: string, name: string, seed: number | null, finding: Finding): string {
  mkdirSync(directory, { recursive: true })
  const file = path.join(directory, `${name}.json`)
  const { program, step, difference } = finding
  const content = {
    formatVersion: PROGRAM_FORMAT,
    replay: `pinscope conform --replay ${file}`,
    seed,
    difference: `step ${step}: ${difference.sentence}`,
    fact: difference.fact,
    listing: program.steps.map((each, i) => `${i} ${stepText(each)}`),
    program,
  }
  writeFileSync(file, `${JSON.stringify(content, null, 1)}\n`)
  return file
}

/**
 * Reads programs: a saved failure, a single program, or a corpus `{"programs": [{"name": …, …program}]}`.
 * @throws ProgramError with a message that names the file
 */
export function readPrograms(file: string): NamedProgram[] {
  let value: unknown
  try {
    value = JSON.parse(readFileSync(file, 'utf8'))
  } catch (error) {
    throw new ProgramError(`${file}: ${error instanceof Error ? error.message : String(error)}`)
  }
  try {
    return programsIn(value, file)
  } catch (error) {
    if (!(error instanceof ProgramError)) throw error
    throw new ProgramError(`${file}: ${error.message}`)
  }
}

function programsIn(value: unknown, file: string): NamedProgram[] {
  const name = path.basename(file, '.json')
  if (typeof value !== 'object' || value === null) throw new ProgramError('not an object')
  const { program, programs, difference } = value as Record<string, unknown>
  if (program !== undefined)
    return [{ name, program: parseProgram(program), saved: difference === undefined ? null : file }]
  if (programs === undefined) return [{ name, program: parseProgram(value), saved: null }]
  if (!Array.isArray(programs)) throw new ProgramError('"programs" is not a list')
  return programs.map((each: unknown, i) => {
    const own = (each as { readonly name?: unknown } | null)?.name
    const called = typeof own === 'string' ? own : `${name} ${i}`
    return { name: called, program: parseProgram(each), saved: null }
  })
}
