import { EACCES, EBUSY, EFAULT, ENODEV, ENOENT, ENOMEM } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { Unmodelled } from '../base/unmodelled.ts'
import { PAGE_SIZE, PTRS_PER_PTE } from '../base/units.ts'
import { PG_ANON, PG_HUGETLB, PG_LRU, PG_SECRETMEM } from '../memory/page-flags.ts'
import { isMappedShared } from './folio-mappers.ts'
import { splitFolioEverywhere } from './folio-split.ts'
import type { Kernel } from './kernel.ts'
import { isolateFolio, migratePages, putBack } from './migrate.ts'
import type { Mm } from './mm.ts'
import { vmaLookup, type MmapReadGuard } from './mmap-lock.ts'
import { HugePmd, PTE_PRESENT, PTE_PROTNONE, PTE_SPECIAL, pmdIndex, pteSlot } from './page-table.ts'
import { accessUser, storeUser } from './user-access.ts'
import { VM_IO, VM_PFNMAP } from './vm-flags.ts'
import type { Vma } from './vma.ts'

/** Which pages, and where to. */
export interface PageList {
  /** an unsigned long */
  readonly count: number
  /** addresses; what lies behind the end of the list cannot be read */
  readonly pages: readonly number[]
  /** where the int array of the answers is in the caller's memory, or an array that can always be written */
  readonly status: number | Int32Array
}

/** pages whose status is found out at once (R-FLT-144) */
const CHUNK = 16
const INT = 4

/**
 * `do_pages_stat`: tells on which node each page is, and changes nothing.
 * @returns 0; -EFAULT
 * @rule R-FLT-144
 */
export function* pagesStat(k: Kernel, mm: Mm, { count, pages, status }: PageList): Kthread<number> {
  for (let done = 0; done < count; done += CHUNK) {
    const n = Math.min(CHUNK, count - done)
    if (done + n > pages.length) return unreadable(k, 'the addresses')
    const answers = new Int32Array(n)
    const guard = mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.read())
    for (let i = 0; i < n; i++) {
      const vma = vmaLookup(guard, pages[done + i]!)
      const pfn = vma === null ? -EFAULT : pageAt(k, guard.mm, vma, pages[done + i]!)
      answers[i] = pfn < 0 ? pfn : k.memory.buddy.nodeOf(pfn)
    }
    guard.release()
    if (!(yield* storeAnswers(k, status, done, answers))) return cannotStore(k)
  }
  return 0
}

/**
 * `do_pages_move`: moves pages to the node each is wanted on. Neighbours of the list that go to the same node are
 * moved together; their status is stored when all of them are there.
 * @param all pages that others map, too
 * @returns 0; how many were not moved or not looked at any more; -EFAULT, -ENODEV, -ENOMEM
 * @rule R-FLT-142
 * @rule R-FLT-145
 */
export function* pagesMove(
  k: Kernel,
  mm: Mm,
  list: PageList,
  nodes: readonly number[],
  all: boolean,
): Kthread<number> {
  const { count, pages } = list
  const batch: Batch = { heads: [], start: 0, end: 0, node: -1 }
  for (let i = 0; i < count; i++) {
    let error = 0
    if (i >= pages.length) error = unreadable(k, 'the addresses')
    else if (i >= nodes.length) error = unreadable(k, 'the nodes')
    else if (!isOnline(k, nodes[i]!))
      error = refuse(k.current, ENODEV, 'R-FLT-145', { page: i, why: 'there is no such node' })
    if (error !== 0) return yield* lastBatch(k, list, batch, error)
    const node = nodes[i]!
    if (batch.node !== node) {
      const moved = yield* finish(k, list, batch)
      if (moved !== 0) return moved > 0 ? moved + count - i : moved
      batch.start = i
      batch.node = node
    }
    batch.end = i
    const guard = mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.read())
    const found = isolateAt(k, guard, pages[i]!, node, all, batch.heads)
    guard.release()
    if (found === QUEUED) {
      batch.end = i + 1
      continue
    }
    if (!(yield* storeStatus(k, list, i, found === 0 ? node : found)))
      return yield* lastBatch(k, list, batch, cannotStore(k))
    const moved = yield* finish(k, list, batch)
    if (moved !== 0) return moved > 0 ? moved + count - i - 1 : moved
  }
  return yield* lastBatch(k, list, batch, 0)
}

