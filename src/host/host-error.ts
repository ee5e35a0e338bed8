/** Why something could not be read from this machine; decides nothing else than which words are right. */
export type HostErrorKind =
  | 'no-such-process'
  | 'vanished'
  | 'denied'
  | 'kernel-thread'
  | 'zombie'
  | 'unreadable'
  | 'not-a-snapshot'
  | 'newer-snapshot'
  | 'usage'
  | 'unsupported'

/**
 * The one error of `pinscope/host`: its message is one line that says what, where and what to do.
 * The command line prints it as it is and exits 2.
 */
export class HostError extends Error {
  readonly kind: HostErrorKind

  constructor(kind: HostErrorKind, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.name = 'HostError'
    this.kind = kind
  }
}
