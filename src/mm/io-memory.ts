import { EINVAL, ENOMEM } from '../base/errno.ts'
import { PREEMPT, type Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE } from '../base/units.ts'
import type { IoMemory } from '../memory/io-space.ts'
import { VM_FAULT_SIGBUS } from './fault-flags.ts'
import { refuseFault } from './fault-refusal.ts'
import { driverKind, type FileKind } from './file.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import { vmPageProt } from './page-prot.ts'
import {
  HugePmd,
  PTE_ACCESSED,
  PTE_PRESENT,
  PTE_SPECIAL,
  PTE_WRITE,
  pmdIndex,
  pteSlot,
} from './page-table.ts'
import { VM_DONTDUMP, VM_DONTEXPAND, VM_IO, VM_PFNMAP, VM_SHARED } from './vm-flags.ts'
import { vmaFacts, type Vma } from './vma.ts'

/*
 * Raw mappings: page-table entries that name a physical address and nothing else. Such an entry is special: no page
 * is counted, nobody's memory grows by it, and there is nothing GUP could take a reference on.
 */

const RAW_MAPPING = VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP

/**
 * `remap_pfn_range`: shows physical memory from `pfn` on in [address, address + size) of a mapping that is being
 * made. Protection is the mapping's. A private mapping that may be written must be filled as a whole.
 * @param address page aligned, in `vma`
 * @param size bytes, rounded up to pages
 * @returns 0, or -EINVAL
 * @rule R-FLT-44
 */
export function remapPfnRange(
  k: Kernel,
  mm: Mm,
  vma: Vma,
  address: number,
  pfn: number,
  size: number,
): number {
  const end = address + Math.ceil(size / PAGE_SIZE) * PAGE_SIZE
  const facts = { address, vma: vmaFacts(vma) }
  if (address % PAGE_SIZE !== 0)
    return refuse(k.current, EINVAL, 'R-FLT-44', { ...facts, why: 'the address is not page aligned' })
  if (vma.isCow && (address !== vma.start || end !== vma.end))
    return refuse(k.current, EINVAL, 'R-FLT-44', {
      ...facts,
      why: 'a private mapping of physical memory must be filled as a whole',
    })
  vma.flags |= RAW_MAPPING
  for (let at = address; at < end; at += PAGE_SIZE) setRaw(mm, vma, at, pfn + (at - address) / PAGE_SIZE)
  return 0
}

/**
 * `vm_iomap_memory`: the mmap method of most drivers. Shows a device's memory, from the offset that was asked for.
 * @returns 0; -EINVAL: the mapping is longer than what is there
 */
export function vmIomapMemory(k: Kernel, mm: Mm, vma: Vma, memory: IoMemory): number {
  if (vma.pgoff + vma.pages > memory.pages)
    return refuse(k.current, EINVAL, 'R-FLT-44', {
      address: vma.start,
      vma: vmaFacts(vma),
      why: 'the mapping goes beyond what the device has',
    })
  return remapPfnRange(k, mm, vma, vma.start, memory.pfn + vma.pgoff, vma.end - vma.start)
}

/**
 * `vmf_insert_pfn`: a driver's answer to a fault in a mapping that is VM_PFNMAP and shared.
 * @returns 0: the entry is there
 * @rule R-FLT-44
 */
export function vmfInsertPfn(mm: Mm, vma: Vma, address: number, pfn: number): number {
  setRaw(mm, vma, address, pfn)
  return 0
}

function setRaw(mm: Mm, vma: Vma, address: number, pfn: number): void {
  mm.hasRawEntries = true
  const leaf = mm.pageTable.leafFor(address)
  leaf.set(pteSlot(address), pfn, vmPageProt(vma) | PTE_SPECIAL | PTE_ACCESSED)
}

/** The entry that maps an address, if it is present: also where a program may not look (R-FLT-14). */
function presentEntry(k: Kernel, mm: Mm, address: number): { pfn: number; bits: number } | null {
  const entry = mm.pageTable.pmd(pmdIndex(address))
  if (entry === null) return null
  const slot = pteSlot(address)
  const huge = entry instanceof HugePmd
  if (huge && !k.release.remote.accessFollowsHugeEntries) return null
  const bits = huge ? entry.bits : entry.bits[slot]!
  if ((bits & PTE_PRESENT) === 0) return null
  return { pfn: huge ? entry.pfn + slot : entry.pfn[slot]!, bits }
}

