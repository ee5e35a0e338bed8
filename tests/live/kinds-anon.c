/* Anonymous memory: every protection and population state, heap, stack, and what fork leaves behind. */
#include "mapping-kinds.h"
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static pid_t live_child;

void end_children(void)
{
    if (live_child <= 0) return;
    kill(live_child, SIGKILL);
    waitpid(live_child, NULL, 0);
    live_child = 0;
}

static void fork_kind(const char *name, bool child_stays, const char *note)
{
    char *at = map_slot(4 * PAGE, RW, PRIV, -1, 0);
    if (at == MAP_FAILED) {
        kind_skip_errno(name, "mmap");
        return;
    }
    touch(at, 4);
    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        if (!child_stays) _exit(0);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) _exit(0);
        for (;;) pause();
    }
    if (child < 0) {
        kind_skip_errno(name, "fork");
        return;
    }
    if (child_stays) live_child = child;
    else waitpid(child, NULL, 0);
    kind_add(name, at, 4 * PAGE, note);
}

void kinds_fork(void)
{
    fork_kind("anon-cow-child-gone", false, "touched, forked, the child has exited");
    fork_kind("anon-cow-child-alive", true, "touched, forked, the child still maps the pages");
}

static void heap_kind(void)
{
    char *now = sbrk(0);
    size_t pad = (PAGE - (uintptr_t)now % PAGE) % PAGE;
    if (sbrk((intptr_t)(pad + 8 * PAGE)) == (void *)-1) {
        kind_skip_errno("heap", "sbrk");
        return;
    }
    touch(now + pad, 3);
    kind_add("heap", now + pad, 8 * PAGE, "brk area, 3 of 8 pages touched");
}

static void read_only_touched(void)
{
    char *at = map_slot(4 * PAGE, RW, PRIV, -1, 0);
    if (at == MAP_FAILED) {
        kind_skip_errno("anon-read-touched", "mmap");
        return;
    }
    touch(at, 4);
    if (mprotect(at, 4 * PAGE, PROT_READ) != 0) kind_skip_errno("anon-read-touched", "mprotect");
    else kind_add("anon-read-touched", at, 4 * PAGE, "written, then made PROT_READ");
}

static void advised(const char *name, int advice, const char *what, const char *note)
{
    char *at = map_slot(4 * PAGE, RW, PRIV, -1, 0);
    if (at == MAP_FAILED) {
        kind_skip_errno(name, "mmap");
        return;
    }
    touch(at, 4);
    if (madvise(at, 4 * PAGE, advice) != 0) kind_skip_errno(name, what);
    else kind_add(name, at, 4 * PAGE, note);
}

static void guard_kind(void)
{
    char *at = map_slot(4 * PAGE, RW, PRIV, -1, 0);
    if (at == MAP_FAILED) {
        kind_skip_errno("anon-guard-page", "mmap");
        return;
    }
    touch(at, 4);
    if (madvise(at + 2 * PAGE, PAGE, MADV_GUARD_INSTALL) != 0) kind_skip_errno("anon-guard-page", "MADV_GUARD_INSTALL");
    else kind_add("anon-guard-page", at, 4 * PAGE, "MADV_GUARD_INSTALL on page 2 of 4");
    at = map_slot(4 * PAGE, RW, PRIV, -1, 0);
    if (at == MAP_FAILED || madvise(at, 4 * PAGE, MADV_GUARD_INSTALL) != 0)
        kind_skip_errno("anon-guard-all", "MADV_GUARD_INSTALL");
    else kind_add("anon-guard-all", at, 4 * PAGE, "MADV_GUARD_INSTALL on every page, never touched");
}

static bool is_swapped(const char *at)
{
    uint64_t word = 0;
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t got = pread(fd, &word, 8, (off_t)((uintptr_t)at / PAGE * 8));
    close(fd);
    return got == 8 && (word >> 62 & 1);
}

static void swapped_kind(void)
{
    if (proc_number("/proc/meminfo", "SwapTotal:") <= 0) {
        kind_skip("anon-swapped", "no swap");
        return;
    }
    char *at = map_slot(4 * PAGE, RW, PRIV, -1, 0);
    if (at == MAP_FAILED) {
        kind_skip_errno("anon-swapped", "mmap");
        return;
    }
    touch(at, 4);
    madvise(at, 4 * PAGE, MADV_PAGEOUT);
    if (is_swapped(at)) kind_add("anon-swapped", at, 4 * PAGE, "MADV_PAGEOUT, at least page 0 is in swap");
    else kind_skip("anon-swapped", "MADV_PAGEOUT left the pages resident");
}

