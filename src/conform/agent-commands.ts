import { PAGE_SIZE } from '../base/units.ts'

/** Agent commands of a step, without the observation that follows. */
export interface Commands {
  readonly lines: readonly string[]
  /** index of the line whose reply is the step's result */
  readonly result: number
  /** index of the line whose `r` is a checksum of bytes read, -1 for none */
  readonly sum: number
}

/** A file on the disk, the same for every open file of it. */
export interface DiskFile {
  /** number of the file it was made as, which names it */
  readonly path: number
  /** bytes it has at most */
  size: number
}

/** What has been said to the agent in one program. */
export interface ScriptState {
  /** files on the disk */
  readonly disks: Map<number, DiskFile>
  /** replaced buffers are released late (R-URING-20) */
  readonly releasesLate: boolean
  /** something was done with rings after which VmPin does not tell whether a ring has let go of its pages */
  looseRings: boolean
  /** there were AF_XDP sockets, whose pages go some time after the last holder */
  sockets: boolean
  /** pairs of sockets, and whether their reader is stalled */
  readonly pairs: Map<number, { stalled: boolean }>
}

/** A step that is one command. */
export function oneCommand(line: string, sum = -1): Commands {
  return { lines: [line], result: 0, sum }
}

/** One command for each page of a file. */
export function eachPage(size: number, line: (at: number, length: number) => string): string[] {
  const lines: string[] = []
  for (let at = 0; at < size; at += PAGE_SIZE) lines.push(line(at, Math.min(PAGE_SIZE, size - at)))
  return lines
}
