/** A user access ended in a signal instead of data. */
export class SignalError extends Error {
  readonly signal: 'SIGSEGV' | 'SIGBUS' | 'SIGKILL'
  /** si_code: 1 SEGV_MAPERR, 2 SEGV_ACCERR or BUS_ADRERR (R-FLT-20) */
  readonly code: number
  readonly address: number

  constructor(signal: 'SIGSEGV' | 'SIGBUS' | 'SIGKILL', code: number, address: number) {
    super(`${signal} (code ${code}) at 0x${address.toString(16)}`)
    this.name = 'SignalError'
    this.signal = signal
    this.code = code
    this.address = address
  }
}
