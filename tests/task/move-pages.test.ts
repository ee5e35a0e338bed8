import { describe, expect, it } from 'vitest'
import { PREEMPT, type Kthread } from '../../src/base/kthread.ts'
import { PAGE_SIZE as P, PMD_SIZE, TASK_SIZE } from '../../src/base/units.ts'
import { PG_ANON_EXCLUSIVE, PG_LRU } from '../../src/memory/page-flags.ts'
import { FOLL_WRITE } from '../../src/mm/gup-flags.ts'
import { PageArray, getUserPages, pinUserPages } from '../../src/mm/gup.ts'
import { ksmScan } from '../../src/mm/ksm.ts'
import { hugetlbPool } from '../../src/mm/hugetlb.ts'
import { MADV_HUGEPAGE, MADV_MERGEABLE, MADV_PAGEOUT } from '../../src/mm/mman.ts'
import { SECRETMEM } from '../../src/mm/file.ts'
import { Mm } from '../../src/mm/mm.ts'
import { HugePmd, pmdIndex } from '../../src/mm/page-table.ts'
import { storeUser } from '../../src/mm/user-access.ts'
import { putPages, unpinUserPages } from '../../src/mm/unpin.ts'
import { FdTable } from '../../src/task/fd-table.ts'
import { MPOL_MF_MOVE, MPOL_MF_MOVE_ALL, movePages } from '../../src/task/move-pages.ts'
import { Process, type ProcessOptions } from '../../src/task/process.ts'
import { result, testTask } from '../support/kernel.ts'
import { walkFailures } from '../support/walk-failures.ts'
import { AT, RELEASES, RemoteRig } from './remote-rig.ts'

/** what a status is before the call */
const UNTOUCHED = 77
const NICE: ProcessOptions = { capabilities: ['CAP_SYS_NICE', 'CAP_SYS_PTRACE'] }

interface Ask {
  nodes?: readonly number[] | null
  flags?: number
  count?: number
  pid?: number
  status?: number
}

/** A process that asks about its own memory, or another's, on a machine with two nodes. */
class Rig extends RemoteRig {
  constructor(release: ConstructorParameters<typeof RemoteRig>[0], nodes = 2, target: ProcessOptions = NICE) {
    super(release, { memory: '64M', nodes, target, caller: NICE })
  }

  /** @returns what the call returned and the statuses afterwards; `null`: not written */
  move(pages: readonly number[], ask: Ask = {}, who: Process = this.target): (number | string | null)[] {
    const { kernel } = this
    const place = who.mmap({ length: P })
    who.store(place, new Uint8Array(new Int32Array(pages.length).fill(UNTOUCHED).buffer))
    const { nodes = null, flags = MPOL_MF_MOVE, count = pages.length, pid = 0, status = place } = ask
    const call = { pid, count, pages, nodes, status, flags }
    const returned = result(who.run(movePages(kernel, call)))
    const bytes = who.load(place, pages.length * 4)
    const statuses = [...new Int32Array(bytes.buffer, bytes.byteOffset, pages.length)]
    who.munmap(place, P)
    return [returned, ...statuses.map((value) => (value === UNTOUCHED ? null : value))]
  }

  /** All to one node. */
  to(node: number, pages: readonly number[], flags = MPOL_MF_MOVE): (number | string | null)[] {
    return this.move(pages, { nodes: pages.map(() => node), flags })
  }

  /** A reference as FOLL_GET takes it, or a pin. @returns gives it back */
  hold(address: number, pin = false, flags = FOLL_WRITE): () => void {
    const { kernel, target } = this
    const pages = new PageArray(1)
    const take = pin ? pinUserPages : getUserPages
    const guard = target.mm!.mmapLock.tryRead()!
    expect(target.run(take(kernel, guard, address, 1, flags, pages))).toBe(1)
    guard.release()
    return () => (pin ? unpinUserPages(kernel, pages, 1) : putPages(kernel, pages, 1))
  }

  thp(at = 0x4000_0000): number {
    const place = this.map(512, { at })
    this.target.madvise(place, PMD_SIZE, MADV_HUGEPAGE)
    this.target.touch(place, PMD_SIZE)
    return place
  }
}

const page = (i: number): number => AT + i * P

