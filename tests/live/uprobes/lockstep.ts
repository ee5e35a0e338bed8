/** The same steps on the running kernel and on the engine, and what both see after each. */
import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { EIO } from '../../../src/base/errno.ts'
import type { ReleaseName } from '../../../src/base/release.ts'
import type { Process, Protection } from '../../../src/task/process.ts'
import { SyscallError } from '../../../src/task/syscall-error.ts'
import { type Built, build } from '../../../scripts/cc.ts'
import { P, UprobeRig } from '../../task/uprobe-rig.ts'

const BASE = 0x10000000
const PAGES = 32
/** the bytes of a page that are looked at, besides a counter at 16 */
export const ONE = 0x65
export const OTHER = 0x69
/** where the file has its counter */
export const COUNTER = 3 * P + 16
const MREMAP_MAYMOVE_FIXED = 3

/** Pages are counted from the start of the region, offsets are bytes into the file. */
export type Step =
  | readonly ['map', page: number, pages: number, first: number, prot: number, shared: number]
  | readonly ['unmap' | 'lock' | 'unlock', page: number, pages: number]
  | readonly ['protect', page: number, pages: number, prot: number]
  | readonly ['advise', page: number, pages: number, advice: number]
  | readonly ['remap', page: number, pages: number, newPages: number, to: number]
  | readonly ['poke', page: number, offset: number, byte: number]
  | readonly ['write', offset: number, byte: number]
  | readonly ['event', name: string, offset: number, counter: number]
  | readonly ['on' | 'off' | 'delete', name: string]
  | readonly ['fork' | 'reap']

export function buildAgent(): Built {
  const sources = [path.join(import.meta.dirname, 'agent.c')]
  return build({ name: 'uprobe-agent', sources, flags: ['-std=gnu11', '-O1', '-Wall', '-Wextra', '-Werror'] })
}

/** The program on the running kernel. */
export class KernelSide {
  readonly #child: ChildProcessWithoutNullStreams
  readonly #lines: AsyncIterator<string>
  readonly #directory: string
  readonly #executable: string
  /** why there are no uprobes here, null when there are */
  readonly skip: string | null

  private constructor(
    executable: string,
    directory: string,
    child: ChildProcessWithoutNullStreams,
    lines: AsyncIterator<string>,
    first: string,
  ) {
    this.#executable = executable
    this.#directory = directory
    this.#child = child
    this.#lines = lines
    this.skip = first === 'ready' ? null : first.replace(/^skip /, '')
  }

  static async start(executable: string): Promise<KernelSide> {
    const directory = mkdtempSync(path.join(tmpdir(), 'pinscope-uprobes-'))
    const child = spawn(executable, [directory], {
      stdio: ['pipe', 'pipe', 'inherit'],
    }) as never as ChildProcessWithoutNullStreams
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
    const { value = 'skip the program ended early' } = await lines.next()
    return new KernelSide(executable, directory, child, lines, value as string)
  }

  /** What the step came to and what is seen after it. */
  async step(step: Step): Promise<string> {
    this.#child.stdin.write(`${step.join(' ')}\n`)
    const { value, done } = await this.#lines.next()
    if (done === true) throw new Error(`the program ended at ${step.join(' ')}`)
    return value
  }