static void mlock_and_seal(void)
{
    char *at = map_slot(4 * PAGE, RW, PRIV, -1, 0);
    if (at == MAP_FAILED || mlock(at, 4 * PAGE) != 0) kind_skip_errno("anon-mlocked", "mlock");
    else kind_add("anon-mlocked", at, 4 * PAGE, "mlock");
    at = map_slot(4 * PAGE, RW, PRIV, -1, 0);
    if (at == MAP_FAILED) kind_skip_errno("anon-sealed", "mmap");
    else {
        touch(at, 2);
        if (syscall(__NR_mseal, at, 4 * PAGE, 0) != 0) kind_skip_errno("anon-sealed", "mseal");
        else kind_add("anon-sealed", at, 4 * PAGE, "mseal, 2 of 4 pages touched");
    }
}

static void growsdown_kinds(void)
{
    char *at = simple_kind("growsdown", 4, 2, RW, PRIV | MAP_GROWSDOWN, -1, "MAP_GROWSDOWN area itself");
    if (!at) kind_skip("growsdown-below", "no MAP_GROWSDOWN area");
    at = map_slot(4 * PAGE, RW, PRIV | MAP_GROWSDOWN, -1, 0);
    if (at == MAP_FAILED) kind_skip_errno("growsdown-below", "mmap");
    else kind_add("growsdown-below", at - PAGE, PAGE, "the page below a MAP_GROWSDOWN area");
}

static void odd_iovecs(void)
{
    char *at = map_slot(4 * PAGE, RW, PRIV, -1, 0);
    if (at == MAP_FAILED) {
        kind_skip_errno("odd-4095-2", "mmap");
        return;
    }
    kind_add("odd-4095-2", at + 4095, 2, "2 bytes over a page border");
    kind_add("odd-100-1", at + 2 * PAGE + 100, 1, "1 byte inside a page");
    kind_add("odd-into-hole", at + 4 * PAGE - 1, 2, "last byte of the mapping and the first of the hole");
    kind_add("hole-only", at + 4 * PAGE, PAGE, "no mapping at all");
}

static void long_ranges(void)
{
    char *at = simple_kind("anon-512-pages", 512, 0, RW, PRIV | MAP_NORESERVE, -1, "2 MiB of small pages, untouched");
    if (at) madvise(at, 512 * PAGE, MADV_NOHUGEPAGE);
    simple_kind("anon-over-1g", (1UL << 30) / PAGE + 1, 0, RW, PRIV | MAP_NORESERVE, -1, "one page more than 1 GiB");
}

void kinds_anon(char *stack_pages, size_t stack_count)
{
    simple_kind("anon-rw-touched", 8, 8, RW, PRIV, -1, "all pages written");
    simple_kind("anon-rw-untouched", 8, 0, RW, PRIV, -1, "no page touched");
    simple_kind("anon-rw-partly", 8, 3, RW, PRIV, -1, "3 of 8 pages written");
    char *at = simple_kind("anon-zero-page", 4, 0, RW, PRIV, -1, "all pages only read: the zero page");
    if (at)
        for (size_t i = 0; i < 4; i++) (void)*(volatile char *)(at + i * PAGE);
    heap_kind();
    touch(stack_pages, stack_count);
    kind_add("stack", stack_pages, stack_count * PAGE, "main's frame");
    simple_kind("anon-write-only-touched", 4, 4, PROT_WRITE, PRIV, -1, "PROT_WRITE without PROT_READ, written");
    simple_kind("anon-write-only-untouched", 4, 0, PROT_WRITE, PRIV, -1, "PROT_WRITE without PROT_READ");
    simple_kind("anon-read", 4, 0, PROT_READ, PRIV, -1, "PROT_READ");
    read_only_touched();
    simple_kind("anon-none", 4, 0, PROT_NONE, PRIV, -1, "PROT_NONE");
    simple_kind("anon-exec", 4, 0, PROT_EXEC, PRIV, -1, "PROT_EXEC");
    simple_kind("anon-rwx", 4, 2, RW | PROT_EXEC, PRIV, -1, "PROT_READ|WRITE|EXEC, 2 of 4 pages written");
    simple_kind("anon-noreserve", 4, 2, RW, PRIV | MAP_NORESERVE, -1, "MAP_NORESERVE, 2 of 4 pages written");
    simple_kind("anon-droppable", 4, 2, RW, MAP_DROPPABLE | MAP_ANONYMOUS, -1, "MAP_DROPPABLE, 2 of 4 pages written");
    advised("anon-dontfork", MADV_DONTFORK, "MADV_DONTFORK", "MADV_DONTFORK, touched");
    advised("anon-madv-free", MADV_FREE, "MADV_FREE", "written, then MADV_FREE");
    advised("anon-dontneed", MADV_DONTNEED, "MADV_DONTNEED", "written, then MADV_DONTNEED");
    guard_kind();
    swapped_kind();
    mlock_and_seal();
    growsdown_kinds();
    odd_iovecs();
    long_ranges();
    kind_skip("userfaultfd-missing", "would block until served");
}

void kinds_below_stack(void)
{
    uintptr_t start, end;
    if (!find_mapping("[stack]", &start, &end)) kind_skip("stack-below", "no [stack] line in maps");
    else kind_add("stack-below", (void *)(start - PAGE), PAGE, "the page below the stack mapping");
}
