import { EAGAIN, EBUSY, EINVAL, ENOMEM } from '../base/errno.ts'
import { PREEMPT, type Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE, pageAlignDown } from '../base/units.ts'
import { PG_ANON, PG_ANON_EXCLUSIVE, PG_SWAPCACHE, PG_UPTODATE } from '../memory/page-flags.ts'
import { FOLL_FORCE, FOLL_SPLIT_PMD, FOLL_WRITE } from '../mm/gup-flags.ts'
import { PageArray, getUserPageVmaRemote, getUserPages, getUserPagesRemote } from '../mm/gup.ts'
import type { Kernel } from '../mm/kernel.ts'
import { unwatched, vmaLookup, type MmapReadGuard } from '../mm/mmap-lock.ts'
import { invalidateRange } from '../mm/mmu-notifier.ts'
import { pteOf, replacePage } from '../mm/replace-page.ts'
import { anonVmaPrepare } from '../mm/rmap.ts'
import { putPage } from '../mm/unpin.ts'
import { presentPfn } from '../mm/user-access.ts'
import { VM_SHARED, VM_UFFD_MISSING, VM_WRITE } from '../mm/vm-flags.ts'
import type { Vma } from '../mm/vma.ts'
import { kmalloc } from './device/charge.ts'
import { addressOfOffset, logUprobe, uprobeTable, type Uprobe } from './uprobe-table.ts'

/*
 * @caller uprobes
 * @entry tracefs uprobe_events, perf_event_open(2); mmap(2) and others on files that are probed
 * @gup get_user_pages_remote FOLL_FORCE, with FOLL_SPLIT_PMD to install and FOLL_WRITE from 6.18 on; FOLL_WRITE for counters; get_user_pages to look at a trap from 6.12 on
 * @lock mmap_lock for write, kept; for read where a trap is looked at
 * @budget none
 * @errno of the page; EINVAL when a counter would go negative; mmap(2) hides it
 * @release at once
 * @test tests/task/uprobes.test.ts
 */

/** `UPROBE_SWBP_INSN` of x86: the one byte of int3. */
export const BREAKPOINT = 0xcc

/** What one call of `uprobeWriteOpcode` keeps between its attempts. */
interface Attempts {
  /** the counter has been changed */
  counted: boolean
  /** the page that was met first, 0: none yet */
  first: number
}

/**
 * `uprobe_write_opcode`: puts the breakpoint of a uprobe at an address, or the original instruction back. Needs
 * `mmap_lock`, which is kept.
 * @param address of the place in a mapping that shows it
 * @returns 0, also where there was nothing to do; -errno, and the counter as it was (but R-UPR-11)
 * @rule R-UPR-10
 */
export function* uprobeWriteOpcode(
  k: Kernel,
  guard: MmapReadGuard,
  uprobe: Uprobe,
  address: number,
  install: boolean,
): Kthread<number> {
  const { vmaFrom, noPageIsDone, writesInPlace } = k.release.uprobes
  if (writesInPlace) return yield* writeInPlace(k, guard, uprobe, address, install)
  const attempts: Attempts = { counted: false, first: 0 }
  const flags = install ? FOLL_FORCE | FOLL_SPLIT_PMD : FOLL_FORCE
  for (;;) {
    let page: number
    // what GUP would have put into its array
    const given = vmaFrom === 'gup' ? vmaLookup(guard, address) : null
    if (vmaFrom === 'helper') page = yield* getUserPageVmaRemote(k, guard, address, flags)
    else {
      const pages = new PageArray(1)
      const got = yield* getUserPagesRemote(k, guard.mm, address, 1, flags, pages, guard)
      page = got > 0 ? pages.pfns[0]! : got
    }
    // @rule R-UPR-11
    if (page < 0 || (page === 0 && noPageIsDone)) return page
    // @rule R-UPR-31
    // @rule R-COM-20
    const vma = given ?? vmaLookup(guard, address)
    const result =
      vma === null
        ? noVma(k, address)
        : yield* replaceByCopy(k, guard, vma, uprobe, address, page, install, attempts)
    putPage(k, page)
    if (result === -EAGAIN) continue
    if (result < 0 && install && attempts.counted) yield* undoCount(k, guard, uprobe, -1)
    return result
  }
}

