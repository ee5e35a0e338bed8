/** Registering memory with RDMA hardware: `ibv_reg_mr` and what stands on it. */
import { describe, expect, it } from 'vitest'
import { IB_ACCESS_LOCAL_WRITE } from '../../src/drivers/infiniband/access.ts'
import { UverbsDevice } from '../../src/drivers/infiniband/uverbs.ts'
import { MADV_DOFORK, MADV_DONTFORK } from '../../src/mm/mman.ts'
import { openDevice } from '../../src/task/device/handle.ts'
import { Rig } from '../drivers/rig.ts'
import { row, type Request } from '../explain/asking.ts'
import { A, ALL_CAPABILITIES, CAP_IPC_LOCK, SHARED_RW, fileOn, hugetlb, memfd } from '../explain/snapshots.ts'
import type { MappingSpec, SnapshotSpec } from '../explain/snapshots.ts'
import { MiB, P, anon, fixes, remarks, told, untouched } from './told.ts'

const REG_MR: Request = { name: 'rdma:reg-mr' }
const NONE = '0000000000000000'

describe('RLIMIT_MEMLOCK', () => {
  it('DRV report 1: ibv_reg_mr fails from some size on: the limit against VmPin (R-UMEM-3)', () => {
    const spec: SnapshotSpec = { mappings: [anon(64)], memlock: 100 * 1024, pinned: 2 * P }
    const ok = (pages: number): boolean | null => told(spec, { ...REG_MR, pages }).verdict.ok
    expect([ok(23), ok(24)]).toEqual([true, false])
    const answer = told(spec, { ...REG_MR, pages: 24 })
    expect(answer.verdict).toMatchObject({ errno: 'ENOMEM', rule: 'R-UMEM-3' })
    expect(answer.memlock).toMatchObject({
      needed: 24,
      used: 2,
      limit: 25,
      budget: 'mm->pinned_vm',
      liftedBy: 'CAP_IPC_LOCK',
    })
    expect(fixes(answer)).toContain(`raise RLIMIT_MEMLOCK to at least ${26 * P} bytes`)
  })

  it('DRV report 2: the limit is that of the process that was launched, whatever a shell says', () => {
    const spec: SnapshotSpec = { mappings: [untouched(2049)], memlock: 8192 * 1024 }
    const answer = told(spec, REG_MR)
    expect(answer.verdict).toMatchObject({ errno: 'ENOMEM', rule: 'R-UMEM-3' })
    expect(answer.memlock).toMatchObject({ needed: 2049, used: 0, limit: 2048 })
    expect(fixes(answer)).toContain(
      'ulimit -l 8196 where the program is started; prlimit --pid 1234 --memlock=8392704',
    )
  })

  it('DRV report 3: ibv_create_cq of 4096 entries: the buffer of the queue is pinned, too (R-UMEM-1)', () => {
    const spec: SnapshotSpec = { mappings: [untouched(64)], memlock: 65536 }
    const create: Request = { name: 'rdma:create-cq' }
    const answer = told(spec, { ...create, length: 4096 * 64 })
    expect(answer.verdict).toMatchObject({ errno: 'ENOMEM', rule: 'R-UMEM-3' })
    expect(answer.memlock).toMatchObject({ needed: 64, limit: 16, budget: 'mm->pinned_vm' })
    expect(fixes(answer)).toContain('raise RLIMIT_MEMLOCK to at least 262144 bytes')
    expect(told(spec, { ...create, length: 1024 * 64 }).verdict.ok).toBe(true)
  })

  it('DRV report 4: the default limit of a container, which the process in it cannot raise', () => {
    const answer = told({ mappings: [untouched(32)], memlock: 65536 }, REG_MR)
    expect(answer.memlock).toMatchObject({ needed: 32, used: 0, limit: 16 })
    expect(fixes(answer)).toContain('its hard limit is 65536, raising that needs CAP_SYS_RESOURCE')
  })

  it('DRV report 5: IPC_LOCK added to a pod is in the bounding set of a process that is not root, and gives nothing', () => {
    const pod: SnapshotSpec = {
      mappings: [untouched(2049)],
      memlock: 8 * MiB,
      capEff: NONE,
      capPrm: NONE,
      capBnd: CAP_IPC_LOCK,
    }
    const answer = told(pod, REG_MR)
    expect(answer.verdict.errno).toBe('ENOMEM')
    expect(answer.memlock).toMatchObject({
      limit: 2048,
      exempt: false,
      liftedBy: 'CAP_IPC_LOCK',
      capability: 'bounding',
    })
    expect(fixes(answer)).toContain(
      'to be in the bounding set gives nothing: it must be effective (run as uid 0',
    )
    const asRoot = told({ ...pod, capEff: CAP_IPC_LOCK, capPrm: CAP_IPC_LOCK }, REG_MR)
    expect([asRoot.verdict.ok, asRoot.memlock?.capability]).toEqual([true, 'effective'])
    expect(told({ ...pod, capPrm: CAP_IPC_LOCK }, REG_MR).memlock?.capability).toBe('permitted')
  })

  it('DRV report 6: without IPC_LOCK the limit decides, and one of 0 is EPERM (R-DRV-5, R-UMEM-3)', () => {
    const pod = (memlock: number): SnapshotSpec => ({
      mappings: [anon(4)],
      memlock,
      capPrm: NONE,
      capBnd: NONE,
    })
    const none = told(pod(0), REG_MR)
    expect(none.verdict).toMatchObject({ errno: 'EPERM', rule: 'R-DRV-5' })
    expect(none.memlock).toMatchObject({
      needed: 4,
      used: 0,
      limit: 0,
      liftedBy: 'CAP_IPC_LOCK',
      capability: 'missing',
    })
    expect(fixes(none)).toContain(`raise RLIMIT_MEMLOCK to at least ${4 * P} bytes`)
    expect(fixes(none)).toContain('give the process CAP_IPC_LOCK')
    expect(told(pod(3 * P), REG_MR).verdict).toMatchObject({ errno: 'ENOMEM', rule: 'R-UMEM-3' })
    expect(told(pod(4 * P), REG_MR).verdict.ok).toBe(true)
  })

  it('DRV report 7: only large regions fail: those beyond the limit', () => {
    const pod: SnapshotSpec = { mappings: [untouched(4096)], memlock: 8 * MiB }
    const sizes = [1, 2, 4, 8, 16]
    const verdicts = sizes.map((size) => told(pod, { ...REG_MR, length: size * MiB }).verdict.errno)
    expect(verdicts).toEqual([null, null, null, null, 'ENOMEM'])
    expect(told(pod, REG_MR).memlock).toMatchObject({ needed: 4096, limit: 2048 })
  })

  it('DRV report 8: root of a rootless container has every capability, in its own user namespace (R-DRV-3)', () => {
    const rootless: SnapshotSpec = {
      mappings: [untouched(2049)],
      memlock: 8 * MiB,
      capEff: ALL_CAPABILITIES,
      capPrm: ALL_CAPABILITIES,
      capBnd: ALL_CAPABILITIES,
      initialUserNamespace: false,
    }
    const answer = told(rootless, REG_MR)
    expect(answer.verdict.errno).toBe('ENOMEM')
    expect(answer.memlock).toMatchObject({ exempt: false, capability: 'user-namespace', limit: 2048 })
    expect(fixes(answer)).toContain('raise RLIMIT_MEMLOCK')
    expect(fixes(answer)).toContain('the one it has counts in its own user namespace only')
    expect(told({ ...rootless, initialUserNamespace: true }, REG_MR).verdict.ok).toBe(true)
  })

  it('DRV report 9: fi_mr_reg returns the -12 of the system call below it', () => {
    const answer = told({ mappings: [anon(20)], memlock: 65536 }, REG_MR)
    expect(answer.verdict).toMatchObject({ errno: 'ENOMEM', rule: 'R-UMEM-3' })
    expect(answer.memlock).toMatchObject({ needed: 20, used: 0, limit: 16, budget: 'mm->pinned_vm' })
    expect(fixes(answer)).toContain('raise RLIMIT_MEMLOCK')
  })

  it('DRV report 10: one region of 256 MiB for a whole store, under a limit of 64 MiB', () => {
    const answer = told({ mappings: [untouched(65536)], memlock: 64 * MiB }, REG_MR)
    expect(answer.verdict.errno).toBe('ENOMEM')
    expect(answer.memlock).toMatchObject({ needed: 65536, limit: 16384 })
    expect(fixes(answer)).toContain(`raise RLIMIT_MEMLOCK to at least ${256 * MiB} bytes`)
  })
})

