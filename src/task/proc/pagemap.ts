import { EINVAL, ESRCH } from '../../base/errno.ts'
import type { Kthread } from '../../base/kthread.ts'
import { refuse } from '../../base/refusal.ts'
import { PAGE_SIZE, PMD_SIZE, PTRS_PER_PTE, TASK_SIZE } from '../../base/units.ts'
import { PG_ANON } from '../../memory/page-flags.ts'
import { mmput } from '../../mm/exit-mmap.ts'
import type { IovIter } from '../../mm/iov-iter.ts'
import type { Kernel } from '../../mm/kernel.ts'
import type { Mm } from '../../mm/mm.ts'
import {
  HugePmd,
  PTE_DEVICE_EXCLUSIVE,
  PTE_MARKER_GUARD,
  PTE_MARKER_POISON,
  PTE_MARKER_UFFD_WP,
  PTE_MIGRATION,
  PTE_PRESENT,
  PTE_SOFT_CLEAN,
  PTE_SPECIAL,
  PTE_SWAP,
  PTE_UFFD_WP,
  pmdIndex,
  type PmdEntry,
} from '../../mm/page-table.ts'
import type { MmapReadGuard } from '../../mm/mmap-lock.ts'
import { VM_PFNMAP, VM_SOFTDIRTY } from '../../mm/vm-flags.ts'
import { lockForRead } from '../../mm/write-lock.ts'
import { ProcFile, refuseBuffer, type FilePosition } from '../proc-file.ts'
import type { TaskStruct } from '../task.ts'
import { mmForReading } from './maps.ts'

/** bytes of one word */
export const WORD = 8

/** Bits 32 to 63 of a word, as bits of its upper half. */
export const PM_SOFT_DIRTY = 1 << 23
export const PM_ONCE = 1 << 24
export const PM_UFFD_WP = 1 << 25
export const PM_GUARD = 1 << 26
export const PM_FILE = 1 << 29
export const PM_SWAP = 1 << 30
export const PM_PRESENT = (1 << 31) >>> 0
/** type of the swap entries that device-exclusive entries look like: seen on 7.2 (R-DEX-13) */
const DEVICE_EXCLUSIVE_TYPE = 30

/**
 * The pagemap words of pages in one 2 MiB span, as pairs of halves, the lower first.
 * @param entry the PMD entry of the span; null: there is none, and the words are 0
 * @param from first slot of the span
 * @param to slot after the last
 * @param words gets two halves for each slot
 * @param shown frame numbers and swap entries are shown
 * @rule R-PM-1
 * @rule R-PM-2
 */
export function pagemapWords(
  k: Kernel,
  entry: PmdEntry | null,
  from: number,
  to: number,
  words: Uint32Array,
  shown: boolean,
  isShared: boolean,
): void {
  words.fill(0, 0, (to - from) * 2)
  if (entry === null) return
  if (entry instanceof HugePmd) {
    hugeWords(k, entry, from, to, words, shown, isShared)
    return
  }
  const { bits, pfn } = entry
  const { frames } = k.memory
  for (let slot = from, at = 0; slot < to; slot++, at += 2) {
    const word = bits[slot]!
    if (word === 0) continue
    let upper = (word & (PTE_UFFD_WP | PTE_MARKER_UFFD_WP)) === 0 ? 0 : PM_UFFD_WP
    let lower = pfn[slot]!
    if ((word & PTE_PRESENT) === 0) {
      upper |= PM_SWAP
      if ((word & PTE_DEVICE_EXCLUSIVE) !== 0) {
        // @rule R-DEX-13
        if (shown) upper |= lower >>> 27
        lower = ((lower << 5) | DEVICE_EXCLUSIVE_TYPE) >>> 0
      } else if ((word & PTE_SWAP) === 0) {
        if ((word & PTE_MARKER_GUARD) !== 0 && k.release.proc.pagemapShowsGuards) upper |= PM_GUARD
        lower = markerEntry(k, word)
      } else {
        // one swap device, of type 0: bits 0 to 4; the slot from bit 5 on
        if (shown) upper |= lower >>> 27
        lower = (lower << 5) >>> 0
      }
    } else {
      upper |= PM_PRESENT
      if ((word & PTE_SPECIAL) === 0) {
        if (!frames.has(frames.head(lower), PG_ANON)) upper |= PM_FILE
        if (!k.isHugeZero(lower) && frames.pageMapcount(lower) === 1) upper |= PM_ONCE
      }
    }
    words[at] = shown ? lower : 0
    words[at + 1] = upper
  }
}

