import pc from 'picocolors'

/** Where a report goes to. */
export interface Terminal {
  /** columns to wrap at */
  readonly width: number
  readonly colors: Colors
}

export type Colors = ReturnType<typeof pc.createColors>

const WIDTH_WITHOUT_TERMINAL = 100
/** Longer lines are hard to read, shorter ones cannot hold an address range. */
const WIDEST = 110
const NARROWEST = 72

/** Standard output: colour on a terminal only, and never with NO_COLOR. */
export function outputTerminal(): Terminal {
  const { stdout, env } = process
  const columns = stdout.isTTY ? stdout.columns : WIDTH_WITHOUT_TERMINAL
  const colored = stdout.isTTY === true && !env['NO_COLOR'] && env['TERM'] !== 'dumb'
  return { width: Math.min(Math.max(columns, NARROWEST), WIDEST), colors: pc.createColors(colored) }
}

/** No colour, for tests and files. */
export function plainTerminal(width: number): Terminal {
  return { width, colors: pc.createColors(false) }
}

/**
 * The text with control characters shown instead of sent: names of processes and files are somebody else's, and
 * may hold newlines and terminal sequences.
 */
export function printable(text: string): string {
  return text.replaceAll(/[\p{Cc}\p{Zl}\p{Zp}\u202a-\u202e\u2066-\u2069]/gu, (character) => {
    const code = character.codePointAt(0)!.toString(16)
    return code.length <= 2 ? `\\x${code.padStart(2, '0')}` : `\\u${code.padStart(4, '0')}`
  })
}

/** The same value with every text in it made printable, however deep. */
export function printableStrings<T>(value: T): T {
  if (typeof value === 'string') return printable(value) as T
  if (Array.isArray(value)) return value.map((item: unknown) => printableStrings(item)) as T
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, printableStrings(item)])) as T
  }
  return value
}
