/** /proc/PID/limits (R-ST-4). */
import { HostError } from './host-error.ts'

/** Bytes (or a count for open files); null = unlimited. */
export interface Limit {
  soft: number | null
  hard: number | null
}

export interface Limits {
  memlock: Limit
  addressSpace: Limit
  data: Limit
  stack: Limit
  openFiles: Limit
}

/**
 * @throws HostError 'unreadable' when a limit is missing
 * @rule R-ST-4
 */
export function parseLimits(text: string): Limits {
  const lines = text.split('\n')
  const limit = (name: string): Limit => {
    const line = lines.find((candidate) => candidate.startsWith(`${name} `))
    const match =
      line === undefined ? null : /^(unlimited|\d+)\s+(unlimited|\d+)/.exec(line.slice(name.length).trim())
    if (match === null) throw new HostError('unreadable', `not a /proc/PID/limits file: no line "${name}"`)
    return { soft: value(match[1]!), hard: value(match[2]!) }
  }
  return {
    memlock: limit('Max locked memory'),
    addressSpace: limit('Max address space'),
    data: limit('Max data size'),
    stack: limit('Max stack size'),
    openFiles: limit('Max open files'),
  }
}

function value(text: string): number | null {
  return text === 'unlimited' ? null : Number(text)
}
