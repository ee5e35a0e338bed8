import { EFAULT } from '../base/errno.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE } from '../base/units.ts'
import { hvaToPfn, kvmReleasePfn } from '../virt/kvm/kvm-main.ts'
import { MemorySlots } from '../virt/kvm/memslot.ts'
import { allOrNothing, type Request } from './request.ts'

/**
 * KVM_SET_USER_MEMORY_REGION, and then a guest that touches every page of its new memory.
 * @rule R-KVM-7
 */
export const memslot: Request = {
  name: 'kvm:memslot',
  charges: null,
  takes: ['access', 'iova'],
  longest: Infinity,
  notes: () => [
    'the slot alone pins and charges nothing and succeeds also where nothing is mapped: the verdict is about a guest that then touches every page',
    'no page stays referenced: what changes the mapping is told to the guest',
  ],
  *run(restored, range, { access, iova }) {
    const { kernel, task } = restored
    const slot = { slot: 0, guestAddr: iova ?? 0, userspaceAddr: range.start, size: range.length }
    const set = new MemorySlots(kernel).set(slot)
    if (set < 0) return allOrNothing(restored, range, set)
    for (let hva = range.start; hva < range.start + range.length; hva += PAGE_SIZE) {
      const writeFault = access === 'write'
      task.refusal = null
      const page = yield* hvaToPfn(kernel, { hva, writeFault, acceptsWritable: writeFault })
      if ('pfn' in page) kvmReleasePfn(kernel, page.pfn)
      else {
        const why = `KVM_RUN fails when the guest touches this page (${page.error})`
        const result = refuse(task, EFAULT, 'R-KVM-7', { address: hva, why }, task.refusal)
        return allOrNothing(restored, range, result)
      }
    }
    return allOrNothing(restored, range, 0)
  },
}