/** Steps 3 to 11 with the page in hand. */
function* replaceByCopy(
  k: Kernel,
  guard: MmapReadGuard,
  vma: Vma,
  uprobe: Uprobe,
  address: number,
  page: number,
  install: boolean,
  attempts: Attempts,
): Kthread<number> {
  const { memory, release } = k
  const { frames, contents } = memory
  if (isBreakpoint(k, page, address) === install) return 0
  if (page === k.zeroPfn && release.uprobes.refusesZeroPage)
    return refuse(k.current, EINVAL, 'R-UPR-10', { address, why: 'the zero page is mapped there' })
  if (!install && frames.isLarge(page)) return stillLarge(k, address)
  const refused = yield* countOnce(k, guard, uprobe, install ? 1 : -1, attempts)
  if (refused < 0) return refused
  // nothing to restore; the counter stays decremented
  if (!install && !frames.has(frames.head(page), PG_ANON)) return 0
  anonVmaPrepare(k, vma, guard.mm)
  let copy = memory.allocFolio(0, { movable: true })
  if (copy === 0)
    return refuse(k.current, ENOMEM, 'R-UPR-10', { address, why: 'no free page is left for the copy' })
  if (page !== k.zeroPfn) contents.copy(page, copy)
  contents.write(copy, address % PAGE_SIZE, opcode(uprobe, install))
  if (!install && isCachedAs(k, vma, address, copy)) {
    memory.put(copy)
    copy = 0
  }
  if (k.exploring) yield PREEMPT
  const result = replacePage(k, guard.mm, vma, pageAlignDown(address), page, copy)
  if (result < 0 && copy !== 0) memory.put(copy)
  return result
}

/**
 * 6.18: the write fault of GUP makes the page the process's own, and the byte in it is changed.
 * @rule R-UPR-13
 */
function* writeInPlace(
  k: Kernel,
  guard: MmapReadGuard,
  uprobe: Uprobe,
  address: number,
  install: boolean,
): Kthread<number> {
  const attempts: Attempts = { counted: false, first: 0 }
  let flags = install ? FOLL_FORCE | FOLL_WRITE | FOLL_SPLIT_PMD : FOLL_FORCE
  let result: number
  do {
    if (vmaLookup(guard, address)?.isCow === false) {
      k.warnOnce('uprobe-not-cow', 'uprobes: the mapping has no pages of its own')
      return refuse(k.current, EINVAL, 'R-UPR-13', { address, why: 'the mapping has no pages of its own' })
    }
    const page: number = yield* getUserPageVmaRemote(k, guard, address, flags)
    if (page < 0) {
      result = page
      break
    }
    result = yield* patch(k, guard, uprobe, address, page, install, attempts)
    putPage(k, page)
    flags |= FOLL_WRITE | FOLL_SPLIT_PMD
  } while (result === -EAGAIN)
  if (result < 0 && attempts.counted) yield* undoCount(k, guard, uprobe, install ? -1 : 1)
  return result
}

