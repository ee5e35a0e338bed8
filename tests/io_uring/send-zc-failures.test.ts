import { describe, expect, it } from 'vitest'
import type { ReleaseName } from '../../src/base/release.ts'
import { PAGE_SIZE as P } from '../../src/base/units.ts'
import { ioUringEnter } from '../../src/io_uring/enter.ts'
import { IoUring, ioUringSetup } from '../../src/io_uring/io-uring.ts'
import {
  IORING_REGISTER_BUFFERS,
  IORING_UNREGISTER_BUFFERS,
  ioUringRegister,
} from '../../src/io_uring/register.ts'
import {
  IORING_OP_RECV,
  IORING_OP_SENDMSG_ZC,
  IORING_OP_SEND_ZC,
  type Sqe,
} from '../../src/io_uring/request.ts'
import { audit } from '../../src/mm/audit.ts'
import { exitMmap } from '../../src/mm/exit-mmap.ts'
import { BufferIter } from '../../src/mm/iov-iter.ts'
import type { Kernel } from '../../src/mm/kernel.ts'
import { MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE } from '../../src/mm/mman.ts'
import { mmap } from '../../src/mm/mmap.ts'
import { makeDatagramPair, makeStreamPair } from '../../src/net/loopback.ts'
import { FdTable } from '../../src/task/fd-table.ts'
import type { Socket } from '../../src/task/socket.ts'
import { testKernel, testTask, type TestTask } from '../support/kernel.ts'
import { walkFailures } from '../support/walk-failures.ts'

const FIXED = 4
const UID = 1000

/** A limited process that sends from memory it has not touched, to a stream whose reader takes it late. */
class Sender {
  readonly k: Kernel
  readonly task: TestTask
  readonly steps: readonly (() => void)[]
  readonly #files = new FdTable()
  readonly #reader: Socket
  readonly #ring: IoUring
  readonly #at: number

  constructor(k: Kernel) {
    this.k = k
    this.task = testTask(k, { uid: UID, limits: { memlock: 200 * P } })
    const ring = this.task.run(ioUringSetup(k, { entries: 8 }))
    if (!(ring instanceof IoUring)) throw new Error('io_uring_setup')
    this.#ring = ring
    const request = { addr: 0, length: 8 * P, prot: PROT_READ | PROT_WRITE, offset: 0, file: null }
    this.#at = this.task.run(mmap(k, this.task.space, { ...request, flags: MAP_PRIVATE | MAP_ANONYMOUS }))
    const [writer, reader] = makeStreamPair(k, { room: P })
    const [datagrams, far] = makeDatagramPair(k)
    this.#reader = reader
    const s = this.#files.install(writer, 16)
    const u = this.#files.install(datagrams, 16)
    const r = this.#files.install(far, 16)
    const at = this.#at
    const zc = { opcode: IORING_OP_SEND_ZC, fd: s, len: P }
    const iovecs = [at + 5 * P, at + 3 * P].map((base) => ({ base, length: 2 * P }))
    const registers = (): void => {
      const buffers = {
        type: 'iovecs',
        iovecs: [0, 2].map((page) => ({ base: at + page * P, length: P })),
      } as const
      this.task.run(ioUringRegister(k, ring, IORING_REGISTER_BUFFERS, buffers, 2))
    }
    this.steps = [
      registers,
      () => this.#submit({ ...zc, addr: at, ioprio: FIXED }, { ...zc, addr: at + P, len: 3 * P }),
      () => this.#submit({ ...zc, opcode: IORING_OP_SENDMSG_ZC, message: { iovecs, count: 2 } }),
      () =>
        this.#submit(
          { ...zc, fd: u, addr: at + 4 * P, len: 2 * P },
          { opcode: IORING_OP_RECV, fd: r, addr: at + 7 * P, len: P },
        ),
      () => this.#read(P + 100),
      () => this.#submit({ ...zc, addr: at + 2 * P, ioprio: FIXED, bufIndex: 1 }),
      // waits on releases where notifications hold it up
      () =>
        void k.scheduler.spawn(
          'unregister',
          this.task,
          ioUringRegister(k, ring, IORING_UNREGISTER_BUFFERS, null, 0),
        ),
    ]
  }

  #submit(...sqes: Sqe[]): void {
    this.#ring.sqes.push(...sqes)
    const enter = ioUringEnter(this.k, this.#ring, sqes.length, true, (fd) => this.#files.get(fd))
    this.task.run(enter)
    this.k.scheduler.runUntilIdle()
  }

  #read(length: number): number {
    const other = testTask(this.k, { mm: null })
    const n = other.run(this.#reader.receive(new BufferIter(new Uint8Array(length))))
    this.k.scheduler.runUntilIdle()
    return n
  }

  /** SIGKILL: the books balance while sends are pending, and nothing is left when the reader has read. */
  kill(where: string): void {
    const { k, task } = this
    task.signalPending = true
    task.fatalSignalPending = true
    k.failNth(null)
    k.scheduler.runUntilIdle()
    this.#files.closeAll()
    const mm = task.space
    for (const hook of k.exitHooks) hook(task)
    this.#ring.file.put()
    task.mm = null
    task.run(exitMmap(k, mm))
    k.settle()
    expect(audit(k), where).toEqual([])
    while (this.#read(3 * P) > 0);
    this.#reader.put()
    k.settle()
    expect(audit(k), where).toEqual([])
    expect([k.pinAcquired - k.pinReleased, k.user(UID).lockedVm, k.holders.has(this.#ring)], where).toEqual([
      0,
      0,
      false,
    ])
  }
}

const releases = ['6.1', '6.12', '6.18'] as const satisfies readonly ReleaseName[]

describe.each(releases)('%s', (release) => {
  it('R-URING-102 whatever fails, and the process is killed: the books balance', () => {
    const failures = walkFailures(release, (k) => {
      const sender = new Sender(k)
      return () => {
        for (const step of sender.steps.slice(0, -1)) step()
        expect(audit(k)).toEqual([])
        sender.kill('after a failure')
      }
    })
    expect(failures).toBeGreaterThan(20)
  })

  it('R-URING-102 killed after every step: no pin and no charge is left when the reader has read', () => {
    const { length } = new Sender(newKernel(release)).steps
    for (let n = 0; n <= length; n++) {
      const sender = new Sender(newKernel(release))
      for (const step of sender.steps.slice(0, n)) step()
      sender.kill(`after ${n} steps`)
    }
  })

  it('R-URING-102 killed at every page that is pinned or mapped', () => {
    for (let n = 1, more = true; more; n++) {
      const k = newKernel(release)
      const sender = new Sender(k)
      let seen = 0
      k.observer = ({ type }) => {
        if ((type === 'pin' || type === 'map' || type === 'cow') && ++seen === n) {
          sender.task.signalPending = true
          sender.task.fatalSignalPending = true
        }
      }
      for (const step of sender.steps) step()
      k.observer = null
      sender.kill(`at page ${n}`)
      more = seen >= n
    }
  })
})

function newKernel(release: ReleaseName): Kernel {
  return testKernel({ release, zones: { normal: 3072, movable: 1024 } })
}
