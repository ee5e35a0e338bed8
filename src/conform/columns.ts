import { pageText } from './compare-pages.ts'
import { mappingText, outcomeText } from './compare.ts'
import { pageOfRun, type Observation } from './observation.ts'

/** One line of the two columns of a report. */
export interface Row {
  readonly kernel: string
  readonly engine: string
  readonly same: boolean
}

/** Both observations side by side; frame ids are each side's own and do not count as a difference. */
export function columns(kernel: Observation, engine: Observation | null): Row[] {
  const theirs = facts(kernel)
  const ours = engine === null ? new Map<string, string>() : facts(engine)
  const keys = [...new Set([...theirs.keys(), ...ours.keys()])]
  return keys.map((key) => {
    const k = theirs.get(key) ?? '—'
    const e = ours.get(key) ?? '—'
    return { kernel: `${key} ${k}`, engine: e, same: withoutIds(k) === withoutIds(e) }
  })
}

function withoutIds(text: string): string {
  return text.replaceAll(/#[1-9]\d*/g, '#')
}

function facts(observation: Observation): Map<string, string> {
  const lines = new Map<string, string>()
  const { outcome, sum, acquired, released, pool, processes } = observation
  lines.set('result', outcomeText(outcome))
  if (sum !== null) lines.set('sum', String(sum))
  if (acquired !== null) lines.set('pins', `+${acquired} -${released}`)
  if (pool !== null) lines.set('huge pages', `${pool.free} free, ${pool.reserved} reserved`)
  for (const view of processes) {
    const p = `p${view.process}`
    for (const mapping of view.maps) {
      const detail = `[${mapping.flags}] rss ${mapping.rss} anonymous ${mapping.anonymous}`
      lines.set(`${p} @${mapping.first}`, `${mappingText(mapping)} ${detail}`)
    }
    for (const run of view.pages) {
      for (let page = run.page; page < run.page + run.pages; page++)
        lines.set(`${p} page @${page}`, pageText(pageOfRun(run, page)))
    }
    lines.set(`${p} kB`, `VmSize ${view.size} VmLck ${view.locked} VmPin ${view.pinned}`)
    for (const [ring, table] of Object.entries(view.rings))
      lines.set(`${p} ring ${ring}`, JSON.stringify(table))
  }
  return lines
}