  /** Ends the program, which takes its events along; if it was killed, another one does. */
  async stop(): Promise<void> {
    const ended =
      this.#child.exitCode === null && this.#child.signalCode === null ? once(this.#child, 'close') : null
    this.#child.stdin.end()
    await ended
    spawnSync(this.#executable, ['--clean', this.#directory])
    rmSync(this.#directory, { recursive: true, force: true })
  }
}

const protections: readonly Protection[] = ['', 'r', 'w', 'rw', 'x', 'rx', 'wx', 'rwx']

/** The same program on the engine. */
export class EngineSide {
  readonly rig: UprobeRig
  #child: Process | null = null

  constructor(release: ReleaseName) {
    this.rig = new UprobeRig(release)
  }

  /** What the step comes to and what is seen after it, in the words of the agent. */
  step(step: Step): string {
    const seen = [String(this.act(step)), ...this.#see(this.rig.app)]
    if (this.#child !== null) seen.push('|', ...this.#see(this.#child))
    return seen.join(' ')
  }

  /** @returns 0 or an errno */
  act(step: Step): number {
    try {
      this.#do(step)
      return 0
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error
      return error.errno
    }
  }

  #do(step: Step): void {
    const { app, tool } = this.rig
    switch (step[0]) {
      case 'map': {
        const [, page, pages, first, prot, shared] = step
        this.rig.map(pages, { at: at(page), first, prot: protections[prot]!, shared: shared !== 0 })
        return
      }
      case 'unmap':
        return app.munmap(at(step[1]), step[2] * P)
      case 'lock':
        return app.mlock(at(step[1]), step[2] * P)
      case 'unlock':
        return app.munlock(at(step[1]), step[2] * P)
      case 'protect':
        return app.mprotect(at(step[1]), step[2] * P, protections[step[3]]!)
      case 'advise':
        return app.madvise(at(step[1]), step[2] * P, step[3])
      case 'remap': {
        const [, page, pages, newPages, to] = step
        app.mremap(at(page), pages * P, newPages * P, to < 0 ? 0 : MREMAP_MAYMOVE_FIXED, at(to))
        return
      }
      case 'poke':
        return this.#poke(at(step[1]) + step[2], step[3])
      case 'write':
        return void app.write(this.rig.fd, new Uint8Array([step[2]]), step[1])
      case 'event': {
        const [, name, offset, counter] = step
        const place = `/bin/app:0x${offset.toString(16)}${counter === 0 ? '' : `(0x${counter.toString(16)})`}`
        return tool.uprobes.write(`p:live/${name} ${place}`)
      }
      case 'on':
      case 'off':
        return tool.uprobes.enable('live', step[1], step[0] === 'on')
      case 'delete':
        return tool.uprobes.write(`-:live/${step[1]}`)
      case 'fork':
        this.#child = app.fork()
        return
      case 'reap':
        this.#child?.exit()
        this.#child = null
    }
  }

  #poke(address: number, byte: number): void {
    try {
      this.rig.poke(address, [byte])
    } catch {
      throw new SyscallError('write', EIO, null)
    }
  }

  #see(app: Process): string[] {
    return Array.from({ length: PAGES }, (_, i) => {
      const address = at(i)
      try {
        const bytes = this.rig.bytes(address, OTHER + 1, app)
        const [one, other, high, low] = [ONE, OTHER, 17, 16].map((offset) =>
          bytes[offset]!.toString(16).padStart(2, '0'),
        )
        return `${one},${other},${high}${low},${this.rig.isAnon(address, app) ? 'a' : 'f'}`
      } catch {
        return '-'
      }
    })
  }
}

function at(page: number): number {
  return BASE + page * P
}

/** The first step after which the two differ, in words; null when none does. */
export async function firstDifference(
  kernel: KernelSide,
  engine: EngineSide,
  steps: readonly Step[],
): Promise<string | null> {
  for (const [i, step] of steps.entries()) {
    const expected = engine.step(step)
    const seen = await kernel.step(step)
    if (seen === expected) continue
    const [theirs, ours] = [seen.split(' '), expected.split(' ')]
    const where = theirs.findIndex((word, n) => word !== ours[n])
    const page = (where - 1) % (PAGES + 1)
    const what = where === 0 ? 'errno' : `page ${page}${where > PAGES ? ' of the child' : ''}`
    const before = steps.slice(0, i + 1).map((done) => done.join(' '))
    return `${before.join('; ')}: ${what}: the kernel ${theirs[where]}, the engine ${ours[where]}`
  }
  return null
}

/**
 * Steps made up from a seed: mappings of all kinds that come, change and go, and breakpoints in them. Nothing is
 * locked: what was lies in lists of the kernel for a while, whose references decide R-UPR-14.
 */
function randomSteps(seed: number, length: number): Step[] {
  let state = seed * 2654435761 + 1
  const below = (n: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * n)
  }
  const pick = <T>(items: readonly T[]): T => items[below(items.length)]!
  const steps: Step[] = [
    ['event', 'a', P + ONE, COUNTER],
    ['event', 'b', P + OTHER, below(2) * COUNTER],
    ['event', 'c', 2 * P + ONE, 0],
    ['map', 0, 4, 0, 5, 0],
  ]
  let hasChild = false
  const kinds: readonly (() => Step)[] = [
    () => ['map', below(12), 1 + below(4), below(3), pick([5, 5, 1, 7, 3]), below(5) === 0 ? 1 : 0],
    () => ['unmap', below(12), 1 + below(3)],
    () => ['protect', below(12), 1 + below(3), pick([5, 5, 1, 7, 0])],
    () => ['advise', below(12), 1 + below(3), pick([4, 16, 17])],
    () => ['map', 12 + below(3), 1, 3, pick([3, 3, 1]), below(6) === 0 ? 1 : 0],
    () => (below(2) === 0 ? ['unmap', 12 + below(3), 1] : ['advise', 12 + below(3), 1, 4]),
    () => ['remap', below(12), 1 + below(3), 1 + below(4), pick([-1, -1, 16 + below(8), below(12)])],
    () => ['poke', below(6), pick([ONE, OTHER, 100]), pick([0x91, 0xcc, 0x90])],
    () => [pick(['on', 'on', 'off'] as const), pick(['a', 'b', 'c'])],
    () => [pick(['on', 'off', 'off'] as const), pick(['a', 'b', 'c'])],
    () => {
      hasChild = !hasChild
      return [hasChild ? 'fork' : 'reap']
    },
  ]
  while (steps.length < length) steps.push(pick(kinds)())
  return [...steps, ['off', 'a'], ['off', 'b'], ['off', 'c']]
}

/**
 * Random programs with numbers from 1 on, as many as are asked for. A program that makes a uprobe leak is left out: what
 * leaks stays in the kernel until it is booted again.
 */
export function randomPrograms(release: ReleaseName, count: number, length: number): [string, Step[]][] {
  const programs: [string, Step[]][] = []
  for (let seed = 1; programs.length < count; seed++) {
    const steps = randomSteps(seed, length)
    const engine = new EngineSide(release)
    for (const step of steps) engine.act(step)
    if (!engine.rig.log.some((line) => line.includes('decrement failed')))
      programs.push([`random program ${seed}`, steps])
  }
  return programs
}
