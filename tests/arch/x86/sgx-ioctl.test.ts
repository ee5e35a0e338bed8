import { describe, expect, it } from 'vitest'
import { SgxEnclave, secinfoOf, type AddPages, type SgxData } from '../../../src/arch/x86/sgx-ioctl.ts'
import { regularFileKind } from '../../../src/mm/file.ts'
import { createFile } from '../../../src/mm/filemap.ts'
import { openDevice, type DeviceHandle } from '../../../src/task/device/handle.ts'
import type { Process } from '../../../src/task/process.ts'
import { P, RELEASES, Rig, answer, reason, walkDevice } from '../../drivers/rig.ts'

type Sgx = DeviceHandle<SgxEnclave>

function open(app: Process, data?: SgxData, size = 64 * P): Sgx {
  const sgx = openDevice(app, (k) => new SgxEnclave(k, data))
  sgx.call('SGX_IOC_ENCLAVE_CREATE', (d) => d.create(size))
  return sgx
}

/** @returns the result and how many bytes were added */
function add(sgx: Sgx, src: number, pages: number, more: Partial<AddPages> = {}): [number | string, number] {
  const args: AddPages = { src, offset: 0, length: pages * P, secinfo: secinfoOf('reg', 5), ...more }
  const result = answer(() => sgx.call('SGX_IOC_ENCLAVE_ADD_PAGES', (d) => d.addPages(args)))
  return [result, args.count ?? -1]
}

/** A private mapping of a file on a noexec mount. */
function noexec(rig: Rig, pages: number, address: number): void {
  const file = createFile(rig.k, regularFileKind('ext4'), { path: '/noexec/enclave.so', size: pages * P })
  file.mapping.noexec = true
  rig.app.mmap({ address, length: pages * P, fixed: true, prot: 'r', fd: rig.app.install(file) })
}

describe.each(RELEASES)('SGX_IOC_ENCLAVE_ADD_PAGES on %s', (release) => {
  it('DRV vector 63: a hole below a mapping of a noexec mount is EACCES (R-SGX-3)', () => {
    const rig = new Rig(release)
    const sgx = open(rig.app)
    const at = rig.memory('hole8')
    noexec(rig, 4, at + 4 * P)
    expect(add(sgx, at, 1)).toEqual(['-EACCES', 0])
    expect(add(sgx, at + 4 * P, 1)).toEqual(['-EACCES', 0])
    expect(
      reason(() =>
        sgx.call('x', (d) => d.addPages({ src: at, offset: 0, length: P, secinfo: secinfoOf('reg', 1) })),
      ),
    ).toMatchObject({ rule: 'R-SGX-3', vma: { start: at + 4 * P } })
  })

  it('R-SGX-3 R-SGX-4 pages are copied one by one; the first that cannot be had ends it, what was added stays', () => {
    const rig = new Rig(release, { limit: 0 })
    const sgx = open(rig.app)
    const at = rig.memory('rw2+ro2+hole2+rw1')
    rig.store(at + P, 'code')
    expect(add(sgx, at, 6)).toEqual(['-EFAULT', 4 * P])
    expect(rig.text(sgx.device.pageAt(P)!.subarray(0, 4))).toBe('code')
    rig.store(at + P, 'more')
    expect(rig.text(sgx.device.pageAt(P)!.subarray(0, 4))).toBe('code')
    expect([rig.pinned, rig.app.mm!.pinnedVm, rig.locked()]).toEqual([0, 0, 0])
    expect(add(sgx, at, 1)).toEqual(['-EBUSY', 0])
    expect(add(sgx, rig.memory('none1'), 1, { offset: 8 * P })).toEqual(['-EFAULT', 0])
    expect(add(sgx, 0x7ffffffff000 - P, 1, { offset: 8 * P })).toEqual(['-EFAULT', 0])
  })

  it('R-SGX-1 what is checked before any page', () => {
    const rig = new Rig(release)
    const at = rig.memory('rw4')
    const raw = openDevice(rig.app, (k) => new SgxEnclave(k))
    expect(add(raw, at, 1)[0]).toBe('-EINVAL')
    expect(answer(() => raw.call('x', (d) => d.create(3 * P)))).toBe('-EINVAL')
    const sgx = open(rig.app)
    expect(answer(() => sgx.call('x', (d) => d.addPages('unreadable')))).toBe('-EFAULT')
    expect(add(sgx, at + 8, 1)[0]).toBe('-EINVAL')
    expect(add(sgx, at, 1, { offset: 8 })[0]).toBe('-EINVAL')
    expect(add(sgx, at, 0)[0]).toBe('-EINVAL')
    expect(add(sgx, at, 2, { offset: 63 * P })[0]).toBe('-EINVAL')
    expect(add(sgx, at, 1, { secinfo: 'unreadable' })[0]).toBe('-EFAULT')
    for (const secinfo of [
      secinfoOf('reg', 2),
      secinfoOf('tcs', 1),
      { flags: 0x305 },
      { flags: 0x285 | 8 },
      { ...secinfoOf('reg', 1), reservedSet: true },
    ])
      expect(add(sgx, at, 1, { secinfo })[0]).toBe('-EINVAL')
    expect(add(sgx, at, 1, { secinfo: secinfoOf('tcs', 0) })).toEqual([0, P])
    sgx.device.initialized = true
    expect(add(sgx, at, 1)[0]).toBe('-EINVAL')
  })

  it('R-SGX-2 signals, EPC pages, and hardware that refuses', () => {
    const rig = new Rig(release)
    const at = rig.memory('rw4')
    const small = open(rig.app, { epcPages: 2 })
    expect(add(small, at, 4)).toEqual(['-ENOMEM', 2 * P])
    expect(add(open(rig.app, { faulty: (offset) => offset === P }), at, 4)).toEqual(['-EIO', P])
    rig.app.signalPending = true
    expect(add(open(rig.app), at, 4)).toEqual(['-ERESTARTSYS', 0])
    rig.app.signalPending = false
    expect(add(open(rig.app), at, 4, { countUnwritable: true })).toEqual(['-EFAULT', 4 * P])
  })

  it('R-SGX-1 one ioctl at a time', () => {
    const rig = new Rig(release)
    const sgx = open(rig.app)
    const at = rig.memory('rw4')
    const guard = rig.app.mm!.mmapLock.tryWrite()!
    const first = { src: at, offset: 0, length: P, secinfo: secinfoOf('reg', 1) }
    const task = rig.k.scheduler.spawn('first', rig.app, sgx.device.addPages(first))
    rig.k.scheduler.runUntilIdle()
    expect(add(sgx, at, 1)[0]).toBe('-EBUSY')
    guard.release()
    rig.k.scheduler.runUntilIdle()
    expect(task.result).toBe(0)
  })

  it('R-SGX-4 what fails anywhere leaves nothing held', () => {
    const steps = walkDevice(release, (rig) => {
      const at = rig.memory('rw4+memfd2')
      const sgx = open(rig.app)
      return () => void add(sgx, at, 6)
    })
    expect(steps).toBeGreaterThan(8)
  })
})
