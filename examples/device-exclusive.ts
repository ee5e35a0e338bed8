/**
 * A device with atomic operations takes pages away from the processor and counts in them. It holds no pin: the
 * processor takes a page back by touching it, and whatever changes the mapping tells the device first.
 *
 *     npx tsx examples/device-exclusive.ts
 */
import { MADV_DONTNEED, Machine, SyscallError, rootRefusal } from '../src/index.ts'
import { HmmMirror, openDevice } from '../src/devices.ts'

const machine = new Machine({ release: '6.12', memory: '64M' })
const app = machine.spawn('app')
const gpu = openDevice(app, (kernel) => new HmmMirror(kernel))
const counter = app.mmap({ length: '16k' })
const add = (value: number): number => gpu.call('atomic add', (device) => device.fetchAdd(counter, value))
const owned = (): string => (gpu.device.has(counter) ? 'the device' : 'the processor')

app.store(counter, new Uint8Array([5]))
console.log(`the program stores 5, the device adds 10 to ${add(10)}, the page is with ${owned()}`)
console.log(`RssAnon ${app.mm!.rssAnon} pages, pins ${machine.pins().length}`)
console.log(`the program reads ${app.load(counter, 1)[0]}, the page is with ${owned()}`)

const taken = gpu.call('exclusive', (device) => device.exclusive(counter, 16384))
console.log(`the device takes ${taken} pages`)
const child = app.fork('child')
console.log(`after fork the page is with ${owned()}`)
console.log(
  `the device adds 1 to ${add(1)}; the parent reads ${app.load(counter, 1)[0]}, the child ${child.load(counter, 1)[0]}`,
)
child.exit()

gpu.call('exclusive', (device) => device.exclusive(counter, 4096, { hold: true }))
try {
  app.fork('second')
} catch (error) {
  if (!(error instanceof SyscallError)) throw error
  console.log(`fork while the device holds the page: ${error.code}, ${rootRefusal(error.reason!).why}`)
}
gpu.device.letGo()

app.madvise(counter, 4096, MADV_DONTNEED)
console.log(`after MADV_DONTNEED the page is with ${owned()}, the program reads ${app.load(counter, 1)[0]}`)
app.mprotect(counter, 4096, 'r')
try {
  add(1)
} catch (error) {
  if (!(error instanceof SyscallError)) throw error
  console.log(
    `read-only memory: ${error.code}, ${rootRefusal(error.reason!).why} (${rootRefusal(error.reason!).rule})`,
  )
}
app.exit()
console.log(`audit: ${machine.audit().length} findings`)
