import { GuestAgent } from '../host/guest/guest-agent.ts'
import type { GuestSeries } from '../host/guest/kernel.ts'
import { hugePagesFor, openOracle, swapFor, type KernelOracle } from './kernel-oracle.ts'
import type { ThemeName } from './themes.ts'

/**
 * A Debian kernel in a virtual machine. One boot serves all programs that share an arena size; a guest that a
 * program has ended is booted again before the next one.
 * @param themes which programs will be run
 * @throws HostError when there is no QEMU, no kernel or no compiler, or the guest does not boot
 */
export function startGuestOracle(series: GuestSeries, themes: readonly ThemeName[]): Promise<KernelOracle> {
  const hugepages = hugePagesFor(themes)
  const swap = swapFor(themes)
  return openOracle({
    release: series,
    start: (theme) =>
      GuestAgent.start({
        kernel: series,
        pages: theme.arenaPages,
        thp: theme.thp === true,
        hugepages,
        ...(swap > 0 ? { swap } : {}),
        ...(theme.hugePages === undefined ? {} : { pool: theme.hugePages }),
      }),
  })
}
