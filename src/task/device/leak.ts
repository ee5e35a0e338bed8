import type { Kernel, PageHolder, PinCharge } from '../../mm/kernel.ts'

/** What a defect of a driver leaves behind for good: pins nobody will release, charges nobody takes back. */
export interface Leak {
  /** pinned frames */
  readonly pfns?: Int32Array
  readonly charge?: PinCharge
}

/**
 * Declares what a driver's defect has leaked, so that the books say whose it is.
 * @param what with the rule that describes the defect
 */
export function leak(k: Kernel, what: string, { pfns, charge }: Leak): void {
  const holder: PageHolder = {
    name: `leaked: ${what}`,
    forEachReference(visit) {
      if (pfns !== undefined) for (const pfn of pfns) visit(pfn, 0, 1)
    },
    charges: () => (charge === undefined ? [] : [charge]),
  }
  k.holders.add(holder)
}
