import { PAGE_SIZE } from '../base/units.ts'
import * as mman from '../mm/mman.ts'
import { arenaAddress, type Range, type Step } from './program.ts'

/** One step as a person reads it: `p1 madvise @3 2 pages DONTNEED`. */
export function stepText(step: Step): string {
  return step.by === 0 ? body(step) : `p${step.by}: ${body(step)}`
}

function body(step: Step): string {
  switch (step.op) {
    case 'mmap': {
      const file = step.file === null ? '' : ` file ${step.file}+${bytes(step.offset)}`
      return `mmap ${range(step)} ${prot(step.prot)} ${mapFlags(step.flags)}${file}`
    }
    case 'mprotect':
      return `mprotect ${range(step)} ${prot(step.prot)}`
    case 'mremap': {
      const to = (step.flags & mman.MREMAP_FIXED) === 0 ? '' : ` to ${arenaAddress(step.to)}`
      return `mremap ${range(step)} → ${bytes(step.newLength)} ${named(step.flags, 'MREMAP_')}${to}`
    }
    case 'madvise':
      return `madvise ${range(step)} ${advice(step.advice)}`
    case 'mlock2':
      return `mlock2 ${range(step)} flags ${step.flags}`
    case 'mlockall':
      return `mlockall ${named(step.flags, 'MCL_')}`
    case 'munmap':
    case 'mlock':
    case 'munlock':
    case 'mseal':
    case 'sum':
      return `${step.op} ${range(step)}`
    case 'fill':
      return `fill ${range(step)} seed ${step.seed}`
    case 'load':
    case 'touch':
      return `${step.op} ${arenaAddress(step.at)}`
    case 'memfd':
    case 'disk':
    case 'hugefd':
      return `${step.op} file ${step.file} of ${bytes(step.size)}${'seed' in step && step.seed === null ? ' (holes)' : ''}`
    case 'close':
      return `close file ${step.file}`
    case 'ftruncate':
      return `ftruncate file ${step.file} to ${bytes(step.size)}`
    case 'punch':
      return `punch file ${step.file} at ${bytes(step.offset)} for ${bytes(step.length)}`
    case 'fork':
    case 'reap':
      return `${step.op} p${step.child}`
    case 'ring':
      return `ring ${step.ring} of ${step.entries} entries`
    case 'closeRing':
      return `close ring ${step.ring}`
    case 'register':
      return `ring ${step.ring} register ${buffers(step.buffers)}`
    case 'registerEmpty':
      return `ring ${step.ring} register ${step.slots} empty slots`
    case 'update':
      return `ring ${step.ring} update slot ${step.slot}: ${buffers(step.buffers)}`
    case 'unregister':
      return `ring ${step.ring} unregister`
    case 'memlock':
      return `RLIMIT_MEMLOCK = ${bytes(step.bytes)}`
    case 'ipcLock':
      return `CAP_IPC_LOCK ${step.on ? 'on' : 'off'}`
    case 'mem':
      return `/proc/p${step.of}/mem ${step.write ? 'write' : 'read'} ${range(step)}`
    default:
      return step.op
  }
}

function buffers(list: readonly Range[]): string {
  return `[${list.map(range).join(', ')}]`
}

function range({ at, length }: Range): string {
  return `${arenaAddress(at)} ${bytes(length)}`
}

function bytes(n: number): string {
  if (n % PAGE_SIZE !== 0) return `${n} bytes`
  const pages = n / PAGE_SIZE
  return `${pages} ${pages === 1 ? 'page' : 'pages'}`
}

function prot(bits: number): string {
  return `${(bits & 1) !== 0 ? 'r' : '-'}${(bits & 2) !== 0 ? 'w' : '-'}${(bits & 4) !== 0 ? 'x' : '-'}`
}

function mapFlags(flags: number): string {
  const type = ['0', 'SHARED', 'PRIVATE', 'SHARED_VALIDATE'][flags & 15] ?? `type${flags & 15}`
  const names = Object.entries(mman)
    .filter(([name, bit]) => name.startsWith('MAP_') && typeof bit === 'number' && bit > 15)
    .filter(([name, bit]) => !/TYPE|SHIFT|HUGE_/.test(name) && (flags & (bit as number)) !== 0)
    .map(([name]) => name.slice(4))
  return [type, ...names].join('|')
}

function named(flags: number, prefix: string): string {
  const names = Object.entries(mman)
    .filter(([name, bit]) => name.startsWith(prefix) && (flags & (bit as number)) !== 0)
    .map(([name]) => name.slice(prefix.length))
  return names.length === 0 ? `flags ${flags}` : names.join('|')
}

function advice(n: number): string {
  const found = Object.entries(mman).find(([name, value]) => name.startsWith('MADV_') && value === n)
  return found === undefined ? `advice ${n}` : found[0].slice(5)
}
