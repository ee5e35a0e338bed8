import type { ErrnoName } from '../../base/errno.ts'
import type { ReleaseName } from '../../base/release.ts'
import type { Op } from '../steps.ts'

/** An errno and the rules of docs/spec that name it, in one: `EINVAL R-AS-59 R-AS-60`. */
type ErrnoOfRules = `${ErrnoName} R-${string}`

/** What else is known of an errno that a system call may answer. */
interface Circumstances {
  /** kernels it occurs on; absent: all */
  readonly on?: readonly ReleaseName[]
  /** other steps without which nothing leads to it */
  readonly needs?: readonly Op[]
  /** why a program on this machine cannot lead to it */
  readonly unreachable?: string
  /** what is missing for a program that leads to it */
  readonly notYet?: string
}

/** An errno that docs/spec names for a system call. */
export interface ExpectedErrno extends Circumstances {
  readonly errno: ErrnoName
  readonly rules: readonly string[]
}

/** One system call, or one of its commands, and the errnos that docs/spec names for it. */
export interface CallErrnos {
  /** `mmap`, `io_uring_register BUFFERS` */
  readonly call: string
  /** kinds of step that make it */
  readonly ops: readonly Op[]
  /** none: `why` says so */
  readonly errnos: readonly ExpectedErrno[]
  /** why there is none */
  readonly why?: string
  /** not what the call returns: results of the requests it submits */
  readonly completions?: boolean
}

export function expected(errnoAndRules: ErrnoOfRules, circumstances: Circumstances = {}): ExpectedErrno {
  const [errno, ...rules] = errnoAndRules.split(' ')
  return { errno: errno as ErrnoName, rules, ...circumstances }
}

/** Reasons that more than one call has. */
export const FATAL = 'only for a task that is being killed: nobody is left to see the answer'
export const NO_MEMORY = 'needs a kernel that runs out of memory'
export const MAPPINGS = 'needs 65,530 mappings, more than a program has steps'
export const AGENT_MEMORY =
  'the agent passes this argument itself, out of memory that can be read and written'
export const AGENT_DESCRIPTOR = 'a step names a descriptor that is open and of the right kind, or is left out'

export const keeps = (capability: string): string =>
  `the agent keeps ${capability}: its steps drop CAP_IPC_LOCK, CAP_IPC_OWNER and CAP_NET_RAW only`
