/** Where whole numbers come from: fast-check's generator. */
export interface Dice {
  /** low … high, both included */
  nextInt(low: number, high: number): number
}

/** What steps are made up with. */
export class Random {
  readonly #dice: Dice

  constructor(dice: Dice) {
    this.#dice = dice
  }

  /** 0 … n - 1 */
  below(n: number): number {
    return this.#dice.nextInt(0, n - 1)
  }

  /** low … high, both included */
  between(low: number, high: number): number {
    return this.#dice.nextInt(low, high)
  }

  /** Whether something that happens in `percent` of all cases happens. */
  chance(percent: number): boolean {
    return this.below(100) < percent
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!
  }

  /** One of the keys, as often as its weight says. The object must not change. */
  weighted<T extends string>(weights: Partial<Record<T, number>>): T {
    const { entries, total } = tableOf(weights)
    let at = this.below(total)
    for (const [key, weight] of entries) {
      if (at < weight) return key as T
      at -= weight
    }
    throw new RangeError('no weights')
  }
}

interface Table {
  readonly entries: readonly (readonly [key: string, weight: number])[]
  readonly total: number
}

const tables = new WeakMap<object, Table>()

function tableOf(weights: Partial<Record<string, number>>): Table {
  let table = tables.get(weights)
  if (table === undefined) {
    const entries = Object.entries(weights) as [string, number][]
    table = { entries, total: entries.reduce((sum, [, weight]) => sum + weight, 0) }
    tables.set(weights, table)
  }
  return table
}
