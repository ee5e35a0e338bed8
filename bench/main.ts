/**
 * `npm run bench`: how fast the engine is, as a ratio to the kernel this runs on.
 *
 *   tsx bench/main.ts [--rounds N] [--case TEXT] [--json]
 *
 * Every file of `bench/cases/` exports `cases`, a list of BenchCase. Exit status: 0 all limits kept, 1 one exceeded,
 * 2 wrong usage. A case whose native half cannot run here is named as skipped and fails nothing.
 */
import Table from 'cli-table3'
import { existsSync, readdirSync } from 'node:fs'
import { arch, cpus, release } from 'node:os'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import { type BenchCase, type BenchResult, runCase } from './case.ts'

const MIN_ROUNDS = 5

class UsageError extends Error {}

async function findCases(): Promise<BenchCase[]> {
  const directory = path.join(import.meta.dirname, 'cases')
  const files = existsSync(directory) ? readdirSync(directory) : []
  const found: BenchCase[] = []
  for (const file of files.filter((name) => name.endsWith('.ts')).sort()) {
    const module = (await import(pathToFileURL(path.join(directory, file)).href)) as { cases?: BenchCase[] }
    if (!module.cases) throw new Error(`bench/cases/${file} exports no cases`)
    found.push(...module.cases)
  }
  return found
}

function readOptions(): { rounds: number; only: string | undefined; json: boolean } {
  try {
    const { values } = parseArgs({
      options: { rounds: { type: 'string' }, case: { type: 'string' }, json: { type: 'boolean' } },
    })
    const rounds = Number(values.rounds ?? MIN_ROUNDS)
    if (!Number.isInteger(rounds) || rounds < MIN_ROUNDS)
      throw new UsageError(`--rounds takes a whole number of at least ${MIN_ROUNDS}`)
    return { rounds, only: values.case, json: values.json ?? false }
  } catch (error) {
    throw error instanceof TypeError ? new UsageError(error.message) : error
  }
}

function digits(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toPrecision(3)
}

function table(results: readonly BenchResult[]): string {
  const rows = new Table({
    head: ['name', 'unit', 'engine', 'native', 'ratio', 'limit', 'ok'],
    style: { head: [], border: [] },
  })
  for (const result of results) {
    const { native, ratio, ok } = result
    rows.push([
      result.name,
      result.unit,
      digits(result.engine),
      native === null ? '-' : typeof native === 'number' ? digits(native) : `skipped: ${native.skip}`,
      ratio === null ? '-' : ratio.toPrecision(3),
      native === null ? `${result.limit} ${result.unit}` : `${result.limit} x`,
      ok === null ? 'skipped' : ok ? 'yes' : 'NO',
    ])
  }
  return rows.toString()
}

function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001b[2K${text}`)
}

async function main(): Promise<number> {
  const { rounds, only, json } = readOptions()
  const cases = (await findCases()).filter(({ name }) => only === undefined || name.includes(only))
  if (cases.length === 0)
    throw new UsageError(only === undefined ? 'no cases in bench/cases' : `no case has "${only}" in its name`)
  const results: BenchResult[] = []
  for (const benchCase of cases) {
    progress(`${benchCase.name} …`)
    results.push(await runCase(benchCase, rounds))
  }
  progress('')
  const machine = { cpu: cpus()[0]?.model ?? arch(), kernel: release(), node: process.version, rounds }
  if (json) process.stdout.write(`${JSON.stringify({ schemaVersion: 1, machine, results }, null, 2)}\n`)
  else {
    process.stdout.write(`${table(results)}\n`)
    process.stdout.write(
      `medians of ${rounds} rounds, native and engine in turn; ${machine.cpu}, Linux ${machine.kernel}, Node ${machine.node}\n`,
    )
  }
  return results.some(({ ok }) => ok === false) ? 1 : 0
}

try {
  process.exitCode = await main()
} catch (error) {
  if (!(error instanceof UsageError)) throw error
  process.stderr.write(`bench: ${error.message}\n`)
  process.exitCode = 2
}
