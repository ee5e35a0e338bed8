/** Before this nobody wonders, ms. */
const PATIENCE = 1000

let wipe = (): void => {}

/** Seconds between two lines about how far it is, where they cannot replace each other. */
const SELDOM = 10

/**
 * Says on stderr what is being done, once it has taken a second: a line that counts the seconds on a terminal,
 * one plain line elsewhere.
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
    } else if (howFar === null && ticks === 0) stderr.write(`pinscope: ${doing} …\n`)
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
