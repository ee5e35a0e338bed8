/** One member of an archive. */
export interface CpioEntry {
  /** Path without a leading slash. */
  readonly name: string
  /** Type and permissions, as in `st_mode`. */
  readonly mode: number
  /** Contents of a regular file. */
  readonly data?: Uint8Array
  /** Major and minor number of a device. */
  readonly device?: readonly [major: number, minor: number]
}

const MAGIC = '070701'
const TRAILER = 'TRAILER!!!'

/**
 * A cpio archive in the "newc" form, which the kernel unpacks as its first root file system. The members keep
 * their order; a directory has to come before what lies in it. Owner 0, modification time 0: the same members
 * give the same bytes.
 */
export function cpioArchive(entries: readonly CpioEntry[]): Buffer {
  const parts: Buffer[] = []
  entries.forEach((entry, i) => parts.push(...member(entry, i + 1)))
  parts.push(...member({ name: TRAILER, mode: 0 }, 0))
  return Buffer.concat(parts)
}

function member(
  { name, mode, data = new Uint8Array(), device = [0, 0] }: CpioEntry,
  inode: number,
): Buffer[] {
  const path = Buffer.from(`${name}\0`)
  const links = mode >> 12 === 0o4 ? 2 : 1
  const fields = [inode, mode, 0, 0, links, 0, data.length, 0, 0, device[0], device[1], path.length, 0]
  const header = Buffer.from(MAGIC + fields.map((field) => field.toString(16).padStart(8, '0')).join(''))
  return [padded(Buffer.concat([header, path])), padded(data)]
}

function padded(bytes: Uint8Array): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)])
}
