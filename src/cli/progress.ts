/** Before this nobody wonders, ms. */
const PATIENCE = 1000

let wipe = (): void => {}

/** Seconds between two lines about how far it is, where they cannot replace each other. */
const SELDOM = 10

/** Seconds before a log is told what takes so long: nobody watches it, and on a busy machine a second is nothing. */
const LOG_PATIENCE = 5

/**
 * Says on stderr what is being done: on a terminal after a second, in a line that counts the seconds; elsewhere
 * in one plain line after five seconds.
 * @param howFar for long work: what has been done so far
 * @returns ends it
 */
export function startProgress(doing: string, howFar: (() => string) | null = null): () => void {
  const { stderr } = process
  const began = performance.now()
  let ticks = 0
  const timer = setInterval(() => {
    const seconds = Math.round((performance.now() - began) / 1000)
    if (stderr.isTTY) {
      wipe()
      stderr.write(`\r${doing} … ${howFar === null ? '' : `${howFar()}, `}${seconds} s`)
      wipe = () => stderr.write('\r\x1b[2K')
    } else if (howFar === null && ticks === LOG_PATIENCE - 1) stderr.write(`pinscope: ${doing} …\n`)
    else if (howFar !== null && ticks % SELDOM === 0) stderr.write(`pinscope: ${howFar()}\n`)
    ticks++
  }, PATIENCE)
  timer.unref()
  return () => {
    clearInterval(timer)
    wipeProgress()
  }
}

/** Takes the line away from the terminal, if there is one. */
export function wipeProgress(): void {
  wipe()
  wipe = () => {}
}
