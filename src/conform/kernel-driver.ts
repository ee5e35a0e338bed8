import { PAGE_SIZE } from '../base/units.ts'
import { MREMAP_DONTUNMAP } from '../mm/mman.ts'
import type { OracleMapping, OraclePage, OracleReply, OracleVma } from '../host/oracle-reply.ts'
import { HostError } from '../host/host-error.ts'
import { AgentScript, type StepLines } from './agent-lines.ts'
import { eventText } from './engine-uffd.ts'
import {
  PAGE_FLAG_BITS,
  type Completion,
  type Driver,
  type MappingView,
  type Observation,
  type Outcome,
  type PageRun,
  type ProcessView,
} from './observation.ts'
import { isMachineWide, type Program } from './program.ts'
import { stepKind, type Step } from './steps.ts'

export const MACHINE_TAKEN = 'another run has kept the pin counters and huge pages to itself for too long'
/**
 * How often an agent asks for the machine, 40 s each time: a worker of the same run that is stuck with it is found and
 * ended after 60 s.
 */
const LOCK_TRIES = 3
const SHOW_EVERYTHING = 'obs 5 runs'
const SHOW_ALL_BUT_PINS = 'obs 5 runs nopins'

/** The connection to an oracle agent, as far as the driver needs it. */
export interface AgentPort {
  /** Sends lines and waits for as many replies. @throws AgentDied */
  send(lines: readonly string[]): Promise<readonly OracleReply[]>
}

/** The agent answered something that is no answer to a step: a bug of the agent or of the driver. */
export class AgentTrouble extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'AgentTrouble'
  }
}

/** A program ended the agent, or the whole kernel; the message is one sentence. */
export class AgentDied extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'AgentDied'
  }
}

/** Runs programs on a real kernel through the oracle agent. */
export class KernelDriver implements Driver {
  readonly #agent: AgentPort
  readonly #arenaStart: number
  readonly #arenaPages: number
  readonly #framesVisible: boolean
  readonly #releasesLate: boolean
  #busy = 0

  /**
   * @param framesVisible whether the agent may see which frames are mapped
   * @param releasesLate replaced buffers are released after up to a second (R-URING-20): wait for it
   */
  constructor(
    agent: AgentPort,
    arena: { readonly start: number; readonly pages: number },
    framesVisible = true,
    releasesLate = false,
  ) {
    this.#agent = agent
    this.#arenaStart = arena.start
    this.#arenaPages = arena.pages
    this.#framesVisible = framesVisible
    this.#releasesLate = releasesLate
  }

  /** ms the agent has worked so far, on programs and on cleaning up after them. */
  get busy(): number {
    return this.#busy
  }

  /** @throws AgentTrouble, AgentDied, HostError when the machine cannot be had */
  async run(program: Program): Promise<readonly Observation[]> {
    const { steps } = program
    const script = new AgentScript(this.#releasesLate)
    const plan = steps.map((step) => script.lines(step))
    const wide = isMachineWide(program)
    const before = wide ? ['lock', SHOW_EVERYTHING, 'reset'] : [SHOW_ALL_BUT_PINS, 'reset']
    const lines = [...before, ...plan.flatMap((part) => part.lines)]
    // locked_vm may have leaked (R-AS-73); only a new address space has none
    if (steps.some((step) => step.op === 'mremap' && (step.flags & MREMAP_DONTUNMAP) !== 0)) {
      // with its sockets open exec would wait for ever for what it has lent to one of them (R-URING-105)
      lines.push('reset', 'exec')
    }
    // what is still pinned is released before somebody else counts
    if (wide) lines.push('reset', 'unlock')
    const replies = await this.#made(lines, before.length)
    for (const { busy } of replies) this.#busy += (busy ?? 0) / 1000
    let next = before.length
    return plan.map((part, i) => {
      const own = replies.slice(next, next + part.lines.length)
      next += part.lines.length
      return this.#observation(steps[i]!, part, own)
    })
  }

  /** The replies to all lines, the first of which prepare the agent: without them the others say nothing. */
  async #made(lines: readonly string[], preparing: number): Promise<readonly OracleReply[]> {
    for (let tries = 1; ; tries++) {
      const replies = await this.#agent.send(lines)
      const failed = replies.slice(0, preparing).findIndex(({ e }) => e !== 0)
      if (failed < 0) return replies
      if (lines[failed] !== 'lock')
        throw new AgentTrouble(`${lines[failed]} failed: ${JSON.stringify(replies[failed])}`)
      if (tries === LOCK_TRIES) throw new HostError('unsupported', MACHINE_TAKEN)
    }
  }

