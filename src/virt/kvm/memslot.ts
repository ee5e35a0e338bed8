import { EEXIST, EINVAL } from '../../base/errno.ts'
import { refuse } from '../../base/refusal.ts'
import { isPageAligned } from '../../mm/user-range.ts'
import { accessOk } from '../../mm/iovec.ts'
import type { Kernel } from '../../mm/kernel.ts'

/** `struct kvm_userspace_memory_region` without flags: a piece of guest memory. */
export interface MemorySlot {
  readonly slot: number
  /** bytes; guest physical, then user address */
  readonly guestAddr: number
  readonly userspaceAddr: number
  readonly size: number
}

/** The memory slots of one virtual machine. Memory behind them is looked at when the guest touches it. */
export class MemorySlots {
  readonly #k: Kernel
  readonly #slots = new Map<number, MemorySlot>()

  constructor(k: Kernel) {
    this.#k = k
  }

  /**
   * KVM_SET_USER_MEMORY_REGION for a slot that is not in use.
   * @returns 0, -EINVAL, or -EEXIST where the guest has memory already; nothing is mapped, pinned or charged
   * @rule R-KVM-9
   */
  set(region: MemorySlot): number {
    const { slot, guestAddr, userspaceAddr, size } = region
    const refused = (errno: number, why: string): number =>
      refuse(this.#k.current, errno, 'R-KVM-9', { address: userspaceAddr, why })
    if (size === 0 || ![guestAddr, userspaceAddr, size].every(isPageAligned))
      return refused(EINVAL, 'size, guest address and user address must be whole pages')
    if (!accessOk(userspaceAddr, size)) return refused(EINVAL, 'the range is not user memory')
    if (this.#slots.has(slot)) return refused(EINVAL, 'the slot shows other memory already')
    for (const other of this.#slots.values()) {
      if (other.guestAddr < guestAddr + size && guestAddr < other.guestAddr + other.size)
        return refused(EEXIST, 'the guest has memory there already')
    }
    this.#slots.set(slot, region)
    return 0
  }
  /** `gfn_to_hva`: the user address behind a guest physical one; null where the guest has no memory */
  userAddress(gpa: number): number | null {
    for (const { guestAddr, userspaceAddr, size } of this.#slots.values())
      if (guestAddr <= gpa && gpa < guestAddr + size) return userspaceAddr + (gpa - guestAddr)
    return null
  }
}
