/**
 * A virtual machine whose memory is the program's: nothing is pinned, so what the program does to its mappings the
 * guest sees with its next access, and what it cannot have ends KVM_RUN with EFAULT.
 *
 *     npx tsx examples/guest-memory.ts
 */
import { MADV_DONTNEED, Machine, SyscallError, rootRefusal } from '../src/index.ts'
import { KVM_EXIT_MMIO, KvmVm, openDevice } from '../src/devices.ts'

const machine = new Machine({ release: '6.12', memory: '64M' })
const vmm = machine.spawn('vmm', { limits: { memlock: 0 } })
const memory = vmm.mmap({ length: '64k' })
const vm = openDevice(vmm, (kernel) => new KvmVm(kernel))
vm.call('KVM_SET_USER_MEMORY_REGION', (device) =>
  device.setUserMemoryRegion({ slot: 0, guestAddr: 0x100000, userspaceAddr: memory, size: 65536 }),
)

const text = (word: string): Uint8Array => new TextEncoder().encode(word)
const shown = (bytes: Uint8Array): string => String.fromCharCode(...bytes).replaceAll('\0', '.')
const seen = (): string => {
  const bytes = new Uint8Array(5)
  vm.call('KVM_RUN', (device) => device.guestRead(0x100000, bytes))
  return shown(bytes)
}

vm.call('KVM_RUN', (device) => device.guestWrite(0x100000, text('guest')))
console.log(`the guest writes, the program sees "${shown(vmm.load(memory, 5))}"`)
console.log(`pins ${machine.kernel.pinAcquired}, VmPin ${vmm.mm!.pinnedVm}, VmLck ${vmm.mm!.lockedVm}`)

vmm.madvise(memory, '4k', MADV_DONTNEED)
console.log(`after MADV_DONTNEED the guest has ${vm.device.mapped} pages, and reads "${seen()}"`)
vmm.store(memory, text('again'))
console.log(`the program stores, the guest reads "${seen()}": not a stale page`)

const outside = vm.call('KVM_RUN', (device) => device.guestRead(0x200000, new Uint8Array(1)))
console.log(`beyond its memory: ${outside === KVM_EXIT_MMIO ? 'KVM_EXIT_MMIO' : outside}`)

vmm.mprotect(memory, '4k', 'r')
try {
  vm.call('KVM_RUN', (device) => device.guestWrite(0x100000, text('!')))
} catch (error) {
  if (!(error instanceof SyscallError)) throw error
  console.log(`after mprotect a write: ${error.code}, ${rootRefusal(error.reason!).why}`)
}

vm.close()
vmm.exit()
console.log(`audit: ${machine.audit().length} findings`)