/** Neighbours of the list that go to one node: [start, end) of it. */
interface Batch {
  heads: number[]
  start: number
  end: number
  /** -1: nothing is waiting */
  node: number
}

const QUEUED = 1

function isOnline(k: Kernel, node: number): boolean {
  return node >= 0 && node < k.memory.buddy.nodes
}

function unreadable(k: Kernel, what: string): number {
  return refuse(k.current, EFAULT, 'R-FLT-144', { why: `${what} cannot be read` })
}

function cannotStore(k: Kernel): number {
  return refuse(k.current, EFAULT, 'R-FLT-144', { why: 'a status cannot be stored' })
}

/** What is waiting is moved whatever has gone wrong; the error is the result. */
function* lastBatch(k: Kernel, list: PageList, batch: Batch, error: number): Kthread<number> {
  const moved = yield* finish(k, list, batch)
  return error === 0 ? moved : error
}

/** `move_pages_and_store_status`. @returns 0; folios that stay where they are; -ENOMEM, -EFAULT */
function* finish(k: Kernel, list: PageList, batch: Batch): Kthread<number> {
  const { heads, start, end, node } = batch
  batch.heads = []
  batch.node = -1
  if (heads.length === 0) return 0
  const left = yield* moveToNode(k, heads, node)
  if (left !== 0) return left
  for (let i = start; i < end; i++) if (!(yield* storeStatus(k, list, i, node))) return cannotStore(k)
  return 0
}

function* storeStatus(k: Kernel, { status }: PageList, i: number, value: number): Kthread<boolean> {
  // an int is stored as a whole or not at all
  if (typeof status === 'number' && (status + i * INT) % PAGE_SIZE > PAGE_SIZE - INT) {
    const last = status + i * INT + INT - 1
    if (!(yield* accessUser(k, k.current.mm!, last, true, 'kernel')).ok) return false
  }
  return yield* storeAnswers(k, status, i, Int32Array.of(value))
}

/** @returns false: not all could be stored */
function* storeAnswers(
  k: Kernel,
  status: PageList['status'],
  first: number,
  answers: Int32Array,
): Kthread<boolean> {
  if (typeof status !== 'number') {
    status.set(answers, first)
    return true
  }
  const bytes = new Uint8Array(answers.buffer)
  return (yield* storeUser(k, k.current.mm!, status + first * INT, bytes, 'kernel')).ok
}

/**
 * `add_folio_for_migration`: takes the folio at an address off its list.
 * @returns QUEUED; 0: it is on the node already; -EFAULT, -ENOENT, -EACCES, -EBUSY
 * @rule R-FLT-142
 */
function isolateAt(
  k: Kernel,
  guard: MmapReadGuard,
  address: number,
  node: number,
  all: boolean,
  heads: number[],
): number {
  const { memory } = k
  const { frames } = memory
  const vma = vmaLookup(guard, address)
  if (vma === null || (vma.flags & (VM_IO | VM_PFNMAP)) !== 0) return -EFAULT
  const pfn = pageAt(k, guard.mm, vma, address)
  if (pfn < 0) return pfn
  if (memory.buddy.nodeOf(pfn) === node) return 0
  if (!all && isShared(k, guard.mm, pfn)) return -EACCES
  const head = frames.head(pfn)
  const tailRefused = !k.release.mm.movePagesByFolio && frames.has(head, PG_HUGETLB)
  if (tailRefused && pfn !== head) return -EACCES
  if (!isolateFolio(k, head)) return -EBUSY
  heads.push(head)
  return QUEUED
}

/** Whether others would notice the move. */
function isShared(k: Kernel, mm: Mm, pfn: number): boolean {
  const { frames } = k.memory
  const head = frames.head(pfn)
  if (!k.release.mm.movePagesByFolio || !frames.isLarge(head)) return frames.pageMapcount(pfn) > 1
  return frames.has(head, PG_HUGETLB) ? frames.entireMapcount(head) > 1 : isMappedShared(k, mm, head)
}

