/**
 * RDMA memory regions: what they cost, why they are refused, and where the device writes after fork and after
 * MADV_DONTNEED.
 *
 *     npx tsx examples/rdma-regions.ts
 */
import { MADV_DONTNEED, Machine, SyscallError } from '../src/index.ts'
import { IB_ACCESS_LOCAL_WRITE, IB_ACCESS_REMOTE_READ, UverbsDevice, openDevice } from '../src/devices.ts'

const machine = new Machine({ release: '6.12', memory: '64M' })
const app = machine.spawn('app', { limits: { memlock: '64k' } })
const verbs = openDevice(app, (kernel) => new UverbsDevice(kernel))

function register(start: number, length: number, access: number): number | null {
  try {
    return verbs.call('ibv_reg_mr', (device) => device.regMr({ start, length, access }))
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error
    const { rule, why, needed, used, limit, budget } = error.reason!
    const sum = needed === undefined ? '' : ` (${budget}: needs ${needed}, used ${used}, limit ${limit})`
    console.log(`${error.code}: ${why}${sum} (${rule})`)
    return null
  }
}

const buffer = app.mmap({ length: '128k' })
register(buffer + 100, 65536, IB_ACCESS_LOCAL_WRITE) // 17 pages: it does not begin with one
const region = register(buffer, 65536, IB_ACCESS_LOCAL_WRITE)!
console.log(`64 KiB that begin with a page: region ${region}, VmPin ${app.mm!.pinnedVm} pages`)

app.setLimit('memlock', '1M')
const text = app.mmap({ length: '8k', prot: 'r' })
register(text, 8192, IB_ACCESS_LOCAL_WRITE)
console.log(`read-only memory, only to be read: region ${register(text, 8192, IB_ACCESS_REMOTE_READ)}`)

const bytes = (word: string): Uint8Array => new TextEncoder().encode(word)
const seen = (process: typeof app): string => String.fromCharCode(...process.load(buffer, 5))
const child = app.fork()
verbs.device.write(region, 0, bytes('fresh'))
console.log(
  `the device writes after fork: the parent sees "${seen(app)}", the child ${child.load(buffer, 1)[0]}`,
)
app.madvise(buffer, 4096, MADV_DONTNEED)
verbs.device.write(region, 0, bytes('stale'))
console.log(
  `and after MADV_DONTNEED: the parent sees ${app.load(buffer, 1)[0]}, the pins are ${machine.pins()[0]!.pins}`,
)

child.exit()
app.exit()
console.log(`pins after exit: ${machine.pins().length}, audit: ${machine.audit().length} findings`)
