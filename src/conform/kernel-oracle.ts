import { constants } from 'node:os'
import { PAGE_SIZE } from '../base/units.ts'
import type { ReleaseName } from '../base/release.ts'
import { HostError } from '../host/host-error.ts'
import type { OracleHello, OracleReply } from '../host/oracle-reply.ts'
import { capabilitiesOf } from '../mm/capability.ts'
import type { EngineSetup } from './engine-driver.ts'
import { AgentDied, MACHINE_TAKEN, type AgentPort } from './kernel-driver.ts'
import type { Oracle, OracleSource } from './sides.ts'
import { isThemeName, themeOf, type Theme, type ThemeName } from './themes.ts'

/** far more than a program uses, so that swap is never half full */
const SWAP_BYTES = 64 * 1024 * 1024

/** One kernel, as something programs can be run on. */
export interface KernelOracle extends OracleSource {
  readonly hello: OracleHello
  /** the engine's release that it is compared with */
  readonly release: ReleaseName
  /** Ends the agents and puts the settings of the machine back. */
  stop(): Promise<void>
}

/** An agent, on this machine or in a guest. */
export interface RunningAgent {
  readonly hello: OracleHello
  readonly alive: boolean
  /** how a guest ended */
  readonly death?: { readonly message: string } | null
  send(lines: readonly string[]): Promise<OracleReply[]>
  stop(): Promise<void>
}

/** What kind of kernel there is and how an agent is started on it. */
export interface AgentSource {
  readonly release: ReleaseName
  start(theme: Theme): Promise<RunningAgent>
}

/**
 * Starts the agent of the theme `basic`; others with larger arenas follow when a theme needs them.
 * @throws HostError when the agent does not start
 */
