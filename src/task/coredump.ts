import { PREEMPT, type Kthread } from '../base/kthread.ts'
import { PAGE_SIZE } from '../base/units.ts'
import { getDumpPage } from '../mm/gup.ts'
import type { Kernel } from '../mm/kernel.ts'
import { findVma, unwatched } from '../mm/mmap-lock.ts'
import { putPage } from '../mm/unpin.ts'
import { presentPfn } from '../mm/user-access.ts'
import { VM_DONTDUMP, VM_IO, VM_READ, VM_SHARED } from '../mm/vm-flags.ts'
import type { Vma } from '../mm/vma.ts'

/*
 * @caller core dumps
 * @entry a signal that dumps
 * @gup get_dump_page: FOLL_FORCE FOLL_DUMP
 * @lock taken per page
 * @budget none
 * @errno a hole in the file
 * @release after each page
 * @test tests/task/coredump.test.ts
 */

/** Bits of /proc/PID/coredump_filter, core(5). */
export const DUMP_ANON_PRIVATE = 1 << 0
export const DUMP_ANON_SHARED = 1 << 1
export const DUMP_MAPPED_PRIVATE = 1 << 2
export const DUMP_MAPPED_SHARED = 1 << 3
export const DUMP_ELF_HEADERS = 1 << 4
export const DUMP_HUGETLB_PRIVATE = 1 << 5
export const DUMP_HUGETLB_SHARED = 1 << 6
/** what the kernel starts processes with */
export const DEFAULT_FILTER = DUMP_ANON_PRIVATE | DUMP_ANON_SHARED | DUMP_ELF_HEADERS | DUMP_HUGETLB_PRIVATE

/** One mapping in a core file. */
export interface DumpSegment {
  readonly start: number
  readonly end: number
  /** bytes of it that are dumped, from the start on */
  readonly size: number
}

/**
 * `dump_vma_snapshot`: what of each mapping of the current process goes into its core file.
 * @param filter DUMP_* bits
 * @rule R-DMP-5
 */
export function* dumpVmaSnapshot(k: Kernel, filter: number): Kthread<DumpSegment[]> {
  const mm = k.current.mm!
  const guard = mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.read())
  const segments: DumpSegment[] = []
  for (let at = 0; ;) {
    const vma = findVma(guard, at)
    if (vma === null) break
    const { start, end } = vma
    segments.push({ start, end, size: vmaDumpSize(k, unwatched(vma), filter) })
    at = end
  }
  guard.release()
  return segments
}

/** `vma_dump_size`: bytes. */
function vmaDumpSize(k: Kernel, vma: Vma, filter: number): number {
  const whole = vma.end - vma.start
  const has = (bit: number): boolean => (filter & bit) !== 0
  // vdso and vvar: only the former has pages
  if (vma.specialName !== null) return (vma.flags & VM_IO) === 0 ? whole : 0
  if ((vma.flags & (VM_DONTDUMP | VM_IO)) !== 0) return 0
  const shared = (vma.flags & VM_SHARED) !== 0
  if (vma.isHugetlb) return has(shared ? DUMP_HUGETLB_SHARED : DUMP_HUGETLB_PRIVATE) ? whole : 0
  if (shared) {
    const unlinked = vma.file?.path.endsWith(' (deleted)') ?? true
    return has(unlinked ? DUMP_ANON_SHARED : DUMP_MAPPED_SHARED) ? whole : 0
  }
  if ((vma.anonVma !== null || vma.file === null) && has(DUMP_ANON_PRIVATE)) return whole
  if (vma.file === null) return 0
  if (has(DUMP_MAPPED_PRIVATE)) return whole
  return has(DUMP_ELF_HEADERS) && beginsWithElfHeader(k, vma) ? PAGE_SIZE : 0
}

function beginsWithElfHeader(k: Kernel, vma: Vma): boolean {
  if (vma.pgoff !== 0 || (vma.flags & VM_READ) === 0) return false
  const pfn = presentPfn(vma.mm!, vma.start) || vma.file!.mapping.pages.get(0)
  if (pfn === 0) return false
  const magic = new Uint8Array(4)
  k.memory.contents.read(pfn, 0, magic)
  return magic.every((byte, i) => byte === [0x7f, 0x45, 0x4c, 0x46][i])
}

/** Where a core file goes. */
export interface DumpSink {
  /** a page of data; false: the dump ends (limit reached, short write) */
  data(bytes: Uint8Array): boolean
  /** a page that is left out */
  hole(): boolean
}

/**
 * `dump_user_range`: writes the pages of a range, and leaves out those that were never touched.
 * @param start page aligned, as is `length`
 * @returns whether the whole range has been written
 * @rule R-DMP-1
 * @rule R-DMP-8
 */
export function* dumpUserRange(k: Kernel, start: number, length: number, sink: DumpSink): Kthread<boolean> {
  const { current } = k
  current.dumpsCore = true
  try {
    return yield* dumpPages(k, start, length, sink)
  } finally {
    current.dumpsCore = false
  }
}

function* dumpPages(k: Kernel, start: number, length: number, sink: DumpSink): Kthread<boolean> {
  const page = new Uint8Array(PAGE_SIZE)
  for (let address = start; address < start + length; address += PAGE_SIZE) {
    if (k.fatalSignalPending) return false
    if (k.exploring) yield PREEMPT
    const pfn = yield* getDumpPage(k, address)
    // @rule R-DMP-6
    if (pfn === 0) {
      if (!sink.hole()) return false
      continue
    }
    k.memory.contents.read(pfn, 0, page)
    const written = sink.data(page)
    putPage(k, pfn)
    if (!written) return false
  }
  return true
}
