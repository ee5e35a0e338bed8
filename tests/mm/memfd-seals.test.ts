import { describe, expect, it } from 'vitest'
import { RELEASE_NAMES } from '../../src/base/release.ts'
import {
  F_SEAL_EXEC,
  F_SEAL_GROW,
  F_SEAL_SEAL,
  F_SEAL_SHRINK,
  F_SEAL_WRITE,
  regularFileKind,
  type OpenFile,
} from '../../src/mm/file.ts'
import { createFile, openAgain } from '../../src/mm/filemap.ts'
import {
  MFD_ALLOW_SEALING,
  MFD_NOEXEC_SEAL,
  memfdAddSeals,
  memfdGetSeals,
  sealAsMade,
} from '../../src/mm/memfd-seals.ts'
import { hugetlbFileSetup } from '../../src/mm/hugetlb.ts'
import { munmap } from '../../src/mm/munmap.ts'
import { shmemFileSetup } from '../../src/mm/shmem.ts'
import { truncateFile } from '../../src/mm/truncate.ts'
import { get, pin } from '../support/huge.ts'
import { result } from '../support/kernel.ts'
import { P, World } from './fault-support.ts'

class Memfds extends World {
  memfd(pages = 2): OpenFile {
    return shmemFileSetup(this.k, '/memfd:a', pages * P)
  }

  seal(file: OpenFile, seals: number): number | string {
    return result(this.task.run(memfdAddSeals(this.k, file, seals)))
  }

  unmap(at: number, pages: number): void {
    this.task.run(munmap(this.k, this.mm, at, pages * P))
  }
}

