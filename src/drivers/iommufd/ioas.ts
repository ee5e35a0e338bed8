import {
  E2BIG,
  EBADF,
  EBUSY,
  EFAULT,
  EINVAL,
  ENOENT,
  ENOTTY,
  EOPNOTSUPP,
  EOVERFLOW,
  EPERM,
} from '../../base/errno.ts'
import type { Kthread } from '../../base/kthread.ts'
import { refuse } from '../../base/refusal.ts'
import { Unmodelled } from '../../base/unmodelled.ts'
import { PAGE_SIZE } from '../../base/units.ts'
import { F_SEAL_FUTURE_WRITE, F_SEAL_WRITE, type OpenFile } from '../../mm/file.ts'
import type { Unreadable } from '../../mm/iovec.ts'
import type { Kernel } from '../../mm/kernel.ts'
import { canLock, kmalloc } from '../../task/device/charge.ts'
import { Device } from '../../task/device/device.ts'
import { Domain, IoPagetable, type DomainData, type Slice } from './io-pagetable.ts'
import { IoptPages, type AccountMode } from './pages.ts'

export const IOMMU_IOAS_MAP_FIXED_IOVA = 1
export const IOMMU_IOAS_MAP_WRITEABLE = 2
export const IOMMU_IOAS_MAP_READABLE = 4
const MAP_FLAGS = 7
const ULONG_MAX = 2 ** 64 - 1

/** `struct iommu_ioas_map`; `iova` is written back */
export interface IoasMap {
  /** IOMMU_IOAS_MAP_* */
  readonly flags: number
  readonly ioas: number
  readonly userVa: number
  /** bytes */
  readonly length: number
  iova?: number
  readonly reserved?: number
}

/** `struct iommu_ioas_map_file`; `iova` is written back */
export interface IoasMapFile {
  /** IOMMU_IOAS_MAP_* */
  readonly flags: number
  readonly ioas: number
  /** what the descriptor leads to; null: to nothing */
  readonly file: OpenFile | null
  /** bytes from the start of the file */
  readonly start: number
  /** bytes */
  readonly length: number
  iova?: number
}

/** `struct iommu_ioas_copy`; `iova` is written back */
export interface IoasCopy {
  readonly flags: number
  readonly source: number
  readonly target: number
  readonly sourceIova: number
  readonly length: number
  iova?: number
}

/** What every command of /dev/iommu is checked for first. */
export interface CommandSize {
  /** the size word, or that it cannot be read */
  readonly size: number | Unreadable
  /** the command exists */
  readonly known: boolean
  /** bytes it has at least, and that this release knows */
  readonly least: number
  readonly most: number
  /** bytes beyond those are not all zero */
  readonly tail?: boolean
}

/** An open `/dev/iommu`: IO address spaces by number. */
export class Iommufd extends Device {
  readonly ioases = new Map<number, IoPagetable>()
  /** IOMMU_OPTION_RLIMIT_MODE: who pays where the limit applies */
  accountMode: AccountMode = 'user'
  #lastId = 0

  constructor(k: Kernel, path = '/dev/iommu') {
    super(k, path)
  }

  // pins belong to the pages, which declare them by themselves
  override forEachReference(): void {}

