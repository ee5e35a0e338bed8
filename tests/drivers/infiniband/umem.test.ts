import { describe, expect, it } from 'vitest'
import { regularFileKind } from '../../../src/mm/file.ts'
import { MADV_DONTNEED } from '../../../src/mm/mman.ts'
import { uffdCopy } from '../../../src/mm/userfaultfd.ts'
import { P, RELEASES, Rig, answer, reason, shown, walkDevice } from '../rig.ts'
import { LW, RR, RWRITE, deregMr, openVerbs, regMr } from './verbs.ts'
import { createFile } from '../../../src/mm/filemap.ts'

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)

describe.each(RELEASES)('ib_umem_get on %s', (release) => {
  it('DRV vector 29: a limit of 0 is EPERM (R-UMEM-3, R-DRV-5)', () => {
    const rig = new Rig(release, { limit: 0 })
    const verbs = openVerbs(rig.app)
    const at = rig.memory('rw4')
    expect(reason(() => regMr(verbs, at, P))).toMatchObject({ rule: 'R-DRV-5', capability: 'CAP_IPC_LOCK' })
    expect(answer(() => regMr(verbs, at, P))).toBe('-EPERM')
    expect(rig.app.mm!.pinnedVm).toBe(0)
  })

  it('DRV vector 30: 17 pages over a limit of 16 is ENOMEM, and VmPin is what it was (R-UMEM-3)', () => {
    const rig = new Rig(release, { limit: 16 })
    const verbs = openVerbs(rig.app)
    const at = rig.memory('rw32')
    expect(reason(() => regMr(verbs, at, 17 * P))).toMatchObject({
      rule: 'R-UMEM-3',
      needed: 17,
      used: 0,
      limit: 16,
      budget: 'mm->pinned_vm',
      capability: 'CAP_IPC_LOCK',
    })
    expect([rig.app.mm!.pinnedVm, rig.pinned]).toEqual([0, 0])
    expect(regMr(verbs, at, 16 * P)).toBe(1)
    expect([rig.app.mm!.pinnedVm, rig.app.mm!.lockedVm, rig.locked()]).toEqual([16, 0, 0])
  })

  it('DRV vector 31: a buffer that does not begin with a page costs one more (R-UMEM-3)', () => {
    const rig = new Rig(release, { limit: 16 })
    const verbs = openVerbs(rig.app)
    const at = rig.memory('rw32')
    expect(answer(() => regMr(verbs, at + 100, 16 * P))).toBe('-ENOMEM')
    expect(regMr(verbs, at + 100, 15 * P)).toBe(1)
    expect(rig.app.mm!.pinnedVm).toBe(16)
  })

  it('DRV vector 32: a hole in the middle is EFAULT, and everything is undone (R-DRV-7, R-DRV-8, R-UMEM-6)', () => {
    const rig = new Rig(release, { limit: 100 })
    const verbs = openVerbs(rig.app)
    const at = rig.memory('rw8+hole8')
    expect(answer(() => regMr(verbs, at, 16 * P))).toBe('-EFAULT')
    expect([rig.app.mm!.pinnedVm, rig.pinned]).toEqual([0, 0])
  })

  it('DRV vector 33: read-only private memory can be read (R-UMEM-4, R-DRV-16)', () => {
    const rig = new Rig(release)
    const verbs = openVerbs(rig.app)
    const at = rig.memory('ro8')
    expect(regMr(verbs, at, 8 * P, RR)).toBe(1)
    expect(answer(() => regMr(verbs, at, 8 * P, LW))).toBe('-EFAULT')
    expect(verbs.device.write(1, 0, bytes('x'))).toBe(false)
  })

  it('DRV vector 34: read-only shared memory only since 6.2 (R-DRV-16)', () => {
    const rig = new Rig(release)
    const at = rig.memory('roshared8')
    const expected = release === '6.1' ? '-EFAULT' : 1
    expect(answer(() => regMr(openVerbs(rig.app), at, 8 * P, RR))).toBe(expected)
  })

  it('DRV vector 35: remote writing without local writing is EINVAL before any pin (R-UMEM-2)', () => {
    const rig = new Rig(release)
    const verbs = openVerbs(rig.app)
    const at = rig.memory('rw8')
    const access = (flags: number): number | string => answer(() => regMr(verbs, at, P, flags))
    expect([RWRITE, 8, 1 << 10, 64, 256].map(access)).toEqual([
      '-EINVAL',
      '-EINVAL',
      '-EINVAL',
      '-EOPNOTSUPP',
      '-EOPNOTSUPP',
    ])
    expect(rig.k.pinAcquired).toBe(0)
    expect(access(LW | RWRITE | (1 << 20))).toBe(1)
  })

  it('DRV vector 36: fsdax is EOPNOTSUPP (R-UMEM-11)', () => {
    const rig = new Rig(release)
    const file = createFile(rig.k, regularFileKind('ext4'), { path: '/pmem', size: 8 * P })
    file.mapping.dax = true
    const at = rig.app.mmap({ length: 8 * P, shared: true, fd: rig.app.install(file) })
    expect(answer(() => regMr(openVerbs(rig.app), at, 8 * P))).toBe('-EOPNOTSUPP')
  })

  it('DRV vector 37: missing pages of a userfaultfd are waited for, not on 6.1 (R-DRV-9)', () => {
    const rig = new Rig(release)
    const verbs = openVerbs(rig.app)
    const at = rig.memory('rw2')
    const uffd = rig.watch(at, 2)
    if (release === '6.1') {
      expect(answer(() => regMr(verbs, at, 2 * P))).toBe('-EFAULT')
      expect(uffd.read()).toBeNull()
      return
    }
    const request = { start: at, length: 2 * P, access: LW }
    const sleeper = rig.k.scheduler.spawn('reg', rig.app, verbs.device.regMr(request))
    while (!rig.k.scheduler.runUntilIdle()) {
      const message = uffd.read()
      expect(message).toMatchObject({ event: 'pagefault' })
      for (let page = at; page < at + 2 * P; page += P)
        rig.app.run(uffdCopy(rig.k, uffd, rig.app.mm!, page, new Uint8Array(P)))
    }
    expect(shown(sleeper.result!)).toBe(1)
  })

  it('DRV vector 38: CAP_IPC_LOCK lifts the limit, the charge stays (R-UMEM-3)', () => {
    const rig = new Rig(release, { limit: 0, capabilities: ['CAP_IPC_LOCK'] })
    expect(regMr(openVerbs(rig.app), rig.memory('rw8'), 8 * P)).toBe(1)
    expect(rig.app.mm!.pinnedVm).toBe(8)
  })

  it('R-DRV-17 limit first: a bad buffer over the limit is ENOMEM', () => {
    const rig = new Rig(release, { limit: 4 })
    expect(answer(() => regMr(openVerbs(rig.app), rig.memory('hole8'), 8 * P))).toBe('-ENOMEM')
  })

  it('R-UMEM-3 R-UMEM-1 arguments: offsets, the domain, overflow, no bytes', () => {
    const rig = new Rig(release)
    const verbs = openVerbs(rig.app)
    const at = rig.memory('rw8')
    const refused = (start: number, length: number, more = {}): number | string =>
      answer(() => regMr(verbs, start, length, LW, more))
    expect(refused(at, P, { hcaVa: 100 })).toBe('-EINVAL')
    expect(refused(at, P, { hcaVa: 2 ** 40 })).toBe(1)
    expect(refused(at, P, { pd: false })).toBe('-EINVAL')
    expect(refused(2 ** 64 - 2 ** 13, 2 ** 13)).toBe('-EINVAL')
    expect(refused(at, 0)).toBe('-EINVAL')
  })

  it('R-UMEM-7 R-DRV-12 fork: the child owes nothing, the device stays with the parent', () => {
    const rig = new Rig(release)
    const at = rig.memory('rw4')
    const verbs = openVerbs(rig.app)
    const mr = regMr(verbs, at + 5, 2 * P)
    rig.store(at + 5, 'first')
    const child = rig.app.fork()
    rig.store(at + 5, 'mine!')
    rig.store(at + 5, 'child', child)
    const seen = new Uint8Array(5)
    expect(verbs.device.read(mr, 0, seen)).toBe(true)
    expect([rig.text(seen), child.mm!.pinnedVm, rig.app.mm!.pinnedVm]).toEqual(['mine!', 0, 3])
    child.exit()
  })

  it('R-DRV-11 R-UMEM-5 what the device writes after MADV_DONTNEED is lost to the process', () => {
    const rig = new Rig(release)
    const at = rig.memory('rw4')
    const verbs = openVerbs(rig.app)
    const mr = regMr(verbs, at, 4 * P)
    expect(verbs.device.write(mr, P - 2, bytes('over'))).toBe(true)
    expect(rig.text(rig.app.load(at + P - 2, 4))).toBe('over')
    rig.app.madvise(at, 4 * P, MADV_DONTNEED)
    verbs.device.write(mr, P - 2, bytes('lost'))
    expect([...rig.app.load(at + P - 2, 4)]).toEqual([0, 0, 0, 0])
    expect(deregMr(verbs, mr)).toBe(0)
    expect(answer(() => deregMr(verbs, mr))).toBe('-EINVAL')
    expect([rig.pinned, rig.app.mm!.pinnedVm]).toEqual([0, 0])
  })

  it('R-UMEM-9 read-only memory cannot be made writable later, where the release looks', () => {
    const rig = new Rig(release)
    const verbs = openVerbs(rig.app)
    const mr = regMr(verbs, rig.memory('rw4'), P, RR)
    const refuses = release === '6.12' || release === '6.18'
    const rereg = (access: number): number | string =>
      answer(() => verbs.call('rereg', (d) => d.reregAccess(mr, access)))
    expect([rereg(LW), rereg(RR), rereg(RWRITE)]).toEqual([refuses ? '-EACCES' : 0, 0, '-EINVAL'])
  })

  it('R-UMEM-1 a queue in memory of the program fails for the same reasons', () => {
    const rig = new Rig(release, { limit: 16 })
    const verbs = openVerbs(rig.app)
    const create = (pages: number): number =>
      verbs.call('ibv_create_cq', (device) => device.createQueue(rig.memory('rw32'), pages * P))
    expect([create(16), answer(() => create(1))]).toEqual([1, '-ENOMEM'])
  })

  it('R-UMEM-8 paging on demand is outside the model', () => {
    const rig = new Rig(release)
    const provider = { ...openVerbs(rig.app).device.provider, onDemand: true }
    expect(() => regMr(openVerbs(rig.app, provider), rig.memory('rw4'), P, LW | 64)).toThrow('R-UMEM-8')
  })

  it('R-UMEM-6 what fails anywhere is undone, and a killed process leaves nothing', () => {
    const steps = walkDevice(
      release,
      (rig) => {
        const at = rig.memory('rw4+memfd4')
        const verbs = openVerbs(rig.app)
        return () => {
          const first = regMr(verbs, at, 8 * P)
          regMr(verbs, at + P, 2 * P, RR)
          deregMr(verbs, first)
        }
      },
      { limit: 64 },
    )
    expect(steps).toBeGreaterThan(20)
  })
})
