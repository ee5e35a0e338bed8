/*
 * Time to pin and unpin resident pages: one io_uring buffer over the whole range, registered and unregistered.
 *
 *   uring-pin [MEBIBYTES [ROUNDS [small|thp|hugetlb]]]
 *
 * One JSON line; a single buffer may have 1024 MiB at most. The pool of huge pages is made larger for hugetlb and set
 * back as soon as the pages are taken: they leave it with this process.
 */
#include "bench.h"
#include <linux/io_uring.h>
#include <sys/syscall.h>
#include <sys/uio.h>

static void write_number(const char *file, long number)
{
    FILE *stream = fopen(file, "w");
    if (!stream) skip(file);
    fprintf(stream, "%ld", number);
    if (fclose(stream) != 0) skip(file);
}

/* 2 MiB pages, every one written. */
static char *huge_pages(size_t pages, int hugetlb)
{
    static const char pool[] = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
    size_t length = pages * PAGE, huge = (size_t)2 << 20;
    char *at;
    if (hugetlb) {
        long before = number_of(pool, "");
        if (before < 0) skip(pool);
        write_number(pool, before + (long)(length / huge));
        at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
        int error = errno;
        if (at != MAP_FAILED)
            for (size_t i = 0; i < length; i += huge) at[i] = 1;
        write_number(pool, before);
        errno = error;
        if (at == MAP_FAILED) skip("no huge pages");
        return at;
    }
    at = mmap(NULL, length + huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) skip("mmap");
    at = (char *)(((uintptr_t)at + huge - 1) & ~(huge - 1));
    if (madvise(at, length, MADV_HUGEPAGE) != 0) skip("MADV_HUGEPAGE");
    for (size_t i = 0; i < length; i += huge) at[i] = 1;
    if (number_of("/proc/self/smaps_rollup", "AnonHugePages:") < (long)(length / 1024)) {
        errno = 0;
        skip("not all of it became huge pages");
    }
    return at;
}

int main(int argc, char **argv)
{
    size_t pages = (argc > 1 ? strtoul(argv[1], NULL, 10) : 512) * 256;
    size_t rounds = argc > 2 ? strtoul(argv[2], NULL, 10) : 5;
    const char *kind = argc > 3 ? argv[3] : "small";
    int small = strcmp(kind, "small") == 0, thp = strcmp(kind, "thp") == 0, hugetlb = strcmp(kind, "hugetlb") == 0;
    if (pages == 0 || pages > 262144 || rounds == 0 || rounds > 1000 || !(small || thp || hugetlb)) {
        fprintf(stderr, "usage: uring-pin [MEBIBYTES [ROUNDS [small|thp|hugetlb]]]\n");
        return 2;
    }
    struct io_uring_params params;
    memset(&params, 0, sizeof params);
    int ring = (int)syscall(__NR_io_uring_setup, 4, &params);
    if (ring < 0) skip("io_uring_setup");
    struct iovec iovec = {small ? resident_pages(pages) : huge_pages(pages, hugetlb), pages * PAGE};
    double *pin = malloc(rounds * sizeof *pin), *unpin = malloc(rounds * sizeof *unpin), *both = malloc(rounds * sizeof *both);
    if (!pin || !unpin || !both) skip("malloc");
    for (size_t i = 0; i <= rounds; i++) {
        double start = now_ns();
        if (syscall(__NR_io_uring_register, ring, IORING_REGISTER_BUFFERS, &iovec, 1) != 0) {
            if (errno == ENOMEM) skip("RLIMIT_MEMLOCK is too small for IORING_REGISTER_BUFFERS");
            fail("IORING_REGISTER_BUFFERS");
        }
        double pinned = now_ns();
        long kib = number_of("/proc/self/status", "VmPin:");
        if (kib != (long)(pages * 4)) {
            fprintf(stderr, "VmPin is %ld kB with %zu pages registered\n", kib, pages);
            return 1;
        }
        double again = now_ns();
        if (syscall(__NR_io_uring_register, ring, IORING_UNREGISTER_BUFFERS, NULL, 0) != 0) fail("IORING_UNREGISTER_BUFFERS");
        double end = now_ns();
        if (i == 0) continue; /* the first round warms the caches */
        pin[i - 1] = (pinned - start) / (double)pages;
        unpin[i - 1] = (end - again) / (double)pages;
        both[i - 1] = pin[i - 1] + unpin[i - 1];
    }
    printf("{\"name\":\"uring-pin\",\"pages\":%zu,\"rounds\":%zu,\"registerNs\":%.3f,\"unregisterNs\":%.3f,\"nsPerPage\":%.3f}\n", pages,
           rounds, median(pin, rounds), median(unpin, rounds), median(both, rounds));
    return 0;
}
