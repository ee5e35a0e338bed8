import { GUP_PIN_COUNTING_BIAS } from '../memory/frames.ts'
import {
  ORDER_SHIFT,
  PG_ANON,
  PG_ANON_EXCLUSIVE,
  PG_BUDDY,
  PG_HUGETLB,
  PG_PRIVATE,
  PG_RESERVED,
  PG_SWAPCACHE,
} from '../memory/page-flags.ts'
import { PAGE_SIZE, PMD_SIZE, PTRS_PER_PTE } from '../base/units.ts'
import { keepsMapcount } from './device-exclusive-entry.ts'
import type { AddressSpace } from './file.ts'
import { auditHugetlb } from './hugetlb-audit.ts'
import type { Kernel, UserStruct } from './kernel.ts'
import type { Mm } from './mm.ts'
import { tracksSoftDirty } from './page-prot.ts'

import {
  HugePmd,
  PTE_DEVICE_EXCLUSIVE,
  PTE_MIGRATION,
  PTE_PRESENT,
  PTE_PROTNONE,
  PTE_SOFT_CLEAN,
  PTE_SPECIAL,
  PTE_SWAP,
  PTE_WRITE,
  type PmdTable,
} from './page-table.ts'
import type { Vma } from './vma.ts'
import {
  VM_ACCOUNT,
  VM_EXEC,
  VM_GROWSDOWN,
  VM_LOCKED,
  VM_MIXEDMAP,
  VM_PFNMAP,
  VM_SHARED,
  VM_WRITE,
} from './vm-flags.ts'

/** One counter that is not what it must be. */
export interface AuditFinding {
  readonly what: string
  readonly expected: number
  readonly actual: number
}

/** What the books of every frame should say, recomputed. */
interface Ledger {
  readonly refs: Int32Array
  readonly pins: Int32Array
  readonly maps: Int32Array
  readonly entire: Int32Array
  /** entries and files that name a swap slot */
  readonly slots: Map<number, number>
  /** where a shared table of hugetlb entries was met first, and how often it was met */
  readonly sharedTables: Map<PmdTable, { readonly owner: string; met: number }>
  /** pages of hugetlb mappings, and what the address spaces have counted */
  readonly hugetlb: { mapped: number; counted: number }
  /** pages of VM_LOCKED VMAs */
  readonly lockedVmas: Map<Mm, number>
}

/**
 * Recomputes from scratch what every counter must be and returns the differences by name: references =
 * mappings + page cache + pins × bias + named holders; mapcounts = page-table entries; charges = live
 * registrations; free + used = total; no lock held; page cache ⇄ frames ⇄ reverse map agree.
 * Reads everything, changes nothing. An empty array means the books balance.
 * @rule R-FLT-4
 * @rule R-HUGE-4
 */
export function audit(kernel: Kernel): AuditFinding[] {
  const findings: AuditFinding[] = []
  const expect = (what: string, expected: number, actual: number): void => {
    if (expected !== actual) findings.push({ what, expected, actual })
  }
  const { frames } = kernel.memory
  const ledger: Ledger = {
    refs: new Int32Array(frames.count),
    pins: new Int32Array(frames.count),
    maps: new Int32Array(frames.count),
    entire: new Int32Array(frames.count),
    slots: new Map(),
    sharedTables: new Map(),
    hugetlb: { mapped: 0, counted: kernel.hugetlbPagesLost },
    lockedVmas: new Map(),
  }
  for (const mm of kernel.mms) auditMm(kernel, mm, ledger, expect)
  auditSharedTables(kernel, ledger, expect)
  for (const mapping of kernel.mappings.values()) auditMapping(kernel, mapping, ledger, expect)
  auditHolders(kernel, ledger, expect)
  auditSwap(kernel, ledger, expect)
  auditFrames(kernel, ledger, expect)
  auditHugetlb(kernel, expect)
  expect('dup_mmap_sem held', 0, kernel.dupMmapSem.locked ? 1 : 0)
  expect(
    'kernel: committed pages',
    [...kernel.mms, ...kernel.mappings.values()].reduce((sum, owner) => sum + owner.committed, 0),
    kernel.committed,
  )
  return findings
}

