import { describe, expect, it } from 'vitest'
import { Completion, PREEMPT, type Kthread } from '../../src/base/kthread.ts'
import { Mutex, RwSemaphore } from '../../src/base/locks.ts'
import { DeadlockError, Scheduler } from '../../src/base/scheduler.ts'

function machine(): { scheduler: Scheduler<string>; log: string[] } {
  return { scheduler: new Scheduler<string>('idle'), log: [] }
}

describe('scheduler', () => {
  it('runs a task until it blocks, then the next in FIFO order', () => {
    const { scheduler, log } = machine()
    const door = new Completion('door')
    function* waiter(name: string): Kthread<void> {
      log.push(`${name} waits`)
      yield* door.wait()
      log.push(`${name} passes`)
    }
    function* opener(): Kthread<void> {
      log.push('opens')
      door.complete()
      yield PREEMPT
      log.push('leaves')
    }
    scheduler.spawn('a', 'a', waiter('a'))
    scheduler.spawn('b', 'b', waiter('b'))
    scheduler.spawn('c', 'c', opener())
    scheduler.run()
    expect(log).toEqual(['a waits', 'b waits', 'opens', 'a passes', 'b passes', 'leaves'])
  })

  it('makes `current` the context of the task that executes, also across a sleep', () => {
    const { scheduler, log } = machine()
    const door = new Completion('door')
    function* body(): Kthread<string> {
      log.push(scheduler.current)
      yield* door.wait()
      log.push(scheduler.current)
      return scheduler.current
    }
    function* opener(): Kthread<void> {
      log.push(scheduler.current)
      door.complete()
    }
    scheduler.spawn('helper', 'helper context', opener())
    expect(scheduler.call('caller', 'caller context', body())).toBe('caller context')
    expect(log).toEqual(['caller context', 'helper context', 'caller context'])
    expect(scheduler.current).toBe('idle')
  })

  it('reports a deadlock by waiter, what it waits for and who holds it', () => {
    const { scheduler } = machine()
    const a = new Mutex('A', scheduler)
    const b = new Mutex('B', scheduler)
    function* take(first: Mutex, second: Mutex): Kthread<void> {
      yield* first.lock()
      yield PREEMPT
      yield* second.lock()
    }
    scheduler.spawn('one', 'one', take(a, b))
    scheduler.spawn('two', 'two', take(b, a))
    expect(() => scheduler.run()).toThrow(DeadlockError)
    try {
      scheduler.run()
    } catch (error) {
      expect((error as DeadlockError).message).toBe(
        'deadlock: one waits for B, held by two; two waits for A, held by one',
      )
    }
  })

  it('a thrown error of a spawned task ends the run, a called one reaches its caller', () => {
    const { scheduler } = machine()
    function* bad(): Kthread<void> {
      yield PREEMPT
      throw new Error('bad')
    }
    scheduler.spawn('bad', 'bad', bad())
    expect(() => scheduler.run()).toThrow('bad')
    expect(() => scheduler.call('bad', 'bad', bad())).toThrow('bad')
  })
})

describe('reader/writer semaphore', () => {
  it('a waiting writer keeps new readers out and gets the lock before them', () => {
    const { scheduler, log } = machine()
    const lock = new RwSemaphore('L', scheduler)
    const gate = new Completion('gate')
    function* reader(name: string, hold: boolean): Kthread<void> {
      if (!lock.tryRead()) {
        do yield lock.readWait('none')
        while (!lock.tryReadAfterWait())
      }
      log.push(`${name} in`)
      if (hold) yield* gate.wait()
      lock.releaseRead()
    }
    function* writer(): Kthread<void> {
      while (!lock.tryWrite()) yield lock.writeWait('none')
      log.push('writer in')
      lock.releaseWrite()
    }
    function* opener(): Kthread<void> {
      gate.complete()
    }
    scheduler.spawn('r1', 'r1', reader('r1', true))
    scheduler.spawn('w', 'w', writer())
    scheduler.spawn('r2', 'r2', reader('r2', false))
    scheduler.spawn('o', 'o', opener())
    scheduler.run()
    expect(log).toEqual(['r1 in', 'writer in', 'r2 in'])
    expect(lock.locked).toBe(false)
  })

  it('downgrades without letting a writer in between', () => {
    const { scheduler } = machine()
    const lock = new RwSemaphore('L', scheduler)
    expect(lock.tryWrite()).toBe(true)
    lock.downgrade()
    expect(lock.tryWrite()).toBe(false)
    expect(lock.tryRead()).toBe(true)
    lock.releaseRead()
    lock.releaseRead()
    expect(lock.tryWrite()).toBe(true)
    lock.releaseWrite()
    expect(() => lock.releaseWrite()).toThrow('nobody writes')
  })
})
