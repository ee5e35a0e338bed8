import type { Kthread } from '../base/kthread.ts'
import { PAGE_SIZE } from '../base/units.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import { loadUser, storeUser } from './user-access.ts'

/**
 * `copy_to_user`: a kernel copy into user memory, page after page, until one cannot be written.
 * @param address the caller has checked that the range is user memory
 * @returns bytes copied
 */
export function copyToUser(k: Kernel, mm: Mm, address: number, bytes: Uint8Array): Kthread<number> {
  return copyUser(k, mm, address, bytes, true)
}

/** `copy_from_user`: the other way. What could not be copied is left alone in `into`. */
export function copyFromUser(k: Kernel, mm: Mm, address: number, into: Uint8Array): Kthread<number> {
  return copyUser(k, mm, address, into, false)
}

function* copyUser(k: Kernel, mm: Mm, address: number, buffer: Uint8Array, write: boolean): Kthread<number> {
  for (let done = 0; done < buffer.length;) {
    const at = address + done
    const part = buffer.subarray(done, done + PAGE_SIZE - (at % PAGE_SIZE))
    const result = yield* (write ? storeUser : loadUser)(k, mm, at, part, 'kernel')
    if (!result.ok) return done
    done += part.length
  }
  return buffer.length
}
