import { Mutex } from '../base/locks.ts'
import type { Kthread } from '../base/kthread.ts'
import { PAGE_SIZE } from '../base/units.ts'
import type { AddressSpace, OpenFile } from '../mm/file.ts'
import type { CurrentTask, Kernel } from '../mm/kernel.ts'
import type { Mm } from '../mm/mm.ts'
import { vmaLookup, type MmapReadGuard } from '../mm/mmap-lock.ts'
import type { UprobeHooks, UprobeWork } from '../mm/uprobe-hooks.ts'
import { VM_HUGETLB, VM_MAYEXEC, VM_MAYSHARE, VM_SHARED, VM_WRITE } from '../mm/vm-flags.ts'
import type { Vma } from '../mm/vma.ts'

/** `struct uprobe_consumer`: somebody who wants to know when the place is reached. */
export interface UprobeConsumer {
  /** Runs in the task that reached it, at that address. A consumer without one is refused (R-UPR-4). */
  readonly handler: ((task: CurrentTask, address: number) => void) | null
}

/**
 * `struct uprobe`: a place in a file where every process that maps it privately stops for its consumers.
 * @rule R-UPR-1
 */
export class Uprobe {
  readonly mapping: AddressSpace
  /** bytes into the file */
  readonly offset: number
  /** where in the file a 16-bit counter of the breakpoints lies; 0: there is none */
  readonly refCtrOffset: number
  readonly consumers = new Set<UprobeConsumer>()
  /** the original instruction, read when the first breakpoint is put; as many bytes as the file has, at most 16 */
  instruction: Uint8Array | null = null
  /** `register_rwsem`: consumers come and go one after the other */
  readonly lock: Mutex
  /** keeps the file while there are consumers; a uprobe that leaks does not */
  file: OpenFile | null = null
  /** out of the table: whoever waited for the lock looks it up again */
  gone = false

  constructor(k: Kernel, file: OpenFile, offset: number, refCtrOffset: number) {
    this.mapping = file.mapping
    this.offset = offset
    this.refCtrOffset = refCtrOffset
    this.lock = new Mutex(`uprobe at ${file.path}:0x${offset.toString(16)}`, k)
  }
}

/** Where a VMA shows an offset of its file, bytes; null when it does not. */
export function addressOfOffset(vma: Vma, offset: number): number | null {
  const address = vma.start + offset - vma.pgoff * PAGE_SIZE
  return address >= vma.start && address < vma.end ? address : null
}

/**
 * `valid_vma`: whether breakpoints may be in a mapping.
 * @param install whether one may be put there, for which it must not be writable now
 * @rule R-UPR-3
 */
export function validVma(vma: Vma, install: boolean): boolean {
  const relevant = VM_HUGETLB | VM_MAYEXEC | VM_MAYSHARE | (install ? VM_WRITE : 0)
  return vma.file !== null && (vma.flags & relevant) === VM_MAYEXEC
}

/** The mapping at an address when it still shows the place of a uprobe there. */
export function vmaOfUprobe(guard: MmapReadGuard, uprobe: Uprobe, address: number): Vma | null {
  const vma = vmaLookup(guard, address)
  if (vma === null || vma.file?.mapping !== uprobe.mapping) return null
  return addressOfOffset(vma, uprobe.offset) === address ? vma : null
}

/** What the table lets others do to pages. */
export interface UprobeActions {
  /** `install_breakpoint` */
  install(k: Kernel, guard: MmapReadGuard, uprobe: Uprobe, address: number): Kthread<number>
  /** `__update_ref_ctr` */
  count(k: Kernel, guard: MmapReadGuard, address: number, delta: number): Kthread<number>
}

/** All uprobes of a kernel, and what they still owe address spaces. */
export class UprobeTable implements UprobeHooks {
  readonly #k: Kernel
  readonly #actions: UprobeActions
  readonly #byFile = new Map<AddressSpace, Map<number, Uprobe>>()
  /** counters that were not mapped when a breakpoint was put: the delayed list (R-UPR-22) */
  readonly #delayed = new Map<Mm, Set<Uprobe>>()
  /** what the kernel log says of them, oldest first */
  readonly log: string[] = []