/**
 * `generic_access_phys`: the usual vm_ops->access. The page-table entry decides, not the protection of the mapping.
 * The physical address of the first page is all that is looked up: the transfer goes on from there.
 * @returns buffer.length; -EINVAL; -ENOMEM: what is mapped is memory, which cannot be mapped as a device's
 * @rule R-ARV-5
 */
export function* genericAccessPhys(
  k: Kernel,
  vma: Vma,
  address: number,
  buffer: Uint8Array,
  write: boolean,
): Kthread<number> {
  const facts = { address, vma: vmaFacts(vma) }
  const mm = vma.mm!
  if ((vma.flags & (VM_IO | VM_PFNMAP)) === 0)
    return refuse(k.current, EINVAL, 'R-ARV-5', { ...facts, why: 'this is no mapping of device memory' })
  for (;;) {
    const entry = presentEntry(k, mm, address)
    if (entry === null)
      return refuse(k.current, EINVAL, 'R-ARV-5', { ...facts, why: 'nothing is mapped at this address' })
    if (write && (entry.bits & PTE_WRITE) === 0)
      return refuse(k.current, EINVAL, 'R-ARV-5', { ...facts, why: 'the entry cannot be written through' })
    const { io } = k.memory
    const offset = address % PAGE_SIZE
    const last = entry.pfn + Math.floor((offset + Math.max(buffer.length, 1) - 1) / PAGE_SIZE)
    if (io.isMemory(entry.pfn) || io.isMemory(last))
      return refuse(k.current, ENOMEM, 'R-ARV-5', {
        ...facts,
        why: 'ordinary memory cannot be mapped as device memory',
      })
    if (k.exploring) {
      // the kernel maps the device meanwhile, and nothing keeps the entry as it is
      yield PREEMPT
      const now = presentEntry(k, mm, address)
      if (now === null || now.pfn !== entry.pfn || now.bits !== entry.bits) continue
    }
    io.transfer(entry.pfn, offset, buffer, write)
    return buffer.length
  }
}

export interface IoMemoryKindOptions {
  /** vm_ops->access; default `genericAccessPhys`, null: the driver has none */
  readonly access?: FileKind['access'] | null
  /** entries are made by faults, not by mmap; only for shared mappings; default false */
  readonly lazy?: boolean
  /** vm_ops has pfn_mkwrite: the first write to each page faults; default false */
  readonly tracksWrites?: boolean
}

/** The file of a device whose memory can be mapped: a BAR in sysfs, a frame buffer, /dev/mem. */
export function ioMemoryKind(name: string, memory: IoMemory, options: IoMemoryKindOptions = {}): FileKind {
  const { access = genericAccessPhys, lazy = false, tracksWrites = false } = options
  return {
    ...driverKind(name, tracksWrites),
    ...(access === null ? {} : { access }),
    ...(lazy ? { faultMethod: faultOn(memory) } : {}),
    mmapMethod: lazy ? mmapLazily : (k, vma, mm) => vmIomapMemory(k, mm, vma, memory),
  }
}

function mmapLazily(k: Kernel, vma: Vma): number {
  if ((vma.flags & VM_SHARED) === 0)
    return refuse(k.current, EINVAL, 'R-FLT-44', {
      address: vma.start,
      why: 'the device can only be mapped shared',
    })
  vma.flags |= RAW_MAPPING
  return 0
}

function faultOn(memory: IoMemory): NonNullable<FileKind['faultMethod']> {
  return (k, mm, vma, address) => {
    const page = vma.pageIndex(address)
    if (page < memory.pages) return vmfInsertPfn(mm, vma, address, memory.pfn + page)
    const why = 'the device has nothing there'
    return refuseFault(k, VM_FAULT_SIGBUS, 'R-FLT-44', vma, address, why)
  }
}
