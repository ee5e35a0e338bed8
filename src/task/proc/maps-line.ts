import { PAGE_SIZE } from '../../base/units.ts'
import type { Kernel } from '../../mm/kernel.ts'
import type { Mm } from '../../mm/mm.ts'
import { VM_EXEC, VM_MAYSHARE, VM_READ, VM_WRITE } from '../../mm/vm-flags.ts'
import type { Vma } from '../../mm/vma.ts'
import { mappingName } from './mapping-name.ts'

/** names begin here, or one blank behind the inode */
const NAME_COLUMN = 73

/** What a header line says besides the addresses. */
export interface MapsHeader {
  readonly start: number
  readonly end: number
  /** `rw-p` */
  readonly perms: string
  /** bytes */
  readonly offset: number
  /** `MAJ:MIN`, hexadecimal */
  readonly device: string
  readonly inode: number
  readonly name: string
}

/**
 * One line of /proc/PID/maps, with its end of line. Without a name it ends in a blank.
 * @rule R-AS-160
 * @rule R-MAPS-1
 */
export function mapsLine({ start, end, perms, offset, device, inode, name }: MapsHeader): string {
  const prefix = `${address(start)}-${address(end)} ${perms} ${address(offset)} ${device} ${inode} `
  return name === '' ? `${prefix}\n` : `${prefix.padEnd(NAME_COLUMN)}${name}\n`
}

function address(bytes: number): string {
  return bytes.toString(16).padStart(8, '0')
}

/** What maps says of a mapping. The offset is 0 without a file. */
export function mapsHeader(k: Kernel, mm: Mm, vma: Vma): MapsHeader {
  const { file } = vma
  return {
    start: vma.start,
    end: vma.end,
    perms: permissions(vma.flags),
    offset: file === null ? 0 : vma.pgoff * PAGE_SIZE,
    device: file === null ? '00:00' : file.mapping.device,
    inode: file === null ? 0 : file.mapping.inode,
    name: mappingName(k, mm, vma),
  }
}

/** `rwxs`: `s` for what may be shared. */
export function permissions(flags: number): string {
  const r = (flags & VM_READ) !== 0 ? 'r' : '-'
  const w = (flags & VM_WRITE) !== 0 ? 'w' : '-'
  const x = (flags & VM_EXEC) !== 0 ? 'x' : '-'
  return `${r}${w}${x}${(flags & VM_MAYSHARE) !== 0 ? 's' : 'p'}`
}