  #refused(errno: number, rule: string, why: string): number {
    return refuse(this.kernel.current, errno, rule, { why })
  }

  /** What is common to all commands. @returns 0 or a negative errno @rule R-IOMMUFD-1 */
  // oxlint-disable-next-line require-yield -- decided at once
  *checkCommand({ size, known, least, most, tail = false }: CommandSize): Kthread<number> {
    if (size === 'unreadable') return this.#refused(EFAULT, 'R-IOMMUFD-1', 'the size cannot be read')
    if (!known) return this.#refused(ENOTTY, 'R-IOMMUFD-1', 'there is no such command')
    if (size < least) return this.#refused(EINVAL, 'R-IOMMUFD-1', 'the structure is too short')
    if (size > most && tail)
      return this.#refused(E2BIG, 'R-IOMMUFD-1', 'the structure has fields this release does not know')
    return 0
  }

  /** IOMMU_IOAS_ALLOC. @returns its number */
  // oxlint-disable-next-line require-yield -- nothing here sleeps
  *ioasAlloc(): Kthread<number> {
    const error = kmalloc(this.kernel, 'R-IOMMUFD-2')
    if (error < 0) return error
    const id = ++this.#lastId
    this.ioases.set(id, new IoPagetable(this.kernel, `IOAS ${id} of ${this.name}`))
    return id
  }

  /** Who pays for pages mapped now. @rule R-IOMMUFD-7 */
  #mode(): AccountMode {
    return canLock(this.kernel) ? 'none' : this.accountMode
  }

  /** Checks permission bits where the release does. @returns 0 or -EINVAL */
  #checkAccess(flags: number, rule: string): number {
    if ((flags & (IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE)) !== 0) return 0
    const { iommufdNeedsAccess } = this.kernel.release.drivers
    if (iommufdNeedsAccess === 'unknown') throw new Unmodelled('a mapping without any permission', rule)
    return iommufdNeedsAccess ? this.#refused(EINVAL, rule, 'neither READABLE nor WRITEABLE') : 0
  }

  /**
   * IOMMU_IOAS_MAP.
   * @param map its `iova` says afterwards where
   * @returns 0 or a negative errno with nothing mapped, pinned or charged
   * @throws Unmodelled for a mapping without permissions on releases of which that is not known
   * @rule R-IOMMUFD-2
   */
  *ioasMap(map: IoasMap): Kthread<number> {
    const ioas = this.#checkMap(map)
    if (typeof ioas === 'number') return ioas
    const at = yield* this.mapUser(ioas, map.userVa, map.length, map.flags, fixedIova(map))
    if (at < 0) return at
    map.iova = at
    return 0
  }

  #checkMap(map: IoasMap | IoasMapFile): IoPagetable | number {
    const { flags, length, iova = 0 } = map
    const refused = (errno: number, why: string): number => this.#refused(errno, 'R-IOMMUFD-2', why)
    const reserved = 'reserved' in map ? (map.reserved ?? 0) : 0
    if ((flags & ~MAP_FLAGS) !== 0 || reserved !== 0)
      return refused(EOPNOTSUPP, 'a flag or field that is not known')
    if (iova >= ULONG_MAX || length >= ULONG_MAX) return refused(EOVERFLOW, 'IOVA or length is too large')
    const forbidden = this.#checkAccess(flags, 'R-IOMMUFD-2')
    if (forbidden < 0) return forbidden
    return this.ioases.get(map.ioas) ?? refused(ENOENT, 'there is no such IO address space')
  }

  /**
   * IOMMU_IOAS_MAP_FILE: memory of a memfd or of a hugetlb file, wherever it is mapped or not at all.
   * @param map its `iova` says afterwards where
   * @returns 0, -EBADF, or as IOMMU_IOAS_MAP; a file of another kind or a range beyond its end is -EINVAL when it is
   *   pinned
   * @throws Unmodelled for a writeable mapping of a file that may not be written
   * @rule R-IOMMUFD-15
   */
  *ioasMapFile(map: IoasMapFile): Kthread<number> {
    const missing = this.#newerCommand()
    if (missing < 0) return missing
    const ioas = this.#checkMap(map)
    if (typeof ioas === 'number') return ioas
    const { file, flags } = map
    if (file === null) return this.#refused(EBADF, 'R-IOMMUFD-15', 'the descriptor is not open')
    const write = (flags & IOMMU_IOAS_MAP_WRITEABLE) !== 0
    if (write && (!file.writable || (file.mapping.seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) !== 0))
      throw new Unmodelled('a writeable mapping of a file that may not be written', 'R-IOMMUFD-15')
    const at = yield* this.mapUser(ioas, map.start, map.length, flags, fixedIova(map), file)
    if (at < 0) return at
    map.iova = at
    return 0
  }

  #newerCommand(): number {
    if (this.kernel.release.drivers.iommufdMapsFiles) return 0
    return this.#refused(ENOTTY, 'R-IOMMUFD-15', 'this release has no such command')
  }

  /**
   * `iopt_map_user_pages`, and the same for a file.
   * @param userVa or with `file` the position in it
   * @returns the IOVA or a negative errno
   * @internal MAP and its VFIO form
   */
  *mapUser(
    ioas: IoPagetable,
    userVa: number,
    length: number,
    flags: number,
    iova: number | null,
    file: OpenFile | null = null,
  ): Kthread<number> {
    const refused = (errno: number, why: string): number => this.#refused(errno, 'R-IOMMUFD-2', why)
    if (length === 0 || length > ULONG_MAX - PAGE_SIZE) return refused(EINVAL, 'no bytes, or too many')
    if (userVa + length > ULONG_MAX) return refused(EOVERFLOW, 'the end of the memory wraps around')
    const noMemory = kmalloc(this.kernel, 'R-IOMMUFD-2')
    if (noMemory < 0) return noMemory
    const write = (flags & IOMMU_IOAS_MAP_WRITEABLE) !== 0
    const read = (flags & IOMMU_IOAS_MAP_READABLE) !== 0
    const pages = new IoptPages(this.kernel, userVa, length, write, this.#mode(), file)
    const slice = { pages, length, offset: userVa - pages.uptr }
    const at = yield* ioas.map([slice], { iova, read, write })
    if (pages.areas === 0) pages.putArea()
    return at
  }

  /**
   * IOMMU_IOAS_COPY: shows the pages of one IO address space in another (or the same). Pages that are pinned are not
   * pinned again, and whoever mapped them keeps paying.
   * @rule R-IOMMUFD-10
   */
  *ioasCopy(copy: IoasCopy): Kthread<number> {
    const { flags, sourceIova, length, iova = 0 } = copy
    const refused = (errno: number, why: string): number => this.#refused(errno, 'R-IOMMUFD-10', why)
    if ((flags & ~MAP_FLAGS) !== 0) return refused(EOPNOTSUPP, 'a flag that is not known')
    if (iova >= ULONG_MAX || length >= ULONG_MAX) return refused(EOVERFLOW, 'IOVA or length is too large')
    const forbidden = this.#checkAccess(flags, 'R-IOMMUFD-10')
    if (forbidden < 0) return forbidden
    const source = this.ioases.get(copy.source)
    if (source === undefined) return refused(ENOENT, 'there is no such source')
    if (length === 0) return refused(EINVAL, 'no bytes')
    const parts = source.cover(sourceIova, length)
    if (parts === null) return refused(ENOENT, 'the source is not mapped as a whole')
    const target = this.ioases.get(copy.target)
    if (target === undefined) return refused(ENOENT, 'there is no such target')
    const slices = parts.map(({ area, from, to }) => ({
      pages: area.pages,
      length: to - from,
      offset: area.offset + from - area.iova,
    }))
    // they stay while the target's lock is waited for, whatever becomes of the source
    for (const { pages } of slices) pages.areas++
    const at = yield* target.map(slices as [Slice, ...Slice[]], {
      iova: (flags & IOMMU_IOAS_MAP_FIXED_IOVA) !== 0 ? iova : null,
      read: (flags & IOMMU_IOAS_MAP_READABLE) !== 0,
      write: (flags & IOMMU_IOAS_MAP_WRITEABLE) !== 0,
    })
    for (const { pages } of slices) pages.putArea()
    if (at < 0) return at
    copy.iova = at
    return 0
  }

  /**
   * IOMMU_IOAS_UNMAP; IOVA 0 with a length of U64_MAX (or Infinity) is everything.
   * @returns bytes unmapped, or a negative errno
   * @rule R-IOMMUFD-9
   */
  *ioasUnmap(id: number, iova: number, length: number): Kthread<number> {
    const refused = (errno: number, why: string): number => this.#refused(errno, 'R-IOMMUFD-9', why)
    const ioas = this.ioases.get(id)
    if (ioas === undefined) return refused(ENOENT, 'there is no such IO address space')
    if (iova === 0 && length >= ULONG_MAX) return yield* ioas.unmap(0, null)
    if (iova >= ULONG_MAX || length >= ULONG_MAX) return refused(EOVERFLOW, 'IOVA or length is too large')
    return yield* ioas.unmap(iova, length)
  }

  /**
   * IOMMU_IOAS_CHANGE_PROCESS: the calling process, which inherited the descriptor, pays from now on for everything
   * that is pinned. It is charged first, then the one that paid gets back what it was charged.
   * @returns 0; -EINVAL where anything but files is mapped; -ENOMEM over its limit, with nothing changed
   * @rule R-IOMMUFD-15
   */
  *changeProcess(): Kthread<number> {
    const missing = this.#newerCommand()
    if (missing < 0) return missing
    const task = this.kernel.current
    const all = new Set([...this.ioases.values()].flatMap(({ areas }) => areas.map(({ pages }) => pages)))
    for (const { file } of all)
      if (file === null) return this.#refused(EINVAL, 'R-IOMMUFD-15', 'memory of a process is mapped, too')
    const others = [...all].filter(({ sourceMm }) => sourceMm !== task.mm)
    for (const [i, pages] of others.entries()) {
      const error = yield* pages.chargeCaller()
      if (error === 0) continue
      for (const charged of others.slice(0, i)) yield* charged.undoCharge(task)
      return error
    }
    for (const pages of others) yield* pages.moveTo(task)
    return 0
  }

  /** IOMMU_OPTION_RLIMIT_MODE. @returns 0 or a negative errno @rule R-IOMMUFD-7 */
  // oxlint-disable-next-line require-yield -- decided at once
  *setRlimitMode(value: number, objectId = 0): Kthread<number> {
    const refused = (errno: number, why: string): number => this.#refused(errno, 'R-IOMMUFD-7', why)
    if (objectId !== 0) return refused(EOPNOTSUPP, 'the option belongs to no object')
    if (!this.kernel.current.capable('CAP_SYS_RESOURCE'))
      return refuse(this.kernel.current, EPERM, 'R-IOMMUFD-7', {
        capability: 'CAP_SYS_RESOURCE',
        why: 'CAP_SYS_RESOURCE is missing',
      })
    if (this.ioases.size > 0) return refused(EBUSY, 'there are objects already')
    if (value !== 0 && value !== 1) return refused(EINVAL, 'the mode is 0 or 1')
    this.accountMode = value === 1 ? 'mm' : 'user'
    return 0
  }

  /**
   * A device is attached to an IO address space, which gives it a domain.
   * @returns 0, -ENOENT, or what pinning everything that is mapped gives
   * @rule R-IOMMUFD-3
   */
  *attach(id: number, domain: Domain = new Domain()): Kthread<number> {
    const ioas = this.ioases.get(id)
    if (ioas === undefined) return this.#refused(ENOENT, 'R-IOMMUFD-3', 'there is no such IO address space')
    return yield* ioas.addDomain(domain)
  }

  /** @returns 0 or -ENOENT */
  *detach(id: number, domain: Domain): Kthread<number> {
    const ioas = this.ioases.get(id)
    if (ioas === undefined) return this.#refused(ENOENT, 'R-IOMMUFD-3', 'there is no such IO address space')
    yield* ioas.removeDomain(domain)
    return 0
  }

  /** IOMMU_DESTROY of an IO address space. @returns 0, -ENOENT, -EBUSY while a device is attached @rule R-IOMMUFD-13 */
  *destroy(id: number): Kthread<number> {
    const ioas = this.ioases.get(id)
    if (ioas === undefined) return this.#refused(ENOENT, 'R-IOMMUFD-13', 'there is no such object')
    if (ioas.domains.size > 0) return this.#refused(EBUSY, 'R-IOMMUFD-13', 'a device is attached')
    yield* ioas.unmap(0, null)
    this.ioases.delete(id)
    return 0
  }

  /** @rule R-IOMMUFD-13 */
  protected override *teardown(): Kthread<void> {
    for (const ioas of this.ioases.values()) {
      yield* ioas.unmap(0, null)
      ioas.domains.clear()
    }
    this.ioases.clear()
  }
}

/** open("/dev/iommu"). @returns -ENOENT on releases that have none */
export function openIommufd(k: Kernel): Iommufd | number {
  if (k.release.drivers.iommufd) return new Iommufd(k)
  return refuse(k.current, ENOENT, 'R-IOMMUFD-1', { why: 'this release has no iommufd' })
}

/** null: anywhere */
function fixedIova({ flags, iova = 0 }: IoasMap | IoasMapFile): number | null {
  return (flags & IOMMU_IOAS_MAP_FIXED_IOVA) !== 0 ? iova : null
}

export { Domain, type DomainData }
