import type { Colors, Terminal } from './terminal.ts'
import { wrap } from './text-layout.ts'

/** Columns before the text of a labelled line. */
export const INDENT = 12

type Style = (line: string) => string

const asIs: Style = (line) => line

/** Collects lines of the form `  label     text`. */
export class LabelledText {
  readonly colors: Colors
  readonly width: number
  readonly #lines: string[] = []

  constructor({ colors, width }: Terminal) {
    this.colors = colors
    this.width = width
  }

  /** A line as it is. */
  line(text: string): void {
    this.#lines.push(text)
  }

  /** An empty line, unless there is one already. */
  gap(): void {
    if (this.#lines.at(-1) !== '') this.line('')
  }

  /** A labelled line, wrapped under its text. */
  field(label: string, text: string, style = asIs): void {
    this.#put(label, wrap(text, this.width - INDENT), style)
  }

  /** Texts under one label, with bullets where there are several. */
  items(label: string, texts: readonly string[]): void {
    const bullet = texts.length > 1 ? '- ' : ''
    for (const [i, text] of texts.entries()) {
      const lines = wrap(text, this.width - INDENT - bullet.length)
      this.#put(
        i === 0 ? label : '',
        lines.map((line, n) => (n === 0 ? bullet : ' '.repeat(bullet.length)) + line),
        asIs,
      )
    }
  }

  /** All of it, ending in one newline. */
  text(): string {
    return `${this.#lines.join('\n').trimEnd()}\n`
  }

  #put(label: string, lines: readonly string[], style: Style): void {
    const prefix = `  ${label}`.padEnd(INDENT)
    for (const [i, line] of lines.entries()) {
      this.line((i === 0 && label !== '' ? this.colors.cyan(prefix) : ' '.repeat(INDENT)) + style(line))
    }
  }
}
