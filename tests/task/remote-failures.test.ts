/** Callers that hold pages for the length of one call: whatever fails in it, and whoever is killed, nothing stays. */
import { describe, expect, it } from 'vitest'
import { setAdapterInt } from '../../src/arch/s390/interrupt.ts'
import { openIoUring } from '../../src/io_uring/facade.ts'
import { hugetlbPool } from '../../src/mm/hugetlb.ts'
import { PMD_SIZE } from '../../src/base/units.ts'
import { TomoyoPageDump, tomoyoDumpPage } from '../../src/security/tomoyo-domain.ts'
import { DEFAULT_FILTER, dumpUserRange, dumpVmaSnapshot } from '../../src/task/coredump.ts'
import type { Process } from '../../src/task/process.ts'
import { KvmAsyncPf } from '../../src/virt/kvm/async-pf.ts'
import { P, RELEASES, walkDevice, type Requests } from '../drivers/rig.ts'

/** Memory of every common kind, half of it touched and shared with a child. */
const LAYOUT = 'rw3+memfd2+ext4p2+ro1'
const PAGES = 8

/** The process whose memory the others reach into. */
function target(rig: Parameters<Requests>[0]): { target: Process; at: number } {
  const process = rig.spawn('target')
  const at = rig.memory(LAYOUT, process)
  process.store(at, new Uint8Array(P + 1).fill(1))
  process.fork('sibling')
  return { target: process, at }
}

const callers: Record<string, Requests> = {
  'process_vm_readv and writev': (rig) => {
    const { target: other, at } = target(rig)
    // touched: a copy that finds no memory is the OOM killer's business; the hole behind it is not
    const mine = rig.memory('rw6+hole2')
    rig.app.store(mine, new Uint8Array(6 * P))
    return () => {
      const [local, remote] = [[{ base: mine, length: PAGES * P }], [{ base: at + 100, length: 7 * P }]]
      rig.app.remote.vmRead(other.pid, local, remote)
      rig.app.remote.vmWrite(other.pid, local, remote)
    }
  },
  'PTRACE_PEEKDATA and POKEDATA': (rig) => {
    const { target: other, at } = target(rig)
    return () => {
      rig.app.remote.attach(other.pid)
      for (let page = 0; page < PAGES; page++) {
        rig.app.remote.peek(other.pid, at + page * P + P - 4)
        rig.app.remote.poke(other.pid, at + page * P + 8, new Uint8Array(8))
      }
    }
  },
  '/proc/PID/mem': (rig) => {
    const { target: other, at } = target(rig)
    const mine = rig.memory('rw8')
    return () => {
      const mem = rig.app.remote.openMem(other.pid)
      mem.pread(mine, PAGES * P, at + 10)
      mem.pwrite(mine, PAGES * P, at)
      mem.close()
    }
  },
  'execve with strings over several pages': (rig) => {
    rig.memory('rw4')
    const argv = Array.from({ length: 6 }, (_, i) => `${i}`.repeat(3000))
    return () => rig.app.exec({ path: '/bin/true', argv, envp: ['A=1'] })
  },
  '/proc/PID/cmdline and environ': (rig) => {
    const other = rig.spawn('target')
    other.exec({ path: '/bin/true', argv: ['x'.repeat(5000)], envp: ['y'.repeat(5000)] })
    const mine = rig.memory('rw4')
    return () => {
      for (const file of [rig.app.remote.openCmdline(other.pid), rig.app.remote.openEnviron(other.pid)]) {
        file.pread(mine, 2 * P, 0)
        file.close()
      }
    }
  },
  'a core dump': (rig) => {
    const at = rig.memory('rw3+none1+memfd2')
    rig.app.store(at, new Uint8Array(P + 1).fill(1))
    return () => {
      const sink = { data: () => true, hole: () => true }
      for (const { start, size } of rig.app.run(dumpVmaSnapshot(rig.k, DEFAULT_FILTER)))
        rig.app.run(dumpUserRange(rig.k, start, size, sink))
    }
  },
  "tomoyo's page dump": (rig) => {
    const at = rig.memory('rw2+ext4p1')
    return () => {
      const dump = new TomoyoPageDump()
      for (let page = 0; page < 3; page++)
        rig.app.run(tomoyoDumpPage(rig.k, rig.app.mm!, at + page * P, dump))
    }
  },
  'an adapter interrupt of s390': (rig) => {
    const at = rig.memory('rw2')
    const route = { indAddr: at, indOffset: 3, summaryAddr: at + P, summaryOffset: 0 }
    return () => void rig.app.run(setAdapterInt(rig.k, rig.app.mm!, { swap: false }, route, 1))
  },
  'asynchronous page faults of KVM': (rig) => {
    const at = rig.memory('rw4+hole1')
    return () => {
      const apf = new KvmAsyncPf(rig.k, rig.app.mm!)
      for (let page = 0; page < 5; page++) apf.setup(at + page * P)
      for (const work of apf.work.splice(0)) rig.app.run(work)
    }
  },
  'vmsplice and O_DIRECT': (rig) => {
    const at = rig.memory('rw4+memfd2')
    const { write } = rig.app.pipe()
    const direct = rig.app.io.openDirect(rig.app.openFile('/data', 8 * P))
    return () => {
      rig.app.io.vmsplice(write, [{ base: at, length: 6 * P }])
      rig.app.io.write(direct, at, 6 * P, 0)
      rig.app.io.read(direct, at, 6 * P, P)
    }
  },
  'fixed buffers of io_uring, from registration to close': (rig) => {
    hugetlbPool(rig.k).resize(1)
    const at = rig.memory('rw4+memfd2')
    const huge = rig.app.mmap({ length: PMD_SIZE, hugetlb: true })
    const { read, write } = rig.app.pipe()
    return () => {
      const ring = openIoUring(rig.app, { entries: 4 })
      ring.registerBuffers([
        { base: at, length: 6 * P },
        { base: huge, length: PMD_SIZE },
      ])
      ring.writeFixed({ fd: write, address: at + P, length: 3 * P })
      ring.readFixed({ fd: read, index: 1, address: huge + 100, length: 3 * P })
      ring.completions()
      ring.unregisterBuffers()
      ring.close()
    }
  },
}

describe.each(RELEASES)('whatever fails on %s, nothing stays held', (release) => {
  it.each(Object.entries(callers))('R-GUP-65 %s', (_name, requests) => {
    expect(walkDevice(release, requests)).toBeGreaterThan(2)
  })
})