describe('MADV_DONTFORK', () => {
  const part: Request = { ...REG_MR, start: A + 2 * P, pages: 2, forkSafe: true }

  it('DRV report 11: every region cuts a mapping, until there are as many as there may be (R-UMEM-10)', () => {
    const answer = told({ mappings: [anon(8)], maxMapCount: 1 }, part)
    expect(answer.verdict).toMatchObject({
      errno: 'EAGAIN',
      chain: [{}, { errno: 'ENOMEM', why: expect.stringContaining('map') as string }],
    })
    expect(fixes(answer)).toContain('do without ibv_fork_init(3)')
    const rig = new Rig('6.18', { kernel: { settings: { maxMapCount: 64 } } })
    const at = rig.memory('rw400')
    const churn = (undo: boolean): number => {
      for (let i = 0; i < 100; i++) {
        const region = at + (1 + 3 * i) * P
        try {
          rig.app.madvise(region, P, MADV_DONTFORK)
        } catch {
          return i
        }
        if (undo) rig.app.madvise(region, P, MADV_DOFORK)
      }
      return 100
    }
    expect(churn(true)).toBe(100)
    expect(churn(false)).toBeLessThan(64)
  })

  it('DRV report 20: a child crashes on what lies beside a region, for MADV_DONTFORK takes whole pages', () => {
    const small: Request = { ...REG_MR, start: A + 100, length: 64, forkSafe: true }
    expect(remarks(told({ mappings: [anon(8)] }, small))).toContain(
      'the 100 bytes before the region and the 3932 after it are missing in a child, which gets SIGSEGV there',
    )
    expect(remarks(told({ mappings: [anon(8)] }, part))).not.toContain('SIGSEGV')
    const rig = new Rig('6.18')
    const at = rig.memory('rw2')
    rig.store(at, 'next to it')
    rig.app.madvise(at, P, MADV_DONTFORK)
    const device = openDevice(rig.app, (k) => new UverbsDevice(k))
    device.call('REG_MR', (d) => d.regMr({ start: at + 100, length: 64, access: IB_ACCESS_LOCAL_WRITE }))
    const child = rig.app.fork()
    expect(rig.text(rig.app.load(at, 10))).toBe('next to it')
    expect(() => child.load(at, 10)).toThrow(/SIGSEGV/)
    expect(child.load(at + P, 10)).toEqual(new Uint8Array(10))
    child.exit()
  })

  it('DRV report 21: ibv_fork_init comes too late once something is registered', () => {
    const answer = told({ mappings: [anon(8)], pinned: 4 * P }, part)
    expect(remarks(answer)).toContain('4 pages are pinned (VmPin) it would be EINVAL')
    expect(remarks(told({ mappings: [anon(8)], pinned: 0 }, part))).not.toContain('EINVAL')
  })

  it('DRV report 22: a part of a huge page cannot be advised: RDMAV_HUGEPAGES_SAFE advises all of it', () => {
    const backing = hugetlb('anonymous')
    const mapping: MappingSpec = {
      backing,
      pages: 512,
      flags: 'rd wr mr mw me de ht',
      look: [['hugetlb', 512]],
    }
    const spec: SnapshotSpec = { mappings: [mapping], pool: { total: 4, free: 3 } }
    const inside: Request = { ...REG_MR, start: A + 4 * P, length: 8 * P, forkSafe: true }
    const answer = told(spec, inside)
    expect(answer.verdict).toMatchObject({ errno: 'EINVAL' })
    expect(fixes(answer)).toContain('set RDMAV_HUGEPAGES_SAFE before ibv_fork_init(3)')
    expect(fixes(answer)).toContain('do without ibv_fork_init(3)')
    expect(told(spec, { ...inside, hugepagesSafe: true }).verdict.ok).toBe(true)
  })
})

