import type { Kthread } from '../base/kthread.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import { Userfaultfd, type UffdMessage } from './userfaultfd-context.ts'
import {
  UFFD_FEATURE_EVENT_FORK,
  UFFD_FEATURE_EVENT_REMAP,
  UFFD_FEATURE_EVENT_REMOVE,
  UFFD_FEATURE_EVENT_UNMAP,
} from './userfaultfd-flags.ts'
import type { Vma } from './vma.ts'

/**
 * Changes of the address space that a userfaultfd hears about. They are noted under `mmap_lock` and told without
 * it: whoever made the change sleeps until its message has been read. From the note on nothing can be filled.
 */
export interface UffdChange {
  readonly context: Userfaultfd
  readonly message: UffdMessage
}

function note(mm: Mm, context: Userfaultfd, message: UffdMessage): void {
  context.changing++
  ;(mm.uffdChanges ??= []).push({ context, message })
}

/** What has been noted since the last time, for `tellChanges`; taken before the lock is let go. */
export function takeChanges(mm: Mm): UffdChange[] | null {
  const changes = mm.uffdChanges
  mm.uffdChanges = null
  return changes
}

/**
 * Tells descriptors about changes, one after the other, without `mmap_lock`.
 * @rule R-FLT-123
 */
export function* tellChanges(k: Kernel, changes: readonly UffdChange[] | null): Kthread<void> {
  if (changes === null) return
  for (const { context, message } of changes) {
    if (!context.released) {
      context.tell(message)
      while (context.pending.includes(message) && !context.released) {
        yield { queue: context.messages, what: context.messages.name, signals: 'fatal' }
        if (k.current.fatalSignalPending) break
      }
      const unread = context.pending.indexOf(message)
      if (unread >= 0) context.pending.splice(unread, 1)
    }
    context.changing--
  }
}

/** `userfaultfd_unmap_prep`: [start, end) is about to be unmapped; `first` is the first VMA in it. */
export function noteUnmap(mm: Mm, first: Vma, start: number, end: number): void {
  for (let vma: Vma | null = first; vma !== null && vma.start < end; vma = vma.next) {
    const context = vma.uffd
    if (context === null || !context.has(UFFD_FEATURE_EVENT_UNMAP)) continue
    const known = mm.uffdChanges?.some(
      ({ context: other, message }) =>
        other === context && message.event === 'unmap' && message.start === start && message.end === end,
    )
    if (known !== true) note(mm, context, { event: 'unmap', start, end })
  }
}

/** `mremap_userfaultfd_prep`, where the watch goes along. */
export function noteRemap(mm: Mm, context: Userfaultfd, from: number, to: number, length: number): void {
  if (!context.has(UFFD_FEATURE_EVENT_REMAP)) return
  context.changing++
  // told after what stood at the target, before what is cut off the source
  const changes = (mm.uffdChanges ??= [])
  const cut = changes.findIndex(({ message }) => message.event === 'unmap' && message.start !== to)
  const message: UffdMessage = { event: 'remap', from, to, length }
  changes.splice(cut < 0 ? changes.length : cut, 0, { context, message })
}

/**
 * `userfaultfd_remove`: pages of a VMA are about to be dropped by advice.
 * @returns whether somebody must be told first, which needs the lock to be let go
 */
export function noteRemove(mm: Mm, vma: Vma, start: number, end: number): boolean {
  const context = vma.uffd
  if (context === null || !context.has(UFFD_FEATURE_EVENT_REMOVE)) return false
  note(mm, context, { event: 'remove', start, end })
  return true
}

/**
 * `dup_userfaultfd`: the context that watches the child's copy of a VMA, null: it is not watched. One for each
 * context of the parent, in `made`.
 * @rule R-FLT-116
 */
export function forkedContext(
  k: Kernel,
  vma: Vma,
  child: Mm,
  made: Map<Userfaultfd, Userfaultfd>,
): Userfaultfd | null {
  const context = vma.uffd
  if (context === null || !context.has(UFFD_FEATURE_EVENT_FORK)) return null
  let forked = made.get(context)
  if (forked === undefined) {
    const { features, userModeOnly } = context
    forked = new Userfaultfd(k.nextId(), { features, userModeOnly, mm: child })
    made.set(context, forked)
    context.changing++
  }
  return forked
}

/** The messages of a fork that succeeded, for `tellChanges`. */
export function forkChanges(made: ReadonlyMap<Userfaultfd, Userfaultfd>): UffdChange[] | null {
  if (made.size === 0) return null
  return [...made].map(([context, child]) => ({ context, message: { event: 'fork', child } }))
}

/** A fork that failed: nobody hears of it. */
export function forkFailed(made: ReadonlyMap<Userfaultfd, Userfaultfd>): void {
  for (const [context, child] of made) {
    context.changing--
    child.released = true
  }
}
