import { EACCES, EBUSY, EFAULT, EINVAL, EIO, ENOMEM, ERESTARTSYS } from '../../base/errno.ts'
import type { Kthread } from '../../base/kthread.ts'
import { refuse } from '../../base/refusal.ts'
import { PAGE_SIZE } from '../../base/units.ts'
import { PageArray, getUserPages } from '../../mm/gup.ts'
import type { Unreadable } from '../../mm/iovec.ts'
import type { Kernel } from '../../mm/kernel.ts'
import { findVma } from '../../mm/mmap-lock.ts'
import { putPage } from '../../mm/unpin.ts'
import { VM_MAYEXEC } from '../../mm/vm-flags.ts'
import { vmaFacts } from '../../mm/vma.ts'
import { kmalloc } from '../../task/device/charge.ts'
import { Device } from '../../task/device/device.ts'

/*
 * @caller SGX
 * @entry ioctl SGX_IOC_ENCLAVE_ADD_PAGES
 * @gup get_user_pages, no flags, page by page
 * @lock mmap_lock for read, kept
 * @budget none
 * @errno EFAULT; EACCES on a noexec mount
 * @release at once, after EADD
 * @test tests/arch/x86/sgx-ioctl.test.ts
 */

export const SGX_SECINFO_R = 1
export const SGX_SECINFO_W = 2
/** @public */
export const SGX_SECINFO_X = 4
const SGX_PAGE_TYPE_TCS = 1
const SGX_PAGE_TYPE_REG = 2

/** `struct sgx_secinfo` */
export interface Secinfo {
  /** SGX_SECINFO_R, W, X and the page type in bits 8 to 15 */
  readonly flags: number
  /** a reserved byte is not 0 */
  readonly reservedSet?: boolean
}

/** A page type and permissions as SECINFO has them. */
export function secinfoOf(type: 'reg' | 'tcs', permissions: number): Secinfo {
  return { flags: permissions | ((type === 'reg' ? SGX_PAGE_TYPE_REG : SGX_PAGE_TYPE_TCS) << 8) }
}

/** `struct sgx_enclave_add_pages`; `count` is written back */
export interface AddPages {
  readonly src: number
  readonly offset: number
  readonly length: number
  readonly secinfo: Secinfo | Unreadable
  /** bytes that were added */
  count?: number
  /** `count` cannot be written back */
  readonly countUnwritable?: boolean
}

/** Hardware that may refuse a page (device data). */
export interface SgxData {
  /** pages of the EPC; default any number */
  readonly epcPages?: number
  /** EADD or EEXTEND of an offset fails */
  readonly faulty?: (offset: number) => boolean
}

/** An open `/dev/sgx_enclave`: the memory of an enclave that is being built. */
export class SgxEnclave extends Device {
  /** bytes; 0: not created */
  size = 0
  initialized = false
  /** an ioctl is running on it */
  #busy = false
  readonly #data: SgxData
  /** contents of the enclave's pages by offset */
  readonly #pages = new Map<number, Uint8Array>()

  constructor(k: Kernel, data: SgxData = {}) {
    super(k, '/dev/sgx_enclave')
    this.#data = data
  }

  // pages of the process are held for one instruction only
  override forEachReference(): void {}

  /** SGX_IOC_ENCLAVE_CREATE. @returns 0 or -EINVAL */
  // oxlint-disable-next-line require-yield -- nothing here sleeps
  *create(size: number): Kthread<number> {
    if (this.size !== 0 || size < PAGE_SIZE || !Number.isInteger(Math.log2(size)))
      return refuse(this.kernel.current, EINVAL, 'R-SGX-1', {
        why: 'it is created already, or the size is no power of two',
      })
    this.size = size
    return 0
  }

  /** Whether a page has been added. */
  pageAt(offset: number): Uint8Array | null {
    return this.#pages.get(offset) ?? null
  }

