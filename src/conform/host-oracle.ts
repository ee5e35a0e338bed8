import { OracleAgent } from '../host/oracle-agent.ts'
import { OracleSettings } from '../host/oracle-settings.ts'
import { hugePagesFor, openOracle, swapFor, type KernelOracle } from './kernel-oracle.ts'
import { themeOf, type ThemeName } from './themes.ts'

/**
 * This machine's kernel.
 * @param themes which programs will be run
 * @throws HostError when there is no compiler, or the agent does not start
 */
export function startHostOracle(themes: readonly ThemeName[]): Promise<KernelOracle> {
  const hugePages = hugePagesFor(themes)
  const swap = swapFor(themes)
  const settings = OracleSettings.apply({
    ...(hugePages > 0 ? { hugepages: hugePages } : {}),
    ...(themes.some((name) => themeOf(name).thp === true) ? { thp: 'madvise' } : {}),
    ...(swap > 0 ? { swap } : {}),
    ksm: themes.some((name) => themeOf(name).ksm === true),
  })
  return openOracle({
    release: '6.18',
    start: (theme) =>
      OracleAgent.start({
        settings,
        pages: theme.arenaPages,
        thp: theme.thp === true,
        ...(theme.hugePages === undefined ? {} : { pool: theme.hugePages }),
      }),
    restore: () => settings.restore(),
  })
}
