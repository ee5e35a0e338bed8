import type { Kthread } from '../base/kthread.ts'
import { PAGE_SIZE } from '../base/units.ts'
import { FOLL_FORCE } from '../mm/gup-flags.ts'
import { PageArray, getUserPagesRemote } from '../mm/gup.ts'
import type { Kernel } from '../mm/kernel.ts'
import type { Mm } from '../mm/mm.ts'
import { putPage } from '../mm/unpin.ts'

/*
 * @caller TOMOYO
 * @entry execve(2)
 * @gup get_user_pages_remote FOLL_FORCE
 * @lock mmap_lock for read, kept
 * @budget none
 * @errno not seen: the argument does not match
 * @release at once
 * @test tests/security/tomoyo-domain.test.ts
 */

/** `struct tomoyo_page_dump`: the argument page looked at last, kept between calls. */
export class TomoyoPageDump {
  /** which page `data` was copied from; compared, never used: nobody holds it */
  page = 0
  /** a page of bytes; null until the first call */
  data: Uint8Array | null = null
}

/**
 * `tomoyo_dump_page`: copies what a new program's memory holds from `position` to the end of its page, so that
 * the arguments can be compared with a policy. A page that was dumped last is not copied again, and bytes
 * before the position are not copied at all.
 * @param mm the address space that exec is building
 * @param position address in bytes
 * @returns whether the bytes are in `dump.data`, at the offset they have in their page
 * @rule R-TOM-2
 */
export function* tomoyoDumpPage(k: Kernel, mm: Mm, position: number, dump: TomoyoPageDump): Kthread<boolean> {
  dump.data ??= new Uint8Array(PAGE_SIZE)
  const pages = new PageArray(1)
  const guard = mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.read())
  const got = yield* getUserPagesRemote(k, mm, position, 1, FOLL_FORCE, pages, guard)
  guard.release()
  if (got <= 0) return false
  const page = pages.pfns[0]!
  if (page !== dump.page) {
    dump.page = page
    const offset = position % PAGE_SIZE
    k.memory.contents.read(page, offset, dump.data.subarray(offset))
  }
  putPage(k, page)
  return true
}
