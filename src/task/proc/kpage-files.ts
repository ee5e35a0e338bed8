import { EACCES } from '../../base/errno.ts'
import type { Kthread } from '../../base/kthread.ts'
import { refuse } from '../../base/refusal.ts'
import type { IovIter } from '../../mm/iov-iter.ts'
import type { Kernel } from '../../mm/kernel.ts'
import { ProcFile, refuseBuffer, type FilePosition } from '../proc-file.ts'
import { pageFlagsWord } from './kpageflags.ts'
import { WORD, littleEndian, misaligned } from './pagemap.ts'

/** frames told in one go */
const CHUNK = 512

/**
 * A file with a word for every page frame of the machine.
 * @rule R-PM-5
 */
abstract class FramesFile extends ProcFile {
  /** @param halves gets two halves for each of `count` frames, the lower first */
  protected abstract words(k: Kernel, pfn: number, count: number, halves: Uint32Array): void

  /** The position moves only when all of it worked. */
  override *read(k: Kernel, iter: IovIter, position: FilePosition): Kthread<number> {
    const { count } = iter
    if (position.at % WORD !== 0 || count % WORD !== 0) return misaligned(k)
    const first = position.at / WORD
    const end = Math.min(first + count / WORD, k.memory.frames.count)
    const halves = new Uint32Array(CHUNK * 2)
    const bytes = new Uint8Array(CHUNK * WORD)
    let done = 0
    for (let pfn = first; pfn < end; pfn += CHUNK) {
      const frames = Math.min(CHUNK, end - pfn)
      this.words(k, pfn, frames, halves)
      littleEndian(halves.subarray(0, frames * 2), bytes)
      const length = frames * WORD
      if ((yield* iter.copyTo(bytes.subarray(0, length))) < length) return refuseBuffer(k, iter, 'R-PM-5')
      done += length
    }
    position.at += done
    return done
  }
}

/** An open /proc/kpageflags. */
export class ProcKpageflags extends FramesFile {
  protected override words(k: Kernel, pfn: number, count: number, halves: Uint32Array): void {
    for (let i = 0; i < count; i++) pageFlagsWord(k, pfn + i, halves, i * 2)
  }
}

/** An open /proc/kpagecount: how many page-table entries map each frame. @rule R-FLT-165 */
export class ProcKpagecount extends FramesFile {
  protected override words(k: Kernel, pfn: number, count: number, halves: Uint32Array): void {
    const { frames } = k.memory
    for (let i = 0; i < count; i++) {
      halves[i * 2] = frames.refcount[frames.head(pfn + i)]! === 0 ? 0 : frames.pageMapcount(pfn + i)
      halves[i * 2 + 1] = 0
    }
  }
}

/**
 * Opens one of them: they belong to root and nobody else may read them.
 * @returns the open file or -EACCES
 * @rule R-ACC-1
 */
export function* framesFileOpen(k: Kernel, file: ProcFile): Kthread<ProcFile | number> {
  const { current } = k
  if (current.uid === 0 || current.capable('CAP_DAC_OVERRIDE')) return file
  return refuse(current, EACCES, 'R-ACC-1', { why: 'only root may read it' })
}
