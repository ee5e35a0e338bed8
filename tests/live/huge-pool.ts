/** The hugetlb pool of the machine, enlarged for as long as a test needs it. */
import { readFileSync, writeFileSync } from 'node:fs'
import { type Server, createServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

const POOL = '/proc/sys/vm/nr_hugepages'
/** An abstract socket: whoever listens owns the pool, and the kernel forgets it when its owner dies. */
const LOCK = '\0pinscope-tests-hugetlb-pool'

async function lockPool(): Promise<Server> {
  for (;;) {
    const server = createServer()
    const failure = await new Promise<NodeJS.ErrnoException | undefined>((resolve) => {
      server.once('error', resolve)
      server.listen({ path: LOCK }, () => resolve(undefined))
    })
    if (failure === undefined) return server.unref()
    if (failure.code !== 'EADDRINUSE') throw failure
    await sleep(20)
  }
}

/**
 * Adds `pages` huge pages of 2 MiB to the pool; without root or without hugetlb nothing happens. Test files take
 * turns, because some kinds are about an empty pool.
 *
 * @returns gives the pool its size back; so do the end of the process and the usual signals.
 */
export async function raiseHugePool(pages: number): Promise<() => void> {
  if (process.getuid?.() !== 0) return () => {}
  const lock = await lockPool()
  let before: string
  try {
    before = readFileSync(POOL, 'utf8').trim()
    writeFileSync(POOL, String(Number(before) + pages))
  } catch {
    return () => lock.close()
  }
  const signals: NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP']
  const restore = (): void => {
    process.off('exit', restore)
    for (const signal of signals) process.off(signal, onSignal)
    writeFileSync(POOL, before)
    lock.close()
  }
  const onSignal = (signal: NodeJS.Signals): void => {
    restore()
    process.kill(process.pid, signal)
  }
  process.on('exit', restore)
  for (const signal of signals) process.on(signal, onSignal)
  return restore
}

/** Kinds that need the huge page pool: it is the whole machine's, so one start may get pages and the next none. */
export function usesHugePool(kind: string): boolean {
  return kind.includes('hugetlb')
}
