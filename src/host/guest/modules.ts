import { existsSync, readFileSync, readdirSync } from 'node:fs'
import path from 'node:path'
import { gunzipSync } from 'node:zlib'
import { spawnSync } from 'node:child_process'
import { HostError } from '../host-error.ts'

/** A kernel module, decompressed. */
export interface GuestModule {
  /** Its name as in /proc/modules. */
  readonly name: string
  readonly data: Buffer
}

/**
 * The modules a guest needs and everything they depend on, in an order in which they can be loaded. Names that
 * the kernel has built in are left out.
 *
 * @param directory `lib/modules/RELEASE` of the unpacked kernel package
 * @throws HostError 'unsupported' for a name that is neither a module nor built in
 */
export function guestModules(directory: string, wanted: readonly string[]): GuestModule[] {
  const files = moduleFiles(path.join(directory, 'kernel'))
  const builtIn = builtInModules(directory)
  const ordered = new Map<string, GuestModule>()
  const visit = (name: string): void => {
    if (ordered.has(name) || builtIn.has(name)) return
    const file = files.get(name)
    if (file === undefined)
      throw new HostError(
        'unsupported',
        `${directory} has no module ${name}; remove it to unpack the kernel again`,
      )
    const data = decompressed(file)
    for (const dependency of moduleDependencies(data)) visit(dependency)
    ordered.set(name, { name, data })
  }
  for (const name of wanted) visit(name)
  return [...ordered.values()]
}

/** The names in a module's `depends=` field, found through the section headers of the ELF file. */
export function moduleDependencies(module: Buffer): string[] {
  for (const field of modinfo(module).split('\0'))
    if (field.startsWith('depends=')) return field.slice(8).split(',').filter(Boolean).map(moduleName)
  return []
}

function modinfo(elf: Buffer): string {
  const headers = Number(elf.readBigUInt64LE(0x28))
  const size = elf.readUInt16LE(0x3a)
  const count = elf.readUInt16LE(0x3c)
  const section = (i: number): { name: number; bytes: Buffer } => {
    const at = headers + i * size
    const start = Number(elf.readBigUInt64LE(at + 0x18))
    return {
      name: elf.readUInt32LE(at),
      bytes: elf.subarray(start, start + Number(elf.readBigUInt64LE(at + 0x20))),
    }
  }
  const names = section(elf.readUInt16LE(0x3e)).bytes
  for (let i = 0; i < count; i++) {
    const { name, bytes } = section(i)
    if (names.toString('latin1', name, names.indexOf(0, name)) === '.modinfo') return bytes.toString('latin1')
  }
  return ''
}

function moduleFiles(root: string): Map<string, string> {
  const files = new Map<string, string>()
  for (const file of readdirSync(root, { recursive: true, encoding: 'utf8' }))
    if (/\.ko(\.xz|\.zst|\.gz)?$/.test(file)) files.set(moduleName(file), path.join(root, file))
  return files
}

function builtInModules(directory: string): Set<string> {
  const list = path.join(directory, 'modules.builtin')
  if (!existsSync(list)) return new Set()
  return new Set(readFileSync(list, 'utf8').trim().split('\n').map(moduleName))
}

function moduleName(file: string): string {
  return path
    .basename(file)
    .replace(/\.ko.*$/, '')
    .replaceAll('-', '_')
}

function decompressed(file: string): Buffer {
  if (file.endsWith('.ko')) return readFileSync(file)
  if (file.endsWith('.gz')) return gunzipSync(readFileSync(file))
  const program = file.endsWith('.xz') ? 'xz' : 'zstd'
  const ran = spawnSync(program, ['-dc', file], { maxBuffer: 256 << 20 })
  if (ran.status === 0) return ran.stdout
  throw new HostError(
    'unsupported',
    `${program} could not unpack ${file}: ${ran.error?.message ?? ran.stderr}`,
  )
}
