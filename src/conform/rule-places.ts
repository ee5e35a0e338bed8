import { readFileSync, readdirSync } from 'node:fs'
import { SourceMap } from 'node:module'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

/** A `@rule` tag of the built engine, and the code it stands beside. */
export interface RulePlace {
  /** `R-GUP-16.1` */
  readonly rule: string
  /** the built file, below `dist` or `src` */
  readonly file: string
  /** of the tag in it, characters */
  readonly tag: number
  /** of the code after the comment, characters */
  readonly code: number
}

/** What a function ran of itself, as the inspector tells it: the function first, then what lies in it. */
export interface FunctionCoverage {
  readonly ranges: readonly {
    readonly startOffset: number
    readonly endOffset: number
    readonly count: number
  }[]
}

/** The floors that are the engine (docs/how-it-works.md); what is above them runs programs and is not compared. */
const ENGINE = [
  'base',
  'memory',
  'mm',
  'ipc',
  'task',
  'io_uring',
  'drivers',
  'net',
  'virt',
  'arch',
  'security',
]

const COMMENT = /\/\*[\s\S]*?\*\/|\/\/.*$/gm
const TAG = /@rule\s+(R-[\w.-]+(?:\s*,\s*R-[\w.-]+)*)/g
/** What may stand in front of the place where a function begins for the inspector. */
const DECLARATION = /^(?:export |default |static |async |const [\w$]+ = )*$/
const CLASS = /^(?:export |default )*class /

/** Where the engine lies that is running. */
export const engineRoot = fileURLToPath(new URL('..', import.meta.url))

/** Every tag of the engine's files below `root`. */
export function enginePlaces(root = engineRoot): RulePlace[] {
  return readdirSync(root, { recursive: true, encoding: 'utf8' })
    .filter((file) => /\.[jt]s$/.test(file) && !file.endsWith('.d.ts'))
    .filter((file) => ENGINE.includes(file.split(path.sep, 1)[0]!))
    .sort()
    .flatMap((file) => placesIn(file, readFileSync(path.join(root, file), 'utf8')))
}

/** The tags of one file; those of constants are left out, for nothing runs there. */
export function placesIn(file: string, text: string): RulePlace[] {
  const places: RulePlace[] = []
  for (const comment of text.matchAll(COMMENT)) {
    for (const tag of comment[0].matchAll(TAG)) {
      const code = codeAfter(text, comment.index + comment[0].length)
      if (isConstant(text, code)) continue
      for (const id of tag[1]!.split(','))
        places.push({
          rule: id.trim().replace(/[.-]+$/, ''),
          file,
          tag: comment.index + tag.index,
          code,
        })
    }
  }
  return places
}

/** What is made when the file is loaded, and has no function in it. */
function isConstant(text: string, code: number): boolean {
  const block = text.slice(code, endOfBlock(text, code))
  return text[code - 1] === '\n' && /^(?:export )?const /.test(block) && !/=>|function|\) \{/.test(block)
}

/** The first character that is neither blank nor part of a comment. */
function codeAfter(text: string, end: number): number {
  const rest = /(?:\s|\/\*[\s\S]*?\*\/|\/\/.*$)*/my
  rest.lastIndex = end
  rest.test(text)
  return rest.lastIndex
}

/**
 * Whether the code a tag stands beside was run: of a function, that it was called; of a class or a table, that
 * any function in it was; of a statement, that it was come to.
 * @param functions all of the file
 */
export function isReached(
  { code }: RulePlace,
  text: string,
  functions: readonly FunctionCoverage[],
): boolean {
  const whole = functions.map(({ ranges }) => ranges[0]!)
  const after = whole.filter(({ startOffset }) => startOffset >= code)
  const [declared] = after
    .filter(({ startOffset }) => DECLARATION.test(text.slice(code, startOffset)))
    .sort((a, b) => a.startOffset - b.startOffset)
  // V8 shows a class as its constructor
  if (declared !== undefined && !CLASS.test(text.slice(code))) return declared.count > 0
  const [inside] = functions
    .flatMap(({ ranges }) => ranges)
    .filter(({ startOffset, endOffset }) => startOffset <= code && code < endOffset)
    .sort((a, b) => a.endOffset - a.startOffset - (b.endOffset - b.startOffset))
  // the module itself is a function that begins with the file
  if (inside !== undefined && inside.startOffset > 0) return inside.count > 0
  const end = endOfBlock(text, code)
  return after.some(({ startOffset, count }) => startOffset < end && count > 0)
}

/** The end of what begins here, as it is laid out: the next line that is no deeper and closes it. */
function endOfBlock(text: string, start: number): number {
  const end = text.indexOf('\n', start)
  if (end < 0 || /[;}]$/.test(text.slice(start, end))) return end < 0 ? text.length : end
  const closing = text.indexOf('\n}', start)
  return closing < 0 ? text.length : closing
}

/** `src/mm/gup.ts:33` of each place, where the build left a map; else the line of the built file. */
export function sourceLines(places: readonly RulePlace[], root = engineRoot): string[] {
  const files = new Map<string, (offset: number) => string>()
  return places.map(({ file, tag }) => {
    let where = files.get(file)
    if (where === undefined) files.set(file, (where = linesOf(path.join(root, file), root)))
    return where(tag)
  })
}

function linesOf(file: string, root: string): (offset: number) => string {
  const text = readFileSync(file, 'utf8')
  const lineAt = (offset: number): number => text.slice(0, offset).split('\n').length
  const up = path.join(root, '..')
  let map: SourceMap | null = null
  try {
    map = new SourceMap(
      JSON.parse(readFileSync(`${file}.map`, 'utf8')) as ConstructorParameters<typeof SourceMap>[0],
    )
  } catch {
    return (offset) => `${path.relative(up, file)}:${lineAt(offset)}`
  }
  return (offset) => {
    const line = lineAt(offset)
    const entry = map.findEntry(line - 1, offset - text.lastIndexOf('\n', offset - 1) - 1)
    return 'originalLine' in entry
      ? `${path.relative(up, path.resolve(path.dirname(file), entry.originalSource))}:${entry.originalLine + 1}`
      : `${path.relative(up, file)}:${line}`
  }
}
