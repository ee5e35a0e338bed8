// Generated from docs/spec by `npm run rules`; edit the rule there.

/** One plain sentence per rule that src names, by rule id. */
export const ruleSentences: Readonly<Record<string, string>> = {
  'R-ACC-2':
    'Table (columns: S = same uid and dumpable, U = other uid or undumpable, no capability; R = root with CAP_SYS_PTRACE and CAP_SYS_ADMIN). uid 65534 probing itself, a same-uid process, a same-uid…',
  'R-ACC-4':
    'Missing entries: process gone before open → ENOENT; between open and read of a seq file → ESRCH.',
  'R-ACC-5':
    'A thread group whose leader has exited (State Z) while other threads live shows empty maps/fd under /proc/P; the real content is under /proc/P/task/T/ of a live thread (main calls pthread_exit…',
  'R-ACC-7':
    'Capability tiers to report to the user: T0 = U (status, limits, global files only), T1 = S (all per-process facts except PFN-derived ones), T2 = T1 on foreign processes (CAP_SYS_PTRACE), T3 = + PFN…',
  'R-AG-1':
    "One small C program (static, non-PIE, built by the project's own test tooling; source belongs to the product, nothing shipped prebuilt), single-threaded, no heap use after start, all buffers in .bss…",
  'R-AG-3': 'Roles: the agent executes and observes itself (single-threaded → atomic, no stop needed).',
  'R-AG-6':
    'Set and restore, if privileged: transparent_hugepage/enabled (per test: never, madvise, always; also per-size inherit), khugepaged/defrag 0 or scan_sleep_millisecs maximal, ksm/run 0, numa_balancing…',
  'R-AG-9':
    'LRU noise: a new page shows KPF_LRU only when its per-CPU batch (15 folios 6.1, 31 6.12+) drains: not set after 200 ms idle, nor by munlock of another page or stat_refresh; set after 38 more page…',
  'R-AG-13': 'A command may kill the agent (it unmaps its own code, SIGKILL by the OOM killer).',
  'R-ARV-1': 'Locks: mmap_lock of the target for read, killable; if the wait is killed → 0.',
  'R-ARV-2': 'Order per call: take the lock (R-ARV-1).',
  'R-ARV-3': 'Fallback on GUP failure (not exercised on hardware; no mapping with ->access on the host).',
  'R-AS-4':
    'vm_pgoff: file VMA = file offset/P; shared anonymous = 0 at creation; private anonymous = vm_start/P at creation, and it is kept when a touched VMA is moved by mremap, recomputed to the new address…',
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
    "file: offset/length beyond the file type's maximum: for regular/block/socket, pgoff > (2^63−1−len)/P → EOVERFLOW (off 2^63−P, len P; off 2^63−2P, len P is ok).",
  'R-AS-10.16': 'file: MAP_TYPE = flags & 0xf. MAP_SHARED(1): unknown flag bits dropped.',
  'R-AS-10.17': 'file shared + PROT_WRITE: fd not opened for writing → EACCES.',
  'R-AS-10.18': 'file shared + PROT_WRITE: file is an active swap file → ETXTBSY.',
  'R-AS-10.19': 'file shared: inode append-only and fd writable (even PROT_READ) → EACCES.',
  'R-AS-10.20': 'file shared or private: fd not opened for reading → EACCES.',
  'R-AS-10.21': 'file: mount noexec (or special like procfs) and PROT_EXEC; otherwise me is cleared → EPERM.',
  'R-AS-10.22': 'file: no mmap method (directory, pipe, most proc files) → ENODEV.',
  'R-AS-10.23': 'file: MAP_GROWSDOWN → EINVAL (after ENODEV).',
  'R-AS-10.24': 'file: any other MAP_TYPE value → EINVAL.',
  'R-AS-10.25':
    'memfd seals, shared with F_SEAL_WRITE or F_SEAL_FUTURE_WRITE: 6.12, 6.18 PROT_WRITE → EPERM, else mw cleared.',
  'R-AS-10.26':
    'anon: MAP_SHARED with GROWSDOWN → EINVAL; MAP_PRIVATE ok; MAP_DROPPABLE(8) ≥6.11: with LOCKED/HUGETLB/GROWSDOWN → EINVAL; any other type incl. MAP_SHARED_VALIDATE → EINVAL → EINVAL.',
  'R-AS-12':
    'MAP_FIXED with a kernel-half address → ENOMEM even when unaligned (range check precedes alignment check).',
  'R-AS-14':
    'MAP_ANONYMOUS: fd ignored; off still alignment-checked, otherwise ignored (fd 9999, off −P ok).',
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
  'R-AS-57':
    "In the file's mmap method: pgoff huge bits → EINVAL; pgoff not multiple of the huge page → EINVAL; overflow → EINVAL; reservation of the pages of [off, off+len) unless NORESERVE (shared: only file…",
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
    'MREMAP_DONTUNMAP: pages move, the old VMA stays, empty, same prot; old VMA loses VM_LOCKED*; total_vm += len, charge += len; hint = new_addr (searched if busy).',
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
  'R-AS-100':
    'Entry order: unknown advice EINVAL; addr unaligned EINVAL; len>0 rounding to 0 EINVAL; end < start EINVAL; length 0 → 0 — advice validity and alignment are checked even for len 0.',
  'R-AS-101':
    'Walk: VMAs in order; a hole sets a pending ENOMEM and is skipped; an error from a VMA returns immediately (and hides the pending ENOMEM); otherwise ENOMEM at the end if any hole.',
  'R-AS-102':
    'Exception POPULATE_READ/WRITE: 6.12, 6.18 (≥6.9) process in order and stop at the first hole: ENOMEM, later VMAs not populated; 6.1, v3, mainline 6.6: follow R-AS-101.',
  'R-AS-103':
    'ENOMEM from splitting a VMA is reported as EAGAIN for flag-changing advice; may_split refusal stays EINVAL.',
  'R-AS-105':
    'DONTNEED semantics: private anon → zero; private file → file content again; shared (anon, tmpfs, file) → data kept.',
  'R-AS-106':
    'Guard pages: no VMA split; survive DONTNEED, FREE, fork; access SIGSEGV, syscalls EFAULT, mincore 0, POPULATE EFAULT, mlock ENOMEM; installing gives an anonymous VMA an anon_vma (affects merging), a…',
  'R-AS-107': 'mseal interaction in section 13.',
  'R-AS-115':
    'flags≠0 EINVAL; addr unaligned, len wrap EINVAL; len 0 → 0; any hole or end beyond → ENOMEM and nothing sealed; then sl set with split/merge.',
  'R-AS-116':
    'Sealed VMA: munmap, MAP_FIXED over it, mprotect (even no change), mremap of any kind (even same size) and as destination, brk shrink → EPERM; checked after address/MAY-bit checks (EACCES beats EPERM…',
  'R-AS-120': 'mmap_lock use.',
  'R-AS-125':
    'Each file VMA holds one file reference: taken at creation, split (+1), mremap copy (+1), fork (+1); dropped when the VMA is removed or merged away (−1).',
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
  'R-AS-140':
    "total_vm counts every VMA's pages (stack, special, hugetlb, PROT_NONE included; vsyscall not).",
  'R-AS-141':
    'Class of a VMA by (EXEC,WRITE,SHARED,GROWSDOWN): EXEC and not WRITE and not GROWSDOWN → exec_vm; else GROWSDOWN → stack_vm; else WRITE and not SHARED → data_vm; else none.',
  'R-AS-142':
    'On split nothing changes; mprotect moves pages between classes; hiwater_vm is updated only before total_vm is lowered.',
  'R-AS-145':
    'munmap sequence: splits → VMAs detached from the tree (no new lookup or fault can find them) → locked_vm/map_count reduced → [downgrade] → mmu-notifier start → PTEs cleared, mapcount and RSS…',
  'R-AS-148':
    'VmPTE: tables appear with the first fault in a 2 MiB span, vanish when the last VMA of the span is unmapped; ≥6.14, CONFIG_PT_RECLAIM also when MADV_DONTNEED empties a whole table (−4 kB).',
  'R-AS-150': "Parent's and child's mmap_lock write.",
  'R-AS-151':
    "Per parent VMA in order: VM_DONTCOPY → skipped (hole in child); VM_ACCOUNT → charge child's pages (ENOMEM → fork fails); VMA duplicated with file reference, policy, uffd context (dropped unless…",
  'R-AS-158':
    'exit: mmu notifiers released, all PTEs zapped under read lock, page tables freed under write lock, VMAs closed (file puts), charge returned.',
  'R-CONS-2':
    'Parser duty: on start < previous end, drop the earlier record, keep the later, set torn = true.',
  'R-CONS-3':
    'Running target, unprivileged-friendly method: read maps, smaps (VmFlags), fdinfo, pagemap of the ranges, maps again; accept if both maps texts are byte-equal and not torn; at most 10 tries…',
  'R-CONS-5': 'pagemap: mmap_lock per 512-entry chunk (aligned 2 MiB); chunks are mutually unordered.',
  'R-COST-1': 'Measured.',
  'R-COST-2':
    'Sparse reservations (sanitizers, JS heaps: terabytes of PROT_NONE) make plain pagemap unusable (2 s/TiB and more): skip VMAs whose smaps Rss+Swap+hugetlb is 0, or use PAGEMAP_SCAN; read pagemap in…',
  'R-FD-3': 'io_uring fdinfo (order as listed; TAB after the colon).',
  'R-FD-4': 'The buffer list needs ctx->uring_lock, taken by trylock.',
  'R-FD-5': "Attribution: each ring's owner mm is the creator's.",
  'R-FLT-9':
    'Meaning: this anonymous page is mapped by exactly one mm and may be made writable without looking at counts.',
  'R-FLT-10':
    'Set on: fresh anonymous page (any fault that allocates one); copy made by COW/unshare/fork copy; reuse decision (R-FLT-45); swap-in with exclusive marker or as sole owner; migration of an exclusive…',
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
  'R-FLT-34':
    'Read (also UNSHARE): map the zero page: special, read-only; accessed; uffd-wp if the old entry was a uffd-wp marker.',
  'R-FLT-35':
    'Write: (1) anon_vma prepared (OOM on failure); (2) folio allocated and charged (OOM); order 0 unless mTHP sizes are enabled (off by default) and no uffd is armed; zeroed; (3) under the lock: entry…',
  'R-FLT-38': 'vm_ops without fault handler → SIGBUS.',
  'R-FLT-39':
    'Read fault. Fault-around if vm_ops has map_pages (regular files, shmem; not hugetlb/special) and the VMA is not uffd WP/MINOR registered.',
  'R-FLT-40':
    'Private write fault: anon_vma; allocate folio; run the fault handler (so the file page is brought into the cache and, for shmem holes, allocated); copy; install the copy as X, writable+dirty…',
  'R-FLT-41':
    'Shared write fault: run handler; if vm_ops has page_mkwrite: it waits for writeback/freeze, may fail → SIGBUS (e.g. no space), marks dirty; map writable+dirty; folio dirty; file times updated; dirty…',
  'R-FLT-42':
    'vm_page_prot and dirty tracking: shared writable mapping of a filesystem with page_mkwrite (ext4, xfs, btrfs …): read faults and fault-around install read-only ptes; first write = wp fault →…',
  'R-FLT-43':
    'shmem (tmpfs, memfd, shared anon, SysV shm) handler order: hole punch in progress → wait; index beyond i_size → SIGBUS; cached and uffd MINOR → userfault; swapped → swap-in into the cache; cached →…',
  'R-FLT-44':
    'DAX, VM_PFNMAP, VM_MIXEDMAP, secretmem: unmodelled here; GUP refuses VM_PFNMAP/VM_IO and secretmem with -EFAULT (gup.md). secretmem pages fault in normally.',
  'R-FLT-45':
    'Decision order: WRITE, pte uffd-wp and VMA uffd-WP registered: WP_ASYNC → clear the bit, continue; else userfault (WP).',
  'R-FLT-46': 'Reuse: pte writable (iff VM_WRITE) + dirty + accessed; PGREUSE.',
  'R-FLT-47':
    'Copy: anon_vma; allocate (OOM); zero page → zeroed page, else copy (poisoned source → HWPOISON); under lock re-check; new page X, map 1, ref 1(+b); RSS file→anon if the old page was a file page…',
  'R-FLT-51':
    'Order by kind: migration entry → wait until gone, return 0; device entries → unmodelled; hwpoison → HWPOISON; marker: poisoned → HWPOISON; guard 6.18 → SIGSEGV; uffd-wp → like none but the new pte…',
  'R-FLT-52':
    'Swap-in: (1) look in the swap cache; (2) not there: synchronous device (zram) and swap count 1 → read into a private folio bypassing the swap cache; else read through the swap cache (readahead)…',
  'R-FLT-54': 'mprotect changes pte permissions in place; pages, X, pins, PFNs stay.',
  'R-FLT-55':
    'Migration entries lose "write" (anon: become read-exclusive); swap entries unchanged; markers unchanged.',
  'R-FLT-56':
    'NUMA hinting (numa_balancing on): scanner makes ptes protnone; skips KSM, special, dirty file pages, and in COW mappings pages that are maybe-pinned (6.12) or mapped elsewhere; the next access…',
  'R-FLT-60': 'Per VMA: VM_DONTCOPY (MADV_DONTFORK): not created in the child.',
  'R-FLT-62': 'Per entry.',
  'R-FLT-66':
    "Failure (allocation for a copy, swap count overflow, poisoned source): fork fails with ENOMEM whatever the inner code was; partial child is torn down; parent pages already write-protected/un-X'ed…",
  'R-FLT-70':
    'Zap of a present pte: clear entry; file page: folio dirty if pte dirty, RSS file −1; anon: RSS anon −1, content dropped; map −1; ref −1 after TLB flush.',
  'R-FLT-74':
    'Truncate (ftruncate smaller): unmaps every mapping of the removed range including private COWed copies, removes pages from the cache (mapping NULL, dirty cleared, cache reference dropped), repeats…',
  'R-FLT-75': 'Hole punch (fallocate PUNCH_HOLE, MADV_REMOVE): same but private COWed pages stay mapped.',
  'R-FLT-76':
    'mremap move: entries moved 1:1 (PFN, X, pins, soft-dirty; uffd-wp dropped unless EVENT_REMAP); old VA unmapped.',
  'R-FLT-78':
    'MADV_GUARD_INSTALL 6.18: zaps the range and installs guard markers; access → SIGSEGV SEGV_MAPERR; GUP → -EFAULT; MADV_POPULATE → EFAULT; inherited by fork; survives MADV_DONTNEED; MADV_GUARD_REMOVE…',
  'R-FLT-110':
    'Register: range page aligned, len > 0; mode subset of MISSING 1, WP 2, MINOR 4, not 0 → else EINVAL; no VMA in range → EINVAL; VMA kind: MISSING/WP: anon, shmem, hugetlb (6.1: WP on shmem/hugetlb…',
  'R-FLT-113':
    'UFFDIO_COPY: install X page (anon) writable iff VM_WRITE, dirty; present entry or THP → EEXIST; file offset beyond EOF → EFAULT; range not registered/VMA mismatch → ENOENT; mappings changing →…',
  'R-FLT-114':
    'UFFDIO_WRITEPROTECT on: present pte gets uffd-wp and loses write; none pte: nothing for anon unless WP_UNPOPULATED, then marker; shmem: always marker.',
  'R-FLT-115':
    'A read of a marker page installs the page with uffd-wp kept (anon: zero page with uffd-wp)./.',
  'R-FLT-120':
    'handle_userfault, order: task exiting/coredumping → SIGBUS; UFFD_FEATURE_SIGBUS → SIGBUS; non-user access (GUP, kernel copy) and fd created with UFFD_USER_MODE_ONLY → SIGBUS; no ALLOW_RETRY →…',
  'R-FLT-121':
    'So a pin request on a userfault: unlockable GUP → blocks until resolved, then continues; not unlockable → -EFAULT with no event (6.1 and v3 io_uring registration); FOLL_NOWAIT → 0 pages.',
  'R-FLT-122':
    'FEATURE_SIGBUS: user read/write SIGBUS BUS_ADRERR; io_uring register, POPULATE, write(2), process_vm_readv EFAULT.',
  'R-FLT-161':
    'Shapes seen: zero page P, PFN const; anon sole P X; shared anon page P; file P F X/P F; shmem swapped or unmapped: 0; swapped anon S; marker uffd-wp raw 0x3f (type 31, offset 1; 6.1: 0x3e), poison…',
  'R-FLT-162': 'Bit 56 says nothing about X: a page that lost X and is mapped once again shows bit 56.',
  'R-FLT-167': 'Bit 34 tracks X exactly for small pages on all kernels tried.',
  'R-GLOB-1':
    'vmstat nr_foll_pin_acquired / nr_foll_pin_released 6.1..6.18: references taken / dropped with FOLL_PIN since boot by all processes (a fully pinned 2 MiB folio = 512).',
  'R-GLOB-3': 'meminfo: Key: blanks value [kB].',
  'R-GLOB-4':
    '/sys/kernel/mm/transparent_hugepage/: enabled, defrag, shmem_enabled list choices with the active one in brackets; use_zero_page, hpage_pmd_size plain; khugepaged/*; per-size directories…',
  'R-GLOB-5':
    'sysctls the model needs: vm.{overcommit_memory, overcommit_ratio, overcommit_kbytes, max_map_count, mmap_min_addr, nr_overcommit_hugepages, hugetlb_shm_group, compact_unevictable_allowed…',
  'R-GUP-5':
    'Numeric values are profile data, never constants of the model: 0x2 is TOUCH in 6.1 and GET from v3 on; 1<<12 is SAME_FILE in v3 and HONOR_NUMA_FAULT in ≥6.6.',
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
  'R-GUP-20':
    '"Needs dirty tracking" = VMA is shared and currently writable, and either its vm_ops have a page_mkwrite/pfn_mkwrite hook or its mapping can do writeback.',
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
  'R-GUP-76':
    'Sequence protocol fork ↔ fast pin: writer makes the sequence odd before write-protecting a COW VMA and even after it (once per VMA).',
  'R-GUP-79':
    'Migration/compaction/THP collapse/KSM fail on unexpected references (GET as well as PIN): migration -EAGAIN; MADV_COLLAPSE → -EAGAIN; KSM skips.',
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
  'R-GUP-98': '__access_remote_vm (ptrace, /proc/PID/mem) 6.12: killable L, failure → 0 bytes.',
  'R-GUP-113': 'Replacement. Pages first; then, still under the same uninterrupted L, vma_lookup(mm, addr).',
  'R-GUP-115':
    'Unpin guarantees a model must assert: (1) every page counted in a positive result is owned by the caller and must be released exactly once; (2) a negative or zero result owns nothing; (3)…',
  'R-HUGE-3': 'X: PMD-mapped → bit of the head counts for the whole folio.',
  'R-HUGE-10':
    'Order: PMD entry is none (a page table with any page in it prevents it); VMA not VM_NOHUGEPAGE, mm not PR_SET_THP_DISABLE; global enabled: always, or madvise and VM_HUGEPAGE; anonymous VMA, not a…',
  'R-HUGE-11':
    'Read fault with use_zero_page=1: huge zero folio mapped by a read-only PMD: pagemap shows 512 present entries with bit 61 and consecutive PFNs; smaps Rss 0, AnonHugePages 0.',
  'R-HUGE-12':
    'Write fault: folio allocated, zeroed, X on head, PMD writable+dirty, RSS anon +512; allocation or charge failure → FALLBACK to one small page. uffd MISSING → userfault instead.',
  'R-HUGE-14':
    'Write on a huge zero PMD: 6.1–6.12 PMD split to 512 zero-page ptes, then one small page; 6.18 a whole zeroed THP replaces it (fallback to the split).',
  'R-HUGE-20':
    'PMD not writable, order: uffd-wp (async: split and continue; else event); huge zero → R-HUGE-14; head X → reuse whole PMD, no counts looked at; else under folio lock: ref ≤ 1 + swapcache×512, drop…',
  'R-HUGE-25':
    'PMD split (page table only) never fails and ignores pins: anonymous: one deposited page table filled with 512 ptes (same PFNs, write/young/dirty/uffd-wp/soft-dirty copied), ref +511, mapcounts moved…',
  'R-HUGE-26':
    'Folio split needs, with the folio locked: not writeback (-EBUSY), not huge zero (-EBUSY), anon_vma/mapping alive (-EBUSY), ref == total map + cache references + 1 (caller) (-EAGAIN), then unmapping…',
  'R-HUGE-35': 'copy of a PMD: child VMA not anonymous → skipped, refault.',
  'R-HUGE-37': 'Swap-out of a whole THP: pinned → kept.',
  'R-HUGE-40':
    'Pool counters per size: total, free, reserved (resv_huge_pages), surplus; available to unreserved users = free − reserved.',
  'R-HUGE-41':
    'mmap: length is rounded up to the page size (MAP_HUGETLB anonymous and hugetlb files alike); file offset and MAP_FIXED address must be multiples of it, else EINVAL; ftruncate to a non-multiple…',
  'R-HUGE-43':
    'Partial operations: munmap/mprotect with unaligned range → EINVAL; MADV_DONTNEED unaligned start → EINVAL, end rounded down (short length: success, nothing done); MADV_FREE → EINVAL; COLD, PAGEOUT…',
  'R-HUGE-45':
    'One mutex per (mapping, index), then the VMA lock, then: poisoned marker → HWPOISON_LARGE; none → R-HUGE-46; migration → wait; hwpoison → HWPOISON_LARGE; uffd-wp write → event; write/unshare on…',
  'R-HUGE-46':
    'None: (1) VMA flagged "unmapped by owner" (R-HUGE-48) → SIGBUS; (2) in page cache: uffd MINOR → event; else map; (3) index ≥ file size → SIGBUS; (4) uffd MISSING → event; (5) allocate: uses a…',
  'R-HUGE-47': 'Write-protect: VM_SHARED → make writable.',
  'R-HUGE-48':
    'Copy allocation fails: caller is the reservation owner → the page is unmapped from all other private non-owner VMAs of the file at this index, those VMAs are flagged, then reuse; others later…',
  'R-HUGE-49':
    'FOLL_FORCE writes to read-only hugetlb: fault refuses (SIGSEGV) 6.1–6.12; see gup.md for 6.18.',
  'R-HUGE-50':
    'fork copies entries only if R-FLT-60 says so; shared mappings without anon_vma start empty in the child.',
  'R-HUGE-51':
    'Unmap/DONTNEED: entire −1, ref −1; page returns to the pool when ref reaches 0; a private owner gets its reservation back on DONTNEED (6.12+ exact; 6.1 Rsvd after DONTNEED is one lower).',
  'R-HUGE-52': 'Unmapping a pinned private page: the page does not return to the pool until unpinned.',
  'R-HUGE-53': 'mremap moves hugetlb mappings (aligned) with PFN and pin.',
  'R-HUGE-56':
    'Shared mappings covering a whole aligned 1 GiB range may share one PMD table between processes: map and ref then count once; pagemap bit 56 is cleared although kpagecount says 1 (6.1: bit 56 stays…',
  'R-HUGE-58':
    'SysV SHM_HUGETLB: needs CAP_IPC_LOCK or group; size rounded up to the page size; pins work. memfd_create(MFD_HUGETLB) likewise.',
  'R-MAP-2': 'vm_file identity cannot be read.',
  'R-MAPS-1': 'Grammar (one record per line, records separated by LF).',
  'R-MAPS-2':
    'Name bytes are raw; only LF is escaped, as \\012; backslash is NOT escaped (so the escape is ambiguous).',
  'R-MAPS-3': 'Name classes.',
  'R-MAPS-4':
    'Internal mounts (memfd, SysV, hugetlb, secretmem, anon_inode; seen as 00:01, 00:11, 00:0e, 00:10) do not occur in mountinfo; their numbers are boot-dependent, never constants.',
  'R-MAPS-6':
    '/proc/P/map_files/START-END (hex without leading zeros) exists only for VMAs with a file and exactly these bounds.',
  'R-MNT-1':
    'mountinfo line: id parent maj:min root mountpoint opts {optional} - fstype source superopts (decimal maj:min; blank, TAB, LF, \\ and # as \\ooo).',
  'R-MNT-2':
    'File class decision, first match wins: VmFlags ht → hugetlb (size = KernelPageSize); name /secretmem → secretmem; dev is the internal shmem device (learn it: map a MAP_SHARED|MAP_ANONYMOUS page in…',
  'R-MNT-3':
    'DAX: superopts dax or dax=always → fsdax; dax=never → no; dax=inode or absent → per-file attribute: not decidable from /proc; report "no" if /sys/block/DEV/queue/dax is 0 (seen on a virtio disk)…',
  'R-OUT-1':
    'Report as unobservable, never as zero: page reference and pin counts; user_struct.locked_vm; vm_file identity; writable bit of a PTE; CMA/movable placement; KVM memory slots; VFIO/iommufd/RDMA…',
  'R-OUT-2':
    'Every fact carries source, tier, time and one of exact (held), stable (two equal reads), racy, inferred, unknown.',
  'R-PM-1': '/proc/P/pagemap: 64-bit little-endian words, file offset = vaddr/4096*8.',
  'R-PM-2':
    'Reference patterns (top byte; a process touching one page of each kind and reading its own pagemap as root).',
  'R-PM-4':
    'KPF bit 34 exposes PageAnonExclusive of anonymous pages: PG_anon_exclusive shares its bit with PG_mappedtodisk in 6.1 (reported as KPF_MAPPEDTODISK = 34) and with PG_owner_2 in 6.12, 6.18 (reported…',
  'R-PM-5':
    'kpageflags / kpagecount: word per PFN, same alignment errors; beyond the last section → 0 bytes.',
  'R-SMAPS-1':
    'Grammar: each VMA = its maps line, then attribute lines Key ":" blanks value [" kB"] LF, terminated by the VmFlags: line.',
  'R-SMAPS-3':
    'hugetlb pages are in Shared_Hugetlb/Private_Hugetlb only, never in Rss, Pss, Anonymous or VmRSS.',
  'R-SMAPS-4':
    'VmFlags mnemonics (two letters, blank separated, trailing blank): rd wr ex sh = VM_READ/WRITE/EXEC/SHARED; mr mw me ms = the MAY variants; gd GROWSDOWN; pf PFNMAP; lo LOCKED; lf LOCKONFAULT 6.12+…',
  'R-ST-1': 'status = lines Key ":" TAB value LF; kB values right-aligned + kB.',
  'R-ST-3':
    'user_struct.locked_vm is the value RLIMIT_MEMLOCK is compared with for io_uring, XDP and zerocopy.',
  'R-ST-4':
    'limits: fixed columns %-25s %-20s %-20s %-10s after one heading line; values decimal bytes or unlimited.',
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
  'R-URING-17':
    'Order: nr_args ≠ 32 → EINVAL; unreadable → EFAULT; nr 0, resv, resv2 → EINVAL; offset + nr wraps u32 → EOVERFLOW (before the table test); no table → ENXIO; offset + nr > table size → EINVAL; then…',
  'R-URING-18': 'Result = number of entries done if ≥ 1, else the errno; the errno of a later entry is lost.',
  'R-URING-19':
    'New buffer is pinned and charged before the old one is released: replacing 10 pages by 10 others with room for 12 → ENOMEM; slot and old buffer stay intact on any error. {0,0} clears a slot…',
  'R-URING-21': 'No table → ENXIO. All slots emptied, table removed, result 0.',
  'R-URING-22': 'Pages = ceil((addr+len)/4096) − floor(addr/4096).',
  'R-URING-23': 'Always FOLL_PIN|FOLL_WRITE|FOLL_LONGTERM.',
  'R-URING-24':
    'Errno mapping, all profiles: GUP returned all pages → success (then profile checks); a negative errno → that errno, and GUP has already released everything; fewer pages than asked, including 0 →…',
  'R-URING-25':
    'slow path: array allocations (pages, vmas: ENOMEM) → take mmap_lock read → pin_user_pages(…, vmas) → if all pages: with file = vmas[0]->vm_file, for i = 0…n-1: vmas[i]->vm_file != file → EINVAL…',
  'R-URING-26':
    'slow path: array allocation → take mmap_lock read → pin_user_pages with additional FOLL_SAME_FILE (1<<12), vmas argument NULL → if all pages: vma_lookup(current->mm, addr) once: null → WARN_ON_ONCE…',
  'R-URING-29':
    'v3 !vma after a complete pin is impossible: mmap_lock is held without a break (no FOLL_UNLOCKABLE), and the only VMA-less success of GUP, a gate page, is refused for FOLL_WRITE.',
  'R-URING-30':
    "slow path: mmap_lock read → pin_user_pages(WRITE|LONGTERM) → no VMA test at all; GUP's own rule (R-URING-32) decides.",
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
  'R-URING-51':
    'Invariant for the model after any failing call: pins acquired = pins released, both counters unchanged, table as before, no CQE.',
  'R-URING-52':
    'A tag ≠ 0 yields one CQE {user_data = tag, res 0, flags 0} when its buffer is finally released after UPDATE (all profiles).',
  'R-URING-53':
    'On UNREGISTER_BUFFERS: 6.18 one CQE per tagged slot, highest index first (slots 0,1 with tags 11,12 → CQE 12 then 11).',
  'R-URING-54':
    'UPDATE stores the given tag (0 if no tag array), so an untagged update removes the tag; clearing never keeps one.',
  'R-URING-65':
    'Buffers (and all other pins) of a ring end when the last reference to the ring file ends: all fds in all processes, all VMAs of the ring, all registered-ring slots, in-flight submissions. close()…',
  'R-URING-84':
    'mmap_lock: 6.1,v3,6.6 held for read from before the pin to after the VMA check, never dropped: a concurrent munmap/mmap is wholly before or wholly after, the VMA inspected belongs to the pages pinned.',
}
