import type { Kthread } from '../../base/kthread.ts'
import { PAGE_SIZE, PMD_SIZE, TASK_SIZE } from '../../base/units.ts'
import { PG_ANON, PG_HUGETLB } from '../../memory/page-flags.ts'
import { mmput } from '../../mm/exit-mmap.ts'
import { CAPABILITY_BITS } from '../../mm/capability.ts'
import type { Kernel } from '../../mm/kernel.ts'
import type { Mm } from '../../mm/mm.ts'
import { HugePmd } from '../../mm/page-table.ts'
import type { TaskStruct } from '../task.ts'
import { SingleFile } from './seq-file.ts'

/**
 * An open /proc/PID/status: what a task has at the time of the read, also after an exec. Lines about what is
 * not modelled (signals, processors, security modules, …) are left out.
 * @rule R-ST-1
 */
export class ProcStatus extends SingleFile {
  readonly #task: TaskStruct

  constructor(task: TaskStruct) {
    super()
    this.#task = task
  }

  protected override *text(k: Kernel): Kthread<string> {
    const task = this.#task
    const { mm } = task
    const kthreadLine = k.release.proc.statusShowsKthread ? line('Kthread', mm === null ? 1 : 0) : ''
    const ids = (id: number): string => [id, id, id, id].join('\t')
    const caps = capabilityWord(task)
    return [
      line('Name', escapeName(task.comm)),
      line('State', task.stopped ? 't (tracing stop)' : 'R (running)'),
      line('Tgid', task.pid),
      line('Pid', task.pid),
      line('TracerPid', task.trace?.tracer.pid ?? 0),
      line('Uid', ids(task.uid)),
      line('Gid', ids(task.gid)),
      kthreadLine,
      mm === null ? '' : yield* memory(k, mm),
      line('Threads', 1),
      line('CapPrm', caps),
      line('CapEff', caps),
    ].join('')
  }
}

/**
 * The lines about the address space. The counters are read one by one, without a lock.
 * @rule R-AS-165
 * @rule R-ST-2
 */
function* memory(k: Kernel, mm: Mm): Kthread<string> {
  mm.users++
  // @rule R-ST-7
  const total = mm.totalVm
  const { rss } = mm
  const [text, library] = codePages(mm)
  const counters: readonly (readonly [key: string, pages: number])[] = [
    ['VmPeak', Math.max(mm.hiwaterVm, total)],
    ['VmSize', total],
    ['VmLck', mm.lockedVm],
    ['VmPin', mm.pinnedVm],
    ['VmHWM', Math.max(mm.hiwaterRss, rss)],
    ['VmRSS', rss],
    ['RssAnon', mm.rssAnon],
    ['RssFile', mm.rssFile],
    ['RssShmem', mm.rssShmem],
    ['VmData', mm.dataVm],
    ['VmStk', mm.stackVm],
    ['VmExe', text],
    ['VmLib', library],
    ['VmPTE', mm.pageTable.bytes / PAGE_SIZE + depositedTables(k, mm)],
    ['VmSwap', mm.swapents],
    ['HugetlbPages', mm.hugetlbPages],
  ]
  const lines = counters.map(([key, pages]) => `${key}:\t${kilobytes(pages).padStart(8)} kB\n`)
  lines.push(line('CoreDumping', 0), line('THP_enabled', mm.thpDisabled ? 0 : 1))
  if (k.release.proc.statusShowsKthread) lines.push(line('untag_mask', '0xffffffffffffffff'))
  yield* mmput(k, mm)
  return lines.join('')
}

/** HugetlbPages can be below zero, where page tables were shared (R-HUGE-56), and is printed as an unsigned long. */
function kilobytes(pages: number): string {
  const kb = (pages * PAGE_SIZE) / 1024
  return pages < 0 ? String(2n ** 64n + BigInt(kb)) : String(kb)
}

/** Each huge page of anonymous memory keeps a page table for the day it is split. @rule R-HUGE-25 */
function depositedTables(k: Kernel, { pageTable }: Mm): number {
  const { frames } = k.memory
  const end = TASK_SIZE / PMD_SIZE
  let count = 0
  for (let i = pageTable.nextPmd(0, end); i >= 0; i = pageTable.nextPmd(i + 1, end)) {
    const entry = pageTable.pmd(i)
    if (!(entry instanceof HugePmd) || frames.has(entry.pfn, PG_HUGETLB)) continue
    if (frames.has(entry.pfn, PG_ANON) || k.isHugeZero(entry.pfn)) count++
  }
  return count
}

/** The program's own code and that of its libraries, in pages. */
function codePages(mm: Mm): [text: number, library: number] {
  const text = Math.min(codeSize(mm), mm.execVm)
  return [text, mm.execVm - text]
}

function codeSize(mm: Mm): number {
  return Math.ceil(mm.endCode / PAGE_SIZE) - Math.floor(mm.startCode / PAGE_SIZE)
}

function line(key: string, value: string | number): string {
  return `${key}:\t${value}\n`
}

/** A line feed or a backslash in a name would break the line. */
function escapeName(comm: string): string {
  return comm.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')
}

function capabilityWord(task: TaskStruct): string {
  let word = 0
  for (const name of task.capabilities) word += 2 ** CAPABILITY_BITS[name]
  return word.toString(16).padStart(16, '0')
}

/** An open /proc/PID/statm. @rule R-AS-166 */
export class ProcStatm extends SingleFile {
  readonly #task: TaskStruct

  constructor(task: TaskStruct) {
    super()
    this.#task = task
  }

  protected override *text(): Kthread<string> {
    const { mm } = this.#task
    if (mm === null) return '0 0 0 0 0 0 0\n'
    const text = codeSize(mm)
    return `${mm.totalVm} ${mm.rss} ${mm.rssFile + mm.rssShmem} ${text} 0 ${mm.dataVm + mm.stackVm} 0\n`
  }
}
