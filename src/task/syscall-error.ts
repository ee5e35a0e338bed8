import { errnoName, type ErrnoName } from '../base/errno.ts'
import type { Refusal } from '../base/refusal.ts'

/** A system call failed. What the engine calls a negative errno is this at the edge. */
export class SyscallError extends Error {
  /** positive errno */
  readonly errno: number
  readonly code: ErrnoName
  readonly syscall: string
  /** where and by which rule it was refused; null when the refusal has no recorded place */
  readonly reason: Refusal | null

  constructor(syscall: string, errno: number, reason: Refusal | null) {
    const code = errnoName(errno)
    const why = reason?.why === undefined ? '' : `: ${reason.why}`
    super(`${syscall}: ${code}${why}${reason === null ? '' : ` (${reason.rule})`}`)
    this.name = 'SyscallError'
    this.syscall = syscall
    this.errno = Math.abs(errno)
    this.code = code
    this.reason = reason
  }
}
