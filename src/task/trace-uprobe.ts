import { EBUSY, EEXIST, EINVAL, ENOENT } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { Unmodelled } from '../base/unmodelled.ts'
import type { OpenFile } from '../mm/file.ts'
import type { CurrentTask, Kernel } from '../mm/kernel.ts'
import { uprobeRegister, uprobeUnregister } from './uprobe-register.ts'
import { logUprobe, type Uprobe, type UprobeConsumer } from './uprobe-table.ts'

/** One place of an event; an event that is defined again gets another one. */
interface Probe {
  readonly file: OpenFile
  readonly offset: number
  readonly refCtrOffset: number
  /** set while the event is enabled */
  uprobe: Uprobe | null
}

/** A line of the trace: which task reached a place of an event. */
export interface UprobeHit {
  readonly group: string
  readonly event: string
  readonly pid: number
  readonly address: number
}

/** Files by the path a probe names: what is open under it, null for nothing. */
export type PathLookup = (path: string) => OpenFile | null

interface Definition {
  readonly group: string
  readonly event: string
  readonly path: string
  readonly offset: number
  readonly refCtrOffset: number
}

/** An event of tracefs: /sys/kernel/tracing/events/GROUP/EVENT. */
class TraceUprobe {
  readonly group: string
  readonly event: string
  readonly probes: Probe[] = []
  enabled = false
  readonly consumer: UprobeConsumer

  constructor(group: string, event: string, hit: (hit: UprobeHit) => void) {
    this.group = group
    this.event = event
    this.consumer = {
      handler: ({ pid }: CurrentTask, address) => hit({ group, event, pid, address }),
    }
  }
}

/**
 * What /sys/kernel/tracing/uprobe_events of a kernel holds, and the trace of what was hit.
 * @rule R-UPR-2
 */
export class UprobeEvents {
  readonly #k: Kernel
  readonly #events: TraceUprobe[] = []
  /** oldest first */
  readonly trace: UprobeHit[] = []

  constructor(k: Kernel) {
    this.#k = k
  }

  /**
   * write(2) of one line to uprobe_events: `p:GROUP/EVENT PATH:OFFSET(REF_CTR_OFFSET)` or `-:GROUP/EVENT`.
   * @returns 0, -ENOENT, -EINVAL, -EEXIST, -EBUSY
   * @throws Unmodelled for return probes and arguments
   */
  write(line: string, lookup: PathLookup): number {
    const command = line.trim()
    if (command === '' || command.startsWith('#')) return 0
    return command.startsWith('-') ? this.#delete(command) : this.#create(command, lookup)
  }

