import type { ReleaseName } from '../base/release.ts'
import { PAGE_SIZE } from '../base/units.ts'
import type { Mapping, Snapshot } from '../host/snapshot.ts'
import { OpenFile, type FileKind } from '../mm/file.ts'
import { createFile } from '../mm/filemap.ts'
import { hugetlbFileSetup } from '../mm/hugetlb.ts'
import type { Kernel } from '../mm/kernel.ts'
import { linkVma } from '../mm/vma-link.ts'
import type { MmapWriteGuard } from '../mm/mmap-lock.ts'
import { createUserfaultfd } from '../mm/userfaultfd.ts'
import { Vma } from '../mm/vma.ts'
import {
  parseVmFlagMnemonics,
  VM_HUGETLB,
  VM_SHARED,
  VM_UFFD_MISSING,
  VM_UFFD_WP,
  VMH_UFFD_MINOR,
} from '../mm/vm-flags.ts'
import { fileKindOf } from './file-kinds.ts'
import type { Restoration } from './restoration.ts'

/** Builds the engine's VMAs from the mappings seen, in address order. */
export function restoreVmas(
  restoration: Restoration,
  guard: MmapWriteGuard,
  snapshot: Snapshot,
): Map<Mapping, Vma> {
  const { kernel } = restoration
  const vmas = new Map<Mapping, Vma>()
  const files = new FileTable(restoration)
  let before: Mapping | null = null
  for (const mapping of snapshot.mappings) {
    if (mapping.backing.kind === 'vsyscall') continue
    const vma = restoreVma(kernel, mapping, files.fileFor(mapping, before))
    const error = linkVma(kernel, guard, vma)
    if (error < 0) throw new Error('the restored machine cannot charge a mapping of its own snapshot')
    if (vma.uffd !== null) {
      vma.uffd.mm = guard.mm
      if (restoration.inRange(mapping)) {
        restoration.assume(
          `${range(mapping)}: its userfaultfd is taken for one that answers (SIGBUS and user-mode-only ones look the same)`,
        )
      }
    }
    vmas.set(mapping, vma)
    before = mapping
  }
  return vmas
}

function range({ start, end }: Mapping): string {
  return `0x${start.toString(16)}-0x${end.toString(16)}`
}

function restoreVma(k: Kernel, mapping: Mapping, file: OpenFile | null): Vma {
  const { flags, highFlags } = parseVmFlagMnemonics(mapping.flags)
  // huge pages of other sizes are mappings the engine stops at, not hugetlb ones it would walk
  const known = file?.mapping.kind.unclassified === undefined ? flags : flags & ~VM_HUGETLB
  const pgoff = (file === null ? mapping.start : mapping.offset) / PAGE_SIZE
  const vma = new Vma(mapping.start, mapping.end, known, pgoff, file, highFlags)
  if (mapping.backing.kind === 'vdso' || mapping.backing.kind === 'vvar') vma.specialName = mapping.name
  const served = (flags & (VM_UFFD_MISSING | VM_UFFD_WP)) !== 0 || (highFlags & VMH_UFFD_MINOR) !== 0
  if (served) vma.uffd = createUserfaultfd(k)
  return vma
}

/**
 * Which mappings share an open file. /proc shows device and inode, never the identity of vm_file, so two
 * mappings of one inode under one name are taken for one open file unless they lie side by side with equal
 * flags and contiguous offsets and still were not merged. Other names of the inode are other open files.
 *
 * Holds a reference on each file for as long as the restored kernel lives.
 * @rule R-MAP-2
 */
class FileTable {
  readonly #kernel: Kernel
  readonly #release: ReleaseName
  readonly #restoration: Restoration
  /** by device, inode and name */
  readonly #open = new Map<string, OpenFile>()
  /** by device, inode and kind: what all open files of an inode share */
  readonly #inodes = new Map<string, OpenFile>()

