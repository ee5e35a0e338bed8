/** What `--help` prints, word for word. */

export const mainHelp = `pinscope: would this memory pin work, and if not, why?

Usage: pinscope COMMAND [OPTIONS]

  explain     would a pin request succeed on this range of this process?
  snapshot    save what explain needs to know of a process as one JSON file
  conform     does the engine behind these answers agree with a real kernel?
  gup-test    the kernel's own test and benchmark of GUP, run on the engine
  demo        see both answers on a process started for it; needs no privileges

  -h, --help     this text; pinscope COMMAND --help for one command
  -V, --version  the version

Examples:
  pinscope demo
  pinscope explain --pid 1234 --range 0x7f3a5c000000+64k --request io_uring:register-buffers
  pinscope snapshot --pid 1234 --range '[heap]' -o app.json
  pinscope explain --snapshot app.json --request gup:pin --flags FOLL_LONGTERM --kernel all

Exit status: 0 the request would succeed; 1 it would fail, or cannot be said; 2 wrong usage or
unreadable input (one line on stderr says what to do); 70 a bug in pinscope; 130 interrupted, 143
ended by SIGTERM.
`

export const explainHelp = `pinscope explain: would this pin request succeed, and if not, which page, mapping and rule?

Usage: pinscope explain --pid PID --range RANGE --request REQUEST [OPTIONS]
       pinscope explain --snapshot FILE --request REQUEST [OPTIONS]

The process is only read, never stopped or changed. Your own need no privileges; root sees more.

  --pid PID          look at this process
  --snapshot FILE    or at what pinscope snapshot saved (- reads standard input)
  --range RANGE      which memory: START+SIZE or START-END (hex with 0x, or decimal; sizes like
                     4k 2M 1G), [heap], [stack], or the path of a mapped file (its first mapping).
                     A snapshot that was taken for one range needs none.
  --request REQUEST  what is asked for:
                       io_uring:register-buffers   io_uring_register(2) with one fixed buffer
                       direct-io:read              read(2) of a file opened with O_DIRECT (ext4)
                       direct-io:write             write(2) of such a file
                       rdma:reg-mr                 ibv_reg_mr(3)
                       rdma:create-cq              ibv_create_cq(3) with this buffer, or a QP or SRQ
                       vfio:map-dma                VFIO_IOMMU_MAP_DMA, type 1 with an IOMMU
                       vfio:mdev-pin               a mediated device pins its pages, without one
                       iommufd:ioas-map            IOMMU_IOAS_MAP with a device attached
                       xdp:umem-reg                setsockopt(XDP_UMEM_REG) of AF_XDP
                       vhost-vdpa:map              an IOTLB update written to /dev/vhost-vdpa-N
                       vduse:reg-umem              VDUSE_IOTLB_REG_UMEM
                       sgx:add-pages               SGX_IOC_ENCLAVE_ADD_PAGES from this memory
                       kvm:memslot                 a guest that uses it as its memory
                       process_vm:readv            another process reads it, process_vm_readv(2)
                       process_vm:writev           another process writes it
                       ptrace:peek, ptrace:poke    a debugger reads or writes it
                       gup:get                     get_user_pages()
                       gup:pin                     pin_user_pages()
  --access ACCESS    write (default) or read: what the device or the caller may do; for rdma, vfio,
                     iommufd, vhost-vdpa, kvm and gup
  --iova ADDRESS     where the device (or the guest) finds it; for rdma, vfio, iommufd, vhost-vdpa
                     and kvm (default: at the user address; kvm: at 0)
  --iova-bits N      address bits of the IOMMU, for vfio:map-dma and iommufd (default 48)
  --frame-size SIZE  bytes of a frame of xdp:umem-reg (default 4096)
  --headroom SIZE    bytes kept free in each (default 0)
  --unaligned        frames need no alignment (XDP_UMEM_UNALIGNED_CHUNK_FLAG)
  --bounce-size SIZE of vduse:reg-umem: bounce buffers of the device (default 64M)
  --fork-safe        rdma:reg-mr after ibv_fork_init(3): MADV_DONTFORK comes first
  --hugepages-safe   … and RDMAV_HUGEPAGES_SAFE: of whole huge pages
  --offset OFFSET    where in the file direct-io:read and direct-io:write begin (default 0)
  --flags FLAGS      more FOLL_ flags for gup:get and gup:pin, separated by commas
  --kernel KERNEL    gup-v3, 6.1, 6.6, 6.12, 6.18, host (default: the release nearest to the kernel
                     that was looked at), or all (as host, and the answers of all of them first)
  --json             the answer as JSON (schema/answer.schema.json in the package)
  -h, --help         this text

Examples:
  pinscope explain --pid 1234 --range 0x7f3a5c000000+64k --request io_uring:register-buffers
  pinscope explain --pid 1234 --range '[heap]' --request gup:pin --flags FOLL_LONGTERM
  pinscope explain --pid 1234 --range /dev/shm/ring --request io_uring:register-buffers --kernel all
  pinscope explain --pid 1234 --range 0x7f3a40000000+1G --request vfio:map-dma --iova 0
  pinscope explain --pid 1234 --range 0x7f3a5c000000+4M --request xdp:umem-reg --frame-size 2048
  pinscope explain --snapshot app.json --request rdma:reg-mr --access read --kernel 6.1 --json

Exit status: 0 it would succeed; 1 it would fail, or cannot be said; 2 wrong usage or unreadable
input.
`

