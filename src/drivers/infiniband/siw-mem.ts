import { EFAULT, EINVAL, ENOMEM } from '../../base/errno.ts'
import type { Kthread } from '../../base/kthread.ts'
import { refuse } from '../../base/refusal.ts'
import { PAGE_SIZE, pageAlignDown } from '../../base/units.ts'
import { PageArray, pinUserPages } from '../../mm/gup.ts'
import type { Kernel, PinCharge } from '../../mm/kernel.ts'
import type { Mm } from '../../mm/mm.ts'
import { unpinUserPages, unpinUserPagesDirtyLock } from '../../mm/unpin.ts'
import { adjust, canDoMlock, charge, kmalloc, memlockLimit } from '../../task/device/charge.ts'
import { pinIsCounted } from '../../mm/gup-grab.ts'
import { isWritable } from './access.ts'
import { PAGES_PER_CALL, ibUmemGet, pagesIn, pinFlags } from './umem.ts'
import type { MrMemory, RdmaProvider, RegMr } from './uverbs.ts'

/*
 * @caller siw until 6.6
 * @entry ibv_reg_mr(3) on siw
 * @gup pin_user_pages, flags as RDMA umem, 512 pages a call
 * @lock mmap_lock for read, kept
 * @budget VmPin before the pin, nothing lifts it; the size also against VmLck
 * @errno ENOMEM, EPERM for a limit of 0
 * @release DEREG_MR, close; dirty when writable
 * @test tests/drivers/infiniband/siw-mem.test.ts
 */

/** `struct siw_umem` of releases that pin by themselves: chunks of page pointers. */
class SiwUmem implements MrMemory {
  readonly kernel: Kernel
  readonly owningMm: Mm
  readonly writable: boolean
  readonly chunks: { readonly pages: PageArray; got: number }[] = []
  nrPages = 0

  constructor(k: Kernel, mm: Mm, writable: boolean) {
    this.kernel = k
    this.owningMm = mm
    this.writable = writable
  }

  forEachReference(visit: (pfn: number, references: number, pins: number) => void): void {
    for (const { pages, got } of this.chunks) {
      for (let i = 0; i < got; i++) if (pinIsCounted(this.kernel, pages.pfns[i]!)) visit(pages.pfns[i]!, 0, 1)
    }
  }

  charges(): readonly PinCharge[] {
    return [{ user: null, lockedVm: 0, mm: this.owningMm, pinnedVm: this.nrPages }]
  }

  pfnAt(page: number): number {
    const chunk = this.chunks[Math.floor(page / PAGES_PER_CALL)]
    const at = page % PAGES_PER_CALL
    return chunk === undefined || at >= chunk.got ? 0 : chunk.pages.pfns[at]!
  }

  /** `siw_umem_release`. @rule R-SIW-3 */
  *release(dirty = this.writable): Kthread<void> {
    const { kernel: k } = this
    for (const { pages, got } of this.chunks.splice(0)) {
      if (dirty) yield* unpinUserPagesDirtyLock(k, pages, got, true)
      else unpinUserPages(k, pages, got)
    }
    adjust({ budget: 'mm->pinned_vm', mm: this.owningMm }, -this.nrPages)
    this.nrPages = 0
  }
}

/** Further things that can stop a registration on siw. */
export interface SiwOptions {
  /** memory regions there may be (SIW_MAX_MR); default: any number */
  readonly maxMr?: number
  /** the program's buffer for the answer; default fine */
  readonly response?: 'fine' | 'too-small' | 'unreadable'
}

/** The software iWARP driver. */
export function siwProvider({ maxMr = Infinity, response = 'fine' }: SiwOptions = {}): RdmaProvider {
  return {
    name: 'siw',
    onDemand: false,
    flush: false,
    *regUserMr(k, reg, device) {
      const early = checkRegUserMr(k, reg, device.regions.size, maxMr)
      if (early < 0) return early
      const memory = k.release.drivers.siwUsesUmem
        ? yield* ibUmemGet(k, reg.start, reg.length, reg.access)
        : yield* siwUmemGet(k, reg)
      if (typeof memory === 'number') return memory
      const late = answerProgram(k, response)
      if (late === 0) return memory
      yield* memory.release()
      return late
    },
  }
}

/**
 * `siw_reg_user_mr` before it pins. Older releases compare the size with the limit less locked_vm; where more is
 * locked than the limit allows, the difference wraps and nothing is compared.
 * @rule R-SIW-1
 * @rule R-SIW-4
 */
function checkRegUserMr(k: Kernel, { start, length }: RegMr, regions: number, maxMr: number): number {
  if (regions >= maxMr)
    return refuse(k.current, ENOMEM, 'R-SIW-1', { why: 'the device has all memory regions it can have' })
  if (length === 0) return refuse(k.current, EINVAL, 'R-SIW-1', { why: 'a region has at least one byte' })
  if (k.release.drivers.siwUsesUmem) return 0
  const limit = memlockLimit(k.current)
  const used = k.current.mm!.lockedVm
  const needed = pagesIn(start, length)
  if (limit === Infinity || used > limit || needed <= limit - used) return 0
  return refuse(k.current, ENOMEM, 'R-SIW-1', {
    needed,
    used,
    limit,
    budget: 'mm->locked_vm',
    why: 'RLIMIT_MEMLOCK leaves no room for the pages of this request',
  })
}

/** @rule R-SIW-5 */
function answerProgram(k: Kernel, response: NonNullable<SiwOptions['response']>): number {
  const noStag = kmalloc(k, 'R-SIW-5')
  if (noStag < 0) return noStag
  if (response === 'too-small')
    return refuse(k.current, EINVAL, 'R-SIW-5', { why: "the program's buffer for the answer is too small" })
  if (response === 'unreadable')
    return refuse(k.current, EFAULT, 'R-SIW-5', { why: 'the answer cannot be written' })
  return 0
}

/**
 * `siw_umem_get` of releases that pin by themselves: under the mmap lock from the charge to the last page.
 * @rule R-SIW-2
 * @rule R-SIW-3
 */
function* siwUmemGet(k: Kernel, { start, length, access }: RegMr): Kthread<SiwUmem | number> {
  const early = canDoMlock(k) || kmalloc(k, 'R-SIW-2')
  if (early < 0) return early
  const mm = k.current.mm!
  const nrPages = pagesIn(start, length)
  const umem = new SiwUmem(k, mm, isWritable(access))
  const guard = mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.read())
  const account = { budget: 'mm->pinned_vm', mm } as const
  let error = charge(k, account, nrPages, { rule: 'R-SIW-2', exempt: false, capability: null })
  if (error < 0) {
    guard.release()
    return error
  }
  umem.nrPages = nrPages
  const flags = pinFlags(k, umem.writable)
  let at = pageAlignDown(start)
  for (let left = nrPages; left > 0 && error === 0;) {
    const wanted = Math.min(left, PAGES_PER_CALL)
    error = kmalloc(k, 'R-SIW-2')
    if (error < 0) break
    const chunk = { pages: new PageArray(wanted), got: 0 }
    umem.chunks.push(chunk)
    while (chunk.got < wanted) {
      const rest = new PageArray(wanted - chunk.got)
      const got = yield* pinUserPages(k, guard, at, rest.length, flags, rest)
      if (got < 0) {
        error = got
        break
      }
      chunk.pages.pfns.set(rest.pfns.subarray(0, got), chunk.got)
      chunk.got += got
      at += got * PAGE_SIZE
      left -= got
    }
  }
  guard.release()
  if (error === 0) return umem
  yield* umem.release(false)
  return error
}
