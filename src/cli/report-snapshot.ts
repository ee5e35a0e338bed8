import type { SnapshotSummary } from './job.ts'
import { LabelledText } from './labelled-text.ts'
import { printable, type Terminal } from './terminal.ts'
import { count, roughSize, unseenText } from './words.ts'

/** What was written and what is not in it. */
export function reportSnapshot(summary: SnapshotSummary, file: string, terminal: Terminal): string {
  const { pid, name, mappings, pages, racy, tries, unseen } = summary
  const out = new LabelledText(terminal)
  const size = roughSize(Buffer.byteLength(summary.text))
  out.line(`${out.colors.bold(printable(file))} (${size}): process ${pid} (${printable(name)})`)
  out.field('in detail', `${count(mappings, 'mapping')}, ${count(pages, 'page')} with something in them`)
  if (racy) {
    out.field(
      'racy',
      `its mappings changed during each of ${count(tries, 'try', 'tries')}: facts may not fit together`,
    )
  }
  for (const [i, fact] of unseen.entries()) {
    out.field(i === 0 ? 'not seen' : '', printable(unseenText(fact)), out.colors.dim)
  }
  return out.text()
}
