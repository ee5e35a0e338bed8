import { EACCES, EBUSY, EINVAL, ENODEV, ENOMEM, EPERM } from '../../base/errno.ts'
import type { Kthread } from '../../base/kthread.ts'
import { refuse } from '../../base/refusal.ts'
import { PAGE_SIZE } from '../../base/units.ts'
import type { Kernel } from '../../mm/kernel.ts'
import { PageArray } from '../../mm/page-array.ts'
import { unpinUserPagesDirtyLock } from '../../mm/unpin.ts'
import { kmalloc, memlockLimit } from '../../task/device/charge.ts'
import type { VfioContainer } from './iommu-type1.ts'
import { lockAcct, vaddrGetPfns } from './pin-pages.ts'
import { isReservedPfn, type VfioDma } from './vfio-dma.ts'

/**
 * `vfio_pin_pages`: the driver of a mediated device pins pages by IOVA. A page that is pinned already counts once
 * more.
 * @param write the device will write
 * @param pages their frames
 * @returns pages, or a negative errno with none of this call pinned
 * @rule R-VFIO-11
 */
export function* vfioPinPages(
  container: VfioContainer,
  iova: number,
  nrPages: number,
  write: boolean,
  pages: PageArray | null,
): Kthread<number> {
  const k = container.kernel
  const refused = (errno: number, why: string): number => refuse(k.current, errno, 'R-VFIO-11', { why })
  if (pages === null) return refused(EINVAL, 'there is no room for the pages')
  if (container.model !== 'type1v2')
    return refused(EACCES, 'version 1 of the driver pins nothing for devices')
  for (const dma of container.dmas) {
    if (!dma.vaddrInvalid) continue
    k.warnOnce('vfio-vaddr-invalid', 'vfio_pin_pages while an address is being updated')
    return refused(EBUSY, 'the address of a mapping is being updated')
  }
  if (container.mdevs.length === 0) return refused(EINVAL, 'no mediated device is registered')
  for (let i = 0; i < nrPages; i++) {
    const pfn = yield* pinOne(container, iova + i * PAGE_SIZE, write)
    if (pfn < 0) {
      yield* vfioUnpinPages(container, iova, i)
      return pfn
    }
    pages.pfns[i] = pfn
  }
  return nrPages
}

/** @returns the frame, or a negative errno */
function* pinOne(container: VfioContainer, iova: number, write: boolean): Kthread<number> {
  const k = container.kernel
  const refused = (errno: number, why: string): number => refuse(k.current, errno, 'R-VFIO-11', { why })
  const dma = container.dmas.find(iova, PAGE_SIZE)
  if (dma === null) return refused(EINVAL, 'nothing is mapped at this IOVA')
  if (write ? !dma.write : !dma.read) return refused(EPERM, 'the mapping does not permit this access')
  const page = (iova - dma.iova) / PAGE_SIZE
  const known = dma.pfnList.get(page)
  if (known !== undefined) {
    known.refs++
    return known.pfn
  }
  const pfn = yield* pinExternal(container, dma, page)
  if (pfn < 0) return pfn
  const noMemory = kmalloc(k, 'R-VFIO-11')
  if (noMemory < 0) {
    yield* unpinExternal(container, dma, pfn)
    return noMemory
  }
  dma.pfnList.set(page, { pfn, refs: 1 })
  dma.setDirty(page)
  return pfn
}

/** `vfio_pin_page_external`: charged only where no IOMMU domain has charged the page already. */
function* pinExternal(container: VfioContainer, dma: VfioDma, page: number): Kthread<number> {
  const k = container.kernel
  const refused = (errno: number, why: string): number => refuse(k.current, errno, 'R-VFIO-11', { why })
  if (dma.mm.users === 0) return refused(ENODEV, 'the address space has gone')
  const one = new PageArray(1)
  const got = yield* vaddrGetPfns(k, dma.mm, dma.vaddr + page * PAGE_SIZE, 1, dma.write, one)
  if (got < 0) return got
  const pfn = one.pfns[0]!
  if (pfn >= k.memory.frames.count) return refused(EINVAL, 'there is no page behind this address')
  if (container.hasDomain || isReservedPfn(k, pfn)) return pfn
  const over = yield* lockAcct(k, dma, 1)
  if (over === 0) return pfn
  yield* unpinUserPagesDirtyLock(k, one, 1, dma.write)
  if (over !== -ENOMEM) return over
  const limit = memlockLimit(dma.task) * PAGE_SIZE
  const message = `vfio_pin_page_external: Task ${dma.task.comm} (${dma.task.pid}) RLIMIT_MEMLOCK (${limit}) exceeded`
  k.warnOnce('vfio-memlock-external', message)
  const facts = { address: dma.vaddr + page * PAGE_SIZE, page, why: 'the page is charged by itself' }
  return refuse(k.current, ENOMEM, 'R-VFIO-11', facts, k.current.refusal)
}

function* unpinExternal(container: VfioContainer, dma: VfioDma, pfn: number): Kthread<void> {
  const k: Kernel = container.kernel
  if (isReservedPfn(k, pfn)) return
  const one = new PageArray(1)
  one.pfns[0] = pfn
  yield* unpinUserPagesDirtyLock(k, one, 1, dma.write)
  if (!container.hasDomain) yield* lockAcct(k, dma, -1)
}

/** `vfio_unpin_pages`: one use less of each page; the last one unpins. */
export function* vfioUnpinPages(container: VfioContainer, iova: number, nrPages: number): Kthread<void> {
  for (let i = 0; i < nrPages; i++) {
    const dma = container.dmas.find(iova + i * PAGE_SIZE, PAGE_SIZE)
    if (dma === null) continue
    const page = (iova + i * PAGE_SIZE - dma.iova) / PAGE_SIZE
    const held = dma.pfnList.get(page)
    if (held === undefined || --held.refs > 0) continue
    dma.pfnList.delete(page)
    yield* unpinExternal(container, dma, held.pfn)
  }
}
