import { EINVAL, ENOENT, ENOMEM } from '../../base/errno.ts'
import type { Kthread } from '../../base/kthread.ts'
import { refuse } from '../../base/refusal.ts'
import { Unmodelled } from '../../base/unmodelled.ts'
import { PAGE_SIZE } from '../../base/units.ts'
import { FOLL_FORCE, FOLL_LONGTERM, FOLL_WRITE } from '../../mm/gup-flags.ts'
import { PageArray, pinUserPages } from '../../mm/gup.ts'
import { pinIsCounted } from '../../mm/gup-grab.ts'
import type { Kernel } from '../../mm/kernel.ts'
import { unpinUserPages, unpinUserPagesDirtyLock } from '../../mm/unpin.ts'
import { dmaMap, kmalloc, pointerArray } from '../../task/device/charge.ts'
import { Device } from '../../task/device/device.ts'
import { deviceRead, deviceWrite } from '../../task/device/dma.ts'

/*
 * @caller videobuf, until 6.4
 * @entry VIDIOC_QBUF of a USERPTR buffer
 * @gup pin_user_pages FOLL_LONGTERM, FOLL_WRITE for capture, one call; 6.1 FOLL_FORCE, too
 * @lock mmap_lock for read, kept
 * @budget none
 * @errno EINVAL for a short pin, which stays pinned
 * @release end of the buffer, STREAMOFF, close; dirty for capture
 * @test tests/drivers/media/videobuf-dma-sg.test.ts
 */

export type DmaDirection = 'from-device' | 'to-device'

/** `struct videobuf_dmabuf`: one queued buffer. */
interface DmaBuffer {
  readonly direction: DmaDirection
  readonly offset: number
  readonly size: number
  readonly pages: PageArray
  /** pages that are pinned: fewer than asked for after a short pin */
  nrPages: number
}

/** An open `/dev/video0` of a driver that uses the first version of videobuf. */
export class VideobufQueue extends Device {
  readonly #buffers = new Map<number, DmaBuffer>()

  constructor(k: Kernel) {
    super(k, '/dev/video0')
  }

  override forEachReference(visit: (pfn: number, references: number, pins: number) => void): void {
    for (const { pages, nrPages } of this.#buffers.values()) {
      for (let i = 0; i < nrPages; i++)
        if (pinIsCounted(this.kernel, pages.pfns[i]!)) visit(pages.pfns[i]!, 0, 1)
    }
  }

  /**
   * VIDIOC_QBUF of a buffer in user memory.
   * @param index of the buffer: what it had before is let go of
   * @returns 0, or a negative errno. After a short pin (-EINVAL) the pages that were had stay pinned until
   *   `freeBuffer`
   * @rule R-VBUF-1
   * @rule R-VBUF-2
   */
  *qbuf(index: number, data: number, size: number, direction: DmaDirection = 'from-device'): Kthread<number> {
    const k = this.kernel
    yield* this.#release(index)
    const first = Math.floor(data / PAGE_SIZE)
    const last = lastPage(data, size)
    // without a check for overflow: a range that wraps has a huge number of pages
    const nrPages = last - first + 1
    const wanted = nrPages < 0 ? 2 ** 32 + nrPages : nrPages
    const noMemory = pointerArray(k, wanted, 'R-VBUF-2')
    if (noMemory < 0) return noMemory
    const pages = new PageArray(wanted)
    const buffer: DmaBuffer = { direction, offset: data % PAGE_SIZE, size, pages, nrPages: 0 }
    this.#buffers.set(index, buffer)
    const error = yield* this.#pin(buffer, data)
    if (error < 0) return error
    return yield* this.#map(buffer)
  }

