import { EINVAL } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { Unmodelled } from '../base/unmodelled.ts'
import { PAGE_SIZE, PMD_SIZE } from '../base/units.ts'
import type { ReleaseName } from '../base/release.ts'
import { ioUringSetup } from '../io_uring/io-uring.ts'
import {
  IORING_REGISTER_BUFFERS,
  IORING_REGISTER_BUFFERS2,
  IORING_REGISTER_BUFFERS_UPDATE,
  IORING_UNREGISTER_BUFFERS,
  ioUringRegister,
} from '../io_uring/register.ts'
import type { Iovec, RegisterArgument } from '../io_uring/user-args.ts'
import { accessRemoteVm } from '../mm/access-remote-vm.ts'
import { audit } from '../mm/audit.ts'
import { SHMEM, regularFileKind, type AddressSpace, type OpenFile } from '../mm/file.ts'
import { createFile, newCachedPage, readIntoCache } from '../mm/filemap.ts'
import { FOLL_FORCE } from '../mm/gup-flags.ts'
import { hugetlbFileSetup, hugetlbPool } from '../mm/hugetlb.ts'
import { Kernel, type Capability } from '../mm/kernel.ts'
import { madvise } from '../mm/madvise.ts'
import { MAP_FIXED, MAP_FIXED_NOREPLACE, MREMAP_FIXED } from '../mm/mman.ts'
import { mlock, mlock2, mlockall, munlock, munlockall } from '../mm/mlock.ts'
import { mmap } from '../mm/mmap.ts'
import { mprotect } from '../mm/mprotect.ts'
import { mremap } from '../mm/mremap.ts'
import { mseal } from '../mm/mseal.ts'
import { munmap } from '../mm/munmap.ts'
import { HugePmd, Leaf, PTE_PRESENT, PTE_SPECIAL, pmdIndex, pteSlot } from '../mm/page-table.ts'
import { punchHole, truncateFile } from '../mm/truncate.ts'
import { accessUser, loadUser, storeUser, type AccessResult } from '../mm/user-access.ts'
import { EngineProcess } from './engine-process.ts'
import { viewProcess, type Arena, type Baseline } from './engine-view.ts'
import { FrameIds } from './frame-ids.ts'
import type { Driver, Observation, Outcome, Unanswerable } from './observation.ts'
import { addUp, pattern } from './pattern.ts'
import type { Program, Range, Step } from './program.ts'

/** The machine the engine imitates: what the other side says about itself. */
export interface EngineSetup {
  readonly release: ReleaseName
  readonly arena: Arena
  readonly uid: number
  readonly capabilities: ReadonlySet<Capability>
  /** RLIMIT_MEMLOCK at the start, bytes */
  readonly memlock: number
  /** kB an agent process has outside the arena */
  readonly own: number
  readonly thp: 'always' | 'madvise' | 'never'
  readonly thpDisabled: boolean
  /** 2 MiB pages of the pool that are free and not promised */
  readonly hugePages: number
}

/** Runs programs on the engine. */
export class EngineDriver implements Driver {
  readonly #setup: EngineSetup

  constructor(setup: EngineSetup) {
    this.#setup = setup
  }

  async run(program: Program): Promise<readonly (Observation | Unanswerable)[]> {
    return this.runNow(program)
  }

  /** The same without waiting: the engine never does. */
  runNow({ steps }: Program): (Observation | Unanswerable)[] {
    const run = new EngineRun(this.#setup)
    const seen: (Observation | Unanswerable)[] = []
    try {
      for (const step of steps) seen.push(run.step(step))
      const findings = run.end()
      if (findings.length > 0) seen.push({ broken: `the books do not balance: ${findings.join('; ')}` })
    } catch (error) {
      if (error instanceof Unmodelled) seen.push({ unmodelled: error.message })
      else seen.push({ broken: error instanceof Error ? (error.stack ?? error.message) : String(error) })
    }
    return seen
  }
}

/** What a step came to, before the observation. */
interface Done {
  readonly outcome: Outcome
  readonly sum?: number
}

const OK: Done = { outcome: { kind: 'value', value: 0 } }
const DANGLING: Done = { outcome: { kind: 'dangling' } }

class EngineRun {
  readonly #k: Kernel
  readonly #setup: EngineSetup
  readonly #processes = new Map<number, EngineProcess>()
  readonly #ids = new FrameIds()
  readonly #base: Baseline

