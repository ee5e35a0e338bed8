// Generated from docs/spec by `npm run rules`; edit the rule there.

/** One plain sentence per rule that src names, by rule id. */
export const ruleSentences: Readonly<Record<string, string>> = {
  'R-ACC-1': 'Two gates are applied by procfs.',
  'R-ACC-2':
    'Table (columns: S = same uid and dumpable, U = other uid or undumpable, no capability; R = root with CAP_SYS_PTRACE and CAP_SYS_ADMIN). uid 65534 probing itself, a same-uid process, a same-uid…',
  'R-ACC-3':
    'For maps-like files and mem the check happens once, at open; an fd opened while it passed keeps working after the target changes credentials (from source).',
  'R-ACC-4':
    'Missing entries: process gone before open → ENOENT; between open and read of a seq file → ESRCH.',
  'R-ACC-5':
    'A thread group whose leader has exited (State Z) while other threads live shows empty maps/fd under /proc/P; the real content is under /proc/P/task/T/ of a live thread (main calls pthread_exit…',
  'R-ACC-6':
    'maps, smaps, numa_maps, pagemap and mem fds are bound to the address space that existed at open.',
  'R-ACC-7':
    'Capability tiers to report to the user: T0 = U (status, limits, global files only), T1 = S (all per-process facts except PFN-derived ones), T2 = T1 on foreign processes (CAP_SYS_PTRACE), T3 = + PFN…',
  'R-AG-1':
    "One small C program (static, non-PIE, built by the project's own test tooling; source belongs to the product, nothing shipped prebuilt), single-threaded, no heap use after start, all buffers in .bss…",
  'R-AG-3': 'Roles: the agent executes and observes itself (single-threaded → atomic, no stop needed).',
  'R-AG-6':
    'Set and restore, if privileged: transparent_hugepage/enabled (per test: never, madvise, always; also per-size inherit), khugepaged/defrag 0 and scan_sleep_millisecs maximal (without defrag it still…',
  'R-AG-8':
    'Must not be compared: PFN (only equality/inequality between pages of one snapshot), inode numbers of shmem files and SysV ids (differ every run), dev minors, KPF REFERENCED, ACTIVE, LRU, IDLE (set…',
  'R-AG-13': 'A command may kill the agent (it unmaps its own code, SIGKILL by the OOM killer).',
  'R-APF-1':
    'Setup: at most ASYNC_PF_PER_VCPU (64 on x86 and s390) outstanding → otherwise synchronous; error hva → synchronous; work item allocated without sleeping → on failure synchronous.',
  'R-APF-2':
    'Work: 6.12 mm already dead → skip GUP. mmap_read_lock; get_user_pages_remote(1 page, FOLL_WRITE, pages NULL, &locked); unlock only if locked is still set.',
  'R-APF-3':
    'Then completion is queued and the vCPU woken, whether or not the page came in; the vCPU refaults.',
  'R-ARV-1': 'Locks: mmap_lock of the target for read, killable; if the wait is killed → 0.',
  'R-ARV-2': 'Order per call: take the lock (R-ARV-1).',
  'R-ARV-3':
    'Fallback on GUP failure (not exercised on hardware; no mapping with ->access on the host; the buffer of perf_event_open has none: PEEK and /proc/self/mem give EIO).',
  'R-ARV-4':
    'The fallback is attempted for every GUP failure, not only VM_IO/VM_PFNMAP ones; whether it can work is decided by ->access itself.',
  'R-ARV-5':
    'generic_access_phys (the usual ->access): -EINVAL if the VMA is neither VM_IO nor VM_PFNMAP; -EINVAL if no present entry maps addr; -EINVAL if writing and the entry is not writable (the page table…',
  'R-ARV-6':
    'VMAs without ->access that GUP refuses are unreachable: [vvar] (VM_IO|VM_PFNMAP, special mapping) read and write give nothing (PEEK/POKE on [vvar] and [vvar_vclock] → EIO).',
  'R-ARV-7':
    'Partial results: everything before the first failing page is copied and, when writing, stays written.',
  'R-ARV-8': 'Errors are collapsed: ENOMEM, EHWPOISON, EINTR, EFAULT all look like "short".',
  'R-ARV-9':
    'Stack growth: growing is bounded by RLIMIT_STACK of the caller (current), not of the target, and by the stack guard gap; there is no distance limit from the stack pointer.',
  'R-ARV-10':
    'Untouched anonymous memory: a read maps the zero page in the target, a write allocates (a THP if eligible).',
  'R-ARV-11': 'Series change: see R-COM-20/21.',
  'R-AS-1':
    'The mm owns: an ordered, non-overlapping set of VMAs; map_count (VMAs, gate VMA not counted); total_vm, data_vm, exec_vm, stack_vm (pages, by VMA, resident or not); locked_vm (pages of VM_LOCKED…',
  'R-AS-2':
    'A VMA has: vm_start (incl.), vm_end (excl.), both page aligned; vm_flags; vm_pgoff (pages); vm_file (reference held) or NULL; vm_ops; anon_vma and its chain; NUMA policy; userfaultfd context; anon…',
  'R-AS-3': 'TASK_SIZE = 0x7ffffffff000 (2^47 − P); DEFAULT_MAP_WINDOW is the same value.',
  'R-AS-4':
    'vm_pgoff: file VMA = file offset/P; shared anonymous = 0 at creation; private anonymous = vm_start/P at creation, and it is kept when a touched VMA is moved by mremap, recomputed to the new address…',
  'R-AS-5': 'VmFlags: prints two-letter mnemonics in ascending bit order, each followed by one space.',
  'R-AS-6': 'Derived sets: VM_ACCESS_FLAGS = rd|wr|ex.',
  'R-AS-7':
    'prot → flags: only PROT_READ/WRITE/EXEC have meaning for mmap; every other prot bit is silently ignored by mmap (prot 0xffffff0 ok) but refused by mprotect (R-AS-62).',
  'R-AS-8':
    'find_vma(addr): first VMA with vm_end > addr — may start above addr. vma_lookup(addr): the VMA containing addr or none. find_vma_intersection(s,e): first VMA overlapping [s,e). find_vma_prev: like…',
  'R-AS-9':
    'find_extend_vma(addr) (expanding lookup): if find_vma returns a VMA starting above addr and it is VM_GROWSDOWN, grow it (R-AS-86); if the VMA is VM_LOCKED also populate the grown part. v3 GUP still…',
  'R-AS-10':
    'The steps below run in this order. "mmap_lock" marks where the write lock is taken (killable: −EINTR on fatal signal).',
  'R-AS-10.1': 'off not multiple of P → EINVAL (even with a bad fd).',
  'R-AS-10.2': 'not MAP_ANONYMOUS: fd not open, or O_PATH → EBADF (before length/type checks).',
  'R-AS-10.3': 'fd is hugetlbfs: len rounded up to its huge page size.',
  'R-AS-10.4':
    'MAP_ANONYMOUS + MAP_HUGETLB: size field (flags>>26)&63 not a supported log2 size (0=default, 21, 30) → EINVAL (12, 20, 63).',
  'R-AS-10.6': 'len == 0 → EINVAL.',
  'R-AS-10.7':
    'MAP_FIXED_NOREPLACE implies MAP_FIXED from here on; without MAP_FIXED the hint is rounded (R-AS-45) → —.',
  'R-AS-10.8': 'PAGE_ALIGN(len) == 0 (len > 2^64 − P) → ENOMEM (len −1).',
  'R-AS-10.10': 'map_count > max_map_count → ENOMEM.',
  'R-AS-10.11':
    'address selection (section 3): len > TASK_SIZE → ENOMEM; per-file method errors; result > TASK_SIZE − len → ENOMEM; result not page aligned → EINVAL; result < dac_mmap_min_addr without CAP_SYS_RAWIO…',
  'R-AS-10.12': 'MAP_FIXED_NOREPLACE and any VMA overlaps [addr, addr+len) → EEXIST.',
  'R-AS-10.13': 'MAP_LOCKED and RLIMIT_MEMLOCK==0 without CAP_IPC_LOCK → EPERM.',
  'R-AS-10.14':
    'VM_LOCKED (from MAP_LOCKED or def_flags) and locked_vm + pages > RLIMIT_MEMLOCK/P without CAP_IPC_LOCK — no credit for locked pages about to be replaced → EAGAIN.',
  'R-AS-10.15':
    "file: offset/length beyond the file type's maximum: for regular/block/socket, pgoff > (2^63−1−len)/P; for character devices and pipes pgoff > (2^64−1−len)/P → EOVERFLOW (off 2^63−P, len P; off…",
  'R-AS-10.16': 'file: MAP_TYPE = flags & 0xf. MAP_SHARED(1): unknown flag bits dropped.',
  'R-AS-10.17': 'file shared + PROT_WRITE: fd not opened for writing → EACCES.',
  'R-AS-10.18': 'file shared + PROT_WRITE: file is an active swap file → ETXTBSY.',
  'R-AS-10.19': 'file shared: inode append-only and fd writable (even PROT_READ) → EACCES.',
  'R-AS-10.20': 'file shared or private: fd not opened for reading → EACCES.',
  'R-AS-10.21':
    'file: mount noexec (or special like procfs; 6.18 a pipe) and PROT_EXEC; otherwise me is cleared → EPERM.',
  'R-AS-10.22': 'file: no mmap method (directory, pipe, most proc files) → ENODEV.',
  'R-AS-10.23': 'file: MAP_GROWSDOWN → EINVAL (after ENODEV).',
  'R-AS-10.24': 'file: any other MAP_TYPE value → EINVAL.',
  'R-AS-10.25':
    'memfd seals, shared with F_SEAL_WRITE or F_SEAL_FUTURE_WRITE: 6.12, 6.18 PROT_WRITE → EPERM, else mw cleared.',
  'R-AS-10.26':
    'anon: MAP_SHARED with GROWSDOWN → EINVAL; MAP_PRIVATE ok; MAP_DROPPABLE(8) ≥6.11: with LOCKED/HUGETLB/GROWSDOWN → EINVAL; any other type incl. MAP_SHARED_VALIDATE → EINVAL → EINVAL.',
  'R-AS-11':
    'Conflicts confirmed (each a single call violating both): EBADF beats len 0 and missing type; EEXIST beats missing type, EPERM(mlock) and RLIMIT_AS; address ENOMEM beats mlock EPERM; mlock EPERM…',
  'R-AS-12':
    'MAP_FIXED with a kernel-half address → ENOMEM even when unaligned (range check precedes alignment check).',
  'R-AS-13':
    'The steps are in the same visible order in all profiles (6.12 computes vm_flags before choosing the address; no errno changes).',
  'R-AS-14':
    'MAP_ANONYMOUS: fd ignored; off still alignment-checked, otherwise ignored (fd 9999, off −P ok).',
  'R-AS-15':
    'Legacy mask accepted by MAP_SHARED_VALIDATE: SHARED, PRIVATE, FIXED, ANONYMOUS, DENYWRITE, EXECUTABLE, GROWSDOWN, LOCKED, NORESERVE, POPULATE, NONBLOCK, STACK, HUGETLB, 32BIT, HUGE_2MB, HUGE_1GB…',
  'R-AS-16': 'MAP_SHARED with unknown bits: bits silently dropped.',
  'R-AS-17': 'MAP_NORESERVE: sets nr (not in overcommit mode 2, except hugetlb always).',
  'R-AS-18': 'MAP_GROWSDOWN: private anonymous only; reserves no extra space below by itself.',
  'R-AS-19': 'MAP_LOCKED: like mlock after mmap, but populate errors are not reported (R-AS-55).',
  'R-AS-20':
    'Shared file mapping on an O_RDONLY fd: ms set, sh and mw not set; counts as private for rmap purposes; mprotect(PROT_WRITE) → EACCES; remap_file_pages → EINVAL.',
  'R-AS-21':
    "shared mapping (even PROT_READ) of a writable fd with F_SEAL_WRITE → EPERM in the commit phase (F_SEAL_FUTURE_WRITE: PROT_READ ok with mw cleared, PROT_WRITE EPERM, in the file's mmap method); 6.1…",
  'R-AS-22': 'MAP_DROPPABLE: flags nr|wf|dd|dp; never VM_LOCKED; file → EINVAL.',
  'R-AS-23':
    "MAP_SYNC sets VM_SYNC before the mask is applied, for every type including anonymous; with MAP_SHARED/PRIVATE the file's mmap method then decides: ext4 without DAX → EOPNOTSUPP even with plain…",
  'R-AS-30': 'Layout. Top-down unless personality ADDR_COMPAT_LAYOUT or vm.legacy_va_layout.',
  'R-AS-31': 'MAP_FIXED: the address is taken as is; only the checks of step 11 apply.',
  'R-AS-32':
    'Hint (non-fixed, non-zero after rounding, ordinary files and anon, top-down): round down to page; if hint+len ≤ TASK_SIZE (and does not straddle 2^47) and the range is free up to the guarded start…',
  'R-AS-33':
    'vm_start_gap(v) = vm_start − 256 pages (stack_guard_gap, boot parameter in pages) if VM_GROWSDOWN, else vm_start (shadow stack: 1 page ≥6.6).',
  'R-AS-34':
    "Search. Top-down: the highest free range inside [max(P, mmap_min_addr), mmap_base) of sufficient size; the result is placed at the top of that range, minus alignment, minus the next VMA's guard gap…",
  'R-AS-35':
    'Whenever an aligned placement is wanted the search asks for len plus the alignment slack (len + H − P for hugetlb, len + H for the THP-aware methods); a hole that is exactly aligned and exactly len…',
  'R-AS-36':
    'MAP_32BIT: no top-down; bottom-up in [0x40000000 (+ up to 32 MiB random per call with ASLR), 0x80000000).',
  'R-AS-37':
    'THP alignment, private anonymous: ≥6.7; 6.12, 6.18 condition: no hint (0 after rounding) and len multiple of H → address multiple of H; independent of the THP sysfs setting, of prot, MAP_STACK…',
  'R-AS-38':
    'Same rule for files whose filesystem has no address method: 6.12 applied (no file test), 6.18 not applied (memfd_secret 4 MiB not aligned; /dev/zero private 4 MiB aligned).',
  'R-AS-39':
    'Files with THP-aware method (ext4, xfs, …): any len, condition: at least one full H-aligned (in file offset) extent inside [off, off+len).',
  'R-AS-40': 'Accountable = private, writable, not NORESERVE, not hugetlb → VM_ACCOUNT, charge len.',
  'R-AS-41':
    'hugetlb: len must be a multiple (already rounded); MAP_FIXED unaligned → EINVAL; hint rounded down to H in 6.1, 6.12 (v3/6.6: same source age, taken as down), rounded up in 6.18 (hint z+0x1234 →…',
  'R-AS-42':
    'io_uring ring fds: any non-zero address (hint, MAP_FIXED, or the target of mremap FIXED) → EINVAL.',
  'R-AS-45':
    'Hint rounding: hint &= ~(P−1); if then non-zero and < mmap_min_addr → PAGE_ALIGN(mmap_min_addr). mmap_min_addr = max(sysctl vm.mmap_min_addr, CONFIG_LSM_MMAP_MIN_ADDR); the EPERM check uses only the…',
  'R-AS-46':
    'Order: 6.12, 6.18: (a) MDWE: VM_EXEC with VM_WRITE → EACCES; (b) writable-mapping count of the file blocked (write-sealed memfd, shared+mw) → EPERM; (c) gather existing VMAs for removal: sealed →…',
  'R-AS-47':
    'Failure after the point of destruction leaves the old range unmapped (a hole): 6.12, 6.18 only driver/shmem/allocation failures; 6.1, v3, 6.6 also commit-charge ENOMEM, and in v3, 6.6 seal-EPERM and…',
  'R-AS-48': 'MAP_FIXED over part of a hugetlb page: EINVAL 6.12, 6.18; ENOMEM 6.1, v3, 6.6.',
  'R-AS-49':
    'Overcommit: mode 0 refuses only a single request > totalram + swap pages; mode 1 never; mode 2: committed + request must be < CommitLimit − (admin reserve unless CAP_SYS_ADMIN) − min(total_vm/32…',
  'R-AS-50':
    'RLIMIT_AS: total_vm + new > limit/P (limit rounded down) → ENOMEM (SIGSEGV for stack growth). hugetlb and special mappings count.',
  'R-AS-51':
    'After success: perf/uprobe notifications; total_vm (+class, R-AS-141) += pages; if VM_LOCKED: special/hugetlb/DAX/gate(/droppable ≥6.11) VMAs lose the flag, others locked_vm += pages (hugetlb…',
  'R-AS-52':
    'max_map_count (M): mmap is refused when map_count > M, so it can bring the process to M+1; split refused when map_count ≥ M; munmap/MAP_FIXED punching the middle of one VMA refused when map_count ≥…',
  'R-AS-55':
    'After dropping the write lock, if VM_LOCKED or (POPULATE and not NONBLOCK): for each VMA in range (read lock): skip VM_IO/VM_PFNMAP; VM_LOCKONFAULT counts as done; PROT_NONE → EFAULT; private…',
  'R-AS-56':
    'hugetlb: MAP_POPULATE, MAP_LOCKED and MCL_FUTURE populate it although VM_LOCKED is dropped (HugePages_Free −1 in all three).',
  'R-AS-57':
    "In the file's mmap method: pgoff huge bits → EINVAL; pgoff not multiple of the huge page → EINVAL; overflow → EINVAL; reservation of the pages of [off, off+len) unless NORESERVE (shared: only file…",
  'R-AS-58':
    'len 1 → one huge page; total_vm/data_vm count it (VmSize, VmData +2048 kB), Committed_AS and RSS do not; HugetlbPages: in status counts mapped pages.',
  'R-AS-59':
    'Checks in order: addr unaligned, or addr > TASK_SIZE, or len > TASK_SIZE − addr, or PAGE_ALIGN(len)==0 → EINVAL (all the same errno).',
  'R-AS-60': 'Then, per R-AS-46(c): limit ENOMEM, sealed EPERM, may_split EINVAL.',
  'R-AS-61':
    'Effects: see section 18 for ordering. locked_vm, map_count, total_vm/class counters, VM_ACCOUNT charge decrease; pinned_vm unchanged.',
  'R-AS-62':
    'Order: PROT_GROWSDOWN and PROT_GROWSUP together → EINVAL; addr unaligned → EINVAL; len==0 → 0 (even unmapped, even garbage prot); end ≤ start after rounding/wrap → ENOMEM; prot bits outside…',
  'R-AS-63':
    'Then VMA by VMA in address order, stopping at the first error, earlier VMAs stay changed: gap before the VMA → ENOMEM; wanted rwx not within MAY bits → EACCES; MDWE (≥6.3: new EXEC with WRITE, or…',
  'R-AS-64':
    'VM_ACCOUNT: set on R→RW; on RW→R it is kept, except 6.12, 6.18 (≥6.7): private anonymous VMA without anon_vma gives the charge back and loses ac.',
  'R-AS-65': 'A private VM_LOCKED VMA made writable is populated with write faults at once.',
  'R-AS-66':
    'Flags: MAYMOVE 1, FIXED 2, DONTUNMAP 4 ≥5.7. old_len and new_len are rounded up to P; new_addr is ignored unless FIXED or DONTUNMAP (garbage new_addr with MAYMOVE ok).',
  'R-AS-67':
    'Check order 6.1, v3, 6.6, 6.12: unknown flag EINVAL; FIXED without MAYMOVE EINVAL; DONTUNMAP without MAYMOVE or raw old_len≠new_len EINVAL; addr unaligned EINVAL; new_len rounds to 0 EINVAL; write…',
  'R-AS-68':
    'Check order 6.18 (≥6.17): unknown flag; addr unaligned; new_len 0; new_len > TASK_SIZE; for FIXED/DONTUNMAP only: new_addr unaligned or beyond TASK_SIZE, no MAYMOVE, DONTUNMAP with rounded lengths…',
  'R-AS-69':
    'Source checks when something new is mapped (move or growth): old_len==0 and VMA not VM_SHARED/VM_MAYSHARE → EINVAL; DONTUNMAP on VM_DONTEXPAND or VM_PFNMAP → EINVAL; old_len > vm_end − addr →…',
  'R-AS-70':
    'Shrink without FIXED/DONTUNMAP: unmaps [addr+new_len, addr+old_len) with plain munmap rules; does not check that old_len stays inside the VMA — other VMAs in that range are removed too.',
  'R-AS-71':
    'Expand in place iff addr+old_len == vm_end, the extension is free and ≤ TASK_SIZE (guard gap of a GROWSDOWN VMA above is not respected); charge VM_ACCOUNT; may merge with the next VMA.',
  'R-AS-72':
    'Move: map_count ≥ M−3 → ENOMEM (ok at M−4; FIXED/DONTUNMAP need ≤ M−6); may_split EINVAL; KSM pages broken; charge; new VMA (or merged, section 16) with the same flags; page tables moved (pages…',
  'R-AS-73':
    'MREMAP_DONTUNMAP: pages move, the old VMA stays, empty, same prot; old VMA loses VM_LOCKED* (6.1, 6.12 the part that moved, which becomes a VMA of its own; 6.18 all of it); total_vm += len, charge…',
  'R-AS-74':
    'old_len 0 (duplicate shared): needs MAYMOVE, else ENOMEM; creates a second mapping of the same object and pgoff; may exceed the object.',
  'R-AS-75':
    'Multi-VMA moves: 6.18 (≥6.17) FIXED with old_len==new_len (with or without DONTUNMAP): all VMAs in [addr, addr+len) are moved keeping relative offsets, holes preserved; addr itself must be mapped…',
  'R-AS-76':
    'hugetlb: shrink in huge units (new_len rounded up to H: 2M−P is a no-op); grow EINVAL; FIXED move to aligned ok.',
  'R-AS-77': 'Never returns an errno: returns the resulting brk (old one on failure).',
  'R-AS-78':
    'Shrink: unmaps [PAGE_ALIGN(new), PAGE_ALIGN(old)); needs at least one VMA there, else refused; holes inside tolerated; any munmap error (sealed, limit) → refused.',
  'R-AS-79':
    "Grow: range free and one extra page below the next VMA's guarded start (newbrk+P ≤ vm_start_gap(next)) (obstacle at +20 pages: +19 ok, +20 refused; GROWSDOWN at +400: +143 ok, +144 refused)…",
  'R-AS-86':
    'Grow VM_GROWSDOWN VMA down to the faulting page: address < mmap_min_addr → refused; previous VMA accessible (any of rwx), not GROWSDOWN, and address − prev.vm_end < 256 pages → refused; then…',
  'R-AS-87':
    'Growth happens with mmap_lock write (dropped and retaken from read, downgraded afterwards) in 6.1 LTS, 6.6, 6.12, 6.18; with read lock + anon_vma lock in v3.',
  'R-AS-88': 'madvise, mlock, msync, mincore never grow a stack (ENOMEM).',
  'R-AS-90':
    'mlock order: (mlock2: flags other than MLOCK_ONFAULT → EINVAL, first); RLIMIT_MEMLOCK==0 without CAP_IPC_LOCK → EPERM (even len 0 or unmapped); start rounded down, len = PAGE_ALIGN(len + offset)…',
  'R-AS-91':
    'Partial effect: VMAs before the hole stay VM_LOCKED and counted, nothing is populated (4P + hole: ENOMEM, VmLck 16).',
  'R-AS-92': 'Populate errors: EFAULT → ENOMEM, ENOMEM → EAGAIN; flags and locked_vm stay set.',
  'R-AS-93':
    'Never locked, no error, not counted: VM_SPECIAL, hugetlb, gate, DAX, secretmem (keeps its own lo, munlock has no effect), droppable.',
  'R-AS-94':
    'Relocking an ONFAULT VMA with mlock clears VM_LOCKONFAULT and populates; locked_vm not double counted. munlock: same rounding, no permission check, hole → ENOMEM after unlocking the preceding VMAs.',
  'R-AS-95':
    'mlockall: flags 0, unknown, or only MCL_ONFAULT → EINVAL; then EPERM as above; MCL_CURRENT and total_vm > limit without cap → ENOMEM. def_flags are replaced each call: MCL_CURRENT alone clears a…',
  'R-AS-96': 'munmap/mremap/MAP_FIXED of locked pages reduce locked_vm.',
  'R-AS-100':
    'Entry order: unknown advice EINVAL; addr unaligned EINVAL; len>0 rounding to 0 EINVAL; end < start EINVAL; length 0 → 0 — advice validity and alignment are checked even for len 0.',
  'R-AS-101':
    'Walk: VMAs in order; a hole sets a pending ENOMEM and is skipped; an error from a VMA returns immediately (and hides the pending ENOMEM); otherwise ENOMEM at the end if any hole.',
  'R-AS-102':
    'Exception POPULATE_READ/WRITE: 6.12, 6.18 (≥6.9) process in order and stop at the first hole: ENOMEM, later VMAs not populated; 6.1, v3, mainline 6.6: follow R-AS-101.',
  'R-AS-103':
    'ENOMEM from splitting a VMA is reported as EAGAIN for flag-changing advice; may_split refusal stays EINVAL.',
  'R-AS-104':
    ': the whole table was run for anon RW/RO/NONE/mlocked, shared anon, shared mlocked, ext4 shared/private/RO-fd, memfd, hugetlb private/shared (whole, first 4 KiB, +4 KiB), secretmem, GROWSDOWN…',
  'R-AS-105':
    'DONTNEED semantics: private anon → zero; private file → file content again; shared (anon, tmpfs, file) → data kept.',
  'R-AS-106':
    'Guard pages: no VMA split; survive DONTNEED, FREE, fork; access SIGSEGV, syscalls EFAULT, mincore 0, POPULATE EFAULT, mlock ENOMEM; installing gives an anonymous VMA an anon_vma (affects merging), a…',
  'R-AS-107': 'mseal interaction in section 13.',
  'R-AS-108':
    'process_madvise order 6.1, 6.12: flags≠0 EINVAL; iovec import (EFAULT; vlen>1024 EINVAL); pidfd EBADF/ESRCH; advice not in {COLD, PAGEOUT, WILLNEED, COLLAPSE} EINVAL; ptrace READ access to mm…',
  'R-AS-109': 'prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME): not configured → EINVAL.',
  'R-AS-110':
    'msync: unknown flags, unaligned addr, ASYNC+SYNC → EINVAL; end<start after rounding → ENOMEM; length 0 (incl. len −1) → 0.',
  'R-AS-111':
    'mincore: addr unaligned EINVAL; [addr,len) not in user space ENOMEM; vec not in user space EFAULT; chunks of ≤P pages per VMA: hole ENOMEM (earlier vec bytes already written); copy failure EFAULT.',
  'R-AS-112':
    'remap_file_pages(start,size,prot,pgoff,flags): prot≠0 EINVAL; start and size masked down (not rounded up); size 0 or wrap EINVAL; pgoff wrap EINVAL; VMA at start missing or without VM_SHARED EINVAL…',
  'R-AS-115':
    'flags≠0 EINVAL; addr unaligned, len wrap EINVAL; len 0 → 0; any hole or end beyond → ENOMEM and nothing sealed; then sl set with split/merge.',
  'R-AS-116':
    'Sealed VMA: munmap, MAP_FIXED over it, mprotect (even no change), mremap of any kind (even same size) and as destination, brk shrink → EPERM; checked after address/MAY-bit checks (EACCES beats EPERM…',
  'R-AS-117': 'Sealed and unsealed neighbours do not merge; two sealed ones do.',
  'R-AS-120': 'mmap_lock use.',
  'R-AS-122':
    'Any code that drops mmap_lock (fault retry, WILLNEED, REMOVE, COLLAPSE, msync SYNC, GUP with an unlockable caller) must treat every VMA pointer obtained before as stale and look it up again by…',
  'R-AS-125':
    'Each file VMA holds one file reference: taken at creation, split (+1), mremap copy (+1), fork (+1); dropped when the VMA is removed or merged away (−1).',
  'R-AS-126':
    'Two VMAs are "same file" iff vm_file pointers are equal: same open file description (dup ok, second open(2) not).',
  'R-AS-130':
    'Two adjacent ranges can be one VMA iff: adjacent; equal NUMA policy; equal vm_flags (ignoring VM_SOFTDIRTY); same vm_file pointer; equal uffd context; equal anon name; pgoff linear; anon_vma…',
  'R-AS-131':
    'Attempted at: mmap (new range with prev/next), brk (prev only), mremap extend and move, mprotect, mlock, madvise flag changes, mbind, uffd register/unregister/close, mseal, anon naming.',
  'R-AS-132': 'anon_vma compatibility, src = the range being added/changed, tgt = existing neighbour.',
  'R-AS-133':
    "A VMA getting its anon_vma by fault reuses the anon_vma of an adjacent VMA (next first, then prev) if same policy, same file, flags equal except rwx, linear pgoff and that neighbour's chain is…",
  'R-AS-134':
    'VMAs with vm_ops->close (SysV shm, many drivers): 6.1 never merge; v3, 6.6, 6.12, 6.18 (≥6.4) may be expanded but not removed by a merge.',
  'R-AS-135':
    'mmap filling a gap between prev and next when both fit individually: 6.12, 6.18 prefers prev, and takes next too if compatible; 6.1, v3, 6.6 evaluate next first and then demand prev be compatible…',
  'R-AS-136':
    'Changed flags on a sub-range: try merge with prev (if the range starts at the VMA start) and next (if it ends at the VMA end), else split: first at start (new lower part), then at end.',
  'R-AS-137':
    'maps results: untouched anon+anon → 1; touched + new after → 1; both touched separately + fill → 2; RW / NORESERVE → 2; MAP_LOCKED / normal → 2; MAP_STACK / normal → 2 (1 before 6.7); two GROWSDOWN…',
  'R-AS-140':
    "total_vm counts every VMA's pages (stack, special, hugetlb, PROT_NONE included; vsyscall not).",
  'R-AS-141':
    'Class of a VMA by (EXEC,WRITE,SHARED,GROWSDOWN): EXEC and not WRITE and not GROWSDOWN → exec_vm; else GROWSDOWN → stack_vm; else WRITE and not SHARED → data_vm; else none.',
  'R-AS-142':
    'On split nothing changes; mprotect moves pages between classes; hiwater_vm is updated only before total_vm is lowered.',
  'R-AS-145':
    'munmap sequence: splits → VMAs detached from the tree (no new lookup or fault can find them) → locked_vm/map_count reduced → [downgrade] → mmu-notifier start → PTEs cleared, mapcount and RSS…',
  'R-AS-146':
    'A page with pins is unmapped like any other: PTE gone, mapcount 0, RSS reduced, but the page is freed only with its last reference.',
  'R-AS-147':
    'The same holds for MADV_DONTNEED, MAP_FIXED replacement, truncate, exec and exit. mremap instead moves the pinned page to the new address.',
  'R-AS-148':
    'VmPTE: tables appear with the first fault in a 2 MiB span, vanish when the last VMA of the span is unmapped (empty ones stay while a neighbour shares them); a fault in a file mapping that fails…',
  'R-AS-150': "Parent's and child's mmap_lock write.",
  'R-AS-151':
    "Per parent VMA in order: VM_DONTCOPY → skipped (hole in child); VM_ACCOUNT → charge child's pages (ENOMEM → fork fails); VMA duplicated with file reference, policy, uffd context (dropped unless…",
  'R-AS-152':
    'hugetlb private: child has the mapping but no reservation; its write faults need free pages (child write: Free −1, Rsvd unchanged).',
  'R-AS-153':
    'secretmem and driver mappings are inherited unless VM_DONTCOPY (io_uring rings are inherited).',
  'R-AS-155':
    'exec: new mm (no VM_LOCKED in def_flags, counters 0); one temporary stack VMA of one page at the top of the address space, flags stack|VM_SEQ_READ|VM_RAND_READ marker; argument strings copied page…',
  'R-AS-156':
    'ELF segments, brk area (zero-length heap until first brk), vvar/vdso (special mappings: close hook, may_split refuses, VM_DONTEXPAND), gate page [vsyscall] not a VMA of the mm.',
  'R-AS-157':
    'vdso may be unmapped or moved whole, mprotected whole (even writable: ok), not partially (EINVAL); vvar has no mw: mprotect write EACCES.',
  'R-AS-158':
    'exit: mmu notifiers released, all PTEs zapped under read lock, page tables freed under write lock, VMAs closed (file puts), charge returned.',
  'R-AS-160':
    'maps line: START-END rwxP OFFSET MAJ:MIN INODE — lower-case hex without 0x, START/END/OFFSET zero-padded to ≥8 digits, MAJ/MIN ≥2 hex digits, INODE decimal; p/s by VM_MAYSHARE.',
  'R-AS-161':
    'Name, first match: vm_file → path (\\n escaped as \\012, suffix (deleted)), or [anon_shmem:NAME] ≥6.2; vm_ops name ([vdso], [vvar]…); [heap]; [stack]; [anon:NAME]; nothing.',
  'R-AS-162':
    'Last line: gate VMA ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 … [vsyscall] (if enabled).',
  'R-AS-163':
    'Consistency: the listing is produced in buffer-sized pieces; between pieces the map may change; no line is duplicated or out of order but merged/split regions can appear inconsistent.',
  'R-AS-164':
    'smaps record: maps line; Size:, KernelPageSize:, MMUPageSize:, Rss:, Pss:, Pss_Dirty:, Shared_Clean:, Shared_Dirty:, Private_Clean:, Private_Dirty:, Referenced:, Anonymous:, KSM: (6.12, 6.18; absent…',
  'R-AS-165':
    'status lines (tab, value right-aligned to 8, kB), in order: VmPeak (max(hiwater_vm,total_vm)), VmSize, VmLck (locked_vm), VmPin (pinned_vm), VmHWM, VmRSS = RssAnon+RssFile+RssShmem, RssAnon…',
  'R-AS-166':
    'statm: size resident shared text lib(0) data dt(0) in pages; shared = file+shmem RSS, data = data_vm + stack_vm.',
  'R-AS-167':
    '/proc/PID/map_files/START-END links exist for file VMAs only; the range must match a VMA exactly.',
  'R-AS-168': "ioctl PROCMAP_QUERY on maps ≥6.11 returns one VMA's data (R-MAPS-5).",
  'R-AS-169':
    'MADV_PAGEOUT without swap space reclaims what needs none: pages that nobody else maps (map count 1, on the LRU, not mlocked).',
  'R-AS-170':
    'MADV_FREE takes PTE dirty and SWAPBACKED from the pages (the latter when a per-CPU batch is drained) and drops swapped-out ones; reclaim, MADV_PAGEOUT too, then drops each page that was not written…',
  'R-AS-171':
    "shmget: a key that exists: IPC_CREAT with IPC_EXCL → EEXIST, size larger than the segment's → EINVAL (smaller and 0 are fine), permission bits asked for and not granted → EACCES.",
  'R-AS-172':
    'shmat: negative or unknown id → EINVAL; address not a multiple of a page → EINVAL, with SHM_RND rounded down (to 0: maps at 0, with SHM_REMAP EINVAL); SHM_REMAP without an address → EINVAL; all…',
  'R-AS-173':
    'shmdt(addr): misaligned → EINVAL; the first VMA at or above addr that shows SysV memory with offset = its distance from addr names the attachment, none → EINVAL; it goes, and every further piece of…',
  'R-AS-174':
    'nattch counts VMAs: splits add, merges of split ones do not happen (R-AS-134), fork adds, munmap, exec and exit take away.',
  'R-CLR-1':
    "/proc/P/clear_refs is written, mode 0200, the file of the task's owner (root's where it is not dumpable): others get EACCES at open, reading is EINVAL.",
  'R-CLR-2':
    '1 takes the referenced marks of all pages away, from entries and from the pages themselves, 2 those of mappings without a file, 3 those of mappings with one (shared anonymous memory and COWed pages…',
  'R-CMD-1': 'All accesses use FOLL_ANON and no FOLL_FORCE: the VMA must be anonymous (no vm_ops).',
  'R-CMD-2':
    "cmdline needs no ptrace permission (uid 1000 reads root's); environ is opened with PTRACE_MODE_READ_FSCREDS → EACCES.",
  'R-CMD-3':
    'cmdline order: (1) env_end unset → 0; (2) snapshot arg_start, arg_end, env_start, env_end under arg_lock; (3) arg_start ≥ arg_end → 0; (4) if env_start ≠ arg_end or env_end < env_start, pretend env…',
  'R-CMD-4':
    'setproctitle mode: pos ≥ PS → 0; read one page at arg_start; length up to and including the first NUL if one was found within the bytes obtained, otherwise all bytes obtained; skip pos; EFAULT only…',
  'R-CMD-5':
    'normal mode: page-sized chunks; stops at the first chunk that yields nothing; returns what was copied; EFAULT only if the first copy-out failed.',
  'R-CMD-6': 'environ: chunks of min(PS, count) from env_start+pos.',
  'R-COM-2': 'A call without U never drops mmap_lock: the fault runs without FAULT_FLAG_ALLOW_RETRY.',
  'R-COM-3':
    'FOLL_GET callers take one reference per page and drop it with put_page; nr_foll_pin_acquired/released do not move.',
  'R-COM-4':
    'The shared zero page: a FOLL_PIN of it takes no reference and no pin count in 6.1, 6.12, 6.18 (process_vm_readv of an untouched anon page: +0/+0, PFN is the zero page). v3 (base): the exemption…',
  'R-COM-5':
    'Faults caused by GUP are accounted to the calling task (min_flt/maj_flt of current), never to the target, and generate no perf software event.',
  'R-COM-6':
    'Short-term FOLL_PIN without FOLL_WRITE on an anonymous page that is not exclusive (for example shared after fork) unshares it in the target: the target gets a private copy, although the caller only…',
  'R-COM-7': 'FOLL_FORCE read: a VMA without VM_READ is accepted if VM_MAYREAD.',
  'R-COM-8': 'FOLL_FORCE|FOLL_WRITE on a non-writable private hugetlb VMA: -EFAULT in 6.1, v3, 6.12.',
  'R-COM-9':
    'A fatal signal pending in the caller makes GUP return -EINTR before faulting further; nothing already obtained is lost (count wins over errno).',
  'R-COM-10':
    'FOLL_TOUCH (set by all *_remote calls): each page followed is marked accessed; with FOLL_WRITE a page whose entry and page are both clean is marked dirty during the walk, before the caller touches it.',
  'R-COM-11':
    'Invalid flag combinations warn once; get_user_pages_remote then returns -EINVAL; pin_user_pages_remote returns -EINVAL in 6.1 and 0 in v3, 6.12.',
  'R-COM-20':
    'four sites look the VMA up themselves after a successful GUP: __access_remote_vm, uprobe_write_opcode, __access_remote_tags, io_pin_pages. __access_remote_vm looks it up whether or not GUP…',
  'R-COM-21': 'handling of "GUP succeeded but no VMA".',
  'R-COM-22':
    'The condition is not impossible everywhere: gate areas (§17) yield a page from GUP but are not in the VMA tree.',
  'R-COM-23':
    'get_user_page_vma_remote 6.6: GUP of 1 page without U; negative → that error; 0 → returns "no page" (NULL); success → vma_lookup; VMA missing → WARN_ON_ONCE, put_page, -EINVAL.',
  'R-COM-24': 'FOLL_SAME_FILE (1<<12) is used by none of the callers in this document.',
  'R-CONS-1':
    'A read(2) of maps returns at most one page of text (4067 bytes was the maximum, buffer sizes 4 KiB to 1 MB); lines are never split across reads.',
  'R-CONS-2':
    'Parser duty: on start < previous end, drop the earlier record, keep the later, set torn = true.',
  'R-CONS-3':
    'Running target, unprivileged-friendly method: read maps, smaps (VmFlags), fdinfo, pagemap of the ranges, maps again; accept if both maps texts are byte-equal and not torn; at most 10 tries…',
  'R-CONS-5': 'pagemap: mmap_lock per 512-entry chunk (aligned 2 MiB); chunks are mutually unordered.',
  'R-COST-1': 'Measured.',
  'R-COST-2':
    'Sparse reservations (sanitizers, JS heaps: terabytes of PROT_NONE) make plain pagemap unusable (2 s/TiB and more): skip VMAs whose smaps Rss+Swap+hugetlb is 0, or use PAGEMAP_SCAN; read pagemap in…',
  'R-DEX-1': 'Kernel API for GPU drivers and lib/test_hmm; needs CONFIG_DEVICE_PRIVATE.',
  'R-DEX-2': 'npages = (end−start)/PS; GUP(FOLL_GET|FOLL_WRITE|FOLL_SPLIT_PMD, all pages).',
  'R-DEX-3':
    'Conversion needs an anonymous non-hugetlb folio; every PTE mapping it is replaced by a device-exclusive entry (writable or readable according to the PTE; dirty bit moved to the folio; soft-dirty and…',
  'R-DEX-4':
    'FOLL_SPLIT_PMD splits the page-table entry, not the compound page: of a THP only the head page can be accepted, the 511 tails return NULL.',
  'R-DEX-5': 'MMU notifier MMU_NOTIFY_EXCLUSIVE with owner around the conversion.',
  'R-DEX-6':
    'hugetlb in range: 6.12 GUP refuses FOLL_SPLIT_PMD on hugetlb with EOPNOTSUPP (ends the range there); 6.1 GUP returns the page and R-DEX-2/3 NULL it.',
  'R-DEX-7':
    '(src>6.18): single-page make_device_exclusive(mm, addr, owner, &folio): helper V with the same flags; not anonymous or hugetlb → EOPNOTSUPP; killable folio lock → its errno; second walk must find…',
  'R-DEX-9':
    "fork restores the parent's entry first, without an event of its own (the VMA's is enough), then shares the page like any other: both read-only, X gone, or copied at once when it is maybe-pinned.",
  'R-DEX-10':
    'Zapping (munmap, MADV_DONTNEED, exit, MADV_GUARD_INSTALL) drops the entry and the reference it kept, RssAnon falls by one; no folio lock is needed.',
  'R-DEX-11':
    'What does not fault leaves the entry: mprotect (event for the range, entry unchanged), mremap (moved as it is), MADV_FREE, MADV_COLD, MADV_PAGEOUT, MADV_WILLNEED (return 0, nothing done), KSM…',
  'R-DEX-12': 'GUP faults entries in like a CPU access (process_vm_*, /proc/PID/mem, vmsplice, pins).',
  'R-DEX-13':
    'pagemap shows a swap entry of type 30 whose offset is the PFN, without bit 56; smaps counts the page in Rss, Pss and Anonymous and as shared with somebody; mincore says 1; VmSwap does not count it.',
  'R-DEX-14':
    'userfaultfd: UFFDIO_COPY over an entry EEXIST; UFFDIO_WRITEPROTECT sets and clears the mark in the entry, a marked one is restored read-only; UFFDIO_MOVE EFAULT.',
  'R-DEX-15':
    'The device here is one of the kind of lib/test_hmm (/dev/hmm_dmirror0, HMM_DMIRROR_EXCLUSIVE): it mirrors the memory of the process that opened it in page tables of its own, holds no references…',
  'R-DIO-1':
    'pread/pwrite of a file opened with O_DIRECT first check: a negative position → EINVAL; not open for it → EBADF; memory that is not user memory as a whole → EFAULT; position and length beyond 2^63 −…',
  'R-DIO-2': 'The file is gone through in runs of blocks (4 KiB) that are on the disk or are not.',
  'R-DIO-3':
    'address and length of all memory that is left must be multiples of the sector size → EINVAL, before a page is taken (seen on 6.12.117).',
  'R-DIO-4':
    'A bio takes pages with pin_user_pages_fast (WRITE for a read of the disk), at most 256 pieces, until it has the run or a page cannot be had; what is not a whole sector at the end is given back.',
  'R-DIO-5': 'Before either direction what the cache has dirty of the range is written (R-FLT-42).',
  'R-DIO-6':
    'A write takes the pages of the range out of the cache and out of all mappings before it begins and again, as far as it has written, after it succeeded; pinned and referenced ones too: they live on…',
  'R-DIO-7':
    'A call that cannot move all it was asked for fails as a whole, EFAULT or EINVAL, never a short count; what was moved before stays moved: bytes in memory, bytes in blocks that were on the disk before.',
  'R-DIO-8':
    'A read that reaches over the end of the file writes to all its memory, zeros behind the end, and returns the bytes up to the end.',
  'R-DIO-9':
    'When the last page of a file is written back, what it has beyond the end of the file becomes zero, in the page too.',
  'R-DIO-10':
    'Growing a file zeroes what its last page has beyond the old end: write(2) at a later position, on 6.18 also ftruncate; a direct write further on does not, nor what it leaves to the page cache…',
  'R-DIO-11': 'Pages a read has filled are dirty when they are let go (R-GUP-67).',
  'R-DIO-12':
    'not 6.1, where it fails as a whole (R-DIO-7): a write that stops in the middle of a new block, at memory that cannot be had, has only to zero the rest of the block, and its success hides the error…',
  'R-DIO-13':
    'A direct read that reaches a page of a hole which has been written to in the cache but not to the disk yet → EIO: it has dirtied it itself, by zeroing memory that is a shared mapping of that very…',
  'R-DIO-14':
    'A run of new blocks that begins behind the last page of the file gets its place as a whole before anything is moved; a write that R-DIO-12 lets stop early keeps it.',
  'R-DIO-15': 'All bios of a call are under way before it waits for the first.',
  'R-DMP-1':
    'dump_user_range walks each chosen VMA page by page; get_dump_page returns a page or NULL; NULL → the file offset is skipped (a hole on seekable files, zeroes on pipes).',
  'R-DMP-2': 'NULL for: read lock killed; GUP result ≠ 1.',
  'R-DMP-3': 'FOLL_FORCE: PROT_NONE pages are dumped.',
  'R-DMP-4': 'userfaultfd: the dumping task never waits (SIGBUS at once) → hole.',
  'R-DMP-5':
    'Which VMAs, default coredump_filter 0x33: VM_DONTDUMP → none; anonymous private and COWed private file (whole VMA if it has an anon_vma), shared memory of unlinked files (shared anon), ELF header…',
  'R-DMP-6': '(pattern per page, D data, z zero bytes written,. hole).',
  'R-DMP-7':
    'Locking: 6.1 takes and drops mmap_lock per page, retryable faults. v3, 6.12: GUP takes and drops the lock itself (locked = 0, not retryable).',
  'R-DMP-8':
    'Stop conditions between pages: RLIMIT_CORE reached, pending fatal signal or freezer, short write.',
  'R-DRV-1':
    'The limit is always rlimit(RLIMIT_MEMLOCK) >> PAGE_SHIFT (soft limit, bytes rounded down to pages); a request fails when current + requested > limit.',
  'R-DRV-2':
    'The counters mm->locked_vm, mm->pinned_vm and user->locked_vm are three independent budgets, each compared with the same limit. mlock, VFIO type1 and powerpc share the first; RDMA, usnic, qib…',
  'R-DRV-3': 'capable(CAP_IPC_LOCK) is a check against the initial user namespace.',
  'R-DRV-4': 'The same page registered twice, by one or several registrations, is charged every time.',
  'R-DRV-5': 'can_do_mlock(): true if the soft RLIMIT_MEMLOCK is not 0, or CAP_IPC_LOCK.',
  'R-DRV-6':
    'Charging never depends on residency: unpopulated, swapped or THP/hugetlb memory is charged in PS units for the pages requested.',
  'R-DRV-7':
    '(errno pass-through) Unless a section says otherwise a negative GUP return is handed up unchanged.',
  'R-DRV-8':
    '(what makes the difference between EFAULT and ENOMEM) One-shot callers (AF_XDP, vduse, vhost-vdpa per batch) turn a short count into ENOMEM; looping callers ask again from the failing page and then…',
  'R-DRV-9':
    '(userfaultfd) A caller that keeps the mmap lock (pin_user_pages, get_user_pages, pin_user_pages_remote with locked==NULL) lets no fault be retried; a missing or write-protected page in a registered…',
  'R-DRV-10':
    '(memory kinds, write+longterm pin) accepted: anonymous private/shared, memfd, tmpfs MAP_SHARED, hugetlb (any 4 KiB-aligned sub-range), private file mapping with write permission (COW copy is…',
  'R-DRV-11': '(stale mapping) A pin is on pages, not on addresses.',
  'R-DRV-12':
    '(fork) With FOLL_PIN the child gets its own copy at fork time and the parent keeps the pinned page, so parent writes after fork stay visible to the device and child writes do not.',
  'R-DRV-13': '(memory visible as lost) A pinned page whose mapping is gone is neither mapped nor free.',
  'R-DRV-14':
    '(object lifetime) Pins belong to the kernel object (socket, MR, container, iommufd context), not to the process: they survive exec, and exit of the registering process if another holds the fd.',
  'R-DRV-16':
    '(dropped FOLL_FORCE) umem, usnic, siw, qib, videobuf used FOLL_FORCE in 6.1; a series merged for 6.2 removed it together with reliable read-only long-term pins in COW mappings, so v3 and later have…',
  'R-DRV-17':
    '(which errno wins when the buffer is bad and the limit is too small) limit first: AF_XDP, ib_umem, siw, usnic, qib, powerpc, vduse, vhost-vdpa (invisible there).',
  'R-DRV-18':
    'The counter is not in procfs. A consumption-free probe exists: with an AF_XDP socket and a page-aligned unmapped address, XDP_UMEM_REG of n pages returns ENOBUFS when user->locked_vm + n > limit and…',
  'R-DRV-19':
    '"closed" = last reference to the open file, counting dup, fork, SCM_RIGHTS and mmaps of the file.',
  'R-EXE-1':
    'Entry: execve/execveat. A new mm gets a one-page stack VMA at the top of the address space, anonymous, growing down, flag VM_STACK_INCOMPLETE_SETUP (rmap-based migration skips it); position p starts…',
  'R-EXE-2':
    'Order: (1) argv array counted: unreadable array → EFAULT (envp likewise); more than MAX_ARG_STRINGS (2^31−1) → E2BIG; fatal signal → the call is killed; (2) the same for envp; (3) limit computation…',
  'R-EXE-3': 'Limit exact to the byte: limit = max( min(RLIMIT_STACK/4, 6 MiB), 131072 ).',
  'R-EXE-4':
    'One string: strnlen up to MAX_ARG_STRLEN = 32·PS including the NUL; unreadable → EFAULT; longer → E2BIG (131071 characters ok, 131072 E2BIG).',
  'R-EXE-5':
    'Which error wins follows the copy order: argv = {bad pointer, too long} → E2BIG; {too long, bad pointer} → EFAULT; argv bad + env too long → E2BIG; argv too long + env bad → EFAULT.',
  'R-EXE-6':
    'get_arg_page(pos, write) 6.1, 6.12: if writing below the VMA start: mmap_write_lock, expand downwards, error → "no page", downgrade to read; otherwise mmap_read_lock.',
  'R-EXE-7':
    'Growth is bounded by the current RLIMIT_STACK, so with a small limit E2BIG comes before the 131072 floor is used up (limit 64 KiB: 66016-byte argument → E2BIG; limit 16 KiB: 16864 → E2BIG).',
  'R-EXE-9':
    'The page is kept mapped in the kernel while strings fall in the same page, then put_page; it is not marked dirty explicitly.',
  'R-FD-3': 'io_uring fdinfo (order as listed; TAB after the colon).',
  'R-FD-4': 'The buffer list needs ctx->uring_lock, taken by trylock.',
  'R-FD-5': "Attribution: each ring's owner mm is the creator's.",
  'R-FLT-1': 'ref is the sum of the following; a folio is freed when it reaches 0.',
  'R-FLT-2': 'The zero page and huge zero page are mapped without any accounting: no ref, no map, no RSS.',
  'R-FLT-4': 'Measured totals ( unless noted; b = 1 if still in an LRU batch).',
  'R-FLT-5':
    'folio_maybe_dma_pinned: small folio: (unsigned)ref >= 1024 (false positives possible: 1024 plain references make KSM, swap-out, migration and — with MMF_HAS_PINNED — fork treat the page as pinned)…',
  'R-FLT-6':
    'MMF_HAS_PINNED (per mm): set by the first FOLL_PIN operation on that mm — also one made by another process through pin_user_pages_remote, also a read-only pin — never cleared, not inherited by fork.',
  'R-FLT-7': 'Small folio: number of ptes mapping it in all mms (not references, not pins).',
  'R-FLT-8':
    'Hardware dirty stays in the pte; the folio dirty flag of an anon page is normally clear even after writes.',
  'R-FLT-9':
    'Meaning: this anonymous page is mapped by exactly one mm and may be made writable without looking at counts.',
  'R-FLT-10':
    'Set on: fresh anonymous page (any fault that allocates one); copy made by COW/unshare/fork copy; reuse decision (R-FLT-45); swap-in with exclusive marker or as sole owner; migration of an exclusive…',
  'R-FLT-11':
    'Cleared only with the page table lock held and only if not maybe-pinned: fork (share), KSM write-protection, swap-out (then remembered in the swap entry), migration/split freeze (remembered in the…',
  'R-FLT-12':
    'Guarantee: a FOLL_PIN is only ever taken on an anonymous page with X (write pin: pte writable; read pin: X checked, else unshare first), hence a page pinned with FOLL_PIN keeps X and stays the page…',
  'R-FLT-13': 'Zapping does not clear X; an unmapped pinned page keeps the bit.',
  'R-FLT-14': 'mprotect(PROT_NONE) keeps the pte present (protnone) and the PFN visible in pagemap.',
  'R-FLT-20':
    'User-mode access, order of checks: non-canonical address → general protection → SIGSEGV, si_code SI_KERNEL (128).',
  'R-FLT-21': 'Whether a fault may drop the lock: needs FAULT_FLAG_ALLOW_RETRY.',
  'R-FLT-22':
    'Counters: PGFAULT counts every finished fault, failed ones too; min_flt/maj_flt only successful ones; major if VM_FAULT_MAJOR or FAULT_FLAG_TRIED; 6.1 counts PGFAULT once per attempt, retries…',
  'R-FLT-23':
    'Kernel copies (read(2)/write(2) buffers, process_vm local side) take the same path as user accesses, including stack growth; their failure is EFAULT or a short count.',
  'R-FLT-24':
    "GUP's own permission checks run before the fault (gup.md); handle_mm_fault then re-checks only: UNSHARE together with WRITE → SIGSEGV+WARN; WRITE without VM_MAYWRITE, or without VM_WRITE on a…",
  'R-FLT-25':
    'Stack growth (only faults, v3 also GUP slow path): VMA above is VM_GROWSDOWN; address ≥ mmap_min_addr; the next lower VMA, if it is accessible and not growsdown, must be at least stack_guard_gap…',
  'R-FLT-30':
    'Order: (1) R-FLT-24 checks; (2) hugetlb VMA → huge-pages.md; (3) upper-level tables allocated (failure OOM); (4) PMD none and THP allowed here → huge fault, on FALLBACK continue; (5) PMD is a…',
  'R-FLT-31':
    'Every step re-checks the entry under the page-table lock; if it changed meanwhile the fault returns 0 (or NOPAGE) and the access is repeated.',
  'R-FLT-32':
    'Locks: mmap_lock read or per-VMA read lock (user faults, v3+ CONFIG_PER_VMA_LOCK); page-table lock for every entry change; folio lock for file faults, swap-in and reuse tests.',
  'R-FLT-34':
    'Read (also UNSHARE): map the zero page: special, read-only; accessed; uffd-wp if the old entry was a uffd-wp marker.',
  'R-FLT-35':
    'Write: (1) anon_vma prepared (OOM on failure); (2) folio allocated and charged (OOM); order 0 unless mTHP sizes are enabled (off by default) and no uffd is armed; zeroed; (3) under the lock: entry…',
  'R-FLT-36': 'A later write to a zero-page pte is a wp fault (section 6) and allocates a zeroed page.',
  'R-FLT-37': 'MAP_PRIVATE of /dev/zero behaves as anonymous.',
  'R-FLT-38': 'vm_ops without fault handler → SIGBUS.',
  'R-FLT-39':
    'Read fault. Fault-around if vm_ops has map_pages (regular files, shmem; not hugetlb/special) and the VMA is not uffd WP/MINOR registered.',
  'R-FLT-39.3':
    'Otherwise the fault handler: index ≥ EOF (rounded up to pages) → SIGBUS; absent from cache → MAJOR; it is read, and on a disk file the missing pages around it up to EOF, holes too, each as a page of…',
  'R-FLT-40':
    'Private write fault: anon_vma; allocate folio; run the fault handler (so the file page is brought into the cache and, for shmem holes, allocated); copy; install the copy as X, writable+dirty…',
  'R-FLT-41':
    'Shared write fault: run handler; if vm_ops has page_mkwrite: it waits for writeback/freeze, may fail → SIGBUS (e.g. no space), marks dirty; map writable+dirty; folio dirty; file times updated; dirty…',
  'R-FLT-42':
    'vm_page_prot and dirty tracking: shared writable mapping of a filesystem with page_mkwrite (ext4, xfs, btrfs …): read faults and fault-around install read-only ptes; first write = wp fault →…',
  'R-FLT-43':
    'shmem (tmpfs, memfd, shared anon, SysV shm) handler order: hole punch in progress → wait; index beyond i_size → SIGBUS; cached and uffd MINOR → userfault; swapped → swap-in into the cache; cached →…',
  'R-FLT-44':
    'Raw mappings: remap_pfn_range fills (part of) a new mapping with special entries that name physical frames, as vm_page_prot has it, and sets VM_IO|VM_PFNMAP|VM_DONTEXPAND|VM_DONTDUMP; no page is…',
  'R-FLT-45':
    'Decision order: WRITE, pte uffd-wp and VMA uffd-WP registered: WP_ASYNC → clear the bit, continue; else userfault (WP).',
  'R-FLT-46': 'Reuse: pte writable (iff VM_WRITE) + dirty + accessed; PGREUSE.',
  'R-FLT-47':
    'Copy: anon_vma; allocate (OOM); zero page → zeroed page, else copy (poisoned source → HWPOISON); under lock re-check; new page X, map 1, ref 1(+b); RSS file→anon if the old page was a file page…',
  'R-FLT-48': 'After an UNSHARE copy the next write is one more wp fault that reuses.',
  'R-FLT-49':
    'Outcomes: parent writes first while child lives → parent gets a new page, child keeps the old one without X; child writes afterwards → reuses the old page (X set).',
  'R-FLT-50':
    'FOLL_FORCE write to a read-only private mapping: GUP asks for a write fault; result is an X page under a read-only pte, which GUP then accepts because the page is anonymous and X (see gup.md).',
  'R-FLT-51':
    'Order by kind: migration entry → wait until gone, return 0; device-exclusive → R-DEX-5; device-private → unmodelled; hwpoison → HWPOISON; marker: poisoned → HWPOISON; guard 6.18 → SIGSEGV; uffd-wp →…',
  'R-FLT-52':
    'Swap-in: (1) look in the swap cache; (2) not there: synchronous device (zram) and swap count 1 → read into a private folio bypassing the swap cache; else read through the swap cache (readahead)…',
  'R-FLT-53':
    ". GUP write pin on a swapped page: swap-in, then X page pinned; after fork with swapped page: parent's pin gets its own page, child keeps the swap entry.",
  'R-FLT-54': 'mprotect changes pte permissions in place; pages, X, pins, PFNs stay.',
  'R-FLT-55':
    'Migration entries lose "write" (anon: become read-exclusive); swap entries unchanged; markers unchanged; device-exclusive entries unchanged (R-DEX-11).',
  'R-FLT-56':
    'NUMA hinting (numa_balancing on): scanner makes ptes protnone; skips KSM, special, dirty file pages, and in COW mappings pages that are maybe-pinned (6.12) or mapped elsewhere; the next access…',
  'R-FLT-60': 'Per VMA: VM_DONTCOPY (MADV_DONTFORK): not created in the child.',
  'R-FLT-61':
    "Parent's mmap_lock is held for write, write_protect_seq is odd while a COW mapping is copied (GUP-fast backs off and waits).",
  'R-FLT-62': 'Per entry.',
  'R-FLT-63':
    '(io_uring-registered page: child PFN differs right after fork, parent PFN/X/ref 1025 unchanged, parent write +0 faults, child write +0 faults; neighbouring unpinned page shared, parent write +1…',
  'R-FLT-64':
    'False positive: ≥1024 GET references make the page "maybe pinned", but only if MMF_HAS_PINNED is set: unset → shared; set by any earlier, unrelated pin → copied.',
  'R-FLT-65':
    "The child's copy is not pinned and the child's MMF_HAS_PINNED is clear: a grandchild shares it.",
  'R-FLT-66':
    "Failure (allocation for a copy, swap count overflow, poisoned source): fork fails with ENOMEM whatever the inner code was; partial child is torn down; parent pages already write-protected/un-X'ed…",
  'R-FLT-67':
    'A pin taken after fork on a shared page: write pin → wp copy in the pinning process (or reuse when sole owner); read pin → unshare.',
  'R-FLT-70':
    'Zap of a present pte: clear entry; file page: folio dirty if pte dirty, RSS file −1; anon: RSS anon −1, content dropped; map −1; ref −1 after TLB flush.',
  'R-FLT-71': 'Pins never prevent or fail an unmap.',
  'R-FLT-72':
    'MADV_DONTNEED: per VMA; VM_LOCKED or VM_PFNMAP (or special VMA) → EINVAL (MADV_DONTNEED_LOCKED allows locked); unaligned start → EINVAL; hole inside range → rest is done, ENOMEM.',
  'R-FLT-73': 'MADV_FREE: VMA must be anonymous else EINVAL (file, shared anon); VM_LOCKED → EINVAL.',
  'R-FLT-74':
    'Truncate (ftruncate smaller): unmaps every mapping of the removed range including private COWed copies, removes pages from the cache (mapping NULL, dirty cleared, cache reference dropped), repeats…',
  'R-FLT-75': 'Hole punch (fallocate PUNCH_HOLE, MADV_REMOVE): same but private COWed pages stay mapped.',
  'R-FLT-76':
    'mremap move: entries moved 1:1 (PFN, X, pins, soft-dirty; uffd-wp dropped unless EVENT_REMAP); old VA unmapped.',
  'R-FLT-77':
    'exit/exec: all mappings zapped; pinned pages live until the pin owner (e.g. io_uring ring, released asynchronously after close) drops them.',
  'R-FLT-78':
    'MADV_GUARD_INSTALL 6.18: zaps the range and installs guard markers; access → SIGSEGV SEGV_MAPERR; GUP → -EFAULT; MADV_POPULATE → EFAULT; inherited by fork; survives MADV_DONTNEED; MADV_GUARD_REMOVE…',
  'R-FLT-90':
    'MADV_PAGEOUT/COLD: EINVAL on VM_LOCKED, hugetlb, VM_PFNMAP VMAs; drains batches; skips pages not on LRU, mapped more than once, special; returns 0 whatever was reclaimed.',
  'R-FLT-91':
    'Reclaim of one page, order: unevictable → keep; writeback → wait/keep; anonymous+swapbacked not yet in swap cache: maybe-pinned → keep (mapping untouched); large and not splittable → keep; no swap…',
  'R-FLT-92':
    'Hence swappable = anon or shmem, not mlocked, not maybe-pinned, no unexpected references at the last step; a GET reference lets the pte become a swap entry but keeps the page in the swap cache (row…',
  'R-FLT-93': 'No swap configured: anon pages stay, MADV_PAGEOUT still returns 0.',
  'R-FLT-94': 'swapoff brings every entry back as a present X page if exclusive (map 1, dirty).,.',
  'R-FLT-95': 'Swapped shmem pages leave pte none; only the cache holds the swap entry.',
  'R-FLT-96':
    "MADV_WILLNEED on anonymous memory reads swapped pages into the swap cache and changes no entry; a page found there is owned only with the entry's exclusive marker, or when a write finds no other…",
  'R-FLT-110':
    'Register: range page aligned, len > 0; mode subset of MISSING 1, WP 2, MINOR 4, not 0 → else EINVAL; no VMA in range → EINVAL; VMA kind: MISSING/WP: anon, shmem, hugetlb (6.1: WP on shmem/hugetlb…',
  'R-FLT-111':
    'When events fire: MISSING: anon none (read or write), shmem/hugetlb page absent from the cache.',
  'R-FLT-112': 'Message flags: WRITE 1, WP 2, MINOR 4.',
  'R-FLT-113':
    'UFFDIO_COPY: install X page (anon) writable iff VM_WRITE, dirty; present entry or THP → EEXIST; file offset beyond EOF → EFAULT; range not registered/VMA mismatch → ENOENT; mappings changing →…',
  'R-FLT-114':
    'UFFDIO_WRITEPROTECT on: present pte gets uffd-wp and loses write; none pte: nothing for anon unless WP_UNPOPULATED, then marker; shmem: always marker.',
  'R-FLT-115':
    'A read of a marker page installs the page with uffd-wp kept (anon: zero page with uffd-wp)./.',
  'R-FLT-116': 'Without EVENT_FORK the child VMA is unregistered and its ptes carry no uffd-wp.',
  'R-FLT-117': 'uffd-armed VMAs get no mTHP; PMD THP only via the userfault path.',
  'R-FLT-118':
    'userfaultfd(2): without UFFD_USER_MODE_ONLY needs CAP_SYS_PTRACE or vm.unprivileged_userfaultfd=1, else EPERM; flags other than USER_MODE_ONLY, O_CLOEXEC, O_NONBLOCK EINVAL.',
  'R-FLT-119':
    "UFFDIO_UNREGISTER: R-FLT-110's range checks, EINVAL where nothing is mapped or a mapping of another descriptor lies in the range (6.18; before, any descriptor could take it away); mappings that are…",
  'R-FLT-120':
    'handle_userfault, order: task exiting/coredumping → SIGBUS; UFFD_FEATURE_SIGBUS → SIGBUS; non-user access (GUP, kernel copy) and fd created with UFFD_USER_MODE_ONLY → SIGBUS; no ALLOW_RETRY →…',
  'R-FLT-121':
    'So a pin request on a userfault: unlockable GUP → blocks until resolved, then continues; not unlockable → -EFAULT with no event (6.1 and v3 io_uring registration); FOLL_NOWAIT → 0 pages.',
  'R-FLT-122':
    'FEATURE_SIGBUS: user read/write SIGBUS BUS_ADRERR; io_uring register, POPULATE, write(2), process_vm_readv EFAULT.',
  'R-FLT-123':
    'Events, each with its feature: the task that changes the address space tells the descriptor after the change, without mmap_lock, and sleeps until the message has been read (REMOVE: before the…',
  'R-FLT-124':
    'UFFDIO_MOVE 6.12, 6.18 (≥6.8): source and target each within one private anonymous mapping of the same protection and locked state, writable, target watched by this descriptor, else EINVAL (nothing…',
  'R-FLT-125':
    'Details of R-FLT-113 and R-FLT-114: COPY and CONTINUE replace markers, ZEROPAGE and POISON of private memory are EEXIST on them; the range must lie within one mapping that is watched by any…',
  'R-FLT-126':
    'hugetlb: MISSING, WP and MINOR in units of huge pages; ranges that cut one EINVAL, before any VMA of the range is changed (UNREGISTER: only where somebody watches it); ZEROPAGE EINVAL; COPY takes a…',
  'R-FLT-127':
    'THP: MISSING raises the event before a huge page or a page table is made, for the small page touched; COPY then fills small pages.',
  'R-FLT-130': 'Candidate: anonymous page in a VM_MERGEABLE VMA.',
  'R-FLT-131':
    'KSM page: map = number of ptes, ref = map; never X; write → copy; read pin → unshare copy; write pin → copy; FOLL_GET read → stays. fork shares it.',
  'R-FLT-132':
    'One scan, address spaces in order of their first MADV_MERGEABLE (a child: of its fork), addresses ascending: a page equal to a merged one joins it; otherwise its content must be what it was at the…',
  'R-FLT-140':
    'Needs ref == expected (map + cache/swapcache × pages + PG_private) + isolation; checked after unmapping.',
  'R-FLT-141': 'During migration ptes are migration entries (R-FLT-51 waits; fork R-FLT-62).',
  'R-FLT-142':
    'move_pages, status of a page when nodes are given, in this order: no VMA, or VM_IO/VM_PFNMAP → -EFAULT; not there → as in R-FLT-144; on the wanted node → node, whoever maps it and whatever holds it…',
  'R-FLT-143':
    'FOLL_LONGTERM on pages in ZONE_MOVABLE/CMA: they are migrated out before the pin is granted — the PFN changes, content stays; not migratable (extra reference) → GUP returns -ENOMEM and pins nothing…',
  'R-FLT-144':
    'move_pages with nodes NULL tells where pages are and changes nothing: no VMA → -EFAULT; none entry, swap entry, migration, marker, raw PFN → -ENOENT; zero page, huge zero page → -EFAULT; else the…',
  'R-FLT-145':
    'move_pages with nodes goes through the list in order: address or node cannot be read → EFAULT; node negative, too large or not online → ENODEV; pages for one node in a row are one batch, which is…',
  'R-FLT-146':
    'move_pages, checks in order: flags other than MPOL_MF_MOVE (2) and MPOL_MF_MOVE_ALL (4) → EINVAL; MOVE_ALL without CAP_SYS_NICE → EPERM, for queries too; no such process → ESRCH (negative pid too)…',
  'R-FLT-150':
    'MADV_POPULATE_READ/WRITE errors: no VMA → ENOMEM; VMA flag check fails (PROT_NONE, read-only for WRITE, VM_IO/VM_PFNMAP, secretmem) → EINVAL; SIGBUS/SIGSEGV fault (beyond EOF, guard, uffd SIGBUS) →…',
  'R-FLT-151':
    'MAP_POPULATE and mlock: private writable VMA → write faults, others → read faults; errors ignored by mmap, mlock → ENOMEM (e.g. PROT_NONE VMA). mlocked pages get MLOCKED and UNEVICTABLE; munlock…',
  'R-FLT-160':
    'Reads: position and count must be multiples of 8 else EINVAL; beyond the address space → 0 bytes; opening needs ptrace-read permission (EACCES); without CAP_SYS_ADMIN when it was opened the…',
  'R-FLT-161':
    'Shapes seen: zero page P, PFN const; anon sole P X; shared anon page P; file P F X/P F; shmem swapped or unmapped: 0; swapped anon S; marker uffd-wp raw 0x3f (type 31, offset 1; 6.1: 0x3e), poison…',
  'R-FLT-162': 'Bit 56 says nothing about X: a page that lost X and is mapped once again shows bit 56.',
  'R-FLT-163':
    'Soft dirty: clear_refs "4" clears bit 55 and write-protects; next write faults once (+1 also on X pages) and sets it; a write pin sets it too.',
  'R-FLT-165':
    'kpagecount = per-page precise mapcount: ptes mapping that page + entire (PMD/hugetlb) mappings of its folio.',
  'R-FLT-166':
    'kpageflags bits: 0 LOCKED, 2 REFERENCED, 3 UPTODATE, 4 DIRTY, 5 LRU, 6 ACTIVE, 8 WRITEBACK, 9 RECLAIM, 10 BUDDY, 11 MMAP (mapped), 12 ANON, 13 SWAPCACHE, 14 SWAPBACKED, 15 HEAD, 16 TAIL, 17 HUGE, 18…',
  'R-FLT-167': 'Bit 34 tracks X exactly for small pages on all kernels tried.',
  'R-FLT-168':
    'Orphaned pinned page: ANON|SWAPBACKED|b34, no MMAP, kpagecount 0 (memfd: no ANON, no MMAP, DIRTY clear).',
  'R-FLT-170':
    'Pins do not change smaps, except that any extra reference makes smaps classify by mapcount instead of the ref==1 shortcut (same result for map 1).',
  'R-FLT-171':
    'nr_foll_pin_acquired/released count FOLL_PIN operations per page, folded lazily; write /proc/sys/vm/stat_refresh first.',
  'R-FLT-172':
    'read(2) of a file takes its bytes from the page cache; negative position → EINVAL, before anything else; not open for reading → EBADF, a kind without a read method → EINVAL, memory that is not user…',
  'R-FLT-173':
    'write(2) goes through the file page by page: each page is brought into the cache (a page written in part keeps its other bytes, zeros in a hole), filled, marked dirty, and the end of the file moves…',
  'R-FLT-174':
    'Up to 6.12 write(2) first looks whether the memory can be read; 6.18 takes the page of the file first: a write that fails with EFAULT leaves an allocated page at its position and the end of the file…',
  'R-FLT-175':
    'Where memory and file show the same page, a transfer runs upwards and reads again what it has just written (a page read to 3500 bytes behind its own start repeats its first 3500 bytes).',
  'R-GAT-1':
    'Reached when no VMA contains the address but in_gate_area() says yes (x86-64: the vsyscall page at 0xffffffffff600000; other architectures not checked).',
  'R-GAT-2': 'FOLL_WRITE → EFAULT. Missing page-table level or empty PTE → EFAULT.',
  'R-GAT-4':
    'Reading the vsyscall page with PEEK: vsyscall=xonly or none → EIO in all profiles (not mapped). vsyscall=emulate (page is mapped): v3 GUP succeeds, vma_lookup finds nothing → R-COM-21: EIO, page…',
  'R-GLOB-1':
    'vmstat nr_foll_pin_acquired / nr_foll_pin_released 6.1..6.18: references taken / dropped with FOLL_PIN since boot by all processes (a fully pinned 2 MiB folio = 512).',
  'R-GLOB-3': 'meminfo: Key: blanks value [kB].',
  'R-GLOB-4':
    '/sys/kernel/mm/transparent_hugepage/: enabled, defrag, shmem_enabled list choices with the active one in brackets; use_zero_page, hpage_pmd_size plain; khugepaged/*; per-size directories…',
  'R-GLOB-5':
    'sysctls the model needs: vm.{overcommit_memory, overcommit_ratio, overcommit_kbytes, max_map_count, mmap_min_addr, nr_overcommit_hugepages, hugetlb_shm_group, compact_unevictable_allowed…',
  'R-GRU-1':
    'non_atomic_pte_lookup: one page, WRITE if the miss is a write, get_user_pages ≤ 0 → EFAULT; takes the physical address and drops the reference at once; nothing stays pinned, validity is kept by…',
  'R-GRU-2': 'Page shift: HPAGE_SHIFT for hugetlb VMAs, else PAGE_SHIFT; the address is rounded down to it.',
  'R-GRU-3':
    'In interrupt ("atomic") context GUP is not called: result RETRY, the block is switched to user polling mode and resolved later in process context with mmap read lock.',
  'R-GUP-1':
    'Differences of 6.1: get_user_pages, get_user_pages_remote, pin_user_pages and pin_user_pages_remote have an extra vmas array argument directly after pages; pin_user_pages_fast_only and follow_page…',
  'R-GUP-2':
    'start need not be page aligned on the slow paths (only its page number is used; the low bits are carried along); the *_fast entry rounds it down.',
  'R-GUP-3':
    'Result convention of every slow entry: n > 0 = the first n pages of the range are held and stored in pages[0..n-1] (n may be smaller than asked); negative = nothing is held by this call; 0 =…',
  'R-GUP-4':
    'Result convention of *_fast: as R-GUP-3, but an error of the slow part is hidden when the lockless part already obtained k>0 pages: k is returned.',
  'R-GUP-5':
    'Numeric values are profile data, never constants of the model: 0x2 is TOUCH in 6.1 and GET from v3 on; 1<<12 is SAME_FILE in v3 and HONOR_NUMA_FAULT in ≥6.6.',
  'R-GUP-6':
    'Meaning of unlockable: 6.1 "the locked pointer is non-null"; v3+ "FOLL_UNLOCKABLE is set" (the pointer itself is always non-null internally).',
  'R-GUP-7': 'One validator runs first in every exported get/pin function.',
  'R-GUP-7.1': 'caller passed an internal flag.',
  'R-GUP-7.2':
    "the wrapper's own flags are now ORed in; if locked is non-null, *locked must be 1, then UNLOCKABLE is ORed in.",
  'R-GUP-8': 'What a rejected call returns — the asymmetry is real and must be modelled.',
  'R-GUP-9':
    'validation instead: get_user_pages, _remote and _fast reject PIN or LONGTERM (warn, -EINVAL); get_user_pages_unlocked (and therefore pin_user_pages_unlocked) rejects LONGTERM only; every pin_*…',
  'R-GUP-10':
    '*_fast entry checks, after R-GUP-7, in this order: (a) flags outside {WRITE, LONGTERM, FORCE, PIN, GET, FAST_ONLY, NOFAULT; from v3 PCI_P2PDMA; from 6.6 HONOR_NUMA_FAULT} → warn once, -EINVAL.',
  'R-GUP-11':
    'nr_pages == 0: slow entries return 0 and touch no page (6.1, v3, 6.6 pin entries still set MMF_HAS_PINNED, and the *_unlocked ones still take and release L; 6.12 returns before touching lock or…',
  'R-GUP-13':
    'At the first page and whenever the current address reaches the end of the current VMA, a lookup is done.',
  'R-GUP-14':
    'No VMA but address inside the gate area (x86: the vsyscall page, if configured): FOLL_WRITE → -EFAULT; any missing table level or empty PTE → -EFAULT; otherwise the page is taken (special page that…',
  'R-GUP-15': 'No VMA and no gate → -EFAULT (or, if earlier pages of this call are held, the partial count).',
  'R-GUP-16': 'check_vma_flags runs once per VMA entered, in exactly this order; first hit wins.',
  'R-GUP-16.1': 'VM_IO or VM_PFNMAP → -EFAULT.',
  'R-GUP-16.2': 'FOLL_ANON and VMA not anonymous → -EFAULT.',
  'R-GUP-16.3': 'FOLL_LONGTERM and filesystem-DAX VMA → -EOPNOTSUPP.',
  'R-GUP-16.4': 'FOLL_SPLIT_PMD and hugetlb VMA → -EOPNOTSUPP.',
  'R-GUP-16.5': 'secretmem VMA → -EFAULT.',
  'R-GUP-16.6': 'FOLL_SAME_FILE and vm_file ≠ reference file → -EFAULT.',
  'R-GUP-16.7':
    'WRITE, VMA not anonymous, PIN and LONGTERM both set, VMA needs dirty tracking (R-GUP-20) → -EFAULT.',
  'R-GUP-16.8': 'WRITE and VMA lacks VM_WRITE (≥6.6: or is a shadow stack).',
  'R-GUP-16.9':
    'not WRITE and VMA lacks VM_READ: without FORCE, or with FORCE but lacking VM_MAYREAD → -EFAULT.',
  'R-GUP-17':
    'FOLL_SAME_FILE v3: Compared by identity of vm_file (null = anonymous counts as a value, so anonymous-only ranges pass and anonymous+file ranges fail).',
  'R-GUP-18':
    'Consequence for io_pin_pages in v3: mixed ranges now yield a short pin and the caller maps that to -EFAULT.',
  'R-GUP-19':
    'FOLL_FORCE writes: allowed in private mappings that may become writable (PROT_READ, PROT_NONE, private mapping of a read-only fd), refused on shared mappings.',
  'R-GUP-20':
    '"Needs dirty tracking" = VMA is shared and currently writable, and either its vm_ops have a page_mkwrite/pfn_mkwrite hook or its mapping can do writeback.',
  'R-GUP-21': 'VMA permissions are checked by the slow path only.',
  'R-GUP-22':
    '"FORCE can write" predicate used on present entries (also huge PMD; 6.18 later tree also PUD): entry is writable → yes.',
  'R-GUP-23': 'Missing table level, not-present entry, swap/migration/hwpoison/marker entry: NULL.',
  'R-GUP-24':
    'PTE order: (1) PIN+GET both set → -EINVAL with warning (≤6.12); (2) not present → R-GUP-23; (3) protnone PTE and not allowed to follow it (R-GUP-25) → NULL; (4) WRITE and R-GUP-22 says no → NULL…',
  'R-GUP-25':
    'protnone: 6.1, v3 followed only with FORCE. ≥6.6 followed unless FOLL_HONOR_NUMA_FAULT is set, and even then followed when the VMA itself has no access bits (PROT_NONE).',
  'R-GUP-26':
    'must-unshare is evaluated only when PIN is set and WRITE is not, and only for non-writable entries.',
  'R-GUP-27':
    'Huge PMD (THP): not present/protnone as above; SPLIT_PMD on a THP → split the PMD, allocate a page table if needed (-ENOMEM), continue at PTE level (6.1 huge zero page: may return -EBUSY when the…',
  'R-GUP-28':
    'Huge PUD/PMD device mappings ≤6.12: WRITE on non-writable → NULL; neither GET nor PIN → -EEXIST; pagemap gone → -EFAULT.',
  'R-GUP-29':
    'hugetlb: 6.1, v3 separate routine that walks hugetlb pages of the whole VMA part in one go (fatal signal → stop; empty + DUMP + no page-cache page → stop with -EFAULT; swap-type entry, non-writable…',
  'R-GUP-30': '-EEXIST means "mapped, but no page structure".',
  'R-GUP-31': 'NOFAULT → -EFAULT immediately (before anything else; also when the only reason is unsharing).',
  'R-GUP-32':
    'Flag translation: WRITE→FAULT_FLAG_WRITE; REMOTE→FAULT_FLAG_REMOTE; unlockable→ALLOW_RETRY|KILLABLE (+INTERRUPTIBLE iff FOLL_INTERRUPTIBLE); NOWAIT→ALLOW_RETRY|RETRY_NOWAIT; TRIED→TRIED; -EMLINK…',
  'R-GUP-33': 'Result of the fault.',
  'R-GUP-34': 'Not unlockable and not NOWAIT: the fault handler may not return retry.',
  'R-GUP-35': 'Preconditions: L held; nr_pages 0 → 0.',
  'R-GUP-36':
    'Per step: [VMA entry: R-GUP-13..17 (hugetlb branch 6.1, v3)] → fatal signal pending in the calling task → -EINTR → follow (section 5) → act.',
  'R-GUP-37':
    'Advance: inc = 1 + (~(start>>12) & page_mask), capped by the remaining count, i.e. up to the end of the huge mapping.',
  'R-GUP-38': 'Return: pages done if > 0, else the stop error (which is 0 for "retry needed").',
  'R-GUP-39':
    'VMA lookup is exact; no VMA → -ENOMEM; any check_vma_flags failure → -EINVAL; no gate handling.',
  'R-GUP-41':
    '*locked on entry: 1 = caller holds L; 0 (v3+ internal only) = function takes L with a killable read lock — failure → -EAGAIN — and releases it before return.',
  'R-GUP-42':
    'PIN → MMF_HAS_PINNED is set on the target mm now, before any page is looked at. pages non-null without PIN → GET is added.',
  'R-GUP-43': 'First pass: inner loop over the whole range.',
  'R-GUP-44':
    'Retry for exactly one page (the one that faulted): fatal signal (or any signal with INTERRUPTIBLE) → finish with pages done or -EINTR; take L killably (failure → pages done or that error, -EINTR)…',
  'R-GUP-45':
    'Finish: if L was ever dropped (or taken by us) and is held now, release it and set *locked = 0.',
  'R-GUP-46': 'VMAs are looked up afresh after every re-acquisition.',
  'R-GUP-47':
    'result 0 without NOWAIT triggers a warning and becomes -EFAULT; nr_pages == 0 returns 0 first.',
  'R-GUP-48':
    'NOWAIT never drops L: the first page that would need waiting ends the call with the count so far (possibly 0).',
  'R-GUP-49':
    'A folio is long-term pinnable iff (tests in order) CONFIG_MIGRATION off → yes; [CONFIG_CMA] pageblock is CMA or ISOLATE → no; zero page → yes; coherent device memory → no; zone is ZONE_MOVABLE → no…',
  'R-GUP-50': '__gup_longterm_locked without LONGTERM = section 8.',
  'R-GUP-51': 'The loop has no bound: a folio that can never be isolated makes it spin.',
  'R-GUP-52':
    'Counters: every round that ends in a restart or in failure adds n to both acquired and released; the last, successful round adds n to acquired only.',
  'R-GUP-53':
    'Locking of restarts: with L held by the caller and not droppable the whole loop runs under L; with unlockable variants each round re-takes L if *locked is 0.',
  'R-GUP-54': "long-term on the fast entry's slow part runs with L held and not droppable and without TOUCH.",
  'R-GUP-55':
    "Preconditions: architecture support; PIN: read the mm's write_protect_seq; odd (fork is write-protecting) → skip the lockless part entirely (0 pages).",
  'R-GUP-56': 'Interrupts are disabled around the walk.',
  'R-GUP-57':
    'The walk goes upward in address order and stops at the first page it cannot take; everything before it is kept.',
  'R-GUP-58': 'folio allowed: 6.1, v3: always yes (secretmem was tested before).',
  'R-GUP-59':
    'After the walk with PIN: if write_protect_seq changed, unpin all pages and continue as if 0 had been obtained.',
  'R-GUP-60':
    'Slow grab (stable folio): reference count ≤ 0 → warn once, -ENOMEM; v3+ PCI P2PDMA page without the flag → -EREMOTEIO; GET: refcount += n; PIN: zero page → nothing, success (6.1 LTS, ≥6.6; v3 treats…',
  'R-GUP-61':
    'Fast grab: neither GET nor PIN → warn, fail; P2PDMA without the flag → fail; GET: add n unless the count is zero (fail); then check the page still belongs to the same folio, else undo and retry.',
  'R-GUP-62':
    'Large-folio pins are exact (pincount); small-folio pins are inferred from the reference count.',
  'R-GUP-63':
    'Zero page (only the 4 KiB one): with the exemption neither count nor counters move on pin or unpin.',
  'R-GUP-64': 'Overflow: counts are signed 32-bit.',
  'R-GUP-65':
    'Unpin of a small folio uses the folio the page belongs to now. unpin_user_page on a page obtained by GET, or put_page on a pinned page, corrupts the count by 1023; the model must flag both…',
  'R-GUP-66':
    'unpin variants: unpin_user_pages: npages that is a negative errno cast to unsigned → WARN, return without unpinning.',
  'R-GUP-67':
    'Dirty rule: dirtying is per folio, done before the pin is dropped, skipped if the folio is dirty already; the race with writeback cleaning is benign (either it is written back after all or written…',
  'R-GUP-68':
    'folio_add_pin 6.6, 6.12 adds one pin to an already pinned folio (warns if it is not pinned) and does not increment nr_foll_pin_acquired, while its later release increments nr_foll_pin_released…',
  'R-GUP-70': 'folio_maybe_dma_pinned: large: pincount > 0 (exact).',
  'R-GUP-71':
    "fork (page_needs_cow_for_dma 6.1, v3, folio_needs_cow_for_dma 6.12; per page, COW mapping, under write_protect_seq odd): exclusive anonymous page and MMF_HAS_PINNED on the parent's mm and…",
  'R-GUP-72':
    "MMF_HAS_PINNED: set by every FOLL_PIN attempt on the target mm, also failing ones and also by a foreign process_vm_readv; never cleared during the mm's life; not inherited by fork; gone after exec.",
  'R-GUP-73':
    "THP: any pin on any subpage makes the whole folio maybe-pinned. fork then splits the parent's PMD mapping and copies all exclusive subpages for the child. hugetlb: the child gets its own huge page…",
  'R-GUP-74': 'Shared mappings are never copied at fork; VM_DONTCOPY ranges are absent in the child.',
  'R-GUP-75':
    'Other users that clear exclusivity (swap-out, migration, KSM) must first invalidate the entry, then test maybe-pinned and back off (-EBUSY) if so; together with R-GUP-57\'s "pin, then re-read" this…',
  'R-GUP-76':
    'Sequence protocol fork ↔ fast pin: writer makes the sequence odd before write-protecting a COW VMA and even after it (once per VMA).',
  'R-GUP-77': 'A pin keeps the page allocated, not mapped.',
  'R-GUP-78':
    'Reclaim: an anonymous maybe-pinned folio is kept before swap allocation; any maybe-pinned folio is kept after unmapping too.',
  'R-GUP-79':
    'Migration/compaction/THP collapse/KSM fail on unexpected references (GET as well as PIN): migration -EAGAIN; MADV_COLLAPSE → -EAGAIN; KSM skips.',
  'R-GUP-80':
    'F_ADD_SEALS with F_SEAL_WRITE on a memfd: any page with references beyond page cache + mappings → waits 5 scans (LRU drain first, then growing sleeps, about 150 ms) → -EBUSY.',
  'R-GUP-81':
    'Writeback does not wait for pins; a pinned shared file page may be written back while being modified.',
  'R-GUP-90': 'get_dump_page: one page with FORCE|DUMP|GET; anything but exactly 1 page → null (hole).',
  'R-GUP-91':
    'populate_vma_page_range (mlock, MAP_POPULATE): VM_LOCKONFAULT → returns the page count without work.',
  'R-GUP-92':
    'faultin_vma_page_range 6.1, v3: flags TOUCH|HWPOISON(|UNLOCKABLE v3)(|WRITE); check_vma_flags failure → -EINVAL whatever the reason; else the inner loop.',
  'R-GUP-93':
    'faultin_page_range 6.6 LTS, 6.12: whole range in one section-8 call with MADV_POPULATE (R-GUP-39).',
  'R-GUP-94':
    'MADV_POPULATE_READ/WRITE results: progress → continue behind it; -EINTR, -EINVAL (mapping type/permission), -EHWPOISON, -EFAULT (SIGBUS/SIGSEGV, e.g. beyond EOF), everything else and no VMA → -ENOMEM.',
  'R-GUP-95':
    'fixup_user_fault: untag; if unlocked given add ALLOW_RETRY|KILLABLE; look up VMA (as R-GUP-13) none → -EFAULT; needs VM_WRITE for a write fault, VM_READ otherwise, and architecture permission, else…',
  'R-GUP-96':
    'get_user_page_vma_remote ≥6.6: get_user_pages_remote for 1 page with locked null; negative → error pointer; then vma_lookup; none → warn once, drop the reference, -EINVAL; success → page and *vma.',
  'R-GUP-97':
    'memfd_pin_folios(memfd, start, end /inclusive/, folios, max_folios, offset*) 6.12: -EINVAL if start<0, start>end, max 0, file null, file neither shmem nor hugetlbfs, end ≥ file size.',
  'R-GUP-98': '__access_remote_vm (ptrace, /proc/PID/mem) 6.12: killable L, failure → 0 bytes.',
  'R-GUP-99': 'Which user-visible operation uses which entry.',
  'R-GUP-100':
    'Order of checks: unknown command → -EINVAL; struct unreadable → -EFAULT; size above ULONG_MAX → -EINVAL; array of size/4096 pointers cannot be allocated → -ENOMEM; all commands except the two FAST…',
  'R-GUP-101': 'Loop from addr in steps of nr_pages_per_call pages, last step shortened.',
  'R-GUP-102': 'Output: get_delta_usec, put_delta_usec, size = (address where the loop stopped) - addr.',
  'R-GUP-103':
    'After the timed part, PIN_FAST/PIN_BASIC/PIN_LONGTERM verify every page is maybe-dma-pinned and (LONGTERM) pinnable; on violation the kernel log gets "pages[N] is NOT dma-pinned" or "pages[N] is NOT…',
  'R-GUP-104':
    'DUMP: entries of which_pages greater than the number of pages obtained are zeroed with log line "ZEROING due to out of range: .which_pages[I]: V"; for each remaining entry log "---- page #K…',
  'R-GUP-105': 'Long-term session: one per system (not per file), guarded by a killable mutex (-EINTR).',
  'R-GUP-106':
    'Sequence: open file (O_RDWR|O_CREAT), open gup_test, mmap size bytes PROT_READ|PROT_WRITE at offset 0, madvise, unless -z write one byte per page, start threads; each thread works on its own copy of…',
  'R-GUP-107': '-z passes 0x2, the value FOLL_TOUCH had in 6.1.',
  'R-GUP-108':
    'Output 6.1 (plain text; taken over for v3; 6.6 not read): benchmark commands, per repeat: NAME: Time: get:G put:P us followed by, truncated (size: S) if S differs from the requested size, newline.',
  'R-GUP-109':
    'Output 6.12 (TAP): TAP version 13, 1..THREADS, every message piece is prefixed with "# " so the benchmark line is # NAME: Time: get:G put:P us# (with #, truncated (size: S) before the last "# " if…',
  'R-GUP-110':
    'Script matrix 6.12: {-t, -T, -H -m M} × {-u,-U,-a,-b,-L} × {-w,-W} × {-S, none} × {-n 1, -n 512, -n 123}, plus -u, -a, -ct -F 0x1 0 19 0x1000.',
  'R-GUP-113': 'Replacement. Pages first; then, still under the same uninterrupted L, vma_lookup(mm, addr).',
  'R-GUP-114': 'v3 per call site.',
  'R-GUP-115':
    'Unpin guarantees a model must assert: (1) every page counted in a positive result is owned by the caller and must be released exactly once; (2) a negative or zero result owns nothing; (3)…',
  'R-GUP-116':
    'The cover letter calls the flag FOLL_SAME_PAGE in two places; the code only knows FOLL_SAME_FILE.',
  'R-GUP-117':
    'PIN gives no synchronisation with write-protection for writeback or with munmap; it only makes the page recognisable (section 12).',
  'R-HTL-1':
    'GUP hands a hugetlb VMA to follow_hugetlb_page, which loops inside the VMA and returns to the outer loop with updated position, remaining count and i.',
  'R-HTL-1.1': 'fatal signal → remaining = 0, stop (result: i, or EFAULT if i is 0 — not EINTR).',
  'R-HTL-2':
    'References: FOLL_GET adds refs to the folio; FOLL_PIN adds refs to the refcount and refs to the pincount (large folio scheme), nr_foll_pin_acquired += refs.',
  'R-HTL-4':
    'follow_hugetlb_page is gone; hugetlb_follow_page_mask(vma, address, flags, &page_mask) follows one page (takes the hugetlb VMA lock for read; write needed but entry not writable → no page → fault…',
  'R-HTL-5':
    'hugetlb entries are PMD/PUD leaves handled by the generic walk; the dump rule sits in the "no page table" case.',
  'R-HTL-6':
    'Externally equal in all profiles: FOLL_DUMP holes (core dump of 2×2 MiB private and shared hugetlb, second touched: first is a hole, second has data, with coredump_filter 0x7f); PEEK of an untouched…',
  'R-HTL-7':
    'hugetlb_fault without a free or reserved huge page → SIGBUS-type error → EFAULT (or EHWPOISON/ENOMEM by vm_fault_to_errno); no fallback to small pages.',
  'R-HUGE-1':
    'ref of a large folio (R-FLT-1): entire mappings +1 each, each pte mapping +1, page cache/swap cache +512, private +1, GET +1, FOLL_PIN +1 (and pin +1).',
  'R-HUGE-2':
    'Mapcount of page i = entire + number of ptes mapping page i. total map = entire + Σ pte mappings (6.12+ kept as one counter; 6.1 computed).',
  'R-HUGE-3': 'X: PMD-mapped → bit of the head counts for the whole folio.',
  'R-HUGE-4': 'Measured ( unless noted).',
  'R-HUGE-5':
    'io_uring keeps only one pin per folio of a buffer since it coalesces (seen 6.12, 6.18); 6.1 one pin per 4K page.',
  'R-HUGE-10':
    'Order: PMD entry is none (a page table with any page in it prevents it); VMA not VM_NOHUGEPAGE, mm not PR_SET_THP_DISABLE; global enabled: always, or madvise and VM_HUGEPAGE; anonymous VMA, not a…',
  'R-HUGE-11':
    'Read fault with use_zero_page=1: huge zero folio mapped by a read-only PMD: pagemap shows 512 present entries with bit 61 and consecutive PFNs; smaps Rss 0, AnonHugePages 0.',
  'R-HUGE-12':
    'Write fault: folio allocated, zeroed, X on head, PMD writable+dirty, RSS anon +512; allocation or charge failure → FALLBACK to one small page. uffd MISSING → userfault instead.',
  'R-HUGE-13': 'Only 2 MiB by default: every other hugepages-*kB/enabled is never, 2048 kB inherit.',
  'R-HUGE-14':
    'Write on a huge zero PMD: 6.1–6.12 PMD split to 512 zero-page ptes, then one small page; 6.18 a whole zeroed THP replaces it (fallback to the split).',
  'R-HUGE-20':
    'PMD not writable, order: uffd-wp (async: split and continue; else event); huge zero → R-HUGE-14; head X → reuse whole PMD, no counts looked at; else under folio lock: ref ≤ 1 + swapcache×512, drop…',
  'R-HUGE-21': 'unless split (fork, child exits, write: PMD reused, same PFN, still AnonHugePages 2048.',
  'R-HUGE-25':
    'PMD split (page table only) never fails and ignores pins: anonymous: one deposited page table filled with 512 ptes (same PFNs, write/young/dirty/uffd-wp/soft-dirty copied), ref +511, mapcounts moved…',
  'R-HUGE-26':
    'Folio split needs, with the folio locked: not writeback (-EBUSY), not huge zero (-EBUSY), anon_vma/mapping alive (-EBUSY), ref == total map + cache references + 1 (caller) (-EAGAIN), then unmapping…',
  'R-HUGE-27':
    '(MADV_FREE of one page: unpinned THP → 512 small folios; with another page pinned → still one PMD-mapped THP, returns 0).',
  'R-HUGE-28':
    'Partially unmapped THP: the memory of unmapped pages stays allocated until the folio is split by the shrinker (deferred list) or freed.',
  'R-HUGE-29':
    'MADV_DONTNEED of one page of a pinned THP: PMD split, page unmapped (pin stale for that VA), rest unchanged; refault gives a small page.',
  'R-HUGE-30':
    'MADV_COLLAPSE on an aligned 2 MiB range: ignores sysfs and khugepaged limits, still needs VMA not VM_NOHUGEPAGE (EINVAL) and fully inside; fills holes with zeros; takes a new folio (PFN changes).',
  'R-HUGE-31.1':
    'write(2) goes through the file in pieces that end at borders of 2 MiB; where a piece comes to a page that is not cached, the cache gets the largest folio that does not exceed what is left of the…',
  'R-HUGE-31.2':
    'A fault on a folio of 512 pages maps it by a PMD where no table stands, VMA and file hold all of it (the end of the file rounded up to a page) and neither VM_NOHUGEPAGE nor PR_SET_THP_DISABLE…',
  'R-HUGE-31.3':
    'Else fault-around maps, for a read, the window of 16 pages (R-FLT-39.1), around what is mapped already, and of a folio that sticks out of it at either end the whole where table and VMA hold all of…',
  'R-HUGE-31.4':
    'Writeback cleans a folio as a whole, whatever part of it was asked for, a page behind the end of the file included, and write-protects what maps it, PMDs too.',
  'R-HUGE-31.5': 'A hole or the end of a truncation splits a clean folio as R-HUGE-65 has it.',
  'R-HUGE-31.6':
    'MADV_COLD and PAGEOUT: on the whole as on a small page (PAGEOUT unmaps it; clean and held by nobody it leaves the cache); on a part, of a folio that only this mm maps, a clean one is split into…',
  'R-HUGE-35': 'copy of a PMD: child VMA not anonymous → skipped, refault.',
  'R-HUGE-36': '. Cost: 2 MiB copied, fork fails with ENOMEM if impossible.',
  'R-HUGE-37': 'Swap-out of a whole THP: pinned → kept.',
  'R-HUGE-38':
    'pagemap for a PMD: 512 entries, PFN base+i, bit 56 per table 0.1 of faults.md, bit 61 for file and huge zero.',
  'R-HUGE-40':
    'Pool counters per size: total, free, reserved (resv_huge_pages), surplus; available to unreserved users = free − reserved.',
  'R-HUGE-41':
    'mmap: length is rounded up to the page size (MAP_HUGETLB anonymous and hugetlb files alike); file offset and MAP_FIXED address must be multiples of it, else EINVAL; ftruncate to a non-multiple…',
  'R-HUGE-42':
    "fork: the child's private VMA is not owner: it has no reservation; shared file reservations belong to the file.",
  'R-HUGE-43':
    'Partial operations: munmap/mprotect with unaligned range → EINVAL; MADV_DONTNEED unaligned start → EINVAL, end rounded down (short length: success, nothing done); MADV_FREE → EINVAL; COLD, PAGEOUT…',
  'R-HUGE-45':
    'One mutex per (mapping, index), then the VMA lock, then: poisoned marker → HWPOISON_LARGE; none → R-HUGE-46; migration → wait; hwpoison → HWPOISON_LARGE; uffd-wp write → event; write/unshare on…',
  'R-HUGE-46':
    'None: (1) VMA flagged "unmapped by owner" (R-HUGE-48) → SIGBUS; (2) in page cache: uffd MINOR → event; else map; (3) index ≥ file size → SIGBUS; (4) uffd MISSING → event; (5) allocate: uses a…',
  'R-HUGE-47': 'Write-protect: VM_SHARED → make writable.',
  'R-HUGE-48':
    'Copy allocation fails: caller is the reservation owner → the page is unmapped from all other private non-owner VMAs of the file at this index, those VMAs from which it was taken are flagged, then…',
  'R-HUGE-49':
    'FOLL_FORCE writes to read-only hugetlb: fault refuses (SIGSEGV) 6.1–6.12; see gup.md for 6.18.',
  'R-HUGE-50':
    'fork copies entries only if R-FLT-60 says so; shared mappings without anon_vma start empty in the child.',
  'R-HUGE-51':
    'Unmap/DONTNEED: entire −1, ref −1; page returns to the pool when ref reaches 0; a private owner gets its reservation back on DONTNEED (6.12+ exact; 6.1 Rsvd after DONTNEED is one lower).',
  'R-HUGE-52': 'Unmapping a pinned private page: the page does not return to the pool until unpinned.',
  'R-HUGE-53': 'mremap moves hugetlb mappings (aligned) with PFN and pin.',
  'R-HUGE-55': 'GUP walks hugetlb in its own loop; 6.12+ the normal page walk.',
  'R-HUGE-56':
    'Shared mappings of 2 MiB pages covering a whole aligned 1 GiB range of the file may share one PMD table, between processes or in one: a fault where no table stands for the GiB takes the table of…',
  'R-HUGE-57':
    'pagemap: 512 (2M) or 262144 (1G) entries per page, PFN base+i, bit 61 if file; kpageflags HUGE on head and tails, no LRU/SWAPBACKED; private X shown on bit 34; smaps Private_Hugetlb /…',
  'R-HUGE-58':
    'SysV SHM_HUGETLB: needs CAP_IPC_LOCK or group; size rounded up to the page size; shmat promises nothing: of a segment made with SHM_NORESERVE its pages stay unpromised, and so does what a hole took…',
  'R-HUGE-59':
    "mremap of a part of a private hugetlb mapping: the moved part takes the reservation along, and the mapping it was cut out of forgets all of it: the rest faults like a child's (from what is left…",
  'R-HUGE-60':
    'MADV_COLLAPSE refuses a VMA as a whole with EINVAL before it looks at any page: VM_NOHUGEPAGE, PR_SET_THP_DISABLE, special and hugetlb VMAs, files other than memory files (ext4 here is built without…',
  'R-HUGE-61':
    'A range is cut to the whole aligned 2 MiB inside of it and of the VMA: none, where it touches a 2 MiB border → 0; none, where it begins and ends inside the same 2 MiB → EINVAL.',
  'R-HUGE-62':
    'Splitting an anonymous folio (R-HUGE-26) replaces each of its pages that holds only zeros by the zero page, read-only, in every VMA that is not locked; the page of a locked VMA stays and becomes…',
  'R-HUGE-63':
    'MADV_COLLAPSE of memory files (memfd, tmpfs, shared anonymous, SysV), though shmem_enabled is never: the cache of the aligned 2 MiB of the file becomes one folio, dirty, holes zeros, whatever of it…',
  'R-HUGE-64':
    "Migration of a hugetlb page (longterm pin, move_pages): the place comes from the pool's free pages that nobody was promised, in a zone that serves; else one is made for the purpose, and the old page…",
  'R-HUGE-65':
    'A large folio of a memory file is split at a hole or at the end of a truncation when it sticks out: it is halved around the first page of the hole until that page is alone, then what holds the first…',
  'R-HUGE-66':
    'Faults on a large folio of a memory file: 2 MiB, no table there, the VMA holds the whole aligned 2 MiB and is not VM_NOHUGEPAGE: a PMD, also for reading in private mappings; a write to a private one…',
  'R-HUGE-67':
    'Advice (MADV_COLD, PAGEOUT, FREE) leaves a large folio alone that others map, too, silently, and splits it otherwise (R-HUGE-26) where it is advised in part; what counts as others.',
  'R-IOMMUFD-1':
    'Generic ioctl: size word unreadable EFAULT; unknown command ENOTTY; size below minimum EINVAL; larger with non-zero tail E2BIG.',
  'R-IOMMUFD-2': 'IOMMU_IOAS_MAP order: 1. unknown flags or reserved field → EOPNOTSUPP.',
  'R-IOMMUFD-3':
    '(lazy) With no domain attached nothing is pinned and nothing charged: MAP of an unmapped or read-only address succeeds; the error (EFAULT, ENOMEM…) appears at device attach (iopt_table_add_domain…',
  'R-IOMMUFD-4':
    "(pfn_reader) PFNs for an index range are taken, span by span, from the first source that has them: pages held by an access (xarray) → pages mapped in a domain (read back from that domain's page…",
  'R-IOMMUFD-5':
    "(GUP step) gup array up to 64 KiB (8192 entries; smaller if memory is short, at least one page's worth), pfn batch up to 64 KiB (12 bytes per contiguous run).",
  'R-IOMMUFD-6':
    '(batch → domain) contiguous runs are merged and mapped with one iommu_map each (page by page if large pages are disabled = VFIO v1 compatibility).',
  'R-IOMMUFD-7':
    '(accounting, after the fact) account_mode is fixed when the iopt_pages is created: CAP_IPC_LOCK → NONE; else the context default USER; context option RLIMIT_MODE=1 → MM.',
  'R-IOMMUFD-8':
    '(unwind) pages pinned but not yet handed to the batch: unpin clean; in the batch and not held by any access/domain: unpin with dirty=writable; in domains: unmap then unpin.',
  'R-IOMMUFD-9': 'IOMMU_IOAS_UNMAP: (0, U64_MAX) = all (empty → success, length 0).',
  'R-IOMMUFD-10':
    'IOMMU_IOAS_COPY: flags EOPNOTSUPP, EOVERFLOW, no permission bit EINVAL, source ENOENT, length 0 EINVAL, source not fully covered by contiguous areas ENOENT, destination ENOENT, then as MAP…',
  'R-IOMMUFD-11':
    '(access pin) iommufd_access_pin_pages: length 0 EINVAL, wrap EOVERFLOW, detached ENOENT, area being unmapped or unaligned EINVAL, prot EPERM, hole ENOENT, else pages put into the xarray; identical…',
  'R-IOMMUFD-12': '(access rw) write to non-writable pages EPERM.',
  'R-IOMMUFD-13':
    'Destroying the IOAS/context unmaps all areas and unpins; the source process may be long gone (only mm_count is held).',
  'R-IOMMUFD-14':
    'VFIO compatibility ioctls on the iommufd: MAP_DMA flags other than READ/WRITE EINVAL, no compat IOAS ENODEV, then R-IOMMUFD-2 steps 5-9 with FIXED_IOVA (size 0 → EINVAL, overlap EEXIST); no…',
  'R-IOMMUFD-15':
    'Newer interfaces (present in 6.18 sources by their posted patches, not read line by line): IOMMU_IOAS_MAP_FILE (fd of memfd/hugetlbfs; EBADF for a bad fd; pins with memfd_pin_folios, no VA involved)…',
  'R-KSM-1':
    'break_ksm: 6.1 follow_page(FOLL_GET|FOLL_MIGRATION|FOLL_REMOTE), if the page is a KSM page a write fault is forced (FAULT_FLAG_WRITE|REMOTE) and repeated until broken; put_page each turn.',
  'R-KVM-1': 'Entry: guest page fault or emulation inside KVM_RUN; hva = memslot address + offset.',
  'R-KVM-3':
    'Order 6.1, v3, 6.12: fast: only if a write fault or the caller accepts a writable mapping; get_user_page_fast_only(FOLL_WRITE): hit → writable, done.',
  'R-KVM-4':
    'check_user_page_hwpoison: GUP with pages NULL, FOLL_HWPOISON|FOLL_WRITE; true iff result is -EHWPOISON.',
  'R-KVM-5':
    'Remapped path: read the PTE; not present → fixup_user_fault (WRITE if needed); lock dropped → EAGAIN → back to 6; other error → ERR_FAULT.',
  'R-KVM-6':
    'References: one FOLL_GET reference per success, dropped by kvm_release_pfn_clean/dirty once mapped (accessed/dirty propagated, PG_reserved pages untouched); mmu notifiers protect the mapping, no…',
  'R-KVM-7':
    'x86 result of errors: RO_FAULT → emulate; HWPOISON → signal + retry; SIGPENDING → EINTR; everything else → KVM_RUN fails with EFAULT.',
  'R-KVM-9':
    'KVM_SET_USER_MEMORY_REGION of a new slot: size, guest address and user address must be whole pages and the range user memory, else EINVAL; a guest range that is taken EEXIST; a slot that shows other…',
  'R-MAP-2': 'vm_file identity cannot be read.',
  'R-MAPS-1': 'Grammar (one record per line, records separated by LF).',
  'R-MAPS-2':
    'Name bytes are raw; only LF is escaped, as \\012; backslash is NOT escaped (so the escape is ambiguous).',
  'R-MAPS-3': 'Name classes.',
  'R-MAPS-4':
    'Internal mounts (memfd, SysV, hugetlb, secretmem, anon_inode; seen as 00:01, 00:11, 00:0e, 00:10) do not occur in mountinfo; their numbers are boot-dependent, never constants.',
  'R-MAPS-5':
    "PROCMAP_QUERY ioctl on the maps fd (6.12, 6.18; since 6.11; _IOWR('f', 17, struct procmap_query), 104 bytes): input size, query_flags (1 readable, 2 writable, 4 executable, 8 shared, 0x10…",
  'R-MAPS-6':
    '/proc/P/map_files/START-END (hex without leading zeros) exists only for VMAs with a file and exactly these bounds.',
  'R-MAPS-7':
    "A read of maps, smaps, status and the like returns what earlier reads made and left over, then whole new records: until the caller's count is reached, or the next record would bring the piece to…",
  'R-MEM-1':
    "open: needs PTRACE_MODE_ATTACH_FSCREDS against the task → else EACCES; the caller's own mm needs no check.",
  'R-MEM-2': 'The fd is bound to the mm at open time: it keeps the mm_struct but not its users.',
  'R-MEM-3':
    'read/write order: mm NULL → 0; buffer page allocation → ENOMEM; no mm users left → 0; then chunks of up to PS bytes starting at the file position (not page aligned, so one chunk may need two GUPs).',
  'R-MEM-4': "Per chunk, write: copy from the user's buffer first (EFAULT), then access_remote_vm.",
  'R-MEM-5':
    "EFAULT on the user's buffer overrides everything: the call returns EFAULT even though earlier chunks were transferred (and, for writes, stay written); the file position of read()/write() does not…",
  'R-MEM-6': 'After a short read() the file position advances by the bytes read.',
  'R-MEM-7':
    'Offsets are unsigned 64-bit; lseek SEEK_SET/SEEK_CUR only, SEEK_END → EINVAL. pread/pwrite reject a negative offset with EINVAL at the syscall; addresses above the signed range need lseek+read.',
  'R-MEM-8':
    'Flags: FOLL_WRITE for writes; FOLL_FORCE for reads and writes according to proc_mem.force_override: always (default, CONFIG_PROC_MEM_ALWAYS_FORCE) → set; ptrace → set only if the task is ptraced…',
  'R-MEM-9':
    'Without FOLL_FORCE (mode never): read needs VM_READ, write needs VM_WRITE; otherwise EIO (not EFAULT).',
  'R-MNT-1':
    'mountinfo line: id parent maj:min root mountpoint opts {optional} - fstype source superopts (decimal maj:min; blank, TAB, LF, \\ and # as \\ooo).',
  'R-MNT-2':
    'File class decision, first match wins: VmFlags ht → hugetlb (size = KernelPageSize); name /secretmem → secretmem; dev is the internal shmem device (learn it: map a MAP_SHARED|MAP_ANONYMOUS page in…',
  'R-MNT-3':
    'DAX: superopts dax or dax=always → fsdax; dax=never → no; dax=inode or absent → per-file attribute: not decidable from /proc; report "no" if /sys/block/DEV/queue/dax is 0 (seen on a virtio disk)…',
  'R-MTE-1':
    "ABI: ptrace(request, pid, addr, &iovec{base,len}); one tag per byte of the tracer's buffer, one tag per 16-byte granule of the tracee; addr is rounded down to 16.",
  'R-MTE-2':
    'Order: CPU without MTE → EIO; iovec unreadable → EFAULT; no mm → EPERM; not the tracer, or not dumpable without ptracer capability → EPERM; buffer range not user space → EFAULT; lock wait killed →…',
  'R-MTE-3':
    "Flags FOLL_FORCE, +FOLL_WRITE for POKE. mmap_lock (read) of the tracee is held during the whole loop, including the copies to/from the tracer's buffer.",
  'R-MTE-4': 'Loop per page: GUP 1 page; failure → stop.',
  'R-MTE-5': 'Result: at least one tag → 0 with the shorter iov_len; the iov_len write-back can give EFAULT.',
  'R-MTE-6':
    'len 0: 6.12 → EFAULT. 6.1, v3: the deciding variable is uninitialised → not defined; report as unmodelled (6.1.192 as built by Debian: EIO in four cases of four).',
  'R-MTE-7': 'VMA from vma_lookup after success; missing VMA: WARN_ON_ONCE, same as missing VM_MTE.',
  'R-MTE-8':
    'A consistency warning fires if the page is not tagged although VM_MTE is set, except for the zero page; (src>6.18) hugetlb pages have their own tagged flag.arm64 (no warning in any of these runs).',
  'R-MTE-9':
    'PROT_MTE (0x20) gives VM_MTE (mt in smaps): anonymous memory, tmpfs and memfd files, private or shared.',
  'R-MTE-10': 'An address with tag bits (56 to 59): GUP looks past them, vma_lookup does not.',
  'R-MTE-11':
    'Pages that VM_MTE memory shows are marked (PG_mte_tagged, bit 41 of kpageflags; 6.12 and 7.2 show bit 42, too), the zero page is not.',
  'R-MTE-12':
    'KSM merges no page that is marked, equal tags or not; pages of the same bytes without tags beside them were merged.arm64.',
  'R-OUT-1':
    'Report as unobservable, never as zero: page reference and pin counts; user_struct.locked_vm; vm_file identity; writable bit of a PTE; CMA/movable placement; KVM memory slots; VFIO/iommufd/RDMA…',
  'R-OUT-2':
    'Every fact carries source, tier, time and one of exact (held), stable (two equal reads), racy, inferred, unknown.',
  'R-PIPE-1':
    'read(2) of a pipe takes what there is, up to what is wanted, oldest first, and waits (O_NONBLOCK: EAGAIN) only while there is nothing; 0 when nothing is left and no writer either; count 0 → 0 at…',
  'R-PIPE-2':
    'A pipe holds 16 pieces of pages. write(2): first the bytes beyond a multiple of 4096 go on in the page of the last piece if they fit there (the pipe not empty, the page its own), then every 4096…',
  'R-PIPE-3':
    "vmsplice(2) checks in this order: unknown flag bits → EINVAL; no pipe → EBADF; the vector (as readv's: more than 1024 entries or a length with its top bit set → EINVAL, not user memory → EFAULT, cut…",
  'R-PIPE-4':
    'Into the writing end each page takes a place of its own, however few bytes of it are meant, with one GET reference (get_user_pages_fast, flags 0); nothing is merged with it.',
  'R-PIPE-5':
    'The pipe shows what the page holds when it is read, not when it was spliced: stores into it are seen as long as the page is mapped where they are made; after munmap, DONTNEED, truncation, a hole or…',
  'R-PM-1': '/proc/P/pagemap: 64-bit little-endian words, file offset = vaddr/4096*8.',
  'R-PM-2':
    'Reference patterns (top byte; a process touching one page of each kind and reading its own pagemap as root).',
  'R-PM-4':
    'KPF bit 34 exposes PageAnonExclusive of anonymous pages: PG_anon_exclusive shares its bit with PG_mappedtodisk in 6.1 (reported as KPF_MAPPEDTODISK = 34) and with PG_owner_2 in 6.12, 6.18 (reported…',
  'R-PM-5':
    'kpageflags / kpagecount: word per PFN, same alignment errors; beyond the last section → 0 bytes; a length of 0 at a position that is no multiple of 8 is EINVAL, too; a buffer that can be written in…',
  'R-PM-6':
    'VM_PFNMAP mappings are passed over: pagemap words are 0 although their entries are present, Rss and the rest of smaps are 0, and mincore says what it says of entries that are none (buffer of…',
  'R-PPC-1':
    'VFIO_IOMMU_SPAPR_REGISTER_MEMORY {argsz, flags, vaddr, size}: EFAULT copy, argsz/flags EINVAL, vaddr or size not page aligned or wrap EINVAL; same (vaddr,size) already registered in this container…',
  'R-PPC-2':
    'mm_iommu_do_alloc: account_locked_vm(entries) first (ENOMEM; CAP_IPC_LOCK of current bypasses the limit) — not for device memory (dev_hpa given: no pin, no accounting).',
  'R-PPC-3':
    'Pin under mmap read lock in chunks of min(entries, (PAGE_SIZE << max page order)/8) pages (the divisor is the size of a VMA pointer — a leftover of the vmas array that GUP used to allocate; the…',
  'R-PPC-4':
    'After pinning: overlap with another region of the mm → EINVAL (pages unpinned clean, uncharged).',
  'R-PPC-5': 'mapped starts at 1, used at 1.',
  'R-PPC-6':
    'Failed pin: PUP negative → that errno; PUP 0 → EFAULT; PUP short → the positive short count is returned all the way to the ioctl (derived): pages unpinned, uncharged, but a caller testing < 0…',
  'R-PPC-7': 'UNREGISTER: alignment EINVAL, not found ENOENT, mappings alive EBUSY.',
  'R-PTR-1':
    'Order: no such task → ESRCH; not traced by the caller, or not in ptrace-stop → ESRCH (running tracee, non-tracee, dead, unknown pid: ESRCH each).',
  'R-PTR-2':
    "Then ptrace_access_vm: no mm → 0 bytes; task not traced, or current is not its tracer, or (dumpable ≠ SUID_DUMP_USER and the tracer lacked CAP_SYS_PTRACE in the mm's user namespace when attaching) →…",
  'R-PTR-3':
    'One machine word (8 bytes on 64-bit, 4 for compat tracers), any alignment on x86 (word across two mapped pages → ok).',
  'R-PTR-4':
    "PEEK: after the copy, the word is stored at the tracer's data pointer: EFAULT if that fails (raw syscall ABI).",
  'R-PTR-5':
    'POKE is not atomic across pages: if the second page is unreachable the result is EIO but the bytes on the first page have been written.',
  'R-PTR-6': 'POKE matrix for each row.',
  'R-PTR-8':
    'Yama, where it is loaded (not on the host; ptrace(2), /proc/sys/kernel/yama/ptrace_scope), is asked after ids, capabilities and dumpability, for PTRACE_MODE_ATTACH only (ptrace, process_vm…',
  'R-PVM-1':
    'Order of checks (first hit wins), except ENOMEM and EINTR (each tried with all later arguments invalid).',
  'R-PVM-1.1': 'flags ≠ 0 → EINVAL (before anything else; even with bad pid and bad pointers).',
  'R-PVM-1.2':
    'local vector: liovcnt > 1024 → EINVAL; unreadable array → EFAULT; any negative length → EINVAL; base/length outside user space → EFAULT; the total is silently capped at MAX_RW_COUNT (INT_MAX rounded…',
  'R-PVM-1.3': 'local total is 0 (also liovcnt 0) → returns 0, rvec/riovcnt/pid are not looked at.',
  'R-PVM-1.4': 'remote vector: riovcnt > 1024 → EINVAL; unreadable array → EFAULT; negative length → EINVAL.',
  'R-PVM-1.5': 'all remote lengths 0 (or riovcnt 0) → returns 0, pid is not looked at.',
  'R-PVM-1.7': "pid not found in the caller's pid namespace (also −1, 0) → ESRCH.",
  'R-PVM-1.8':
    'mm_access with PTRACE_MODE_ATTACH_REALCREDS: killed while waiting for exec_update_lock → EINTR; no mm (kthread, zombie) → ESRCH; denied → EPERM (EACCES is rewritten).',
  'R-PVM-2':
    'Remote iovecs are processed in order, each fully before the next; the loop ends when the local iterator is full, or on the first error.',
  'R-PVM-3':
    'Per remote iovec: pages from floor(base) to the page of the last byte; batches of at most 2·PS/sizeof(pointer) pages (1024 on 64-bit 4 KiB; both profiles compute the same number).',
  'R-PVM-4':
    'Per batch: mmap_read_lock (not killable); pin_user_pages_remote(mm, page-aligned start, n, FOLL_WRITE for writev else 0, array, &locked); unlock if still locked.',
  'R-PVM-5':
    "Data is copied with mmap_lock released, page by page, between the pinned page and the local iovec (may fault on the caller's memory).",
  'R-PVM-6':
    'After each batch all pinned pages of the batch are unpinned: unpin_user_pages_dirty_lock(make_dirty = writev).',
  'R-PVM-7': 'Result: if any byte was copied, the number of bytes; else the error (EFAULT).',
  'R-PVM-8':
    'The number of pages pinned is driven by the remote length only: a tiny local buffer with a huge remote iovec pins and faults in up to 1024 target pages.',
  'R-PVM-9':
    "Reads unshare fork-shared anon pages in the target (R-COM-6), set the target's MMF_HAS_PINNED for good, and wait for userfaultfd (R-COM-2).",
  'R-PVM-10': 'Stack growth: 6.1, 6.6, 6.12, 6.18 never (GUP does not grow stacks).',
  'R-PVM-11':
    'Per-batch lifetime of pins: they never outlive the syscall; a leak report for this caller must always be zero.',
  'R-PVM-13':
    'Where both sides show the same page and the ranges overlap, the copy runs upwards byte by byte within each page: what it has written is read again.',
  'R-QIB-1':
    'TID update (expected receive): user range not in user space EFAULT; pinned_vm += n first; > limit without CAP_IPC_LOCK → ENOMEM (uncharged); loop of PUP under mmap read lock until all n.',
  'R-QIB-2':
    'error: pages got so far unpinned clean, all n uncharged, errno as is, message Failed to lock addr … errno.',
  'R-QIB-3': 'Later failures (no free TID → ENOMEM, DMA mapping → ENOMEM) free the TIDs.',
  'R-RADEON-1':
    'DRM_IOCTL_RADEON_GEM_USERPTR {addr,size,flags}: addr (untagged) or size not page aligned EINVAL; unknown flag EINVAL; READONLY on chips older than R600 EINVAL; not READONLY and (no ANONONLY or no…',
  'R-RADEON-2': 'Pin (radeon_ttm_tt_pin_userptr): current->mm ≠ creating mm → EPERM.',
  'R-RADEON-3':
    'Loop of get_user_pages until all pages, WRITE unless READONLY, no LONGTERM, no accounting, no limit.',
  'R-RADEON-4': 'scatterlist from pages, DMA map (BIDIRECTIONAL or TO_DEVICE), dma address array.',
  'R-RADEON-5': 'Unpin: DMA unmap, set_page_dirty unless READONLY, mark accessed, put_page.',
  'R-RADEON-6':
    "The bind step ignores the pin's return value (6.1,6.12): a failed pin is not reported by VALIDATE; the GART is bound with whatever addresses are there.",
  'R-REP-1':
    'Decision order for explain on a failed registration: (1) argument rules of the caller; (2) capability/limit with live numbers (VmLck, VmPin, probe R-DRV-18, CapEff bit 14, /proc/PID/limits, uid…',
  'R-REP-2':
    'For vhost-vdpa print that EFAULT carries no information and list every internal check that currently fails.',
  'R-REP-3':
    'For ENOBUFS on AF_XDP with few live umems mention R-XDP-10 (budget leaked by earlier ENOMEM attempts) and other consumers of the uid.',
  'R-S39-2': 'Only level 1 acts; unknown adapter → −1.',
  'R-S39-3':
    'Under kvm->srcu: set the indicator bit (bit index = offset + 8·(addr mod PS), xor 63 if the adapter is byte-swapped), log-dirty a guest frame (the frame number is computed from the user address, as…',
  'R-S39-4': 'Both addresses may be in the same page: two references, both dropped.',
  'R-SEAL-1':
    'F_ADD_SEALS checks in this order: not open for writing → EPERM; unknown bits → EINVAL; neither shmem nor hugetlbfs → EINVAL; F_SEAL_SEAL set (also: memfd without MFD_ALLOW_SEALING, tmpfs files) →…',
  'R-SEAL-2':
    'ftruncate to a smaller size under F_SEAL_SHRINK, to a larger one under F_SEAL_GROW → EPERM; the same size is allowed.',
  'R-SEAL-3': 'memfd_create without MFD_ALLOW_SEALING leaves F_SEAL_SEAL set.',
  'R-SGX-1':
    'SGX_IOC_ENCLAVE_ADD_PAGES {src, offset, length, secinfo, flags, count}: another ioctl running on the enclave EBUSY; enclave not created or already initialised EINVAL; EFAULT copy; src not page…',
  'R-SGX-2':
    'Per page: pending signal → if none done ERESTARTSYS, else stop with 0; allocate page struct ENOMEM, EPC page (ENOMEM), VA page; mmap read lock + enclave lock; duplicate offset → EBUSY (xa_insert).',
  'R-SGX-3':
    'Source page: find_vma(src): none at or above → EFAULT; that VMA lacks VM_MAYEXEC (noexec mount) → EACCES; note it may be the next VMA when src lies in a hole.',
  'R-SGX-4': 'count = bytes fully added, copied out even on error (copy failure EFAULT).',
  'R-SIW-1':
    'siw_reg_user_mr: more than SIW_MAX_MR MRs ENOMEM; len 0 EINVAL; if the limit is not infinite and pages > limit − mm->locked_vm → ENOMEM (unsigned: locked_vm above the limit disables the check); then…',
  'R-SIW-2':
    'siw_umem_get (old): can_do_mlock EPERM; len 0 EINVAL; ENOMEM; under mmap read lock: pinned_vm += num_pages first, result > limit → ENOMEM without CAP_IPC_LOCK exemption; then chunks of 512 page…',
  'R-SIW-3':
    'Failure: pages not pinned are uncharged, pinned ones are unpinned clean and uncharged; mm dropped.',
  'R-SIW-4':
    '6.12+: pins through ib_umem_get (section 8 rules incl. CAP_IPC_LOCK, EINVAL on overflow), page pointers copied out of its scatterlist; len 0 EINVAL.',
  'R-SIW-5':
    'After umem: stag allocation ENOMEM; user response buffer too small EINVAL; copy EFAULT → MR dropped, pages released.',
  'R-SMAPS-1':
    'Grammar: each VMA = its maps line, then attribute lines Key ":" blanks value [" kB"] LF, terminated by the VmFlags: line.',
  'R-SMAPS-2':
    'smaps_rollup: one header line spanning first start to last end with perms ---p and name [rollup], then the sums (no Size, page sizes, THPeligible, VmFlags).',
  'R-SMAPS-3':
    'hugetlb pages are in Shared_Hugetlb/Private_Hugetlb only, never in Rss, Pss, Anonymous or VmRSS.',
  'R-SMAPS-4':
    'VmFlags mnemonics (two letters, blank separated, trailing blank): rd wr ex sh = VM_READ/WRITE/EXEC/SHARED; mr mw me ms = the MAY variants; gd GROWSDOWN; pf PFNMAP; lo LOCKED; lf LOCKONFAULT 6.12+…',
  'R-SMAPS-7':
    "Pss is a sum over pages of floor(4096 × 4096 / n) in 4096ths of a byte, n the page's map count (each of the 512 pages of a huge page likewise); the line shows whole kB, rounded down.",
  'R-SMAPS-8':
    'THPeligible is 1 when the mapping is anonymous, contains an aligned 2 MiB, is neither nh nor VM_SPECIAL, and the process and enabled (with hg where that says madvise) permit huge pages; 6.1, 6.12…',
  'R-ST-1': 'status = lines Key ":" TAB value LF; kB values right-aligned + kB.',
  'R-ST-2': 'VmPin = mm.pinned_vm, VmLck = mm.locked_vm, both in kB.',
  'R-ST-3':
    'user_struct.locked_vm is the value RLIMIT_MEMLOCK is compared with for io_uring, XDP and zerocopy.',
  'R-ST-4':
    'limits: fixed columns %-25s %-20s %-20s %-10s after one heading line; values decimal bytes or unlimited.',
  'R-ST-7':
    'VmPeak and VmHWM are the largest total_vm and the most resident pages the address space ever had; both are noted down when pages are about to become fewer, and compared with the present number when…',
  'R-TOM-2':
    'Order: buffer page (GFP_NOFS) if none yet → false; mmap_read_lock(bprm->mm); GUP 1 page at pos, FOLL_FORCE; unlock; ≤ 0 → false.',
  'R-UMEM-1':
    'User path: verbs REG_MR → start and hca_va must agree in the in-page offset (EINVAL) → access checks (R-UMEM-2) → PD lookup (EINVAL) → driver reg_user_mr (driver checks of its own, e.g. rxe unknown…',
  'R-UMEM-2':
    'Access: REMOTE_WRITE or REMOTE_ATOMIC without LOCAL_WRITE → EINVAL; unknown bits → EINVAL; ON_DEMAND without device support → EOPNOTSUPP; FLUSH flags without device support → EOPNOTSUPP.',
  'R-UMEM-3': 'ib_umem_get order: 1. addr+size or its page rounding overflows → EINVAL.',
  'R-UMEM-4':
    'Pin loop: pin_user_pages_fast, ≤512 pages per call, lock not held, rescheduling point between calls; error → as is (a hole in the middle is EFAULT).',
  'R-UMEM-5':
    "Pages are appended to a scatterlist; physically contiguous pages merge up to the device's max segment size; no struct page array remains.",
  'R-UMEM-6': 'Unwind after any failure past step 6: unpin clean, pinned_vm −= npages (full), mm dropped.',
  'R-UMEM-7':
    "pinned_vm is per mm: after fork the child starts at 0 with inherited MRs charged to the parent's mm. exec: MRs live while the fd lives.",
  'R-UMEM-8':
    'ODP (IB_ACCESS_ON_DEMAND) does not pin: it uses an MMU interval notifier and HMM faults; no pinned_vm, no limit; works on fsdax.',
  'R-UMEM-9': 'REREG_MR changing only access to writable when the umem was read-only → EACCES.',
  'R-UMEM-10':
    'Fork practice in user space: ibv_fork_init()/RDMAV_FORK_SAFE makes libibverbs call MADV_DONTFORK on every registered range (page granular; hugetlb needs the huge-page-aligned range…',
  'R-UMEM-11':
    'fsdax mapping → EOPNOTSUPP ("Operation not supported"); PFNMAP/VM_IO (XPMEM, BAR, GPU BAR) and device pointers that are no CPU mapping → EFAULT.',
  'R-UPR-1':
    'A uprobe is keyed by (inode, file offset), carries ref_ctr_offset (0 = none), a list of consumers and a copy of the original instruction.',
  'R-UPR-2':
    'tracefs ABI: append p:GROUP/EVENT PATH:OFFSET or …(REF_CTR_OFFSET) to uprobe_events (also r:/%return); write 1/0 to events/GROUP/EVENT/enable; -:GROUP/EVENT deletes.',
  'R-UPR-3':
    'valid VMA: file-backed, VM_MAYEXEC set, VM_HUGETLB and VM_MAYSHARE clear, and for installing also VM_WRITE clear.',
  'R-UPR-4':
    'Register checks in order (done when the event is enabled): consumer without handler → EINVAL; mapping cannot read folios and is not shmem → EIO; offset > i_size → EINVAL (offset == i_size passes…',
  'R-UPR-5':
    'Installation: dup_mmap_sem for write (blocks fork), list of (mm, vaddr) built under i_mmap lock, then per mm: mmap_write_lock; re-validate VMA, inode and offset (silently skipped if they no longer…',
  'R-UPR-6': 'uprobe_mmap (new or split/merged mapping) ignores all errors.',
  'R-UPR-7': 'Unregistration walks all mms again with the relaxed VMA rule; errors are OR-ed.',
  'R-UPR-10': 'mmap_lock held for write (install, unregister) or read (handler-requested removal).',
  'R-UPR-10.11':
    'replace: memcg charge (errno returned); old folio locked; mmu notifier CLEAR for the page; entry vanished (or 6.12 is non-present) → EAGAIN; else swap the PTE.',
  'R-UPR-11':
    'Defect kept in 6.1, v3, 6.12: if a retry (13→1) fails in step 1 the function returns at once and the counter increment of step 6 is not undone. v3: a missing VMA in step 2 of a retry does undo it…',
  'R-UPR-12':
    'The page always changes identity on install: a fresh anon page (COW of a private file page), other mappings of the file and the file itself keep the original byte (rx mapping: pagemap file bit…',
  'R-UPR-13':
    '(src>6.18 and): installing uses FOLL_FORCE|FOLL_WRITE|FOLL_SPLIT_PMD so that GUP itself breaks COW, then the bytes are written in place while the PTE is temporarily cleared; an already exclusive…',
  'R-UPR-14':
    'Removal on 6.18: the anon page is dropped (next access refaults the file page) only if userfaultfd MISSING is off, the folio has no unexpected references and the content equals the page cache…',
  'R-UPR-20':
    "Counter VMA: file-backed by the uprobe's inode, VM_WRITE set, VM_SHARED clear, contains the address of ref_ctr_offset.",
  'R-UPR-21':
    '__update_ref_ctr: address 0 or delta 0 → EINVAL; GUP(FOLL_WRITE, 1 page, no FORCE): negative → returned; 0 → EBUSY; the 16-bit signed value plus delta < 0 → log "ref_ctr going negative", EINVAL…',
  'R-UPR-22':
    'update_ref_ctr: VMA found → apply; failure logs "ref_ctr increment/decrement failed"; for +1 the result is final.',
  'R-UPR-23':
    'A later mmap of a private writable file mapping in an mm with MMF_HAS_UPROBES applies +1 for each remembered uprobe whose counter lies in it.',
  'R-UPR-24':
    'The counter counts breakpoints installed in VMAs, not processes: three valid mappings of the offset in one mm → 3; two probes sharing a counter add up; disabling brings it back to 0.',
  'R-UPR-25':
    'Consequence: with two or more mappings and the counter VMA absent at enable time, the delayed list holds one entry, so mapping it later gives 1; disabling decrements to 0, the next decrement fails…',
  'R-UPR-30': 'Runs in the trapped task with mmap_read_lock.',
  'R-UPR-31':
    'Series change (3/7): is_trap_at_addr loses the NULL vmas; __update_ref_ctr loses its unused variable; uprobe_write_opcode gains the explicit lookup (R-COM-21).',
  'R-URING-1': 'Order of checks. The first hit is the result.',
  'R-URING-2':
    'Registration does not require an enabled ring: on an IORING_SETUP_R_DISABLED ring BUFFERS and UNREGISTER_BUFFERS work; only submission fails (io_uring_enter → EBADFD).',
  'R-URING-3':
    'IORING_SETUP_SINGLE_ISSUER: submitter_task = creator, or with R_DISABLED the task that enables the ring; until then any task may register.',
  'R-URING-4':
    'IORING_REGISTER_RESTRICTIONS only while disabled (else EBADFD); takes effect at ENABLE_RINGS, buffers registered before stay valid.',
  'R-URING-5':
    'Opcode numbers: BUFFERS 0, UNREGISTER_BUFFERS 1, RESTRICTIONS 11, ENABLE_RINGS 12, BUFFERS2 15, BUFFERS_UPDATE 16, RING_FDS 20/21, PBUF_RING 22, UNREGISTER_PBUF_RING 23, CLONE_BUFFERS 30, ZCRX_IFQ…',
  'R-URING-6':
    'Order: params unreadable → EFAULT; resv non-zero or unknown flag → EINVAL; entries 0 or > 32768 (without CLAMP) → EINVAL; REGISTERED_FD_ONLY without NO_MMAP → EINVAL; flag combinations → EINVAL…',
  'R-URING-7':
    "At setup, once and for all: user = null if the creator has CAP_IPC_LOCK in the initial user namespace, else the user_struct of the creator's real uid; mm_account = creator's mm (struct kept alive by…",
  'R-URING-8':
    'Memory of a ring on 6.18 (also what is charged): ring bytes = align64(64 + 16·cq·(CQE32?2:1)) + 4·sq (no 4·sq with NO_SQARRAY); SQE bytes = 64·sq·(SQE128?2:1); each rounded up to pages; sq = entries…',
  'R-URING-9': 'The ring fd is always O_CLOEXEC.',
  'R-URING-10':
    'BUFFERS2 pre-checks: nr_args ≠ 32 → EINVAL; struct unreadable → EFAULT; nr == 0 or resv2 → EINVAL; flags other than IORING_RSRC_REGISTER_SPARSE (1) → EINVAL; SPARSE with data ≠ 0 → EINVAL; then…',
  'R-URING-11':
    'Common order: (a) table present → EBUSY (wins over bad nr, bad pointer; a table of only empty slots counts).',
  'R-URING-12':
    'Copy: unreadable → EFAULT; 6.12,6.18 length with the top bit set (compat: > 0x7fffffff) → EINVAL, even with base 0; 6.1,v3,6.6 no such check, such a length falls under "> 1 GiB" → EFAULT.',
  'R-URING-13':
    'Empty slot with non-zero tag → EINVAL; {0, len>0} with tag → EFAULT. data == 0 (with or without SPARSE) makes nr empty slots; a tag array of zeros is then fine, a non-zero tag is EINVAL.',
  'R-URING-14': 'Compat ring: every iovec is {u32 base, u32 len}, whatever syscall registers.',
  'R-URING-15':
    'All or nothing: any failing entry releases all earlier entries of the call (pins and charges), posts no tag CQEs, leaves no table (next UNREGISTER: ENXIO).',
  'R-URING-16':
    'Same page in many entries: one pin and one charge per entry for small pages (16384 × one page → VmPin +64 MiB).',
  'R-URING-17':
    'Order: nr_args ≠ 32 → EINVAL; unreadable → EFAULT; nr 0, resv, resv2 → EINVAL; offset + nr wraps u32 → EOVERFLOW (before the table test); no table → ENXIO; offset + nr > table size → EINVAL; then…',
  'R-URING-18': 'Result = number of entries done if ≥ 1, else the errno; the errno of a later entry is lost.',
  'R-URING-19':
    'New buffer is pinned and charged before the old one is released: replacing 10 pages by 10 others with room for 12 → ENOMEM; slot and old buffer stay intact on any error. {0,0} clears a slot…',
  'R-URING-20':
    "When the replaced buffer is released: 6.18 as soon as no request holds that slot's node, at once if none, independent of other slots; 6.6,6.12 under uring_lock when all requests that took a node…",
  'R-URING-21': 'No table → ENXIO. All slots emptied, table removed, result 0.',
  'R-URING-22': 'Pages = ceil((addr+len)/4096) − floor(addr/4096).',
  'R-URING-23': 'Always FOLL_PIN|FOLL_WRITE|FOLL_LONGTERM.',
  'R-URING-24':
    'Errno mapping, all profiles: GUP returned all pages → success (then profile checks); a negative errno → that errno, and GUP has already released everything; fewer pages than asked, including 0 →…',
  'R-URING-25':
    'slow path: array allocations (pages, vmas: ENOMEM) → take mmap_lock read → pin_user_pages(…, vmas) → if all pages: with file = vmas[0]->vm_file, for i = 0…n-1: vmas[i]->vm_file != file → EINVAL…',
  'R-URING-26':
    'slow path: array allocation → take mmap_lock read → pin_user_pages with additional FOLL_SAME_FILE (1<<12), vmas argument NULL → if all pages: vma_lookup(current->mm, addr) once: null → WARN_ON_ONCE…',
  'R-URING-27':
    'FOLL_SAME_FILE in GUP: on entering each VMA, check_vma_flags order is: VM_IO/VM_PFNMAP → EFAULT; FOLL_ANON on non-anon → EFAULT; LONGTERM on fsdax → EOPNOTSUPP; secretmem → EFAULT; SAME_FILE and…',
  'R-URING-28':
    "Why mixed files give EINVAL in 6.1 and EFAULT in v3: in 6.1 the whole range pins and io_uring's loop then returns EINVAL.",
  'R-URING-29':
    'v3 !vma after a complete pin is impossible: mmap_lock is held without a break (no FOLL_UNLOCKABLE), and the only VMA-less success of GUP, a gate page, is refused for FOLL_WRITE.',
  'R-URING-30':
    "slow path: mmap_lock read → pin_user_pages(WRITE|LONGTERM) → no VMA test at all; GUP's own rule (R-URING-32) decides.",
  'R-URING-31':
    'pin_user_pages_fast(WRITE|LONGTERM), no lock taken by io_uring; range beyond TASK_SIZE → EFAULT; pages the lockless walk cannot take go through the slow path with FOLL_UNLOCKABLE.',
  'R-URING-32':
    'GUP file rule 6.6,6.12,6.18 (6.5+): PIN+LONGTERM+WRITE on a VMA that needs dirty tracking → EFAULT for that VMA.',
  'R-URING-33':
    'Stack gap: address below a VM_GROWSDOWN VMA: v3 GUP grows the stack and succeeds (find_extend_vma of April 2023; not re-read); 6.1 (.192), 6.12, 6.18 EFAULT; 6.12,6.18 additionally print "GUP no…',
  'R-URING-34':
    'userfaultfd-missing page in the range: 6.12,6.18 the registering task sleeps in the fault with uring_lock held until resolved (registration took 384 ms, a second registration on the same ring…',
  'R-URING-35': 'Fatal signal during the slow pin: EINTR if nothing pinned yet, else EFAULT.',
  'R-URING-36':
    'Before edd478269640 (6.3-rc1 and stable backports, so also 6.1.192) mixing was allowed; the revert 3c85cc43c8e7 (20 Apr 2023, in 6.4-rc1) allowed it again.',
  'R-URING-37': 'none, one bvec per 4 KiB page.',
  'R-URING-38':
    '6.3+ v3,6.6: if all pages lie in one folio (and n > 1) one bvec of the whole length is made from pages[0], and n−1 pins are dropped at once.',
  'R-URING-39':
    "n > 1 pages are coalesced if the first page's folio is large, pages inside each folio are consecutive and, when there is more than one folio, the first folio's part ends at its last page, every…",
  'R-URING-40': 'After coalescing one pin per folio remains.',
  'R-URING-41':
    'Two independent charges per registered buffer, both of acct_pages: user->locked_vm if ring.user ≠ null, and mm_account->pinned_vm always.',
  'R-URING-42':
    'Limit test (only with ring.user): locked_vm + n > floor(RLIMIT_MEMLOCK of the calling task / 4096) → ENOMEM, nothing charged; equality is allowed; atomic compare-exchange loop.',
  'R-URING-43':
    'One counter per uid over all its processes and rings, shared with AF_XDP umem, MSG_ZEROCOPY, iommufd and (6.12.117) secretmem; perf has a counter of its own there.',
  'R-URING-44': 'acct_pages of a buffer: walk its pages (after coalescing: its folio heads).',
  'R-URING-45': 'De-duplication is per ring: two rings registering the same huge page charge twice.',
  'R-URING-46':
    'Accounting hole (all profiles by source,): the charge belongs to the buffer that made it, and leaves with it, even if another slot still pins the folio.',
  'R-URING-47':
    'Release subtracts exactly acct_pages from the same two counters; limits are not consulted (works with a lowered limit).',
  'R-URING-48':
    'Charge comes after the pin; ENOMEM therefore pins and unpins (20 pages with room for 10: acquired 20, released 20, VmPin +0).',
  'R-URING-49':
    'Regions (ring memory, NO_MMAP memory, pbuf rings, MEM_REGION) 6.18: charged to user->locked_vm by whole pages before pinning, no VmPin, no folio widening, released with the region.',
  'R-URING-50':
    'SEND_ZC without FIXED_BUF: (len >> 12) + 2 pages to user->locked_vm from import until the notification; over the limit → CQE res ENOMEM plus a notification.',
  'R-URING-51':
    'Invariant for the model after any failing call: pins acquired = pins released, both counters unchanged, table as before, no CQE.',
  'R-URING-52':
    'A tag ≠ 0 yields one CQE {user_data = tag, res 0, flags 0} when its buffer is finally released after UPDATE (all profiles).',
  'R-URING-53':
    'On UNREGISTER_BUFFERS: 6.18 one CQE per tagged slot, highest index first (slots 0,1 with tags 11,12 → CQE 12 then 11).',
  'R-URING-54':
    'UPDATE stores the given tag (0 if no tag array), so an untagged update removes the tag; clearing never keeps one.',
  'R-URING-55':
    'Slot test: buf_index >= table size, no table, or empty slot → EFAULT in the CQE, even for length 0.',
  'R-URING-56':
    'Range test: addr + len wraps → EFAULT; addr < ubuf or addr + len > ubuf + len_of_buffer → EFAULT. addr == end with length 0 passes, end+1 with length 0 fails, address 0 with length 0 fails.',
  'R-URING-57':
    'Which error wins, bad fd versus bad index: index is checked at prep in 6.1,6.12 (EFAULT before EBADF; an empty slot of the table counts as a bad range), range at prep in 6.12 but at issue in 6.1…',
  'R-URING-58': 'A request holds its buffer from import to completion.',
  'R-URING-59':
    'Operations: READ_FIXED 4, WRITE_FIXED 5; SEND_ZC 47 and, 6.15+, SENDMSG_ZC with IORING_RECVSEND_FIXED_BUF (value 4 in ioprio) — 6.12 SENDMSG_ZC with it is EINVAL; SEND_ZC keeps the buffer until the…',
  'R-URING-60':
    'I/O goes to the pinned pages. The SQE address is only compared with ubuf/len of the slot; page tables are not consulted.',
  'R-URING-61':
    "Observed (buffer filled with 'A', registered, then the action; W = byte WRITE_FIXED sends, R-in = what the process sees after READ_FIXED stored 'R'). \"private\" = anon, memfd MAP_PRIVATE, ext4…",
  'R-URING-62': '"Stale" = the page now mapped at ubuf+i in the owner differs from the pinned one.',
  'R-URING-63':
    'fork: a pinned anonymous page is copied for the child during fork (child PFN differs at once, mapcount of the pinned page stays 1, unpinned neighbours are shared, mapcount 2); hence READ_FIXED after…',
  'R-URING-64':
    'Side effects of the pins on other calls: F_ADD_SEALS(F_SEAL_WRITE) on a memfd → EBUSY while registered even when unmapped, works after unregister; F_SEAL_FUTURE_WRITE works; MADV_COLLAPSE over a…',
  'R-URING-65':
    'Buffers (and all other pins) of a ring end when the last reference to the ring file ends: all fds in all processes, all VMAs of the ring, all registered-ring slots, in-flight submissions. close()…',
  'R-URING-66':
    'Release is asynchronous (workqueue after RCU): 12–24 ms after close, exit or SIGKILL on the host, 50 ms with a request to cancel.',
  'R-URING-67':
    "fork: child inherits fds and (shared) ring mappings; nothing is re-pinned or re-charged; child's VmPin is 0.",
  'R-URING-68':
    'exec: O_CLOEXEC fd and the old mappings go → buffers released (asynchronously) while the new image runs.',
  'R-URING-69':
    'Creator exits while another process holds the ring: pins, charges and usability stay; unregister by the survivor works.',
  'R-URING-71':
    "Effect: destination slots share the source's registered buffers (refs+1): no pins, no charge, no tags.",
  'R-URING-72':
    'Order 6.12 (all-or-nothing clone): destination has a table → EBUSY; struct unreadable → EFAULT; flags other than SRC_REGISTERED (1) → EINVAL; pad (which covers the later offset fields) → EINVAL…',
  'R-URING-73':
    'Order 6.18: unreadable → EFAULT; flags other than SRC_REGISTERED|DST_REPLACE (2) → EINVAL; destination table without REPLACE → EBUSY (before src_fd is looked up); pad → EINVAL; src_fd…',
  'R-URING-74':
    'destination size = max(old size, dst_off+nr); slots outside the range keep their content with REPLACE; cloning a ring onto itself with REPLACE works; empty source slots give empty slots; tags of…',
  'R-URING-75':
    "Accounting equality in practice: child's own ring from parent's ring → EINVAL (mm differs); two rings of one process, one made with and one without CAP_IPC_LOCK → EINVAL; both rings made by the…",
  'R-URING-76':
    'PBUF_RING pins only the ring of descriptors (16 bytes × entries, rounded to pages), never the buffers it lists.',
  'R-URING-77':
    'Order of checks. 6.1: unreadable EFAULT; pad/resv EINVAL; addr 0 EFAULT; addr unaligned EINVAL; entries not a power of two EINVAL; ≥ 65536 EINVAL; bgid in use (mapped ring, or non-empty classic…',
  'R-URING-78':
    'UNREGISTER_PBUF_RING: resv or flags → EINVAL; unknown bgid → ENOENT (on 6.1 once a REGISTER_PBUF_RING of a group below 64 has come as far as pinning, all groups below 64 are known: EINVAL, also…',
  'R-URING-79': 'NO_MMAP: CQ/ring memory = cq_off.user_addr, SQEs = sq_off.user_addr; ring first, then SQEs.',
  'R-URING-83':
    'uring_lock is held over the complete register call, including page faults and user-fault waits.',
  'R-URING-84':
    'mmap_lock: 6.1,v3,6.6 held for read from before the pin to after the VMA check, never dropped: a concurrent munmap/mmap is wholly before or wholly after, the VMA inspected belongs to the pages pinned.',
  'R-URING-85':
    'Atomic steps for an explorer: {table test}, {pin page i} (6.12+) or {pin all + check} (older), {charge}, {install slot}, {release}. uring_lock orders two registrations on one ring; locked_vm is the…',
  'R-URING-86':
    'fdinfo uses trylock: while a registration runs, the slot lines are missing although the UserBufs: count is printed.',
  'R-URING-87':
    '(Needs ptrace-read permission on the target.) /proc/PID/fd/N → anon_inode:[io_uring]; /proc/PID/maps: ring offset 0, SQEs 10000000, CQ ring 8000000, pbuf 80000000|bgid<<16.',
  'R-URING-88': '/proc/PID/fdinfo/N has UserBufs:\\t<n> and n lines %5u: 0x<ubuf>/<len> (len decimal).',
  'R-URING-89':
    'VmPin counts only mm_account charges: rings created by this mm, huge pages widened, sums over all users of pinned_vm (RDMA, vDPA, perf, iommufd too). /proc/vmstat nr_foll_pin_acquired −…',
  'R-URING-92':
    'io_uring_enter: no ring → EBADF / EOPNOTSUPP, R_DISABLED → EBADFD, SINGLE_ISSUER of another task → EEXIST.',
  'R-URING-93':
    'READ 22 and WRITE 23 on user memory: the range must end below 2^47−4096 (length cut to 0x7ffff000 first; length 0 at the limit passes) else EFAULT, checked before the descriptor is looked up…',
  'R-URING-94':
    'Completions that find the completion queue full are kept and moved in, in order, by the next io_uring_enter with GETEVENTS that finds room; until all are in, later ones queue up behind them.',
  'R-URING-95':
    'NOP looks at nothing but its flags: 6.1 any flag → EINVAL; 6.12 INJECT_RESULT (1: the result is len), others EINVAL; 6.18 also FILE (2: bad descriptor → EBADF), FIXED_FILE (4), FIXED_BUFFER (8: no…',
  'R-URING-96':
    'A request on an empty (full) pipe waits, with O_NONBLOCK as well, and is tried again when the pipe gets bytes (room): a partial transfer completes it, one that finds nothing again waits again…',
  'R-URING-97':
    'A task that exits, is killed or execs cancels its waiting requests on every ring: res ECANCELED, posted a few ms later; requests of other tasks on the same ring go on., 6.12, 6.18 (exit, SIGKILL)…',
  'R-URING-98':
    'mmap of a ring: the offset names the part by its upper bits (0 and 0x8000000 the rings, 0x10000000 the entries, 0x80000000 | bgid<<16 a ring of buffers), the rest of it is not looked at (6.1: must…',
  'R-URING-99': 'SEND_ZC and SENDMSG_ZC, order of checks 6.18.',
  'R-URING-100':
    "A send that does not copy completes twice: {res, F_MORE (2)} and, when its memory is free again, {res 0, F_NOTIF (8)} with the same user_data; also when it failed, with R-URING-99's one exception.",
  'R-URING-101':
    "Over the loopback device bytes are copied when they reach the receiver's queue, so that every notification there reports a copy.",
  'R-URING-102':
    "A pending notification outlives the ring's last descriptor, its mappings and the task that submitted (exit, SIGKILL): until it is due every buffer of the ring stays pinned and charged, those not…",
  'R-URING-103':
    'READV_FIXED 60 and WRITEV_FIXED 61 6.15+: prepared: more than 1024 entries → EINVAL, vector unreadable → EFAULT (0 entries: not looked at), a length from 2^63 up → EINVAL; tried: descriptor → EBADF…',
  'R-URING-104':
    'SEND 26 and RECV 27 6.18: prepared: a bit of ioprio that is not POLL_FIRST 1, BUNDLE 16 or, SEND only, VECTORIZED 32 → EINVAL (so FIXED_BUF, REPORT_USAGE; RECV_MULTISHOT 2 without provided buffers)…',
  'R-URING-105':
    'execve waits until every notification of the task has come, on every ring, before the old program goes; no signal ends it, SIGKILL neither: a send whose bytes a stalled reader does not take stops it…',
  'R-USNIC-1':
    'reg_mr: overflow of addr+size or its page rounding EINVAL; size 0 EINVAL; !can_do_mlock EPERM; ENOMEM; under mmap read lock pinned_vm += npages, over limit without cap ENOMEM. writable is forced to…',
  'R-USNIC-2': 'PUP 512 at a time, copied into scatterlist chunks; loop until done.',
  'R-USNIC-3':
    'Derived defects, same in 6.1 and 6.12: on a PUP error after some success only the remaining pages are uncharged (pinned_vm stays too high by the pages already pinned, which are unpinned); a failed…',
  'R-USNIC-4':
    'After pinning, new VA intervals are mapped run by run (physically contiguous merge) with GFP_ATOMIC under a spinlock; identity IOVA = VA; overlapping MRs share mappings through an interval tree.',
  'R-VBUF-1':
    'Entry: QBUF/STREAMON of USERPTR buffers (takes mmap read lock) or MMAP buffers (caller already holds it).',
  'R-VBUF-2':
    'first = data>>PAGE_SHIFT, last = (data+size−1)>>PAGE_SHIFT, nr_pages = last−first+1, offset = in-page offset.',
  'R-VBUF-3': 'One PUP call. Negative → nr_pages = 0, errno.',
  'R-VBUF-4': 'Map: sg table (offset/length of first and last page honoured), dma_map_sg 0 → ENOMEM.',
  'R-VDUSE-1':
    'Order: device broken EPERM; copy EFAULT; reserved not zero EINVAL; 6.12 no IOVA domain yet EINVAL; no bounce map, size ≠ bounce size (64 MiB in 6.1/v3; bounce_size sysfs 1 MiB…1 GiB default 64 MiB…',
  'R-VDUSE-2': 'Locks: domain_lock (6.12), mem_lock, mmap read lock across limit check, pin and insertion.',
  'R-VDUSE-3':
    'Failure after a pin: pages unpinned clean, nothing charged (pinned_vm is added only at the very end).',
  'R-VDUSE-4':
    'VDUSE_IOTLB_DEREG_UMEM: no umem ENOENT; iova/size mismatch EINVAL; bytes in flight copied back if a kernel page exists, unpin dirty, pinned_vm of the registering mm reduced.',
  'R-VFIO-1':
    'VFIO_IOMMU_MAP_DMA on a container without an IOMMU driver set (VFIO_SET_IOMMU not done) → EINVAL whatever the arguments.',
  'R-VFIO-2': 'MAP_DMA checks in order (struct: argsz, flags, vaddr, iova, size).',
  'R-VFIO-3':
    'Without an IOMMU-capable domain in the container (only mdevs) MAP_DMA records the range, pins nothing, charges nothing, and cannot fail with EFAULT.',
  'R-VFIO-4': 'vfio_pin_pages_remote (one run).',
  'R-VFIO-5': 'vaddr_get_pfns: mmap read lock; PUP as in 0.1. n>0 → done.',
  'R-VFIO-6': 'Reserved = pfn without struct page or PageReserved: never charged, never unpinned.',
  'R-VFIO-7':
    'Unpin (put_pfn): one page at a time, dirty iff prot has IOMMU_WRITE (device may write), clean otherwise.',
  'R-VFIO-8':
    'VFIO_IOMMU_UNMAP_DMA checks: EFAULT copy; argsz/unknown flags EINVAL; GET_DIRTY_BITMAP together with ALL or VADDR EINVAL; with GET_DIRTY_BITMAP: argsz too small EINVAL, copy EFAULT, bitmap area not…',
  'R-VFIO-9':
    'Removing a dma: unmap from all domains, unpin, locked_vm -= unlocked on dma->mm if the mm still has users (else the accounting is skipped, ESRCH ignored), dma_avail++.',
  'R-VFIO-10':
    '(vaddr update, for live update/exec) UNMAP_DMA with VADDR marks matching dmas invalid (already invalid one in range → all marks of this call undone, EINVAL); pins and accounting stay.',
  'R-VFIO-11':
    '(mdev path vfio_pin_pages) order: NULL args EINVAL; v1 EACCES; vaddr invalid EBUSY; no registered device EINVAL; per page: no dma EINVAL; prot not allowed EPERM; already in pfn_list → refcount++; mm…',
  'R-VFIO-12':
    '(dirty tracking) VFIO_IOMMU_DIRTY_PAGES: v1 EACCES; copy EFAULT; argsz/flags EINVAL; more than one flag EINVAL.',
  'R-VFIO-13':
    'Several containers (one per device with vIOMMU) charge the same guest RAM once per container.',
  'R-VFIO-14':
    'The window between PUP and the locked_vm charge is not visible to the limit of other subsystems (separate counters).',
  'R-VHOST-1':
    'Every error from the message handler is reported as EFAULT by the write; only malformed framing (short message, unknown type, UPDATE with size 0) is EINVAL. explain must recompute the real cause.',
  'R-VHOST-2':
    "Internal order: writer's mm is not the owner EPERM; asid/batch mismatch EINVAL; iova/size outside the device's IOVA range or wrapping EINVAL; any overlap with an existing entry EEXIST; (devices with…",
  'R-VHOST-3': 'npages counts from the in-page offset of iova; pinning starts at uaddr rounded down.',
  'R-VHOST-4': 'Pins 512 at a time; short count → unpin that batch clean, ENOMEM.',
  'R-VHOST-5':
    'Failure: pages pinned but not yet mapped are unpinned clean, mapped runs are torn down (dirty if perm has WO, pinned_vm reduced).',
  'R-VHOST-6':
    'INVALIDATE: for each entry in range: per page set dirty (WO) + unpin, pinned_vm −, then IOMMU unmap — unpin comes before unmap here.',
  'R-XDP-1':
    "socket(AF_XDP, SOCK_RAW, 0): no CAP_NET_RAW in the netns's user namespace EPERM; type ≠ SOCK_RAW ESOCKTNOSUPPORT; protocol ≠ 0 EPROTONOSUPPORT.",
  'R-XDP-2':
    'setsockopt(SOL_XDP=283, XDP_UMEM_REG=4) outer order: level ≠ SOL_XDP or unknown option ENOPROTOOPT; optlen < 24 EINVAL (below 0: before the level is looked at); optlen 24..31 reads only…',
  'R-XDP-3':
    'Argument checks, all EINVAL, in this order: chunk_size < 2048 or > PAGE_SIZE; unknown flags; not UNALIGNED and chunk_size not a power of two; addr not page aligned; addr+len wraps; pages (len/PS…',
  'R-XDP-4': 'Flags known: 6.1,v3,6.6 only UNALIGNED_CHUNK (1).',
  'R-XDP-5':
    'Headroom: v3 (base of the series) and every older or unpatched build: EINVAL if headroom ≥ chunk_size − 256.',
  'R-XDP-6':
    'TX_METADATA_LEN set: length ≥ 256 or not a multiple of 8 → EINVAL; 6.12 as read also < 16 → EINVAL; without the flag the field is ignored.',
  'R-XDP-7': 'Hugepages do not raise the chunk limit above PAGE_SIZE in any profile.',
  'R-XDP-8': 'Then in this order: account → pin → vmap.',
  'R-XDP-9':
    'Pin: page-pointer array ENOMEM; one PUP call under mmap read lock; negative → errno; short → unpin what was got (marked dirty) and ENOMEM; vmap failure ENOMEM → unpin, uncharge.',
  'R-XDP-10':
    'Accounting leak on a short pin: npgs is overwritten with the short count before uncharging, so (requested − pinned) pages stay charged to the user_struct until that user_struct is freed.',
  'R-XDP-11':
    'Stored: page array (npgs), kernel vmap of all pages (kernel-side access ignores user page tables), size, chunk_size, headroom, chunks, flags, user reference, users=1.',
  'R-XDP-12':
    'Release: last of {socket, sockets sharing it with XDP_SHARED_UMEM, buffer pool} → vunmap, unpin dirty all, uncharge the registering user_struct, free.',
  'R-XDP-13':
    'close(fd) does not release while any ring mmap of the socket exists (the mapping holds the file), in any process.',
  'R-XDP-14':
    'bind: device/queue already used EBUSY; no rx and no tx ring, missing umem or fill/completion ring, shared flag combined with others EINVAL; ENODEV; EOPNOTSUPP for unsupported ZEROCOPY; pool…',
  'R-XDP-15':
    'fork: the child inherits the fd; registration stays charged to the registering user; closing in the parent alone releases nothing.',
  'R-XDP-16':
    'XDP_MAX_TX_SKB_BUDGET (9) on 6.18: optlen other than 4 EINVAL, unreadable EFAULT, below 32 or above the number of slots of the transmit ring (without one: always) EACCES; 6.1 and 6.12 have no such…',
}