type Expect = (what: string, expected: number, actual: number) => void

function auditMm(kernel: Kernel, mm: Mm, ledger: Ledger, expect: Expect): void {
  const name = `mm ${mm.name}`
  expect(`${name}: mmap_lock held`, 0, mm.mmapLock.locked ? 1 : 0)
  expect(`${name}: mappings that uprobes have not looked at`, 0, mm.uprobeWork?.length ?? 0)
  expect(`${name}: write_protect_seq odd`, 0, mm.writeProtectSeq & 1)
  if (mm.mmapLock.locked) return
  const guard = mm.mmapLock.tryRead()!
  ledger.lockedVmas.set(mm, auditVmas(mm, name, guard.vmas.first, guard.vmas.size, expect))
  guard.release()
  auditPageTable(kernel, mm, name, ledger, expect)
}

/** @returns pages of VM_LOCKED VMAs */
function auditVmas(mm: Mm, name: string, first: Vma | null, size: number, expect: Expect): number {
  let count = 0
  let total = 0
  let data = 0
  let exec = 0
  let stack = 0
  let account = 0
  let locked = 0
  let previousEnd = 0
  for (let vma = first; vma !== null; vma = vma.next) {
    const where = `${name}: VMA ${vma.start.toString(16)}`
    const { flags, pages } = vma
    count++
    total += pages
    if ((flags & VM_ACCOUNT) !== 0) account += pages
    if ((flags & VM_LOCKED) !== 0) locked += pages
    // @rule R-AS-141
    if ((flags & VM_EXEC) !== 0 && (flags & (VM_WRITE | VM_GROWSDOWN)) === 0) exec += pages
    else if ((flags & VM_GROWSDOWN) !== 0) stack += pages
    else if ((flags & (VM_WRITE | VM_SHARED)) === VM_WRITE) data += pages
    expect(`${where}: freed but in the tree`, 0, vma.freed ? 1 : 0)
    expect(`${where}: overlaps the previous one`, 0, vma.start < previousEnd ? 1 : 0)
    expect(`${where}: empty`, 0, vma.start >= vma.end ? 1 : 0)
    previousEnd = vma.end
    if (vma.file !== null)
      expect(`${where}: in its file's mapper set`, 1, vma.file.mapping.mappers.has(vma) ? 1 : 0)
    if (vma.anonVma !== null)
      expect(`${where}: own anon_vma in its chain`, 1, vma.anonVmaChain.includes(vma.anonVma) ? 1 : 0)
    for (const anonVma of vma.anonVmaChain) {
      expect(`${where}: known to anon_vma ${anonVma.id}`, 1, anonVma.vmas.has(vma) ? 1 : 0)
    }
  }
  expect(`${name}: VMAs in the tree`, count, size)
  expect(`${name}: map_count`, count, mm.mapCount)
  expect(`${name}: total_vm`, total, mm.totalVm)
  expect(`${name}: data_vm`, data, mm.dataVm)
  expect(`${name}: exec_vm`, exec, mm.execVm)
  expect(`${name}: stack_vm`, stack, mm.stackVm)
  expect(`${name}: committed pages`, account, mm.committed)
  return locked
}