describe.each(RELEASES)('move_pages on %s', (release) => {
  const byFolio = release === '6.12' || release === '6.18'
  const ABSENT = byFolio ? -2 : -14

  it('R-FLT-144 where pages are', () => {
    const rig = new Rig(release)
    const a = rig.map(6)
    rig.target.touch(a, P)
    rig.target.load(page(1), 1)
    rig.target.touch(page(3), P)
    rig.target.mprotect(page(3), P, '')
    const swapped = rig.map(1, { at: 0x2000_0000, touched: true })
    rig.kernel.swap.swapon(16)
    rig.target.madvise(swapped, P, MADV_PAGEOUT)
    const shared = rig.mapFile('memfd', { shared: true, at: 0x3000_0000, pages: 2 })
    rig.target.touch(shared, P)
    const secret = rig.mapFile(SECRETMEM, { shared: true, at: 0x3100_0000, touched: true })
    const pages = [a, a + 1, page(1), page(2), page(3), swapped, shared, shared + P, secret]
    const there = byFolio ? 0 : -2
    expect(rig.move(pages)).toEqual([0, 0, 0, -14, ABSENT, there, -2, 0, -2, there])
    expect(rig.move([0, TASK_SIZE, -4096, 0x1234_0000])).toEqual([0, -14, -14, -14, -14])
  })

  it('R-FLT-144 huge pages, head and tail', () => {
    const rig = new Rig(release)
    hugetlbPool(rig.kernel).resize(1)
    const thp = rig.thp()
    const zero = rig.map(512, { at: 0x5000_0000 })
    rig.target.madvise(zero, PMD_SIZE, MADV_HUGEPAGE)
    rig.target.load(zero, 1)
    const huge = rig.map(1024, { at: 0x6000_0000, hugetlb: true, flags: 0x4000 })
    rig.target.touch(huge, P)
    const pages = [thp, thp + 9 * P, zero, zero + P, huge, huge + 511 * P, huge + PMD_SIZE]
    expect(rig.move(pages)).toEqual([0, 0, 0, -14, -14, 0, 0, -2])
  })

  it('R-FLT-142 on its node already, whoever else has the page', () => {
    const rig = new Rig(release, 1)
    const a = rig.map(2, { touched: true })
    const child = rig.target.fork('child')
    const done = rig.hold(a, true)
    expect(rig.to(0, [a, page(1), page(5)])).toEqual([0, 0, 0, -14])
    expect(rig.to(0, [a], 0)).toEqual([0, 0])
    done()
    child.exit()
  })

  it('R-FLT-142 moves a page and what maps it', () => {
    const rig = new Rig(release)
    const { kernel, target } = rig
    const a = rig.map(3, { touched: true })
    target.store(a, Uint8Array.of(9, 8, 7))
    const old = rig.pfn(target, a)
    expect(rig.to(1, [a, page(1)])).toEqual([0, 1, 1])
    const now = rig.pfn(target, a)
    const { frames, buddy } = kernel.memory
    expect([buddy.nodeOf(old), buddy.nodeOf(now)]).toEqual([0, 1])
    expect([frames.has(now, PG_ANON_EXCLUSIVE), frames.has(now, PG_LRU)]).toEqual([true, true])
    expect(frames.refcount[old]).toBe(0)
    expect([...target.load(a, 3)]).toEqual([9, 8, 7])
    expect(rig.move([a, page(1), page(2)])).toEqual([0, 1, 1, 0])
    expect(rig.to(0, [a, page(2)], 0)).toEqual([0, 0, 0])
  })

  it('R-FLT-142 pages that others map want MOVE_ALL', () => {
    const rig = new Rig(release)
    const a = rig.map(2, { touched: true })
    const child = rig.target.fork('child')
    expect(rig.to(1, [a, page(1)])).toEqual([0, -13, -13])
    expect(rig.to(1, [a], MPOL_MF_MOVE_ALL)).toEqual([0, 1])
    expect(rig.pfn(rig.target, a)).toBe(rig.pfn(child, a))
    expect(rig.move([a], { pid: child.pid })).toEqual([0, 1])
    expect(rig.move([a], { pid: child.pid, nodes: [0], flags: 6 })).toEqual([0, 0])
    child.exit()
    expect(rig.to(1, [a])).toEqual([0, 1])
    // by the same process
    const fd = rig.target.memfdCreate('m', P)
    const [one, two] = [0, 1].map((i) =>
      rig.target.mmap({ length: P, shared: true, fd, address: 0x2000_0000 + i * P }),
    )
    rig.target.touch(one!, P)
    rig.target.load(two!, 1)
    expect(rig.to(1, [one!])).toEqual([0, -13])
    expect(rig.to(1, [two!], MPOL_MF_MOVE_ALL)).toEqual([0, 1])
  })

  it('R-FLT-142 a page that is named twice is busy the second time', () => {
    const rig = new Rig(release)
    const a = rig.map(2, { touched: true })
    expect(rig.to(1, [a, a, page(1)])).toEqual([0, 1, -16, 1])
    expect(rig.move([a, a, a], { nodes: [0, 1, 0] })).toEqual([0, 0, 1, 0])
    const thp = rig.thp()
    // the head has been moved when its third page is looked at
    expect(rig.to(1, [thp, thp + P, thp + 2 * P])).toEqual([0, 1, -16, 1])
    expect(rig.move([thp + 511 * P])).toEqual([0, 1])
    expect(rig.target.mm!.pageTable.pmd(pmdIndex(thp))).toBeInstanceOf(HugePmd)
  })

  it('R-FLT-142 a merged page', () => {
    const rig = new Rig(release)
    const { kernel, target } = rig
    const a = rig.map(2, { touched: true })
    target.madvise(a, 2 * P, MADV_MERGEABLE)
    for (const at of [a, page(1)]) target.store(at, new Uint8Array(P).fill(5))
    target.run(ksmScan(kernel, 3))
    expect(rig.pfn(target, a)).toBe(rig.pfn(target, page(1)))
    expect(rig.to(1, [a, page(1)])).toEqual([0, -13, -13])
    expect(rig.to(1, [a, page(1)], MPOL_MF_MOVE_ALL)).toEqual([0, 1, -16])
    const more = rig.map(1, { at: 0x2000_0000 })
    target.madvise(more, P, MADV_MERGEABLE)
    target.store(more, new Uint8Array(P).fill(5))
    target.run(ksmScan(kernel, 3))
    expect(rig.pfn(target, more)).toBe(rig.pfn(target, a))
  })

  it('R-FLT-142 hugetlb pages', () => {
    const rig = new Rig(release)
    hugetlbPool(rig.kernel).resize(1)
    const huge = rig.map(512, { at: 0x6000_0000, hugetlb: true })
    rig.target.touch(huge, P)
    expect(rig.to(1, [huge, huge + P])).toEqual([0, 1, byFolio ? -16 : -13])
    expect(rig.to(0, [huge + 9 * P])).toEqual([0, byFolio ? 0 : -13])
    expect(rig.to(0, [huge])).toEqual([0, 0])
    const { total, free } = hugetlbPool(rig.kernel)
    expect([total, free]).toEqual([1, 0])
    const done = rig.hold(huge + 3 * P)
    expect(rig.to(1, [huge])).toEqual([1, null])
    done()
    expect(rig.move([huge])).toEqual([0, 0])
  })

  it('R-FLT-142 who maps a huge page: all of its mappings or those of one page', () => {
    const rig = new Rig(release)
    const thp = rig.thp()
    const child = rig.target.fork('child')
    expect(rig.to(1, [thp])).toEqual([0, -13])
    child.munmap(thp, 3 * P)
    child.munmap(thp + 4 * P, 508 * P)
    expect(rig.to(1, [thp + 3 * P])).toEqual([0, -13])
    expect(rig.to(1, [thp + 2 * P])).toEqual([0, byFolio ? -13 : 1])
    child.exit()
  })

  it('FLT vector 66, R-FLT-145 what is in use stays, and the call ends', () => {
    const rig = new Rig(release)
    const a = rig.map(8, { touched: true })
    const place = rig.pfn(rig.target, a)
    for (const pin of [false, true]) {
      const readOnly = rig.hold(a, pin, 0)
      expect(rig.to(1, [a])).toEqual([1, null])
      readOnly()
      const done = rig.hold(a, pin)
      expect(rig.to(1, [a])).toEqual([1, null])
      expect(rig.pfn(rig.target, a)).toBe(place)
      expect(rig.move([a, page(1), page(2), page(3)], { nodes: [1, 0, 1, 1] })).toEqual([
        4,
        null,
        null,
        null,
        null,
      ])
      expect(rig.move([page(1), a, page(2), page(3)], { nodes: [1, 1, 0, 1] })).toEqual([
        3,
        null,
        null,
        null,
        null,
      ])
      // its own status is known at once, and stored before the others are moved
      expect(rig.move([a, page(9), page(2), page(3), page(4)], { nodes: [1, 1, 1, 1, 1] })).toEqual([
        4,
        null,
        -14,
        null,
        null,
        null,
      ])
      expect(rig.move([a, page(2)], { nodes: [1, 9] })).toEqual(['-ENODEV', null, null])
      expect(rig.move([a], { nodes: [1], status: 0 })[0]).toBe(1)
      // the others of the batch have been moved
      expect(rig.to(1, [page(2), a, page(3)])).toEqual([1, null, null, null])
      expect(rig.move([page(1), page(2), a, page(3)])).toEqual([0, 1, 1, 0, 1])
      done()
      expect(rig.to(0, [a, page(1), page(2), page(3)])).toEqual([0, 0, 0, 0, 0])
    }
  })

  it('R-FLT-145 nodes that are not there', () => {
    const rig = new Rig(release)
    const a = rig.map(5, { touched: true })
    for (const node of [-1, 2, 1024, 2 ** 31 - 1])
      expect(rig.move([a, page(1)], { nodes: [node, 1] })).toEqual(['-ENODEV', null, null])
    const four = [a, page(1), page(2), page(3)]
    expect(rig.move(four, { nodes: [1, 1, 5, 1] })).toEqual(['-ENODEV', 1, 1, null, null])
    expect(rig.move(four)).toEqual([0, 1, 1, 0, 0])
    expect(rig.move(four, { nodes: [1, 0, 2, 1] })).toEqual(['-ENODEV', 1, 0, null, null])
  })

  it('R-FLT-144 R-FLT-145 lists and statuses that cannot be reached', () => {
    const rig = new Rig(release)
    const a = rig.map(2, { touched: true })
    expect(rig.move([a, a], { count: 3, flags: 0 })).toEqual(['-EFAULT', null, null])
    expect(rig.move([a, a], { count: 3, nodes: [0, 0, 0] })).toEqual(['-EFAULT', 0, 0])
    expect(rig.move([a, a], { nodes: [0] })).toEqual(['-EFAULT', 0, null])
    expect(rig.move([a, a], { count: 2 ** 63, nodes: [1, 0] })).toEqual(['-EFAULT', 1, 0])
    const twenty = Array.from({ length: 20 }, () => a)
    expect(rig.move(twenty, { count: 24 })).toEqual(['-EFAULT', ...twenty.map((_, i) => (i < 16 ? 0 : null))])
    expect(rig.to(1, [a])).toEqual([0, 1])
    // the last status lies behind the end of what can be written
    const edge = rig.map(1, { at: 0x2000_0000, touched: true })
    const status = edge + P - 8
    for (const nodes of [null, [1, 1, 1]]) {
      rig.target.store(status, Uint8Array.of(5, 5, 5, 5, 5, 5, 5, 5))
      expect(rig.move([a, a, a], { nodes, status })[0]).toBe('-EFAULT')
      expect([...rig.target.load(status, 8)]).toEqual([1, 0, 0, 0, 1, 0, 0, 0])
      expect(rig.move([a], { nodes: nodes === null ? null : [1], status: edge + P - 2 })[0]).toBe('-EFAULT')
    }
    expect([...rig.target.load(edge + P - 2, 2)]).toEqual([0, 0])
    expect(rig.move([], { nodes: [] })).toEqual([0])
  })

  it('R-FLT-145 no memory on the node', () => {
    const rig = new Rig(release)
    const { memory } = rig.kernel
    const a = rig.map(3, { touched: true })
    const taken: number[] = []
    const take = (): number => memory.allocFolio(0, { movable: true, node: 1 })
    for (let pfn = take(); pfn !== 0; pfn = take()) taken.push(pfn)
    memory.put(taken.pop()!)
    expect(rig.to(1, [a, page(1), page(2)])).toEqual(['-ENOMEM', null, null, null])
    expect(rig.move([a, page(1), page(2)])).toEqual([0, 1, 0, 0])
    const thp = rig.thp()
    expect(rig.to(1, [thp])).toEqual([byFolio ? 1 : '-ENOMEM', null])
    expect(rig.target.mm!.pageTable.pmd(pmdIndex(thp)) instanceof HugePmd).toBe(!byFolio)
    // room for small pages only
    for (const pfn of taken.splice(0))
      if (pfn % 512 !== 0) memory.put(pfn)
      else taken.push(pfn)
    const other = rig.thp(0x7000_0000)
    expect(rig.to(1, [other])).toEqual([byFolio ? 0 : '-ENOMEM', byFolio ? 1 : null])
    for (const pfn of taken) memory.put(pfn)
  })

  it('R-FLT-145 a huge page that has lost a part', () => {
    const rig = new Rig(release)
    const thp = rig.thp()
    rig.target.munmap(thp + P, P)
    const done = rig.hold(thp + 5 * P)
    expect(rig.to(1, [thp])).toEqual([1, null])
    done()
    expect(rig.to(1, [thp + 9 * P])).toEqual([0, 1])
    expect(rig.move([thp, thp + P, thp + 511 * P])).toEqual([0, 1, -14, 1])
    expect(rig.kernel.memory.frames.isLarge(rig.pfn(rig.target, thp))).toBe(!byFolio)
  })

  it('R-FLT-146 refusals in their order', () => {
    const rig = new Rig(release, 2, {})
    const { target, caller } = rig
    const a = rig.map(1, { touched: true })
    for (const flags of [1, 3, 8, 16, 1 << 16])
      expect(rig.move([a], { flags, pid: 99 })).toEqual(['-EINVAL', null])
    for (const nodes of [null, [0]])
      expect(rig.move([a], { nodes, flags: MPOL_MF_MOVE_ALL, pid: 99 })).toEqual(['-EPERM', null])
    for (const pid of [99, -1]) expect(rig.move([a], { pid })).toEqual(['-ESRCH', null])
    expect(rig.move([a], { pid: caller.pid })).toEqual(['-EPERM', null])
    expect(rig.move([a], { pid: target.pid })).toEqual([0, 0])
    expect(rig.move([a], { pid: target.pid, nodes: [1], flags: MPOL_MF_MOVE_ALL }, caller)).toEqual([0, 1])
    const stranger = rig.machine.spawn('stranger', { uid: 7 })
    expect(rig.move([a], { pid: target.pid }, stranger)).toEqual(['-EPERM', null])
  })
})

