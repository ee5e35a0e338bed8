import { tableCells } from './spec.ts'
import type { SpecRule } from './spec.ts'

const longest = 200

/**
 * One plain sentence for a rule, at most 200 characters. `item` picks a numbered row or item inside the
 * rule (`7` of `R-GUP-16.7`); undefined is returned when the rule has no such item.
 */
export function ruleSentence(rule: SpecRule, item?: string): string | undefined {
  if (item === undefined) return firstSentence(prose(rule.text))
  const text = itemText(rule.text, item)
  return text === undefined ? undefined : firstSentence(text)
}

/** The opening paragraph of a rule; a mere heading ("FOLL_SAME_FILE [v3]:") is joined with its first item. */
function prose(text: string): string {
  const lines: string[] = []
  for (const line of text.split('\n')) {
    const item = /^\s*(?:- |\d+\. |\(\w\) )(.*)$/.exec(line)
    const opening = lines.join(' ')
    if (item && (opening.length < 40 || (opening.endsWith(':') && opening.length < 60)))
      return `${opening} ${item[1]}`
    if (item || /^\s*(\||```)/.test(line) || line.trim() === '') {
      if (opening !== '') break
    } else lines.push(line.trim())
  }
  return lines.join(' ')
}

function itemText(text: string, item: string): string | undefined {
  for (const line of text.split('\n')) {
    const cells = tableCells(line)
    if (cells && cells[0] === item)
      return cells
        .slice(1, 3)
        .filter((cell) => cell !== '')
        .join(' → ')
    const listed = /^\s*(?:- )?(?:(\w+)\.|\((\w+)\)) (.*)$/.exec(line)
    if (listed && (listed[1] ?? listed[2]) === item) return listed[3]!
  }
  const inline = new RegExp(
    `\\(${item}\\) ([\\s\\S]*?)(?=[;.] \\(\\w\\) |, \\(\\w\\) |\\(\\w\\) |\\n\\n|$)`,
  ).exec(text)
  return inline?.[1]?.replace(/[;,\s]+$/, '').replaceAll('\n', ' ')
}

function firstSentence(markdown: string): string {
  const text = plain(withoutEvidence(markdown))
  // A rule may consist of nothing but what was seen.
  return cut(text.length >= 20 ? text : plain(markdown.replace(/✓(?:all|\d\.\d+(?:\/\d\.\d+)*)?/g, '')))
}

/** Up to the end of the first sentence of at least 30 characters, and at most `longest`. */
function cut(text: string): string {
  // A sentence ends before a capital, a digit, an opening bracket or the end, and not after "e.g.".
  const ends = [...text.matchAll(/(?<!\b(?:e\.g|i\.e|cf|vs|no|incl|resp|etc))\.(?= +[A-Z0-9([]|$)/g)].map(
    (match) => match.index + 1,
  )
  const end = ends.find((index) => index >= 30) ?? ends.at(-1) ?? text.length
  const sentence = text.slice(0, end).replace(/[\s:;,]+$/, '')
  const closed = /[.!?]$/.test(sentence) ? sentence : `${sentence}.`
  if (closed.length <= longest) return closed
  return `${closed.slice(0, longest - 1).replace(/[\s,;:(]+\S*$/, '')}…`
}

/** Removes how a rule was verified: "✓6.18 *(what was done)*", "(✓all unless noted)", bare marks. */
function withoutEvidence(markdown: string): string {
  return markdown
    .replace(/\s*✓(?:all|\d\.\d+(?:\/\d\.\d+)*)?\s*\*\([\s\S]*?\)\*/g, '')
    .replace(/\s*\(✓[^()]*\)/g, '')
    .replace(/\s*✓(?:all|\d\.\d+(?:\/\d\.\d+)*)?/g, '')
    .replace(/\*\([\s\S]*?\)\*/g, '')
}

/** Markdown removed; a release tag that opens the text goes, one inside a sentence keeps its words. */
function plain(markdown: string): string {
  return markdown
    .replaceAll('\\|', '|')
    .replace(/`([^`]*)`/g, '$1')
    .replace(/\*\*([^*]*)\*\*/g, '$1')
    .replace(/(?<![\w*])\*(?=\S)([^*]*)\*(?![\w*])/g, '$1')
    .replace(/^\s*(?:\[(?:v3|[≤≥]?\d\.\d+[^\]]*)\][,…]?\s*)+(?::\s*|(?=[A-Z_a-z(]))/, '')
    .replace(/\](?=\[)/g, '], ')
    .replace(/\[(v3|[≤≥]?\d\.\d+[^\]]*)\]/g, '$1')
    .replace(/\s+/g, ' ')
    .replace(/ (?=[.,;:](?:\s|$))/g, '')
    .replace(/(?<!\.)\.\s*[.:](?=\s|$)/g, '.')
    .trim()
}
