/** /proc/PID/status (R-ST-1), read as latin1. */
import { HostError } from './host-error.ts'
import { parseKeyValues, sizeValue } from './key-values.ts'
import { latin1ToText } from './maps.ts'

export interface Ids {
  readonly real: number
  readonly effective: number
  readonly saved: number
  readonly fs: number
}

/** Vm lines, bytes. */
export interface StatusMemory {
  readonly size: number
  readonly locked: number
  readonly pinned: number
  readonly rss: number
  readonly rssAnon: number
  readonly rssFile: number
  readonly rssShmem: number
  readonly data: number
  readonly stack: number
  readonly swap: number
  readonly hugetlb: number
  readonly pageTables: number
}

export interface Status {
  readonly name: string
  /** first letter of `State:`: R S D T t Z X I */
  readonly state: string
  readonly tgid: number
  readonly pid: number
  readonly tracerPid: number
  readonly threads: number
  readonly uid: Ids
  readonly gid: Ids
  /** 16 hex digits */
  readonly capEff: string
  /** 16 hex digits each: what the process may make effective, and what an execve(2) may give it */
  readonly capPrm: string
  readonly capBnd: string
  /** 0 none, 1 strict, 2 filter: system calls of it are refused by a filter of its own (seccomp(2)) */
  readonly seccomp: number
  /** null on kernels that do not print it ([6.1]) */
  readonly kernelThread: boolean | null
  /** null when not printed */
  readonly thpEnabled: boolean | null
  /** null for zombies and kernel threads (R-ACC-4) */
  readonly memory: StatusMemory | null
}

export const CAP_IPC_LOCK = 14
export const CAP_SYS_PTRACE = 19
export const CAP_SYS_ADMIN = 21
export const CAP_SYS_RESOURCE = 24

/** Whether capability number `bit` is in a set printed as 16 hex digits. */
export function hasCapability(hexSet: string, bit: number): boolean {
  const digit = hexSet[hexSet.length - 1 - (bit >>> 2)]
  return digit !== undefined && ((parseInt(digit, 16) >>> (bit & 3)) & 1) === 1
}

const noCapabilities = '0000000000000000'

/**
 * @throws HostError 'unreadable' when State or Uid is missing
 * @rule R-ST-1
 */
export function parseStatus(text: string): Status {
  const values = parseKeyValues(text)
  const state = values.get('State')?.[0]
  const uid = ids(values.get('Uid'))
  const gid = ids(values.get('Gid'))
  if (state === undefined || uid === null || gid === null) {
    throw new HostError('unreadable', 'not a /proc/PID/status file: no State, Uid or Gid line')
  }
  const number = (key: string): number => Number(values.get(key) ?? 0)
  const size = (key: string): number => sizeValue(values.get(key)) ?? 0
  const kthread = values.get('Kthread')
  const thp = values.get('THP_enabled')
  return {
    name: latin1ToText(values.get('Name') ?? ''),
    state,
    tgid: number('Tgid'),
    pid: number('Pid'),
    tracerPid: number('TracerPid'),
    threads: number('Threads'),
    uid,
    gid,
    capEff: values.get('CapEff') ?? noCapabilities,
    capPrm: values.get('CapPrm') ?? noCapabilities,
    capBnd: values.get('CapBnd') ?? noCapabilities,
    seccomp: number('Seccomp'),
    kernelThread: kthread === undefined ? null : kthread === '1',
    thpEnabled: thp === undefined ? null : thp === '1',
    memory: !values.has('VmSize')
      ? null
      : {
          size: size('VmSize'),
          locked: size('VmLck'),
          pinned: size('VmPin'),
          rss: size('VmRSS'),
          rssAnon: size('RssAnon'),
          rssFile: size('RssFile'),
          rssShmem: size('RssShmem'),
          data: size('VmData'),
          stack: size('VmStk'),
          swap: size('VmSwap'),
          hugetlb: size('HugetlbPages'),
          pageTables: size('VmPTE'),
        },
  }
}

function ids(text: string | undefined): Ids | null {
  const parts = text?.split(/\s+/).map(Number)
  if (parts === undefined || parts.length < 4 || parts.some(Number.isNaN)) return null
  return { real: parts[0]!, effective: parts[1]!, saved: parts[2]!, fs: parts[3]! }
}
