import type { Kthread } from '../base/kthread.ts'
import { PAGE_SIZE, pageAlignDown } from '../base/units.ts'
import type { Snapshot } from '../host/snapshot.ts'
import type { CurrentTask, Kernel } from '../mm/kernel.ts'
import { MAX_RW_COUNT } from '../mm/iovec.ts'
import { MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE } from '../mm/mman.ts'
import { Mm } from '../mm/mm.ts'
import { mmap } from '../mm/mmap.ts'
import { FdTable } from '../task/fd-table.ts'
import { Process } from '../task/process.ts'
import { processVmRw } from '../task/process-vm-access.ts'
import { WORD, ptraceAttach, ptracePeekWord, ptracePokeData } from '../task/ptrace.ts'
import { addTask, type TaskStruct } from '../task/task.ts'
import { pagesOf, shownPages, type Outcome, type Request, type RequestRange } from './request.ts'
import type { Restored } from './restore.ts'

/** Who the caller is taken to be: one that the ids and Yama let in. */
function permitted({ system }: Snapshot): string {
  const scope = system.sysctl['kernel.yama.ptrace_scope']
  const allowed =
    scope === '1'
      ? 'CAP_SYS_PTRACE, or the same user and the process descends from it or has named it with PR_SET_PTRACER (kernel.yama.ptrace_scope is 1)'
      : scope === '2'
        ? 'CAP_SYS_PTRACE (kernel.yama.ptrace_scope is 2)'
        : 'same user, or CAP_SYS_PTRACE'
  return `whoever asks may access the process: ${allowed}; other security modules are not asked`
}

/** Bytes of one system call of the other process: its buffer is that long. */
const PIECE = 2 * 1024 * 1024

/** The process as its neighbours see it. */
function knownAs(k: Kernel, task: CurrentTask, mm: Mm): TaskStruct {
  const target: TaskStruct = {
    comm: task.comm,
    pid: task.pid,
    uid: task.uid,
    gid: task.gid ?? task.uid,
    mm,
    capabilities: new Set(),
    refusal: null,
    signalPending: false,
    fatalSignalPending: false,
    memallocPin: false,
    parent: null,
    trace: null,
    stopped: false,
    rlimit: (name) => task.rlimit(name),
    capable: (capability) => task.capable(capability),
  }
  addTask(k, target)
  return target
}

/** Somebody else, who may access it. */
function neighbour({ kernel, task }: Restored): Process {
  const options = { uid: task.uid, capabilities: ['CAP_SYS_PTRACE' as const] }
  return new Process(kernel, 'caller', options, { mm: new Mm(kernel, 'caller'), files: new FdTable() })
}

/** process_vm_readv(2) or process_vm_writev(2) of another process, with the range as the remote side. */
export function processVmRequest(direction: 'readv' | 'writev'): Request {
  return {
    name: `process_vm:${direction}`,
    charges: null,
    takes: [],
    longest: MAX_RW_COUNT,
    bySomebodyElse: true,
    notes: (snapshot) => [permitted(snapshot)],
    *run(restored, range) {
      const { kernel, task, mm } = restored
      knownAs(kernel, task, mm)
      const caller = neighbour(restored)
      const space = {
        addr: 0,
        length: PIECE,
        prot: PROT_READ | PROT_WRITE,
        flags: MAP_PRIVATE | MAP_ANONYMOUS,
      }
      const base = kernel.run(caller, mmap(kernel, caller.mm!, { ...space, file: null, offset: 0 }))
      let done = 0
      let result = 0
      while (done < range.length) {
        const length = Math.min(PIECE, range.length - done)
        const call = {
          pid: task.pid,
          local: [{ base, length }],
          localCount: 1,
          remote: [{ base: range.start + done, length }],
          remoteCount: 1,
          flags: 0,
        }
        result = yield* asCaller(restored, caller, processVmRw(kernel, call, direction === 'writev'))
        if (result > 0) done += result
        if (result < length) break
      }
      caller.exit()
      return outcome(restored, range, done, result)
    },
  }
}

/** The whole range, an errno, or the count that the call returns. */
function outcome({ mm }: Restored, range: RequestRange, done: number, result: number): Outcome {
  const whole = done === range.length
  return {
    result: done > 0 ? done : result,
    held: whole ? pagesOf(range) : 0,
    holder: shownPages(mm, range),
  }
}

/** Runs a call as the other process; why it was refused is told to the one that is asked about. */
// oxlint-disable-next-line require-yield -- the other task runs to its end
function* asCaller({ kernel, task }: Restored, caller: Process, body: Kthread<number>): Kthread<number> {
  const result = kernel.run(caller, body)
  task.refusal = caller.refusal
  return result
}

/** PTRACE_PEEKDATA or PTRACE_POKEDATA of the first word of every page of the range. */
export function ptraceRequest(direction: 'peek' | 'poke'): Request {
  return {
    name: `ptrace:${direction}`,
    charges: null,
    takes: [],
    longest: MAX_RW_COUNT,
    bySomebodyElse: true,
    notes: (snapshot) => [
      permitted(snapshot),
      'the process is traced and stopped; one word of each page is asked for',
    ],
    *run(restored, range) {
      const { kernel, task, mm } = restored
      knownAs(kernel, task, mm)
      const tracer = neighbour(restored)
      let result = yield* asCaller(restored, tracer, attach(kernel, task.pid))
      const word = new Uint8Array(WORD)
      const call = direction === 'peek' ? ptracePeekWord : ptracePokeData
      for (
        let at = range.start;
        at < range.start + range.length && result >= 0;
        at = pageAlignDown(at) + PAGE_SIZE
      )
        result = yield* asCaller(restored, tracer, call(kernel, task.pid, at, word))
      tracer.exit()
      return outcome(restored, range, result < 0 ? 0 : range.length, result)
    },
  }
}

// oxlint-disable-next-line require-yield -- decided at once
function* attach(k: Kernel, pid: number): Kthread<number> {
  return ptraceAttach(k, pid)
}
