import { ENOMEM } from '../base/errno.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE } from '../base/units.ts'
import { AddressSpace, OpenFile, driverKind, type FileKind } from '../mm/file.ts'
import type { Kernel } from '../mm/kernel.ts'
import { VM_DONTEXPAND, VM_MIXEDMAP } from '../mm/vm-flags.ts'
import { vmInsertPages } from '../mm/vm-insert-pages.ts'
import type { Mm } from '../mm/mm.ts'
import type { Vma } from '../mm/vma.ts'
import type { IoUring } from './io-uring.ts'
import type { Region } from './region.ts'

// offsets at which the parts of a ring are mapped @rule R-URING-87
export const IORING_OFF_SQ_RING = 0
export const IORING_OFF_CQ_RING = 0x8000000
export const IORING_OFF_SQES = 0x10000000
export const IORING_OFF_PBUF_RING = 0x80000000
const PBUF_SHIFT = 16
/** the bits of an offset that name the part; the rest of it is not looked at */
const PART_MASK = 0xf8000000

/**
 * The part of a ring that lies at an offset, null when there is none: no such part, memory of the program's
 * own, or a group of buffers that is not there.
 * @param offset bytes
 * @rule R-URING-98
 */
function partAt(k: Kernel, ring: IoUring, offset: number): Region | null {
  const inside = offset % (PART_MASK & -PART_MASK)
  const part = offset - inside
  let region: Region | undefined
  if (part === IORING_OFF_PBUF_RING) region = ring.groups.get(Math.floor(inside / 2 ** PBUF_SHIFT))
  else if (!k.release.ioUring.mapsPartsByMask && inside !== 0) return null
  else if (part === IORING_OFF_SQ_RING || part === IORING_OFF_CQ_RING) region = ring.rings
  else if (part === IORING_OFF_SQES) region = ring.sqEntries
  return region === undefined || region.pinned ? null : region
}

/** A ring's file: its mappings show kernel pages, put in place at once. */
function ringKind(k: Kernel, ring: IoUring): FileKind {
  return {
    ...driverKind('io_uring'),
    kernelChoosesAddress: true,
    movesAlone: true,
    mmapMethod(_k: Kernel, vma: Vma, mm: Mm): number {
      const region = partAt(k, ring, vma.pgoff * PAGE_SIZE)
      if (region === null)
        return refuse(k.current, ENOMEM, 'R-URING-98', { why: 'nothing of the ring lies at this offset' })
      vma.flags |= VM_DONTEXPAND | VM_MIXEDMAP
      vmInsertPages(k, mm, vma, region.pages)
      return 0
    },
    ...(k.release.ioUring.ringMappings === 'unknown' && {
      unclassified: {
        what: `how release ${k.release.name} maps io_uring's own rings`,
        rule: 'R-URING-36',
        from: 'checks',
      },
    }),
  }
}

/**
 * The file of a ring. When its last reference goes, so does the ring, at once here.
 * @rule R-URING-65
 * @rule R-URING-66
 */
export class IoUringFile extends OpenFile {
  readonly ring: IoUring

  constructor(k: Kernel, ring: IoUring, onRelease: () => void) {
    const mapping = new AddressSpace(k.nextId(), ringKind(k, ring), 0)
    mapping.noexec = k.release.ioUring.ringFileNoexec
    super(mapping, 'anon_inode:[io_uring]', { readable: true, writable: true }, onRelease)
    this.ring = ring
  }
}