/** One attempt to change the byte; -EAGAIN when the page has to become the process's own first. */
function* patch(
  k: Kernel,
  guard: MmapReadGuard,
  uprobe: Uprobe,
  address: number,
  page: number,
  install: boolean,
  attempts: Attempts,
): Kthread<number> {
  const { mm } = guard
  const { frames, contents } = k.memory
  if (attempts.first === 0) attempts.first = page
  if (isBreakpoint(k, page, address) === install) return 0
  const refused = yield* countOnce(k, guard, uprobe, install ? 1 : -1, attempts)
  if (refused < 0) return refused
  if (!install && !frames.has(frames.head(page), PG_ANON)) return 0
  if (k.exploring) yield PREEMPT
  const at = pageAlignDown(address)
  if (pteOf(mm, at, page) === null || !frames.has(page, PG_ANON_EXCLUSIVE)) return -EAGAIN
  if (mm.notifiers !== null) invalidateRange(mm, at, at + PAGE_SIZE)
  contents.write(page, address % PAGE_SIZE, opcode(uprobe, install))
  const vma = vmaLookup(guard, address)
  if (install || vma === null) return 0
  // @rule R-UPR-14
  const watched = (vma.flags & VM_UFFD_MISSING) !== 0
  // a copy that was made just now is held by the list of fresh pages of this processor
  const fresh = page !== attempts.first
  if (!watched && !fresh && onlyMapped(k, page) && isCachedAs(k, vma, address, page))
    return replacePage(k, mm, vma, at, page, 0)
  return 0
}

/** Nobody has the page but its mappings, the swap cache and this call. */
function onlyMapped(k: Kernel, page: number): boolean {
  const { frames } = k.memory
  const head = frames.head(page)
  const inSwapCache = frames.has(head, PG_SWAPCACHE) ? frames.nrPages(head) : 0
  return frames.refcount[head]! === frames.totalMapcount(head) + inSwapCache + 1
}

/** The page cache has just these bytes for the place, up to date. */
function isCachedAs(k: Kernel, vma: Vma, address: number, page: number): boolean {
  const { frames, contents } = k.memory
  const cached = vma.file!.mapping.pages.get(vma.pageIndex(address))
  return cached !== 0 && frames.has(frames.head(cached), PG_UPTODATE) && contents.equal(page, cached)
}

function isBreakpoint(k: Kernel, page: number, address: number): boolean {
  const byte = new Uint8Array(1)
  k.memory.contents.read(page, address % PAGE_SIZE, byte)
  return byte[0] === BREAKPOINT
}

function opcode({ instruction }: Uprobe, install: boolean): Uint8Array {
  if (install) return new Uint8Array([BREAKPOINT])
  if (instruction === null) throw new Error('a uprobe without its instruction has no breakpoint to remove')
  return instruction.subarray(0, 1)
}

/** @rule R-COM-21 */
function noVma(k: Kernel, address: number): number {
  k.warnOnce('uprobe-no-vma', 'uprobes: a page was had, but no mapping is there')
  return refuse(k.current, EINVAL, 'R-COM-21', { address, why: 'a page was had, but no mapping is there' })
}

function stillLarge(k: Kernel, address: number): number {
  k.warnOnce('uprobe-compound', 'uprobes: a breakpoint in a large page')
  return refuse(k.current, EINVAL, 'R-UPR-10', { address, why: 'the breakpoint lies in a large page' })
}

/**
 * Every breakpoint that is put or removed counts, however many there are in a process.
 * @rule R-UPR-24
 */
function* countOnce(
  k: Kernel,
  guard: MmapReadGuard,
  uprobe: Uprobe,
  delta: 1 | -1,
  attempts: Attempts,
): Kthread<number> {
  if (uprobe.refCtrOffset === 0 || attempts.counted) return 0
  const result = yield* updateRefCtr(k, guard, uprobe, delta)
  if (result === 0) attempts.counted = true
  return result
}

/** Takes back what `countOnce` did; the reason of the failure stays what it was. */
function* undoCount(k: Kernel, guard: MmapReadGuard, uprobe: Uprobe, delta: 1 | -1): Kthread<void> {
  const { refusal } = k.current
  yield* updateRefCtr(k, guard, uprobe, delta)
  k.current.refusal = refusal
}

/**
 * `find_ref_ctr_vma`: where the counter of a uprobe can be written, 0: nowhere.
 * @rule R-UPR-20
 */
