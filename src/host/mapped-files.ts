/** The files behind mappings as stat sees them: type, size, DAX of their disk. */
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs'
import type { Stats } from 'node:fs'
import { decodeMapsName } from './maps.ts'
import type { MapsRecord } from './maps.ts'
import { mountOf } from './mountinfo.ts'
import type { Mount } from './mountinfo.ts'
import { tryRead, tryReadValue } from './proc-files.ts'
import type { PathType } from './file-class.ts'
import type { Backing, Mapping } from './snapshot.ts'

export interface FileSize {
  readonly fileSize: number | null
  readonly fileSizeFrom: Mapping['fileSizeFrom']
  readonly blockSize: number | null
}

/** The device number of stat as `maj:min` in the form maps prints. */
export function hexDevice(statDevice: number): string {
  const low = statDevice % 2 ** 32
  const high = Math.floor(statDevice / 2 ** 32)
  const major = ((low >>> 8) & 0xfff) + (high & 0xfffff000)
  const minor = (low & 0xff) + ((low >>> 12) & 0xfff00)
  return `${major.toString(16).padStart(2, '0')}:${minor.toString(16).padStart(2, '0')}`
}

const DELETED = ' (deleted)'

const unknownSize: FileSize = { fileSize: null, fileSizeFrom: 'none', blockSize: null }

/** Looks files up for one capture; everything read is remembered for its duration. */
export class MappedFiles {
  readonly #directory: string
  readonly #mounts: readonly Mount[]
  readonly #paths = new Map<string, Stats | null>()
  readonly #dax = new Map<string, boolean | null>()
  #fds: Map<string, Stats> | null = null
  #sysv: Map<number, number> | null = null

  /**
   * @param directory `/proc/PID` or `/proc/PID/task/TID`
   * @param mounts of the process
   */
  constructor(directory: string, mounts: readonly Mount[]) {
    this.#directory = directory
    this.#mounts = mounts
  }

  /** Type of the file at the mapping's path, if that is still the mapped file. */
  pathType(record: MapsRecord): PathType {
    const stats = this.#pathStats(record)
    if (stats === null) return 'unknown'
    if (stats.isFile()) return 'regular'
    if (stats.isCharacterDevice()) return 'character-device'
    return stats.isBlockDevice() ? 'block-device' : 'other'
  }

  /**
   * Whether an ambiguous name belongs to a living file that is really called `… (deleted)`.
   * @rule R-MAPS-2
   */
  reallyNamed(record: MapsRecord): boolean {
    return record.rawName.startsWith('/') && this.#sameFile(record.rawName, record) !== null
  }

  /** @rule R-MNT-3 */
  blockDeviceDax(device: string): boolean | null {
    const known = this.#dax.get(device)
    if (known !== undefined) return known
    const [major, minor] = device.split(':').map((part) => parseInt(part, 16))
    const sys = `/sys/dev/block/${major}:${minor}`
    // A partition has its queue one level up; a mount without a disk gets the answer for all disks.
    const value = tryReadValue(`${sys}/queue/dax`) ?? tryReadValue(`${sys}/../queue/dax`)
    const dax = value === null ? (anyDiskHasDax() ? null : false) : value !== '0'
    this.#dax.set(device, dax)
    return dax
  }

  /**
   * Size of the file behind a mapping: through map_files where allowed, else through an fd of the process on
   * the same file, else through the path, else by what the kind implies.
   */
  sizeOf(record: MapsRecord, backing: Backing): FileSize {
    if (record.inode === 0 && record.device === '00:00') return unknownSize
    if (backing.kind === 'driver' || backing.kind === 'dev-zero-private' || backing.kind === 'socket')
      return unknownSize
    // @rule R-MAPS-6
    const link = `${this.#directory}/map_files/${record.start.toString(16)}-${record.end.toString(16)}`
    const direct = this.#stat(link)
    if (direct !== null) return sizeOfStats(direct, 'map_files')
    const byFd = this.#fdStats().get(`${record.device} ${record.inode}`)
    if (byFd !== undefined) return sizeOfStats(byFd, 'fd')
    const byPath = this.#pathStats(record)
    if (byPath !== null) return sizeOfStats(byPath, 'path')
    if (backing.kind === 'sysv' || (backing.kind === 'hugetlb' && backing.source === 'sysv')) {
      const size = this.#sysvSizes().get(record.inode)
      if (size !== undefined) return { fileSize: size, fileSizeFrom: 'sysvipc', blockSize: null }
    }
    // Nothing can truncate the file of an anonymous mapping, so it reaches at least to the mapping's end.
    if (
      (backing.kind === 'shmem' && backing.source === 'shared-anonymous') ||
      (backing.kind === 'hugetlb' && backing.source === 'anonymous')
    ) {
      return {
        fileSize: record.offset + record.end - record.start,
        fileSizeFrom: 'mapping-length',
        blockSize: null,
      }
    }
    return unknownSize
  }