  /**
   * SGX_IOC_ENCLAVE_ADD_PAGES: copies pages of the process into the enclave, one after the other.
   * @returns 0, or a negative errno; `count` says how far it got
   * @rule R-SGX-1
   * @rule R-SGX-4
   */
  *addPages(args: AddPages | Unreadable): Kthread<number> {
    const refused = (errno: number, why: string): number =>
      refuse(this.kernel.current, errno, 'R-SGX-1', { why })
    if (this.#busy) return refused(EBUSY, 'another ioctl is running on the enclave')
    this.#busy = true
    try {
      if (this.size === 0 || this.initialized)
        return refused(EINVAL, 'the enclave is not created yet, or initialised already')
      if (args === 'unreadable') return refused(EFAULT, 'the structure cannot be read')
      const { src, offset, length, secinfo } = args
      if (src % PAGE_SIZE !== 0) return refused(EINVAL, 'the source does not begin a page')
      if (offset % PAGE_SIZE !== 0 || length === 0 || length % PAGE_SIZE !== 0 || offset + length > this.size)
        return refused(EINVAL, 'the range is not of whole pages within the enclave')
      if (secinfo === 'unreadable') return refused(EFAULT, 'the SECINFO cannot be read')
      const wrong = this.#checkSecinfo(secinfo)
      if (wrong < 0) return wrong
      return yield* this.#addEach(args)
    } finally {
      this.#busy = false
    }
  }

  #checkSecinfo({ flags, reservedSet = false }: Secinfo): number {
    const type = (flags >> 8) & 0xff
    const permissions = flags & 7
    const bad =
      (type !== SGX_PAGE_TYPE_REG && type !== SGX_PAGE_TYPE_TCS) ||
      (permissions & (SGX_SECINFO_R | SGX_SECINFO_W)) === SGX_SECINFO_W ||
      (type === SGX_PAGE_TYPE_TCS && permissions !== 0) ||
      (flags & ~0xff07) !== 0 ||
      reservedSet
    return bad ? refuse(this.kernel.current, EINVAL, 'R-SGX-1', { why: 'the SECINFO is not acceptable' }) : 0
  }

  /** @rule R-SGX-2 */
  *#addEach(args: AddPages): Kthread<number> {
    const { task, src, length } = { task: this.kernel.current, ...args }
    let done = 0
    let error = 0
    for (; done < length && error === 0; done += error === 0 ? PAGE_SIZE : 0) {
      if (task.signalPending) {
        if (done === 0) error = refuse(task, ERESTARTSYS, 'R-SGX-2', { why: 'a signal is pending' })
        break
      }
      error = yield* this.#addPage(src + done, args.offset + done, done / PAGE_SIZE)
    }
    args.count = done
    if (args.countUnwritable === true)
      return refuse(task, EFAULT, 'R-SGX-4', { why: 'the number of bytes cannot be written back' })
    return error
  }

  /** @rule R-SGX-2 @rule R-SGX-3 */
  *#addPage(src: number, offset: number, page: number): Kthread<number> {
    const k = this.kernel
    const refused = (errno: number, rule: string, why: string): number =>
      refuse(k.current, errno, rule, { address: src, page, why })
    const noMemory = kmalloc(k, 'R-SGX-2') || this.#checkEpc()
    if (noMemory < 0) return noMemory
    const mm = k.current.mm!
    const guard = mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.read())
    if (this.#pages.has(offset)) {
      guard.release()
      return refused(EBUSY, 'R-SGX-2', 'the enclave has a page at this offset already')
    }
    // the next mapping, when there is none at the address
    const vma = findVma(guard, src)
    const facts = vma === null ? null : vmaFacts(vma)
    const executable = vma !== null && (vma.flags & VM_MAYEXEC) !== 0
    const pages = new PageArray(1)
    const got = executable ? yield* getUserPages(k, guard, src, 1, 0, pages) : 0
    guard.release()
    if (facts === null) return refused(EFAULT, 'R-SGX-3', 'nothing is mapped at or above the source')
    if (!executable)
      return refuse(k.current, EACCES, 'R-SGX-3', {
        address: src,
        page,
        vma: facts,
        why: 'the mapping may not become executable: its file lies on a noexec mount',
      })
    if (got < 1)
      return refuse(k.current, EFAULT, 'R-SGX-3', { address: src, page, vma: facts }, k.current.refusal)
    const bytes = new Uint8Array(PAGE_SIZE)
    const failed = this.#data.faulty?.(offset) === true
    k.memory.contents.read(pages.pfns[0]!, 0, bytes)
    putPage(k, pages.pfns[0]!)
    if (failed) return refused(EIO, 'R-SGX-3', 'EADD or EEXTEND failed')
    this.#pages.set(offset, bytes)
    return 0
  }

  #checkEpc(): number {
    const { epcPages = Infinity } = this.#data
    if (this.#pages.size < epcPages) return 0
    return refuse(this.kernel.current, ENOMEM, 'R-SGX-2', { why: 'there is no free page of the EPC' })
  }

  // oxlint-disable-next-line require-yield -- nothing here sleeps
  protected override *teardown(): Kthread<void> {
    this.#pages.clear()
  }
}
