/** Before this nobody wonders, ms. */
const PATIENCE = 1000

let wipe = (): void => {}

/**
 * Says on stderr what is being done, once it has taken a second: a line that counts the seconds on a terminal,
 * one plain line elsewhere.
 * @returns ends it
 */
export function startProgress(doing: string): () => void {
  const { stderr } = process
  const began = performance.now()
  let said = false
  const timer = setInterval(() => {
    if (stderr.isTTY) {
      stderr.write(`\r${doing} … ${Math.round((performance.now() - began) / 1000)} s`)
      wipe = () => stderr.write('\r\x1b[2K')
    } else if (!said) stderr.write(`pinscope: ${doing} …\n`)
    said = true
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