  constructor(restoration: Restoration) {
    this.#kernel = restoration.kernel
    this.#release = restoration.release
    this.#restoration = restoration
  }

  /** A reference for the VMA to keep; null for memory without a file. */
  fileFor(mapping: Mapping, before: Mapping | null): OpenFile | null {
    const kind = fileKindOf(mapping.backing, this.#release)
    if (kind === null) return null
    const key = fileKey(mapping)
    const known = this.#open.get(key)
    const beside = known !== undefined && before !== null && fileKey(before) === key
    if (beside && shouldHaveMerged(before, mapping)) {
      this.#say(
        [before, mapping],
        'two mappings of one inode lie side by side unmerged, so they are taken for two open files',
      )
    } else if (known !== undefined) {
      if (beside) this.#say([before, mapping], 'mappings of one inode are taken for one open file')
      this.#grow(known, mapping)
      return known.get()
    }
    const file = this.#openFile(kind, mapping)
    this.#open.set(key, file)
    return file.get()
  }

  /** It matters to a request that reaches both mappings. */
  #say(pair: readonly [Mapping, Mapping], what: string): void {
    if (!pair.every((mapping) => this.#restoration.inRange(mapping))) return
    const [{ name, backing }] = pair
    this.#restoration.assume(`${name || backing.kind}: ${what} (the kernel does not show which)`)
  }

  #openFile(kind: FileKind, mapping: Mapping): OpenFile {
    const inode = `${mapping.device} ${mapping.inode} ${mapping.backing.kind}`
    const opened = mapping.inode === 0 ? undefined : this.#inodes.get(inode)
    if (opened !== undefined) {
      this.#grow(opened, mapping)
      return new OpenFile(opened.mapping, nameOf(kind, mapping), {
        readable: true,
        writable: mayWrite(mapping),
      })
    }
    const file = this.#create(kind, mapping)
    this.#inodes.set(inode, file)
    return file
  }

  #create(kind: FileKind, mapping: Mapping): OpenFile {
    const size = mapping.fileSize ?? endInFile(mapping)
    const path = nameOf(kind, mapping)
    if (kind.hugetlb)
      return hugetlbFileSetup(this.#kernel, { name: path, size, pageSize: mapping.pageSize, noreserve: true })
    const file = createFile(this.#kernel, kind, { path, size, readable: true, writable: mayWrite(mapping) })
    const { backing } = mapping
    if (backing.kind === 'file') {
      file.mapping.dax = backing.dax === 'yes' || (backing.dax === 'unknown' && this.#restoration.guesses.dax)
      if (backing.dax === 'unknown' && this.#restoration.inRange(mapping)) this.#restoration.doubt('dax')
    }
    if (mapping.fileSize === null && kind.faultable && this.#restoration.inRange(mapping)) {
      this.#restoration.assume(
        `${path}: taken to be at least as long as its mapping (its size could not be read)`,
      )
    }
    return file
  }

  /** A size that could not be read is at least what is mapped. */
  #grow(file: OpenFile, mapping: Mapping): void {
    if (mapping.fileSize === null) file.mapping.size = Math.max(file.mapping.size, endInFile(mapping))
  }
}

function fileKey({ device, inode, name, backing }: Mapping): string {
  return `${device} ${inode} ${backing.kind} ${name}`
}

function nameOf(kind: FileKind, mapping: Mapping): string {
  return mapping.name || kind.name
}

function endInFile(mapping: Mapping): number {
  return mapping.offset + (mapping.end - mapping.start)
}

function mayWrite(mapping: Mapping): boolean {
  return (parseVmFlagMnemonics(mapping.flags).flags & VM_SHARED) !== 0
}

function shouldHaveMerged(before: Mapping, after: Mapping): boolean {
  return (
    before.end === after.start &&
    before.flags.join() === after.flags.join() &&
    before.offset + (before.end - before.start) === after.offset
  )
}
