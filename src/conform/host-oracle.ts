import type { Capability } from '../mm/kernel.ts'
import { OracleAgent, type OracleAgentOptions } from '../host/oracle-agent.ts'
import type { OracleHello, OracleReply } from '../host/oracle-reply.ts'
import { OracleSettings } from '../host/oracle-settings.ts'
import type { EngineSetup } from './engine-driver.ts'
import type { Oracle, OracleSource } from './run.ts'
import { isThemeName, themeOf, type Theme, type ThemeName } from './themes.ts'

const SHOW_EVERYTHING = 'obs 5'

/** bit of CapEff → the capability, where the engine asks for it */
const capabilityBits: readonly (readonly [bit: number, name: Capability])[] = [
  [14, 'CAP_IPC_LOCK'],
  [17, 'CAP_SYS_RAWIO'],
  [21, 'CAP_SYS_ADMIN'],
  [23, 'CAP_SYS_NICE'],
  [24, 'CAP_SYS_RESOURCE'],
]

/** This machine's kernel, as something programs can be run on. */
export interface HostOracle extends OracleSource {
  readonly hello: OracleHello
  /** Ends the agents and puts the settings of the machine back. */
  stop(): Promise<void>
}

/**
 * Starts an oracle agent on this machine; others with larger arenas follow when a theme needs them.
 * @param themes which programs will be run
 * @throws HostError when there is no compiler, or the agent does not start
 */
export async function startHostOracle(themes: readonly ThemeName[]): Promise<HostOracle> {
  const hugePages = Math.max(0, ...themes.map((name) => themeOf(name).hugePages ?? 0))
  const thp = themes.some((name) => themeOf(name).thp === true)
  const settings = OracleSettings.apply({
    ...(hugePages > 0 ? { hugepages: hugePages } : {}),
    ...(thp ? { thp: 'madvise' } : {}),
  })
  const running: Restarting[] = []
  const oracles = new Map<string, Oracle>()
  const start = async (theme: Theme): Promise<{ oracle: Oracle; hello: OracleHello }> => {
    const options: OracleAgentOptions = { settings, pages: theme.arenaPages, thp: theme.thp === true }
    const agent = await OracleAgent.start(options)
    const port = new Restarting(agent, options)
    running.push(port)
    const [everything] = await port.send(['maps all', SHOW_EVERYTHING])
    return {
      oracle: {
        agent: port,
        setup: setupOf(agent.hello, everything!, theme),
        framesVisible: agent.hello.pfn,
      },
      hello: agent.hello,
    }
  }
  const stop = async (): Promise<void> => {
    await Promise.all(running.map((port) => port.stop()))
    await settings.restore()
  }
  try {
    const { oracle, hello } = await start(themeOf('basic'))
    oracles.set(kindOf(themeOf('basic')), oracle)
    return {
      hello,
      stop,
      async of(name) {
        const theme = isThemeName(name) ? themeOf(name) : themeOf('basic')
        const kind = kindOf(theme)
        let found = oracles.get(kind)
        if (found === undefined) oracles.set(kind, (found = (await start(theme)).oracle))
        return found
      },
    }
  } catch (error) {
    await stop()
    throw error
  }
}

/** Themes of one kind share an agent. */
function kindOf({ arenaPages, thp, hugePages }: Theme): string {
  return `${arenaPages} ${thp ?? false} ${hugePages ?? 0}`
}

function setupOf(hello: OracleHello, { all }: OracleReply, theme: Theme): EngineSetup {
  // the kernel's own pages in the process cannot be locked
  const lockable = (all ?? []).filter(([, , , name]) => !/^\[v(var|dso|syscall)/.test(name))
  const effective = BigInt(`0x${hello.capEff}`)
  return {
    release: '6.18',
    arena: { start: hello.arena, pages: hello.pages },
    uid: hello.uid,
    capabilities: new Set(
      capabilityBits.filter(([bit]) => ((effective >> BigInt(bit)) & 1n) === 1n).map(([, name]) => name),
    ),
    memlock: hello.memlock < 0 ? Infinity : hello.memlock,
    own: lockable.reduce((sum, [start, end]) => sum + (end - start) / 1024, 0),
    thp: 'madvise',
    thpDisabled: !hello.thp,
    hugePages: theme.hugePages === undefined ? 0 : hello.hugetlbFree,
  }
}

/** Themes that cannot be run with what the oracle has, each with the reason. */
export function themesOff(hello: OracleHello, names: readonly ThemeName[]): Map<ThemeName, string> {
  const off = new Map<ThemeName, string>()
  for (const name of names) {
    const { weights, hugePages = 0 } = themeOf(name)
    if (weights.ring !== undefined && !hello.uring) off.set(name, 'io_uring is not available')
    else if (weights.disk !== undefined && hello.disk === null) off.set(name, 'there is no disk directory')
    else if (hugePages > hello.hugetlbFree)
      off.set(name, `the hugetlb pool has fewer than ${hugePages} free pages`)
    else if (weights.ipcLock !== undefined && hello.uid !== 0) off.set(name, 'capabilities cannot be changed')
  }
  return off
}

/** Starts the agent anew when a program has ended it. */
class Restarting {
  #agent: OracleAgent
  readonly #options: OracleAgentOptions

  constructor(agent: OracleAgent, options: OracleAgentOptions) {
    this.#agent = agent
    this.#options = options
  }

  async send(lines: readonly string[]): Promise<OracleReply[]> {
    if (!this.#agent.alive) {
      await this.#agent.stop()
      this.#agent = await OracleAgent.start(this.#options)
      await this.#agent.send([SHOW_EVERYTHING])
    }
    return this.#agent.send(lines)
  }

  stop(): Promise<void> {
    return this.#agent.stop()
  }
}
