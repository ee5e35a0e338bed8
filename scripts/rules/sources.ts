import { readFileSync, readdirSync } from 'node:fs'
import ts from 'typescript'

/** What one TypeScript file says about rules. */
export type SourceFacts = {
  file: string
  /** Ids after `@rule` in comments, with an item suffix where one is given (`R-GUP-16.7`). */
  tags: string[]
  /** The line of each tag, counted from 1. */
  tagLines: number[]
  /** Every string literal and fixed template part, except in skipped tests. */
  strings: string[]
  /** Strings that are a rule id and nothing else, except where the code says `new Unmodelled(…)`. */
  reasons: string[]
}

const tag = /@rule\s+(R-[\w.-]+(?:\s*,\s*R-[\w.-]+)*)/g

/** Facts of every .ts file under `directory` (relative to `root`), sorted by path. */
export function readSources(root: string, directory: string): SourceFacts[] {
  return readdirSync(`${root}/${directory}`, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts') && !name.endsWith('.generated.ts'))
    .map((name) => `${directory}/${name}`)
    .sort()
    .map((file) => sourceFacts(file, readFileSync(`${root}/${file}`, 'utf8')))
}

/** Facts of one file given as text. */
export function sourceFacts(file: string, text: string): SourceFacts {
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true)
  const strings: string[] = []
  const reasons: string[] = []
  const collect = (node: ts.Node, modelled: boolean): void => {
    if (isSkippedTest(node)) return
    if (ts.isStringLiteralLike(node) || ts.isTemplateHead(node) || ts.isTemplateMiddleOrTemplateTail(node)) {
      strings.push(node.text)
      if (modelled && /^R-[A-Z][A-Z0-9]*-\d+(\.\w+)?$/.test(node.text)) reasons.push(node.text)
    }
    const inside = modelled && !(ts.isNewExpression(node) && node.expression.getText() === 'Unmodelled')
    ts.forEachChild(node, (child) => collect(child, inside))
  }
  collect(source, true)
  const tags = tagsOf(text)
  return {
    file,
    tags: tags.map(({ id }) => id),
    tagLines: tags.map(({ line }) => line),
    strings,
    reasons,
  }
}

function tagsOf(text: string): { id: string; line: number }[] {
  const lineStarts = [0, ...[...text.matchAll(/\n/g)].map(({ index }) => index + 1)]
  const lineAt = (offset: number): number => lineStarts.findLastIndex((start) => start <= offset) + 1
  const comments = [...text.matchAll(/\/\*[\s\S]*?\*\/|\/\/.*$/gm)]
  return comments.flatMap((comment) =>
    [...comment[0].matchAll(tag)].flatMap((match) =>
      match[1]!.split(',').map((id) => ({
        id: id.trim().replace(/[.-]+$/, ''),
        line: lineAt(comment.index + match.index),
      })),
    ),
  )
}

/** A test that never runs covers nothing; one under `skipIf` may run and counts. */
function isSkippedTest(node: ts.Node): boolean {
  return ts.isCallExpression(node) && /\.(skip|todo)\b(?!If)/.test(calleeText(node.expression))
}

function calleeText(expression: ts.Expression): string {
  if (ts.isPropertyAccessExpression(expression))
    return `${calleeText(expression.expression)}.${expression.name.text}`
  if (ts.isCallExpression(expression)) return calleeText(expression.expression)
  return ts.isIdentifier(expression) ? expression.text : ''
}
