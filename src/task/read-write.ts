import { EINVAL } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { fileRead, fileWrite } from '../mm/file-io.ts'
import { OpenFile } from '../mm/file.ts'
import type { IovIter } from '../mm/iov-iter.ts'
import type { Kernel } from '../mm/kernel.ts'
import type { FileDescription } from './fd-table.ts'
import { PipeEnd, pipeRead, pipeWrite } from './pipe.ts'
import { ProcFile, procTransfer } from './proc-file.ts'

/**
 * read(2) and pread(2) of whatever a descriptor leads to.
 * @param offset bytes into the file; null: where the file stands, which moves on. Pipes have no positions
 * @param nonblock a pipe that is empty answers -EAGAIN; default: as it was opened
 * @returns bytes, or a negative errno
 * @rule R-FLT-172
 */
export function vfsRead(
  k: Kernel,
  file: FileDescription,
  offset: number | null,
  iter: IovIter,
  nonblock?: boolean,
): Kthread<number> {
  if (file instanceof ProcFile) return procTransfer(k, file, false, iter, offset)
  return file instanceof PipeEnd
    ? pipeRead(k, file, iter, nonblock)
    : transfer(k, file, offset, iter, fileRead)
}

/** write(2) and pwrite(2); as `vfsRead`. @rule R-FLT-173 */
export function vfsWrite(
  k: Kernel,
  file: FileDescription,
  offset: number | null,
  iter: IovIter,
  nonblock?: boolean,
): Kthread<number> {
  if (file instanceof ProcFile) return procTransfer(k, file, true, iter, offset)
  return file instanceof PipeEnd
    ? pipeWrite(k, file, iter, nonblock)
    : transfer(k, file, offset, iter, fileWrite)
}

function* transfer(
  k: Kernel,
  file: FileDescription,
  offset: number | null,
  iter: IovIter,
  how: typeof fileRead,
): Kthread<number> {
  if (!(file instanceof OpenFile))
    return refuse(k.current, EINVAL, 'R-FLT-172', { why: 'this kind of file cannot be read or written' })
  const done = yield* how(k, file, offset ?? file.pos, iter)
  if (offset === null && done > 0) file.pos += done
  return done
}