  /**
   * `videobuf_dma_init_user_locked`: one GUP call, nothing charged.
   * @rule R-VBUF-3
   * @rule R-DRV-16
   */
  *#pin(buffer: DmaBuffer, data: number): Kthread<number> {
    const k = this.kernel
    const { pages } = buffer
    const write = buffer.direction === 'from-device' ? FOLL_WRITE : 0
    const flags = write | FOLL_LONGTERM | (k.release.drivers.forcesPins ? FOLL_FORCE : 0)
    const mm = k.current.mm!
    const guard = mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.read())
    const got = yield* pinUserPages(k, guard, data - (data % PAGE_SIZE), pages.length, flags, pages)
    guard.release()
    buffer.nrPages = Math.max(got, 0)
    if (got === pages.length) return 0
    if (got < 0) return got
    const facts = {
      address: data - (data % PAGE_SIZE) + got * PAGE_SIZE,
      page: got,
      wanted: pages.length,
      got,
    }
    const why = 'not every page of the buffer can be pinned; those that could stay pinned'
    return refuse(k.current, EINVAL, 'R-VBUF-3', { ...facts, why }, k.current.refusal)
  }

  /** `videobuf_dma_map`. @rule R-VBUF-4 */
  // oxlint-disable-next-line require-yield -- nothing here sleeps
  *#map(buffer: DmaBuffer): Kthread<number> {
    const k = this.kernel
    if (buffer.nrPages === 0) return refuse(k.current, ENOMEM, 'R-VBUF-4', { why: 'there is nothing to map' })
    return kmalloc(k, 'R-VBUF-4') || dmaMap(k, 'R-VBUF-4')
  }

  /** STREAMOFF, or the end of a buffer: `videobuf_dma_free`. @returns 0 */
  *freeBuffer(index: number): Kthread<number> {
    yield* this.#release(index)
    return 0
  }

  /** @rule R-VBUF-4 */
  *#release(index: number): Kthread<void> {
    const k = this.kernel
    const buffer = this.#buffers.get(index)
    if (buffer === undefined) return
    this.#buffers.delete(index)
    if (buffer.direction === 'from-device')
      yield* unpinUserPagesDirtyLock(k, buffer.pages, buffer.nrPages, true)
    else unpinUserPages(k, buffer.pages, buffer.nrPages)
  }

  /** A frame arrives: the device writes it from the start of the buffer. */
  capture(index: number, frame: Uint8Array): boolean {
    const buffer = this.#buffers.get(index)
    if (buffer?.direction !== 'from-device' || frame.length > buffer.size) return false
    return deviceWrite(this.kernel, pageOf(buffer), buffer.offset, frame)
  }

  /** The device sends what is in the buffer. */
  output(index: number, into: Uint8Array): boolean {
    const buffer = this.#buffers.get(index)
    if (buffer?.direction !== 'to-device' || into.length > buffer.size) return false
    return deviceRead(this.kernel, pageOf(buffer), buffer.offset, into)
  }

  protected override *teardown(): Kthread<void> {
    for (const index of this.#buffers.keys()) yield* this.#release(index)
  }
}

function pageOf({ pages, nrPages }: DmaBuffer): (page: number) => number {
  return (page) => (page < nrPages ? pages.pfns[page]! : 0)
}

/** Page of the last byte, as unsigned arithmetic of 64 bits has it. */
function lastPage(data: number, size: number): number {
  const end = data + size - 1
  return Math.floor((end >= 2 ** 64 ? end - 2 ** 64 : end) / PAGE_SIZE)
}

/**
 * open("/dev/video0") of a driver that uses videobuf.
 * @returns -ENOENT on releases without it
 * @throws Unmodelled on releases of which that is not known
 */
export function openVideobuf(k: Kernel): VideobufQueue | number {
  const { videobuf } = k.release.drivers
  if (videobuf === 'unknown') throw new Unmodelled(`videobuf on release ${k.release.name}`, 'R-VBUF-1')
  if (videobuf) return new VideobufQueue(k)
  return refuse(k.current, ENOENT, 'R-VBUF-1', { why: 'this release has no videobuf any more' })
}
