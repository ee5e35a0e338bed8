import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { HostError } from '../../src/host/index.ts'
import { guestModules, moduleDependencies } from '../../src/host/guest/modules.ts'

let directory: string
beforeEach(() => void (directory = mkdtempSync(path.join(tmpdir(), 'pinscope-modules-'))))
afterEach(() => rmSync(directory, { recursive: true, force: true }))

/** A 64-bit ELF file with nothing in it but section names and a .modinfo section. */
function moduleFile(depends: string): Buffer {
  const names = Buffer.from('\0.shstrtab\0.modinfo\0')
  const info = Buffer.from(`license=GPL\0depends=${depends}\0vermagic=1 depends=wrong\0`)
  const header = Buffer.alloc(64)
  header.write('\x7fELF', 'latin1')
  const section = (name: number, start: number, size: number): Buffer => {
    const bytes = Buffer.alloc(64)
    bytes.writeUInt32LE(name, 0)
    bytes.writeBigUInt64LE(BigInt(start), 0x18)
    bytes.writeBigUInt64LE(BigInt(size), 0x20)
    return bytes
  }
  header.writeBigUInt64LE(BigInt(64 + names.length + info.length), 0x28)
  header.writeUInt16LE(64, 0x3a)
  header.writeUInt16LE(3, 0x3c)
  header.writeUInt16LE(1, 0x3e)
  const sections = [
    section(0, 0, 0),
    section(1, 64, names.length),
    section(11, 64 + names.length, info.length),
  ]
  return Buffer.concat([header, names, info, ...sections])
}

function install(file: string, depends: string): void {
  const target = path.join(directory, 'kernel', file)
  mkdirSync(path.dirname(target), { recursive: true })
  writeFileSync(target, file.endsWith('.gz') ? gzipSync(moduleFile(depends)) : moduleFile(depends))
}

test('guest modules: the dependencies stand in .modinfo', () => {
  expect(moduleDependencies(moduleFile('jbd2,crc32c-intel'))).toEqual(['jbd2', 'crc32c_intel'])
  expect(moduleDependencies(moduleFile(''))).toEqual([])
})

test('guest modules: each once, after what it depends on, decompressed, without what is built in', () => {
  install('fs/ext4/ext4.ko', 'jbd2,mbcache,crc16')
  install('fs/jbd2/jbd2.ko.gz', 'crc32c-generic')
  install('fs/mbcache.ko', '')
  install('crypto/crc32c_generic.ko', '')
  install('drivers/unrelated.ko', 'ext4')
  writeFileSync(
    path.join(directory, 'modules.builtin'),
    'kernel/lib/crc16.ko\nkernel/drivers/virtio/virtio_pci.ko\n',
  )
  const found = guestModules(directory, ['virtio_pci', 'mbcache', 'ext4'])
  expect(found.map(({ name }) => name)).toEqual(['mbcache', 'crc32c_generic', 'jbd2', 'ext4'])
  expect(found[2]!.data).toEqual(moduleFile('crc32c-generic'))
})

test('guest modules: a name that is nowhere is an error that names it', () => {
  install('fs/ext4/ext4.ko', 'jbd2')
  expect(() => guestModules(directory, ['ext4'])).toThrow(HostError)
  expect(() => guestModules(directory, ['ext4'])).toThrow(/no module jbd2/)
})
