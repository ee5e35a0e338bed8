/** Plain text in columns. Widths count characters; colour comes afterwards. */

/** Breaks at blanks, keeping several in a row; a word longer than the width gets a line of its own. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = []
  let line = ''
  for (const [, blanks, word] of text.matchAll(/( *)([^ ]+)/g)) {
    if (line !== '' && line.length + blanks!.length + word!.length > width) {
      lines.push(line)
      line = word!
    } else line += blanks! + word!
  }
  return [...lines, line]
}

/** Narrower than this a last column is not wrapped any more. */
const NARROWEST_COLUMN = 20

/** Rows of equal columns, two blanks apart; the last column wraps and hangs. */
export function table(rows: readonly (readonly string[])[], indent: number, width: number): string[][] {
  const columns = Math.max(0, ...rows.map((row) => row.length - 1))
  const widths = Array.from({ length: columns }, (_, i) =>
    Math.max(...rows.map((row) => row[i]?.length ?? 0)),
  )
  return rows.map((row) => {
    const head = ' '.repeat(indent) + widths.map((cell, i) => `${(row[i] ?? '').padEnd(cell)}  `).join('')
    const lines = wrap(row[columns] ?? '', Math.max(NARROWEST_COLUMN, width - head.length))
    return lines.map((line, i) => `${i === 0 ? head : ' '.repeat(head.length)}${line}`.trimEnd())
  })
}
