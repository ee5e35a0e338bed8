import { readFileSync, readdirSync } from 'node:fs'
import ts from 'typescript'

/** What one TypeScript file says about rules. */
export type SourceFacts = {
  file: string
  /** Ids after `@rule` in comments, with an item suffix where one is given (`R-GUP-16.7`). */
  tags: string[]
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
  return { file, tags: tagsOf(text), strings, reasons }
}

function tagsOf(text: string): string[] {
  const comments = [...text.matchAll(/\/\*[\s\S]*?\*\/|\/\/.*$/gm)].map((comment) => comment[0])
  return comments.flatMap((comment) =>
    [...comment.matchAll(tag)].flatMap((match) =>
      match[1]!.split(',').map((id) => id.trim().replace(/[.-]+$/, '')),
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
