import type { Kernel } from '../mm/kernel.ts'
import { unpinUserPages } from '../mm/unpin.ts'
import type { BufferTable, RegisteredBuffer } from './buffer.ts'
import type { IoUring } from './io-uring.ts'
import { unaccountBuffer } from './memlock.ts'

/**
 * `struct io_rsrc_node`: what a slot of the buffer table holds, a buffer and its tag. Other rings' nodes may
 * hold the same buffer (CLONE_BUFFERS); it goes with the last of them.
 */
export class RsrcNode {
  readonly ring: IoUring
  readonly buffer: RegisteredBuffer
  /** posted as a completion when the node goes; 0 posts nothing */
  tag: number
  /** the slot's own and one of each request that works on the buffer, where references are per slot */
  refs = 1

  constructor(ring: IoUring, buffer: RegisteredBuffer, tag: number) {
    this.ring = ring
    this.buffer = buffer
    this.tag = tag
    ring.nodes.add(this)
    buffer.nodes.add(this)
  }
}

/**
 * Until 6.12: the requests that began between two replacements of buffers, and the buffers that were replaced
 * at its end. These go when the requests of this and of every earlier generation are done.
 */
export class Generation {
  /** requests that use any fixed buffer */
  requests = 0
  readonly removed: RsrcNode[] = []
}

/** What a request keeps from going while it runs. @rule R-URING-58 */
export type BufferHold = RsrcNode | Generation

/** A request begins to work on a buffer. */
export function holdBuffer(k: Kernel, node: RsrcNode): BufferHold {
  if (k.release.ioUring.nodes === 'per-slot') {
    node.refs++
    return node
  }
  return holdGeneration(node.ring)
}

/** What is replaced from now on stays. */
export function holdGeneration(ring: IoUring): BufferHold {
  const current = ring.generations.at(-1)!
  current.requests++
  return current
}

/** The request is done: what was kept for it goes now or, on 6.1, soon. */
export function dropHold(k: Kernel, ring: IoUring, hold: BufferHold): void {
  if (hold instanceof RsrcNode) {
    putNode(k, hold)
    return
  }
  hold.requests--
  generationsMove(k, ring)
}

/**
 * A node has been taken out of its slot and replaced.
 * @rule R-URING-20
 */
export function removeNode(k: Kernel, node: RsrcNode): void {
  if (k.release.ioUring.nodes === 'per-slot') {
    putNode(k, node)
    return
  }
  const { ring } = node
  ring.generations.at(-1)!.removed.push(node)
  ring.generations.push(new Generation())
  generationsMove(k, ring)
}

/**
 * UNREGISTER, a failed registration, or the end of a ring: empties a table, highest slot first. Where
 * references are per slot, buffers that requests still work on stay until those are done.
 * @param postTags keep the tags: UNREGISTER on 6.18, nowhere else
 * @rule R-URING-53
 */
export function releaseTable(k: Kernel, table: BufferTable, postTags: boolean): void {
  for (let slot = table.length - 1; slot >= 0; slot--) {
    const node = table.take(slot)
    if (node === null) continue
    if (!postTags) node.tag = 0
    putNode(k, node)
  }
}

/**
 * Old generations whose requests are done go, in their order; where a work item lets go of what has gathered since
 * it last ran, the latest goes first.
 * @rule R-URING-20
 */
export function releaseGenerations(k: Kernel, ring: IoUring): void {
  const done: RsrcNode[] = []
  while (ring.generations.length > 1 && ring.generations[0]!.requests === 0)
    done.push(...ring.generations.shift()!.removed)
  if (k.release.ioUring.releasesReplacedLate) done.reverse()
  for (const node of done) putNode(k, node)
  if (ring.generations.length === 1) ring.quiesceQueue.wakeAll()
}

/** On 6.1 a work item does it, up to a second later; while somebody waits for it, at once. */
function generationsMove(k: Kernel, ring: IoUring): void {
  if (k.release.ioUring.releasesReplacedLate && !ring.quiescing)
    k.delayedWork.set(ring, () => releaseGenerations(k, ring))
  else releaseGenerations(k, ring)
}

function putNode(k: Kernel, node: RsrcNode): void {
  if (--node.refs > 0) return
  const { ring, buffer, tag } = node
  ring.nodes.delete(node)
  buffer.nodes.delete(node)
  if (buffer.nodes.size === 0) releaseBuffer(k, buffer)
  // @rule R-URING-52
  if (tag !== 0 && !ring.dying) ring.post(tag, 0)
}

/**
 * Gives back a buffer's pins and exactly what it charged, whichever ring comes last.
 * @rule R-URING-47
 * @rule R-URING-71
 */
function releaseBuffer(k: Kernel, buffer: RegisteredBuffer): void {
  unpinUserPages(k, buffer.segments.pages, buffer.segments.nrPins)
  unaccountBuffer(buffer.account, buffer.acctPages)
}
