/* One range over several mappings: the second table of the acceptance matrix, holes and refusals in the middle. */
#include "mapping-kinds.h"
#include <stdlib.h>

#ifndef MFD_HUGETLB
#define MFD_HUGETLB 0x0004U
#endif

/* One half of a range. */
struct part { int prot; int flags; int fd; off_t offset; size_t pages; size_t touched; };

static void two(const char *name, struct part a, struct part b, const char *note)
{
    size_t first = a.pages * PAGE, second = b.pages * PAGE;
    /* The border is at a 2 MiB boundary so that either half may be hugetlb. */
    char *border = slot(first + HUGE + second) + ((first + HUGE - 1) & ~(HUGE - 1));
    char *at = border - first;
    if (map_at(at, first, a.prot, a.flags, a.fd, a.offset) == MAP_FAILED ||
        map_at(border, second, b.prot, b.flags, b.fd, b.offset) == MAP_FAILED) {
        kind_skip_errno(name, "mmap");
        return;
    }
    touch(at, a.touched);
    touch(border, b.touched);
    kind_add(name, at, first + second, note);
}

static struct part anon_part(int prot, size_t touched)
{
    return (struct part){prot, PRIV, -1, 0, 2, touched};
}

static struct part fd_part(int flags, int fd, size_t page, size_t touched)
{
    return (struct part){RW, flags, fd, (off_t)(page * PAGE), 2, touched};
}

static void memfd_pairs(void)
{
    int a = make_memfd("a", 4, 0), b = make_memfd("b", 4, 0);
    if (a < 0 || b < 0) {
        static const char *const names[] = {"multi-memfd-a-memfd-a", "multi-memfd-a-memfd-b", "multi-memfd-same-inode",
                                            "multi-anon-memfd"};
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) kind_skip_errno(names[i], "memfd_create");
        return;
    }
    two("multi-memfd-a-memfd-a", fd_part(MAP_SHARED, a, 2, 1), fd_part(MAP_SHARED, a, 0, 1), "one struct file, offsets swapped");
    two("multi-memfd-a-memfd-b", fd_part(MAP_SHARED, a, 0, 1), fd_part(MAP_SHARED, b, 0, 0), "two memfds");
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", a);
    int again = open(path, O_RDWR | O_CLOEXEC);
    if (again < 0) kind_skip_errno("multi-memfd-same-inode", "open again");
    else two("multi-memfd-same-inode", fd_part(MAP_SHARED, a, 0, 1), fd_part(MAP_SHARED, again, 2, 0), "one inode, two open() calls");
    two("multi-anon-memfd", anon_part(RW, 1), fd_part(MAP_SHARED, b, 0, 1), "anonymous, then memfd");
}

static void huge_pairs(void)
{
    const char *huge_first = "multi-hugetlb-anon", *anon_first = "multi-anon-hugetlb";
    if (proc_number("/proc/meminfo", "HugePages_Total:") <= 0 || proc_number("/proc/meminfo", "Hugepagesize:") != 2048) {
        kind_skip(huge_first, "no 2 MiB hugetlb pool");
        kind_skip(anon_first, "no 2 MiB hugetlb pool");
        return;
    }
    struct part huge = {RW, PRIV | MAP_HUGETLB, -1, 0, HUGE / PAGE, 1};
    two(huge_first, huge, anon_part(RW, 1), "hugetlb, then anonymous");
    two(anon_first, anon_part(RW, 1), huge, "anonymous, then hugetlb");
}

static const char *const disk_names[] = {"multi-anon-disk-private",   "multi-disk-private-anon", "multi-disk-a-disk-b",
                                         "multi-disk-a-disk-a",       "multi-anon-disk-shared",  "multi-disk-private-disk-shared",
                                         "multi-disk-private-read-only"};