function auditPageTable(kernel: Kernel, mm: Mm, name: string, ledger: Ledger, expect: Expect): void {
  const { frames } = kernel.memory
  const rss = { anon: 0, file: 0, shmem: 0, hugetlb: 0, swap: 0 }
  let leaves = 0
  const countPages = (pfn: number, pages: number): void => {
    const head = frames.head(pfn)
    if (frames.has(head, PG_HUGETLB)) rss.hugetlb += pages
    else if (frames.has(pfn, PG_ANON) || frames.has(head, PG_ANON)) rss.anon += pages
    else if (kernel.mappings.get(frames.mapping[head]!)?.kind.shmem === true) rss.shmem += pages
    else rss.file += pages
  }
  for (
    let index = mm.pageTable.nextPmd(0, 2 ** 26);
    index >= 0;
    index = mm.pageTable.nextPmd(index + 1, 2 ** 26)
  ) {
    const entry = mm.pageTable.pmd(index)!
    const where = `${name}: PMD ${index.toString(16)}`
    if (entry instanceof HugePmd) {
      if (kernel.isHugeZero(entry.pfn)) continue
      if (mm.pageTable.isShared(index) && !meetsFirst(mm, index, ledger)) continue
      if ((entry.bits & PTE_PRESENT) === 0) {
        if ((entry.bits & PTE_MIGRATION) !== 0 && entry.pfn !== 0) countPages(entry.pfn, PTRS_PER_PTE)
        continue
      }
      const head = frames.head(entry.pfn)
      // a page of 1 GiB has many entries, which are one mapping
      if (head === entry.pfn) {
        ledger.refs[head]!++
        ledger.entire[head]!++
      }
      countPages(entry.pfn, PTRS_PER_PTE)
      continue
    }
    leaves++
    let used = 0
    for (let slot = 0; slot < PTRS_PER_PTE; slot++) {
      const bits = entry.bits[slot]!
      if (bits === 0) continue
      used++
      if ((bits & PTE_SWAP) !== 0) {
        rss.swap++
        countSlot(ledger, entry.pfn[slot]!)
      }
      const pfn = entry.pfn[slot]!
      if ((bits & PTE_MIGRATION) !== 0 && pfn !== 0) countPages(pfn, 1)
      if ((bits & PTE_DEVICE_EXCLUSIVE) !== 0) {
        // @rule R-DEX-3
        ledger.refs[frames.head(pfn)]!++
        if (keepsMapcount(kernel)) ledger.maps[pfn]!++
        countPages(pfn, 1)
        expect(
          `${where} slot ${slot}: what a device has to itself is anonymous`,
          1,
          frames.has(frames.head(pfn), PG_ANON) ? 1 : 0,
        )
      }
      if ((bits & PTE_SPECIAL) !== 0 && pfn !== kernel.zeroPfn)
        expect(`${where} slot ${slot}: a raw entry stands in a raw mapping`, 1, isRaw(mm, index, slot))
      if ((bits & PTE_PRESENT) === 0) continue
      // @rule R-FLT-14
      if ((bits & (PTE_PROTNONE | PTE_WRITE)) === (PTE_PROTNONE | PTE_WRITE))
        expect(`${where} slot ${slot}: what the processor does not see is not writable`, 1, 0)
      // @rule R-FLT-163
      if ((bits & (PTE_SOFT_CLEAN | PTE_WRITE)) === (PTE_SOFT_CLEAN | PTE_WRITE))
        expect(`${where} slot ${slot}: a write to a clean page faults`, 0, isTracked(mm, index, slot))
      if ((bits & PTE_SPECIAL) !== 0) continue
      ledger.maps[pfn]!++
      ledger.refs[frames.head(pfn)]!++
      countPages(pfn, 1)
      // @rule R-FLT-9
      if ((bits & PTE_WRITE) !== 0 && frames.has(pfn, PG_ANON) && !frames.has(pfn, PG_ANON_EXCLUSIVE))
        expect(`${where} slot ${slot}: writable anonymous page is exclusive`, 1, 0)
    }
    expect(`${where}: used entries`, used, entry.used)
  }
  expect(`${name}: leaf tables`, leaves, mm.pageTable.leaves)
  expect(`${name}: RssAnon`, rss.anon, mm.rssAnon)
  expect(`${name}: RssFile`, rss.file, mm.rssFile)
  expect(`${name}: RssShmem`, rss.shmem, mm.rssShmem)
  ledger.hugetlb.mapped += rss.hugetlb
  ledger.hugetlb.counted += mm.hugetlbPages
  // who shares tables counts what he has faulted in (R-HUGE-56)
  if (!kernel.sharesTables) expect(`${name}: HugetlbPages`, rss.hugetlb, mm.hugetlbPages)
  expect(`${name}: VmSwap`, rss.swap, mm.swapents)
}

