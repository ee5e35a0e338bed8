/** What exists at a point of a program: processes and what they hold. */
export type World = Map<number, WorldProcess>

export interface WorldProcess {
  readonly parent: number | null
  readonly files: Set<number>
  readonly rings: Set<number>
  /** ends of pipes: `3r`, `3w` */
  readonly pipes: Set<string>
  readonly uffds: Set<number>
  /** userfaultfds it made itself: its own thread answers their events */
  readonly serves: Set<number>
  /** connected pairs of sockets; a child does not use its parent's */
  readonly pairs: Set<number>
  /** AF_XDP sockets */
  readonly xsks: Set<number>
  /** System V segments it has a name for */
  readonly segments: Set<number>
  /** its heap lies in the arena */
  heap: boolean
}

/** Before the first step: one process that holds nothing. */
export function newWorld(): World {
  return new Map([
    [
      0,
      {
        parent: null,
        files: new Set(),
        rings: new Set(),
        pipes: new Set(),
        uffds: new Set(),
        serves: new Set(),
        pairs: new Set(),
        xsks: new Set(),
        segments: new Set(),
        heap: false,
      },
    ],
  ])
}
