import { EAGAIN, EINVAL } from '../base/errno.ts'
import { refuse } from '../base/refusal.ts'
import { SECRETMEM, type AddressSpace, type OpenFile } from './file.ts'
import { createFile } from './filemap.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import { mlockFutureOk } from './vm-accounting.ts'
import { VM_DONTDUMP, VM_LOCKED, VM_SHARED } from './vm-flags.ts'

const O_CLOEXEC = 0o2000000

/**
 * memfd_secret(2): a file of no bytes whose pages are in nobody's direct map, so that no pin, no remote access and no
 * read(2) reaches them. ftruncate(2) gives it its size once.
 * @returns the open file, or -EINVAL
 * @rule R-AS-93
 */
export function memfdSecret(k: Kernel, flags: number): OpenFile | number {
  if ((flags & ~O_CLOEXEC) !== 0) return refuse(k.current, EINVAL, 'R-AS-93', { why: 'an unknown flag' })
  const file = createFile(k, SECRETMEM, { path: '/secretmem (deleted)', size: 0 })
  file.mapping.noexec = true
  return file
}

/**
 * What secret memory makes of a new mapping before its neighbours are looked at: shared only, left out of core files
 * and, where the release has it so, locked from the start, within the limit and counted.
 * @param flags of the mapping
 * @param pages of it, and those that count although a mapping at this place has lost them already
 * @returns the flags to add, or -errno
 * @rule R-AS-93
 */
export function prepareSecretmem(k: Kernel, mm: Mm, flags: number, pages: number): number {
  if ((flags & VM_SHARED) === 0) {
    return refuse(k.current, EINVAL, 'R-AS-93', { why: 'secret memory can only be mapped shared' })
  }
  if (!k.release.mm.secretmemIsLocked) return VM_DONTDUMP
  const error = mlockFutureOk(k, mm, VM_LOCKED, pages)
  if (error < 0)
    return refuse(k.current, EAGAIN, 'R-AS-93', { why: 'secret memory is locked memory' }, k.current.refusal)
  return VM_DONTDUMP | VM_LOCKED
}

/**
 * A size once given stays.
 * @returns 0 or -EINVAL
 * @rule R-AS-93
 */
export function resizeSecretmem(k: Kernel, mapping: AddressSpace, newSize: number): number {
  if (mapping.size !== 0)
    return refuse(k.current, EINVAL, 'R-AS-93', { why: 'the size of secret memory is set once' })
  mapping.size = newSize
  return 0
}
