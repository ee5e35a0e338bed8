import { PAGE_SIZE } from '../base/units.ts'
import { MREMAP_DONTUNMAP } from '../mm/mman.ts'
import type { OracleMapping, OraclePage, OracleReply, OracleVma } from '../host/oracle-reply.ts'
import { AgentScript, type StepLines } from './agent-lines.ts'
import {
  PAGE_FLAG_BITS,
  type Driver,
  type MappingView,
  type Observation,
  type Outcome,
  type PageView,
  type ProcessView,
} from './observation.ts'
import type { Program } from './program.ts'
import { stepKind, type Step } from './steps.ts'

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

  /** @throws AgentTrouble, AgentDied */
  async run({ steps }: Program): Promise<readonly Observation[]> {
    const script = new AgentScript(this.#releasesLate)
    const plan = steps.map((step) => script.lines(step))
    const lines = ['reset', ...plan.flatMap((part) => part.lines)]
    // locked_vm may have leaked (R-AS-73); only a new address space has none
    if (steps.some((step) => step.op === 'mremap' && (step.flags & MREMAP_DONTUNMAP) !== 0))
      lines.push('exec')
    const replies = await this.#agent.send(lines)
    if (replies[0]?.e !== 0) throw new AgentTrouble(`reset failed: ${JSON.stringify(replies[0])}`)
    let next = 1
    return plan.map((part, i) => {
      const own = replies.slice(next, next + part.lines.length)
      next += part.lines.length
      return this.#observation(steps[i]!, part, own)
    })
  }

  #observation(step: Step, part: StepLines, replies: readonly OracleReply[]): Observation {
    const outcome = this.#outcome(step, replies[part.result]!)
    const total = (field: 'acq' | 'rel'): number | null => {
      // commands that change nothing are not observed
      const values = replies.filter(({ maps }) => maps !== undefined).map((reply) => reply[field])
      return values.some((v) => typeof v !== 'number')
        ? null
        : (values as number[]).reduce((a, b) => a + b, 0)
    }
    const summed = part.sum < 0 ? null : replies[part.sum]!
    const pool = replies.findLast((reply) => reply.pool !== undefined)?.pool
    return {
      outcome,
      sum: summed !== null && summed.e === 0 ? Number(summed.v ?? summed.r) : null,
      acquired: total('acq'),
      released: total('rel'),
      pool: pool === undefined ? null : { free: pool[0], reserved: pool[1] },
      processes: part.views
        // a process that could not be forked is not there
        .filter(([, line]) => replies[line]!.e !== 'USAGE')
        .map(([process, line]) => this.#view(process, replies[line]!)),
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
    const at = r - this.#arenaStart
    const inside = at >= 0 && at < this.#arenaPages * PAGE_SIZE
    return inside ? { kind: 'value', value: at } : { kind: 'outside' }
  }

  #view(process: number, reply: OracleReply): ProcessView {
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
      swap: Number(reply.swap),
      rings,
    }
  }

  /** Without privilege what stands where the frame number would be is hidden, markers included. */
  #page(page: OraclePage): PageView {
    const view = pageView(page)
    return this.#framesVisible ? view : { ...view, id: null }
  }

  #slot(text: string): string {
    const [base, length] = text.split('/')
    return length === undefined ? text : `${Number.parseInt(base!, 16) - this.#arenaStart}/${length}`
  }
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

function pageView([page, bits, id, flags, count]: OraclePage): PageView {
  const present = (bits & 256) !== 0
  return {
    page,
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

function flagNames(word: number): string {
  return PAGE_FLAG_BITS.filter(([bit]) => Math.floor(word / 2 ** bit) % 2 === 1)
    .map(([, name]) => name)
    .join(' ')
}
