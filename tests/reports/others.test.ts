/** Enclaves and fixed buffers. */
import { describe, expect, it } from 'vitest'
import { SgxEnclave } from '../../src/arch/x86/sgx-ioctl.ts'
import { RELEASE_NAMES } from '../../src/base/release.ts'
import { openDevice } from '../../src/task/device/handle.ts'
import { Rig, reason } from '../drivers/rig.ts'
import { Rig as RingRig } from '../io_uring/rig.ts'
import { row, type Request } from '../explain/asking.ts'
import { A, fileOn, type MappingSpec } from '../explain/snapshots.ts'
import { P, anon, fixes, remarks, told } from './told.ts'

describe('SGX', () => {
  const ADD: Request = { name: 'sgx:add-pages' }
  /** as smaps shows it: `me` is missing, for the mount is noexec */
  const onNoexec: MappingSpec = { backing: fileOn('ext4'), flags: 'rd mr mw', name: '/dev/shm/enclave.so' }

  it('DRV report 44: what comes from a noexec mount cannot be added, and /dev mounted so maps no enclave (R-SGX-3)', () => {
    const answer = told({ mappings: [onNoexec] }, ADD)
    expect(answer.verdict).toMatchObject({
      errno: 'EACCES',
      rule: 'R-SGX-3',
      page: 0,
      reason: 'the mapping may not become executable: its file lies on a noexec mount',
      mapping: { name: '/dev/shm/enclave.so' },
    })
    expect(answer.memlock).toBeNull()
    expect(fixes(answer)).toContain('use private anonymous memory')
    expect(remarks(answer)).toContain('EPERM where /dev is mounted noexec')
    expect(row([{ ...onNoexec, flags: 'rd mr mw me' }], ADD)).toBe('0 0 0 0 0')
    expect(row([anon(4)], { ...ADD, pages: 8 })).toBe('fa fa fa fa fa')

    const rig = new Rig('6.18')
    const enclave = openDevice(rig.app, (k) => new SgxEnclave(k))
    enclave.device.file.mapping.noexec = true
    expect(
      reason(() => rig.app.mmap({ length: P, shared: true, prot: 'rwx', fd: enclave.fd })),
    ).toMatchObject({
      errno: 1,
      rule: 'R-AS-10.21',
      why: 'the file lies on a mount without exec',
    })
  })
})

describe('io_uring', () => {
  const REGISTER: Request = { name: 'io_uring:register-buffers' }

  it('DRV report 45: 64 KiB of limit, and a page more for a buffer that does not begin with one (R-URING-42)', () => {
    const spec = { mappings: [anon(64)], memlock: 65536 }
    const odd = told(spec, { ...REGISTER, start: A + 512, length: 65536 }, '6.12')
    expect(odd.verdict).toMatchObject({ errno: 'ENOMEM', rule: 'R-URING-42' })
    expect(odd.memlock).toMatchObject({
      needed: 17,
      used: 0,
      limit: 16,
      budget: 'user->locked_vm',
      liftedBy: 'CAP_IPC_LOCK',
    })
    expect(fixes(odd)).toContain(`raise RLIMIT_MEMLOCK to at least ${17 * P} bytes`)
    expect(fixes(odd)).toContain(
      `begin it with a page: at 0x${A.toString(16)} the same 65536 bytes take 16 pages instead of 17`,
    )
  })

  it.each(RELEASE_NAMES)(
    'DRV report 45: on %s 32 KiB in unaligned buffers of 4 KiB are all of 64 KiB',
    (release) => {
      const rig = new RingRig(release, { task: { comm: 'user', uid: 1000, limits: { memlock: 100 * P } } })
      rig.task.limits.memlock = 65536 + rig.ring.chargedPages * P
      const at = rig.anon(64)
      const buffers = (n: number, offset: number): { base: number; length: number }[] =>
        Array.from({ length: n }, (_, i) => ({ base: at + offset + i * P, length: P }))
      expect(rig.register(buffers(9, 64)).result).toBe('-ENOMEM')
      expect(rig.task.refusal).toMatchObject({
        rule: 'R-URING-42',
        needed: 2,
        limit: 16 + rig.ring.chargedPages,
      })
      expect(rig.register(buffers(8, 64)).result).toBe(0)
      rig.unregister()
      rig.k.settle()
      expect(rig.register(buffers(17, 0)).result).toBe('-ENOMEM')
      expect(rig.register(buffers(16, 0)).result).toBe(0)
    },
  )
})
