import { expect } from 'vitest'
import type { Kthread } from '../../src/base/kthread.ts'
import type { KernelOptions } from '../../src/mm/kernel.ts'
import {
  createUserfaultfd,
  uffdRegister,
  type UffdMessage,
  type Userfaultfd,
  type UserfaultfdOptions,
} from '../../src/mm/userfaultfd.ts'
import { result } from '../support/kernel.ts'
import { World } from './fault-support.ts'

export const MISSING = 1
export const WP = 2
export const MINOR = 4

/** A world with a userfaultfd on its address space. */
export class WatchedWorld extends World {
  readonly uffd: Userfaultfd

  constructor(options: KernelOptions = {}, uffd: UserfaultfdOptions = {}) {
    super(options)
    this.uffd = createUserfaultfd(this.k, { mm: this.mm, ...uffd })
  }

  register(at: number, length: number, mode: number, uffd = this.uffd): number | string {
    return result(this.task.run(uffdRegister(this.k, uffd, this.mm, at, length, mode)))
  }

  /** Runs a request about the userfaultfd; errors by name. */
  ask(body: Kthread<number>): number | string {
    return result(this.task.run(body))
  }

  /**
   * Runs something that sleeps until its events have been answered.
   * @param answer is called with each message, and what it does lets the sleeper go on
   * @returns the result and the messages
   */
  served<T>(
    body: Kthread<T>,
    answer: (message: UffdMessage) => void,
    uffd = this.uffd,
  ): { result: T; messages: UffdMessage[] } {
    const task = this.k.scheduler.spawn('sleeper', this.task, body)
    const messages: UffdMessage[] = []
    while (!this.k.scheduler.runUntilIdle() && !task.done) {
      expect(this.mm.mmapLock.locked).toBe(false)
      const message = uffd.read()
      if (message === null) throw new Error('something sleeps and there is no message')
      messages.push(message)
      answer(message)
    }
    return { result: task.result!, messages }
  }
}

/** What a page fault's message says. */
export function fault(flags: number, address: number): UffdMessage {
  return { event: 'pagefault', flags, address }
}
