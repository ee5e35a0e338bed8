import * as pageFlags from '../memory/page-flags.ts'
import type { Kernel } from './kernel.ts'

/** PG_* names in bit order, as a dump prints them. */
const names = Object.entries(pageFlags)
  .filter(([name, bit]) => name.startsWith('PG_') && name !== 'PG_PERMANENT' && typeof bit === 'number')
  .map(([name, bit]) => [name.slice(3).toLowerCase().replaceAll('_', ''), bit as number] as const)
  .sort(([, a], [, b]) => a - b)

const zones = ['Normal', 'Movable', 'CMA'] as const

/**
 * `dump_page`: what the frame of a page holds, in lines for the kernel log.
 * @param reason why it is dumped
 */
export function dumpPage(k: Kernel, pfn: number, reason: string): string[] {
  const { frames } = k.memory
  const head = frames.head(pfn)
  const large = frames.isLarge(head)
  const index = frames.index[head]!.toString(16)
  const lines = [
    `page: refcount:${frames.refcount[head]} mapcount:${frames.pageMapcount(pfn)} mapping:${frames.mapping[head]} index:0x${index} pfn:0x${pfn.toString(16)}`,
  ]
  if (large) {
    const order = frames.order(head)
    lines.push(
      `head: order:${order} entire_mapcount:${frames.entireMapcount(head)} total_mapcount:${frames.totalMapcount(head)} pincount:${frames.pincount(head)}`,
    )
  }
  const set = names.filter(([, bit]) => frames.has(head, bit)).map(([name]) => name)
  lines.push(`flags: ${set.join('|') || 'none'} zone:${zones[frames.zone(head)]}`)
  lines.push(`page dumped because: ${reason}`)
  return lines
}
