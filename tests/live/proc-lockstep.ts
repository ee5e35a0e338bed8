/**
 * Runs a program on the running kernel and on the engine, step by step, and compares the files of /proc about the
 * memory of its processes.
 */
import { closeSync, openSync, readFileSync, readSync, readdirSync } from 'node:fs'
import { AgentScript } from '../../src/conform/agent-lines.ts'
import { EngineRun } from '../../src/conform/engine-driver.ts'
import type { EngineProcess } from '../../src/conform/engine-process.ts'
import { MACHINE_TAKEN } from '../../src/conform/kernel-driver.ts'
import { isMachineWide, type Program } from '../../src/conform/program.ts'
import type { Oracle } from '../../src/conform/sides.ts'
import { BufferIter } from '../../src/mm/iov-iter.ts'
import type { Kernel } from '../../src/mm/kernel.ts'
import { storeUser } from '../../src/mm/user-access.ts'
import { VM_WRITE } from '../../src/mm/vm-flags.ts'
import { procOpen, type ProcFileName } from '../../src/task/proc-calls.ts'
import { type ProcFile, procTransfer } from '../../src/task/proc-file.ts'
import { ProcKpagecount, ProcKpageflags } from '../../src/task/proc/kpage-files.ts'
import { mapFilesList } from '../../src/task/proc/map-files.ts'

const PAGE = 4096

/** One place where the kernel's file and the engine's say different things. */
export interface TextDifference {
  readonly step: number
  readonly process: number
  readonly file: string
  readonly kernel: string
  readonly engine: string
}

/** What the counters of the first process have gained since the start is compared. */
const GAINED_INSIDE = ['VmLck', 'VmPin', 'VmStk', 'VmSwap', 'HugetlbPages']
const GAINED = [...GAINED_INSIDE, 'VmSize', 'VmData', 'VmLib']

/**
 * Runs a program on both sides.
 * @returns what differs after the first step after which something does; empty: nothing
 */
export async function compareTexts(
  { agent, setup }: Oracle,
  program: Program,
): Promise<readonly TextDifference[]> {
  const { steps } = program
  const script = new AgentScript()
  const run = new EngineRun(setup, new Set())
  run.k.settings.protectionKeys = hasProtectionKeys()
  const wide = isMachineWide(program)
  const replies = await agent.send([...(wide ? ['lock'] : []), 'obs 5 runs nopins', 'reset', 'sys 39'])
  const start = replies.at(-1)
  if (replies[0]!.e !== 0) throw new Error(MACHINE_TAKEN)
  const pids = new Map([[0, Number(start!.r)]])
  const names = new Names()
  const differences: TextDifference[] = []
  const arena = { start: setup.arena.start, end: setup.arena.start + setup.arena.pages * PAGE }
  const first = run.processes.get(0)!
  touchOwn(first)
  const elsewhere = mappingsOutside(first, arena)
  // rings and handlers of userfaultfds have memory outside of the arena
  let outside = false
  const base = { kernel: status(pids.get(0)!), engine: engineStatus(first) }
  try {
    for (const [number, step] of steps.entries()) {
      const { lines, views } = script.lines(step)
      // the line that looks at a child begins with the way to it
      const child = step.op === 'fork' ? views.find(([process]) => process === step.child) : undefined
      const forked = child === undefined ? [] : [lines[child[1]]!.replace(/look$/, 'sys 39')]
      const replies = await agent.send([...lines, ...forked])
      run.step(step)
      if (step.op === 'fork' && replies.at(-1)!.e === 0) pids.set(step.child, Number(replies.at(-1)!.r))
      if (step.op === 'exec' && step.by === 0) base.kernel.clear()
      if (step.op === 'reap') pids.delete(step.child)
      const frames = new Frames()
      for (const [process, pid] of pids) {
        const ours = run.processes.get(process)
        if (ours === undefined) continue
        const tell = (file: string, kernel: string, engine: string): void => {
          if (kernel !== engine) differences.push({ step: number, process, file, kernel, engine })
        }
        compareProcess(ours, pid, arena, names, frames, tell)
        if (step.op === 'ring' || step.op === 'uffd') outside = true
        if (process !== 0 || base.kernel.size === 0) continue
        const keys = outside ? GAINED_INSIDE : GAINED
        // what lies elsewhere has neighbours there that the engine's has not
        const alone = !outside && mappingsOutside(ours, arena) === elsewhere
        const [theirs, mine] = [status(pid), engineStatus(ours)]
        for (const key of alone ? [...keys, 'VmPTE'] : keys) {
          const gained = theirs.get(key)! - base.kernel.get(key)!
          tell(`status ${key}`, String(gained), String(mine.get(key)! - base.engine.get(key)!))
        }
      }
      if (differences.length > 0) return differences
    }
  } finally {
    await agent.send(['reset', 'exec', ...(wide ? ['reset', 'unlock'] : [])])
    for (const finding of run.end())
      differences.push({ step: steps.length - 1, process: 0, file: 'audit', kernel: '', engine: finding })
  }
  return differences
}

