import { EFAULT, EINVAL, EOVERFLOW } from '../base/errno.ts'
import { refuse } from '../base/refusal.ts'
import { pageAlign } from '../base/units.ts'
import { elementAt, type Iovec, type IovecArray, type Unreadable } from '../mm/iovec.ts'
import type { Kernel } from '../mm/kernel.ts'
import type { RingFd } from './register.ts'

export { elementAt } from '../mm/iovec.ts'
export type { Iovec, IovecArray, Unreadable } from '../mm/iovec.ts'

/** `__u64[]` of tags in user memory; exact up to 2^53. What lies beyond its end cannot be read. */
export type TagArray = readonly (number | Unreadable)[] | Unreadable

/** `struct io_uring_rsrc_register`, 32 bytes. `data` null makes empty slots. */
export interface RsrcRegister {
  readonly type: 'rsrc-register'
  readonly nr: number
  readonly flags?: number
  readonly resv2?: number
  readonly data: IovecArray | null
  readonly tags?: TagArray | null
}

/** `struct io_uring_rsrc_update2`, 32 bytes. */
export interface RsrcUpdate {
  readonly type: 'rsrc-update'
  readonly offset: number
  readonly resv?: number
  readonly data: IovecArray | null
  readonly tags?: TagArray | null
  readonly nr: number
  readonly resv2?: number
}

/** `struct io_uring_restriction`: one thing a restricted ring still may. */
export type Restriction =
  | { readonly allow: 'register-op'; readonly opcode: number }
  | { readonly allow: 'sqe-op'; readonly opcode: number }
  | { readonly allow: 'sqe-flags' | 'sqe-flags-required'; readonly flags: number }
  | { readonly allow: 'unknown' }

/** `struct io_uring_buf_reg`, 40 bytes. */
export interface BufReg {
  readonly type: 'buf-reg'
  /** user address of the ring of descriptors */
  readonly ringAddr: number
  readonly entries: number
  /** group number, 16 bits */
  readonly bgid: number
  /** IOU_PBUF_RING_* */
  readonly flags?: number
  readonly resv?: number
}

/** `struct io_uring_clone_buffers`, 32 bytes. */
export interface CloneBuffers {
  readonly type: 'clone-buffers'
  /** what `src_fd` leads to */
  readonly source: RingFd
  readonly flags?: number
  readonly srcOff?: number
  readonly dstOff?: number
  /** 0: all of them */
  readonly nr?: number
  readonly pad?: number
}

/** What `arg` of io_uring_register(2) points to, already decoded; null is a null pointer. */
export type RegisterArgument =
  | null
  | Unreadable
  | { readonly type: 'iovecs'; readonly iovecs: IovecArray }
  | RsrcRegister
  | RsrcUpdate
  | BufReg
  | CloneBuffers
  | { readonly type: 'restrictions'; readonly restrictions: readonly Restriction[] }

const TWO_63 = 2 ** 63
const TWO_64 = 2 ** 64
const GIB = 2 ** 30

/** A 64-bit value as a signed number. */
export function signed64(value: number): number {
  return value >= TWO_63 ? value - TWO_64 : value
}

/** A signed 64-bit value as the unsigned number GUP expects. Exact for page-aligned values. */
export function unsigned64(value: number): number {
  return value < 0 ? value + TWO_64 : value
}

/**
 * Copies one iovec in.
 * @param compat the ring was made by a 32-bit program: its iovecs are {u32, u32} whoever registers (R-URING-14)
 * @returns the iovec with signed fields, -EFAULT for unreadable memory, -EINVAL for an impossible length
 * @rule R-URING-12
 * @rule R-URING-14
 */
export function copyIovec(
  k: Kernel,
  compat: boolean,
  array: IovecArray | null,
  index: number,
): Iovec | number {
  const iovec = elementAt(array, index)
  if (iovec === 'unreadable')
    return refuse(k.current, EFAULT, 'R-URING-12', { why: 'the iovec array cannot be read' })
  const base = signed64(iovec.base)
  const length = signed64(iovec.length)
  if (k.release.ioUring.rejectsHugeLength && (length < 0 || (compat && length > 0x7fffffff))) {
    return refuse(k.current, EINVAL, 'R-URING-12', {
      address: unsigned64(base),
      why: 'the length of the buffer has its top bit set',
    })
  }
  return { base, length }
}

/** Whether base + length (both signed) leaves the 64-bit address space. */
function wraps(base: number, length: number): boolean {
  return base < 0 && base + length >= 0
}

/**
 * Checks one iovec; {0, 0} is an empty slot and passes.
 * @returns 0 or a negative errno
 * @rule R-URING-12
 */
export function validateIovec(k: Kernel, { base, length }: Iovec): number {
  if (base === 0) {
    if (length === 0) return 0
    return refuse(k.current, EFAULT, 'R-URING-12', {
      address: 0,
      why: 'the buffer has a length but no address',
    })
  }
  const address = unsigned64(base)
  if (length === 0)
    return refuse(k.current, EFAULT, 'R-URING-12', {
      address,
      why: 'the buffer has an address but no length',
    })
  if (length < 0 || length > GIB) {
    return refuse(k.current, EFAULT, 'R-URING-12', { address, why: 'a buffer may be at most 1 GiB long' })
  }
  const span = k.release.ioUring.overflowUsesAlignedLength ? pageAlign(length) : length + 4095
  if (wraps(base, span)) return refuseOverflow(k, address)
  return 0
}

/** @returns 0, or -EOVERFLOW where the last page would lie beyond 2^64 */
export function checkPinOverflow(k: Kernel, base: number, length: number): number {
  return wraps(base, length + 4095) ? refuseOverflow(k, unsigned64(base)) : 0
}

function refuseOverflow(k: Kernel, address: number): number {
  return refuse(k.current, EOVERFLOW, 'R-URING-12', {
    address,
    why: 'the end of the buffer wraps around the address space',
  })
}
