/**
 * Callers that take plain references, or none for long: what changes a mapping takes the pages away from radeon and
 * the GRU, so nothing goes stale, and nothing is charged. SGX copies.
 *
 *     npx tsx examples/references-only.ts
 */
import { MADV_DONTNEED, Machine } from '../src/index.ts'
import { GruContext, RadeonDevice, SgxEnclave, openDevice, secinfoOf } from '../src/devices.ts'

const machine = new Machine({ memory: '64M' })
const app = machine.spawn('app', { limits: { memlock: 0 } })
const memory = app.mmap({ length: '16k' })
const word = (text: string): Uint8Array => new TextEncoder().encode(text)
const shown = (bytes: Uint8Array): string => String.fromCharCode(...bytes)

const radeon = openDevice(app, (kernel) => new RadeonDevice(kernel))
const userptr = { addr: memory, size: 16384, flags: 14 } // ANONONLY, VALIDATE, REGISTER
const object = radeon.call('GEM_USERPTR', (device) => device.gemUserptr(userptr))
radeon.device.write(object, 0, word('drawn'))
console.log(`the chip writes, the program sees "${shown(app.load(memory, 5))}"`)
app.madvise(memory, '16k', MADV_DONTNEED)
console.log(`after MADV_DONTNEED the chip has a page: ${radeon.device.read(object, 0, new Uint8Array(5))}`)
app.store(memory, word('again'))
radeon.call('CS', (device) => device.commandStream(object))
const bytes = new Uint8Array(5)
radeon.device.read(object, 0, bytes)
console.log(`after the next command stream it reads "${shown(bytes)}"`)

const gru = openDevice(app, (kernel) => new GruContext(kernel))
console.log(`GRU, a TLB miss: ${app.run(gru.device.tlbMiss(memory, true))}`)
app.mprotect(memory, '16k', 'r')
console.log(`after mprotect its entry is there: ${gru.device.read(memory, bytes)}`)
console.log(`a miss for writing: ${app.run(gru.device.tlbMiss(memory, true))}`)

const sgx = openDevice(app, (kernel) => new SgxEnclave(kernel))
sgx.call('CREATE', (device) => device.create(65536))
const pages = { src: memory, offset: 0, length: 16384, secinfo: secinfoOf('reg', 1), count: 0 }
sgx.call('ADD_PAGES', (device) => device.addPages(pages))
console.log(`SGX took ${pages.count} bytes, the first are "${shown(sgx.device.pageAt(0)!.subarray(0, 5))}"`)

console.log(`pins: ${machine.kernel.pinAcquired}, VmPin ${app.mm!.pinnedVm}, VmLck ${app.mm!.lockedVm}`)
app.exit()
console.log(`audit: ${machine.audit().length} findings`)
