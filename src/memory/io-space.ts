import { PAGE_SIZE } from '../base/units.ts'
import type { Contents } from './contents.ts'

/**
 * What a device shows of itself in physical memory, a BAR: page frames behind the end of memory that have no
 * `struct page`, and the bytes in them, which are the device's own.
 */
export class IoMemory {
  readonly name: string
  /** the first frame number */
  readonly pfn: number
  readonly pages: number
  /** what is there; the device reads and writes it whenever it likes */
  readonly bytes: Uint8Array

  constructor(name: string, pfn: number, pages: number) {
    this.name = name
    this.pfn = pfn
    this.pages = pages
    this.bytes = new Uint8Array(pages * PAGE_SIZE)
  }
}

/** Physical addresses behind the end of memory: what devices show there, and who is asked for it. */
export class IoSpace {
  readonly #contents: Contents
  /** frames below are memory */
  readonly #memoryEnd: number
  #next: number

  constructor(memoryEnd: number, contents: Contents) {
    this.#memoryEnd = memoryEnd
    this.#contents = contents
    this.#next = memoryEnd
  }

  /**
   * `request_mem_region`: room for a device, aligned to its size as PCI wants it, zeroed.
   * @param pages more than 0
   */
  request(name: string, pages: number): IoMemory {
    const alignment = 2 ** Math.ceil(Math.log2(pages))
    const pfn = Math.ceil(this.#next / alignment) * alignment
    this.#next = pfn + pages
    const memory = new IoMemory(name, pfn, pages)
    for (let i = 0; i < pages; i++)
      this.#contents.attach(pfn + i, memory.bytes.subarray(i * PAGE_SIZE, (i + 1) * PAGE_SIZE))
    return memory
  }

  /** The device is gone: nothing answers at its addresses any more. */
  release(memory: IoMemory): void {
    for (let i = 0; i < memory.pages; i++) this.#contents.detach(memory.pfn + i)
  }

  /** `page_is_ram`: whether a frame belongs to memory. */
  isMemory(pfn: number): boolean {
    return pfn < this.#memoryEnd
  }

  /**
   * Reads or writes bytes at consecutive physical addresses. Where no device answers, reads give ones and writes
   * are lost, as on a PCI bus.
   * @param offset bytes from the start of frame `pfn`; may be larger than a page
   */
  transfer(pfn: number, offset: number, bytes: Uint8Array, write: boolean): void {
    for (let done = 0; done < bytes.length;) {
      const at = offset + done
      const inPage = at % PAGE_SIZE
      const page = pfn + Math.floor(at / PAGE_SIZE)
      const part = bytes.subarray(done, done + PAGE_SIZE - inPage)
      if (!this.#contents.has(page)) {
        if (!write) part.fill(0xff)
      } else if (write) this.#contents.write(page, inPage, part)
      else this.#contents.read(page, inPage, part)
      done += part.length
    }
  }
}
