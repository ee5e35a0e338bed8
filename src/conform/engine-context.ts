import type { Kthread } from '../base/kthread.ts'
import { PAGE_SIZE } from '../base/units.ts'
import type { Capability, Kernel } from '../mm/kernel.ts'
import type { AccessResult } from '../mm/user-access.ts'
import type { EngineProcess } from './engine-process.ts'
import type { Completion, Outcome } from './observation.ts'
import type { Arena } from './range.ts'

/** What a step came to, before the observation. */
export interface Done {
  readonly outcome: Outcome
  readonly sum?: number
  readonly completions?: readonly Completion[]
}

/** It worked, and there is nothing to tell. */
export const OK: Done = { outcome: { kind: 'value', value: 0 } }
/** What it is about was never made. */
export const DANGLING: Done = { outcome: { kind: 'dangling' } }

/** A count. */
export function value(n: number): Done {
  return { outcome: { kind: 'value', value: n } }
}

/** An access that ended in a signal, `done` bytes after the start. */
export function signal(result: AccessResult & { ok: false }, at: number, done: number): Done {
  return { outcome: { kind: 'signal', signal: result.signal, code: result.code, at, done } }
}

/** What steps work on when they run on the engine. */
export interface EngineContext {
  readonly k: Kernel
  readonly arena: Arena
  /** RLIMIT_MEMLOCK at the start, bytes */
  readonly memlock: number
  readonly processes: Map<number, EngineProcess>
  /** Frames get new ids from here on. */
  forgetFrames(): void
  /** what a program of this user starts with */
  readonly capabilities: ReadonlySet<Capability>
}

/** The address of a place in the arena. */
export function addressOf({ arena }: EngineContext, at: number): number {
  return arena.start + at
}

/** What a system call returned: a negative errno or a count. */
export function counted(result: number): Done {
  return result < 0 ? { outcome: { kind: 'errno', errno: -result } } : value(result)
}

/** A system call as the process makes it. */
export function call(engine: EngineContext, self: EngineProcess, body: Kthread<number>): Done {
  return answer(engine, self.run(body))
}

/** What a system call returned: a negative errno, a count, or an address. */
export function answer({ arena: { start, pages } }: EngineContext, result: number): Done {
  if (result < 0) return { outcome: { kind: 'errno', errno: -result } }
  if (result < PAGE_SIZE * 16) return value(result)
  const inside = result >= start && result < start + pages * PAGE_SIZE
  return inside ? value(result - start) : { outcome: { kind: 'outside' } }
}
