import { EINVAL, EPERM } from '../base/errno.ts'
import { refuse } from '../base/refusal.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import { Userfaultfd, type UserfaultfdOptions } from './userfaultfd-context.ts'
import {
  UFFD_API,
  UFFD_FEATURE_EVENT_FORK,
  UFFD_FEATURE_WP_ASYNC,
  UFFD_FEATURE_WP_UNPOPULATED,
  UFFD_USER_MODE_ONLY,
} from './userfaultfd-flags.ts'

export { Userfaultfd, type UffdMessage, type UserfaultfdOptions } from './userfaultfd-context.ts'
export { uffdContinue, uffdCopy, uffdPoison, uffdZeropage } from './userfaultfd-fill.ts'
export { uffdMove } from './userfaultfd-move.ts'
export { uffdClose, uffdRegister, uffdUnregister, uffdWake } from './userfaultfd-register.ts'
export { uffdWriteprotect } from './userfaultfd-wp.ts'
export * from './userfaultfd-flags.ts'

/** A context that has been through UFFDIO_API. */
export function createUserfaultfd(k: Kernel, options: UserfaultfdOptions = {}): Userfaultfd {
  return new Userfaultfd(k.nextId(), options)
}

/**
 * userfaultfd(2), flags other than UFFD_USER_MODE_ONLY apart.
 * @returns the context, -EPERM: faults of the kernel need CAP_SYS_PTRACE or vm.unprivileged_userfaultfd
 * @rule R-FLT-118
 */
export function userfaultfd(k: Kernel, mm: Mm, flags: number): Userfaultfd | number {
  const userModeOnly = (flags & UFFD_USER_MODE_ONLY) !== 0
  if (!userModeOnly && !k.settings.unprivilegedUserfaultfd && !k.current.capable('CAP_SYS_PTRACE')) {
    return refuse(k.current, EPERM, 'R-FLT-118', {
      why: 'serving faults of the kernel needs CAP_SYS_PTRACE; UFFD_USER_MODE_ONLY does without',
    })
  }
  return createUserfaultfd(k, { userModeOnly, mm, ready: false })
}

/**
 * UFFDIO_API: agrees on features, once.
 * @returns what this kernel offers, or -EINVAL, -EPERM
 * @rule R-FLT-118
 */
export function uffdApi(k: Kernel, context: Userfaultfd, api: number, features: number): number {
  const offered = k.release.uffd.features
  if (api !== UFFD_API || (features & ~offered) !== 0 || features > 2 ** 31) {
    return refuse(k.current, EINVAL, 'R-FLT-118', { why: 'the API number or a feature is not known' })
  }
  if ((features & UFFD_FEATURE_EVENT_FORK) !== 0 && !k.current.capable('CAP_SYS_PTRACE')) {
    return refuse(k.current, EPERM, 'R-FLT-118', { why: 'UFFD_FEATURE_EVENT_FORK needs CAP_SYS_PTRACE' })
  }
  if (context.ready) return refuse(k.current, EINVAL, 'R-FLT-118', { why: 'UFFDIO_API was called before' })
  context.ready = true
  context.features =
    (features & UFFD_FEATURE_WP_ASYNC) !== 0 ? features | UFFD_FEATURE_WP_UNPOPULATED : features
  return offered
}