/** One entry for 512 pages: whether it is the only one is asked of the first page. @rule R-HUGE-57 */
function hugeWords(
  k: Kernel,
  { bits, pfn }: HugePmd,
  from: number,
  to: number,
  words: Uint32Array,
  shown: boolean,
  isShared: boolean,
): void {
  let upper = (bits & (PTE_UFFD_WP | PTE_MARKER_UFFD_WP)) === 0 ? 0 : PM_UFFD_WP
  const present = (bits & PTE_PRESENT) !== 0
  if (present) {
    const { frames } = k.memory
    upper |= PM_PRESENT
    if (!frames.has(frames.head(pfn), PG_ANON)) upper |= PM_FILE
    if (!k.isHugeZero(pfn) && !isShared && frames.pageMapcount(pfn) === 1) upper |= PM_ONCE
  }
  for (let slot = from, at = 0; slot < to; slot++, at += 2) {
    words[at] = present && shown ? pfn + slot : 0
    words[at + 1] = upper
  }
}

/** A marker is a swap entry of a type that no device has, with the kinds in the place of the slot. @rule R-FLT-161 */
function markerEntry(k: Kernel, bits: number): number {
  const kinds =
    ((bits & PTE_MARKER_UFFD_WP) !== 0 ? 1 : 0) |
    ((bits & PTE_MARKER_POISON) !== 0 ? 2 : 0) |
    ((bits & PTE_MARKER_GUARD) !== 0 ? 4 : 0)
  return kinds * 32 + k.release.uffd.markerType
}

/**
 * An open /proc/PID/pagemap: of the address space the task had when it was opened.
 * @rule R-FLT-160
 */
export class ProcPagemap extends ProcFile {
  readonly #mm: Mm | null
  readonly #shown: boolean

  /** @param shown who opened it may see where pages are */
  constructor(mm: Mm | null, shown: boolean) {
    super()
    this.#mm = mm
    this.#shown = shown
  }

  /** The position moves only when all of it worked. */
  override *read(k: Kernel, iter: IovIter, position: FilePosition): Kthread<number> {
    const { count } = iter
    const mm = this.#mm
    if (mm === null || mm.users === 0) return 0
    if (position.at % WORD !== 0 || count % WORD !== 0) return misaligned(k)
    const start = (position.at / WORD) * PAGE_SIZE
    const end = Math.min(start + (count / WORD) * PAGE_SIZE, TASK_SIZE)
    if (start >= end) return 0
    mm.users++
    const result = yield* this.#spans(k, mm, iter, start, end)
    yield* mmput(k, mm)
    if (result > 0) position.at += result
    return result
  }

  /** @rule R-CONS-5 */
  *#spans(k: Kernel, mm: Mm, iter: IovIter, start: number, end: number): Kthread<number> {
    const words = new Uint32Array(PTRS_PER_PTE * 2)
    const bytes = new Uint8Array(words.length * 4)
    let done = 0
    for (let address = start; address < end;) {
      const base = address - (address % PMD_SIZE)
      const from = (address - base) / PAGE_SIZE
      const to = Math.min(PTRS_PER_PTE, (end - base) / PAGE_SIZE)
      const guard = (k.exploring ? null : mm.mmapLock.tryRead()) ?? (yield* lockForRead(k, mm))
      const { pageTable } = mm
      const isShared = k.release.fault.sharedTableIsNotOnce && pageTable.isShared(pmdIndex(base))
      pagemapWords(k, pageTable.pmd(pmdIndex(base)), from, to, words, this.#shown, isShared)
      if (mm.hasRawEntries) hideRaw(guard, base, from, to, words)
      if (k.settings.softDirty) showSoftDirty(guard, base, from, to, words)
      guard.release()
      const length = (to - from) * WORD
      littleEndian(words.subarray(0, (to - from) * 2), bytes)
      if ((yield* iter.copyTo(bytes.subarray(0, length))) < length) return refuseBuffer(k, iter, 'R-FLT-160')
      done += length
      address = base + to * PAGE_SIZE
    }
    return done
  }
}