describe('memory that cannot be registered', () => {
  const readOnly: MappingSpec = { flags: 'rd mr mw me ac', look: [['anon', 4]] }

  it('DRV report 12: a library asks for LOCAL_WRITE on memory that can only be read (R-UMEM-4)', () => {
    const answer = told({ mappings: [readOnly] }, REG_MR)
    expect(answer.verdict).toMatchObject({ errno: 'EFAULT', rule: 'R-GUP-16.8', page: 0 })
    expect(answer.verdict.mapping).toMatchObject({ flags: expect.not.arrayContaining(['wr']) as string[] })
    expect(fixes(answer)).toContain('ask for read access only (--access read)')
    expect(row([readOnly], { ...REG_MR, access: 'read' })).toBe('0 0 0 0 0')
  })

  it('DRV report 13: the same on 6.12: less access, or a mapping that can be written', () => {
    const answer = told({ mappings: [readOnly] }, REG_MR, '6.12')
    expect(answer.verdict).toMatchObject({ errno: 'EFAULT', rule: 'R-GUP-16.8' })
    expect(fixes(answer)).toContain('make it writable first: mprotect')
    expect(fixes(answer)).toContain('ask for read access only')
    const sealed: MappingSpec = { backing: memfd, flags: 'rd sh mr ms' }
    expect(fixes(told({ mappings: [sealed] }, REG_MR, '6.12'))).not.toContain('mprotect')
  })

  it('DRV report 14: memory attached by XPMEM is a raw mapping (R-GUP-16.1)', () => {
    const xpmem: MappingSpec = {
      backing: { kind: 'driver', path: '/dev/xpmem' },
      flags: `${SHARED_RW} pf io dc de dd`,
      name: '/dev/xpmem',
    }
    const answer = told({ mappings: [xpmem] }, REG_MR)
    expect(answer.verdict).toMatchObject({
      errno: 'EFAULT',
      rule: 'R-GUP-16.1',
      mapping: { name: '/dev/xpmem' },
    })
    expect(fixes(answer)).toContain(
      'use private anonymous memory (mmap MAP_PRIVATE|MAP_ANONYMOUS, malloc) and copy',
    )
  })

  it('DRV report 15: a pointer to memory of a GPU is no mapping of the processor (R-UMEM-11)', () => {
    const nothing = told({ mappings: [anon(4)] }, { ...REG_MR, start: A + 0x10000000, length: MiB })
    expect(nothing.verdict).toMatchObject({ errno: 'EFAULT', rule: 'R-GUP-15', page: 0, mapping: null })
    expect(remarks(nothing)).toMatch(/address of a GPU .*peer-memory module .*dma-buf/)
    const bar: MappingSpec = {
      backing: { kind: 'driver', path: '/dev/nvidia0' },
      flags: `${SHARED_RW} io pf de dd`,
    }
    const mapped = told({ mappings: [bar] }, REG_MR)
    expect(mapped.verdict).toMatchObject({ errno: 'EFAULT', rule: 'R-GUP-16.1' })
    expect(remarks(mapped)).toContain('peer-memory module')
    expect(remarks(told({ mappings: [anon(4)] }, REG_MR))).not.toContain('GPU')
  })

  it('DRV report 16: the region is longer than the device that is mapped (R-GUP-15)', () => {
    const answer = told({ mappings: [anon(8)] }, { ...REG_MR, pages: 12 })
    expect(answer.verdict).toMatchObject({ errno: 'EFAULT', rule: 'R-GUP-15', page: 8 })
    expect(fixes(answer)).toContain(`stop before the refused page: the first ${8 * P} bytes can be pinned`)
  })

  it('DRV report 17: a file on persistent memory cannot be pinned for long (R-UMEM-11)', () => {
    const pmem: MappingSpec = { backing: fileOn('ext4', 'yes'), flags: SHARED_RW }
    expect(row([pmem], REG_MR)).toBe('op op op op op')
    const answer = told({ mappings: [pmem] }, REG_MR)
    expect(answer.verdict).toMatchObject({ errno: 'EOPNOTSUPP', page: 0, mapping: { backing: 'ext4' } })
    expect(answer.verdict.reason).toMatch(/DAX|device memory/i)
    expect(fixes(answer)).toContain('use a memfd or a tmpfs file')
  })

  it('DRV report 18: a library shows EINVAL where the kernel said ENOMEM', () => {
    const answer = told({ mappings: [anon(32)], memlock: 65536 }, REG_MR)
    expect(answer.verdict.errno).toBe('ENOMEM')
    expect(remarks(answer)).toMatch(
      /errno is that of the system call: libraries .* another one, strace and dmesg this one/,
    )
  })

  it('DRV report 19: a shared mapping of a disk file was pinned by 5.15 and is not by 6.8 (R-DRV-10)', () => {
    const shared: MappingSpec = { backing: fileOn('ext4'), flags: SHARED_RW }
    expect(row([shared], REG_MR)).toBe('0 0 fa fa fa')
    const answer = told({ mappings: [shared] }, REG_MR, '6.6')
    expect(answer.verdict).toMatchObject({ errno: 'EFAULT', mapping: { backing: 'ext4' } })
    expect(answer.otherReleases.find(({ release }) => release === '6.1')).toMatchObject({ ok: true })
    expect(fixes(answer)).toContain('map the file MAP_PRIVATE')
    expect(fixes(answer)).toContain('use a memfd or a tmpfs file')
  })
})
