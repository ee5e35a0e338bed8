import { tmpdir } from 'node:os'
import path from 'node:path'
import { OracleAgent } from '../host/oracle-agent.ts'
import { OracleSettings, type AtEnd } from '../host/oracle-settings.ts'
import { hugePagesFor, openOracle, swapFor, type KernelOracle } from './kernel-oracle.ts'
import { themeOf, type ThemeName } from './themes.ts'

/** ms an agent may be silent: it may wait for other runs before it begins */
const PATIENCE = 60_000

/** The state of this machine that programs of some themes depend on. */
export function hostSettings(themes: readonly ThemeName[]): OracleSettings {
  const hugePages = hugePagesFor(themes)
  const swap = swapFor(themes)
  return OracleSettings.apply({
    ...(hugePages > 0 ? { hugepages: hugePages } : {}),
    ...(themes.some((name) => themeOf(name).thp === true) ? { thp: 'madvise' } : {}),
    ...(swap > 0 ? { swap } : {}),
    ksm: themes.some((name) => themeOf(name).ksm === true),
  })
}

/**
 * This machine's kernel, with its state as it is.
 * @param atEnd where the agents' directories are left to be removed
 * @param cpu the processor of the agents; null: any
 * @throws HostError when there is no compiler, or the agent does not start
 */
export function openHostOracle(atEnd: AtEnd, cpu: number | null): Promise<KernelOracle> {
  return openOracle({
    release: '6.18',
    start: (theme) =>
      OracleAgent.start({
        settings: atEnd,
        pages: theme.arenaPages,
        thp: theme.thp === true,
        timeout: PATIENCE,
        lock: machineLock(),
        ...(theme.hugePages === undefined ? {} : { pool: theme.hugePages }),
        ...(cpu === null ? {} : { cpu }),
      }),
  })
}

/**
 * This machine's kernel, with its state set for programs of some themes.
 * @throws HostError when there is no compiler, or the agent does not start
 */
export async function startHostOracle(themes: readonly ThemeName[]): Promise<KernelOracle> {
  const settings = hostSettings(themes)
  try {
    const oracle = await openHostOracle(settings, null)
    const stop = async (): Promise<void> => {
      await oracle.stop()
      await settings.restore()
    }
    return { ...oracle, stop }
  } catch (error) {
    await settings.restore()
    throw error
  }
}

/** What all runs on this machine lock while they use what belongs to all of it; only root sees the pin counters. */
function machineLock(): string {
  const uid = process.geteuid?.() ?? 0
  return uid === 0 ? '/run/pinscope-machine.lock' : path.join(tmpdir(), `pinscope-machine-${uid}.lock`)
}
