import type { Commands, ScriptState } from './agent-commands.ts'
import type { Done, EngineContext } from './engine-context.ts'
import type { EngineProcess } from './engine-process.ts'
import type { Generation, Shadow } from './generation.ts'
import type { Range } from './range.ts'
import type { World, WorldProcess } from './world.ts'

/** A step with the number of the process that takes it. */
export type By<Body> = { readonly by: number } & Body

/**
 * Everything about one kind of step, in one place: how it is made up, how people read it, what it needs to
 * exist, and how it is carried out on a real kernel and on the engine.
 */
export interface StepKind<Body> {
  /** Makes one up; null: there is nothing such a step could be about. */
  readonly make: (generation: Generation, process: Shadow) => Body | null
  /** `mmap @3 2 pages rw- PRIVATE|ANONYMOUS` */
  readonly text: (step: Body) => string
  /** What the agent is told. */
  readonly commands: (step: By<Body>, script: ScriptState) => Commands
  /** Agent commands that are not part of the step but must follow it, before anything is observed. */
  readonly settle?: (step: By<Body>, script: ScriptState) => readonly string[]
  /** The same on the engine. */
  readonly run: (engine: EngineContext, self: EngineProcess, step: By<Body>) => Done
  /** Whether what it names was made: an earlier call may have failed to. Absent: `run` says so. */
  readonly isMade?: (self: EngineProcess, step: By<Body>) => boolean
  /** Applies the step to what exists; false: something it names is not there. Absent: it names nothing. */
  readonly follow?: (world: World, self: WorldProcess, step: By<Body>) => boolean
  /** What it makes a name for, such as `file 3`; a name is used once in a program. */
  readonly creates?: (step: Body) => string
  /** Whether it is about a descriptor that an earlier failure may have left unmade. */
  readonly mayDangle?: (step: Body) => boolean
  /** What the kernel's answer means: an address in the arena, nothing (a descriptor, say), else a count. */
  readonly answer?: 'address' | 'nothing'
  /**
   * Whether it changes what belongs to the whole machine: the pin counters, the pool of huge pages, what ksmd
   * merges. Programs with such a step run one at a time, and only they are compared in the pin counters.
   */
  readonly machineWide?: (step: Body) => boolean
  /** A defect of the kernel may cost the machine something for good: whether it would is asked of the engine first. */
  readonly mayHarm?: true
  /** Lengths beyond user space are refused before anything is touched, so that they may occur. */
  readonly refusesTooLong?: true
  /**
   * Where it frees frames and takes new ones, so that it counts as two steps (docs/oracle-protocol.md, page ids);
   * 'anywhere': in other processes as well.
   */
  readonly replaces?: (step: Body) => Range | 'anywhere' | null
}

/** The kinds of a family of steps, by name. */
export type StepKinds<Body extends { readonly op: string }> = {
  readonly [Op in Body['op']]: StepKind<Extract<Body, { readonly op: Op }>>
}
