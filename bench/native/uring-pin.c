/*
 * Time to pin and unpin resident small pages: one io_uring buffer over the whole range, registered and unregistered.
 *
 *   uring-pin [MEBIBYTES [ROUNDS]]      one JSON line; a single buffer may have 1024 MiB at most
 */
#include "bench.h"
#include <linux/io_uring.h>
#include <sys/syscall.h>
#include <sys/uio.h>

int main(int argc, char **argv)
{
    size_t pages = (argc > 1 ? strtoul(argv[1], NULL, 10) : 512) * 256;
    size_t rounds = argc > 2 ? strtoul(argv[2], NULL, 10) : 5;
    if (pages == 0 || pages > 262144 || rounds == 0 || rounds > 1000) {
        fprintf(stderr, "usage: uring-pin [MEBIBYTES [ROUNDS]]\n");
        return 2;
    }
    struct io_uring_params params;
    memset(&params, 0, sizeof params);
    int ring = (int)syscall(__NR_io_uring_setup, 4, &params);
    if (ring < 0) skip("io_uring_setup");
    struct iovec iovec = {resident_pages(pages), pages * PAGE};
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