function refCtrAddress(guard: MmapReadGuard, { mapping, refCtrOffset }: Uprobe): number {
  let first = Infinity
  for (const vma of mapping.mappers) {
    if (vma.mm !== guard.mm || (vma.flags & (VM_WRITE | VM_SHARED)) !== VM_WRITE) continue
    const address = addressOfOffset(vma, refCtrOffset)
    // a mapping that is going has left the tree already
    const there = address !== null && address < first ? vmaLookup(guard, address) : null
    if (there !== null && unwatched(there) === vma) first = address!
  }
  return first === Infinity ? 0 : first
}

/**
 * `update_ref_ctr`: one breakpoint more or less. Where the counter is not mapped yet it is owed.
 * @returns 0 or -errno
 * @rule R-UPR-22
 */
function* updateRefCtr(k: Kernel, guard: MmapReadGuard, uprobe: Uprobe, delta: 1 | -1): Kthread<number> {
  const { mm } = guard
  const table = uprobeTable(k)!
  const address = refCtrAddress(guard, uprobe)
  let result = 0
  if (address !== 0) {
    result = yield* updateRefCtrAt(k, guard, address, delta)
    if (result < 0) logUprobe(k, `ref_ctr ${delta > 0 ? 'increment' : 'decrement'} failed`)
    if (delta > 0) return result
  }
  if (delta < 0) {
    // @rule R-UPR-25
    table.forget(uprobe, mm)
    return result
  }
  const noMemory = table.isDelayed(uprobe, mm) ? 0 : kmalloc(k, 'R-UPR-22')
  if (noMemory === 0) table.delay(uprobe, mm)
  return noMemory
}

/**
 * `__update_ref_ctr`: adds to the 16-bit counter at an address. The page is not marked dirty; the write fault did.
 * @returns 0; -EINVAL for no address, no change or a counter that would go negative; -EBUSY; the errno of GUP
 * @rule R-UPR-21
 */
export function* updateRefCtrAt(
  k: Kernel,
  guard: MmapReadGuard,
  address: number,
  delta: number,
): Kthread<number> {
  if (address === 0 || delta === 0)
    return refuse(k.current, EINVAL, 'R-UPR-21', { address, why: 'there is nothing to count' })
  const pages = new PageArray(1)
  const got = yield* getUserPagesRemote(k, guard.mm, address, 1, FOLL_WRITE, pages, guard)
  if (got < 0) return got
  if (got === 0) return refuse(k.current, EBUSY, 'R-UPR-21', { address, why: 'no page and no error' })
  const page = pages.pfns[0]!
  const word = new Uint8Array(2)
  const view = new DataView(word.buffer)
  k.memory.contents.read(page, address % PAGE_SIZE, word)
  const sum = view.getInt16(0, true) + delta
  let result = 0
  if (sum < 0) {
    logUprobe(k, 'ref_ctr going negative')
    result = refuse(k.current, EINVAL, 'R-UPR-21', { address, why: 'the counter would become negative' })
  } else {
    view.setInt16(0, sum, true)
    k.memory.contents.write(page, address % PAGE_SIZE, word)
  }
  putPage(k, page)
  return result
}

/**
 * `is_trap_at_addr`: whether the current task has met a trap that is no uprobe's.
 * @param guard of the current task's mm
 * @returns 1 a trap, 0 none, -errno
 * @rule R-UPR-30
 */
export function* isTrapAtAddr(k: Kernel, guard: MmapReadGuard, address: number): Kthread<number> {
  // a plain read that takes no fault
  const present = presentPfn(guard.mm, address)
  if (present !== 0) return isBreakpoint(k, present, address) ? 1 : 0
  const pages = new PageArray(1)
  const got = k.release.uprobes.trapOfCurrent
    ? yield* getUserPages(k, guard, address, 1, FOLL_FORCE, pages)
    : yield* getUserPagesRemote(k, guard.mm, address, 1, FOLL_FORCE, pages, guard)
  if (got < 0) return got
  const page = pages.pfns[0]!
  const trap = isBreakpoint(k, page, address) ? 1 : 0
  putPage(k, page)
  return trap
}
