/**
 * vhost-vdpa answers EFAULT whatever is wrong; the reason says what it is. VDUSE takes all bounce buffers at once,
 * and neither lets CAP_IPC_LOCK lift the limit.
 *
 *     npx tsx examples/vdpa-errors.ts
 */
import { Machine, SyscallError, rootRefusal } from '../src/index.ts'
import { VduseDev, VhostVdpa, openDevice } from '../src/devices.ts'

const machine = new Machine({ release: '6.12', memory: '64M' })
const app = machine.spawn('vmm', { limits: { memlock: '64k' }, capabilities: ['CAP_IPC_LOCK'] })

function attempt(what: string, request: () => number): void {
  try {
    console.log(`${what}: ${request()}`)
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error
    const root = rootRefusal(error.reason!)
    console.log(`${what}: ${error.code}, because ${root.why} (${root.rule})`)
  }
}

const memory = app.mmap({ length: '128k' })
const vdpa = openDevice(app, (kernel) => new VhostVdpa(kernel))
const update = (uaddr: number, size: number, iova: number) => (): number =>
  vdpa.call('write', (device) => device.write({ type: 'update', iova, size, uaddr, perm: 3 }))
attempt('before VHOST_SET_OWNER', update(memory, 65536, 0))
vdpa.call('VHOST_SET_OWNER', (device) => device.setOwner())
attempt('128 KiB of 64', update(memory, 131072, 0))
attempt('64 KiB', update(memory, 65536, 0))
attempt('over it', update(memory, 4096, 4096))
attempt('where nothing is mapped', update(0x1000, 4096, 0x100000))
console.log(`VmPin ${app.mm!.pinnedVm} pages`)
vdpa.close()

const vduse = openDevice(app, (kernel) => new VduseDev(kernel, { bounceSize: 1024 * 1024 }))
const bounce = app.mmap({ length: '1M' })
const register = (size: number) => (): number =>
  vduse.call('VDUSE_IOTLB_REG_UMEM', (device) => device.regUmem({ uaddr: bounce, iova: 0, size }))
attempt('VDUSE, half of the bounce buffers', register(524288))
attempt('VDUSE, all of them', register(1048576))
app.setLimit('memlock', '2M')
attempt('VDUSE, with a higher limit', register(1048576))
vduse.device.bounceIn(0, new TextEncoder().encode('virtio'))
console.log(`the driver sends, the program sees "${String.fromCharCode(...app.load(bounce, 6))}"`)
app.exit()
console.log(`audit: ${machine.audit().length} findings`)
