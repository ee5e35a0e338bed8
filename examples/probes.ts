/**
 * A breakpoint in a file, in every process that maps it: what a tracer does with uprobes, who is counted, and what
 * `uprobe_write_opcode` makes of the page. From 6.18 on it writes into the process's own page, before it replaced it.
 *
 *     npx tsx examples/probes.ts
 */
import { MADV_DONTNEED, Machine, SyscallError, type ReleaseName } from '../src/index.ts'

const NOP = 0x90
/** places in the file: an instruction, and the semaphore that says whether anybody is watching */
const ENTRY = 0x100
const SEMAPHORE = 0x1010

const hex = (byte: number): string => byte.toString(16)

function probed(release: ReleaseName): void {
  const machine = new Machine({ release, memory: '16M' })
  const app = machine.spawn('app')
  const fd = app.openFile('/bin/app', '8k')
  app.write(fd, new Uint8Array(4096).fill(NOP))
  app.write(fd, new Uint8Array(4096))
  const code = app.mmap({ length: '4k', prot: 'rx', fd })
  const data = app.mmap({ length: '4k', prot: 'rw', fd, offset: 4096 })
  let copies = 0
  const inMemory = (): string => hex(app.load(code + ENTRY, 1)[0]!)
  const semaphore = (process = app): number => process.load(data + (SEMAPHORE % 4096), 1)[0]!

  const tracer = app.fork('tracer')
  tracer.exec({ path: '/bin/tracer' })
  tracer.uprobes.write(`p:app/entry /bin/app:0x${hex(ENTRY)}(0x${hex(SEMAPHORE)})`)
  console.log(`${release}:`)
  console.log(`  before:   ${inMemory()} in memory, semaphore ${semaphore()}`)
  tracer.uprobes.enable('app', 'entry', true)
  const file = hex(app.read(fd, 1, ENTRY)[0]!)
  console.log(`  enabled:  ${inMemory()} in memory, ${file} in the file, semaphore ${semaphore()}`)
  machine.observe(({ type }) => (copies += type === 'cow' ? 1 : 0))
  const second = tracer.uprobes.register({ fd, offset: ENTRY + 8 })
  second.unregister()
  console.log(`  a second one in the page, there and gone: ${copies} copies of the page`)
  machine.observe(null)
  app.uprobes.swbp(code + ENTRY)
  const child = app.fork()
  child.uprobes.swbp(code + ENTRY)
  console.log(
    `  the trace has hits of ${tracer.uprobes.trace.map(({ pid }) => (pid === app.pid ? 'app' : 'its child'))}`,
  )
  child.madvise(code, 4096, MADV_DONTNEED)
  console.log(
    `  the child drops its page: ${hex(child.load(code + ENTRY, 1)[0]!)}, semaphore still ${semaphore(child)}`,
  )
  child.exit()
  tracer.uprobes.enable('app', 'entry', false)
  console.log(`  disabled: ${inMemory()} in memory, semaphore ${semaphore()}`)
  try {
    tracer.uprobes.register({ fd, offset: 3 * 4096 })
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error
    console.log(`  beyond the file: ${error.code}, because ${error.reason?.why} (${error.reason?.rule})`)
  }
  console.log(`  audit: ${machine.audit().length} findings`)
}

probed('gup-v3')
probed('6.18')
