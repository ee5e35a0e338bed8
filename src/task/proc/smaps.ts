import { ESRCH } from '../../base/errno.ts'
import type { Kthread } from '../../base/kthread.ts'
import { refuse } from '../../base/refusal.ts'
import { PAGE_SIZE, PMD_SIZE } from '../../base/units.ts'
import { mmput } from '../../mm/exit-mmap.ts'
import type { Kernel } from '../../mm/kernel.ts'
import { findVma } from '../../mm/mmap-lock.ts'
import type { Mm } from '../../mm/mm.ts'
import { thpAllowed } from '../../mm/thp-fault.ts'
import { VM_EXEC, vmFlagMnemonics } from '../../mm/vm-flags.ts'
import type { Vma } from '../../mm/vma.ts'
import { lockForRead } from '../../mm/write-lock.ts'
import { mapsHeader, mapsLine } from './maps-line.ts'
import { MappingsFile } from './maps.ts'
import { SingleFile } from './seq-file.ts'
import { SmapsStats } from './smaps-stats.ts'

/** An open /proc/PID/smaps. @rule R-AS-164 */
export class ProcSmaps extends MappingsFile {
  protected override record(k: Kernel, mm: Mm, vma: Vma): string {
    const stats = new SmapsStats()
    stats.gather(k, mm, vma)
    const lockOnFault = k.release.mm.namesLockOnFault ? 'lf' : '??'
    return smapsRecord(k, mapsLine(mapsHeader(k, mm, vma)), stats, {
      size: vma.end - vma.start,
      pageSize: vma.isHugetlb ? vma.file!.mapping.pageSize : PAGE_SIZE,
      thpEligible: isThpEligible(k, vma),
      flags: vmFlagMnemonics(vma.flags, vma.highFlags, lockOnFault),
    })
  }

  protected override gateRecord(k: Kernel, line: string): string {
    const flags = vmFlagMnemonics(VM_EXEC, 0)
    const facts = { size: PAGE_SIZE, pageSize: PAGE_SIZE, thpEligible: false, flags }
    return smapsRecord(k, line, new SmapsStats(), facts)
  }
}

/** What a record of smaps says besides the sums. */
interface MappingFacts {
  /** bytes */
  readonly size: number
  /** bytes */
  readonly pageSize: number
  readonly thpEligible: boolean
  readonly flags: readonly string[]
}

function smapsRecord(k: Kernel, header: string, stats: SmapsStats, facts: MappingFacts): string {
  const eligible = facts.thpEligible ? 1 : 0
  const { proc } = k.release
  const pageSize = facts.pageSize / 1024
  return [
    header,
    kBLine('Size', facts.size / 1024),
    kBLine('KernelPageSize', pageSize),
    kBLine('MMUPageSize', pageSize),
    sums(k, stats, false),
    `THPeligible:    ${String(eligible).padStart(proc.padsThpEligible ? 8 : 0)}\n`,
    k.settings.protectionKeys ? `ProtectionKey:  ${'0'.padStart(8)}\n` : '',
    `VmFlags: ${facts.flags.map((name) => `${name} `).join('')}\n`,
  ].join('')
}

/** The lines that smaps and smaps_rollup share. */
function sums(k: Kernel, stats: SmapsStats, rollup: boolean): string {
  const byKind = rollup
    ? share('Pss_Anon', stats.pssAnon) + share('Pss_File', stats.pssFile) + share('Pss_Shmem', stats.pssShmem)
    : ''
  return [
    pages('Rss', stats.resident),
    share('Pss', stats.pss),
    share('Pss_Dirty', stats.pssDirty),
    byKind,
    pages('Shared_Clean', stats.sharedClean),
    pages('Shared_Dirty', stats.sharedDirty),
    pages('Private_Clean', stats.privateClean),
    pages('Private_Dirty', stats.privateDirty),
    pages('Referenced', stats.referenced),
    pages('Anonymous', stats.anonymous),
    k.release.proc.smapsShowsKsm ? pages('KSM', stats.ksm) : '',
    pages('LazyFree', stats.lazyFree),
    pages('AnonHugePages', stats.anonymousThp),
    pages('ShmemPmdMapped', stats.shmemThp),
    pages('FilePmdMapped', stats.fileThp),
    pages('Shared_Hugetlb', stats.sharedHugetlb),
    pages('Private_Hugetlb', stats.privateHugetlb),
    pages('Swap', stats.swap),
    share('SwapPss', stats.swapPss),
    share('Locked', stats.pssLocked),
  ].join('')
}

function pages(key: string, count: number): string {
  return kBLine(key, (count * PAGE_SIZE) / 1024)
}

/** @param units 4096ths of a byte */
function share(key: string, units: number): string {
  return kBLine(key, Math.floor(units / (4096 * 1024)))
}

function kBLine(key: string, kB: number): string {
  const label = `${key}:`.padEnd(16)
  return `${label}${String(kB).padStart(24 - label.length)} kB\n`
}

/**
 * Whether somewhere in the mapping a fault could bring a huge page.
 * @rule R-SMAPS-8
 */
function isThpEligible(k: Kernel, vma: Vma): boolean {
  const aligned = Math.ceil(vma.start / PMD_SIZE) * PMD_SIZE
  return thpAllowed(k, vma, aligned)
}

/**
 * An open /proc/PID/smaps_rollup: the sums of all mappings at the first read.
 * @rule R-SMAPS-2
 */
export class ProcSmapsRollup extends SingleFile {
  readonly #mm: Mm

  constructor(mm: Mm) {
    super()
    this.#mm = mm
  }

  protected override *text(k: Kernel): Kthread<string | number> {
    const mm = this.#mm
    // @rule R-ACC-6
    if (mm.users === 0) return refuse(k.current, ESRCH, 'R-ACC-6', { why: 'the address space is gone' })
    mm.users++
    const guard = (k.exploring ? null : mm.mmapLock.tryRead()) ?? (yield* lockForRead(k, mm))
    const stats = new SmapsStats()
    const start = findVma(guard, 0)?.start ?? 0
    let end = 0
    for (let vma = findVma(guard, 0); vma !== null; vma = findVma(guard, end)) {
      stats.gather(k, mm, vma)
      end = vma.end
    }
    guard.release()
    yield* mmput(k, mm)
    const header = { start, end, perms: '---p', offset: 0, device: '00:00', inode: 0, name: '[rollup]' }
    return mapsLine(header) + sums(k, stats, true)
  }
}
