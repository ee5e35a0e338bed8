import { readFileSync, readdirSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { root } from '../ground/root.ts'
import { run } from './run.ts'

/** What each program of examples/ prints, line by line. */
const outputs: Record<string, string[]> = {
  'fixed-buffers': [
    'one buffer over               6.1         gup-v3      6.12',
    'one memfd, mapped twice       registered  registered  registered',
    'two memfds                    EINVAL      EFAULT      registered',
    'anonymous memory and a memfd  EINVAL      EFAULT      registered',
    'private mappings of two files EOPNOTSUPP  EFAULT      registered',
    'private mappings of one file  EOPNOTSUPP  EOPNOTSUPP  registered',
    '',
    'why not two memfds?',
    '- 6.1: page 2, the buffer continues into a mapping of another file (R-URING-25)',
    '- gup-v3: page 2, mapping of another file than the pages before it (FOLL_SAME_FILE) (R-GUP-16.6)',
    '',
    'fixed reads and writes of the first one, across its border:',
    'the program stores HELLO, the ring sends HELLO',
    'the ring receives there, the program sees there',
    'other memory is mapped in its place, the ring still sends there',
    'the ring receives ghost, the program sees ....., the ring sends ghost',
    '4 pages are pinned for it',
    'audit: 0 findings',
  ],
  'pin-for-dma': [
    'pinned 4 pages of anonymous memory',
    'pinForDma: 0',
    'the process reads "first"',
    'after fork the child reads "first", the device\'s page says "FIRST"',
    'after MADV_DONTNEED the process reads 0 0 0 0 0, the device\'s page says "later": a stale pin',
    'audit: 0 findings',
  ],
  'register-buffers': [
    '64 KiB: ok',
    'pinned: 16 pages',
    'pinned after munmap: 16 pages nobody can see',
    '128 KiB: ENOMEM',
    '  R-URING-42: RLIMIT_MEMLOCK leaves no room for the pages of this request (needs 32, used 0, limit 16)',
    '5 pages: EFAULT',
    '  R-URING-24: not every page of the buffer can be pinned, page 3',
    '  R-GUP-16.8: the mapping is not writable, page 3, in a mapping of 4 KiB (anonymous)',
    'audit: 0 findings',
    'a private mapping of an ext4 file:',
    '- on gup-v3: EOPNOTSUPP',
    '  R-URING-26: the mapping has a file that is neither shmem nor hugetlb, in a mapping of 8 KiB (ext4)',
    '- on 6.1: EOPNOTSUPP',
    '  R-URING-25: the mapping has a file that is neither shmem nor hugetlb, in a mapping of 8 KiB (ext4)',
    '- on 6.6: ok',
    '- on 6.12: ok',
    '- on 6.18: ok',
  ],
  'stale-vma': [
    'StaleVmaError: vma.backing touched after its mmap_lock guard was released',
    '  touched in:  backingOfBorrowed',
    '  released in: borrowVma',
    'copied under the lock: anonymous',
    'audit: 0 findings',
  ],
  probes: [
    'gup-v3:',
    '  before:   90 in memory, semaphore 0',
    '  enabled:  cc in memory, 90 in the file, semaphore 1',
    '  a second one in the page, there and gone: 2 copies of the page',
    '  the trace has hits of app,its child',
    '  the child drops its page: 90, semaphore still 1',
    '  disabled: 90 in memory, semaphore 0',
    '  beyond the file: EINVAL, because the place lies beyond the end of the file (R-UPR-4)',
    '  audit: 0 findings',
    '6.18:',
    '  before:   90 in memory, semaphore 0',
    '  enabled:  cc in memory, 90 in the file, semaphore 1',
    '  a second one in the page, there and gone: 0 copies of the page',
    '  the trace has hits of app,its child',
    '  the child drops its page: 90, semaphore still 1',
    '  disabled: 90 in memory, semaphore 0',
    '  beyond the file: EINVAL, because the place lies beyond the end of the file (R-UPR-4)',
    '  audit: 0 findings',
  ],
  'rdma-regions': [
    'ENOMEM: RLIMIT_MEMLOCK leaves no room for the pages of this request (mm->pinned_vm: needs 17, used 0, limit 16) (R-UMEM-3)',
    '64 KiB that begin with a page: region 1, VmPin 16 pages',
    'EFAULT: the mapping is not writable (R-GUP-16.8)',
    'read-only memory, only to be read: region 2',
    'the device writes after fork: the parent sees "fresh", the child 0',
    'and after MADV_DONTNEED: the parent sees 0, the pins are 18',
    'pins after exit: 0, audit: 0 findings',
  ],
  'references-only': [
    'the chip writes, the program sees "drawn"',
    'after MADV_DONTNEED the chip has a page: false',
    'after the next command stream it reads "again"',
    'GRU, a TLB miss: dropped-in',
    'after mprotect its entry is there: false',
    'a miss for writing: exception',
    'SGX took 16384 bytes, the first are "again"',
    'pins: 0, VmPin 0, VmLck 0',
    'audit: 0 findings',
  ],
  'vdpa-errors': [
    'before VHOST_SET_OWNER: EFAULT, because the device belongs to another address space (R-VHOST-2)',
    '128 KiB of 64: EFAULT, because RLIMIT_MEMLOCK leaves no room for the pages of this request (R-VHOST-2)',
    '64 KiB: 72',
    'over it: EFAULT, because the range overlaps one that is mapped (R-VHOST-2)',
    'where nothing is mapped: EFAULT, because RLIMIT_MEMLOCK leaves no room for the pages of this request (R-VHOST-2)',
    'VmPin 16 pages',
    'VDUSE, half of the bounce buffers: EINVAL, because the size must be that of the bounce buffers, 1048576 bytes (R-VDUSE-1)',
    'VDUSE, all of them: ENOMEM, because RLIMIT_MEMLOCK leaves no room for the pages of this request (R-VDUSE-1)',
    'VDUSE, with a higher limit: 0',
    'the driver sends, the program sees "virtio"',
    'audit: 0 findings',
  ],
  'vfio-and-iommufd': [
    'RLIMIT_MEMLOCK 16k:',
    '- VFIO, all of it: ENOMEM (R-VFIO-4)',
    '- VFIO, the good half: ENOMEM (R-VFIO-4)',
    '  VmLck 0, VmPin 0',
    '- iommufd without a device, all of it: ok',
    '- iommufd, a device is attached: EFAULT (R-GUP-15)',
    '- iommufd, the good half: ENOMEM (R-IOMMUFD-7)',
    '  VmLck 0, VmPin 0, uid 1000 0',
    '  audit: 0 findings',
    'RLIMIT_MEMLOCK 64k:',
    '- VFIO, all of it: EFAULT (R-GUP-15)',
    '- VFIO, the good half: ok',
    '  VmLck 8, VmPin 0',
    '- iommufd without a device, all of it: ok',
    '- iommufd, a device is attached: EFAULT (R-GUP-15)',
    '- iommufd, the good half: ok',
    '  VmLck 8, VmPin 8, uid 1000 8',
    '  audit: 0 findings',
  ],
  'xdp-packets': [
    '64 KiB of frames: ok, 16 pages charged to uid 1000',
    'other memory is mapped there, the frame says "first"',
    'closed, with its ring mapped: 16 pages charged',
    'the ring unmapped: 0',
    'half of it is a hole: ENOMEM ENOMEM ENOMEM ENOMEM ENOMEM ENOMEM',
    'what the attempts have left charged: 48 of 64 pages, held by "leaked: AF_XDP registration that was pinned in part (R-XDP-10)"',
    'good memory now: ok, twice as much: ENOBUFS',
    'audit: 0 findings',
  ],
}

describe('examples/', () => {
  it('has an expected output for every program and no other', () => {
    const programs = readdirSync(`${root}/examples`).map((name) => name.replace(/\.ts$/, ''))
    expect(Object.keys(outputs).sort()).toEqual(programs.sort())
  })

  it.each(Object.entries(outputs))('examples/%s.ts prints what it promises', (name, lines) => {
    expect(run(`examples/${name}.ts`).trimEnd().split('\n')).toEqual(lines)
  })

  it.each(Object.keys(outputs))('examples/%s.ts says how to run it', (name) => {
    expect(readFileSync(`${root}/examples/${name}.ts`, 'utf8')).toContain(`npx tsx examples/${name}.ts`)
  })
})
