import { WaitQueue, type Completion, type Kthread } from '../base/kthread.ts'
import type { HugetlbFile } from './hugetlb-reserve.ts'
import type { CurrentTask, Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import type { FileStorage } from './storage.ts'
import type { Vma } from './vma.ts'

/** Page cache of one file: index → pfn in blocks of 512, so a resident page costs 4 bytes. */
export class PageCache {
  readonly #blocks = new Map<number, Int32Array>()
  #count = 0

  /** pages present */
  get count(): number {
    return this.#count
  }

  /** @returns the pfn cached at a page index, 0 when there is none */
  get(index: number): number {
    const block = this.#blocks.get(Math.floor(index / 512))
    return block === undefined ? 0 : block[index % 512]!
  }

  set(index: number, pfn: number): void {
    const key = Math.floor(index / 512)
    let block = this.#blocks.get(key)
    if (block === undefined) {
      block = new Int32Array(512)
      this.#blocks.set(key, block)
    }
    const slot = index % 512
    if (block[slot] === 0) this.#count++
    block[slot] = pfn
  }

  delete(index: number): void {
    const block = this.#blocks.get(Math.floor(index / 512))
    const slot = index % 512
    if (block === undefined || block[slot] === 0) return
    block[slot] = 0
    this.#count--
  }

  /** Visits present pages with `start <= index < end`. The visitor may delete what it is shown. */
  forEach(visit: (index: number, pfn: number) => void, start = 0, end = Number.MAX_SAFE_INTEGER): void {
    if (this.#count === 0) return
    const first = Math.floor(start / 512)
    for (const [key, block] of this.#blocks) {
      const base = key * 512
      if (key < first || base >= end) continue
      for (let slot = 0; slot < 512; slot++) {
        const pfn = block[slot]!
        if (pfn !== 0 && base + slot >= start && base + slot < end) visit(base + slot, pfn)
      }
    }
  }
}

/**
 * A driver or file system whose behaviour nobody has classified: where an answer would depend on it, GUP and
 * the fault handler stop with `Unmodelled`.
 */
export interface Unclassified {
  /** one clause, names the file */
  readonly what: string
  readonly rule: string
  /** `checks`: nothing is known, the checks of the mapping stop; `pages`: only dirty tracking and faults do */
  readonly from: 'checks' | 'pages'
}

/**
 * What the mm needs to know of a kind of file. `vm_ops`, `a_ops` and `file_operations` in one, as facts.
 */
export interface FileKind {
  /** `ext4`, `shmem`, `hugetlbfs`, `secretmem`, `io_uring`, … as `explain` prints it */
  readonly name: string
  /** vm_ops has page_mkwrite or pfn_mkwrite: writes to shared mappings are tracked (R-GUP-20) */
  readonly pageMkwrite: boolean
  /** the mapping can be written back to storage (R-GUP-20) */
  readonly canWriteback: boolean
  /** vm_ops is shmem_vm_ops: memfd, tmpfs, shared anonymous; not SysV shm, whose vm_ops differ */
  readonly shmemOps: boolean
  /** pages come from and swap to shmem: memfd, tmpfs, shared anonymous, SysV */
  readonly shmem: boolean
  readonly hugetlb: boolean
  readonly secretmem: boolean
  /** the file has an mmap method (R-AS-10 step 22) */
  readonly mappable: boolean
  /** it chooses addresses by a method of its own, so mremap moves its mappings alone only (R-AS-75) */
  readonly movesAlone?: true
  /** a fault on an empty entry can be served (vm_ops->fault) */
  readonly faultable: boolean
  /** vm_ops->map_pages: fault-around (R-FLT-39) */
  readonly faultAround: boolean
  /** page-cache pages carry PG_private, one reference of their own (R-FLT-1) */
  readonly privateData: boolean
  /** its page cache takes large folios where the release makes them (R-HUGE-31) */
  readonly largeFolios?: true
  /** mappings have no vm_ops at all: MAP_PRIVATE of /dev/zero */
  readonly anonymousWhenPrivate: boolean
  /** vm_ops->close exists (R-AS-134) */
  readonly closeHook: boolean
  /** the filesystem aligns big mappings for huge pages (R-AS-39) */
  readonly thpAligned: boolean
  /** what read(2) and write(2) work on: the page cache, hugetlb pages (read only), nothing but zeros, or not at all (R-FLT-172) */
  readonly readWrite: 'page-cache' | 'hugetlb' | 'zero' | 'none'
  /** set where it is not known what the driver or file system does */
  readonly unclassified?: Unclassified
  /** an address of the caller's choice is refused: io_uring rings (R-AS-42) */
  readonly kernelChoosesAddress?: boolean
  /**
   * The driver's own part of mmap: may change `vma.flags` and put pages in place. 0 or -errno.
   * Undefined: nothing happens there but what the other facts say.
   */
  readonly mmapMethod?: (k: Kernel, vma: Vma, mm: Mm) => number
  /**
   * A driver's own vm_ops->fault: puts an entry where there is none (`vmfInsertPfn`). Returns 0 or VM_FAULT_*.
   * Undefined: what `faultable` says.
   */
  readonly faultMethod?: (k: Kernel, mm: Mm, vma: Vma, address: number) => number
  /**
   * vm_ops->access: how others than the process itself reach memory that GUP refuses (`genericAccessPhys`). Gets as
   * much of a transfer as is left and may do all of it. Bytes moved, or 0 or less for none (R-ARV-3).
   */
  readonly access?: (
    k: Kernel,
    vma: Vma,
    address: number,
    buffer: Uint8Array,
    write: boolean,
  ) => Kthread<number>
}

const plain: Omit<FileKind, 'name'> = {
  pageMkwrite: false,
  canWriteback: false,
  shmemOps: false,
  shmem: false,
  hugetlb: false,
  secretmem: false,
  mappable: true,
  faultable: true,
  faultAround: false,
  privateData: false,
  anonymousWhenPrivate: false,
  closeHook: false,
  thpAligned: false,
  readWrite: 'none',
}

/** A file system that tracks dirty pages: ext4, xfs, btrfs, … */
export function regularFileKind(name: string): FileKind {
  return {
    ...plain,
    name,
    pageMkwrite: true,
    canWriteback: true,
    faultAround: true,
    privateData: name === 'ext4',
    ...(name === 'ext4' ? { largeFolios: true } : {}),
    thpAligned: true,
    readWrite: 'page-cache',
  }
}

/** memfd, tmpfs and shared anonymous memory. */
export const SHMEM: FileKind = {
  ...plain,
  name: 'shmem',
  shmemOps: true,
  shmem: true,
  faultAround: true,
  readWrite: 'page-cache',
}
/** SysV shared memory: shmem behind vm_ops of its own (io-uring.md §6). */
export const SYSV_SHM: FileKind = {
  ...SHMEM,
  name: 'sysv-shm',
  shmemOps: false,
  closeHook: true,
  movesAlone: true,
  faultAround: false,
}
export const HUGETLBFS: FileKind = { ...plain, name: 'hugetlbfs', hugetlb: true, readWrite: 'hugetlb' }
/** SHM_HUGETLB: huge pages behind the vm_ops of SysV shared memory. */
export const SYSV_HUGETLB: FileKind = { ...HUGETLBFS, name: 'sysv-shm-hugetlb', closeHook: true }
export const SECRETMEM: FileKind = { ...plain, name: 'secretmem', secretmem: true }
/**
 * /dev/zero: private mappings are anonymous memory that keeps its file; shared ones are shmem.
 * @rule R-FLT-37
 */
export const DEV_ZERO: FileKind = {
  ...plain,
  name: '/dev/zero',
  anonymousWhenPrivate: true,
  movesAlone: true,
  readWrite: 'zero',
}
/** ramfs keeps dirty pages of its own: counts as able to write back (io-uring.md §6). */
export const RAMFS: FileKind = {
  ...plain,
  name: 'ramfs',
  canWriteback: true,
  faultAround: true,
  readWrite: 'page-cache',
}
/** An open directory, pipe or other file without mmap method. */
export const UNMAPPABLE: FileKind = { ...plain, name: 'unmappable', mappable: false, faultable: false }

/** Either end of a pipe. */
export const PIPE: FileKind = { ...UNMAPPABLE, name: 'pipe' }

/** A driver's mapping: ordinary pages put in place at mmap time, nothing to fault in later. */
export function driverKind(name: string, tracksWrites = false): FileKind {
  return { ...plain, name, pageMkwrite: tracksWrites, faultable: false, closeHook: true }
}

/** The file has an fsync method: what MS_SYNC asks for is possible. Memory files have one that does nothing. */
export function canSync(kind: FileKind): boolean {
  return kind.canWriteback || kind.shmem || kind.hugetlb
}

export const F_SEAL_SEAL = 0x1
export const F_SEAL_SHRINK = 0x2
export const F_SEAL_GROW = 0x4
export const F_SEAL_WRITE = 0x8
export const F_SEAL_FUTURE_WRITE = 0x10
export const F_SEAL_EXEC = 0x20

/** `struct address_space` with its inode: the pages of one file and who maps them. */
export class AddressSpace {
  /** unique in its kernel, positive: what `frames.mapping` of a cached page holds */
  readonly id: number
  readonly kind: FileKind
  /** i_size in bytes */
  size: number
  /** `maj:min` of its file system in hexadecimal, and the number of its inode, as /proc/PID/maps prints them */
  device = '00:01'
  inode: number
  readonly pages = new PageCache()
  /** memory files: pages that are swapped out, index → swap slot */
  readonly swapped = new Map<number, number>()
  /** i_mmap: every VMA that maps it */
  readonly mappers = new Set<Vma>()
  /** shared mappings that may write; seals are refused while there are any */
  writableMappings = 0
  /** pages charged to the commit limit for the object as a whole: shared anonymous memory (R-AS-40) */
  committed = 0
  /** made by mmap(MAP_SHARED | MAP_ANONYMOUS): nobody can open it (R-AS-2) */
  sharedAnonymous = false
  /** F_SEAL_* of a memfd */
  seals = 0
  /** the inode has x bits: a memfd made with MFD_NOEXEC_SEAL has none (R-SEAL-3) */
  executable = true
  /** open file descriptions; with the last one the page cache goes */
  opens = 0
  /** bytes of one page-cache entry; more than 4096 for hugetlb only */
  readonly pageSize: number
  /** fs-DAX file (R-GUP-16 check 3) */
  dax = false
  /** pool and reservations of a hugetlb file (hugetlb-reserve.ts) */
  hugetlb: HugetlbFile | null = null
  /** opened with O_APPEND-only inode flag (R-AS-10 step 19) */
  appendOnly = false
  /** mounted noexec (R-AS-10 step 21) */
  noexec = false
  /**
   * uid of the inode's owner. mincore and MADV_PAGEOUT tell and do less to others who may not write the file;
   * null: whoever asks may (R-AS-111)
   */
  owner: number | null = null
  /** others than the owner may write it */
  writableByOthers = false
  /** an active swap file (R-AS-10 step 18) */
  swapFile = false
  /** a page of it that must be read from storage keeps its reader asleep until this queue is woken */
  readonly io = new WaitQueue('page I/O')
  /** reads from storage and direct I/O complete only when `completeIo` is called; false: at once */
  slowIo = false
  /** direct I/O under way on a file with `slowIo` */
  readonly inFlight = new Set<Completion>()
  /** what the disk holds, where it may differ from what is cached (storage.ts); null: not told apart yet */
  storage: FileStorage | null = null
  /** pages of large folios that are dirty whose blocks are not (dirty-blocks.ts) */
  readonly cleanBlocks = new Set<number>()

  constructor(id: number, kind: FileKind, size: number, pageSize = 4096) {
    this.id = id
    this.inode = id
    this.kind = kind
    this.size = size
    this.pageSize = pageSize
  }
}

/** `inode_owner_or_capable`, or the permission to write: who may know and do more about a file's pages. */
export function mayWriteInode(task: CurrentTask, mapping: AddressSpace): boolean {
  return (
    mapping.owner === null ||
    mapping.owner === task.uid ||
    mapping.writableByOthers ||
    task.capable('CAP_FOWNER') ||
    task.capable('CAP_DAC_OVERRIDE')
  )
}

/** What a file is opened for. */
export interface FileAccess {
  readonly readable: boolean
  readonly writable: boolean
  /** O_DIRECT; default false */
  readonly direct?: boolean
}

/** `struct file`: one open file description. Same file = same object (R-AS-126). */
export class OpenFile {
  readonly mapping: AddressSpace
  /** as /proc/PID/maps prints it */
  readonly path: string
  readonly readable: boolean
  readonly writable: boolean
  /** f_pos, bytes: where the next read or write without a position begins */
  pos = 0
  /** O_DIRECT */
  readonly direct: boolean
  /** references: descriptors and VMAs (R-AS-125) */
  refs = 1
  /** called when the last reference goes */
  readonly onRelease: (() => void) | null

  constructor(
    mapping: AddressSpace,
    path: string,
    access: FileAccess,
    onRelease: (() => void) | null = null,
  ) {
    this.mapping = mapping
    this.path = path
    this.readable = access.readable
    this.writable = access.writable
    this.direct = access.direct ?? false
    this.onRelease = onRelease
  }

  get(): this {
    this.refs++
    return this
  }

  put(): void {
    if (--this.refs === 0) this.onRelease?.()
  }
}