  #observation(step: Step, part: StepLines, replies: readonly OracleReply[]): Observation {
    const outcome = this.#outcome(step, replies[part.result]!)
    const total = (field: 'acq' | 'rel'): number | null => {
      // only commands that may change something are followed by a count
      const values = replies.map((reply) => reply[field]).filter((n) => n !== undefined)
      return values.length === 0 ? null : values.reduce((a, b) => a + b, 0)
    }
    const summed = part.sum < 0 ? null : replies[part.sum]!
    const pool = replies.findLast((reply) => reply.pool !== undefined)?.pool
    return {
      outcome,
      sum: summed !== null && summed.e === 0 ? Number(summed.v ?? summed.r) : null,
      completions: completionsOf(replies),
      acquired: total('acq'),
      released: total('rel'),
      pool: pool === undefined ? null : { free: pool[0], reserved: pool[1] },
      processes: part.views
        // a process that could not be forked is not there
        .filter(([, line]) => replies[line]!.e !== 'USAGE')
        .map(([process, line]) =>
          this.#view(process, replies[line]!, eventsOf(process, step, part, replies, this.#arenaPages)),
        ),
    }
  }

  #outcome(step: Step, reply: OracleReply): Outcome {
    const { e } = reply
    const r = Number(reply.r)
    if (e === 'USAGE') return { kind: 'dangling' }
    if (e === 'SIGSEGV' || e === 'SIGBUS') {
      const code = Number(reply.code)
      const at = Number(reply.addr) - this.#arenaStart
      const done = step.op === 'fill' ? Number(reply.done) : 0
      return { kind: 'signal', signal: e, code, at, done }
    }
    if (typeof e !== 'number') throw new AgentTrouble(`${step.op}: ${JSON.stringify(reply)}`)
    if (e !== 0) return { kind: 'errno', errno: e }
    const { answer } = stepKind(step.op)
    if (answer === 'nothing') return { kind: 'value', value: 0 }
    if (answer !== 'address') return { kind: 'value', value: r }
    // a call that gives an address or a small number
    if (r >= 0 && r < 16 * PAGE_SIZE) return { kind: 'value', value: r }
    const at = r - this.#arenaStart
    const inside = at >= 0 && at < this.#arenaPages * PAGE_SIZE
    return inside ? { kind: 'value', value: at } : { kind: 'outside' }
  }

  #view(process: number, reply: OracleReply, uffd: string[]): ProcessView {
    if (!Array.isArray(reply.maps)) throw new AgentTrouble(`no observation: ${JSON.stringify(reply)}`)
    const maps = reply.maps
    const details = reply.vma ?? []
    const rings: Record<number, readonly string[] | null> = {}
    for (const [name, table] of Object.entries(reply.rings ?? {})) {
      rings[Number(name.slice(1))] = table?.map((slot) => this.#slot(slot)) ?? null
    }
    return {
      process,
      maps: maps.map((mapping, i) => mappingView(mapping, details[i]!)),
      pages: (reply.pm ?? []).map((page) => this.#page(page)),
      size: Number(reply.size),
      locked: Number(reply.lck),
      pinned: Number(reply.pin),
      // where the kernel keeps a part of its counters with each task it is not exact
      swap: reply.rss === null ? null : Number(reply.swap),
      rings,
      uffd,
    }
  }

  /** Without privilege what stands where the frame number would be is hidden, markers included. */
  #page(page: OraclePage): PageRun {
    const run = pageRun(page)
    return this.#framesVisible ? run : { ...run, id: null }
  }

  #slot(text: string): string {
    const [base, length] = text.split('/')
    return length === undefined ? text : `${Number.parseInt(base!, 16) - this.#arenaStart}/${length}`
  }
}

/** Events that a process's thread answered in any command of the step. */
function eventsOf(
  process: number,
  step: Step,
  { views }: StepLines,
  replies: readonly OracleReply[],
  arenaPages: number,
): string[] {
  const own = views.find(([other]) => other === process)?.[1]
  const others = new Set(views.filter(([other]) => other !== step.by).map(([, line]) => line))
  return replies.flatMap(({ uffd = [] }, line) => {
    const mine = process === step.by ? !others.has(line) : line === own
    return mine ? uffd.map((event) => eventText(event, arenaPages)) : []
  })
}

/** Those of all commands of the step; null when none takes any. */
function completionsOf(replies: readonly OracleReply[]): Completion[] | null {
  const all = replies.flatMap(({ cqe }) => (cqe === undefined ? [] : [cqe]))
  return all.length === 0 ? null : all.flat().map(([userData, res]) => [Number(userData), res])
}

function mappingView([first, end, perms, offset, file, name]: OracleMapping, vma: OracleVma): MappingView {
  const [flags, rss, anonymous, swap, , huge, , hugetlb] = vma
  const words = flags.split(' ').filter((word) => word !== 'sd' && word !== '')
  return {
    first,
    end,
    perms,
    offset,
    file,
    name,
    flags: words.join(' '),
    rss,
    anonymous,
    huge,
    hugetlb,
    swap,
  }
}

function pageRun([page, bits, id, flags, count, pages = 1]: OraclePage): PageRun {
  const present = (bits & 256) !== 0
  return {
    page,
    pages,
    present,
    swap: (bits & 128) !== 0,
    file: (bits & 64) !== 0,
    uffdWp: (bits & 4) !== 0,
    guard: (bits & 8) !== 0,
    once: (bits & 2) !== 0,
    id,
    flags: typeof flags === 'number' ? flagNames(flags) : present ? null : '',
    mapCount: typeof count === 'number' ? count : present ? null : 0,
  }
}

const knownFlags = new Map<number, string>()

function flagNames(word: number): string {
  let names = knownFlags.get(word)
  if (names === undefined) {
    names = PAGE_FLAG_BITS.filter(([bit]) => Math.floor(word / 2 ** bit) % 2 === 1)
      .map(([, name]) => name)
      .join(' ')
    knownFlags.set(word, names)
  }
  return names
}
