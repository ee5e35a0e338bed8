import { createHash } from 'node:crypto'
import { AgentDied } from './kernel-driver.ts'
import { compareRuns, isMachineWide, type Finding } from './lockstep.ts'
import type { Observation, Unanswerable } from './observation.ts'
import type { Program } from './program.ts'
import { kindOf, type Examination, type ProgramResult } from './result.ts'
import { shrink } from './shrink.ts'
import type { Sides } from './sides.ts'
import { MOST_RUNS, fickle, undisturbed, type Undisturbed } from './undisturbed.ts'

/** runs one after the other that must show a difference for it to be one */
const SAME = 4
/** what the engine is told to be at */
const EXAMINATION = -1

/** Everything the engine showed of a program, in short. */
export function digest(engine: readonly (Observation | Unanswerable)[]): string {
  return createHash('sha256').update(JSON.stringify(engine)).digest('hex')
}

/**
 * Runs the program of a difference again and finds the shortest one. What one run shows and the next one does not
 * was somebody else's doing on the kernel's side; what the engine shows must be the same every time.
 */
export async function examine(
  sides: Sides,
  { engineDigest, saved }: ProgramResult,
  first: Finding,
): Promise<Examination> {
  const { program } = first
  const unsteady: Finding[] = []
  let finding: Finding | null = first
  // a counter that never agreed has been looked at often enough
  for (
    let same = 1, runs = 1;
    finding !== null && same < SAME && !isMachineWide(finding.difference);
    runs++
  ) {
    const again: Undisturbed | null = await unlessDeadly(sides, program)
    if (again !== null && digest(again.both.engine) !== engineDigest)
      return { finding: fickle(finding), unsteady }
    const next: Finding | null = again?.comparison.finding ?? null
    if (next !== null && sameFinding(next, finding)) same++
    else {
      unsteady.push(finding)
      finding = runs < MOST_RUNS ? next : null
      same = 1
    }
  }
  return { finding: finding === null || saved !== null ? finding : await shortest(sides, finding), unsteady }
}

function sameFinding(a: Finding, b: Finding): boolean {
  return a.step === b.step && a.difference.sentence === b.difference.sentence
}

/** null: the program ended the kernel's side this time. */
async function unlessDeadly(sides: Sides, program: Program): Promise<Undisturbed | null> {
  try {
    return await undisturbed(sides, program, EXAMINATION)
  } catch (error) {
    if (error instanceof AgentDied) return null
    throw error
  }
}

async function shortest(sides: Sides, finding: Finding): Promise<Finding> {
  const kind = kindOf(finding)
  let best = finding
  const steps = finding.program.steps.slice(0, finding.step + 1)
  await shrink({ ...finding.program, steps }, async (candidate) => {
    const again = await findingOf(sides, candidate, finding)
    if (again === null || kindOf(again) !== kind) return false
    best = again
    return true
  })
  return best
}

/**
 * What a shorter program shows. Only a counter of the whole machine asks for several runs: anything else shows in
 * one, and hundreds of candidates are tried.
 */
async function findingOf(sides: Sides, program: Program, like: Finding): Promise<Finding | null> {
  if (isMachineWide(like.difference)) return (await unlessDeadly(sides, program))?.comparison.finding ?? null
  try {
    const { kernel, engine } = await sides.run(program, EXAMINATION)
    return compareRuns(program, kernel, engine).finding
  } catch (error) {
    if (error instanceof AgentDied) return null
    throw error
  }
}
