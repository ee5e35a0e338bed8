import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { HostError } from './host-error.ts'

/** State of the machine that programs may depend on (R-AG-6). */
export interface OracleSettingsOptions {
  /** transparent_hugepage/enabled; as it is when absent (the agent then turns THP off for itself). */
  thp?: 'never' | 'madvise' | 'always'
  /** At least this many 2 MiB pages of the hugetlb pool that nobody has or was promised. */
  hugepages?: number
  /** Bytes of swap on a zram device of its own, without readahead. */
  swap?: number
  /** ksmd looks at every page in every scan. */
  ksm?: boolean
}

/** Something that runs shell lines when everything is over, however it ends. */
export interface AtEnd {
  /** The words are quoted. */
  atEnd(...words: string[]): void
}

/** One setting: where, what it was, what it is now. */
export interface OracleSetting {
  path: string
  before: string
  now: string
}

const ZRAM = '/sys/class/zram-control/'
const THP = '/sys/kernel/mm/transparent_hugepage/'
const KSM = '/sys/kernel/mm/ksm/'
const POOL = '/sys/kernel/mm/hugepages/hugepages-2048kB/'
const KSM_RUN = `${KSM}run`

/** Nothing may move, merge or split pages behind the program's back. */
const quiet: [path: string, value: string][] = [
  [`${THP}khugepaged/defrag`, '0'],
  // without effort it still takes a huge page that is there: 49 days from now
  [`${THP}khugepaged/scan_sleep_millisecs`, '4294967295'],
  [KSM_RUN, '0'],
  [`${KSM}sleep_millisecs`, '1'],
  ['/proc/sys/kernel/numa_balancing', '0'],
  ['/proc/sys/vm/compaction_proactiveness', '0'],
  ['/proc/sys/vm/compact_unevictable_allowed', '0'],
]

/** Without readahead only what was asked for is in the swap cache. */
const swapValues: [path: string, value: string][] = [['/proc/sys/vm/page-cluster', '0']]

/** A scan looks at everything, quickly; a page of zeros is a page like others. */
const ksmValues: [path: string, value: string][] = [
  [`${KSM}smart_scan`, '0'],
  [`${KSM}use_zero_pages`, '0'],
  [`${KSM}pages_to_scan`, '2000'],
]

// Reads until its input ends, which happens when this process stops or dies, however it dies; then runs its lines.
const KEEPER = 'lines=$(cat); eval "$lines"; rm -f "$@"'

/** Two runs that restored each other's values would leave the wrong ones: only one sets a group at a time. */
const LOCKS = {
  settings: '/run/pinscope-settings.pid',
  swap: '/run/pinscope-swap.pid',
  ksm: '/run/pinscope-ksm.pid',
} as const

/**
 * Sets the state of the machine for a run and puts it back exactly as it was: also after Ctrl-C, a crash or
 * `kill -9`, because a small process of its own does the restoring as soon as this one is gone.
 */
export class OracleSettings implements AtEnd {
  /** What was changed. */
  readonly changed: OracleSetting[] = []
  /** What could not be set, one clause each. */
  readonly notSet: string[] = []
  /** The swap device, when there is one. */
  swapDevice: string | null = null

  readonly #keeper: ChildProcess
  readonly #locks: readonly string[]
  /** what the keeper was told */
  readonly #lines: string[] = []
  #restored: Promise<void> | null = null

  private constructor(keeper: ChildProcess, locks: readonly string[]) {
    this.#keeper = keeper
    this.#locks = locks
  }

  /**
   * Applies the settings; what the user may not set is listed in `notSet`.
   *
   * @rule R-AG-6
   */
  static apply(options: OracleSettingsOptions = {}): OracleSettings {
    const root = process.geteuid?.() === 0
    const holders = {
      settings: root ? takeLock(LOCKS.settings) : null,
      swap: root && options.swap ? takeLock(LOCKS.swap) : null,
      ksm: root && options.ksm === true ? takeLock(LOCKS.ksm) : null,
    }
    const taken = Object.entries(LOCKS).filter(([group]) => holders[group as keyof typeof LOCKS] === 'taken')
    const locks = taken.map(([, path]) => path)
    const keeper = spawn('/bin/sh', ['-c', KEEPER, 'sh', ...locks], {
      detached: true,
      stdio: ['pipe', 'ignore', 'ignore'],
    })
    keeper.stdin?.on('error', () => {})
    if (keeper.pid !== undefined) for (const lock of locks) writeFileSync(lock, String(keeper.pid))
    const settings = new OracleSettings(keeper, locks)
    if (root && Object.values(holders).includes('unlockable'))
      settings.notSet.push(
        'a lock: /run cannot be written, so other runs on this machine may disturb this one',
      )
    if (settings.#mayChange("the machine's state", holders.settings)) {
      // whose programs start ksmd for a moment puts back what it found: it must not find our value
      const wanted =
        holderOf(LOCKS.ksm, keeper) === null ? [...quiet] : quiet.filter(([path]) => path !== KSM_RUN)
      if (options.thp) wanted.push([`${THP}enabled`, options.thp])
      for (const [path, value] of wanted) settings.#set(path, value)
      if (options.hugepages) settings.#growPool(options.hugepages)
    }
    if (options.swap && settings.#mayChange('swap', holders.swap)) {
      for (const [path, value] of swapValues) settings.#set(path, value)
      settings.#addSwap(options.swap)
    }
    if (options.ksm === true && settings.#mayChange('KSM', holders.ksm)) {
      for (const [path, value] of ksmValues) settings.#set(path, value)
    }
    return settings
  }