  constructor(k: Kernel, actions: UprobeActions) {
    this.#k = k
    this.#actions = actions
  }

  find(mapping: AddressSpace, offset: number): Uprobe | null {
    return this.#byFile.get(mapping)?.get(offset) ?? null
  }

  insert(uprobe: Uprobe): void {
    let places = this.#byFile.get(uprobe.mapping)
    if (places === undefined) this.#byFile.set(uprobe.mapping, (places = new Map<number, Uprobe>()))
    places.set(uprobe.offset, uprobe)
  }

  /** The uprobe is freed. */
  remove(uprobe: Uprobe): void {
    const places = this.#byFile.get(uprobe.mapping)
    places?.delete(uprobe.offset)
    if (places?.size === 0) this.#byFile.delete(uprobe.mapping)
    for (const [mm, owed] of this.#delayed) {
      owed.delete(uprobe)
      if (owed.size === 0) this.#delayed.delete(mm)
    }
    uprobe.gone = true
  }

  /** Once per pair, however many breakpoints there are. */
  delay(uprobe: Uprobe, mm: Mm): void {
    const owed = this.#delayed.get(mm)
    if (owed === undefined) this.#delayed.set(mm, new Set([uprobe]))
    else owed.add(uprobe)
  }

  isDelayed(uprobe: Uprobe, mm: Mm): boolean {
    return this.#delayed.get(mm)?.has(uprobe) ?? false
  }

  forget(uprobe: Uprobe, mm: Mm): void {
    const owed = this.#delayed.get(mm)
    if (owed?.delete(uprobe) === true && owed.size === 0) this.#delayed.delete(mm)
  }

  mmGone(mm: Mm): void {
    this.#delayed.delete(mm)
  }

  vmaChanged(mm: Mm, vma: Vma): void {
    const work: UprobeWork[] = []
    // @rule R-UPR-23
    if ((vma.flags & (VM_WRITE | VM_SHARED)) === VM_WRITE) {
      if (!mm.hasUprobes) return
      for (const uprobe of this.#delayed.get(mm) ?? []) {
        const address = addressOfOffset(vma, uprobe.refCtrOffset)
        if (uprobe.mapping === vma.file!.mapping && address !== null)
          work.push({ what: 'count', address, uprobe })
      }
    } else if (validVma(vma, true)) {
      const places = this.#byFile.get(vma.file!.mapping)
      for (const uprobe of places === undefined ? [] : inOrder(places)) {
        const address = addressOfOffset(vma, uprobe.offset)
        if (address !== null && uprobe.consumers.size > 0) work.push({ what: 'install', address, uprobe })
      }
    }
    if (work.length > 0) mm.uprobeWork = [...(mm.uprobeWork ?? []), ...work]
  }

  /**
   * The mapping may have changed again since the work was found: then there is nothing to do.
   * @rule R-UPR-6
   */
  *work(guard: MmapReadGuard, work: readonly UprobeWork[]): Kthread<void> {
    const { mm } = guard
    for (const { what, address, uprobe: watched } of work) {
      const uprobe = watched as Uprobe
      if (what === 'count') {
        const vma = vmaLookup(guard, address)
        const there = vma?.file?.mapping === uprobe.mapping && this.isDelayed(uprobe, mm)
        if (!there || addressOfOffset(vma, uprobe.refCtrOffset) !== address) continue
        this.forget(uprobe, mm)
        yield* this.#actions.count(this.#k, guard, address, 1)
      } else if (uprobe.consumers.size > 0 && vmaOfUprobe(guard, uprobe, address) !== null) {
        yield* this.#actions.install(this.#k, guard, uprobe, address)
      }
    }
  }
}

function inOrder(places: ReadonlyMap<number, Uprobe>): Uprobe[] {
  return [...places.values()].sort((a, b) => a.offset - b.offset)
}

/** The uprobes of a kernel; null: it never had any. */
export function uprobeTable(k: Kernel): UprobeTable | null {
  return k.uprobes instanceof UprobeTable ? k.uprobes : null
}

/** What the kernel log says of uprobes. */
export function logUprobe(k: Kernel, message: string): void {
  uprobeTable(k)?.log.push(message)
}
