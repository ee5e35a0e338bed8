/** Hints: only those after which the request succeeds. */
import { describe, expect, it } from 'vitest'
import { PAGE_SIZE } from '../../src/base/units.ts'
import { answerTo } from './asking.ts'
import { A, SHARED_RW, fileOn, memfd, type MappingSpec, type SnapshotSpec } from './snapshots.ts'
import type { ReleaseName } from '../../src/base/release.ts'

const P = PAGE_SIZE
const hints = (spec: SnapshotSpec, request = {}, release: ReleaseName = '6.18'): string =>
  answerTo(spec, request, release)
    .hints.map((hint) => hint.text)
    .join('\n')
const ext4Shared: MappingSpec = { backing: fileOn('ext4'), flags: SHARED_RW }

describe('hints', () => {
  it('R-GUP-20 a tracked shared file: map it privately, or use memory that is not tracked', () => {
    const text = hints({ mappings: [ext4Shared] })
    expect(text).toMatch(/MAP_PRIVATE \(data then stays in memory/)
    expect(text).toMatch(/memfd or a tmpfs file/)
    expect(text).not.toMatch(/RLIMIT_MEMLOCK|mprotect|GUARD/)
  })

  it('R-URING-26 the series refuses private files too, so that hint is not given there', () => {
    const text = hints({ mappings: [ext4Shared] }, {}, 'gup-v3')
    expect(text).not.toMatch(/MAP_PRIVATE \(data/)
    expect(text).toMatch(/memfd or a tmpfs file/)
  })

  it('R-GUP-16 read-only memory: mprotect where the mapping may become writable', () => {
    expect(hints({ mappings: [{ flags: 'rd mr mw me ac' }] })).toMatch(/mprotect/)
    expect(hints({ mappings: [{ backing: memfd, flags: 'rd mr me ms', look: [['file', 4]] }] })).not.toMatch(
      /mprotect/,
    )
  })

  it('R-FLT-39 beyond the end of the file: how long it must be', () => {
    const short: MappingSpec = { backing: memfd, flags: SHARED_RW, fileSize: P }
    expect(hints({ mappings: [short] })).toContain(`ftruncate to at least ${4 * P} bytes (it has ${P})`)
    expect(hints({ mappings: [short] })).toContain(`the first ${P} bytes can be pinned`)
  })

  it('R-FLT-78 a guard page: MADV_GUARD_REMOVE where the release knows it', () => {
    const guarded: MappingSpec = {
      look: [
        ['anon', 1],
        ['guard', 1],
      ],
    }
    expect(hints({ mappings: [guarded] })).toMatch(/MADV_GUARD_REMOVE/)
    expect(hints({ mappings: [guarded] }, {}, '6.12')).not.toMatch(/MADV_GUARD_REMOVE/)
  })

  it('R-URING-42 a limit too low: the very number of bytes, and the hard limit in the way', () => {
    const spec: SnapshotSpec = { mappings: [{ look: [['anon', 4]] }], memlock: 4 * P, registered: 0 }
    const text = hints(spec)
    expect(text).toContain(
      `at least ${6 * P} bytes (ulimit -l ${(6 * P) / 1024} where the program is started;`,
    )
    expect(text).toContain(`its hard limit is ${4 * P}`)
    expect(text).toMatch(/CAP_IPC_LOCK/)
    expect(answerTo({ ...spec, memlock: 6 * P }).verdict.ok).toBe(true)
    expect(answerTo({ ...spec, memlock: 6 * P - P }).verdict.ok).toBe(false)
  })

  it('R-URING-28 several files in one buffer: ask for each where that helps', () => {
    const two: SnapshotSpec = {
      mappings: [
        { pages: 2, backing: memfd, flags: SHARED_RW },
        { start: A + 2 * P, pages: 2, backing: memfd, flags: SHARED_RW },
      ],
    }
    expect(hints(two, {}, 'gup-v3')).toMatch(/each of the 2 mappings separately/)
    expect(hints(two, {}, '6.1')).toMatch(/each of the 2 mappings separately/)
    const mixed: SnapshotSpec = {
      mappings: [two.mappings[0]!, { ...two.mappings[1]!, backing: fileOn('ext4') }],
    }
    expect(hints(mixed, {}, 'gup-v3')).not.toMatch(/separately/)
    expect(hints(mixed, {}, 'gup-v3')).toContain(`the first ${2 * P} bytes can be pinned`)
  })

  it('R-URING-12 a buffer over 1 GiB: pieces', () => {
    const long: SnapshotSpec = { mappings: [{ pages: 2 ** 18 + 1, flags: 'rd wr mr mw me nr' }] }
    const answer = answerTo(long)
    expect(answer.verdict).toMatchObject({ ok: false, errno: 'EFAULT', rule: 'R-URING-12' })
    expect(answer.hints.map((hint) => hint.text).join()).toMatch(/2 pieces of at most 1073741824 bytes/)
  })

  it('R-URING-42 no hint at all where no single change helps', () => {
    expect(hints({ mappings: [{ flags: 'rd mr mw me ac' }], memlock: 0 })).toBe('')
    expect(hints({ mappings: [{}] }, { start: 2 ** 47 - P, pages: 2 })).toBe('')
  })

  it('R-URING-24 no hint for what succeeds', () => {
    expect(hints({ mappings: [{}] })).toBe('')
  })

  it('R-GUP-16 gup requests: reading, where reading would do', () => {
    const seen: SnapshotSpec = { mappings: [{ flags: 'rd mr mw me ac', look: [['anon', 4]] }] }
    expect(hints(seen, { name: 'gup:pin' })).toMatch(/read access only/)
    expect(hints({ mappings: [{ flags: 'mr mw me' }] }, { name: 'gup:pin' })).not.toMatch(/read access only/)
  })
})
