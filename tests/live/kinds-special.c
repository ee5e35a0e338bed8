/* Memory that is no ordinary file and no ordinary anonymous memory: kernel pages, devices, rings, secrets. */
#include "mapping-kinds.h"
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/io_uring.h>
#include <linux/kvm.h>
#include <linux/perf_event.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static void kernel_mapping(const char *name, const char *in_maps, const char *note)
{
    uintptr_t start, end;
    if (!find_mapping(in_maps, &start, &end)) kind_skip(name, "no %s in maps", in_maps);
    else kind_add(name, (void *)start, end - start, note);
}

static void secret_kinds(void)
{
    int fd = (int)syscall(__NR_memfd_secret, O_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)(4 * PAGE)) != 0) {
        kind_skip_errno("secretmem-touched", "memfd_secret");
        kind_skip_errno("secretmem-untouched", "memfd_secret");
        return;
    }
    simple_kind("secretmem-touched", 2, 2, RW, MAP_SHARED, fd, "memfd_secret, written");
    char *at = map_slot(2 * PAGE, RW, MAP_SHARED, fd, (off_t)(2 * PAGE));
    if (at == MAP_FAILED) kind_skip_errno("secretmem-untouched", "mmap");
    else kind_add("secretmem-untouched", at, 2 * PAGE, "memfd_secret, untouched");
}

/* io_uring refuses any address of the caller's choice, so these two lie where the kernel puts them. */
static void ring_kind(const char *name, int fd, size_t len, uint64_t offset, const char *note)
{
    char *at = mmap(NULL, len, RW, MAP_SHARED, fd, (off_t)offset);
    if (at == MAP_FAILED) kind_skip_errno(name, "mmap");
    else kind_add(name, at, len, note);
}

static void ring_kinds(void)
{
    struct io_uring_params params;
    memset(&params, 0, sizeof params);
    int fd = (int)syscall(__NR_io_uring_setup, 8, &params);
    if (fd < 0) {
        kind_skip_errno("uring-sq-cq", "io_uring_setup");
        kind_skip_errno("uring-sqes", "io_uring_setup");
        return;
    }
    size_t rings = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
    rings = (rings + PAGE - 1) & ~(PAGE - 1);
    size_t sqes = (params.sq_entries * sizeof(struct io_uring_sqe) + PAGE - 1) & ~(PAGE - 1);
    ring_kind("uring-sq-cq", fd, rings, IORING_OFF_SQ_RING, "SQ/CQ ring mapping of another ring");
    ring_kind("uring-sqes", fd, sqes, IORING_OFF_SQES, "SQE mapping of another ring");
}

static void perf_kind(void)
{
    struct perf_event_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.type = PERF_TYPE_SOFTWARE;
    attr.size = sizeof attr;
    attr.config = PERF_COUNT_SW_TASK_CLOCK;
    attr.disabled = 1;
    attr.exclude_kernel = 1;
    attr.exclude_hv = 1;
    int fd = (int)syscall(__NR_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
    if (fd < 0) kind_skip_errno("perf-ring", "perf_event_open");
    else simple_kind("perf-ring", 9, 0, RW, MAP_SHARED, fd, "perf ring buffer, 1 + 8 pages");
}

void kinds_special(void)
{
    kernel_mapping("vdso", "[vdso]", "the vDSO");
    kernel_mapping("vvar", "[vvar]", "data pages of the vDSO");
    kernel_mapping("vvar-vclock", "[vvar_vclock]", "clock pages of the vDSO");
    kind_add("vsyscall", (void *)0xffffffffff600000, PAGE, "the vsyscall address");
    secret_kinds();
    ring_kinds();
    perf_kind();
}

static void kvm_kind(void)
{
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (kvm < 0) {
        kind_skip_errno("kvm-run", "open /dev/kvm");
        return;
    }
    int machine = ioctl(kvm, KVM_CREATE_VM, 0);
    int vcpu = machine < 0 ? -1 : ioctl(machine, KVM_CREATE_VCPU, 0);
    int size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (vcpu < 0 || size <= 0) {
        kind_skip_errno("kvm-run", "KVM_CREATE_VCPU");
        return;
    }
    char *at = map_slot((size_t)size, RW, MAP_SHARED, vcpu, 0);
    if (at == MAP_FAILED) kind_skip_errno("kvm-run", "mmap");
    else kind_add("kvm-run", at, PAGE, "run page of a virtual CPU");
}

static void packet_kind(void)
{
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        kind_skip_errno("packet-ring", "socket AF_PACKET");
        return;
    }
    struct tpacket_req request = {.tp_block_size = 16384, .tp_block_nr = 2, .tp_frame_size = 2048, .tp_frame_nr = 16};
    if (setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof request) != 0) {
        kind_skip_errno("packet-ring", "PACKET_RX_RING");
        return;
    }
    simple_kind("packet-ring", 8, 0, RW, MAP_SHARED, fd, "AF_PACKET receive ring");
}

/* Never read or written: a registration of it is refused before any access. */
static void device_memory_kind(void)
{
    int fd = open("/dev/mem", O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        kind_skip_errno("device-memory", "open /dev/mem");
        return;
    }
    char *at = map_slot(PAGE, RW, MAP_SHARED, fd, 0xf0000);
    if (at == MAP_FAILED) kind_skip_errno("device-memory", "mmap /dev/mem");
    else kind_add("device-memory", at, PAGE, "/dev/mem at 0xf0000, VM_PFNMAP");
}

static bool find_dax(char *path, size_t size)
{
    static char text[65536];
    int fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    size_t have = 0;
    ssize_t got;
    while (have + 1 < sizeof text && (got = read(fd, text + have, sizeof text - 1 - have)) > 0) have += (size_t)got;
    close(fd);
    text[have] = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        char mount[256];
        bool dax = strstr(line, ",dax=always") || (strstr(line, ",dax") && !strstr(line, ",dax="));
        if (!dax || sscanf(line, "%*d %*d %*s %*s %255s", mount) != 1) continue;
        snprintf(path, size, "%s", mount);
        return true;
    }
    return false;
}

static void dax_kinds(void)
{
    char path[256];
    if (!find_dax(path, sizeof path)) {
        kind_skip("fsdax-shared", "no file system mounted with dax");
        kind_skip("fsdax-private", "no file system mounted with dax");
        return;
    }
    int fd = make_file(path, "dax", 4, NULL, 0);
    if (fd < 0) {
        kind_skip_errno("fsdax-shared", "create a file");
        kind_skip_errno("fsdax-private", "create a file");
        return;
    }
    simple_kind("fsdax-shared", 4, 0, RW, MAP_SHARED, fd, "DAX file shared");
    simple_kind("fsdax-private", 4, 0, RW, MAP_PRIVATE, fd, "DAX file private");
}

void kinds_device(void)
{
    kvm_kind();
    packet_kind();
    device_memory_kind();
    dax_kinds();
}