export const snapshotHelp = `pinscope snapshot: save what explain needs to know of a process as one JSON file

Usage: pinscope snapshot --pid PID [--range RANGE] [-o FILE]

The file holds addresses, names of mapped files, flags and page states; never what is in the memory.

  --pid PID           the process
  --range RANGE       look closely at this memory only (as in explain; may be given several times).
                      Default: the whole process, which takes longer
  -o, --output FILE   write here, all or nothing; default: standard output
  -h, --help          this text

Examples:
  pinscope snapshot --pid 1234 --range 0x7f3a5c000000+64k -o app.json
  pinscope snapshot --pid 1234 --range '[heap]' |
    ssh devbox pinscope explain --snapshot - --request gup:pin

Exit status: 0 written; 2 wrong usage, or the process or the file is out of reach.
`

export const conformHelp = `pinscope conform: does the engine agree with a real kernel, step by step?

Usage: pinscope conform [OPTIONS]

Runs the same random programs (mappings, faults, fork, pins) on a kernel and on the engine and
compares everything that can be seen after every step. Needs a C compiler; root sees more. A
difference is shortened and saved under conform-failures/.

  --kernel KERNEL  host: the kernel that runs here, engine 6.18 (default); 6.1, 6.12: Debian's
                   kernel of that series in QEMU, downloaded with apt the first time, and the
                   engine of the same release
  --programs N     how many programs (default 1000; with --minutes: as many as fit)
  --steps K        steps of each program (default 40)
  --seed S         where to begin; the same seed makes the same programs (default: the clock)
  --minutes M      stop after so many minutes
  --only THEME     only these kinds of programs, separated by commas: basic, space, files, disk,
                   fork, pins, fork-pins, limits, locks, seal, mem, process-vm, placement, ptrace,
                   vmsplice, file-io, direct-io, residence, writeback, heap, space-limits, stacks,
                   sysv, exec, edges, advice, swap, ksm, xdp, fixed-io, in-flight, rings, thp,
                   collapse, collapse-files, remote-thp, remote-hugetlb, hugetlb, thp-io,
                   hugetlb-io, uffd, uffd-thp, uffd-hugetlb, secret, sealed, far,
                   admission, restricted, sends, sysv-hugetlb, disk-folios
  --jobs N         workers, each with agents on a processor of its own, or a guest of its own
                   (default: as many as there are processors; half as many guests). What is found
                   is the same whatever their number.
  --replay FILE    run the programs of this file instead: a saved difference, which is shown as it
                   stands, or a list of programs
  --coverage       count the rules (docs/rules.md) that the engine comes to statement by statement
                   instead of by function, and list the others; the engine takes a fifth longer
  --json           the result as JSON
  -h, --help       this text

Ctrl-C and SIGTERM end a run early: what was found is printed and saved, and what was changed of
the machine for it (the pool of huge pages, swap, KSM and THP settings) is put back. That is done
also when the command is killed.

Examples:
  pinscope conform
  pinscope conform --only fork-pins --minutes 5
  pinscope conform --kernel 6.1 --programs 200
  pinscope conform --replay conform-failures/fork-17.json

Exit status: 0 no difference; 1 a difference, or a program ended the kernel; 2 wrong usage, or the
kernel cannot be asked here; 130 ended by Ctrl-C, 143 by SIGTERM.
`

export const gupTestHelp = `pinscope gup-test: the kernel's own test and benchmark of GUP, run on the engine

Usage: pinscope gup-test [OPTIONS] [PAGE...]

The options and the output are those of tools/testing/selftests/mm/gup_test. Times are what the
engine needs. What the kernel would log goes to stderr.

  -u              get_user_pages_fast, timed (default)
  -a              pin_user_pages_fast, timed
  -L              pin_user_pages with FOLL_LONGTERM, timed
  -U              get_user_pages
  -b              pin_user_pages
  -c              dump pages: PAGE..., at most 8, counted from 0 (default: the first)
  -p              pin the pages that are dumped
  -F FLAGS        gup_flags, in the numbers of the kernel that is asked for
  -m MIB          MiB of memory (default 128)
  -n PAGES        pages in each call (default 1)
  -r N            repeat a timed test (default 1)
  -j N            threads (default 1)
  -f FILE         map this file (default /dev/zero); only its size and kind are looked at
  -S              map it shared
  -H              map hugetlb pages of 2 MiB instead; the pool has as many as it takes
  -t, -T          MADV_HUGEPAGE, MADV_NOHUGEPAGE (default: neither)
  -w, -W          with (default) or without FOLL_WRITE
  -z              do not touch the pages first, and set 0x2 in gup_flags
  --kernel KERNEL gup-v3 (default), 6.1, 6.6, 6.12, 6.18; from 6.12 on the output is TAP
  --json          the result as JSON
  -h, --help      this text

Examples:
  pinscope gup-test -a -m 64 -r 3
  pinscope gup-test -L -n 512 -t --kernel 6.12
  pinscope gup-test -c -p 0 19 0x1000 --kernel 6.1

Exit status: as the kernel's program, 0 also when fewer pages were had; 1 the test could not be run;
2 wrong usage.
`

export const demoHelp = `pinscope demo: one request that succeeds and one that fails, explained on real memory

Usage: pinscope demo

Starts a small process of its own, asks about two ranges of it and ends it. Nothing is installed or
changed and no privileges are needed.

  -h, --help   this text

Example:
  pinscope demo

Exit status: 0 the first request would succeed and the second would fail, as they should; 1 not so.
`