/** The other side uses all of its own memory, too: no page table will come for it. */
function touchOwn(process: EngineProcess): void {
  const guard = process.space.mmapLock.tryRead()!
  const places: number[] = []
  for (let vma = guard.vmas.first; vma !== null; vma = vma.next)
    if ((vma.flags & VM_WRITE) !== 0) places.push(vma.start)
  guard.release()
  for (const place of places) process.run(storeUser(process.kernel, process.space, place, new Uint8Array(1)))
}

function mappingsOutside(process: EngineProcess, arena: Range): number {
  const guard = process.space.mmapLock.tryRead()!
  let count = 0
  for (let vma = guard.vmas.first; vma !== null; vma = vma.next)
    if (vma.start >= arena.end || vma.end <= arena.start) count++
  guard.release()
  return count
}

function hasProtectionKeys(): boolean {
  return /\bospke\b/.test(readFileSync('/proc/cpuinfo', 'utf8'))
}

interface Range {
  readonly start: number
  readonly end: number
}

type TellText = (file: string, kernel: string, engine: string) => void

function compareProcess(
  ours: EngineProcess,
  pid: number,
  arena: Range,
  names: Names,
  frames: Frames,
  tell: TellText,
): void {
  for (const name of ['maps', 'smaps'] as const) {
    const theirs = records(readFileSync(`/proc/${pid}/${name}`, 'latin1'), arena)
    const mine = records(engineText(ours, name), arena)
    for (let i = 0; i < Math.max(theirs.length, mine.length); i++) {
      const [k, e] = [theirs[i] ?? [], mine[i] ?? []]
      for (let at = 0; at < Math.max(k.length, e.length); at++) {
        const key = at === 0 ? 'line' : (k[at] ?? e[at] ?? '').replace(/:.*/, '')
        const line = (text: string | undefined, side: 'kernel' | 'engine'): string =>
          text === undefined ? '(none)' : at === 0 ? names.normal(text, side) : text
        // pages count as used by whoever watches for idle ones, and lose it when they become active (R-AG-8)
        if (key === 'Referenced') continue
        tell(
          `${name} ${key} of ${(k[0] ?? e[0] ?? '').slice(0, 25)}`,
          line(k[at], 'kernel'),
          line(e[at], 'engine'),
        )
      }
    }
  }
  const links = readdirSync(`/proc/${pid}/map_files`).filter((name) => inside(name, arena))
  const own = ours.run(mapFilesList(ours.kernel, ours))
  if (typeof own === 'number') throw new Error('map_files cannot be listed')
  tell(
    'map_files',
    links.join(' '),
    own
      .map(({ name }) => name)
      .filter((name) => inside(name, arena))
      .join(' '),
  )
  comparePagemap(ours, pid, arena, frames, tell)
}

function inside(name: string, arena: Range): boolean {
  const [start, end] = name.split('-').map((text) => parseInt(text, 16))
  return start! < arena.end && end! > arena.start
}

/** The records of the mappings in the arena, as lines. */
function records(text: string, arena: Range): string[][] {
  const found: string[][] = []
  let current: string[] | null = null
  for (const line of text.split('\n').slice(0, -1)) {
    if (/^[0-9a-f]+-/.test(line)) {
      current = inside(line.slice(0, line.indexOf(' ')), arena) ? [] : null
      if (current !== null) found.push(current)
    }
    current?.push(line)
  }
  return found
}

/** Inode numbers and directories differ; which mappings show the same file does not. */
class Names {
  readonly #ids = { kernel: new Map<string, number>(), engine: new Map<string, number>() }

  normal(line: string, side: 'kernel' | 'engine'): string {
    const match = /^(\S+ \S+ \S+) (\S+ \d+) +(.*)$/.exec(`${line} `)
    if (match === null || match[2] === '00:00 0') return line
    const ids = this.#ids[side]
    const key = match[2]!
    if (!ids.has(key)) ids.set(key, ids.size + 1)
    const name = match[3]!.replace(/^(\/\S*\/pinscope-\w+|disk)\//, '').trim()
    return `${match[1]} file ${ids.get(key)} ${name}`
  }
}

/** Which frame of the kernel is which of the engine. */
class Frames {
  readonly #theirs = new Map<number, number>()
  readonly #ours = new Map<number, number>()