  #mayChange(what: string, holder: Holder): boolean {
    if (typeof holder !== 'number') return true
    this.notSet.push(`another run (process ${holder}) has set ${what}: nothing was changed`)
    return false
  }

  /** Runs a shell line when everything is over, however it ends; `words` are quoted. */
  atEnd(...words: string[]): void {
    this.#tell(`${words.map(quote).join(' ')} 2>/dev/null\n`)
  }

  /** Puts everything back and waits until it is. */
  restore(): Promise<void> {
    return (this.#restored ??= this.#restore())
  }

  async #restore(): Promise<void> {
    const keeper = this.#keeper
    if (keeper.exitCode === null && keeper.signalCode === null) {
      const gone = once(keeper, 'exit')
      keeper.stdin?.end()
      await gone
    }
    if (keeper.exitCode === 0) return
    // somebody has ended it before it was told to
    spawnSync('/bin/sh', ['-c', KEEPER, 'sh', ...this.#locks], { input: this.#lines.join('') })
  }

  #tell(line: string): void {
    this.#lines.push(line)
    this.#keeper.stdin?.write(line)
  }

  #set(path: string, value: string, before: string | null = read(path)): void {
    if (before === null || before === value) return
    // Told before the change: there is no moment in which it would be forgotten.
    this.#tell(`printf %s ${quote(before)} > ${quote(path)}\n`)
    try {
      writeFileSync(path, value)
      this.changed.push({ path, before, now: read(path) ?? value })
    } catch {
      this.notSet.push(`${path} stays ${before}`)
    }
  }

  /**
   * Pages that are promised to others do not count. Surplus ones are shown in nr_hugepages, but writing it makes them
   * the pool's own for good: what is put back is the pool without them.
   */
  #growPool(pages: number): void {
    const usable = poolCounter('free_hugepages') - poolCounter('resv_hugepages')
    if (usable < pages) {
      const total = poolCounter('nr_hugepages')
      const before = total - poolCounter('surplus_hugepages')
      this.#set(`${POOL}nr_hugepages`, String(total + pages - usable), String(before))
    }
    const now = poolCounter('free_hugepages') - poolCounter('resv_hugepages')
    if (now < pages) this.notSet.push(`the hugetlb pool has ${Math.max(0, now)} pages instead of ${pages}`)
  }

  #addSwap(bytes: number): void {
    // reading makes a device, also where the file system does not let anybody remove it
    const number = mayWrite(`${ZRAM}hot_remove`) ? read(`${ZRAM}hot_add`) : null
    if (number === null) {
      this.notSet.push('no zram device for swap could be added')
      return
    }
    const device = `/dev/zram${number}`
    // a device that somebody looks at cannot be taken away at that moment
    this.#tell(
      `n=0; while [ -e /sys/block/zram${number} ] && [ $n -lt 50 ]; do [ $n -eq 0 ] || sleep 0.1; n=$((n + 1)); ` +
        `swapoff ${device} 2>/dev/null; echo 1 > /sys/block/zram${number}/reset; ` +
        `echo ${number} > ${ZRAM}hot_remove; done\n`,
    )
    try {
      writeFileSync(`/sys/block/zram${number}/disksize`, String(bytes))
      for (const command of ['mkswap', 'swapon']) {
        const run = spawnSync(command, [device], { encoding: 'utf8' })
        if (run.status !== 0) throw new HostError('unsupported', run.stderr || String(run.error))
      }
      this.swapDevice = device
    } catch (error) {
      this.notSet.push(`no swap on ${device}: ${(error as Error).message.trim()}`)
    }
  }
}

/** Who has a lock: this run, or the process that restores for another one, gone only when that is done. */
type Holder = 'taken' | 'unlockable' | number | null

function takeLock(lock: string): Holder {
  for (let tries = 0; tries < 3; tries++) {
    try {
      writeFileSync(lock, String(process.pid), { flag: 'wx' })
      return 'taken'
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') return 'unlockable'
    }
    const holder = holderOf(lock)
    if (holder !== null) return holder
    // Left by a machine that was switched off, or the like.
    try {
      rmSync(lock, { force: true })
    } catch {
      return 'unlockable'
    }
  }
  return 'unlockable'
}

/** The living process that has a lock. @param own one that does not count */
function holderOf(lock: string, own?: ChildProcess): number | null {
  const holder = Number(read(lock) ?? 0)
  try {
    if (holder > 0 && holder !== own?.pid && process.kill(holder, 0)) return holder
  } catch {
    // It is gone.
  }
  return null
}

/** A file of the 2 MiB pool; 0 where there is none. Promises can be below zero and wrap (R-HUGE-52). */
function poolCounter(name: string): number {
  const value = Number(read(`${POOL}${name}`) ?? 0)
  return value > 2 ** 63 ? value - 2 ** 64 : value
}

function quote(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`
}

function mayWrite(path: string): boolean {
  try {
    accessSync(path, constants.W_OK)
    return true
  } catch {
    return false
  }
}

/** The value in force; of a choice such as `always [madvise] never`, the one in brackets. */
function read(path: string): string | null {
  try {
    const text = readFileSync(path, 'latin1').trim()
    return /\[(\S+)\]/.exec(text)?.[1] ?? text
  } catch {
    return null
  }
}
