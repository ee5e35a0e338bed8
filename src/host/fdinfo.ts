/** /proc/PID/fdinfo/N of io_uring fds (R-FD-2..4). */

export interface UserBuffer {
  readonly index: number
  /** exactly the registered iovec, not rounded to pages */
  readonly address: number
  /** bytes */
  readonly length: number
}

export interface IoUringFdinfo {
  readonly inode: number
  /** the ring was locked: its buffers are unknown, which is not "none" */
  readonly busy: boolean
  /** slots by index; null = empty */
  readonly buffers: (UserBuffer | null)[]
}

/** Address newer kernels never print and older ones print for a slot that holds nothing. */
const DUMMY_ADDRESS = '0xffffffffffffffff'

/**
 * Parses the fdinfo of an io_uring fd.
 *
 * Busy means that the kernel could not take the ring's lock: newer kernels then print nothing after the common
 * head, older ones the counters and `UserBufs:` with a count but without the slots.
 *
 * @rule R-FD-3
 * @rule R-FD-4
 * @rule R-URING-86
 * @rule R-URING-88
 */
export function parseIoUringFdinfo(text: string): IoUringFdinfo {
  const lines = text.split('\n')
  let inode = 0
  let hasRing = false
  let declared = -1
  const buffers: (UserBuffer | null)[] = []
  let inSlots = false
  let slotLines = 0
  for (const line of lines) {
    if (inSlots) {
      const slot = /^\s*(\d+): (<none>|0x[0-9a-f]+(?:\/\d+)?)$/.exec(line)
      if (slot !== null) {
        slotLines++
        const index = Number(slot[1])
        while (buffers.length < index) buffers.push(null)
        buffers[index] = userBuffer(index, slot[2]!)
        continue
      }
      inSlots = false
    }
    const colon = line.indexOf(':')
    if (colon < 0) continue
    const key = line.slice(0, colon)
    if (key === 'ino') inode = Number(line.slice(colon + 1).trim())
    else if (key === 'SqMask') hasRing = true
    else if (key === 'UserBufs') {
      declared = Number(line.slice(colon + 1).trim())
      inSlots = true
    }
  }
  const busy = !hasRing || declared < 0 || (declared > 0 && slotLines === 0)
  if (!busy) while (buffers.length < declared) buffers.push(null)
  return { inode, busy, buffers: busy ? [] : buffers }
}

function userBuffer(index: number, text: string): UserBuffer | null {
  const [address, length] = text.split('/')
  if (address === '<none>' || address === DUMMY_ADDRESS || length === undefined) return null
  return { index, address: parseInt(address!, 16), length: Number(length) }
}
