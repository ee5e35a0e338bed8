/** The identities and limits under which the live tests run. */
import { type Built } from '../../scripts/cc.ts'
import { raiseHugePool } from './huge-pool.ts'
import { type Kind, KindsProgram, type KindsOptions, buildKinds, noIoUring } from './kinds.ts'

export interface Mode {
  name: string
  options: KindsOptions
}

/** Enough huge pages for every hugetlb kind at once. */
export const HUGE_POOL_PAGES = 24

const MEBIBYTE = 1 << 20

/**
 * As root: root, then an ordinary user with an ordinary and with a small limit; else only what this user may do.
 *
 * RLIMIT_MEMLOCK is counted per user over all processes and given back late, so every mode has a user of its own.
 *
 * @param uid - first of two uids nobody else uses meanwhile
 */
export function modesFrom(uid: number): Mode[] {
  if (process.getuid?.() !== 0)
    return [
      { name: 'this user', options: {} },
      { name: 'this user, RLIMIT_MEMLOCK 1 MiB', options: { memlock: MEBIBYTE } },
    ]
  return [
    { name: 'root', options: {} },
    { name: `uid ${uid}`, options: { uid, memlock: 8 * MEBIBYTE } },
    { name: `uid ${uid - 1}, RLIMIT_MEMLOCK 1 MiB`, options: { uid: uid - 1, memlock: MEBIBYTE } },
  ]
}

/** The program, or why nothing can be run. */
export function prepare(): Built {
  const reason = noIoUring()
  return reason === null ? buildKinds() : { skip: reason }
}

/** What kinds there are in a mode, from a run that is over when this returns. */
export async function listKinds(executable: string, mode: Mode): Promise<readonly Kind[]> {
  const restore = await raiseHugePool(HUGE_POOL_PAGES)
  try {
    const program = await KindsProgram.start(executable, mode.options)
    await program.stop()
    return program.kinds
  } finally {
    restore()
  }
}
