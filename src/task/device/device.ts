import type { Kthread, Wait } from '../../base/kthread.ts'
import { AddressSpace, OpenFile, UNMAPPABLE, type FileKind } from '../../mm/file.ts'
import type { Kernel, PageHolder, PinCharge } from '../../mm/kernel.ts'

/**
 * What an open device file leads to: it issues GUP calls for whoever has it open, and holds what it pinned
 * until it lets go or is released.
 *
 * Pins belong to the device, not to the process: they survive exec, and the exit of the process that made them
 * while another one holds the file.
 * No device is handed a VMA, before the series or after it: only an argument that was NULL has gone (R-DRV-15).
 * Pinned pages are copied for the child at fork; what is merely referenced is not (R-DRV-12).
 * @rule R-DRV-11
 * @rule R-DRV-12
 * @rule R-DRV-13
 * @rule R-DRV-14
 * @rule R-DRV-19
 */
export abstract class Device implements PageHolder {
  readonly kernel: Kernel
  readonly name: string
  /** one reference, the opener's: install it in a descriptor table, or `put()` it */
  readonly file: DeviceFile

  constructor(k: Kernel, path: string, kind: FileKind = { ...UNMAPPABLE, name: path }) {
    this.kernel = k
    this.name = `${path} of ${k.current.comm}`
    this.file = new DeviceFile(k, path, kind, this)
    k.holders.add(this)
  }

  abstract forEachReference(visit: (pfn: number, references: number, pins: number) => void): void

  charges(): readonly PinCharge[] {
    return []
  }

  /** The last reference to the file is gone: everything is given back. */
  protected abstract teardown(): Kthread<void>

  /** @internal the file calls it */
  release(): void {
    runDetached(this.kernel, `release of ${this.name}`, this.#release())
  }

  *#release(): Kthread<void> {
    yield* this.teardown()
    this.kernel.holders.delete(this)
  }
}

/** The file of a device. When its last reference goes, the device is torn down. */
export class DeviceFile extends OpenFile {
  readonly device: Device

  constructor(k: Kernel, path: string, kind: FileKind, device: Device) {
    const mapping = new AddressSpace(k.nextId(), kind, 0)
    super(mapping, path, { readable: true, writable: true }, () => device.release())
    this.device = device
  }
}

/**
 * Work of the kernel's own that a caller which cannot sleep sets off: done at once as far as nothing makes it
 * wait (the lock of a page that is being read, say), the rest by a thread of its own.
 */
export function runDetached(k: Kernel, name: string, body: Kthread<void>): void {
  const first = body.next()
  if (first.done !== true) k.scheduler.spawn(name, k.current, goOn(first.value, body))
}

function* goOn(wait: Wait, body: Kthread<void>): Kthread<void> {
  yield wait
  yield* body
}
