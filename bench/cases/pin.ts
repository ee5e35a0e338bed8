import { FOLL_LONGTERM, FOLL_WRITE } from '../../src/mm/gup-flags.ts'
import { PageArray, pinUserPagesFast } from '../../src/mm/gup.ts'
import { unpinUserPages } from '../../src/mm/unpin.ts'
import type { BenchCase } from '../case.ts'
import { nanoseconds, resident, type Resident } from '../machine.ts'
import { nativePin } from '../native.ts'

const MEBIBYTES = 512
const REPEATS = 5

let machine: Resident | null = null

export const cases: BenchCase[] = [
  {
    name: 'pin + unpin, 512 MiB resident, random frames',
    unit: 'ns/page',
    limit: 0.25,
    native: () => nativePin(MEBIBYTES),
    async engine() {
      machine ??= resident(MEBIBYTES * 2 ** 20, true, '1G')
      const { process, address, pages } = machine
      const { kernel } = process
      const array = new PageArray(pages)
      const time = nanoseconds(() => {
        for (let i = 0; i < REPEATS; i++) {
          const pinned = process.run(
            pinUserPagesFast(kernel, address, pages, FOLL_WRITE | FOLL_LONGTERM, array),
          )
          if (pinned !== pages) throw new Error(`pinned ${pinned} of ${pages}`)
          unpinUserPages(kernel, array, pages)
        }
      })
      return time / (REPEATS * pages)
    },
  },
]
