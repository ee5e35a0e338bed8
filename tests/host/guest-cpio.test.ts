import { expect, test } from 'vitest'
import { cpioArchive } from '../../src/host/guest/cpio.ts'

const entries = [
  { name: 'dev', mode: 0o40755 },
  { name: 'dev/console', mode: 0o20600, device: [5, 1] as const },
  { name: 'init', mode: 0o100755, data: Buffer.from('\x7fELF and more') },
  { name: 'modules', mode: 0o40700 },
  { name: 'modules/00-odd.ko', mode: 0o100644, data: Buffer.alloc(4097, 7) },
  { name: 'empty', mode: 0o100600, data: new Uint8Array() },
]

/** Reads an archive the way its format is described in cpio(5): header fields in hex, parts padded to four bytes. */
function members(archive: Buffer): { name: string; fields: number[]; data: Buffer }[] {
  const found = []
  for (let at = 0; ;) {
    expect(at % 4).toBe(0)
    expect(archive.toString('latin1', at, at + 6)).toBe('070701')
    const fields = Array.from({ length: 13 }, (_, i) =>
      Number.parseInt(archive.toString('latin1', at + 6 + 8 * i, at + 14 + 8 * i), 16),
    )
    const [size, nameSize] = [fields[6]!, fields[11]!]
    const name = archive.toString('latin1', at + 110, at + 110 + nameSize - 1)
    expect(archive[at + 110 + nameSize - 1]).toBe(0)
    const start = (at + 110 + nameSize + 3) & ~3
    if (name === 'TRAILER!!!') return found
    found.push({ name, fields, data: archive.subarray(start, start + size) })
    at = (start + size + 3) & ~3
  }
}

test('guest initramfs: every member comes back with its type, its permissions, its device and its bytes', () => {
  const found = members(cpioArchive(entries))
  expect(found.map(({ name }) => name)).toEqual(entries.map(({ name }) => name))
  found.forEach(({ fields, data }, i) => {
    expect(fields[1]).toBe(entries[i]!.mode)
    expect(Buffer.compare(data, Buffer.from(entries[i]!.data ?? []))).toBe(0)
  })
  expect(found[1]!.fields.slice(9, 11)).toEqual([5, 1])
  expect(new Set(found.map(({ fields }) => fields[0])).size).toBe(found.length)
})

test('guest initramfs: the same members give the same bytes', () => {
  expect(cpioArchive(entries)).toEqual(cpioArchive(entries))
})
