/**
 * Builds the small C programs that run beside the engine: the oracle agent, and what tests and benchmarks use.
 *
 * The result lies in `build/native/` of the package (in the user's cache directory where the package cannot be
 * written) under a name that carries a hash of everything that went into it, so an unchanged program is built
 * once.
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { accessSync, constants, existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs'
import { homedir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

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

function nativeDirectory(): string {
  const inside = path.join(root, 'build', 'native')
  try {
    mkdirSync(inside, { recursive: true })
    accessSync(inside, constants.W_OK)
    return inside
  } catch {
    const cache = process.env['XDG_CACHE_HOME'] ?? path.join(homedir(), '.cache')
    const outside = path.join(cache, 'pinscope', 'native')
    mkdirSync(outside, { recursive: true, mode: 0o700 })
    return outside
  }
}

/**
 * Compiles a program, or finds it compiled already.
 *
 * @returns `{ skip: 'no C compiler' }` without a compiler and `{ skip: 'not Linux' }` elsewhere.
 * @throws Error with the compiler's output when the program does not compile.
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
  const directory = nativeDirectory()
  const target = path.join(directory, `${program.name}-${hash.digest('hex').slice(0, 16)}`)
  if (existsSync(target)) return { path: target }
  // Two test files may build at once: each writes its own file, and the last rename wins.
  const fresh = `${target}.${process.pid}`
  const run = spawnSync(cc.command, [...flags, '-o', fresh, ...sources], { encoding: 'utf8' })
  if (run.status !== 0)
    throw new Error(`${cc.command} failed on ${program.name}:\n${run.stderr || String(run.error)}`)
  renameSync(fresh, target)
  return { path: target }
}
