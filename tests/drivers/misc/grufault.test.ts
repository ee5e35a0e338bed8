import { describe, expect, it } from 'vitest'
import { GruContext } from '../../../src/drivers/misc/grufault.ts'
import { hugetlbPool } from '../../../src/mm/hugetlb.ts'
import { MADV_DONTNEED } from '../../../src/mm/mman.ts'
import { openDevice, type DeviceHandle } from '../../../src/task/device/handle.ts'
import type { Process } from '../../../src/task/process.ts'
import { P, RELEASES, Rig, walkDevice } from '../rig.ts'

type Gru = DeviceHandle<GruContext>
const WINDOW = { start: 0x7e0000000000, end: 0x7e0000100000 }
const open = (app: Process): Gru => openDevice(app, (k) => new GruContext(k, WINDOW))

describe.each(RELEASES)('gru on %s', (release) => {
  const miss = (rig: Rig, gru: Gru, at: number, write = true, context?: 'interrupt'): string =>
    rig.app.run(gru.device.tlbMiss(at, write, context))

  it('R-GRU-1 a miss looks one page up and holds nothing', () => {
    const rig = new Rig(release)
    const gru = open(rig.app)
    const at = rig.memory('rw4+ro4+hole4')
    expect(miss(rig, gru, at + 100)).toBe('dropped-in')
    expect(rig.k.pinAcquired).toBe(0)
    expect(gru.device.write(at + 10, new TextEncoder().encode('gru'))).toBe(true)
    expect(rig.text(rig.app.load(at + 10, 3))).toBe('gru')
    expect(gru.device.read(at + P, new Uint8Array(1))).toBe(false)
    expect([miss(rig, gru, at + 4 * P), miss(rig, gru, at + 4 * P, false)]).toEqual([
      'exception',
      'dropped-in',
    ])
    expect(gru.device.write(at + 4 * P, new Uint8Array(1))).toBe(false)
    expect([miss(rig, gru, at + 8 * P), rig.app.refusal!.rule]).toEqual(['exception', 'R-GRU-2'])
    expect(miss(rig, gru, WINDOW.start)).toBe('exception')
  })

  it('R-GRU-1 R-DRV-11 entries are dropped before the mapping changes: nothing goes stale', () => {
    const rig = new Rig(release)
    const gru = open(rig.app)
    const at = rig.memory('rw4')
    miss(rig, gru, at)
    rig.app.madvise(at, P, MADV_DONTNEED)
    expect(gru.device.read(at, new Uint8Array(1))).toBe(false)
    miss(rig, gru, at)
    rig.app.munmap(at, 4 * P)
    expect(gru.device.read(at, new Uint8Array(1))).toBe(false)
    gru.device.activeRanges++
    expect(miss(rig, gru, at)).toBe('retry')
  })

  it('R-GRU-2 an entry for hugetlb covers the huge page', () => {
    const rig = new Rig(release)
    hugetlbPool(rig.k).resize(1)
    const gru = open(rig.app)
    const at = rig.app.mmap({ length: '2M', hugetlb: true })
    expect(miss(rig, gru, at + 5 * P)).toBe('dropped-in')
    expect(gru.device.write(at + 400 * P, new Uint8Array([7]))).toBe(true)
    expect(rig.app.load(at + 400 * P, 1)[0]).toBe(7)
    expect(gru.device.read(at + 2 * 1024 * 1024, new Uint8Array(1))).toBe(false)
  })

  it('R-GRU-3 in an interrupt nothing is looked up; a preload stops where nothing is', () => {
    const rig = new Rig(release)
    const gru = open(rig.app)
    const at = rig.memory('rw4+hole4')
    expect([miss(rig, gru, at, true, 'interrupt'), gru.device.userPolling, rig.app.mm!.rss]).toEqual([
      'retry',
      true,
      0,
    ])
    expect(rig.app.run(gru.device.preload(at, 8, true))).toBe(4)
    expect(gru.device.userPolling).toBe(false)
  })

  it('R-GRU-1 what fails anywhere leaves nothing', () => {
    const steps = walkDevice(release, (rig) => {
      const at = rig.memory('rw4+memfd4')
      const gru = open(rig.app)
      return () => void rig.app.run(gru.device.preload(at, 8, true))
    })
    expect(steps).toBeGreaterThan(8)
  })
})
