import { PAGE_SIZE } from '../base/units.ts'
import { captureProcess } from '../host/capture.ts'
import { HostError } from '../host/host-error.ts'
import { decodeMapsName, parseMaps, type MapsRecord } from '../host/maps.ts'
import { pageRunsIn } from '../host/page-runs.ts'
import { PM_PRESENT } from '../host/pagemap.ts'

/** A range as the command line takes it, and what lies there. */
export interface DemoRange {
  readonly range: string
  readonly what: string
}

export interface DemoRanges {
  /** resident anonymous memory the process may write */
  readonly writable: DemoRange
  /** code of a file, mapped without write permission */
  readonly readOnly: DemoRange
}

const LENGTH = 64 * 1024
/** More anonymous mappings than this are not looked at. */
const CANDIDATES = 40

/**
 * Finds memory of both sorts by reading what the process has mapped.
 * @throws HostError when it cannot be read or has none
 */
export function findDemoRanges(pid: number): DemoRanges {
  const stack = captureProcess(pid, { ranges: ['[stack]'] })
  const { records } = parseMaps(stack.maps)
  const code = records.find(
    (record) => record.perms === 'r-xp' && record.rawName.startsWith('/') && isLongEnough(record),
  )
  if (code === undefined)
    throw new HostError('unsupported', `process ${pid} has no program code mapped from a file`)
  return {
    writable: findResident(pid, records.filter(isPlainMemory).sort(heapFirst).slice(0, CANDIDATES)),
    readOnly: { range: rangeText(code.start), what: `the code of ${decodeMapsName(code.rawName).name}` },
  }
}

function isPlainMemory(record: MapsRecord): boolean {
  return (
    record.perms === 'rw-p' &&
    record.inode === 0 &&
    (record.rawName === '' || record.rawName === '[heap]') &&
    isLongEnough(record)
  )
}

function isLongEnough({ start, end }: MapsRecord): boolean {
  return end - start >= LENGTH
}

function heapFirst(a: MapsRecord, b: MapsRecord): number {
  return Number(b.rawName === '[heap]') - Number(a.rawName === '[heap]')
}

/** The first candidate with enough present pages in a row. */
function findResident(pid: number, candidates: readonly MapsRecord[]): DemoRange {
  const ranges = candidates.map(({ start, end }) => ({ start, end, note: null }))
  const { pages } = captureProcess(pid, { ranges })
  for (const { start, end, rawName } of candidates) {
    let from = start
    let to = start
    for (const run of pageRunsIn(pages, start, end)) {
      if ((run.bits & PM_PRESENT) === 0) continue
      if (run.start !== to) from = run.start
      to = run.start + run.count * PAGE_SIZE
      if (to - from >= LENGTH)
        return {
          range: rangeText(from),
          what: rawName === '[heap]' ? 'part of the heap' : 'anonymous memory',
        }
    }
  }
  throw new HostError('unsupported', `process ${pid} has no 64 KiB of resident anonymous memory in a row`)
}

function rangeText(start: number): string {
  return `0x${start.toString(16)}+${LENGTH}`
}
