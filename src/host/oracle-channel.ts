import type { Readable, Writable } from 'node:stream'
import type { OracleReply } from './oracle-reply.ts'

interface Batch {
  lines: string[]
  replies: OracleReply[]
  resolve: (replies: OracleReply[]) => void
}

/** How the other end went away, for the reply of the command in flight (R-AG-13). */
export interface ChannelEnd {
  e: 'DIED' | 'HUNG'
  /** Wait status, where there is one. */
  status?: number
}

/**
 * Lines out, replies in, over any pair of streams: pipes to a child process or a virtual machine's serial line.
 *
 * Batches are answered in the order they were sent. When the other end is gone, the first line without a reply
 * gets `DIED` (or `HUNG`) and all later ones `NOT RUN` (R-AG-13); nothing is ever left waiting.
 */
export class OracleChannel {
  /** Called once when the other end owes a reply for longer than `timeout` ms. */
  onHang: (() => void) | null = null
  /** Replies received, and the ms in which at least one was owed. */
  readonly traffic = { replies: 0, busy: 0 }

  /** Fulfilled when an agent that is process 1 has said that it is up; one that is a child process never does. */
  readonly ready: Promise<void>

  readonly #to: Writable
  readonly #timeout: number
  readonly #batches: Batch[] = []
  #text = ''
  #ended: ChannelEnd | null = null
  #timer: NodeJS.Timeout | null = null
  #busySince = 0
  #noise: string[] = []
  #up: () => void = () => {}

  /** @param timeout ms without any reply while one is owed; 0 = wait for ever */
  constructor(to: Writable, from: Readable, timeout: number) {
    this.#to = to
    this.#timeout = timeout
    this.ready = new Promise((resolve) => {
      this.#up = resolve
    })
    from.setEncoding('latin1')
    from.on('data', (chunk: string) => this.#take(chunk))
    // The reader learns of the end from `end()`; an error of a stream is one form of it.
    from.on('error', () => {})
    to.on('error', () => {})
  }

  /** The other end is gone. */
  get ended(): boolean {
    return this.#ended !== null
  }

  /** What came in that is no reply: on a serial line, the kernel's messages; the last 200 lines. */
  get noise(): readonly string[] {
    return this.#noise
  }

  /**
   * Sends lines and waits for their replies, one for each line.
   *
   * @throws TypeError for a line that is empty or contains an end of line: it would have no reply of its own
   */
  send(lines: readonly string[]): Promise<OracleReply[]> {
    for (const line of lines)
      if (line.trim() === '' || /[\n\0]/.test(line))
        throw new TypeError(`not one line: ${JSON.stringify(line)}`)
    if (lines.length === 0) return Promise.resolve([])
    if (this.#ended) return Promise.resolve(lines.map(notRun))
    return new Promise((resolve) => {
      if (this.#batches.length === 0) this.#busySince = performance.now()
      this.#batches.push({ lines: [...lines], replies: [], resolve })
      this.#watch()
      this.#to.write(`${lines.join('\n')}\n`)
    })
  }

  /** The other end is gone: answers everything that is still open. */
  end(how: ChannelEnd): void {
    this.#finish(how, true)
  }

  #finish(how: ChannelEnd, first: boolean): void {
    if (this.#ended) return
    this.#ended = how
    if (this.#timer) clearTimeout(this.#timer)
    for (const { lines, replies, resolve } of this.#batches.splice(0)) {
      while (replies.length < lines.length) {
        // @rule R-AG-13
        replies.push(first ? { r: -1, ...how } : notRun())
        first = false
      }
      resolve(replies)
    }
  }

  #watch(): void {
    if (this.#timer) clearTimeout(this.#timer)
    this.#timer = null
    if (this.#timeout > 0 && this.#batches.length > 0)
      this.#timer = setTimeout(() => this.onHang?.(), this.#timeout)
  }

  #take(chunk: string): void {
    this.#text += chunk
    let at = 0
    for (;;) {
      const end = this.#text.indexOf('\n', at)
      if (end < 0) break
      this.#line(this.#text.slice(at, end))
      at = end + 1
    }
    this.#text = this.#text.slice(at)
    if (at > 0) this.#watch()
  }

  #line(line: string): void {
    // A message of the kernel may stand in front on a serial line.
    const start = line.indexOf('{"r":')
    const reply = start < 0 ? null : parse(line.slice(start))
    if (reply?.ready) {
      this.#up()
      return
    }
    const batch = this.#batches[0]
    if (!reply || !batch) {
      if (this.#noise.push(line) > 200) this.#noise.shift()
      return
    }
    this.traffic.replies++
    batch.replies.push(reply)
    if (reply.agent) {
      this.#finish({ e: 'DIED' }, false)
      return
    }
    if (batch.replies.length < batch.lines.length) return
    this.#batches.shift()
    if (this.#batches.length === 0) this.traffic.busy += performance.now() - this.#busySince
    batch.resolve(batch.replies)
  }
}

function notRun(): OracleReply {
  return { r: -1, e: 'NOT RUN' }
}

function parse(text: string): OracleReply | null {
  try {
    return JSON.parse(text) as OracleReply
  } catch {
    return null
  }
}
