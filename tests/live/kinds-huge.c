/* Huge pages: hugetlb in all its mappings, transparent huge pages, and an exhausted pool. */
#include "mapping-kinds.h"

#ifndef MFD_HUGETLB
#define MFD_HUGETLB 0x0004U
#endif

static bool pool_there(void)
{
    return proc_number("/proc/meminfo", "HugePages_Total:") > 0 && proc_number("/proc/meminfo", "Hugepagesize:") == 2048;
}

static void hugetlb_kind(const char *name, size_t huge, size_t touched, int flags, int fd, const char *note)
{
    if (!pool_there()) kind_skip(name, "no 2 MiB hugetlb pool");
    else simple_kind(name, huge * HUGE / PAGE, touched, RW, flags, fd, note);
}

static int huge_memfd(size_t huge)
{
    return make_memfd("huge", huge * HUGE / PAGE, MFD_HUGETLB);
}

static void hugetlb_part(void)
{
    if (!pool_there()) {
        kind_skip("hugetlb-one-small-page", "no 2 MiB hugetlb pool");
        return;
    }
    char *at = map_slot(HUGE, RW, PRIV | MAP_HUGETLB, -1, 0);
    if (at == MAP_FAILED) kind_skip_errno("hugetlb-one-small-page", "mmap");
    else kind_add("hugetlb-one-small-page", at + 5 * PAGE, PAGE, "4 KiB inside a huge page, untouched");
}

static void thp_kind(const char *name, size_t offset, size_t len, const char *note)
{
    char *at = map_slot(HUGE, RW, PRIV, -1, 0);
    if (at == MAP_FAILED) {
        kind_skip_errno(name, "mmap");
        return;
    }
    if (madvise(at, HUGE, MADV_HUGEPAGE) != 0) {
        kind_skip_errno(name, "MADV_HUGEPAGE");
        return;
    }
    touch(at, 1);
    if (huge_kib(at) != 2048) kind_skip(name, "the kernel gave no transparent huge page");
    else kind_add(name, at + offset, len, note);
}

static void thp_untouched(void)
{
    char *at = map_slot(HUGE, RW, PRIV, -1, 0);
    if (at == MAP_FAILED || madvise(at, HUGE, MADV_HUGEPAGE) != 0) kind_skip_errno("thp-untouched", "MADV_HUGEPAGE");
    else kind_add("thp-untouched", at, HUGE, "MADV_HUGEPAGE, untouched");
}

void kinds_huge(void)
{
    hugetlb_kind("hugetlb-private-touched", 1, 1, PRIV | MAP_HUGETLB, -1, "anonymous hugetlb private, touched");
    hugetlb_kind("hugetlb-private-untouched", 1, 0, PRIV | MAP_HUGETLB, -1, "anonymous hugetlb private, untouched");
    hugetlb_kind("hugetlb-private-two", 2, 1, PRIV | MAP_HUGETLB, -1, "two huge pages, the first touched");
    hugetlb_kind("hugetlb-shared", 1, 1, SHAR | MAP_HUGETLB, -1, "anonymous hugetlb shared");
    if (pool_there()) {
        int fd = huge_memfd(1);
        if (fd < 0) {
            kind_skip_errno("hugetlb-memfd-shared", "memfd_create");
            kind_skip_errno("hugetlb-memfd-private", "memfd_create");
        } else {
            hugetlb_kind("hugetlb-memfd-shared", 1, 1, MAP_SHARED, fd, "hugetlb memfd shared");
            hugetlb_kind("hugetlb-memfd-private", 1, 0, MAP_PRIVATE, fd, "hugetlb memfd private, untouched");
        }
    } else {
        kind_skip("hugetlb-memfd-shared", "no 2 MiB hugetlb pool");
        kind_skip("hugetlb-memfd-private", "no 2 MiB hugetlb pool");
    }
    hugetlb_part();
    thp_kind("thp", 0, HUGE, "one transparent huge page");
    thp_kind("thp-one-small-page", 7 * PAGE, PAGE, "4 KiB inside a transparent huge page");
    thp_untouched();
}

void kinds_exhausted(void)
{
    const char *first = "hugetlb-exhausted-first", *second = "hugetlb-exhausted-second";
    long spare = proc_number("/proc/meminfo", "HugePages_Free:") - proc_number("/proc/meminfo", "HugePages_Rsvd:");
    if (!pool_there() || spare < 1) {
        kind_skip(first, "no spare page in the 2 MiB hugetlb pool");
        kind_skip(second, "no spare page in the 2 MiB hugetlb pool");
        return;
    }
    if (proc_number("/proc/sys/vm/nr_overcommit_hugepages", "") != 0) {
        kind_skip(first, "the hugetlb pool may grow");
        kind_skip(second, "the hugetlb pool may grow");
        return;
    }
    /* A reservation takes all but one of the free pages; the kind below takes that one. */
    size_t rest = (size_t)(spare - 1);
    if (rest > 0 && map_slot(rest * HUGE, RW, PRIV | MAP_HUGETLB, -1, 0) == MAP_FAILED) {
        kind_skip_errno(first, "reserve the pool");
        kind_skip_errno(second, "reserve the pool");
        return;
    }
    hugetlb_kind(second, 2, 1, SHAR | MAP_HUGETLB | MAP_NORESERVE, -1, "MAP_NORESERVE, page 0 there, none left for page 1");
    hugetlb_kind(first, 1, 0, SHAR | MAP_HUGETLB | MAP_NORESERVE, -1, "MAP_NORESERVE, untouched, pool empty");
}
