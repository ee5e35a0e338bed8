import {
  IB_ACCESS_LOCAL_WRITE,
  IB_ACCESS_REMOTE_READ,
  IB_ACCESS_REMOTE_WRITE,
} from '../drivers/infiniband/access.ts'
import { UverbsDevice } from '../drivers/infiniband/uverbs.ts'
import { PAGE_SIZE } from '../base/units.ts'
import type { Snapshot } from '../host/snapshot.ts'
import { MADV_DONTFORK } from '../mm/mman.ts'
import { madvise } from '../mm/madvise.ts'
import { untried } from './device-requests.ts'
import { mappingsOf } from './mappings.ts'
import {
  allOrNothing,
  type Charges,
  type Request,
  type RequestOptions,
  type RequestRange,
} from './request.ts'

const PINNED_VM: Charges = { budget: 'mm->pinned_vm', liftedBy: 'CAP_IPC_LOCK' }

const ofTheCore = 'the RDMA driver leaves pinning to the core (ib_umem_get), as mlx4, mlx5 and rxe do'

const ofTheKernel =
  'the errno is that of the system call: libraries on top of it may show another one, strace and dmesg this one'

/**
 * ibv_reg_mr(3). With `ibv_fork_init` the range gets MADV_DONTFORK first, page by page or huge page by huge page.
 * @rule R-UMEM-10
 */
export const regMr: Request = {
  name: 'rdma:reg-mr',
  charges: PINNED_VM,
  takes: ['access', 'iova', 'forkSafe', 'hugepagesSafe'],
  longest: Infinity,
  notes: (snapshot, release, range, options) => [
    ...forkNotes(snapshot, range, options),
    ...foreignNotes(snapshot, range),
    ofTheCore,
    ofTheKernel,
    ...untried(release),
  ],
  *run(restored, range, { access, iova, forkSafe, hugepagesSafe }) {
    const { kernel, mm } = restored
    const { start, length } = range
    if (forkSafe || hugepagesSafe) {
      const { first, end } = advised(restored.snapshot, range, hugepagesSafe)
      const result = yield* madvise(kernel, mm, first, end - first, MADV_DONTFORK)
      if (result < 0) return allOrNothing(restored, range, result)
    }
    const device = new UverbsDevice(kernel)
    const flags =
      access === 'write'
        ? IB_ACCESS_LOCAL_WRITE | IB_ACCESS_REMOTE_READ | IB_ACCESS_REMOTE_WRITE
        : IB_ACCESS_REMOTE_READ
    const result = yield* device.regMr({ start, length, access: flags, hcaVa: iova ?? start })
    return allOrNothing(restored, range, result)
  },
}

/**
 * What the library advises: whole pages, or with RDMAV_HUGEPAGES_SAFE whole pages of the size that smaps names.
 * @rule R-UMEM-10
 */
function advised(
  snapshot: Snapshot,
  range: RequestRange,
  hugepagesSafe: boolean,
): { first: number; end: number } {
  const size = hugepagesSafe
    ? Math.max(...mappingsOf(snapshot, range).map((m) => m.pageSize), PAGE_SIZE)
    : PAGE_SIZE
  const first = Math.floor(range.start / size) * size
  return { first, end: Math.ceil((range.start + range.length) / size) * size }
}

/** What MADV_DONTFORK takes away from a child besides the region, and when it is too late for ibv_fork_init(3). */
function forkNotes(
  snapshot: Snapshot,
  range: RequestRange,
  { forkSafe, hugepagesSafe }: RequestOptions,
): string[] {
  if (!forkSafe && !hugepagesSafe) return []
  const { first, end } = advised(snapshot, range, hugepagesSafe)
  const [before, after] = [range.start - first, end - range.start - range.length]
  const notes: string[] = []
  if (before + after > 0)
    notes.push(
      `MADV_DONTFORK takes whole pages: the ${before} bytes before the region and the ${after} after it are missing in a child, which gets SIGSEGV there; regions of whole pages have no neighbours`,
    )
  const pinned = snapshot.process.memory?.pinned ?? 0
  if (pinned > 0)
    notes.push(
      `ibv_fork_init(3) was called before anything was registered; now that ${pinned / PAGE_SIZE} pages are pinned (VmPin) it would be EINVAL`,
    )
  return notes
}

/** Addresses that lead to no memory of the processor's. */
function foreignNotes(snapshot: Snapshot, range: RequestRange): string[] {
  const [first] = mappingsOf(snapshot, range)
  const mapped = first !== undefined && first.start <= range.start
  if (mapped && first.backing.kind !== 'driver') return []
  return [
    'an address of a GPU or of another device is no memory that can be pinned: such memory is registered through the peer-memory module of its driver, or as a dma-buf (ibv_reg_dmabuf_mr)',
  ]
}

/**
 * ibv_create_cq(3), and queue pairs and shared receive queues alike: the range is the buffer that the library
 * allocated for it, which is pinned like a region.
 * @rule R-UMEM-1
 */
export const createCq: Request = {
  name: 'rdma:create-cq',
  charges: PINNED_VM,
  takes: [],
  longest: Infinity,
  notes: (_snapshot, release) => [ofTheCore, ofTheKernel, ...untried(release)],
  *run(restored, range) {
    const device = new UverbsDevice(restored.kernel)
    return allOrNothing(restored, range, yield* device.createQueue(range.start, range.length))
  },
}
