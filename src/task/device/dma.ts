import { PAGE_SIZE } from '../../base/units.ts'
import type { Kernel } from '../../mm/kernel.ts'

/** Frames behind a device's addresses: page index → pfn, 0 where the device would fault. */
export type Translation = (page: number) => number

/**
 * The device reads memory: what is in the frames it was given, whatever the process maps at the address by
 * now.
 * @param offset bytes from the first page of the translation
 * @returns whether every byte was there; false is a fault of the IOMMU, with the bytes before it read
 * @rule R-DRV-11
 */
export function deviceRead(k: Kernel, at: Translation, offset: number, into: Uint8Array): boolean {
  return transfer(at, offset, into, (pfn, start, part) => k.memory.contents.read(pfn, start, part))
}

/** The device writes memory; as `deviceRead`. */
export function deviceWrite(k: Kernel, at: Translation, offset: number, from: Uint8Array): boolean {
  return transfer(at, offset, from, (pfn, start, part) => k.memory.contents.write(pfn, start, part))
}

function transfer(
  at: Translation,
  offset: number,
  bytes: Uint8Array,
  step: (pfn: number, start: number, part: Uint8Array) => void,
): boolean {
  for (let done = 0; done < bytes.length;) {
    const start = (offset + done) % PAGE_SIZE
    const pfn = at(Math.floor((offset + done) / PAGE_SIZE))
    if (pfn === 0) return false
    const part = bytes.subarray(done, done + PAGE_SIZE - start)
    step(pfn, start, part)
    done += part.length
  }
  return true
}
