/**
 * Builds the small C programs that run beside the engine: the oracle agent, and what tests and benchmarks use.
 *
 * The result lies in `build/native/` of the package (in the user's cache directory where the package cannot be
 * written) under a name that carries a hash of everything that went into it, so an unchanged program is built
 * once.
 */
import { spawnSync, type SpawnSyncReturns } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, renameSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { cacheDirectory } from './cache-directory.ts'
import { HostError } from './host-error.ts'

/** A program ready to run, or the reason why there is none on this machine. */
export type Built = { path: string } | { skip: string }

export interface Program {
  /** Name of the executable. */
  name: string
  /** C files, absolute or relative to the project's root. */
  sources: string[]
  /** Headers the sources include, for the hash. */
  headers?: string[]
  /** Compiler flags; default `-std=gnu11 -O2 -Wall`. */
  flags?: string[]
}

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..', '..')
let compiler: { command: string; version: string } | null | undefined

/** The C compiler to use: `$CC`, else the first of cc, gcc and clang that answers. */
export function findCompiler(): { command: string; version: string } | null {
  if (compiler !== undefined) return compiler
  compiler = null
  for (const command of [process.env['CC'], 'cc', 'gcc', 'clang']) {
    if (!command) continue
    const asked = spawnSync(command, ['--version'], { encoding: 'utf8' })
    if (asked.status !== 0) continue
    compiler = { command, version: asked.stdout.split('\n', 1)[0] ?? '' }
    break
  }
  return compiler
}

/**
 * Compiles a program, or finds it compiled already.
 *
 * @returns `{ skip: 'no C compiler' }` without a compiler and `{ skip: 'not Linux' }` elsewhere.
 * @throws HostError with the compiler's complaint when the program does not compile, or there is no directory to
 * write to.
 */
export function build(program: Program): Built {
  if (process.platform !== 'linux') return { skip: 'not Linux' }
  const cc = findCompiler()
  if (!cc) return { skip: 'no C compiler' }
  const flags = program.flags ?? ['-std=gnu11', '-O2', '-Wall']
  const sources = program.sources.map((file) => path.resolve(root, file))
  const hash = createHash('sha256').update([cc.command, cc.version, process.arch, ...flags].join('\0'))
  for (const file of [...sources, ...(program.headers ?? []).map((name) => path.resolve(root, name))])
    hash.update(`\0${path.basename(file)}\0`).update(readFileSync(file))
  const directory = cacheDirectory('native')
  const target = path.join(directory, `${program.name}-${hash.digest('hex').slice(0, 16)}`)
  if (existsSync(target)) return { path: target }
  // Two test files may build at once: each writes its own file, and the last rename wins.
  const fresh = `${target}.${process.pid}`
  const run = spawnSync(cc.command, [...flags, '-o', fresh, ...sources], { encoding: 'utf8' })
  if (run.status !== 0)
    throw new HostError('unsupported', `${cc.command} could not compile ${program.name}: ${complaint(run)}`)
  renameSync(fresh, target)
  return { path: target }
}

/** The compiler's first error in one line. */
function complaint({ stderr, status, error }: SpawnSyncReturns<string>): string {
  const lines = (stderr ?? '').split('\n').filter((line) => line.trim() !== '')
  return lines.find((line) => /\berror\b/.test(line)) ?? lines[0] ?? error?.message ?? `exit status ${status}`
}