/** Whether a place belongs to a mapping of raw frames, as a number. */
function isRaw(mm: Mm, pmd: number, slot: number): number {
  const vma = mm.mmapLock.vmaOfRmap(pmd * PMD_SIZE + slot * PAGE_SIZE)
  return vma !== null && (vma.flags & (VM_PFNMAP | VM_MIXEDMAP)) !== 0 ? 1 : 0
}

/** Whether writes to a place are waited for, as a number. */
function isTracked(mm: Mm, pmd: number, slot: number): number {
  const vma = mm.mmapLock.vmaOfRmap(pmd * PMD_SIZE + slot * PAGE_SIZE)
  return vma !== null && tracksSoftDirty(vma) ? 1 : 0
}

/** Entries of a shared table count once: where it is met first. */
function meetsFirst(mm: Mm, index: number, { sharedTables }: Ledger): boolean {
  const table = mm.pageTable.tableOf(index)!
  const place = `${mm.id}:${index >>> 9}`
  let seen = sharedTables.get(table)
  if (seen === undefined) sharedTables.set(table, (seen = { owner: place, met: 0 }))
  return seen.owner === place
}

/** @rule R-HUGE-56 */
function auditSharedTables(kernel: Kernel, { sharedTables, hugetlb }: Ledger, expect: Expect): void {
  expect('HugetlbPages of all processes', hugetlb.mapped, hugetlb.counted)
  for (const mm of kernel.mms) {
    mm.pageTable.forEachTable((table) => {
      const seen = sharedTables.get(table)
      if (seen !== undefined) seen.met++
    })
  }
  for (const [table, { owner, met }] of sharedTables)
    expect(`shared table ${owner}: places that have it`, met, table.sharers)
}

function auditMapping(kernel: Kernel, mapping: AddressSpace, ledger: Ledger, expect: Expect): void {
  const { frames } = kernel.memory
  const name = `file ${mapping.id} (${mapping.kind.name})`
  mapping.pages.forEach((index, pfn) => {
    const head = frames.head(pfn)
    const isHugetlb = frames.has(head, PG_HUGETLB)
    ledger.refs[head]! += isHugetlb && kernel.release.fault.hugetlbCachePerPage ? frames.nrPages(head) : 1
    if (pfn === head && frames.has(head, PG_PRIVATE)) ledger.refs[head]!++
    expect(`${name}: page ${index} belongs to it`, mapping.id, frames.mapping[pfn] || frames.mapping[head]!)
    if (!isHugetlb) expect(`${name}: page ${index} has its index`, index >>> 0, frames.index[pfn]!)
  })
  for (const [index, slot] of mapping.swapped) {
    countSlot(ledger, slot)
    expect(`${name}: page ${index} is cached and swapped out`, 0, mapping.pages.get(index))
  }
  for (const vma of mapping.mappers) expect(`${name}: mapper was freed`, 0, vma.freed ? 1 : 0)
}

function countSlot(ledger: Ledger, slot: number): void {
  ledger.slots.set(slot, (ledger.slots.get(slot) ?? 0) + 1)
}

function auditSwap(kernel: Kernel, ledger: Ledger, expect: Expect): void {
  const { frames } = kernel.memory
  const { swap } = kernel
  let used = 0
  swap.forEachSlot((slot, count, pfn) => {
    used++
    expect(`swap slot ${slot}: entries`, ledger.slots.get(slot) ?? 0, count)
    ledger.slots.delete(slot)
    if (pfn === 0) return
    expect(`swap slot ${slot}: its cached page knows it`, slot, swap.slotOf(pfn))
    expect(`pfn ${pfn}: marked as in the swap cache`, 1, frames.has(pfn, PG_SWAPCACHE) ? 1 : 0)
  })
  expect('swap: slots in use', used, swap.used)
  for (const [slot, entries] of ledger.slots) expect(`swap slot ${slot}: named but free`, 0, entries)
}

