import type { Kthread } from '../../base/kthread.ts'
import { FOLL_WRITE } from '../../mm/gup-flags.ts'
import { LockedGuard, getUserPagesRemote } from '../../mm/gup.ts'
import { mmput } from '../../mm/exit-mmap.ts'
import type { Kernel } from '../../mm/kernel.ts'
import type { Mm } from '../../mm/mm.ts'

/*
 * @caller KVM asynchronous page faults
 * @entry work item of a guest page fault
 * @gup get_user_pages_remote FOLL_WRITE, no pages wanted
 * @lock mmap_lock for read, lent
 * @budget none
 * @errno not seen: the guest faults again
 * @release nothing is held
 * @test tests/virt/kvm/async-pf.test.ts
 */

/** Requests of one virtual processor that may be under way at once. */
export const ASYNC_PF_PER_VCPU = 64

/** Asynchronous page faults of one virtual processor: it runs on while somebody else brings the page in. */
export class KvmAsyncPf {
  readonly #k: Kernel
  readonly #mm: Mm
  /** the work items that have been queued, in order; whoever runs the work queue takes them out */
  readonly work: Kthread<void>[] = []
  /** addresses whose work has ended, whatever came of it: the processor is woken and faults again */
  readonly done: number[] = []
  #queued = 0

  constructor(k: Kernel, mm: Mm) {
    this.#k = k
    this.#mm = mm
  }

  /** work that has been set up and whose completion has not been taken */
  get queued(): number {
    return this.#queued
  }

  /**
   * `kvm_setup_async_pf`.
   * @param hva user address; null where the slot has none
   * @returns whether it has been queued; false: to be handled synchronously
   * @rule R-APF-1
   */
  setup(hva: number | null): boolean {
    if (this.#queued >= ASYNC_PF_PER_VCPU || hva === null) return false
    const { asyncPfHoldsMm } = this.#k.release.kvm
    if (asyncPfHoldsMm) this.#mm.users++
    this.#queued++
    this.work.push(this.#execute(hva, asyncPfHoldsMm))
    return true
  }

  /**
   * `async_pf_execute`. Asks for a writable page also for read faults, and takes no reference; a failure shows
   * in the fault that follows.
   * @rule R-APF-2
   * @rule R-APF-3
   */
  *#execute(hva: number, holdsMm: boolean): Kthread<void> {
    const [k, mm] = [this.#k, this.#mm]
    if (holdsMm || mm.users > 0) {
      if (!holdsMm) mm.users++
      const locked = new LockedGuard(mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.read()))
      yield* getUserPagesRemote(k, mm, hva, 1, FOLL_WRITE, null, locked)
      locked.guard?.release()
      yield* mmput(k, mm)
    }
    this.done.push(hva)
  }

  /** `kvm_check_async_pf_completion`: takes one completion. @returns the address, null when there is none */
  complete(): number | null {
    const hva = this.done.shift() ?? null
    if (hva !== null) this.#queued--
    return hva
  }
}