describe('move_pages', () => {
  it('R-FLT-142 the call of the library', () => {
    const rig = new Rig('6.18')
    const a = rig.map(2, { touched: true })
    const call = { pid: 0, pages: [a, page(1)], nodes: [1, 0], flags: MPOL_MF_MOVE, status: AT }
    expect(rig.target.remote.movePages(call)).toBe(0)
    expect([...rig.target.load(a, 8)]).toEqual([1, 0, 0, 0, 0, 0, 0, 0])
    expect(() => rig.target.remote.movePages({ ...call, flags: 1 })).toThrow('EINVAL')
  })

  it('R-FLT-141 who writes to a page on its way writes to it where it goes', () => {
    const rig = new Rig('6.18')
    const { kernel, target } = rig
    const a = rig.map(2, { touched: true })
    const thread = testTask(kernel, { comm: 'thread', mm: target.mm })
    kernel.exploring = true
    const status = new Int32Array(2)
    const call = { pid: 0, count: 2, pages: [a, page(1)], nodes: [1, 1], status, flags: MPOL_MF_MOVE }
    const moving = kernel.scheduler.spawn('move', target, movePages(kernel, call))
    const stored: boolean[] = []
    const writing = function* (): Kthread<void> {
      for (let i = 0; i < 20; i++) {
        stored.push((yield* storeUser(kernel, target.mm!, a + i, Uint8Array.of(i + 1))).ok)
        yield PREEMPT
      }
    }
    kernel.scheduler.spawn('write', thread, writing())
    kernel.scheduler.run()
    kernel.exploring = false
    expect([moving.result, ...status]).toEqual([0, 1, 1])
    expect(stored).toEqual(Array(20).fill(true))
    expect([...target.load(a, 20)]).toEqual(Array.from({ length: 20 }, (_, i) => i + 1))
    expect(rig.move([a])).toEqual([0, 1])
  })

  it('R-FLT-145 whatever fails, the books balance', () => {
    for (const release of ['6.1', '6.18'] as const) {
      const failed = walkFailures(
        release,
        (kernel) => {
          hugetlbPool(kernel).resize(1)
          const process = new Process(kernel, 'app', {}, { mm: new Mm(kernel, 'app'), files: new FdTable() })
          const a = process.mmap({ length: 6 * P })
          const thp = process.mmap({ length: PMD_SIZE, address: 0x4000_0000, fixed: true })
          process.madvise(thp, PMD_SIZE, MADV_HUGEPAGE)
          const huge = process.mmap({ length: PMD_SIZE, hugetlb: true })
          process.touch(a, 6 * P)
          process.touch(thp, P)
          process.touch(huge, P)
          return () => {
            const pages = [a, a + P, thp, huge, a + 2 * P, a + 3 * P]
            const nodes = [1, 1, 1, 1, 0, 1]
            process.run(movePages(kernel, { pid: 0, count: 6, pages, nodes, status: a + 5 * P, flags: 2 }))
          }
        },
        2,
      )
      expect(failed).toBeGreaterThanOrEqual(10)
    }
  })
})