function auditHolders(kernel: Kernel, ledger: Ledger, expect: Expect): void {
  const { frames } = kernel.memory
  const locked = new Map<UserStruct, number>()
  const pinned = new Map<Mm, number>()
  const mmLocked = new Map<Mm, number>()
  for (const holder of kernel.holders) {
    holder.forEachReference((pfn, references, pins) => {
      const head = frames.head(pfn)
      ledger.refs[head]! += references + pins * (frames.isLarge(head) ? 1 : GUP_PIN_COUNTING_BIAS)
      if (frames.isLarge(head)) ledger.pins[head]! += pins
    })
    for (const charge of holder.charges?.() ?? []) {
      if (charge.user !== null) locked.set(charge.user, (locked.get(charge.user) ?? 0) + charge.lockedVm)
      if (charge.mm === null) continue
      pinned.set(charge.mm, (pinned.get(charge.mm) ?? 0) + charge.pinnedVm)
      mmLocked.set(charge.mm, (mmLocked.get(charge.mm) ?? 0) + (charge.mmLockedVm ?? 0))
    }
  }
  for (const user of kernel.users.values())
    expect(`uid ${user.uid}: locked_vm`, locked.get(user) ?? 0, user.lockedVm)
  for (const mm of kernel.mms) {
    expect(`mm ${mm.name}: pinned_vm`, pinned.get(mm) ?? 0, mm.pinnedVm)
    const vmas = ledger.lockedVmas.get(mm)
    if (vmas === undefined) continue
    expect(`mm ${mm.name}: locked_vm`, vmas + (mmLocked.get(mm) ?? 0) + mm.lockedVmLost, mm.lockedVm)
  }
}

function auditFrames(kernel: Kernel, ledger: Ledger, expect: Expect): void {
  const { frames, buddy } = kernel.memory
  const { flags } = frames
  const free = [0, 0, 0]
  const inBuddy = new Uint8Array(frames.count)
  buddy.forEachFreeBlock((pfn, order, zone) => {
    free[zone]! += 1 << order
    inBuddy.fill(1, pfn, pfn + (1 << order))
    expect(`free block ${pfn}: buddy flag`, 1, (flags[pfn]! & PG_BUDDY) !== 0 ? 1 : 0)
    expect(`free block ${pfn}: order`, order, (flags[pfn]! >>> ORDER_SHIFT) & 0x1f)
  })
  for (let zone = 0; zone < 3; zone++) expect(`zone ${zone}: free pages`, free[zone]!, buddy.free[zone]!)
  // a name is put together only for what is wrong: there are many frames
  const same = (pfn: number, what: string, expected: number, actual: number): void => {
    if (expected !== actual) expect(`pfn ${pfn}: ${what}`, expected, actual)
  }
  for (let pfn = 1; pfn < frames.count; pfn++) {
    if (inBuddy[pfn] === 1) {
      same(pfn, 'free but referenced', 0, ledger.refs[pfn]!)
      continue
    }
    same(pfn, 'mapcount', ledger.maps[pfn]!, frames.mapcount[pfn]!)
    if (frames.head(pfn) !== pfn) continue
    const reserved = (flags[pfn]! & PG_RESERVED) !== 0
    same(pfn, 'refcount', ledger.refs[pfn]! + (reserved ? 1 : 0), frames.refcount[pfn]!)
    if (frames.isLarge(pfn)) {
      same(pfn, 'pincount', ledger.pins[pfn]!, frames.pincount(pfn))
      same(pfn, 'entire mapcount', ledger.entire[pfn]!, frames.entireMapcount(pfn))
    }
    const pooled = (flags[pfn]! & PG_HUGETLB) !== 0
    if (frames.refcount[pfn] === 0 && !pooled) same(pfn, 'neither free nor referenced', 0, 1)
  }
}
