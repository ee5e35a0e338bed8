import { describe, expect, it } from 'vitest'
import { RELEASE_NAMES } from '../../src/base/release.ts'
import type { OpenFile } from '../../src/mm/file.ts'
import { FOLL_LONGTERM, FOLL_WRITE } from '../../src/mm/gup-flags.ts'
import { PageArray, pinUserPagesFast } from '../../src/mm/gup.ts'
import { madvise } from '../../src/mm/madvise.ts'
import {
  MADV_DONTNEED,
  MADV_REMOVE,
  MAP_FIXED,
  MAP_PRIVATE,
  MAP_SHARED,
  PROT_EXEC,
} from '../../src/mm/mman.ts'
import { munlock } from '../../src/mm/mlock.ts'
import { mmap } from '../../src/mm/mmap.ts'
import { memfdSecret } from '../../src/mm/secretmem.ts'
import { punchHole, truncateFile } from '../../src/mm/truncate.ts'
import { result } from '../support/kernel.ts'
import { P, RW, World } from './fault-support.ts'

class SecretWorld extends World {
  secret(flags = 0): OpenFile | string | number {
    const { k } = this
    const made = this.task.run(
      (function* () {
        yield* []
        return memfdSecret(k, flags)
      })(),
    )
    return typeof made === 'number' ? result(made) : made
  }

  sized(pages: number): OpenFile {
    const file = this.secret()
    if (typeof file !== 'object') throw new Error(`memfd_secret: ${file}`)
    expect(this.resize(file, pages * P)).toBe(0)
    return file
  }

  resize(file: OpenFile, size: number): number | string {
    return result(this.task.run(truncateFile(this.k, file.mapping, size)))
  }

  mapSecret(
    file: OpenFile,
    pages: number,
    flags = MAP_SHARED,
    prot = RW,
    addr = 0,
    page = 0,
  ): number | string {
    const request = { addr, length: pages * P, prot, flags, file, offset: page * P }
    return result(this.task.run(mmap(this.k, this.mm, request)))
  }
}

describe('R-AS-93 secret memory', () => {
  it.each(RELEASE_NAMES)('%s: one flag, one size, no holes', (release) => {
    const w = new SecretWorld({ release })
    expect(w.secret(1)).toBe('-EINVAL')
    expect(typeof w.secret(0o2000000)).toBe('object')
    const file = w.sized(4)
    expect([4, 8, 0].map((pages) => w.resize(file, pages * P))).toEqual(['-EINVAL', '-EINVAL', '-EINVAL'])
    expect(result(w.task.run(punchHole(w.k, file.mapping, 0, P)))).toBe('-EOPNOTSUPP')
    const at = w.mapSecret(file, 1) as number
    const refusal = release === '6.18' ? '-EINVAL' : '-EOPNOTSUPP'
    expect(result(w.task.run(madvise(w.k, w.mm, at, P, MADV_REMOVE)))).toBe(refusal)
  })

  it.each(RELEASE_NAMES)('%s: shared, not to be executed, and on 6.18 locked within the limit', (release) => {
    const w = new SecretWorld({ release })
    w.task.limits.memlock = 8 * P
    const file = w.sized(4)
    expect(w.mapSecret(file, 1, MAP_PRIVATE)).toBe('-EINVAL')
    expect(w.mapSecret(file, 1, MAP_PRIVATE, RW | PROT_EXEC)).toBe('-EPERM')
    const counted = release === '6.18'
    if (counted) expect(w.mapSecret(file, 9)).toBe('-EAGAIN')
    else expect(w.mapSecret(file, 9)).toBeGreaterThan(0)
    const at = w.mapSecret(file, 6) as number
    expect(w.mm.lockedVm).toBe(counted ? 6 : 0)
    if (counted) expect(w.mapSecret(file, 3)).toBe('-EAGAIN')
    expect(result(w.task.run(munlock(w.k, w.mm, at, P)))).toBe(0)
    expect(w.mm.lockedVm).toBe(counted ? 6 : 0)
  })

  it('what MAP_FIXED has just replaced still counts on 6.18', () => {
    const w = new SecretWorld({ release: '6.18' })
    w.task.limits.memlock = 6 * P
    const file = w.sized(6)
    const at = w.mapSecret(file, 1) as number
    const request = { addr: at, length: 6 * P, prot: RW, flags: MAP_SHARED | MAP_FIXED, file, offset: 0 }
    expect(result(w.task.run(mmap(w.k, w.mm, request)))).toBe('-EAGAIN')
    expect(w.mm.lockedVm).toBe(0)
  })

  it.each(RELEASE_NAMES)('%s: a mapping joins its neighbours, also one laid over the middle', (release) => {
    const w = new SecretWorld({ release })
    const file = w.sized(8)
    const at = w.mapSecret(file, 3) as number
    for (const page of [1, 3, 0])
      expect(w.mapSecret(file, 1, MAP_SHARED | MAP_FIXED, RW, at + page * P, page)).toBe(at + page * P)
    const guard = w.mm.mmapLock.tryRead()!
    const vma = guard.vmas.find(at)!
    guard.release()
    expect([vma.start, vma.end]).toEqual([at, at + 4 * P])
  })

  it.each(RELEASE_NAMES)('%s: its program reaches it, a pin does not', (release) => {
    const w = new SecretWorld({ release })
    const at = w.mapSecret(w.sized(2), 3) as number
    w.store(at, 7)
    expect([w.load(at), w.touch(at + 2 * P)]).toEqual([7, { ok: false, signal: 'SIGBUS', code: 2 }])
    const pin = pinUserPagesFast(w.k, at, 1, FOLL_WRITE | FOLL_LONGTERM, new PageArray(1))
    expect(result(w.task.run(pin))).toBe('-EFAULT')
    expect(w.task.refusal?.rule).toBe('R-GUP-16.5')
    if (release === '6.18')
      for (const advice of [MADV_DONTNEED, MADV_REMOVE])
        expect(result(w.task.run(madvise(w.k, w.mm, at, P, advice)))).toBe('-EINVAL')
    const child = w.fork()
    w.store(at, 9, child)
    expect(w.load(at)).toBe(9)
    w.exit(child)
  })
})
