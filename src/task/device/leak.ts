import type { Kernel, PageHolder, PinCharge } from '../../mm/kernel.ts'

/** What a defect of a driver leaves behind for good: pins nobody will release, charges nobody takes back. */
export interface Leak {
  /** pinned frames */
  readonly pfns?: Int32Array
  readonly charge?: PinCharge
}

class LeakHolder implements PageHolder {
  readonly name: string
  readonly what: string
  readonly #leak: Leak

  constructor(what: string, leaked: Leak) {
    this.name = `leaked: ${what}`
    this.what = what
    this.#leak = leaked
  }

  forEachReference(visit: (pfn: number, references: number, pins: number) => void): void {
    for (const pfn of this.#leak.pfns ?? []) visit(pfn, 0, 1)
  }

  charges(): readonly PinCharge[] {
    const { charge } = this.#leak
    return charge === undefined ? [] : [charge]
  }
}

/**
 * Declares what a driver's defect has leaked, so that the books say whose it is.
 * @param what with the rule that describes the defect
 */
export function leak(k: Kernel, what: string, leaked: Leak): void {
  k.holders.add(new LeakHolder(what, leaked))
}

/** What defects of drivers have leaked so far, each with the rule that describes the defect. */
export function leaks(k: Kernel): string[] {
  return [...k.holders].flatMap((holder) => (holder instanceof LeakHolder ? [holder.what] : []))
}
