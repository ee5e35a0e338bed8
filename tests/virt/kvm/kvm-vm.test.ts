import { describe, expect, it } from 'vitest'
import { MADV_DONTNEED } from '../../../src/mm/mman.ts'
import { openDevice, type DeviceHandle } from '../../../src/task/device/handle.ts'
import type { Process } from '../../../src/task/process.ts'
import { KVM_EXIT_MMIO, KvmVm } from '../../../src/virt/kvm/kvm-vm.ts'
import { P, RELEASES, Rig, walkDevice } from '../../drivers/rig.ts'

type Vm = DeviceHandle<KvmVm>

/** A machine with one slot: guest memory from 0 on is the process's from `at` on. */
function open(app: Process, at: number, pages: number): Vm {
  const vm = openDevice(app, (k) => new KvmVm(k))
  const slot = { slot: 0, guestAddr: 0, userspaceAddr: at, size: pages * P }
  vm.call('KVM_SET_USER_MEMORY_REGION', (device) => device.setUserMemoryRegion(slot))
  return vm
}

const write = (rig: Rig, vm: Vm, gpa: number, text: string): number =>
  rig.app.run(vm.device.guestWrite(gpa, new TextEncoder().encode(text)))
const read = (rig: Rig, vm: Vm, gpa: number, length: number): string | number => {
  const bytes = new Uint8Array(length)
  const result = rig.app.run(vm.device.guestRead(gpa, bytes))
  return result === 0 ? rig.text(bytes) : result
}

describe.each(RELEASES)('a virtual machine on %s', (release) => {
  it('R-KVM-6 the guest and the program share pages, and nothing is pinned or charged', () => {
    const rig = new Rig(release, { limit: 0 })
    const at = rig.memory('rw4')
    const vm = open(rig.app, at, 4)
    expect([vm.device.mapped, rig.app.mm!.rss]).toEqual([0, 0])
    expect(write(rig, vm, P - 2, 'guest')).toBe(0)
    expect(rig.text(rig.app.load(at + P - 2, 5))).toBe('guest')
    rig.app.store(at + P, new TextEncoder().encode('PROG'))
    expect(read(rig, vm, P - 2, 6)).toBe('guPROG')
    expect([vm.device.mapped, rig.k.pinAcquired, rig.app.mm!.lockedVm]).toEqual([2, 0, 0])
  })

  it('R-KVM-6 what changes the mapping takes the page from the guest, which finds the new one', () => {
    const rig = new Rig(release)
    const at = rig.memory('rw4')
    const vm = open(rig.app, at, 4)
    write(rig, vm, 0, 'old')
    rig.app.madvise(at, 4 * P, MADV_DONTNEED)
    expect(vm.device.mapped).toBe(0)
    expect(read(rig, vm, 0, 3)).toBe('\0\0\0')
    // the zero page may be read only: the write faults, and its copy takes its place
    expect([vm.device.mapped, write(rig, vm, 0, 'new')]).toEqual([1, 0])
    expect(rig.text(rig.app.load(at, 3))).toBe('new')
    const child = rig.app.fork('child')
    rig.app.store(at, new TextEncoder().encode('NEW'))
    expect(read(rig, vm, 0, 3)).toBe('NEW')
    expect(rig.text(child.load(at, 3))).toBe('new')
    child.exit()
  })

  it('R-KVM-1, R-KVM-7 how KVM_RUN ends where there is no page', () => {
    const rig = new Rig(release)
    const at = rig.memory('rw1+ro1+hole1')
    const vm = open(rig.app, at, 3)
    expect(read(rig, vm, 3 * P, 1)).toBe(KVM_EXIT_MMIO)
    expect(read(rig, vm, P, 1)).toBe('\0')
    expect(write(rig, vm, P, 'x')).toBeLessThan(0)
    expect(rig.app.mm!.mmapLock.locked).toBe(false)
    expect(() => vm.call('KVM_RUN', (device) => device.guestRead(2 * P, new Uint8Array(1)))).toThrow(/EFAULT/)
    expect(() => vm.call('KVM_RUN', (device) => device.guestWrite(P - 1, new Uint8Array(2)))).toThrow(
      /R-KVM-7/,
    )
    // what lay before the page was written
    expect(rig.app.load(at + P - 1, 1)[0]).toBe(0)
  })

  it('R-KVM-9 slots are looked at when the guest touches them', () => {
    const rig = new Rig(release)
    const vm = open(rig.app, 0x7000000, 4)
    const second = { slot: 1, guestAddr: P, userspaceAddr: 0x7000000, size: P }
    expect(() => vm.call('KVM', (device) => device.setUserMemoryRegion(second))).toThrow(/EEXIST/)
    const at = rig.app.mmap({ address: 0x7000000, fixed: true, length: 4 * P })
    expect([at, write(rig, vm, 2 * P, 'late')]).toEqual([0x7000000, 0])
  })

  it('R-KVM-6 what fails anywhere leaves nothing, and so does who is killed', () => {
    const steps = walkDevice(release, (rig) => {
      const at = rig.memory('rw2+memfd2')
      const vm = open(rig.app, at, 4)
      return () => void rig.app.run(vm.device.guestWrite(0, new Uint8Array(4 * P).fill(7)))
    })
    expect(steps).toBeGreaterThan(8)
  })
})