  /** The lines that reading uprobe_events gives. */
  lines(): string[] {
    return this.#events.flatMap(({ group, event, probes }) =>
      probes.map(({ file, offset, refCtrOffset }) => {
        const counter = refCtrOffset === 0 ? '' : `(0x${refCtrOffset.toString(16)})`
        return `p:${group}/${event} ${file.path}:0x${offset.toString(16).padStart(16, '0')}${counter}`
      }),
    )
  }

  /**
   * write(2) of 1 or 0 to events/GROUP/EVENT/enable.
   * @returns 0, -ENOENT, or what `uprobeRegister` says
   */
  *enable(group: string, name: string, on: boolean): Kthread<number> {
    const event = this.#find(group, name)
    if (event === null) return this.#refuse(ENOENT, 'there is no such event')
    if (event.enabled === on) return 0
    if (!on) {
      yield* this.#unregister(event)
      event.enabled = false
      return 0
    }
    event.enabled = true
    for (const probe of event.probes) {
      const { file, offset, refCtrOffset } = probe
      const uprobe = yield* uprobeRegister(this.#k, file, offset, refCtrOffset, event.consumer)
      if (typeof uprobe === 'number') {
        const { refusal } = this.#k.current
        yield* this.#unregister(event)
        event.enabled = false
        this.#k.current.refusal = refusal
        return uprobe
      }
      probe.uprobe = uprobe
    }
    return 0
  }

  *#unregister(event: TraceUprobe): Kthread<void> {
    for (const probe of event.probes) {
      if (probe.uprobe !== null) yield* uprobeUnregister(this.#k, probe.uprobe, event.consumer)
      probe.uprobe = null
    }
  }

  #create(command: string, lookup: PathLookup): number {
    const definition = parse(command)
    if (definition === null) return this.#refuse(EINVAL, 'the definition cannot be understood')
    const { group, event: name, path, offset, refCtrOffset } = definition
    const file = lookup(path)
    if (file === null) return this.#refuse(ENOENT, 'there is no such file')
    const { readWrite } = file.mapping.kind
    if (readWrite !== 'page-cache' && readWrite !== 'hugetlb')
      return this.#refuse(EINVAL, 'the file is not a regular one')
    const there = this.#events.flatMap(({ probes }) => probes).filter((probe) => isAt(probe, file, offset))
    const known = this.#find(group, name)
    if (known?.probes.some((probe) => isAt(probe, file, offset)) === true)
      return this.#refuse(EEXIST, 'the event has the place already')
    if (there.some((probe) => probe.refCtrOffset !== refCtrOffset)) {
      logUprobe(this.#k, 'Reference counter offset mismatch.')
      return this.#refuse(EINVAL, 'another event counts the place elsewhere')
    }
    // a place that is added to an enabled event waits for the next time
    const event = known ?? new TraceUprobe(group, name, (hit) => this.trace.push(hit))
    event.probes.push({ file: file.get(), offset, refCtrOffset, uprobe: null })
    if (known === null) this.#events.push(event)
    return 0
  }

  #delete(command: string): number {
    const match = /^-:(?:(\w+)\/)?(\w+)$/.exec(command)
    if (match === null) return this.#refuse(EINVAL, 'the name cannot be understood')
    const named = this.#events.filter(
      ({ group, event }) => event === match[2] && (match[1] === undefined || group === match[1]),
    )
    if (named.length === 0) return this.#refuse(ENOENT, 'there is no such event')
    if (named.some(({ enabled }) => enabled)) return this.#refuse(EBUSY, 'the event is enabled')
    for (const event of named) {
      for (const { file } of event.probes) file.put()
      this.#events.splice(this.#events.indexOf(event), 1)
    }
    return 0
  }

  #find(group: string, name: string): TraceUprobe | null {
    return this.#events.find((event) => event.group === group && event.event === name) ?? null
  }

  #refuse(errno: number, why: string): number {
    return refuse(this.#k.current, errno, 'R-UPR-2', { why })
  }
}

function isAt(probe: Probe, file: OpenFile, offset: number): boolean {
  return probe.file.mapping === file.mapping && probe.offset === offset
}

const NAME = '[A-Za-z_]\\w*'
const NUMBER = '0[xX][0-9a-fA-F]+|[0-9]+'
const DEFINITION = new RegExp(
  `^([pr])(?::(?:(${NAME})/)?(${NAME})?)?\\s+(\\S+):(${NUMBER})(%return)?(?:\\((${NUMBER})\\))?(\\s.*)?$`,
)

/** @returns null when it cannot be understood */
function parse(command: string): Definition | null {
  const match = DEFINITION.exec(command)
  if (match === null || /^[pr]:\s/.test(command)) return null
  const [, kind, group = 'uprobes', name, path, offset, isReturn, refCtrOffset = '0', fetchArgs] = match
  if (kind === 'r' || isReturn !== undefined) throw new Unmodelled('return probes', 'R-UPR-2')
  if (fetchArgs !== undefined) throw new Unmodelled('arguments of probes', 'R-UPR-2')
  const place = Number(offset)
  // the part of the file's name before the first of these characters
  const base = /[^/]*$/.exec(path!)![0].split(/[._-]/)[0]!
  return {
    group,
    event: name ?? `p_${base}_0x${place.toString(16)}`,
    path: path!,
    offset: place,
    refCtrOffset: Number(refCtrOffset),
  }
}
