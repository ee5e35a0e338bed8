/** System-wide facts the model needs (R-GLOB-1..5). */
import { existsSync, readdirSync } from 'node:fs'
import { tryRead, tryReadValue } from './proc-files.ts'
import type { Snapshot } from './snapshot.ts'
import { activeChoice, hugepageDirectorySize, parseMeminfo, parseVmstatPins } from './system-files.ts'

type SystemFacts = Snapshot['system']

const sysctls = [
  'vm.overcommit_memory',
  'vm.overcommit_ratio',
  'vm.overcommit_kbytes',
  'vm.max_map_count',
  'vm.mmap_min_addr',
  'vm.nr_overcommit_hugepages',
  'vm.hugetlb_shm_group',
  'vm.compact_unevictable_allowed',
  'vm.unprivileged_userfaultfd',
  'vm.memfd_noexec',
  'vm.legacy_va_layout',
  'kernel.randomize_va_space',
  'kernel.io_uring_disabled',
  'kernel.io_uring_group',
  'kernel.yama.ptrace_scope',
  'kernel.perf_event_paranoid',
  'kernel.unprivileged_bpf_disabled',
  'kernel.numa_balancing',
] as const

/** Reads what is there; an absent file is an absent feature. @rule R-GLOB-5 */
export function readSystem(): SystemFacts {
  const sysctl: Record<string, string> = {}
  for (const name of sysctls) {
    const value = tryReadValue(`/proc/sys/${name.replaceAll('.', '/')}`)
    if (value !== null) sysctl[name] = value
  }
  return {
    thp: readThp('/sys/kernel/mm/transparent_hugepage'),
    hugetlbPools: readHugetlbPools('/sys/kernel/mm/hugepages'),
    meminfo: parseMeminfo(tryRead('/proc/meminfo') ?? ''),
    pins: readPins(),
    sysctl,
  }
}

/** @rule R-GLOB-1 */
function readPins(): SystemFacts['pins'] {
  const exact = tryRead('/proc/sys/vm/stat_refresh') !== null
  const pins = parseVmstatPins(tryRead('/proc/vmstat') ?? '')
  return pins === null ? null : { ...pins, exact }
}

/** @rule R-GLOB-4 */
function readThp(directory: string): SystemFacts['thp'] {
  const enabled = tryRead(`${directory}/enabled`)
  if (enabled === null) return null
  const choice = (file: string): string | null => {
    const text = tryRead(`${directory}/${file}`)
    return text === null ? null : activeChoice(text)
  }
  const sizes: NonNullable<SystemFacts['thp']>['sizes'] = []
  for (const name of readdirSync(directory)) {
    const size = hugepageDirectorySize(name)
    if (size === null) continue
    sizes.push({ size, enabled: choice(`${name}/enabled`), shmemEnabled: choice(`${name}/shmem_enabled`) })
  }
  sizes.sort((a, b) => a.size - b.size)
  return {
    enabled: activeChoice(enabled),
    defrag: choice('defrag') ?? 'never',
    shmemEnabled: choice('shmem_enabled') ?? 'never',
    useZeroPage: tryReadValue(`${directory}/use_zero_page`) === '1',
    pmdSize: Number(tryReadValue(`${directory}/hpage_pmd_size`) ?? 0),
    sizes,
  }
}

/** @rule R-GLOB-3 */
function readHugetlbPools(directory: string): SystemFacts['hugetlbPools'] {
  if (!existsSync(directory)) return []
  const pools: SystemFacts['hugetlbPools'] = []
  for (const name of readdirSync(directory)) {
    const pageSize = hugepageDirectorySize(name)
    if (pageSize === null) continue
    const value = (file: string): number => Number(tryReadValue(`${directory}/${name}/${file}`) ?? 0)
    pools.push({
      pageSize,
      total: value('nr_hugepages'),
      free: value('free_hugepages'),
      reserved: value('resv_hugepages'),
      surplus: value('surplus_hugepages'),
      overcommit: value('nr_overcommit_hugepages'),
    })
  }
  return pools.sort((a, b) => a.pageSize - b.pageSize)
}
