import { PAGE_SIZE } from '../base/units.ts'
import type { Range, Step } from './program.ts'

/** The agent commands of one step. */
export interface StepLines {
  /** all of them, in order */
  readonly lines: readonly string[]
  /** index of the line whose reply is the step's result */
  readonly result: number
  /** index of the line whose `r` is a checksum of bytes read, -1 for none */
  readonly sum: number
  /** index of the line that shows each process, the acting one first */
  readonly views: readonly (readonly [process: number, line: number])[]
}

const MFD_HUGETLB = 4
const O_RDWR_CREAT = 0x42
const CAP_IPC_LOCK = 14
const RLIMIT_MEMLOCK = 8
const REGISTER_SPARSE = 1
const SYS_FADVISE64 = 221
const POSIX_FADV_RANDOM = 1
/** each takes 40 ms or more: together longer than the second after which a replaced buffer is released */
const SETTLES_OF_AN_UPDATE = 40
/** Steps about a file or a ring that an earlier failure may have left unmade. */
const MAY_DANGLE: ReadonlySet<string> = new Set([
  'register',
  'registerEmpty',
  'update',
  'unregister',
  'closeRing',
  'close',
  'ftruncate',
  'punch',
])

/** Turns the steps of one program into agent commands; keeps track of which processes there are. */
export class AgentScript {
  /** file → size */
  readonly #disks = new Map<number, number>()
  readonly #parents = new Map<number, number | null>([[0, null]])
  readonly #releasesLate: boolean

  /** @param releasesLate wait for replaced buffers to be released (R-URING-20) */
  constructor(releasesLate = false) {
    this.#releasesLate = releasesLate
  }