/**
 * Raw mappings are passed over, whatever they map.
 * @rule R-PM-6
 */
function hideRaw(guard: MmapReadGuard, base: number, from: number, to: number, words: Uint32Array): void {
  const end = base + to * PAGE_SIZE
  for (let vma = guard.vmas.find(base + from * PAGE_SIZE); vma !== null && vma.start < end; vma = vma.next) {
    if ((vma.flags & VM_PFNMAP) === 0) continue
    const first = Math.max(from, (vma.start - base) / PAGE_SIZE)
    const last = Math.min(to, (vma.end - base) / PAGE_SIZE)
    words.fill(0, (first - from) * 2, (last - from) * 2)
  }
}

/**
 * Soft-dirty: what is mapped, or is nothing, in a mapping that was never cleared, and entries that were written
 * since. Markers stand for no page.
 * @rule R-FLT-163
 */
function showSoftDirty(
  guard: MmapReadGuard,
  base: number,
  from: number,
  to: number,
  words: Uint32Array,
): void {
  const end = base + to * PAGE_SIZE
  const entry = guard.mm.pageTable.pmd(pmdIndex(base))
  for (let vma = guard.vmas.find(base + from * PAGE_SIZE); vma !== null && vma.start < end; vma = vma.next) {
    const fresh = (vma.flags & VM_SOFTDIRTY) !== 0
    const raw = (vma.flags & VM_PFNMAP) !== 0
    const first = Math.max(from, (vma.start - base) / PAGE_SIZE)
    const last = Math.min(to, (vma.end - base) / PAGE_SIZE)
    for (let slot = first; slot < last; slot++) {
      const bits = entry === null || raw ? 0 : entry instanceof HugePmd ? entry.bits : entry.bits[slot]!
      if (isSoftDirty(bits, fresh)) words[(slot - from) * 2 + 1]! |= PM_SOFT_DIRTY
    }
  }
}

function isSoftDirty(bits: number, fresh: boolean): boolean {
  if (bits === 0) return fresh
  if ((bits & PTE_PRESENT) !== 0) return fresh || (bits & PTE_SOFT_CLEAN) === 0
  return (bits & (PTE_SWAP | PTE_MIGRATION | PTE_DEVICE_EXCLUSIVE)) !== 0 && (bits & PTE_SOFT_CLEAN) === 0
}

/** Stores 32-bit halves as the bytes of 64-bit words. */
export function littleEndian(halves: Uint32Array, bytes: Uint8Array): void {
  for (let i = 0, at = 0; i < halves.length; i++, at += 4) {
    const half = halves[i]!
    bytes[at] = half
    bytes[at + 1] = half >>> 8
    bytes[at + 2] = half >>> 16
    bytes[at + 3] = half >>> 24
  }
}

export function misaligned(k: Kernel): number {
  const why = 'position and length must be multiples of 8'
  return refuse(k.current, EINVAL, 'R-FLT-160', { why })
}

/**
 * Opens /proc/PID/pagemap.
 * @returns the open file, -EACCES, or -ESRCH for a task without address space where the release refuses that
 * @rule R-ACC-4
 */
export function* procPagemapOpen(k: Kernel, task: TaskStruct): Kthread<ProcPagemap | number> {
  const mm = yield* mmForReading(k, task)
  if (typeof mm === 'number') return mm
  if (mm === null && k.release.remote.openNeedsMm)
    return refuse(k.current, ESRCH, 'R-ACC-4', { why: 'the task has no address space' })
  return new ProcPagemap(mm, k.current.capable('CAP_SYS_ADMIN'))
}
