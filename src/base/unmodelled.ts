/**
 * Thrown where the kernel's behaviour is not modelled. The engine never guesses: it stops here and
 * says which rule it would have needed. Every place that throws it has a row in `docs/limits.md`.
 */
export class Unmodelled extends Error {
  readonly rule: string

  /**
   * @param what what was met, in one clause
   * @param rule the rule of `docs/spec/` that describes (or excludes) it
   */
  constructor(what: string, rule: string) {
    super(`Unmodelled: ${what} (${rule})`)
    this.name = 'Unmodelled'
    this.rule = rule
  }
}