  lines(step: Step): StepLines {
    const prefix = this.#path(step.by)
    const own = commands(step)
    const lines = own.lines.map((line) => prefix + line)
    lines.push(...this.#readBack(step).map((line) => prefix + line))
    if (step.op === 'update' && this.#releasesLate)
      lines.push(...Array<string>(SETTLES_OF_AN_UPDATE).fill(`${prefix}settle`))
    // a command about what could not be made is not observed
    const names = MAY_DANGLE.has(step.op) || (step.op === 'mmap' && step.file !== null)
    if (names) lines.push(`${prefix}nop`)
    if (step.op === 'fork') this.#parents.set(step.child, step.by)
    if (step.op === 'reap') this.#parents.delete(step.child)
    // the last reference to a ring may have gone with the child
    if (step.op === 'reap') lines.push(`${prefix}settle`)
    const views: [number, number][] = [[step.by, lines.length - 1]]
    for (const other of this.#parents.keys()) {
      if (other === step.by) continue
      views.push([other, lines.length])
      lines.push(`${this.#path(other)}nop`)
    }
    return { lines, result: own.result, sum: own.sum, views }
  }

  /**
   * Pages of a disk file that a change of its size or a hole took out of the cache are read in again one by
   * one, without read-ahead: what is cached, and in folios of which size, is then the same on both sides.
   */
  #readBack(step: Step): string[] {
    if (step.op === 'disk') this.#disks.set(step.file, step.size)
    if (step.op === 'ftruncate' && this.#disks.has(step.file)) this.#disks.set(step.file, step.size)
    if (step.op !== 'ftruncate' && step.op !== 'punch') return []
    const size = this.#disks.get(step.file)
    return size === undefined ? [] : eachPage(size, (at, length) => `fdsum f${step.file} ${at} ${length}`)
  }

  #path(process: number): string {
    const parent = this.#parents.get(process) ?? null
    return parent === null ? '' : `${this.#path(parent)}child p${process} `
  }
}

interface Commands {
  readonly lines: readonly string[]
  readonly result: number
  readonly sum: number
}

function one(line: string, sum = -1): Commands {
  return { lines: [line], result: 0, sum }
}

function commands(step: Step): Commands {
  switch (step.op) {
    case 'mmap': {
      const fd = step.file === null ? '-1' : `$f${step.file}`
      return one(`sys mmap ${range(step)} ${step.prot} ${step.flags} ${fd} ${step.offset}`)
    }
    case 'munmap':
    case 'mlock':
    case 'munlock':
    case 'mseal':
      return one(`sys ${step.op} ${range(step)}`)
    case 'mprotect':
      return one(`sys mprotect ${range(step)} ${step.prot}`)
    case 'mremap':
      return one(`sys mremap ${range(step)} ${step.newLength} ${step.flags} ${address(step.to)}`)
    case 'madvise':
      return one(`sys madvise ${range(step)} ${step.advice}`)
    case 'mlock2':
      return one(`sys mlock2 ${range(step)} ${step.flags}`)
    case 'mlockall':
      return one(`sys mlockall ${step.flags}`)
    case 'munlockall':
      return one('sys munlockall')
    case 'load':
      return one(`peek ${address(step.at)}`)
    case 'touch':
      return one(`touch w ${address(step.at)}`)
    case 'fill':
      return one(`fill ${range(step)} ${step.seed}`)
    case 'sum':
      return one(`sum ${range(step)}`, 0)
    case 'memfd':
      return one(`memfd f${step.file} 0 ${step.size}${step.seed === null ? '' : ` ${step.seed}`}`)
    case 'hugefd':
      return one(`memfd f${step.file} ${MFD_HUGETLB} ${step.size}`)
    case 'disk':
      return disk(step.file, step.size, step.seed)
    case 'close':
      return one(`close f${step.file}`)
    case 'ftruncate':
      return one(`sys ftruncate $f${step.file} ${step.size}`)
    case 'punch':
      return one(`sys fallocate $f${step.file} 3 ${step.offset} ${step.length}`)
    case 'fork':
      return one(`fork p${step.child}`)
    case 'reap':
      return one(`reap p${step.child}`)
    case 'ring':
      return one(`ring r${step.ring} ${step.entries} 0`)
    case 'closeRing':
      return one(`close r${step.ring}`)
    case 'register':
      return one(`bufs r${step.ring} ${step.buffers.map(iovec).join(' ')}`)
    case 'registerEmpty':
      return one(`bufs2 r${step.ring} ${REGISTER_SPARSE} ${step.slots}`)
    case 'update':
      return one(`upd r${step.ring} ${step.slot} ${step.buffers.map(iovec).join(' ')}`)
    case 'unregister':
      return one(`unreg r${step.ring}`)
    case 'memlock':
      return one(`limit ${RLIMIT_MEMLOCK} ${step.bytes}`)
    case 'ipcLock':
      return one(`cap ${CAP_IPC_LOCK} ${step.on ? 'on' : 'off'}`)
    case 'mem': {
      const who = step.of === step.by ? 'self' : `p${step.of}`
      const prepare = `fill &0 ${step.length} ${step.write ? step.seed : 0}`
      const transfer = `mem ${step.write ? 'w' : 'r'} ${who} ${range(step)} &0`
      if (step.write) return { lines: [prepare, transfer], result: 1, sum: -1 }
      return { lines: [prepare, transfer, `sum &0 ${step.length}`], result: 1, sum: 2 }
    }
  }
}

/** Written page by page, so that every page is a folio of its own; no read-ahead from then on. */
function disk(file: number, size: number, seed: number): Commands {
  const f = `f${file}`
  const writes = eachPage(size, (at, length) => {
    const page = at / PAGE_SIZE
    return `fdfill ${f} ${at} ${length} ${(seed + 17 * page) & 255}`
  })
  const open = `open ${f} disk ${f} ${O_RDWR_CREAT}`
  const advice = `sys ${SYS_FADVISE64} $${f} 0 0 ${POSIX_FADV_RANDOM}`
  return { lines: [open, ...writes, `sys fsync $${f}`, advice], result: 0, sum: -1 }
}

function eachPage(size: number, line: (at: number, length: number) => string): string[] {
  const lines: string[] = []
  for (let at = 0; at < size; at += PAGE_SIZE) lines.push(line(at, Math.min(PAGE_SIZE, size - at)))
  return lines
}

function range({ at, length }: Range): string {
  return `${address(at)} ${length}`
}

function iovec({ at, length }: Range): string {
  return at === 0 && length === 0 ? '0 0' : range({ at, length })
}

/** An address the way the agent takes it. */
function address(at: number): string {
  const page = Math.floor(at / PAGE_SIZE)
  const rest = at - page * PAGE_SIZE
  if (page < 0) return `@0-${-at}`
  return rest === 0 ? `@${page}` : `@${page}+${rest}`
}