export async function openOracle(source: AgentSource): Promise<KernelOracle> {
  const running: Restarting[] = []
  const start = async (theme: Theme): Promise<{ oracle: Oracle; hello: OracleHello }> => {
    const agent = await source.start(theme)
    const port = new Restarting(agent, () => source.start(theme))
    running.push(port)
    // what the pool has is only true while no other program uses it
    const [locked, again, everything] = await port.send(['lock', 'hello', 'maps all', 'unlock'])
    if (locked!.e !== 0) throw new HostError('unsupported', MACHINE_TAKEN)
    const hello = again as unknown as OracleHello
    const oracle = {
      agent: port,
      setup: setupOf(source.release, hello, everything!),
      framesVisible: hello.pfn,
    }
    return { oracle, hello }
  }
  const stop = async (): Promise<void> => {
    await Promise.all(running.map((port) => port.stop()))
  }
  try {
    const basic = themeOf('basic')
    const { oracle, hello } = await start(basic)
    const oracles = new Map([[kindOf(basic), Promise.resolve(oracle)]])
    const of = (name: string): Promise<Oracle> => {
      const theme = isThemeName(name) ? themeOf(name) : basic
      const kind = kindOf(theme)
      let found = oracles.get(kind)
      if (found === undefined) oracles.set(kind, (found = start(theme).then((started) => started.oracle)))
      return found
    }
    return { hello, release: source.release, of, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

/** 2 MiB pages the pool must have for the most demanding of some themes. */
export function hugePagesFor(names: readonly ThemeName[]): number {
  return Math.max(0, ...names.map((name) => themeOf(name).hugePages ?? 0))
}

/** Bytes of swap when one of some themes needs it. */
export function swapFor(names: readonly ThemeName[]): number {
  return names.some((name) => themeOf(name).swap === true) ? SWAP_BYTES : 0
}

/** Themes of one kind share an agent. */
function kindOf({ arenaPages, thp, hugePages }: Theme): string {
  return `${arenaPages} ${thp ?? false} ${hugePages ?? 0}`
}

function setupOf(release: ReleaseName, hello: OracleHello, { all }: OracleReply): EngineSetup {
  // the kernel's own pages in the process cannot be locked
  const lockable = (all ?? []).filter(([, , , name]) => !/^\[v(var|dso|syscall)/.test(name))
  // @rule R-AS-141
  const data = lockable.filter(
    ([, , perms, name]) => perms[1] === 'w' && perms[3] === 'p' && name !== '[stack]',
  )
  const capabilities = capabilitiesOf(hello.capEff)
  return {
    release,
    arena: { start: hello.arena, pages: hello.pages },
    uid: hello.uid,
    capabilities,
    memlock: hello.memlock < 0 ? Infinity : hello.memlock,
    own: bytesOf(lockable) / 1024,
    ownData: bytesOf(data),
    dataSegment: hello.data,
    othersLocked: hello.locked,
    thp: 'madvise',
    thpDisabled: !hello.thp,
    names: hello.names,
    pool: hello.pool === undefined ? null : { free: hello.pool[0], reserved: hello.pool[1] },
    ksmShown: hello.ksmShown,
    swapSlots: hello.swap === 1 ? SWAP_BYTES / PAGE_SIZE - 1 : 0,
    memoryFailure: hello.memoryFailure,
    userfaultfdForAll: hello.uffdKernel && !capabilities.has('CAP_SYS_PTRACE'),
  }
}

function bytesOf(mappings: NonNullable<OracleReply['all']>): number {
  return mappings.reduce((sum, [start, end]) => sum + end - start, 0)
}

/** Themes that cannot be run with what the oracle has, each with the reason. */
export function themesOff(hello: OracleHello, names: readonly ThemeName[]): Map<ThemeName, string> {
  const off = new Map<ThemeName, string>()
  for (const name of names) {
    const { weights, hugePages = 0, swap, ksm } = themeOf(name)
    if ((weights.ring ?? weights.ringDisabled) !== undefined && !hello.uring)
      off.set(name, 'io_uring is not available')
    else if (weights.uffd !== undefined && !hello.uffd) off.set(name, 'userfaultfd is not available')
    else if ((weights.xskSocket ?? weights.xskSocketOf) !== undefined && !hello.xdp)
      off.set(name, 'AF_XDP is not available')
    else if (weights.disk !== undefined && hello.disk === null) off.set(name, 'there is no disk directory')
    else if (hugePages > hello.hugetlbFree)
      off.set(name, `the hugetlb pool has fewer than ${hugePages} free pages`)
    else if (swap === true && hello.swap === 0) off.set(name, 'there is no swap')
    else if (weights.heap !== undefined && !hello.heap) off.set(name, 'the heap cannot be moved')
    else if (ksm === true && !hello.ksm) off.set(name, 'KSM cannot be started')
    else if ((weights.ipcLock ?? weights.capability) !== undefined && hello.uid !== 0)
      off.set(name, 'capabilities cannot be changed')
  }
  return off
}

/** Starts the agent anew when a program has ended it. */
class Restarting implements AgentPort {
  #agent: Promise<RunningAgent>
  readonly #start: () => Promise<RunningAgent>

  constructor(agent: RunningAgent, start: () => Promise<RunningAgent>) {
    this.#agent = Promise.resolve(agent)
    this.#start = start
  }

  /** @throws AgentDied, HostError when no other agent can be started */
  async send(lines: readonly string[]): Promise<OracleReply[]> {
    for (;;) {
      const agent = await this.#living()
      const replies = await agent.send(lines)
      // an earlier program has ended it: this one was not begun
      if (replies[0]?.e === 'NOT RUN') continue
      if (!endedIn(agent, replies)) return replies
      const line = lines[replies.findLastIndex(({ e }) => e !== 'NOT RUN')]
      throw new AgentDied(agent.death?.message ?? endOf(replies, line!))
    }
  }

  async stop(): Promise<void> {
    const agent = await this.#agent.catch(() => null)
    await agent?.stop()
  }

  /** Several programs may ask at once: one of them starts the new agent, the others wait for it. */
  async #living(): Promise<RunningAgent> {
    const current = this.#agent
    const agent = await current
    if (agent.alive) return agent
    if (this.#agent === current) this.#agent = agent.stop().then(this.#start)
    return this.#living()
  }
}

/** How an agent ended that has no last words, as one sentence. */
function endOf(replies: readonly OracleReply[], line: string): string {
  const { e, status = 0 } = replies.findLast((reply) => reply.e !== 'NOT RUN') ?? {}
  if (e === 'HUNG') return `the agent did not answer "${line}" and was ended`
  const signal = Object.entries(constants.signals).find(([, number]) => number === (status & 127))
  return `the agent ended in "${line}"${signal === undefined ? '' : `, by ${signal[0]}`}`
}

/** Whether the agent ended during these lines; the end of one of its children looks alike. */
function endedIn(agent: RunningAgent, replies: readonly OracleReply[]): boolean {
  const last = replies.at(-1)
  return last?.e === 'NOT RUN' || (!agent.alive && (last?.e === 'DIED' || last?.e === 'HUNG'))
}
