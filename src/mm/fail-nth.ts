import { VM_FAULT_HWPOISON, VM_FAULT_OOM, VM_FAULT_RETRY, VM_FAULT_SIGBUS } from './fault-flags.ts'

/**
 * What is to fail, once: the n-th of its kind from now on.
 *
 * - `allocation`: no folio can be had, of whatever size and for whatever it is meant (memory is exhausted)
 * - `migration`: a folio stays where it is
 * - `kmalloc`: a driver gets no memory for its own structures
 * - `charge`: a driver's charge exceeds RLIMIT_MEMLOCK, whatever the limit is
 * - `dma-map`: the IOMMU or the DMA layer cannot map a run
 * - `fault`: a page fault ends as `with` says; RETRY only counts faults whose caller allows them to be retried
 */
export type FailNth =
  | { readonly what: 'allocation' | 'migration' | 'kmalloc' | 'charge' | 'dma-map'; readonly n: number }
  | {
      readonly what: 'fault'
      readonly n: number
      readonly with: 'OOM' | 'SIGBUS' | 'HWPOISON' | 'RETRY'
    }

const faultCodes = {
  OOM: VM_FAULT_OOM,
  SIGBUS: VM_FAULT_SIGBUS,
  HWPOISON: VM_FAULT_HWPOISON,
  RETRY: VM_FAULT_RETRY,
} as const

/**
 * A failure that is due. Set with `Kernel.failNth`, for tests: walking n from 1 on until nothing fails any more
 * reaches every place where something can.
 */
export class DueFailure {
  readonly failure: FailNth
  /** how many of its kind there were */
  seen = 0

  constructor(failure: FailNth) {
    this.failure = failure
  }

  /** It has happened. */
  get happened(): boolean {
    return this.seen >= this.failure.n
  }

  /** Counts one of its kind. @returns whether it fails */
  hits(what: Exclude<FailNth['what'], 'fault'>): boolean {
    return this.failure.what === what && ++this.seen === this.failure.n
  }

  /** Counts one fault. @returns the VM_FAULT code it ends with, 0 to go on */
  faultCode(mayRetry: boolean): number {
    const { failure } = this
    if (failure.what !== 'fault' || (failure.with === 'RETRY' && !mayRetry)) return 0
    return ++this.seen === failure.n ? faultCodes[failure.with] : 0
  }
}