describe('seals of a memfd', () => {
  it.each(RELEASE_NAMES)('GUP vector 57: a pinned page keeps F_SEAL_WRITE off: %s', (release) => {
    const w = new Memfds({ release })
    const file = w.memfd()
    const at = w.map(2, { file, shared: true })
    w.store(at, 1)
    const held = pin(w.task, at)
    w.unmap(at, 2)
    expect(w.seal(file, F_SEAL_WRITE)).toBe('-EBUSY')
    expect(w.task.refusal?.rule).toBe('R-GUP-80')
    expect(w.seal(file, F_SEAL_SHRINK | F_SEAL_WRITE)).toBe('-EBUSY')
    expect(memfdGetSeals(w.k, file)).toBe(0)
    held.release()
    expect([w.seal(file, F_SEAL_WRITE), memfdGetSeals(w.k, file)]).toEqual([0, F_SEAL_WRITE])
    file.put()
  })

  it('FLT vector 99: so does a plain reference', () => {
    const w = new Memfds({ release: '6.18' })
    const file = w.memfd()
    const at = w.map(2, { file, shared: true })
    w.store(at, 1)
    const held = get(w.task, at)
    w.unmap(at, 2)
    expect(w.seal(file, F_SEAL_WRITE)).toBe('-EBUSY')
    held.release()
    expect(w.seal(file, F_SEAL_WRITE)).toBe(0)
    file.put()
  })

  it('FLT vector 100: mappings that may be written keep it off, private ones do not', () => {
    const w = new Memfds({ release: '6.18' })
    const sealMapped = (options: { prot?: number; shared?: boolean } | null): number | string => {
      const file = w.memfd()
      if (options !== null) w.load(w.map(2, { file, ...options }))
      const sealed = w.seal(file, F_SEAL_WRITE)
      file.put()
      return sealed
    }
    expect([
      sealMapped({ shared: true }),
      sealMapped({ shared: true, prot: 1 }),
      sealMapped({}),
      sealMapped(null),
    ]).toEqual(['-EBUSY', '-EBUSY', 0, 0])
  })

  it('R-SEAL-1 rights, unknown seals, other files, the seal of seals', () => {
    const w = new Memfds()
    const file = w.memfd()
    const readOnly = openAgain(w.k, file.mapping, file.path, { readable: true, writable: false })
    expect([w.seal(readOnly, F_SEAL_GROW), w.seal(file, 0x100)]).toEqual(['-EPERM', '-EINVAL'])
    const disk = createFile(w.k, regularFileKind('ext4'), { path: 'f', size: P })
    expect([w.seal(disk, F_SEAL_GROW), result(memfdGetSeals(w.k, disk))]).toEqual(['-EINVAL', '-EINVAL'])
    expect([w.seal(file, F_SEAL_SEAL), w.seal(file, 0)]).toEqual([0, '-EPERM'])
    const other = w.memfd()
    expect([w.seal(other, F_SEAL_EXEC), memfdGetSeals(w.k, other)]).toEqual([0, 0x3e])
    for (const each of [file, readOnly, disk, other]) each.put()
  })

  it('R-SEAL-3 what a memfd is sealed with when it is made', () => {
    const w = new Memfds({ release: '6.18' })
    const made = [0, MFD_ALLOW_SEALING, MFD_NOEXEC_SEAL].map((flags) => {
      const file = w.memfd()
      expect(sealAsMade(w.k, file.mapping, flags)).toBe(0)
      return file
    })
    expect(made.map((file) => memfdGetSeals(w.k, file))).toEqual([F_SEAL_SEAL, 0, F_SEAL_EXEC])
    expect(made.map((file) => w.seal(file, F_SEAL_GROW))).toEqual(['-EPERM', 0, 0])
    // a file without x bits needs no other seals for this one
    for (const file of made.slice(1)) expect(w.seal(file, F_SEAL_EXEC)).toBe(0)
    expect(made.map((file) => memfdGetSeals(w.k, file))).toEqual([1, 0x3e, F_SEAL_GROW | F_SEAL_EXEC])
    for (const file of made) file.put()
  })

  it.each(RELEASE_NAMES)('R-SEAL-3 %s: whether there is a seal against x bits', (release) => {
    const w = new Memfds({ release })
    const file = w.memfd()
    const answer = release === '6.1' ? '-EINVAL' : 0
    expect(w.seal(file, F_SEAL_EXEC)).toBe(answer)
    expect(result(sealAsMade(w.k, file.mapping, MFD_NOEXEC_SEAL))).toBe(answer)
    file.put()
  })

  it('R-SEAL-1 what F_SEAL_EXEC brings with it is kept off like the seals themselves', () => {
    const w = new Memfds({ release: '6.18' })
    const file = w.memfd()
    const at = w.map(2, { file, shared: true })
    w.store(at, 1)
    const held = get(w.task, at)
    expect(w.seal(file, F_SEAL_EXEC)).toBe('-EBUSY')
    w.unmap(at, 2)
    expect([w.seal(file, F_SEAL_EXEC), memfdGetSeals(w.k, file)]).toEqual(['-EBUSY', 0])
    held.release()
    expect([w.seal(file, F_SEAL_EXEC), memfdGetSeals(w.k, file)]).toEqual([0, 0x3e])
    file.put()
  })

  it('R-SEAL-2 sizes that are sealed do not change', () => {
    const w = new Memfds()
    const file = w.memfd(2)
    const size = (n: number): number | string => result(w.task.run(truncateFile(w.k, file.mapping, n)))
    w.seal(file, F_SEAL_SHRINK)
    expect([size(P), size(2 * P), size(3 * P)]).toEqual(['-EPERM', 0, 0])
    w.seal(file, F_SEAL_GROW)
    expect([size(4 * P), size(3 * P)]).toEqual(['-EPERM', 0])
    file.put()
  })

  it('R-SEAL-2 a size that huge pages do not have is EINVAL before that', () => {
    const w = new Memfds()
    const file = hugetlbFileSetup(w.k, {
      size: 2 ** 21,
      pageSize: 2 ** 21,
      name: '/memfd:h',
      noreserve: true,
    })
    const size = (n: number): number | string => result(w.task.run(truncateFile(w.k, file.mapping, n)))
    w.seal(file, F_SEAL_SHRINK)
    expect([size(P), size(0), size(2 ** 22)]).toEqual(['-EINVAL', '-EPERM', 0])
    file.put()
  })
})
