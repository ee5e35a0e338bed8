/** `Key: value [kB]` files (status, meminfo) and `key value` files (vmstat). */

/** Lines `Key: value`, trimmed. Lines without a colon are left out. */
export function parseKeyValues(text: string): Map<string, string> {
  const values = new Map<string, string>()
  for (const line of text.split('\n')) {
    const colon = line.indexOf(':')
    if (colon > 0) values.set(line.slice(0, colon), line.slice(colon + 1).trim())
  }
  return values
}

/** `132 kB` as 135168; plain numbers as they are; null when absent or not a number. */
export function sizeValue(value: string | undefined): number | null {
  const match = value === undefined ? null : /^(\d+)( kB)?$/.exec(value)
  return match === null ? null : Number(match[1]) * (match[2] === undefined ? 1 : 1024)
}
