import type { ScriptState } from './agent-commands.ts'
import { stepKind, type Step } from './steps.ts'

/** The agent commands of one step. */
export interface StepLines {
  /** all of them, in order */
  readonly lines: readonly string[]
  /** index of the line whose reply is the step's result */
  readonly result: number
  /** index of the line whose `r` is a checksum of bytes read, -1 for none */
  readonly sum: number
  /** index of the line that shows each process, the acting one first */
  readonly views: readonly (readonly [process: number, line: number])[]
}

/** Turns the steps of one program into agent commands; keeps track of which processes there are. */
export class AgentScript {
  readonly #parents = new Map<number, number | null>([[0, null]])
  readonly #state: ScriptState

  /** @param releasesLate wait for replaced buffers to be released (R-URING-20) */
  constructor(releasesLate = false) {
    this.#state = { disks: new Map(), releasesLate, looseRings: false, sockets: false, pairs: new Map() }
  }

  lines(step: Step): StepLines {
    const kind = stepKind(step.op)
    const prefix = this.#path(step.by)
    const own = kind.commands(step, this.#state)
    const lines = [...own.lines, ...(kind.settle?.(step, this.#state) ?? [])].map((line) => prefix + line)
    // a command about what could not be made is not observed
    if (kind.mayDangle?.(step) === true) lines.push(`${prefix}nop`)
    if (step.op === 'fork') this.#parents.set(step.child, step.by)
    if (step.op === 'reap') this.#parents.delete(step.child)
    const views: [number, number][] = [[step.by, lines.length - 1]]
    for (const other of this.#parents.keys()) {
      if (other === step.by) continue
      views.push([other, lines.length])
      lines.push(`${this.#path(other)}look`)
    }
    return { lines, result: own.result, sum: own.sum, views }
  }

  #path(process: number): string {
    const parent = this.#parents.get(process) ?? null
    return parent === null ? '' : `${this.#path(parent)}child p${process} `
  }
}