static void disk_pairs(void)
{
    size_t count = sizeof disk_names / sizeof *disk_names;
    const char *reason = no_disk_files();
    int a = reason ? -1 : make_file(work_dir, "multi-a", 4, NULL, 0);
    int b = reason ? -1 : make_file(work_dir, "multi-b", 4, NULL, 0);
    if (a < 0 || b < 0) {
        int saved = errno;
        for (size_t i = 0; i < count; i++) kind_skip(disk_names[i], "%s", reason ? reason : errno_name(saved));
        return;
    }
    two(disk_names[0], anon_part(RW, 1), fd_part(MAP_PRIVATE, a, 0, 1), "anonymous, then disk file private");
    two(disk_names[1], fd_part(MAP_PRIVATE, a, 0, 0), anon_part(RW, 0), "disk file private, then anonymous, untouched");
    two(disk_names[2], fd_part(MAP_PRIVATE, a, 0, 1), fd_part(MAP_PRIVATE, b, 0, 1), "two disk files, private");
    two(disk_names[3], fd_part(MAP_PRIVATE, a, 2, 1), fd_part(MAP_PRIVATE, a, 0, 1), "one disk file twice, offsets swapped, private");
    two(disk_names[4], anon_part(RW, 1), fd_part(MAP_SHARED, b, 0, 0), "anonymous, then disk file shared");
    two(disk_names[5], fd_part(MAP_PRIVATE, a, 0, 0), fd_part(MAP_SHARED, b, 0, 0), "disk file private, then disk file shared");
    struct part read_only = fd_part(MAP_PRIVATE, b, 0, 0);
    read_only.prot = PROT_READ;
    two(disk_names[6], fd_part(MAP_PRIVATE, a, 0, 0), read_only, "disk file private rw, then another read-only");
}

static void in_the_middle(const char *name, bool unmap, const char *note)
{
    char *at = map_slot(4 * PAGE, RW, PRIV, -1, 0);
    if (at == MAP_FAILED) {
        kind_skip_errno(name, "mmap");
        return;
    }
    touch(at, 4);
    int failed = unmap ? munmap(at + 2 * PAGE, PAGE) : mprotect(at + 2 * PAGE, PAGE, PROT_READ);
    if (failed) kind_skip_errno(name, unmap ? "munmap" : "mprotect");
    else kind_add(name, at, 4 * PAGE, note);
}

static void then_hole(const char *name, int flags, int fd, const char *note)
{
    char *at = fd < 0 && !(flags & MAP_ANONYMOUS) ? MAP_FAILED : map_slot(2 * PAGE, RW, flags, fd, 0);
    if (at == MAP_FAILED) {
        kind_skip_errno(name, "mmap");
        return;
    }
    touch(at, 1);
    kind_add(name, at, 4 * PAGE, note);
}

void kinds_multi(void)
{
    two("multi-anon-anon-rwx", anon_part(RW, 1), anon_part(RW | PROT_EXEC, 1), "anonymous rw, then rwx");
    memfd_pairs();
    huge_pairs();
    disk_pairs();
    in_the_middle("hole-in-middle", true, "page 2 of 4 unmapped");
    in_the_middle("read-only-in-middle", false, "page 2 of 4 PROT_READ");
    then_hole("multi-anon-hole", PRIV, -1, "anonymous, then nothing");
    then_hole("multi-memfd-hole", MAP_SHARED, make_memfd("hole", 2, 0), "memfd, then nothing");
    two("multi-anon-read-only", anon_part(RW, 1), anon_part(PROT_READ, 0), "anonymous rw, then PROT_READ");
    int secret = (int)syscall(__NR_memfd_secret, O_CLOEXEC);
    if (secret < 0 || ftruncate(secret, (off_t)(2 * PAGE)) != 0) kind_skip_errno("multi-anon-secretmem", "memfd_secret");
    else two("multi-anon-secretmem", anon_part(RW, 1), fd_part(MAP_SHARED, secret, 0, 1), "anonymous, then memfd_secret");
}
