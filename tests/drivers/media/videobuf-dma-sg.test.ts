import { describe, expect, it } from 'vitest'
import {
  openVideobuf,
  type DmaDirection,
  type VideobufQueue,
} from '../../../src/drivers/media/videobuf-dma-sg.ts'
import { MADV_DONTNEED } from '../../../src/mm/mman.ts'
import { openDevice, type DeviceHandle } from '../../../src/task/device/handle.ts'
import type { Process } from '../../../src/task/process.ts'
import { P, Rig, answer, reason, walkDevice } from '../rig.ts'

type Video = DeviceHandle<VideobufQueue>
const open = (app: Process): Video => openDevice(app, openVideobuf)
const qbuf = (video: Video, at: number, size: number, direction?: DmaDirection, index = 0): number =>
  video.call('VIDIOC_QBUF', (d) => d.qbuf(index, at, size, direction))
const free = (video: Video, index = 0): number => video.call('VIDIOC_STREAMOFF', (d) => d.freeBuffer(index))

describe.each(['6.1', 'gup-v3'] as const)('videobuf on %s', (release) => {
  it('DRV vector 62: a short pin is EINVAL, and the pages stay pinned until the buffer is freed (R-VBUF-3)', () => {
    const rig = new Rig(release)
    const video = open(rig.app)
    const at = rig.memory('rw8+hole8')
    expect(reason(() => qbuf(video, at, 16 * P))).toMatchObject({
      rule: 'R-VBUF-3',
      errno: 22,
      got: 8,
      wanted: 16,
    })
    expect([rig.pinned, rig.app.mm!.pinnedVm, rig.locked()]).toEqual([8, 0, 0])
    free(video)
    expect(rig.pinned).toBe(0)
    expect(answer(() => qbuf(video, at + 8 * P, 8 * P))).toBe('-EFAULT')
  })

  it('R-VBUF-1 R-VBUF-4 a frame lands in the buffer, offsets and ends as they are', () => {
    const rig = new Rig(release)
    const video = open(rig.app)
    const at = rig.memory('rw4')
    expect(qbuf(video, at + 100, 2 * P)).toBe(0)
    expect(rig.pinned).toBe(3)
    expect(video.device.capture(0, new TextEncoder().encode('frame'))).toBe(true)
    expect(rig.text(rig.app.load(at + 100, 5))).toBe('frame')
    expect(video.device.capture(0, new Uint8Array(2 * P + 1))).toBe(false)
    rig.app.madvise(at, P, MADV_DONTNEED)
    video.device.capture(0, new TextEncoder().encode('later'))
    expect(rig.app.load(at + 100, 1)[0]).toBe(0)
    rig.store(at, 'send')
    expect(qbuf(video, at, P, 'to-device')).toBe(0)
    const out = new Uint8Array(2)
    expect([video.device.output(0, out), rig.pinned]).toEqual([true, 1])
  })

  it('R-DRV-16 read-only memory: to be sent always, to be captured only with FOLL_FORCE', () => {
    const rig = new Rig(release)
    const video = open(rig.app)
    const at = rig.memory('ro4')
    expect(answer(() => qbuf(video, at, 4 * P))).toBe(release === '6.1' ? 0 : '-EFAULT')
    expect(qbuf(video, at, 4 * P, 'to-device')).toBe(0)
  })

  it('R-VBUF-2 nothing checks the size: no bytes are no pages, a range that wraps is too many', () => {
    const rig = new Rig(release)
    const video = open(rig.app)
    const at = rig.memory('rw4')
    expect(answer(() => qbuf(video, at, 0))).toBe('-ENOMEM')
    expect(answer(() => qbuf(video, at, 2 ** 64 - at))).toBe('-ENOMEM')
    expect(rig.pinned).toBe(0)
  })

  it('R-VBUF-4 what fails anywhere is given back with the buffer, and a killed process leaves nothing', () => {
    const steps = walkDevice(release, (rig) => {
      const at = rig.memory('rw4+memfd4')
      const video = open(rig.app)
      return () => {
        qbuf(video, at, 8 * P)
        qbuf(video, at, 2 * P, 'to-device', 1)
        free(video)
      }
    })
    expect(steps).toBeGreaterThan(15)
  })
})

describe('other releases', () => {
  it('R-VBUF-1 6.12 and 6.18 have none, of 6.6 it is not known', () => {
    for (const release of ['6.12', '6.18'] as const)
      expect(answer(() => open(new Rig(release).app).fd)).toBe('-ENOENT')
    expect(() => open(new Rig('6.6').app)).toThrow('R-VBUF-1')
  })
})
