import { afterEach, expect } from 'vitest'
import type { Refusal } from '../../src/base/refusal.ts'
import { errnoName } from '../../src/base/errno.ts'
import type { Kthread } from '../../src/base/kthread.ts'
import { audit } from '../../src/mm/audit.ts'
import {
  Kernel,
  type Capability,
  type CurrentTask,
  type KernelOptions,
  type RlimitName,
} from '../../src/mm/kernel.ts'
import { Mm } from '../../src/mm/mm.ts'

const kernels: Kernel[] = []

/** A kernel whose books are checked when the test ends, whatever the test looked at. */
export function testKernel(options: KernelOptions = {}): Kernel {
  const kernel = new Kernel({ checkStaleVmas: true, ...options })
  kernels.push(kernel)
  return kernel
}

afterEach(() => {
  for (const kernel of kernels.splice(0)) expect(audit(kernel), 'kernel.audit()').toEqual([])
})

export interface TestTaskOptions {
  comm?: string
  uid?: number
  limits?: Partial<Record<RlimitName, number>>
  capabilities?: Capability[]
  mm?: Mm | null
}

/** A task with an address space of its own and no capability unless given some. */
export class TestTask implements CurrentTask {
  readonly comm: string
  readonly pid: number
  readonly uid: number
  mm: Mm | null
  refusal: Refusal | null = null
  signalPending = false
  fatalSignalPending = false
  memallocPin = false
  personality = 0
  readonly kernel: Kernel
  readonly limits: Partial<Record<RlimitName, number>>
  readonly capabilities: Set<Capability>

  constructor(kernel: Kernel, options: TestTaskOptions) {
    this.kernel = kernel
    this.comm = options.comm ?? 'app'
    this.pid = kernel.nextId()
    this.uid = options.uid ?? 1000
    this.limits = { ...options.limits }
    this.capabilities = new Set(options.capabilities)
    this.mm = options.mm === undefined ? new Mm(kernel, this.comm) : options.mm
  }

  rlimit(name: RlimitName): number {
    return this.limits[name] ?? (name === 'stack' ? 8 * 1024 * 1024 : Infinity)
  }

  capable(capability: Capability): boolean {
    return this.capabilities.has(capability)
  }

  /** Runs kernel code as this task. */
  run<T>(body: Kthread<T>): T {
    return this.kernel.run(this, body)
  }

  /** The address space; tests that use it have one. */
  get space(): Mm {
    if (this.mm === null) throw new Error('this task has no mm')
    return this.mm
  }
}

export function testTask(kernel: Kernel, options: TestTaskOptions = {}): TestTask {
  return new TestTask(kernel, options)
}

/** `-14` → `'-EFAULT'`, counts unchanged: makes expectations read like the specification. */
export function result(value: number): number | string {
  return value < 0 ? `-${errnoName(value)}` : value
}

/** A machine made by the test itself; its kernel is audited like the others. */
export function watchMachine<T extends { readonly kernel: Kernel }>(machine: T): T {
  kernels.push(machine.kernel)
  return machine
}
