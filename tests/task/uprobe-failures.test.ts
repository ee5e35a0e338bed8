import { describe, expect, test } from 'vitest'
import type { Kthread } from '../../src/base/kthread.ts'
import { audit } from '../../src/mm/audit.ts'
import { completeIo } from '../../src/mm/filemap.ts'
import { punchHole, truncateFile } from '../../src/mm/truncate.ts'
import { uprobeRegister } from '../../src/task/uprobe-register.ts'
import { result, testKernel } from '../support/kernel.ts'
import { walkFailures } from '../support/walk-failures.ts'
import { COUNTER, INT3, NOP, P, PLACE, RELEASES, UprobeRig } from './uprobe-rig.ts'

/** Look-ups of the VMA tree find nothing while `when` holds; injects what cannot happen under a held lock. */
function missVmas(rig: UprobeRig, when: () => boolean): void {
  const guard = rig.app.mm!.mmapLock.tryRead()!
  const { vmas } = guard
  const find = Object.getPrototypeOf(vmas) as { find(address: number): unknown }
  vmas.find = (at: number) => (when() ? null : (find.find.call(vmas, at) as ReturnType<typeof vmas.find>))
  guard.release()
}

describe('a VMA that is missing although the lock was held', () => {
  test('REMOTE vector 53: the VMA is missing after GUP: EINVAL, the page is put, one warning', () => {
    const rig = new UprobeRig('gup-v3')
    const a = rig.map()
    const counter = rig.mapCounter()
    rig.byte(a + PLACE)
    const page = rig.pfn(a + PLACE)
    const { refcount } = rig.k.memory.frames
    const before = refcount[page]!
    missVmas(rig, () => refcount[page]! > before)
    const options = { refCtrOffset: COUNTER }
    expect([rig.enable(options), rig.tool.refusal?.rule]).toEqual(['-EINVAL', 'R-COM-21'])
    expect([refcount[page], rig.pfn(a + PLACE)]).toEqual([before, page])
    const warned = [{ id: 'uprobe-no-vma', message: 'uprobes: a page was had, but no mapping is there' }]
    expect(rig.k.warnings).toEqual(warned)
    expect([rig.enable(options), rig.k.warnings]).toEqual(['-EINVAL', warned])
    expect([rig.k.pinAcquired, rig.log]).toEqual([0, []])
    missVmas(rig, () => false)
    // R-COM-20: the look-up comes before the counter
    expect([rig.byte(a + PLACE), rig.count(counter)]).toEqual([NOP, 0])
    rig.register(options)
    expect([rig.byte(a + PLACE), rig.count(counter)]).toEqual([INT3, 1])
  })

  test('R-COM-21 it is missing when the breakpoint goes: the uprobe leaks, nothing else', () => {
    const rig = new UprobeRig('gup-v3')
    const a = rig.map()
    const probe = rig.register()
    const page = rig.pfn(a + PLACE)
    missVmas(rig, () => rig.k.memory.frames.refcount[page]! > 1)
    probe.unregister()
    expect(rig.k.memory.frames.refcount[page]).toBe(1)
    missVmas(rig, () => false)
    expect([rig.byte(a + PLACE), rig.k.warnings.length]).toEqual([INT3, 1])
  })

  test.each(['6.6', '6.12', '6.18'] as const)('R-COM-23 on %s the helper says so', (release) => {
    const rig = new UprobeRig(release)
    const a = rig.map()
    rig.byte(a + PLACE)
    const { refcount } = rig.k.memory.frames
    const page = rig.pfn(a + PLACE)
    const before = refcount[page]!
    // on 6.18 it is the copy that the write fault has made
    const now = (): number => rig.pfn(a + PLACE)
    missVmas(rig, () => (now() === page ? refcount[page]! > before : refcount[now()]! > 1))
    expect([rig.enable(), rig.tool.refusal?.rule]).toEqual(['-EINVAL', 'R-GUP-113'])
    missVmas(rig, () => false)
    expect(rig.byte(a + PLACE)).toBe(NOP)
    expect(rig.k.warnings.map(({ id }) => id)).toEqual(['gup-vma-gone'])
    expect(refcount[rig.pfn(a + PLACE)]).toBe(rig.pfn(a + PLACE) === page ? before : 1)
  })

  test('R-UPR-31 6.1 was given the VMA by GUP and looks for nothing', () => {
    const rig = new UprobeRig('6.1')
    const a = rig.map()
    rig.byte(a + PLACE)
    const { refcount } = rig.k.memory.frames
    const page = rig.pfn(a + PLACE)
    const before = refcount[page]!
    missVmas(rig, () => refcount[page]! > before)
    rig.register()
    expect([rig.byte(a + PLACE), rig.k.warnings]).toEqual([INT3, []])
  })
})

