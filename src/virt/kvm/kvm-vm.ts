import { EFAULT, EINTR } from '../../base/errno.ts'
import type { Kthread } from '../../base/kthread.ts'
import { refuse } from '../../base/refusal.ts'
import { PAGE_SIZE } from '../../base/units.ts'
import { PG_DIRTY } from '../../memory/page-flags.ts'
import type { Kernel } from '../../mm/kernel.ts'
import type { Mm } from '../../mm/mm.ts'
import { registerNotifier, unregisterNotifier, type MmuNotifier } from '../../mm/mmu-notifier.ts'
import { Device } from '../../task/device/device.ts'
import { hvaToPfn, kvmReleasePfn } from './kvm-main.ts'
import { MemorySlots, type MemorySlot } from './memslot.ts'

/** KVM_RUN ends because the guest touched an address that is not memory: the program is to play the device. */
export const KVM_EXIT_MMIO = 6

/** An entry of the guest's second-level page table. It holds no reference: a notifier takes it out in time. */
interface GuestEntry {
  readonly pfn: number
  readonly writable: boolean
}

/**
 * A virtual machine of the process that opened it, with memory slots and one processor that reads and writes. Pages
 * come in as the guest touches them and stay the process's own: nothing is pinned or charged, and what changes the
 * mapping takes them away from the guest first.
 */
export class KvmVm extends Device {
  readonly #mm: Mm
  readonly #slots: MemorySlots
  /** guest frame number → entry */
  readonly #entries = new Map<number, GuestEntry>()
  readonly #notifier: MmuNotifier
  /** counts invalidations: an entry that was looked up before one is not to be used (mmu_invalidate_seq) */
  #sequence = 0

  constructor(k: Kernel) {
    super(k, '/dev/kvm')
    this.#mm = k.current.mm!
    this.#slots = new MemorySlots(k)
    this.#notifier = { start: 0, end: Infinity, invalidate: (start, end) => this.#unmap(start, end) }
    registerNotifier(this.#mm, this.#notifier)
  }

  override forEachReference(): void {}

  /** pages the guest reaches without a fault */
  get mapped(): number {
    return this.#entries.size
  }

  #unmap(start: number, end: number): void {
    this.#sequence++
    for (const gfn of this.#entries.keys()) {
      const hva = this.#slots.userAddress(gfn * PAGE_SIZE)
      if (hva !== null && start < hva + PAGE_SIZE && hva < end) this.#entries.delete(gfn)
    }
  }

  /**
   * KVM_SET_USER_MEMORY_REGION: memory for the guest. It is looked at when the guest touches it.
   * @returns 0, -EINVAL, -EEXIST
   * @rule R-KVM-9
   */
  // oxlint-disable-next-line require-yield -- nothing is faulted in
  *setUserMemoryRegion(region: MemorySlot): Kthread<number> {
    return this.#slots.set(region)
  }

  /**
   * KVM_RUN, the guest reads its memory.
   * @param gpa guest physical address
   * @returns 0; KVM_EXIT_MMIO where the guest has no memory; -EFAULT, -EINTR. What was read before stays in `into`
   */
  guestRead(gpa: number, into: Uint8Array): Kthread<number> {
    return this.#access(gpa, into, false)
  }

  /** KVM_RUN, the guest writes; as `guestRead`. Memory that may only be read is as none: KVM_EXIT_MMIO or -EFAULT. */
  guestWrite(gpa: number, from: Uint8Array): Kthread<number> {
    return this.#access(gpa, from, true)
  }

  *#access(gpa: number, bytes: Uint8Array, write: boolean): Kthread<number> {
    const k = this.kernel
    for (let done = 0; done < bytes.length;) {
      const gfn = Math.floor((gpa + done) / PAGE_SIZE)
      const offset = (gpa + done) % PAGE_SIZE
      const entry = this.#entries.get(gfn)
      if (entry === undefined || (write && !entry.writable)) {
        const result = yield* this.#fault(gfn, write)
        if (result !== 0) return result
        continue
      }
      const part = bytes.subarray(done, done + PAGE_SIZE - offset)
      touchFrame(k, entry.pfn, offset, part, write)
      done += part.length
    }
    return 0
  }

  /**
   * `kvm_faultin_pfn` and what becomes of its errors: brings one guest page in, or says how KVM_RUN ends.
   * @rule R-KVM-1
   * @rule R-KVM-7
   */
  *#fault(gfn: number, write: boolean): Kthread<number> {
    const k = this.kernel
    const hva = this.#slots.userAddress(gfn * PAGE_SIZE)
    if (hva === null) return KVM_EXIT_MMIO
    const sequence = this.#sequence
    const request = { hva, writeFault: write, acceptsWritable: true, interruptible: true }
    const page = yield* hvaToPfn(k, request)
    if ('error' in page) {
      if (page.error === 'ro-fault') return KVM_EXIT_MMIO
      if (page.error === 'sigpending') return -EINTR
      const why = `KVM_RUN fails: the guest's page cannot be had (${page.error})`
      return refuse(k.current, EFAULT, 'R-KVM-7', { address: hva, why }, k.current.refusal)
    }
    // the mapping changed meanwhile: what was found is let go, and the guest faults again
    if (sequence === this.#sequence) {
      if (write && k.memory.io.isMemory(page.pfn))
        k.memory.frames.set(k.memory.frames.head(page.pfn), PG_DIRTY)
      this.#entries.set(gfn, page)
    }
    kvmReleasePfn(k, page.pfn)
    return 0
  }

  // oxlint-disable-next-line require-yield -- nothing here sleeps
  protected override *teardown(): Kthread<void> {
    unregisterNotifier(this.#mm, this.#notifier)
    this.#entries.clear()
  }
}

/** Bytes of a page of memory, or of a device behind a raw mapping. */
function touchFrame(k: Kernel, pfn: number, offset: number, bytes: Uint8Array, write: boolean): void {
  const { io, contents } = k.memory
  if (!io.isMemory(pfn)) io.transfer(pfn, offset, bytes, write)
  else if (write) contents.write(pfn, offset, bytes)
  else contents.read(pfn, offset, bytes)
}
