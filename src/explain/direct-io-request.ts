import { EFAULT } from '../base/errno.ts'
import { refuse } from '../base/refusal.ts'
import { SECTOR_SIZE } from '../mm/bio.ts'
import { regularFileKind } from '../mm/file.ts'
import { createFile } from '../mm/filemap.ts'
import { fileRead, fileWrite } from '../mm/file-io.ts'
import { UserIter } from '../mm/iov-iter.ts'
import { MAX_RW_COUNT, accessOk } from '../mm/iovec.ts'
import { pagesOf, shownPages, type Request } from './request.ts'

/**
 * read(2) or write(2) of a file opened with O_DIRECT, with the range as its memory. The file is one of an ext4 that
 * is long enough and has no holes; its sectors have 512 bytes.
 */
export function directIoRequest(direction: 'read' | 'write'): Request {
  return {
    name: `direct-io:${direction}`,
    charges: null,
    takes: ['offset'],
    longest: MAX_RW_COUNT,
    *run({ kernel, task, mm }, range, { offset }) {
      const { start, length } = range
      if (!accessOk(start, length)) {
        const why = 'the range is not user memory'
        return { result: refuse(task, EFAULT, 'R-DIO-1', { address: start, why }), held: 0, holder: null }
      }
      const size = Math.ceil((offset + length) / SECTOR_SIZE) * SECTOR_SIZE
      const file = createFile(kernel, regularFileKind('ext4'), { path: 'file', size, direct: true })
      const iter = new UserIter(kernel, mm, [{ base: start, length: Math.min(length, MAX_RW_COUNT) }])
      const transfer = direction === 'read' ? fileRead : fileWrite
      const result = yield* transfer(kernel, file, offset, iter)
      file.put()
      // the pins are gone with the transfer: what the range shows now is what they were on
      const held = result === length ? pagesOf(range) : 0
      return { result, held, holder: shownPages(mm, range) }
    },
  }
}