/** The counter's page lies in front of the code, and reading it takes time. */
const SLOW_COUNTER = 0x10
const CODE = 2 * P + 5

/** Registers, and does something else while the counter's page is being read. */
function whileCounting(
  rig: UprobeRig,
  meanwhile: () => Kthread<number>,
): { answer: number | string; counter: number; a: number } {
  const { k, file, tool } = rig
  const counter = rig.map(1, { prot: 'rw' }) + SLOW_COUNTER
  const a = rig.map(1, { first: 2 })
  rig.byte(a + 5)
  // the page of the counter is not cached any more
  tool.run(punchHole(k, file.mapping, 0, P))
  file.mapping.slowIo = true
  const consumer = { handler: () => {} }
  const task = k.scheduler.spawn('tool', tool, uprobeRegister(k, file, CODE, SLOW_COUNTER, consumer))
  k.scheduler.runUntilIdle()
  expect(task.done).toBe(false)
  rig.app.run(meanwhile())
  completeIo(k, file.mapping)
  file.mapping.slowIo = false
  k.scheduler.run()
  const made = task.result!
  return { answer: typeof made === 'number' ? result(made) : 0, counter, a }
}

describe.each(RELEASES)('an entry that vanishes in between on %s', (release) => {
  test('R-UPR-10 it is done again', () => {
    const rig = new UprobeRig(release)
    const punch = (): Kthread<number> => punchHole(rig.k, rig.file.mapping, 2 * P, P)
    const { answer, counter, a } = whileCounting(rig, punch)
    expect([answer, rig.byte(a + 5), rig.byte(a + 6), rig.count(counter)]).toEqual([
      0,
      INT3,
      expect.any(Number),
      1,
    ])
  })

  test('R-UPR-11 it cannot be had again: who has counted', () => {
    const rig = new UprobeRig(release)
    const { answer, counter } = whileCounting(rig, () => truncateFile(rig.k, rig.file.mapping, P))
    expect([answer, rig.tool.refusal?.rule]).toEqual(['-EFAULT', 'R-GUP-33'])
    // 6.18 takes it back; before, it stays counted
    expect(rig.count(counter)).toBe(release === '6.18' ? 0 : 1)
  })
})

test('R-UPR-11 on gup-v3 a VMA that is missing the second time takes the count back', () => {
  const rig = new UprobeRig('gup-v3')
  const { mapping } = rig.file
  const { refcount } = rig.k.memory.frames
  let again = false
  missVmas(rig, () => again && refcount[mapping.pages.get(2)]! > 3)
  const { answer, counter, a } = whileCounting(rig, () => {
    again = true
    return punchHole(rig.k, mapping, 2 * P, P)
  })
  again = false
  expect([answer, rig.k.warnings.map(({ id }) => id)]).toEqual(['-EINVAL', ['uprobe-no-vma']])
  expect([rig.count(counter), rig.isAnon(a + 5)]).toEqual([0, false])
})