  same(kernel: number, engine: number): boolean {
    const [k, e] = [this.#theirs.get(kernel) ?? engine, this.#ours.get(engine) ?? kernel]
    this.#theirs.set(kernel, engine)
    this.#ours.set(engine, kernel)
    return k === engine && e === kernel
  }
}

/** Bits of kpageflags that are compared (R-AG-8): none that others on the machine change. */
const KPF_LOWER = [3, 10, 11, 12, 14, 15, 16, 17, 21, 22, 24].reduce((mask, bit) => mask | (1 << bit), 0)
const KPF_UPPER = 0b1001111

function comparePagemap(
  ours: EngineProcess,
  pid: number,
  arena: Range,
  frames: Frames,
  tell: TellText,
): void {
  const length = ((arena.end - arena.start) / PAGE) * 8
  const at = (arena.start / PAGE) * 8
  const theirs = halves(readAt(`/proc/${pid}/pagemap`, length, at))
  const mine = halves(engineBytes(ours, 'pagemap', length, at))
  const root = process.geteuid?.() === 0
  for (let page = 0; page < length / 8; page++) {
    const where = `of page ${page}`
    const [kl, ku] = [theirs[page * 2]!, theirs[page * 2 + 1]!]
    const [el, eu] = [mine[page * 2]!, mine[page * 2 + 1]!]
    // bits 55 and above; the frame number is compared by identity
    tell(`pagemap bits ${where}`, (ku >>> 23).toString(16), (eu >>> 23).toString(16))
    const isSwap = (ku & 0x40000000) !== 0 && kl % 32 < 20
    if (kl === 0 && el === 0) continue
    if (isSwap) continue
    if (ku >>> 31 === 1) {
      if (root && !frames.same(kl, el)) tell(`pagemap frame ${where}`, `frame ${kl}`, `another frame, ${el}`)
      if (root) comparePage(ours.kernel, kl, el, where, tell)
      else tell(`pagemap frame ${where}`, String(kl), String(el))
    } else tell(`pagemap entry ${where}`, kl.toString(16), el.toString(16))
  }
}

function comparePage(k: Kernel, theirs: number, mine: number, where: string, tell: TellText): void {
  const flags = halves(readAt('/proc/kpageflags', 8, theirs * 8))
  const count = halves(readAt('/proc/kpagecount', 8, theirs * 8))
  const own = halves(frameBytes(k, 'kpageflags', mine))
  const zero = (flags[0]! & (1 << 24)) !== 0
  tell(
    `kpageflags ${where}`,
    bits(flags[0]! & KPF_LOWER, zero ? 0 : flags[1]! & KPF_UPPER),
    bits(own[0]! & KPF_LOWER, zero ? 0 : own[1]! & KPF_UPPER),
  )
  tell(`kpagecount ${where}`, String(count[0]), String(halves(frameBytes(k, 'kpagecount', mine))[0]))
}

function bits(lower: number, upper: number): string {
  const set: number[] = []
  for (let bit = 0; bit < 32; bit++) if ((lower & (1 << bit)) !== 0) set.push(bit)
  for (let bit = 0; bit < 32; bit++) if ((upper & (1 << bit)) !== 0) set.push(bit + 32)
  return set.join(' ')
}

function halves(bytes: Uint8Array): Uint32Array {
  return new Uint32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length))
}

const open = new Map<string, number>()

function readAt(path: string, length: number, position: number): Uint8Array {
  const lasting = !path.startsWith('/proc/k') ? undefined : open.get(path)
  const fd = lasting ?? openSync(path, 'r')
  if (path.startsWith('/proc/k')) open.set(path, fd)
  const into = new Uint8Array(length)
  try {
    for (let done = 0; done < length;) {
      const got = readSync(fd, into, done, length - done, position + done)
      if (got === 0) break
      done += got
    }
  } finally {
    if (!path.startsWith('/proc/k')) closeSync(fd)
  }
  return into
}

function engineFile(process: EngineProcess, name: ProcFileName): ProcFile {
  const file = process.run(procOpen(process.kernel, process.pid, name))
  if (typeof file === 'number') throw new Error(`${name} cannot be opened: ${file}`)
  return file
}

function readEngine(process: EngineProcess, file: ProcFile, length: number, at: number): Uint8Array {
  const into = new Uint8Array(length)
  const got = process.run(procTransfer(process.kernel, file, false, new BufferIter(into), at))
  if (got < 0) throw new Error(`read: ${got}`)
  return into.subarray(0, got)
}

function engineBytes(process: EngineProcess, name: ProcFileName, length: number, at: number): Uint8Array {
  return readEngine(process, engineFile(process, name), length, at)
}

function frameBytes(k: Kernel, name: 'kpageflags' | 'kpagecount', pfn: number): Uint8Array {
  const into = new Uint8Array(8)
  const file = name === 'kpageflags' ? new ProcKpageflags() : new ProcKpagecount()
  k.run(k.current, procTransfer(k, file, false, new BufferIter(into), pfn * 8))
  return into
}

function engineText(process: EngineProcess, name: ProcFileName): string {
  const file = engineFile(process, name)
  let text = ''
  for (let at = 0; ;) {
    const piece = readEngine(process, file, 65536, at)
    if (piece.length === 0) return text
    text += Buffer.from(piece).toString('latin1')
    at += piece.length
  }
}

function numbers(text: string): Map<string, number> {
  return new Map([...text.matchAll(/^(\w+):\s+(\d+)/gm)].map(([, key, value]) => [key!, Number(value)]))
}

function status(pid: number): Map<string, number> {
  return numbers(readFileSync(`/proc/${pid}/status`, 'utf8'))
}

function engineStatus(process: EngineProcess): Map<string, number> {
  return numbers(engineText(process, 'status'))
}
