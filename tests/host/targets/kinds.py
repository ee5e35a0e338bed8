"""Makes one mapping of every kind it can and prints {"kind": [address, length] or "why not"} as one line."""
import ctypes, json, mmap as m, os, socket, struct, sys, tempfile

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.mlock.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.shmat.restype = ctypes.c_void_p
libc.syscall.restype = ctypes.c_long
RW, SHARED, PRIVATE, ANON, NORESERVE, HUGETLB = 3, 1, 2, 0x20, 0x4000, 0x40000
P, HUGE = 4096, 2 << 20


def call(result):
    if result in (-1, 2**64 - 1, None):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def mapping(length, flags, fd=-1, prot=RW, offset=0):
    return [call(libc.mmap(None, length, prot, flags, fd, offset)), length]


def written(area):
    ctypes.memset(area[0], 1, area[1])
    return area


def read(area):
    for at in range(0, area[1], P):
        ctypes.string_at(area[0] + at, 1)
    return area


def file_in(directory, length=4 * P, fill=True):
    fd, path = tempfile.mkstemp(dir=directory)
    os.unlink(path)
    os.ftruncate(fd, length)
    if fill:
        os.pwrite(fd, b"x" * length, 0)
    return fd


def protnone():
    area = written(mapping(4 * P, PRIVATE | ANON))
    call(libc.mprotect(area[0], area[1], 0))
    return area


def sysv():
    shmid = call(libc.shmget(0, 4 * P, 0o1600))
    address = call(libc.shmat(shmid, None, 0))
    libc.shmctl(shmid, 0, None)
    return [address, 4 * P]


def secretmem():
    fd = call(libc.syscall(447, 0))
    os.ftruncate(fd, 4 * P)
    return written(mapping(4 * P, SHARED, fd))


def ring_fd():
    params = ctypes.create_string_buffer(120)
    return call(libc.syscall(425, 8, params))


def ring():
    return mapping(P, SHARED, ring_fd(), RW, 0x10000000)


def registered():
    fd = ring_fd()
    area = written(mapping(4 * P, PRIVATE | ANON))
    iov = struct.pack("QQ", area[0] + 100, 5000)
    call(libc.syscall(427, fd, 0, ctypes.c_char_p(iov), 1))
    return area


def unmapped():
    fd = ring_fd()
    area = written(mapping(4 * P, PRIVATE | ANON))
    call(libc.syscall(427, fd, 0, ctypes.c_char_p(struct.pack("QQ", *area)), 1))
    call(libc.munmap(ctypes.c_void_p(area[0]), ctypes.c_size_t(area[1])))
    return area


def perf():
    attr = struct.pack("IIQ", 1, 120, 1) + bytes(104)
    return mapping(2 * P, SHARED, call(libc.syscall(298, ctypes.c_char_p(attr), 0, -1, -1, 0)))


def packet():
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    s.setsockopt(263, 5, struct.pack("IIII", P, 1, 2048, 2))
    keep.append(s)
    return mapping(P, SHARED, s.fileno())


def kvm():
    import fcntl

    vm = fcntl.ioctl(os.open("/dev/kvm", os.O_RDWR), 0xAE01, 0)
    return mapping(P, SHARED, fcntl.ioctl(vm, 0xAE41, 0))


def thp():
    base = mapping(2 * HUGE, PRIVATE | ANON)[0]
    start = (base + HUGE - 1) // HUGE * HUGE
    call(libc.madvise(start, HUGE, 14))
    return written([start, HUGE])


def locked():
    area = mapping(4 * P, PRIVATE | ANON)
    call(libc.mlock(area[0], area[1]))
    return area


def guarded():
    area = written(mapping(4 * P, PRIVATE | ANON))
    call(libc.madvise(area[0], area[1], 102))
    return area


def memfd_huge():
    fd = os.memfd_create("huge", 4)
    os.ftruncate(fd, HUGE)
    return mapping(HUGE, SHARED | NORESERVE, fd)


def named_odd():
    directory = tempfile.mkdtemp(dir="/var/tmp")
    path = os.path.join(directory, "a\nb\\c (deleted)")
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.ftruncate(fd, P)
    area = mapping(P, SHARED, fd)
    odd.append((path, directory))
    return area


keep, odd = [], []
makers = {
    "anonymous": lambda: written(mapping(4 * P, PRIVATE | ANON)),
    "untouched": lambda: mapping(4 * P, PRIVATE | ANON),
    "zero page": lambda: read(mapping(4 * P, PRIVATE | ANON)),
    "PROT_NONE over written pages": protnone,
    "shared anonymous": lambda: written(mapping(4 * P, SHARED | ANON)),
    "/dev/zero shared": lambda: written(mapping(4 * P, SHARED, os.open("/dev/zero", os.O_RDWR))),
    "/dev/zero private": lambda: written(mapping(4 * P, PRIVATE, os.open("/dev/zero", os.O_RDWR))),
    "memfd": lambda: written(mapping(4 * P, SHARED, memfd(4 * P))),
    "memfd shorter than its mapping": lambda: mapping(4 * P, SHARED, memfd(P)),
    "tmpfs file": lambda: written(mapping(4 * P, SHARED, file_in("/dev/shm"))),
    "SysV segment": sysv,
    "regular file, private, written": lambda: written(mapping(4 * P, PRIVATE, file_in("/var/tmp"))),
    "regular file, shared": lambda: read(mapping(4 * P, SHARED, file_in("/var/tmp"))),
    "secretmem": secretmem,
    "io_uring ring": ring,
    "registered buffer": registered,
    "perf ring": perf,
    "packet ring": packet,
    "KVM vcpu": kvm,
    "huge page, transparent": thp,
    "hugetlb, anonymous": lambda: mapping(HUGE, PRIVATE | ANON | HUGETLB | NORESERVE),
    "hugetlb, memfd": memfd_huge,
    "locked": locked,
    "guard region": guarded,
    "odd name": named_odd,
    # Last, so that nothing is mapped there again.
    "registered, then unmapped": unmapped,
}


def memfd(length):
    fd = os.memfd_create("pins", 1)
    os.ftruncate(fd, length)
    return fd


made = {}
for name, make in makers.items():
    # A page nobody may touch on either side keeps mappings of one kind from merging with the next.
    mapping(P, PRIVATE | ANON, prot=0)
    try:
        made[name] = make()
    except (OSError, OverflowError) as error:
        made[name] = str(error)
sys.stdout.write(json.dumps(made) + "\n")
sys.stdout.flush()
sys.stdin.read()
for path, directory in odd:
    os.unlink(path)
    os.rmdir(directory)