/** What a probed program's life is made of. */
function life(rig: UprobeRig): () => void {
  const { app, tool } = rig
  const a = rig.map()
  rig.byte(a + PLACE)
  return () => {
    const options = { refCtrOffset: COUNTER }
    const attempts = [
      () => rig.mapCounter(),
      () => rig.map(),
      () => {
        const probe = rig.register(options)
        const child = app.fork()
        rig.map()
        app.mprotect(a, P, 'r')
        tool.uprobes.swbp(0)
        app.uprobes.swbp(a + PLACE)
        child.exit()
        probe.unregister()
      },
    ]
    for (const attempt of attempts) ignoringErrors(attempt)
  }
}

function ignoringErrors(act: () => void): void {
  try {
    act()
  } catch (error) {
    if (!(error instanceof Error && ['SyscallError', 'Unmodelled'].includes(error.name))) throw error
  }
}

describe.each(RELEASES)('something fails on %s', (release) => {
  test('R-UPR-5 every allocation, every fault: nothing is left', () => {
    const failures = walkFailures(release, (k) => {
      const rig = new UprobeRig(k)
      const act = life(rig)
      return () => {
        act()
        expect(audit(k)).toEqual([])
        k.failNth(null)
        rig.app.exit()
        expect(k.pinAcquired).toBe(0)
      }
    })
    expect(failures).toBeGreaterThan(20)
  })

  test('R-UPR-5 the tool is killed at every step', () => {
    for (let n = 1; ; n++) {
      const k = testKernel({ release, zones: { normal: 1024 } })
      const rig = new UprobeRig(k)
      const act = life(rig)
      let seen = 0
      k.observer = () => {
        if (++seen === n) rig.tool.fatalSignalPending = rig.app.fatalSignalPending = true
      }
      act()
      k.observer = null
      rig.app.fatalSignalPending = false
      rig.app.exit()
      expect(audit(k), `killed at ${n}`).toEqual([])
      if (seen < n) return
    }
  })

  test('R-UPR-5 the process exits, unmaps, maps or forks at every step', () => {
    const rivals: readonly ((rig: UprobeRig, a: number) => void)[] = [
      (rig) => rig.app.exit(),
      (rig, a) => rig.app.munmap(a, 3 * P),
      (rig, a) => void rig.map(3, { at: a + 8 * P }),
      (rig) => void rig.app.fork(),
      (rig, a) => rig.app.madvise(a + P, P, 4),
    ]
    for (const rival of rivals) {
      let interleavings = 0
      for (let n = 0; interleaves(release, n, rival); n++) interleavings = n
      expect(interleavings).toBeGreaterThan(2)
    }
  })
})

/** @returns false when the tool has ended before its n-th step */
function interleaves(
  release: (typeof RELEASES)[number],
  n: number,
  rival: (rig: UprobeRig, a: number) => void,
): boolean {
  const k = testKernel({ release, zones: { normal: 1024 } })
  const rig = new UprobeRig(k)
  const a = rig.map()
  rig.mapCounter()
  rig.byte(a + PLACE)
  let acted = false
  function* tool(): Kthread<void> {
    const consumer = { handler: () => {} }
    const body = uprobeRegister(k, rig.file, PLACE, COUNTER, consumer)
    for (let i = 0; ; i++) {
      const step = body.next()
      if (step.done === true) {
        if (typeof step.value === 'number') throw new Error(`registering failed: ${step.value}`)
        return
      }
      yield step.value
      if (i === n) {
        acted = true
        k.scheduler.spawn('app', rig.app, other())
      }
    }
  }
  // oxlint-disable-next-line require-yield
  function* other(): Kthread<void> {
    rival(rig, a)
  }
  k.exploring = true
  k.scheduler.spawn('tool', rig.tool, tool())
  k.scheduler.run()
  k.exploring = false
  expect(audit(k), `step ${n}`).toEqual([])
  if (rig.app.mm !== null) rig.app.exit()
  expect(audit(k), `step ${n}, after the exit`).toEqual([])
  return acted
}
