/**
 * Why the kernel said no. The place that decides calls `refuse()`; nothing later re-derives the reason.
 *
 * A refusal is data, not text: building one allocates one small object and no string.
 */

/** What a refusal knows about the mapping it happened in; copied, because VMAs do not outlive the lock. */
export interface VmaFacts {
  readonly start: number
  readonly end: number
  /** VM_* bits 0..31 */
  readonly flags: number
  /** VMH_* bits */
  readonly highFlags: number
  /** what backs it: `anonymous`, `shmem`, `ext4`, `hugetlb`, `secretmem`, … */
  readonly backing: string
  /** the name /proc/PID/maps prints, '' for none */
  readonly name: string
}

export interface RefusalFacts {
  /** the user address that was refused */
  readonly address?: number
  /** index of the refused page within the request, 0-based */
  readonly page?: number
  readonly vma?: VmaFacts
  /** pages asked for and pages obtained, where a short result is the refusal */
  readonly wanted?: number
  readonly got?: number
  /** memlock arithmetic in pages */
  readonly needed?: number
  readonly used?: number
  readonly limit?: number
  /** which counter is compared with the limit; io_uring: `user->locked_vm` */
  readonly budget?: 'user->locked_vm' | 'mm->locked_vm' | 'mm->pinned_vm'
  /** the capability that would lift the refusal */
  readonly capability?: string
  /** a literal that says which branch of the rule it was */
  readonly why?: string
}

export interface Refusal extends RefusalFacts {
  /** positive errno */
  readonly errno: number
  /** the rule of docs/spec that decided */
  readonly rule: string
  /** the deeper refusal this one was mapped from */
  readonly cause: Refusal | null
}

/** Whoever remembers the last refusal: the current task. */
export interface RefusalSink {
  refusal: Refusal | null
}

/** Records why, returns `-errno`. */
export function refuse(
  sink: RefusalSink,
  errno: number,
  rule: string,
  facts?: RefusalFacts,
  cause?: Refusal | null,
): number {
  sink.refusal = { ...facts, errno, rule, cause: cause ?? null }
  return -errno
}

/** The innermost cause: where the decision was really made. */
export function rootRefusal(refusal: Refusal): Refusal {
  let deepest = refusal
  while (deepest.cause !== null) deepest = deepest.cause
  return deepest
}