  #pathStats(record: MapsRecord): Stats | null {
    const raw = record.rawName
    if (!raw.startsWith('/')) return null
    const living = raw.endsWith(DELETED) ? raw.slice(0, -DELETED.length) : raw
    return this.#sameFile(living, record) ?? (living === raw ? null : this.#sameFile(raw, record))
  }

  /** The file at a raw name, under both readings of its escapes, if it is the mapped one. */
  #sameFile(rawName: string, record: MapsRecord): Stats | null {
    for (const name of new Set([rawName.replaceAll('\\012', '\n'), rawName])) {
      const stats = this.#stat(`${this.#directory}/root${name}`)
      if (stats !== null && this.#isSame(stats, record)) return stats
    }
    return null
  }

  /** btrfs subvolumes and overlays show another device in stat than in maps: there the inode decides (R-MNT-1). */
  #isSame(stats: Stats, record: MapsRecord): boolean {
    if (stats.ino !== record.inode) return false
    if (hexDevice(stats.dev) === record.device) return true
    const fstype = mountOf(this.#mounts, record.device, decodeMapsName(record.rawName).name)?.fstype
    return fstype === 'btrfs' || fstype === 'overlay'
  }

  /** @param path latin1: one character per byte, as maps gave it */
  #stat(path: string): Stats | null {
    const known = this.#paths.get(path)
    if (known !== undefined) return known
    const stats = tryStat(path)
    this.#paths.set(path, stats)
    return stats
  }

  #fdStats(): Map<string, Stats> {
    if (this.#fds !== null) return this.#fds
    this.#fds = new Map()
    let names: string[] = []
    try {
      names = readdirSync(`${this.#directory}/fd`)
    } catch {
      return this.#fds
    }
    for (const name of names) {
      const stats = tryStat(`${this.#directory}/fd/${name}`)
      if (stats !== null) this.#fds.set(`${hexDevice(stats.dev)} ${stats.ino}`, stats)
    }
    return this.#fds
  }

  #sysvSizes(): Map<number, number> {
    if (this.#sysv !== null) return this.#sysv
    this.#sysv = new Map()
    const [head, ...rows] = (tryRead('/proc/sysvipc/shm') ?? '').split('\n')
    const columns = (head ?? '').trim().split(/\s+/)
    const id = columns.indexOf('shmid')
    const size = columns.indexOf('size')
    for (const row of rows) {
      const fields = row.trim().split(/\s+/)
      if (id >= 0 && size >= 0 && fields.length > size)
        this.#sysv.set(Number(fields[id]), Number(fields[size]))
    }
    return this.#sysv
  }
}

function tryStat(path: string): Stats | null {
  try {
    return statSync(Buffer.from(path, 'latin1'))
  } catch {
    return null
  }
}

function sizeOfStats(stats: Stats, from: Mapping['fileSizeFrom']): FileSize {
  const hasSize = stats.isFile()
  return {
    fileSize: hasSize ? stats.size : null,
    fileSizeFrom: hasSize ? from : 'none',
    blockSize: hasSize ? stats.blksize : null,
  }
}

function anyDiskHasDax(): boolean {
  if (!existsSync('/sys/block')) return true
  return readdirSync('/sys/block').some((disk) => {
    try {
      return readFileSync(`/sys/block/${disk}/queue/dax`, 'latin1').trim() !== '0'
    } catch {
      return false
    }
  })
}