  constructor(setup: EngineSetup) {
    this.#setup = setup
    const huge = setup.arena.pages > 512
    this.#k = new Kernel({
      release: setup.release,
      zones: { normal: huge ? 49_152 : 8192 },
      settings: { thpEnabled: setup.thp },
    })
    if (setup.hugePages > 0) hugetlbPool(this.#k, PMD_SIZE).resize(setup.hugePages)
    const first = EngineProcess.first(this.#k, setup)
    this.#processes.set(0, first)
    this.#base = { totalVm: first.space.totalVm }
  }

  /** @throws Unmodelled */
  step(step: Step): Observation {
    const k = this.#k
    const self = this.#processes.get(step.by)
    const { pinAcquired, pinReleased } = k
    this.#forgetReplaced(step, self)
    const done = self === undefined ? DANGLING : this.#do(self, step)
    const others = [...this.#processes.values()].filter(({ number }) => number !== step.by)
    const alive = this.#processes.get(step.by)
    const order = alive === undefined ? others : [alive, ...others]
    const processes = order.map((each) => viewProcess(k, each, this.#setup.arena, this.#base, this.#ids))
    this.#forgetUnmapped()
    return {
      outcome: done.outcome,
      sum: done.sum ?? null,
      acquired: k.pinAcquired - pinAcquired,
      released: k.pinReleased - pinReleased,
      processes,
    }
  }

  /** Everything exits. @returns counters that are not what they must be, before and after */
  end(): string[] {
    const before = this.#audit()
    for (const process of this.#processes.values()) process.exit()
    return [...before, ...this.#audit()]
  }

  #audit(): string[] {
    return audit(this.#k).map(({ what, expected, actual }) => `${what}: ${actual}, must be ${expected}`)
  }

  #do(self: EngineProcess, step: Step): Done {
    const k = this.#k
    const mm = self.space
    const at = (offset: number): number => this.#setup.arena.start + offset
    const call = (body: Kthread<number>): Done => this.#result(self.run(body))
    switch (step.op) {
      case 'mmap': {
        const file = step.file === null ? null : (self.files.get(step.file) ?? null)
        const { length, prot, flags, offset } = step
        return call(mmap(k, mm, { addr: at(step.at), length, prot, flags, file, offset }))
      }
      case 'munmap':
        return call(munmap(k, mm, at(step.at), step.length))
      case 'mprotect':
        return call(mprotect(k, mm, at(step.at), step.length, step.prot))
      case 'mremap':
        return call(mremap(k, mm, at(step.at), step.length, step.newLength, step.flags, at(step.to)))
      case 'madvise':
        return call(madvise(k, mm, at(step.at), step.length, step.advice))
      case 'mlock':
        return call(mlock(k, mm, at(step.at), step.length))
      case 'mlock2':
        return call(mlock2(k, mm, at(step.at), step.length, step.flags))
      case 'munlock':
        return call(munlock(k, mm, at(step.at), step.length))
      case 'mseal':
        return call(mseal(k, mm, at(step.at), step.length, 0))
      case 'mlockall':
        return call(mlockall(k, mm, step.flags))
      case 'munlockall':
        return call(munlockall(k, mm))
      case 'load': {
        const byte = new Uint8Array(1)
        const result = self.run(loadUser(k, mm, at(step.at), byte))
        return result.ok ? value(byte[0]!) : signal(result, step.at, 0)
      }
      case 'touch': {
        const result = self.run(accessUser(k, mm, at(step.at), true))
        return result.ok ? OK : signal(result, step.at, 0)
      }
      case 'fill':
        return this.#fill(self, step, step.seed)
      case 'sum':
        return this.#sum(self, step)
      case 'memfd':
      case 'disk':
      case 'hugefd':
        return this.#open(self, step)
      case 'close': {
        const file = self.files.get(step.file)
        self.files.delete(step.file)
        file?.put()
        return file === undefined ? DANGLING : OK
      }
      case 'ftruncate': {
        const file = self.files.get(step.file)
        if (file === undefined) return DANGLING
        const done = call(truncateFile(k, file.mapping, step.size))
        self.run(readBack(k, file.mapping))
        return done
      }
      case 'punch': {
        const file = self.files.get(step.file)
        if (file === undefined) return DANGLING
        const done = call(punchHole(k, file.mapping, step.offset, step.length))
        self.run(readBack(k, file.mapping))
        return done
      }
      case 'fork': {
        const child = self.fork(step.child)
        if (typeof child === 'number') return this.#result(child)
        this.#processes.set(step.child, child)
        return OK
      }
      case 'reap': {
        const child = this.#processes.get(step.child)
        if (child === undefined) return DANGLING
        this.#processes.delete(step.child)
        child.exit()
        return OK
      }
      case 'ring': {
        const ring = self.run(ioUringSetup(k, { entries: step.entries }))
        if (typeof ring === 'number') return this.#result(ring)
        self.rings.set(step.ring, ring)
        return OK
      }
      case 'closeRing': {
        const ring = self.rings.get(step.ring)
        self.rings.delete(step.ring)
        ring?.file.put()
        return ring === undefined ? DANGLING : OK
      }
      case 'register': {
        const arg: RegisterArgument = {
          type: 'iovecs',
          iovecs: step.buffers.map((range) => this.#iovec(range)),
        }
        return this.#register(self, step.ring, IORING_REGISTER_BUFFERS, arg, step.buffers.length)
      }
      case 'registerEmpty': {
        const arg: RegisterArgument = { type: 'rsrc-register', nr: step.slots, flags: 1, data: null }
        return this.#register(self, step.ring, IORING_REGISTER_BUFFERS2, arg, 32)
      }
      case 'update': {
        const data = step.buffers.map((range) => this.#iovec(range))
        const arg: RegisterArgument = { type: 'rsrc-update', offset: step.slot, nr: data.length, data }
        return this.#register(self, step.ring, IORING_REGISTER_BUFFERS_UPDATE, arg, 32)
      }
      case 'unregister':
        return this.#register(self, step.ring, IORING_UNREGISTER_BUFFERS, null, 0)
      case 'memlock':
        // above the hard limit, which nobody lowers
        if (step.bytes > this.#setup.memlock) return this.#result(-EINVAL)
        self.memlock = step.bytes
        return OK
      case 'ipcLock':
        if (step.on) self.capabilities.add('CAP_IPC_LOCK')
        else self.capabilities.delete('CAP_IPC_LOCK')
        return OK
      case 'mem': {
        const target = this.#processes.get(step.of)
        if (target === undefined) return DANGLING
        const buffer = pattern(step.write ? step.seed : 0, 0, step.length)
        const done = self.run(accessRemoteVm(k, target.space, at(step.at), buffer, step.write, FOLL_FORCE))
        const outcome: Outcome =
          done === 0 && step.length > 0 ? { kind: 'errno', errno: 5 } : { kind: 'value', value: done }
        return step.write ? { outcome } : { outcome, sum: addUp(0, buffer) }
      }
    }
  }

  #iovec({ at, length }: Range): Iovec {
    return { base: at === 0 && length === 0 ? 0 : this.#setup.arena.start + at, length }
  }

  #register(self: EngineProcess, name: number, opcode: number, arg: RegisterArgument, nr: number): Done {
    const ring = self.rings.get(name)
    if (ring === undefined) return DANGLING
    return this.#result(self.run(ioUringRegister(this.#k, ring, opcode, arg, nr)))
  }

  #fill(self: EngineProcess, { at, length }: Range, seed: number): Done {
    for (let done = 0; done < length;) {
      const part = Math.min(length - done, PAGE_SIZE - ((((at + done) % PAGE_SIZE) + PAGE_SIZE) % PAGE_SIZE))
      const bytes = pattern(seed, done, part)
      const result = self.run(storeUser(this.#k, self.space, this.#setup.arena.start + at + done, bytes))
      if (!result.ok) return signal(result, at + done, done)
      done += part
    }
    return value(length)
  }

  #sum(self: EngineProcess, { at, length }: Range): Done {
    let sum = 0
    for (let done = 0; done < length;) {
      const part = Math.min(length - done, PAGE_SIZE - ((((at + done) % PAGE_SIZE) + PAGE_SIZE) % PAGE_SIZE))
      const bytes = new Uint8Array(part)
      const result = self.run(loadUser(this.#k, self.space, this.#setup.arena.start + at + done, bytes))
      if (!result.ok) return signal(result, at + done, 0)
      sum = addUp(sum, bytes)
      done += part
    }
    return { ...OK, sum }
  }

  #open(self: EngineProcess, step: Step & { readonly op: 'memfd' | 'disk' | 'hugefd' }): Done {
    const k = this.#k
    const { size } = step
    let file: OpenFile
    if (step.op === 'hugefd') {
      if (size % PMD_SIZE !== 0) return this.#result(-EINVAL)
      const path = `/memfd:f${step.file} (deleted)`
      file = hugetlbFileSetup(k, { size, pageSize: PMD_SIZE, name: path, noreserve: true })
    } else if (step.op === 'memfd') {
      file = createFile(k, SHMEM, { path: `/memfd:f${step.file} (deleted)`, size })
      if (step.seed !== null) self.run(writeWhole(k, file.mapping, step.seed))
    } else {
      file = createFile(k, regularFileKind('ext4'), { path: `disk/f${step.file}`, size })
      self.run(writeWhole(k, file.mapping, step.seed))
    }
    self.files.set(step.file, file)
    return OK
  }

  #result(result: number): Done {
    if (result < 0) return { outcome: { kind: 'errno', errno: -result } }
    const { start, pages } = this.#setup.arena
    if (result < PAGE_SIZE * 16) return value(result)
    const inside = result >= start && result < start + pages * PAGE_SIZE
    return inside ? value(result - start) : { outcome: { kind: 'outside' } }
  }

  /** A step that frees frames and takes new ones counts as two (docs/oracle-protocol.md, page ids). */
  #forgetReplaced(step: Step, self: EngineProcess | undefined): void {
    if (self === undefined) return
    let from: number
    let length: number
    if (step.op === 'mmap' && (step.flags & MAP_FIXED) !== 0 && (step.flags & MAP_FIXED_NOREPLACE) === 0) {
      from = step.at
      length = step.length
    } else if (step.op === 'mremap' && (step.flags & MREMAP_FIXED) !== 0) {
      from = step.to
      length = step.newLength
    } else return
    const start = this.#setup.arena.start + from
    this.#keepMapped((process, address) => process === self && address >= start && address < start + length)
  }

  #forgetUnmapped(): void {
    this.#keepMapped(() => false)
  }

  /** Ends the ids of frames that nobody maps, places for which `ignore` holds not counted. */
  #keepMapped(ignore: (process: EngineProcess, address: number) => boolean): void {
    const { start, pages } = this.#setup.arena
    const mapped = new Set<number>()
    for (const process of this.#processes.values()) {
      const { pageTable } = process.space
      for (let address = start; address < start + pages * PAGE_SIZE; address += PAGE_SIZE) {
        const entry = pageTable.pmd(pmdIndex(address))
        if (entry === null) {
          address = (pmdIndex(address) + 1) * PMD_SIZE - PAGE_SIZE
          continue
        }
        const slot = pteSlot(address)
        const bits = entry instanceof Leaf ? entry.bits[slot]! : entry.bits
        if ((bits & PTE_PRESENT) === 0 || (bits & PTE_SPECIAL) !== 0 || ignore(process, address)) continue
        mapped.add(entry instanceof HugePmd ? entry.pfn + slot : entry.pfn[slot]!)
      }
    }
    this.#ids.keepOnly((pfn) => mapped.has(pfn))
  }
}

function value(n: number): Done {
  return { outcome: { kind: 'value', value: n } }
}

function signal(result: AccessResult & { ok: false }, at: number, done: number): Done {
  return { outcome: { kind: 'signal', signal: result.signal, code: result.code, at, done } }
}

/** write(2) over a whole new file: every page is in the cache, with the pattern in it. */
function* writeWhole(k: Kernel, mapping: AddressSpace, seed: number): Kthread<void> {
  for (let done = 0; done < mapping.size; done += PAGE_SIZE) {
    const pfn = newCachedPage(k, mapping, done / PAGE_SIZE)
    if (pfn === 0) throw new RangeError('the file does not fit into the memory of the engine')
    k.memory.contents.write(pfn, 0, pattern(seed, done, Math.min(PAGE_SIZE, mapping.size - done)))
  }
}

/** The pages of a disk file are read in after every change (agent-lines.ts does the same). */
function* readBack(k: Kernel, mapping: AddressSpace): Kthread<void> {
  if (mapping.kind.canWriteback) readIntoCache(k, mapping, 0, Math.ceil(mapping.size / PAGE_SIZE))
}
