/** Snapshots as files. */
import { readFileSync, writeFileSync } from 'node:fs'
import { PAGE_SIZE } from '../base/units.ts'
import { HostError } from './host-error.ts'
import { errorCode } from './proc-files.ts'
import { SNAPSHOT_SCHEMA_VERSION } from './snapshot-format.ts'
import { Snapshot } from './snapshot.ts'

/**
 * Reads a stored snapshot.
 * @throws HostError 'unreadable' | 'not-a-snapshot' | 'newer-snapshot'
 */
export function readSnapshot(path: string): Snapshot {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    const code = errorCode(error)
    const what = code === 'ENOENT' ? 'there is no such file' : code === 'EISDIR' ? 'it is a directory' : code
    throw new HostError('unreadable', `cannot read snapshot ${path}: ${what}`, { cause: error })
  }
  return parseSnapshot(text, path)
}

/**
 * Checks the text of a snapshot and turns it into one.
 * @param origin how to call it in messages
 * @throws HostError 'not-a-snapshot' | 'newer-snapshot'
 */
export function parseSnapshot(text: string, origin: string): Snapshot {
  const again = 'take it again with pinscope snapshot'
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    const why =
      text.trim() === ''
        ? 'it is empty'
        : text.trimStart().startsWith('{')
          ? 'it is cut off or damaged'
          : 'it is not JSON'
    throw new HostError('not-a-snapshot', `${origin} is not a snapshot: ${why}; ${again}`, { cause: error })
  }
  const found =
    typeof value === 'object' && value !== null
      ? (value as { schemaVersion?: unknown }).schemaVersion
      : undefined
  if (typeof found !== 'number')
    throw new HostError('not-a-snapshot', `${origin} is not a snapshot: it has no schemaVersion; ${again}`)
  if (found > SNAPSHOT_SCHEMA_VERSION) {
    throw new HostError(
      'newer-snapshot',
      `${origin} was written by a newer pinscope (snapshot version ${found}); this one reads up to ${SNAPSHOT_SCHEMA_VERSION}`,
    )
  }
  const result = Snapshot.safeParse(value)
  if (!result.success) {
    const issue = result.error.issues[0]!
    const where = issue.path.length === 0 ? 'top level' : issue.path.join('.')
    throw new HostError(
      'not-a-snapshot',
      `${origin} is not a valid snapshot: ${where}: ${oneLine(issue.message)}; ${again}`,
    )
  }
  const inconsistent = checkColumns(result.data)
  if (inconsistent !== null)
    throw new HostError('not-a-snapshot', `${origin} is not a valid snapshot: ${inconsistent}; ${again}`)
  return result.data
}

/** What a schema cannot say: equal columns, ascending addresses (look-ups search by halves). */
function checkColumns({ pages, mappings }: Snapshot): string | null {
  const rows = pages.start.length
  for (const name of ['count', 'bits', 'entry', 'step', 'kpageflags', 'mapCount'] as const) {
    if (pages[name].length !== rows)
      return `pages.${name}: ${pages[name].length} rows where pages.start has ${rows}`
  }
  for (let i = 1; i < rows; i++) {
    if (pages.start[i]! < pages.start[i - 1]! + pages.count[i - 1]! * PAGE_SIZE)
      return `pages.start.${i}: not ascending`
  }
  for (let i = 0; i < mappings.length; i++) {
    const { start, end } = mappings[i]!
    if (end <= start || (i > 0 && start < mappings[i - 1]!.end)) return `mappings.${i}: not ascending`
  }
  return null
}

function oneLine(text: string): string {
  return text.replaceAll(/\s+/g, ' ')
}

/** Writes a snapshot as one JSON file. @throws HostError 'unreadable' */
export function writeSnapshot(path: string, snapshot: Snapshot): void {
  try {
    writeFileSync(path, `${JSON.stringify(snapshot)}\n`)
  } catch (error) {
    throw new HostError('unreadable', `cannot write snapshot ${path}: ${errorCode(error)}`, { cause: error })
  }
}
