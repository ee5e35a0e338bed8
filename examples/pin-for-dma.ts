/**
 * Kernel-side code: pins a buffer for a device, looks at its mapping under the same lock, lets the device
 * write, and shows what becomes of the pin when the process drops the page.
 *
 *     npx tsx examples/pin-for-dma.ts
 */
import { MADV_DONTNEED, Machine } from '../src/index.ts'
import {
  EINVAL,
  FOLL_LONGTERM,
  FOLL_WRITE,
  PageArray,
  pinUserPages,
  unpinUserPagesDirtyLock,
  vmaLookup,
} from '../src/kernel.ts'
import type { Kernel, Kthread, Mm, PageHolder } from '../src/kernel.ts'

/** A buffer a device may write to. A holder: the audit asks it for its pins. */
class DmaBuffer implements PageHolder {
  readonly name = 'dma buffer'
  readonly pages: PageArray
  pinned = 0

  constructor(n: number) {
    this.pages = new PageArray(n)
  }

  forEachReference(visit: (pfn: number, references: number, pins: number) => void): void {
    for (let i = 0; i < this.pinned; i++) visit(this.pages.pfns[i]!, 0, 1)
  }
}

/** @returns 0, or -errno with nothing pinned */
function* pinForDma(k: Kernel, mm: Mm, start: number, buffer: DmaBuffer): Kthread<number> {
  const { pages } = buffer
  const guard = yield* mm.mmapLock.read()
  let result = yield* pinUserPages(k, guard, start, pages.length, FOLL_WRITE | FOLL_LONGTERM, pages)
  if (result > 0) buffer.pinned = result
  // pages first, then the VMA, under a lock that was never dropped; vmaLookup cannot be called without it
  if (result === pages.length) {
    const vma = vmaLookup(guard, start)
    if (vma === null) {
      k.warnOnce('pin-for-dma', 'the pages were pinned, but no mapping is there')
      result = -EINVAL
    } else console.log(`pinned ${result} pages of ${vma.backing} memory`)
  } else if (result >= 0) result = -EINVAL
  guard.release()
  if (result < 0) yield* unpinForDma(k, buffer)
  return Math.min(result, 0)
}

function* unpinForDma(k: Kernel, buffer: DmaBuffer): Kthread<void> {
  yield* unpinUserPagesDirtyLock(k, buffer.pages, buffer.pinned, true)
  buffer.pinned = 0
}

/** What the device does: it knows frames, not addresses. */
function deviceWrites(k: Kernel, buffer: DmaBuffer, text: string): void {
  k.memory.contents.write(buffer.pages.pfns[0]!, 0, new TextEncoder().encode(text))
}

const machine = new Machine({ memory: '64M' })
const k = machine.kernel
const app = machine.spawn('app')
const address = app.mmap({ length: 4 * 4096, prot: 'rw' })
const read = (length: number): string => new TextDecoder().decode(app.load(address, length))

const buffer = new DmaBuffer(4)
k.holders.add(buffer)
console.log(`pinForDma: ${app.run(pinForDma(k, app.mm!, address, buffer))}`)

deviceWrites(k, buffer, 'first')
console.log(`the process reads "${read(5)}"`)

const child = app.fork()
app.store(address, new TextEncoder().encode('FIRST'))
console.log(
  `after fork the child reads "${new TextDecoder().decode(child.load(address, 5))}", the device's page says "${frameText(5)}"`,
)

app.madvise(address, 4096, MADV_DONTNEED)
deviceWrites(k, buffer, 'later')
const seen = app.load(address, 5)
console.log(
  `after MADV_DONTNEED the process reads ${seen.join(' ')}, the device's page says "${frameText(5)}": a stale pin`,
)

app.run(unpinForDma(k, buffer))
k.holders.delete(buffer)
console.log(`audit: ${machine.audit().length} findings`)

function frameText(length: number): string {
  const bytes = new Uint8Array(length)
  k.memory.contents.read(buffer.pages.pfns[0]!, 0, bytes)
  return new TextDecoder().decode(bytes)
}
