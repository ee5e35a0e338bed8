import { PAGE_SIZE, PMD_SIZE } from '../../src/base/units.ts'
import { FOLL_LONGTERM, FOLL_WRITE } from '../../src/mm/gup-flags.ts'
import { PageArray, pinUserPagesFast } from '../../src/mm/gup.ts'
import { hugetlbPool } from '../../src/mm/hugetlb.ts'
import { madvise } from '../../src/mm/madvise.ts'
import {
  MADV_HUGEPAGE,
  MADV_POPULATE_WRITE,
  MAP_ANONYMOUS,
  MAP_HUGETLB,
  MAP_PRIVATE,
} from '../../src/mm/mman.ts'
import { unpinUserPages } from '../../src/mm/unpin.ts'
import { Machine } from '../../src/task/machine.ts'
import type { BenchCase } from '../case.ts'
import { nanoseconds, type Resident } from '../machine.ts'
import { nativePin } from '../native.ts'

const MEBIBYTES = 512
const BYTES = MEBIBYTES * 2 ** 20
const REPEATS = 50

const machines = new Map<string, Resident>()

function hugeMachine(kind: 'thp' | 'hugetlb'): Resident {
  const machine = new Machine({ release: '6.18', memory: '1G' })
  const process = machine.spawn('bench', { capabilities: ['CAP_IPC_LOCK'] })
  const { kernel } = machine
  if (kind === 'hugetlb') hugetlbPool(kernel).resize(BYTES / PMD_SIZE)
  const flags = MAP_PRIVATE | MAP_ANONYMOUS | (kind === 'hugetlb' ? MAP_HUGETLB : 0)
  const address = process.mmap({ length: BYTES, flags })
  if (kind === 'thp') process.run(madvise(kernel, process.mm!, address, BYTES, MADV_HUGEPAGE))
  const filled = process.run(madvise(kernel, process.mm!, address, BYTES, MADV_POPULATE_WRITE))
  if (filled !== 0) throw new Error(`MADV_POPULATE_WRITE: ${filled}`)
  return { machine, process, address, pages: BYTES / PAGE_SIZE }
}

function pinOf(kind: 'thp' | 'hugetlb'): BenchCase {
  return {
    name: `pin + unpin, 512 MiB of ${kind === 'thp' ? 'transparent huge pages' : 'hugetlb pages'}`,
    unit: 'ns/page',
    limit: 0.5,
    native: () => nativePin(MEBIBYTES, kind),
    async engine() {
      const made = machines.get(kind) ?? hugeMachine(kind)
      machines.set(kind, made)
      const { process, address, pages } = made
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
  }
}

export const cases: BenchCase[] = [pinOf('thp'), pinOf('hugetlb')]