/**
 * The page mapped at an address.
 * @returns its pfn; -ENOENT; -EFAULT for the zero page
 * @throws Unmodelled for the pages of vdso and vvar
 * @rule R-FLT-144
 */
function pageAt(k: Kernel, mm: Mm, vma: Vma, address: number): number {
  const entry = mm.pageTable.pmd(pmdIndex(address))
  const slot = pteSlot(address)
  const huge = entry instanceof HugePmd
  const bits = entry === null ? 0 : huge ? entry.bits : entry.bits[slot]!
  const { frames } = k.memory
  const byFolio = k.release.mm.movePagesByFolio
  if (bits === 0) {
    if (vma.specialName !== null) throw new Unmodelled('the pages of vdso and vvar', 'R-AS-157')
    return byFolio || mayAppear(vma) ? -ENOENT : -EFAULT
  }
  if ((bits & PTE_PRESENT) === 0) return -ENOENT
  const pfn = huge ? entry.pfn + slot : entry!.pfn[slot]!
  if (pfn === k.zeroPfn || k.isHugeZero(pfn)) return -EFAULT
  if ((bits & PTE_SPECIAL) !== 0) return byFolio ? -ENOENT : -EFAULT
  if (!byFolio && ((bits & PTE_PROTNONE) !== 0 || frames.has(pfn, PG_SECRETMEM))) return -ENOENT
  return pfn
}

/** A core dump would fault to find out (R-GUP-23). */
function mayAppear(vma: Vma): boolean {
  if (vma.isHugetlb) return true
  return !vma.isAnonymous && vma.file !== null && vma.file.mapping.kind.faultable
}

/**
 * `do_move_pages_to_node`. A huge page part of which is no longer mapped is split before it moves, one for which
 * there is no room on the node is split when that shows; its pages move one by one then.
 * @returns how many folios stay where they are; -ENOMEM
 * @rule R-FLT-145
 */
function* moveToNode(k: Kernel, heads: readonly number[], node: number): Kthread<number> {
  const splits = k.release.mm.movePagesByFolio
  const whole: number[] = []
  const pieces: number[] = []
  let stays = 0
  for (const head of heads) {
    if (!splits || !isPartiallyMapped(k, head)) whole.push(head)
    else {
      putBack(k, head)
      if (splitFolioEverywhere(k, head)) isolatePieces(k, head, pieces)
      else stays++
    }
  }
  const { left, noRoom, noMemory } = yield* migratePages(k, whole, node)
  stays += left.length - noRoom.length
  let failed = noMemory
  for (const head of noRoom) {
    if (!splits || !splitFolioEverywhere(k, head)) {
      failed = true
      continue
    }
    const own: number[] = []
    isolatePieces(k, head, own)
    if ((yield* migratePages(k, own, node)).left.length > 0) stays++
  }
  const rest = yield* migratePages(k, pieces, node)
  stays += rest.left.length
  if (!failed && !rest.noMemory) return stays
  return refuse(k.current, ENOMEM, 'R-FLT-145', { why: `there is no memory left on node ${node}` })
}

/** An anonymous huge page of which some pages are mapped nowhere. */
function isPartiallyMapped(k: Kernel, head: number): boolean {
  const { frames } = k.memory
  if (!frames.isLarge(head) || !frames.has(head, PG_ANON) || frames.entireMapcount(head) > 0) return false
  const end = head + frames.nrPages(head)
  for (let pfn = head; pfn < end; pfn++) if (frames.mapcount[pfn] === 0) return true
  return false
}

/** What is left of a folio that was split. */
function isolatePieces(k: Kernel, first: number, pieces: number[]): void {
  const { frames } = k.memory
  for (let pfn = first; pfn < first + PTRS_PER_PTE; pfn++)
    if (frames.has(pfn, PG_LRU) && isolateFolio(k, pfn)) pieces.push(pfn)
}
